"""Weights from a file into a network: strictly, or not at all.

A pretrained network whose names all missed under ``strict=False`` trains from scratch and is reported as
fine-tuned. So every tensor except the named head must arrive, nothing may be left over, and the report counts
both.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from praxiscope.errors import EnvironmentProblem, IntegrityError, UsageError
from praxiscope.models.key_styles.catalog import KEY_STYLES
from praxiscope.models.key_styles.style import KeyStyle, State
from praxiscope.models.sources import WeightsFile
from praxiscope.models.state import find_classifier_prefixes, is_under, strip_wrapper_prefixes, unwrap_module

_PICKLED = frozenset({".pth", ".pt", ".bin"})
_NUMPY = ".npz"
_SUFFIXES = (".safetensors", *sorted(_PICKLED), _NUMPY)
# A moving average, where a file holds one, is what its publisher evaluated.
_NESTED_UNDER = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net")
_COUNTER = "num_batches_tracked"  # older files lack it, and no layer here reads it
_NAMES_SHOWN = 5


class WeightsMismatch(EnvironmentProblem):
    """A weights file doesn't belong to the network that it was given for."""


class WeightsUnreadable(EnvironmentProblem):
    """A weights file is damaged, or holds more than plain tensors."""


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """What a load did; ``str()`` gives it in one line."""

    source: str
    """Where the file was found: ``file``, a cache, a package, a download."""
    path: Path
    """The file."""
    sha256: str
    """Fingerprint of the file, 64 hexadecimal digits."""
    num_loaded: int
    """Tensors of the file that are in the network now."""
    num_tensors: int
    """Tensors of the network."""
    key_style: str = "timm"
    """Whose names the file used."""
    head_ignored: tuple[str, ...] = ()
    """Tensors of the file that were left out because they belong to its own head."""
    left_out: tuple[str, ...] = ()
    """Tensors of the file that are of other parts than this network, such as a text tower."""
    resampled: tuple[str, ...] = ()
    """Tensors that were resized to another input size, such as position embeddings."""
    note: str = ""
    """What the file can't say about itself and the user must know."""

    def __str__(self) -> str:
        parts = [f"{self.num_loaded} of {self.num_tensors} tensors from {self.path} ({self.source})"]
        if self.key_style != "timm":
            parts.append(f"names of {self.key_style} mapped")
        if self.num_loaded < self.num_tensors:
            parts.append("new head")
        if self.left_out:
            parts.append(f"{len(self.left_out)} of other parts left out ({_some([*self.left_out])})")
        if self.resampled:
            parts.append(f"resampled {', '.join(self.resampled)}")
        if self.note:
            parts.append(self.note)
        return "; ".join([*parts, f"sha256 {self.sha256[:12]}"])


def load_weights(module: nn.Module, file: WeightsFile | Path, *, keep_head: bool = False) -> WeightsReport:
    """Load a file's weights into a network: every tensor but the head's, or an error and no change.

    Args:
        module: A network built by timm, possibly wrapped (compiled, DDP, averaged).
        file: The file, or what ``find_pretrained`` found.
        keep_head: Take the head as well, which then must have the same shape. For a run's own checkpoints;
            otherwise the network keeps its newly initialised head, even where shapes agree, because the
            file's classes are other classes. Position embeddings aren't resampled then.

    Returns:
        The report.

    Raises:
        UsageError: The file is absent or of an unknown kind.
        WeightsUnreadable: It is damaged or holds more than tensors.
        WeightsMismatch: Names or shapes beyond the head differ.
        IntegrityError: Its sha256 isn't the one in its published name.
    """
    if isinstance(file, Path):
        file = WeightsFile(path=file, source="file")
    sha256 = _check_sha256(file)
    core = unwrap_module(module)
    own: State = core.state_dict()
    given = read_state(file.path)
    style = next((style for style in KEY_STYLES if style.matches(given)), None)
    left_out = tuple(sorted(n for n in given if style and style.belongs and not style.belongs(n)))
    state = {name: tensor for name, tensor in given.items() if name not in left_out}
    if style is not None:
        state = style.rename(state)
    head = () if keep_head else find_classifier_prefixes(core)
    resampled: tuple[str, ...] = ()
    if not keep_head and _differences(own, state, head):
        state, resampled = _convert_with_timm(core, state)
    if differences := _differences(own, state, head):
        raise WeightsMismatch(_explain_mismatch(file.path, own, state, differences, style))
    loaded = {name: tensor for name, tensor in state.items() if not is_under(name, head)}
    core.load_state_dict({**own, **loaded}, strict=True)
    return WeightsReport(
        source=file.source,
        path=file.path,
        sha256=sha256,
        num_loaded=len(loaded),
        num_tensors=len(own),
        key_style=style.name if style else "timm",
        head_ignored=tuple(sorted(state.keys() - loaded.keys())),
        left_out=left_out,
        resampled=resampled,
        note=style.note if style else "",
    )


def read_state(path: Path) -> State:
    """Read the tensors of a weights file by name, executing nothing that it may carry.

    Args:
        path: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin`` with plain tensors, possibly nested under
            ``state_dict``, ``model`` ... or ``state_dict_ema``, ``model_ema`` (an average is preferred); or
            ``.npz`` with arrays of numbers.

    Returns:
        Tensors on the CPU, without wrapper prefixes.

    Raises:
        UsageError: No such file, or another kind of file.
        WeightsUnreadable: Damaged, or not only tensors.
    """
    _check_kind(path)
    try:
        # weights_only refuses every pickled object but tensors and plain containers, before running it.
        content: Any = _read(path)
    except (
        BadZipFile,
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsUnreadable(
            f"'{path}' can't be read as weights: {reason[:200]}. It is damaged, or it holds more than "
            "tensors; such files are never executed. Save the state_dict as .safetensors and give that."
        ) from error
    return strip_wrapper_prefixes(_unnest(content, path))


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        return torch.load(path, map_location="cpu", weights_only=True)
    if suffix != _NUMPY:
        return load_file(path)
    # Opened here, because np.load leaves a damaged file open.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _check_kind(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"There is no weights file '{path}'. Give the path of a {_allowed_suffixes()} file.")
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"'{path}' is no weights file that can be read. Allowed: {_allowed_suffixes()}.")


def _allowed_suffixes() -> str:
    return ", ".join(_SUFFIXES)


def _check_sha256(file: WeightsFile) -> str:
    _check_kind(file.path)
    with file.path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if not sha256.startswith(file.sha256_prefix):
        raise IntegrityError(
            f"'{file.path}' is damaged: its sha256 starts with {sha256[:8]}, its publisher says "
            f"{file.sha256_prefix}. Delete it and fetch it again."
        )
    return sha256


def _unnest(content: Any, path: Path) -> State:
    if isinstance(content, dict):
        key = next((k for k in _NESTED_UNDER if isinstance(content.get(k), dict)), None)
        content = content[key] if key else content
    if not isinstance(content, dict) or not content:
        raise WeightsUnreadable(
            f"'{path}' holds no state_dict (tensors by name) but a {type(content).__name__}."
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsUnreadable(
            f"'{path}' holds {len(others)} entries that are no tensors ({_some(others)}) where a state_dict "
            f"was expected. Allowed: tensors by name, alone or under one of {', '.join(_NESTED_UNDER)}."
        )
    return cast("State", content)


def _convert_with_timm(core: nn.Module, state: State) -> tuple[State, tuple[str, ...]]:
    """Let timm adapt a published file (resize position embeddings, rename); the strict check follows."""
    convert = getattr(sys.modules[type(core).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state, ()
    try:
        converted: State = convert(dict(state), core)
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return state, ()  # not a file of this network; the mismatch is then told in the file's own names
    resampled = sorted(
        name for name, tensor in converted.items() if name in state and tensor.shape != state[name].shape
    )
    # timm would also resample patch embeddings, which makes another network of it without a word.
    if any("pos" not in name and converted[name].numel() != state[name].numel() for name in resampled):
        return state, ()
    return converted, tuple(resampled)


@dataclass(frozen=True, kw_only=True)
class _Differences:
    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]


def _differences(own: State, state: State, head: tuple[str, ...]) -> _Differences | None:
    body = {name for name in own if not is_under(name, head)}
    given = {name for name in state if not is_under(name, head)}
    missing = sorted(name for name in body - given if not name.endswith(_COUNTER))
    unexpected = sorted(given - body)
    misshaped = sorted(name for name in body & given if own[name].shape != state[name].shape)
    if missing or unexpected or misshaped:
        return _Differences(missing=missing, unexpected=unexpected, misshaped=misshaped)
    return None


def _explain_mismatch(
    path: Path, own: State, state: State, found: _Differences, style: KeyStyle | None
) -> str:
    parts = []
    if found.missing:
        parts.append(
            f"{len(found.missing)} of the network's {len(own)} tensors are missing ({_some(found.missing)})"
        )
    if found.unexpected:
        parts.append(
            f"{len(found.unexpected)} of the file's {len(state)} are unknown ({_some(found.unexpected)})"
        )
    if found.misshaped:
        shapes = [
            f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in found.misshaped
        ]
        parts.append(f"{len(shapes)} have another shape ({_some(shapes)})")
    names = f" (names of {style.name} mapped)" if style else ""
    return (
        f"The weights in '{path}'{names} don't belong to this network: {'; '.join(parts)}. "
        "Nothing was loaded. "
        "Choose the model, its kwargs and img_size that the file was saved from, or another file."
    )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f", and {more} more" if more > 0 else "")
