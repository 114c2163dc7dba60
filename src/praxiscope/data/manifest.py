"""The manifest: one row per sample, whatever format the data came in. Nothing after it knows the format."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from praxiscope.errors import DataError, IntegrityError, UsageError

SPLITS = ("train", "val", "test")
"""The splits, earlier ones first: a twin is looked for in earlier splits."""

NOT_DRAWN = "not drawn: "
"""How the quarantine reason of a sound training sample begins that ``data.train_per_class`` left out."""

MAX_EXAMPLES = 20
_METADATA_KEY = b"praxiscope.manifest"
_SCHEMA_VERSION = 1
_FIXED_COLUMNS: dict[str, pa.DataType] = {
    "sample_id": pa.string(), "path": pa.string(), "split": pa.string(), "group": pa.string(),
    "sha256": pa.string(), "phash": pa.string(), "width": pa.int32(), "height": pa.int32(),
    "quarantine": pa.string(), "twin_of": pa.string(), "twin_kind": pa.string(), "cluster": pa.string(),
    "mask": pa.string(),
}  # fmt: skip
_CLIP_COLUMNS: dict[str, pa.DataType] = {
    "first_frame": pa.int64(), "num_frames": pa.int64(), "fps": pa.float64(), "start_frame": pa.int64(),
}  # fmt: skip

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a look at the data has to say."""

    code: str
    """Reliability id and a slug: ``D1.exact-across``, ``D2.unreadable``, ``C3.missing-class``."""
    severity: Severity
    """``error``: the data can't be used as asked; ``warning``: scores may mislead; ``note``: good to know."""
    message: str
    """One or two sentences with counts that name what to do."""
    count: int
    """How many samples, files or classes it is about."""
    examples: tuple[str, ...] = ()
    """At most 20 sample ids or names."""

    @classmethod
    def of(cls, code: str, severity: Severity, message: str, names: Sequence[str]) -> Finding:
        """Build a finding about `names`: all are counted, the first 20 are kept as examples."""
        return cls(
            code=code,
            severity=severity,
            message=message,
            count=len(names),
            examples=tuple(names[:MAX_EXAMPLES]),
        )


def quantify(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun.

    >>> quantify(1, "class", "classes"), quantify(12600, "image")
    ('1 class', '12,600 images')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Samples, their labels by name, and what was found about them."""

    table: pa.Table
    """One row per sample sorted by ``sample_id``; columns in ``docs/architecture.md``."""
    root: Path
    """Absolute folder that ``path`` is relative to."""
    heads: dict[str, tuple[str, ...]]
    """Label names per head, sorted by code point; a target is an index into them."""
    source: str
    """What read it, as in ``DataSection.source``: ``folder``, ``csv``, ``cifar`` ..."""
    findings: tuple[Finding, ...]
    """What the audit has to say, worst first."""

    def with_root(self, root: Path) -> Manifest:
        """Return the same samples in a folder that has moved.

        Raises:
            UsageError: There is no such folder.
        """
        if not root.is_dir():
            raise UsageError(f"The data folder {root} is not there; pass --data with where it is now.")
        return replace(self, root=root.resolve())

    @property
    def holds_clips(self) -> bool:
        """Whether samples are clips: they have the columns ``first_frame`` and ``num_frames``."""
        return "num_frames" in self.table.schema.names

    def usable(self, split: str | None) -> pa.Table:
        """Return the rows without a quarantine reason, sorted by ``sample_id``.

        Args:
            split: ``train``, ``val``, ``test``, or None for all.
        """
        keep = pc.is_null(self.table["quarantine"])
        if split is not None:
            keep = pc.and_(keep, pc.equal(self.table["split"], split))
        return self.table.filter(keep)

    def rejected(self) -> list[tuple[str, str]]:
        """Return (sample id, reason) of what can't be used; sound samples that weren't drawn are left out."""
        pairs = zip(self.table["sample_id"].to_pylist(), self.table["quarantine"].to_pylist(), strict=True)
        return [(name, reason) for name, reason in pairs if reason and not reason.startswith(NOT_DRAWN)]

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over sample_id, split, targets, sha256, twin_of of usable samples and the heads."""
        columns = ["sample_id", "split", *sorted(self.heads), "sha256", "twin_of"]
        columns += ["first_frame", "num_frames"] if self.holds_clips else []
        rows = self.usable(None).select(columns).to_pydict()
        digest = hashlib.sha256(_dump({"heads": {head: list(names) for head, names in self.heads.items()}}))
        for row in zip(*(rows[name] for name in columns), strict=True):
            digest.update(_dump(row) + b"\n")
        return digest.hexdigest()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the data from being used as asked."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def require_usable(self) -> None:
        """Refuse data with error findings.

        Raises:
            DataError: There are error findings; the message holds each of them.
        """
        if self.errors:
            lines = "\n".join(f"- {finding.message}" for finding in self.errors)
            raise DataError(f"The data in {self.root} can't be used as asked:\n{lines}")


def build_table(rows: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> pa.Table:
    """Return the manifest's table from one mapping per sample, sorted by ``sample_id``.

    Args:
        rows: Column name to value; absent ones are null.
        heads: Names of the label columns.
    """
    columns = dict(_FIXED_COLUMNS)
    if any("num_frames" in row for row in rows):
        columns |= _CLIP_COLUMNS
    fields = [pa.field(name, kind) for name, kind in columns.items()]
    fields[3:3] = [pa.field(head, pa.string()) for head in heads]
    ordered = sorted(rows, key=lambda row: str(row["sample_id"]))
    arrays = [pa.array([row.get(field.name) for row in ordered], type=field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def write_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write a manifest as one Parquet file, wholly or not at all.

    Raises:
        OSError: The file can't be written.
    """
    path = Path(path)
    header = {
        "schema": _SCHEMA_VERSION,
        "root": str(manifest.root),
        "heads": manifest.heads,
        # JSON's keys are sorted here; the order of the heads is that of a network's logits.
        "head_order": list(manifest.heads),
        "source": manifest.source,
        "findings": [asdict(finding) for finding in manifest.findings],
        "fingerprint": manifest.fingerprint,
    }
    header["checksum"] = _compute_checksum(manifest.table, header)
    table = manifest.table.replace_schema_metadata({_METADATA_KEY: _dump(header)})
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with aside.open("xb") as stream:
            pq.write_table(table, stream, compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_manifest(path: Path | str) -> Manifest:
    """Read a manifest written by :func:`write_manifest`.

    Raises:
        IntegrityError: The file is no manifest, is damaged, or its rows don't have its fingerprint.
        FileNotFoundError: There is none.
    """
    path = Path(path)
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        header = json.loads((table.schema.metadata or {})[_METADATA_KEY])
        manifest = Manifest(
            table=table.replace_schema_metadata(None),
            root=Path(header["root"]),
            heads={head: tuple(header["heads"][head]) for head in header.get("head_order", header["heads"])},
            source=header["source"],
            findings=tuple(
                Finding(**{**entry, "examples": tuple(entry["examples"])}) for entry in header["findings"]
            ),
        )
        checksum = header.pop("checksum")
        intact = checksum == _compute_checksum(manifest.table, header)
        intact = intact and manifest.fingerprint == header["fingerprint"]
    except (pa.ArrowException, KeyError, ValueError, TypeError, AttributeError, OSError) as problem:
        if isinstance(problem, FileNotFoundError | PermissionError):
            raise
        raise IntegrityError(
            f"{path} is no intact manifest ({type(problem).__name__}: {problem})."
        ) from problem
    if not intact:
        raise IntegrityError(f"{path} is damaged: its rows don't have the fingerprint that it states.")
    return manifest


def _compute_checksum(table: pa.Table, header: Mapping[str, Any]) -> str:
    """Return the sha256 of all cells and the header: damage outside the fingerprint is found too."""
    digest = hashlib.sha256(_dump(header))
    for name in table.schema.names:
        digest.update(_dump([name, table.column(name).to_pylist()]))
    return digest.hexdigest()


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
