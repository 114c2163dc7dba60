"""The predictions table: one row per evaluated sample, and everything after evaluation comes from it alone.

Columns: ``sample_id``, ``split``, ``group`` (may be null), ``clean``, and for each head ``target_<head>``
(int32, index into the head's names) and ``logits_<head>`` (fixed-size list of float32). What belongs to the
whole table is JSON in the Parquet metadata, with a checksum over all of it. Rows are ordered by sample id, so
the same predictions make the same table whatever the order in which they were computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from praxiscope.errors import DataError, IntegrityError, UsageError, did_you_mean
from praxiscope.runs.atomic import replacing

SCHEMA_VERSION = 1
_METADATA_KEY = b"praxiscope"
_FIXED_FIELDS = (
    pa.field("sample_id", pa.string(), nullable=False),
    pa.field("split", pa.string(), nullable=False),
    pa.field("group", pa.string()),
    pa.field("clean", pa.bool_(), nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class PredictionsInfo:
    """What belongs to the whole table."""

    heads: dict[str, tuple[str, ...]]
    """Head to its label names, in the order of the logits."""
    weights_sha256: str
    """Fingerprint of the weights that predicted."""
    manifest_fingerprint: str
    """Fingerprint of the manifest that the samples come from."""
    recipe_name: str
    created: str
    """Time of the evaluation, UTC, ISO 8601."""


@dataclass(frozen=True, kw_only=True)
class HeadOutputs:
    """What one head gave for N samples."""

    targets: npt.NDArray[np.integer]
    """(N,) indices into the head's names."""
    logits: npt.NDArray[np.floating]
    """(N, K) finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """A checked predictions table; build one with `build_predictions` or `read_predictions`."""

    info: PredictionsInfo
    table: pa.Table
    """Columns as in the module's docstring, ordered by ``sample_id``."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """Head to its label names."""
        return self.info.heads

    @property
    def sample_ids(self) -> list[str]:
        """N unique ids, ascending."""
        return list(self.table["sample_id"].to_pylist())

    @property
    def groups(self) -> list[str | None]:
        """N group names, None for a sample without one."""
        return list(self.table["group"].to_pylist())

    @cached_property
    def clean(self) -> npt.NDArray[np.bool_]:
        """(N,) true for a sample that has no twin in an earlier split."""
        return np.asarray(self.table["clean"].to_numpy(), dtype=np.bool_)

    @property
    def split(self) -> str:
        """The one split that all samples belong to.

        Raises:
            DataError: There are no samples, or they are of several splits.
        """
        found = sorted(pc.unique(self.table["split"]).to_pylist())
        if len(found) != 1:
            raise DataError(
                f"The predictions hold {len(self)} samples of {len(found)} splits "
                f"({', '.join(found) or 'none'}), where one split is needed. Choose one with for_split()."
            )
        return str(found[0])

    def resolve_head(self, head: str | None = None) -> str:
        """Return the named head, or the only one.

        Raises:
            UsageError: No such head, or several and none named.
        """
        if head is None and len(self.heads) == 1:
            return next(iter(self.heads))
        if head in self.heads:
            return str(head)
        given = "No head was named" if head is None else f"There is no head {head!r}"
        hint = "" if head is None else did_you_mean(head, self.heads)
        raise UsageError(f"{given}; the predictions have {', '.join(self.heads)}.{hint}")

    def names(self, head: str | None = None) -> tuple[str, ...]:
        """Return the K label names of a head, or of the only one."""
        return self.heads[self.resolve_head(head)]

    def targets(self, head: str | None = None) -> npt.NDArray[np.int64]:
        """Return (N,) indices into `names`, of a head or of the only one."""
        return _to_targets(self.table, self.resolve_head(head)).astype(np.int64)

    def logits(self, head: str | None = None) -> npt.NDArray[np.float32]:
        """Return (N, K) float32 logits of a head, or of the only one."""
        head = self.resolve_head(head)
        return _to_logits(self.table, head, len(self.heads[head]))

    def preds(self, head: str | None = None) -> npt.NDArray[np.int64]:
        """Return (N,) indices of the largest logit, the lowest index among equals."""
        return np.asarray(self.logits(head).argmax(axis=1), dtype=np.int64)

    def for_split(self, split: str) -> Predictions:
        """Return the predictions of one split.

        Raises:
            UsageError: No sample is of that split.
        """
        found = sorted(pc.unique(self.table["split"]).to_pylist())
        if split not in found:
            raise UsageError(f"No predictions of split {split!r}; there are {', '.join(found) or 'none'}.")
        return self.select(np.asarray(pc.equal(self.table["split"], split).to_numpy(), dtype=np.bool_))

    def select(self, mask: npt.NDArray[np.bool_]) -> Predictions:
        """Return the predictions where the (N,) mask is true."""
        return Predictions(info=self.info, table=self.table.filter(pa.array(mask)))

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the ordered sample ids and each head's targets and logits, byte for byte."""
        digest = hashlib.sha256()
        for sample_id in self.sample_ids:
            _feed(digest, sample_id.encode("utf-8"))
        for head in sorted(self.heads):
            _feed(digest, head.encode("utf-8"))
            _feed(digest, self.targets(head).astype("<i8").tobytes())
            _feed(digest, np.ascontiguousarray(self.logits(head), dtype="<f4").tobytes())
        return digest.hexdigest()


def build_predictions(
    info: PredictionsInfo,
    *,
    sample_ids: Sequence[str],
    splits: str | Sequence[str],
    outputs: Mapping[str, HeadOutputs],
    groups: Sequence[str | None] | None = None,
    clean: npt.ArrayLike | None = None,
) -> Predictions:
    """Make a predictions table from arrays, in any row order.

    Args:
        info: What belongs to the whole table.
        sample_ids: N unique ids.
        splits: One split for all, or N.
        outputs: For each head of ``info.heads`` its targets and logits.
        groups: N names, None for a sample without a group; by default no sample has one.
        clean: (N,) booleans; by default all are clean.

    Raises:
        DataError: Lengths that differ, repeated ids, heads other than announced, targets outside the names,
            logits of another width or not finite; the message names the first offending sample.
    """
    count = len(sample_ids)
    columns: dict[str, Any] = {
        "sample_id": list(sample_ids),
        "split": [splits] * count if isinstance(splits, str) else list(splits),
        "group": [None] * count if groups is None else list(groups),
        "clean": np.ones(count, dtype=np.bool_) if clean is None else np.asarray(clean, dtype=np.bool_),
    }
    if set(outputs) != set(info.heads):
        raise DataError(
            f"Outputs of heads {sorted(outputs)} were given where the heads are {sorted(info.heads)}."
        )
    for head, output in outputs.items():
        columns[f"target_{head}"] = np.asarray(output.targets)
        columns[f"logits_{head}"] = np.asarray(output.logits)
    for name, column in columns.items():
        if len(column) != count:
            raise DataError(f"{name} has {len(column)} entries for {count} sample ids.")
    for head, names in info.heads.items():
        _check_width(columns[f"logits_{head}"], head, len(names))
        _check_integers(columns[f"target_{head}"], head)
    schema = _build_schema(info.heads)
    arrays = [_to_arrow(columns[field.name], field) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema).sort_by("sample_id").combine_chunks()
    _check_content(table, info.heads)
    return Predictions(info=info, table=table)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions as Parquet, wholly or not at all.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    metadata = _to_metadata(predictions.info)
    metadata["checksum"] = _compute_checksum(predictions, metadata)
    text = json.dumps(metadata, ensure_ascii=False).encode("utf-8")
    table = predictions.table.replace_schema_metadata({_METADATA_KEY: text})
    with replacing(Path(path)) as aside:
        pq.write_table(table, aside, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read and check predictions.

    Raises:
        DataError: There is no such file, or it is no predictions table.
        IntegrityError: The file is damaged: it can't be parsed, or isn't what its checksum says.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There are no predictions at {path}. Evaluate the run to make them.")
    try:
        table = pq.read_table(path, partitioning=None)
        table.validate(full=True)  # reading alone lets text pass that is no UTF-8
    except (pa.ArrowException, OSError, ValueError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise IntegrityError(f"{path} is damaged or no Parquet file ({reason}). Evaluate again.") from problem
    metadata = _parse_metadata(table, path)
    info = _from_metadata(metadata, path)
    schema = _build_schema(info.heads)
    bare = table.replace_schema_metadata(None)
    if not bare.schema.equals(schema):
        raise DataError(
            f"{path} is no predictions table of heads {sorted(info.heads)}: "
            f"its columns are {table.schema.names}."
        )
    predictions = Predictions(info=info, table=bare.combine_chunks())
    if metadata["checksum"] != _compute_checksum(predictions, metadata):
        raise IntegrityError(f"{path} is damaged: its content isn't what its checksum says. Evaluate again.")
    _check_content(predictions.table, info.heads)
    return predictions


def _build_schema(heads: Mapping[str, Sequence[str]]) -> pa.Schema:
    fields = list(_FIXED_FIELDS)
    for head, names in heads.items():
        item = pa.field("item", pa.float32(), nullable=False)
        fields.append(pa.field(f"target_{head}", pa.int32(), nullable=False))
        fields.append(pa.field(f"logits_{head}", pa.list_(item, len(names)), nullable=False))
    return pa.schema(fields)


def _check_width(logits: npt.NDArray[np.generic], head: str, num_classes: int) -> None:
    if num_classes < 1:
        raise DataError(f"Head {head!r} has no label names.")
    if logits.ndim != 2 or logits.shape[1] != num_classes:
        raise DataError(
            f"logits_{head} has shape {logits.shape}, where the {num_classes} names of the head need "
            f"(samples, {num_classes})."
        )


def _check_integers(targets: npt.NDArray[np.generic], head: str) -> None:
    if targets.ndim != 1 or (targets.size and not np.issubdtype(targets.dtype, np.integer)):
        raise DataError(
            f"target_{head} must be whole numbers, one a sample; got {targets.dtype}, {targets.shape}."
        )


def _to_arrow(column: Any, field: pa.Field) -> pa.Array:
    try:
        if pa.types.is_fixed_size_list(field.type):
            with np.errstate(over="ignore"):  # what becomes infinite is named by the check of the content
                flat = pa.array(np.ascontiguousarray(column, dtype=np.float32).ravel())
            return pa.FixedSizeListArray.from_arrays(flat, type=field.type)
        return pa.array(column, type=field.type)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as problem:
        raise DataError(f"Column {field.name} can't be stored as {field.type}: {problem}.") from problem


def _check_content(table: pa.Table, heads: Mapping[str, Sequence[str]]) -> None:
    for name in ("sample_id", "split"):
        if table[name].null_count:
            raise DataError(f"{table[name].null_count} of {table.num_rows} predictions have no {name}.")
    ids = table["sample_id"].to_pylist()
    if len(set(ids)) != len(ids):
        # Ordered by id, so repeats are neighbours.
        repeated = [one for one, following in pairwise(ids) if one == following]
        raise DataError(
            f"{len(repeated)} samples were predicted more than once, for example {repeated[0]!r}; every "
            "sample must appear exactly once."
        )
    for head, names in heads.items():
        targets, logits = _to_targets(table, head), _to_logits(table, head, len(names))
        outside = np.flatnonzero((targets < 0) | (targets >= len(names)))
        if outside.size:
            raise DataError(
                f"target_{head} of sample {ids[outside[0]]!r} is {targets[outside[0]]}, outside the allowed "
                f"range 0..{len(names) - 1} ({outside.size} samples are)."
            )
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if broken.size:
            raise DataError(
                f"logits_{head} of {broken.size} of {len(ids)} samples hold NaN or infinity, first of "
                f"{ids[broken[0]]!r}. Look for a diverged training or too small a number format (try fp32)."
            )


def _to_targets(table: pa.Table, head: str) -> npt.NDArray[np.int32]:
    return np.asarray(table[f"target_{head}"].to_numpy(), dtype=np.int32)


def _to_logits(table: pa.Table, head: str, num_classes: int) -> npt.NDArray[np.float32]:
    chunks = [chunk.flatten().to_numpy() for chunk in table[f"logits_{head}"].chunks]
    flat = np.concatenate(chunks) if chunks else np.empty(0)
    return flat.astype(np.float32, copy=False).reshape(table.num_rows, num_classes)


def _feed(digest: Any, data: bytes) -> None:
    """Add data with its length in front, so that no two contents run together into the same bytes."""
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def _compute_checksum(predictions: Predictions, metadata: Mapping[str, Any]) -> str:
    """Compute sha256 over everything in the file: the metadata but the checksum, and every column."""
    told = {key: value for key, value in metadata.items() if key != "checksum"}
    digest = hashlib.sha256()
    _feed(digest, json.dumps(told, ensure_ascii=False).encode("utf-8"))
    _feed(digest, predictions.fingerprint.encode("ascii"))
    _feed(digest, predictions.clean.tobytes())
    for name in ("split", "group"):
        values: Iterable[str | None] = predictions.table[name].to_pylist()
        _feed(digest, json.dumps(list(values), ensure_ascii=False).encode("utf-8"))
    return digest.hexdigest()


def _to_metadata(info: PredictionsInfo) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "heads": {head: list(names) for head, names in info.heads.items()},
        "weights_sha256": info.weights_sha256,
        "manifest_fingerprint": info.manifest_fingerprint,
        "recipe_name": info.recipe_name,
        "created": info.created,
    }


def _parse_metadata(table: pa.Table, path: Path) -> dict[str, Any]:
    text = (table.schema.metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise DataError(f"{path} is no predictions table: it lacks the metadata that evaluation writes.")
    try:
        metadata = json.loads(text.decode("utf-8"))
    except ValueError as problem:
        raise IntegrityError(f"{path} is damaged: its metadata can't be read. Evaluate again.") from problem
    if not isinstance(metadata, dict) or "checksum" not in metadata:
        raise IntegrityError(f"{path} is damaged: its metadata has no checksum. Evaluate again.")
    if metadata.get("schema") != SCHEMA_VERSION:
        raise DataError(
            f"{path} has layout {metadata.get('schema')!r}, this version of Praxiscope reads "
            f"{SCHEMA_VERSION}. Evaluate again, or use the version that wrote it."
        )
    return metadata


def _from_metadata(metadata: Mapping[str, Any], path: Path) -> PredictionsInfo:
    try:
        return PredictionsInfo(
            heads={head: tuple(names) for head, names in metadata["heads"].items()},
            weights_sha256=metadata["weights_sha256"],
            manifest_fingerprint=metadata["manifest_fingerprint"],
            recipe_name=metadata["recipe_name"],
            created=metadata["created"],
        )
    except (KeyError, AttributeError, TypeError) as problem:
        raise IntegrityError(
            f"{path} is damaged: its metadata lacks or garbles {problem}. Evaluate again."
        ) from problem
