"""Write and read checkpoints: groups of named tensors and plain values, verified before they are believed.

A checkpoint (its files: :mod:`praxiscope.runs.checkpoint_files`) is written under a temporary name, every
file is flushed to the disk, the folder is renamed, and only then are older ones removed. A damaged one is
named, and the previous good one is used. "Latest" is the highest step in a sound manifest, never a file time.
Nothing is ever pickled: an optimiser's state becomes tensors and JSON by :func:`flatten_optimizer`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from praxiscope.errors import IntegrityError, UsageError
from praxiscope.runs import atomic
from praxiscope.runs import checkpoint_files as files
from praxiscope.runs.checkpoint_files import CheckpointManifest, RejectedCheckpoint

_STATE = "state.json"
_TENSORS = ".safetensors"
_GROUP_NAME = re.compile(r"[a-z][a-z0-9_]*")

# A sum depends on the order of its terms, and LAMB's norms add in memory order. So a resumed run is
# bit-identical only if its tensors come back in the memory format they had.
_FORMATS = {"channels_last": torch.channels_last, "channels_last_3d": torch.channels_last_3d}
_FORMAT_OF_NDIM = {4: "channels_last", 5: "channels_last_3d"}

# By name through a table, so that text from a file is never looked up among torch's functions.
_DTYPES = {
    str(kind).removeprefix("torch."): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose every file had the size and sha256 that its manifest says.

    Attributes:
        path: Its folder.
        step: Optimiser updates done when it was written.
        epoch: Epochs completed when it was written.
        tags: Marks such as :data:`~praxiscope.runs.checkpoint_files.BEST`.
        groups: Tensors on the CPU by group and name, with the memory format they were saved with.
        state: The plain values saved beside them.
        sha256: Each group's digest; equal digests mean equal tensors.
    """

    path: Path
    step: int
    epoch: int
    tags: frozenset[str]
    groups: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    sha256: dict[str, str]


# ---------------------------------------------------------------------------------------- writing


def write_checkpoint(
    folder: Path,
    *,
    groups: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    step: int,
    epoch: int,
    tags: Collection[str] = (),
    keep_last: int = 2,
) -> Path:
    """Write a checkpoint durably, point ``last`` (and ``best``) at it, then prune older ones.

    Kept are the `keep_last` latest ones, the newest tagged ``best``, and all tagged ``permanent``.
    Only the process that holds the run's lock may call this: temporaries found in `folder` are swept.

    Args:
        folder: Where checkpoints live; made when absent.
        groups: Tensors of any device, shape and dtype by group (``model``, ``ema``, ``optimizer``, ...) and
            name. A group's name becomes a file's name: lower-case letters, digits, underscores.
        state: Plain JSON values; use None where a number would be infinite or NaN.
        step: Optimiser updates done.
        epoch: Epochs completed.
        tags: ``checkpoint_files.BEST``, ``checkpoint_files.PERMANENT`` or marks of the caller's own.
        keep_last: How many of the latest to keep, at least 1.

    Returns:
        The new checkpoint's folder.

    Raises:
        EnvironmentProblem: Not enough space; checked before the first byte, and caught in mid-write. What was
            saved before is intact.
        ValueError: A group's name isn't allowed, `keep_last` is below 1, or `state` holds a NaN.
    """
    _check_arguments(groups, keep_last)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.sweep_stale(folder, older_than_s=0)
    state_bytes = atomic.render_json(state).encode("utf-8")
    needed = _estimate_bytes(groups) + len(state_bytes)
    atomic.require_free_space(folder, needed + needed // 10)

    target, serial = files.choose_folder(folder, step)
    aside = atomic.temporary_name(target)
    manifest = CheckpointManifest(
        path=aside, step=step, epoch=epoch, serial=serial, tags=frozenset(tags), files={}, sha256=""
    )
    try:
        with atomic.naming_full_disk(target, needed=needed):
            _fill(manifest, groups, state_bytes)
            aside.rename(target)
    except BaseException:  # Ctrl-C too: half a checkpoint is of no use to anyone
        atomic.remove_tree(aside)
        raise
    atomic.sync_folder(folder)
    durable = files.read_manifest(target)
    files.write_pointers(durable)
    files.prune_checkpoints(durable, keep_last=keep_last)
    return target


def _check_arguments(groups: Mapping[str, object], keep_last: int) -> None:
    for name in groups:
        if not _GROUP_NAME.fullmatch(name):
            raise ValueError(
                f"Group name {name!r} can't be a file name: use lower-case letters, digits, '_'."
            )
    if keep_last < 1:
        raise ValueError(
            f"keep_last is {keep_last}, but what was just written is always kept: use 1 or more."
        )


def _estimate_bytes(groups: Mapping[str, Mapping[str, Tensor]]) -> int:
    """Bytes on disk: the tensors, and room for a header entry with each one's name, dtype and shape."""
    return sum(
        tensor.numel() * tensor.element_size() + len(name) + 160
        for tensors in groups.values()
        for name, tensor in tensors.items()
    )


def _fill(
    manifest: CheckpointManifest, groups: Mapping[str, Mapping[str, Tensor]], state_bytes: bytes
) -> None:
    folder = manifest.path
    folder.mkdir()
    entries = {
        name + _TENSORS: files.write_synced(folder / (name + _TENSORS), _render_group(tensors))
        for name, tensors in groups.items()
    }
    entries[_STATE] = files.write_synced(folder / _STATE, state_bytes)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    files.write_manifest(replace(manifest, files=entries), created=created)
    atomic.sync_folder(folder)


def _render_group(tensors: Mapping[str, Tensor]) -> bytes:
    dense, formats = {}, {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if memory_format := _find_memory_format(tensor):
            formats[name] = memory_format
        copy = tensor.detach().to("cpu").contiguous()
        if copy.untyped_storage().data_ptr() in storages:  # tied weights: safetensors wants each on its own
            copy = copy.clone()
        storages.add(copy.untyped_storage().data_ptr())
        dense[name] = copy
    # One key only: safetensors writes several in no fixed order, and equal tensors should give equal files.
    metadata = {"memory_formats": json.dumps(formats, sort_keys=True)} if formats else None
    return safetensors.torch.save(dense, metadata)


def _find_memory_format(tensor: Tensor) -> str | None:
    name = _FORMAT_OF_NDIM.get(tensor.ndim)
    if name is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=_FORMATS[name]):
        return None
    return name


def _parse_group(data: bytes) -> dict[str, Tensor]:
    header_length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + header_length]).get("__metadata__", {})
    tensors = safetensors.torch.load(data)
    for name, memory_format in json.loads(metadata.get("memory_formats", "{}")).items():
        tensors[name] = tensors[name].contiguous(memory_format=_FORMATS[memory_format])
    return tensors


# ---------------------------------------------------------------------------------------- reading


def read_checkpoint(path: Path, *, only: Collection[str] | None = None) -> Checkpoint:
    """Read a checkpoint after comparing every file's size and sha256 with the manifest.

    Args:
        path: The checkpoint's folder.
        only: Groups to load, all when None. Every file is verified all the same.

    Raises:
        IntegrityError: A file is absent, cut short or changed, or there is no group asked for; named.
    """
    manifest = files.read_manifest(path)
    present = {name.removesuffix(_TENSORS) for name in manifest.files if name != _STATE}
    wanted = present if only is None else set(only)
    if absent := wanted - present:
        raise IntegrityError(f"{path} holds no tensors named {sorted(absent)}; it holds {sorted(present)}.")
    groups: dict[str, dict[str, Tensor]] = {}
    state: dict[str, Any] = {}
    for name, expected in manifest.files.items():
        group = name.removesuffix(_TENSORS)
        if name == _STATE:
            state = json.loads(files.read_verified(path / name, expected))
        elif group in wanted:
            groups[group] = _parse_group(files.read_verified(path / name, expected))
        else:
            files.verify_file(path / name, expected)
    return Checkpoint(
        path=path,
        step=manifest.step,
        epoch=manifest.epoch,
        tags=manifest.tags,
        groups=groups,
        state=state,
        sha256={group: manifest.files[group + _TENSORS]["sha256"] for group in sorted(present)},
    )


def latest_checkpoint(
    folder: Path, *, only: Collection[str] | None = None
) -> tuple[Checkpoint | None, tuple[RejectedCheckpoint, ...]]:
    """Read the checkpoint with the highest step that verifies.

    Args:
        folder: Where checkpoints live; may be absent.
        only: Groups to load, all when None.

    Returns:
        The checkpoint, or None when none was ever written; and those passed over, with reasons, which the
        caller must show.

    Raises:
        IntegrityError: There are checkpoints, and none verifies; each is named with its reason.
    """
    manifests, rejected = files.read_manifests(folder)
    return _read_first_sound(folder, manifests, rejected, only)


def best_checkpoint(
    folder: Path, *, only: Collection[str] | None = None
) -> tuple[Checkpoint | None, tuple[RejectedCheckpoint, ...]]:
    """Read the newest checkpoint tagged ``best`` that verifies, or else the latest.

    Returns and raises as :func:`latest_checkpoint` does. A fall-back is always in the second value: a
    ``best.json`` that can't be followed, a damaged folder, or that no checkpoint is tagged at all.
    """
    manifests, rejected = files.read_manifests(folder)
    best = [manifest for manifest in manifests if files.BEST in manifest.tags]
    if manifests and (reason := files.doubt_best_pointer(folder, best)):
        rejected.append(RejectedCheckpoint(name="best.json", reason=reason))
    others = [manifest for manifest in manifests if manifest not in best]
    return _read_first_sound(folder, best + others, rejected, only)


def _read_first_sound(
    folder: Path,
    candidates: Sequence[CheckpointManifest],
    rejected: list[RejectedCheckpoint],
    only: Collection[str] | None,
) -> tuple[Checkpoint | None, tuple[RejectedCheckpoint, ...]]:
    for manifest in candidates:
        try:
            return read_checkpoint(manifest.path, only=only), tuple(rejected)
        except IntegrityError as problem:
            rejected.append(RejectedCheckpoint(name=manifest.path.name, reason=str(problem)))
    if rejected:
        reasons = "\n".join(f"  {each.name}: {each.reason}" for each in rejected)
        raise IntegrityError(
            f"No checkpoint in {folder} is intact, so there is nothing to continue from: start a new run.\n"
            + reasons
        )
    return None, ()


# ---------------------------------------------------------------------------------------- optimisers


def flatten_optimizer(
    state_dict: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split ``optimizer.state_dict()`` into named tensors and plain JSON.

    Parameters are stored by name, so a model whose parameters come in another order still gets its own
    state. What JSON lacks is tagged: ``{"$tuple": [...]}``, ``{"$float": "inf"}``, ``{"$dtype": "float32"}``,
    ``{"$dict": {...}}``, ``{"$tensor": "<key>"}``.

    Args:
        state_dict: With ``state`` and ``param_groups``, as every torch and timm optimiser gives; values may
            be tensors, numbers, bools, strings, dtypes, None, and lists, tuples and string-keyed dicts of
            these.
        names: The name of each parameter, in the order of the optimiser's parameter indices: that of
            its groups, then within each group.

    Returns:
        ``(tensors, plain)``: for the checkpoint's ``optimizer`` group and for its ``state``.

    Raises:
        ValueError: `names` has another length than the optimiser has parameters, or repeats a name.
        TypeError: A value is of no kind named above; names its place.
    """
    count = sum(len(group["params"]) for group in state_dict["param_groups"])
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"The optimiser has {count} parameters, but {len(names)} names were given "
            f"({len(set(names))} of them different): give one name for each."
        )
    tensors: dict[str, Tensor] = {}
    groups = []
    for number, group in enumerate(state_dict["param_groups"]):
        options = {key: value for key, value in group.items() if key != "params"}
        groups.append(
            {
                "params": [names[index] for index in group["params"]],
                "options": _encode_all(options, f"group{number}", tensors),
            }
        )
    state = state_dict["state"]
    # A key that is no index belongs to state kept once for all parameters, such as a step count.
    shared = {key: value for key, value in state.items() if not isinstance(key, int)}
    extra = {key: value for key, value in state_dict.items() if key not in {"state", "param_groups"}}
    return tensors, {
        "groups": groups,
        "state": _encode_all(
            {names[key]: value for key, value in state.items() if isinstance(key, int)}, "state", tensors
        ),
        "shared": _encode_all(shared, "shared", tensors),
        "extra": _encode_all(extra, "extra", tensors),
    }


def unflatten_optimizer(
    tensors: Mapping[str, Tensor], plain: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """Put together what :func:`flatten_optimizer` took apart, for ``optimizer.load_state_dict``.

    Args:
        tensors: The first value of :func:`flatten_optimizer`.
        plain: The second value.
        names: The parameters' names now, by index; another order than then is fine.

    Returns:
        A state dict equal to the one that was flattened: same keys, types and values.

    Raises:
        UsageError: The names are not those of the checkpoint; names the first few that differ.
    """
    stored = {name for group in plain["groups"] for name in group["params"]}
    if differing := sorted(stored ^ set(names)):
        raise UsageError(
            f"The checkpoint's optimiser and the model differ in {len(differing)} trained parameters "
            f"({', '.join(differing[:3])}): resume with the recipe that the run was started with."
        )
    index = {name: number for number, name in enumerate(names)}
    state = {index[name]: _decode(value, tensors) for name, value in plain["state"].items()}
    shared = {key: _decode(value, tensors) for key, value in plain["shared"].items()}
    groups = [
        {key: _decode(value, tensors) for key, value in group["options"].items()}
        | {"params": [index[name] for name in group["params"]]}
        for group in plain["groups"]
    ]
    extra = {key: _decode(value, tensors) for key, value in plain["extra"].items()}
    return {"state": {**state, **shared}, "param_groups": groups, **extra}


def _encode_all(values: Mapping[str, object], place: str, tensors: dict[str, Tensor]) -> dict[str, object]:
    return {key: _encode(value, f"{place}/{key}", tensors) for key, value in values.items()}


def _encode(value: object, place: str, tensors: dict[str, Tensor]) -> object:
    """Return `value` as JSON; its tensors go into `tensors`, under the place where they were found."""
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"$tensor": place}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{place}/{number}", tensors) for number, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"$dict": _encode_all(value, place, tensors)}
    raise TypeError(
        f"The optimiser's state holds a {type(value).__name__} at {place}; a checkpoint stores tensors, "
        "numbers, bools, strings, dtypes, None, and lists, tuples and string-keyed dicts of these."
    )


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "$tensor":
        return tensors[content]
    if tag == "$float":
        return float(content)
    if tag == "$dtype":
        return _DTYPES[content]
    if tag == "$tuple":
        return tuple(_decode(item, tensors) for item in content)
    return {key: _decode(item, tensors) for key, item in content.items()}
