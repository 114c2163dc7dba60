"""What a checkpoint is on disk: a folder of files sealed by a manifest. No torch here.

::

    checkpoints/
        step-00001234/
            model.safetensors  ema.safetensors  optimizer.safetensors   one file per group of tensors
            state.json         plain values: what the loop needs besides tensors
            manifest.json      step, epoch, tags, each file's size and sha256, and a digest of itself
        last.json  best.json   which folder that is, with its manifest's sha256 (no links: Windows)

A flipped bit loads silently from most safetensors files, so a file's size and sha256 are compared before its
content is parsed. A folder's name and times are never believed: step and tags come from the manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from praxiscope.errors import IntegrityError
from praxiscope.runs import atomic

BEST = "best"
"""Tag of a checkpoint with the best monitored value so far; the newest one that carries it is kept."""

PERMANENT = "permanent"
"""Tag of a checkpoint that is never pruned, such as every tenth epoch's."""

_SCHEMA = 1
_MANIFEST = "manifest.json"
_FOLDER_NAME = re.compile(r"step-\d{8,}(-\d+)?")


@dataclass(frozen=True, kw_only=True)
class RejectedCheckpoint:
    """A checkpoint or pointer that was passed over, with the reason in one sentence."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest:
    """A checkpoint's manifest, once it has proved to be as it was written.

    Attributes:
        path: The checkpoint's folder.
        step: Optimiser updates done.
        epoch: Epochs completed.
        serial: How often this step had been written before, from 0.
        tags: Marks such as :data:`BEST` and :data:`PERMANENT`.
        files: ``{"size": bytes, "sha256": hex}`` by file name.
        sha256: Digest of the manifest file's bytes.
    """

    path: Path
    step: int
    epoch: int
    serial: int
    tags: frozenset[str]
    files: dict[str, dict[str, Any]]
    sha256: str


def write_manifest(manifest: CheckpointManifest, *, created: str) -> None:
    """Write the manifest into its checkpoint's folder, flushed to the disk; its own `sha256` is not used."""
    body = {
        "schema": _SCHEMA,
        "step": manifest.step,
        "epoch": manifest.epoch,
        "serial": manifest.serial,
        "tags": sorted(manifest.tags),
        "created": created,
        "files": manifest.files,
    }
    write_synced(manifest.path / _MANIFEST, _render_manifest(body))


def _render_manifest(body: Mapping[str, Any]) -> bytes:
    # The text ends in a digest of the rest: a flipped bit in the manifest itself must be found too.
    digest = hashlib.sha256(atomic.render_json(body).encode("utf-8")).hexdigest()
    return atomic.render_json({**body, "sha256": digest}).encode("utf-8")


def read_manifest(path: Path) -> CheckpointManifest:
    """Read the manifest of the checkpoint folder `path`.

    Raises:
        IntegrityError: There is none, or it differs in any bit from what was written.
    """
    try:
        raw = (path / _MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise IntegrityError(f"{path} is no checkpoint: it has no {_MANIFEST}.") from problem
    try:
        body = json.loads(raw.decode("utf-8"))
        body.pop("sha256")
        sound = raw == _render_manifest(body)
    except (ValueError, KeyError, AttributeError, TypeError):
        sound = False
    if not sound:
        raise IntegrityError(f"{path / _MANIFEST} is damaged: it is not as it was written.")
    if body["schema"] != _SCHEMA:
        raise IntegrityError(
            f"{path} has checkpoint format {body['schema']}, but this version of Praxiscope reads {_SCHEMA}: "
            "use the version that wrote it."
        )
    return CheckpointManifest(
        path=path,
        step=body["step"],
        epoch=body["epoch"],
        serial=body["serial"],
        tags=frozenset(body["tags"]),
        files=body["files"],
        sha256=hashlib.sha256(raw).hexdigest(),
    )


def read_manifests(folder: Path) -> tuple[list[CheckpointManifest], list[RejectedCheckpoint]]:
    """Read all checkpoints' manifests in `folder`, which may be absent.

    Returns:
        Those with a sound manifest, latest step first, and those without. Their files aren't read.
    """
    manifests, rejected = [], []
    for path in sorted(folder.glob("step-*")):
        if not _FOLDER_NAME.fullmatch(path.name):
            continue
        try:
            manifests.append(read_manifest(path))
        except IntegrityError as problem:
            rejected.append(RejectedCheckpoint(name=path.name, reason=str(problem)))
    manifests.sort(key=lambda manifest: (manifest.step, manifest.serial), reverse=True)
    return manifests, rejected


def choose_folder(folder: Path, step: int) -> tuple[Path, int]:
    """Return a folder for `step` that is not there yet, and how often that step was written before.

    A step is written again after a damaged checkpoint of it was passed over. Never replacing a folder in
    place means that there is no moment in which neither the old nor the new one exists.
    """
    serial = 0
    while (folder / (name := f"step-{step:08d}" + (f"-{serial}" if serial else ""))).exists():
        serial += 1
    return folder / name, serial


def write_synced(path: Path, data: bytes) -> dict[str, Any]:
    """Write a new file, flushed to the disk, and return its manifest entry."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_verified(path: Path, expected: Mapping[str, Any]) -> bytes:
    """Read a file whose size and sha256 are those of its manifest entry.

    Raises:
        IntegrityError: They are not, or the file is absent; names the file.
    """
    with _naming_absent(path):
        data = path.read_bytes()
    _compare(path, len(data), hashlib.sha256(data).hexdigest(), expected)
    return data


def verify_file(path: Path, expected: Mapping[str, Any]) -> None:
    """Check a file as :func:`read_verified` does, without holding it in memory.

    Raises:
        IntegrityError: As :func:`read_verified`.
    """
    with _naming_absent(path), path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        _compare(path, stream.tell(), digest, expected)


@contextlib.contextmanager
def _naming_absent(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as problem:
        raise IntegrityError(f"{path} is damaged: the file is absent.") from problem


def _compare(path: Path, size: int, sha256: str, expected: Mapping[str, Any]) -> None:
    if size != expected["size"]:
        raise IntegrityError(f"{path} is damaged: it has {size} bytes instead of {expected['size']}.")
    if sha256 != expected["sha256"]:
        raise IntegrityError(f"{path} is damaged: its sha256 is not the one in its manifest.")


def write_pointers(manifest: CheckpointManifest) -> None:
    """Point ``last.json``, and ``best.json`` if it is tagged so, at a checkpoint."""
    pointer = {"name": manifest.path.name, "step": manifest.step, "manifest_sha256": manifest.sha256}
    atomic.write_json(manifest.path.parent / "last.json", pointer)
    if BEST in manifest.tags:
        atomic.write_json(manifest.path.parent / "best.json", pointer)


def doubt_best_pointer(folder: Path, best: Collection[CheckpointManifest]) -> str | None:
    """Say why ``best.json`` can't be followed; None when it can.

    A pointer older than the newest of `best` is no reason: the writer was killed between the two, and the
    tag in the manifest is what counts.
    """
    try:
        pointer = atomic.read_json(folder / "best.json")
    except FileNotFoundError:
        return None if best else "it is absent and no checkpoint is tagged as best; the latest one is used"
    except IntegrityError as problem:
        return str(problem)
    followed = any(pointer.get("manifest_sha256") == manifest.sha256 for manifest in best)
    overtaken = any(manifest.step > pointer.get("step", 0) for manifest in best)
    if followed or overtaken:
        return None
    return f"it names {pointer.get('name')}, which is no longer there as it was written"


def prune_checkpoints(newest: CheckpointManifest, *, keep_last: int) -> list[str]:
    """Remove the checkpoints beside `newest` that are no longer needed.

    Kept are the `keep_last` latest steps up to that of `newest`, the newest tagged :data:`BEST`, all tagged
    :data:`PERMANENT`, and any of a later step. A damaged one stays, for a person to see, until its step has
    been written again.

    Returns:
        The names removed.
    """
    folder = newest.path.parent
    manifests, rejected = read_manifests(folder)
    latest_of_step = {each.step: each for each in reversed(manifests) if each.step <= newest.step}
    kept = {each.path for each in sorted(latest_of_step.values(), key=lambda each: -each.step)[:keep_last]}
    kept |= {each.path for each in manifests if PERMANENT in each.tags or each.step > newest.step}
    kept |= {each.path for each in [each for each in manifests if BEST in each.tags][:1]}
    redone = [folder / each.name for each in rejected if _step_in(each.name) == newest.step]
    removed = [each.path for each in manifests if each.path not in kept] + redone
    for path in removed:
        # Renamed first: a kill in mid-removal leaves a temporary to sweep, not half a checkpoint.
        aside = atomic.temporary_name(path)
        path.rename(aside)
        atomic.remove_tree(aside)
    return [path.name for path in removed]


def _step_in(folder_name: str) -> int:
    return int(folder_name.split("-")[1])
