"""Arrays of features on disk: memory-mapped, checked when they are opened, whole or absent.

An entry is a folder of the user's cache, ``features/<key>/``: ``values.bin`` (the array's bytes, one row for
each sample) and ``header.json`` (what they are, with the sha256 of each piece and of the header itself). No
torch here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from praxiscope.data.cache_folders import kind_folder, read_header, write_header
from praxiscope.errors import IntegrityError

VERSION = 1
"""Raise it when the same request would give other bytes."""

_VALUES = "values.bin"
_THREADS = 4  # hashing releases the interpreter lock
Values = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class FeatureArray:
    """An open entry.

    Attributes:
        values: (N, ...), float32 or float16, mapped from the file, read-only.
        channels_last: a row is (H, W, C) and stands for (C, H, W).
        computed_as: the dtype that the network gave: ``float32``, ``bfloat16``, ``float16``.
    """

    values: Values
    channels_last: bool
    computed_as: str


def locate_entry(identity: Mapping[str, Any]) -> Path:
    """Return the folder of the entry that holds just what is described; it may not exist.

    Args:
        identity: All that the values follow from, as JSON types.
    """
    text = json.dumps({"version": VERSION, **identity}, sort_keys=True)
    return kind_folder("features") / hashlib.sha256(text.encode()).hexdigest()[:32]


def compute_size(shape: Sequence[int], dtype: str) -> int:
    """Return the bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize


class FeatureWriter:
    """Writes an entry's values row by row into a folder that is being built.

    As a context manager it closes the file; :meth:`finish` makes the entry whole.

    Args:
        folder: Of ``cache_folders.building``.
        dtype: ``float32`` or ``float16``.
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        self._folder = folder
        self._dtype = np.dtype(dtype)
        self._row_shape: tuple[int, ...] = ()
        self._pieces: list[tuple[int, str]] = []
        self._stream = (folder / _VALUES).open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def append(self, rows: Values) -> None:
        """Add rows, (B, ...), of the entry's dtype; every call has the same row shape.

        Raises:
            OSError: The disk is full, or the like.
        """
        assert rows.dtype == self._dtype
        assert not self._pieces or rows.shape[1:] == self._row_shape
        self._row_shape = rows.shape[1:]
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        self._stream.write(data)
        self._pieces.append((len(rows), hashlib.sha256(data).hexdigest()))

    def finish(self, *, identity: Mapping[str, Any], channels_last: bool, computed_as: str) -> None:
        """Flush the values to the disk and write the header."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        fields = {
            "version": VERSION,
            "identity": dict(identity),
            "shape": [sum(count for count, _ in self._pieces), *self._row_shape],
            "dtype": self._dtype.name,
            "channels_last": channels_last,
            "computed_as": computed_as,
            "pieces": [list(piece) for piece in self._pieces],
        }
        write_header(self._folder, "features", fields | {"checksum": _hash_fields(fields)})


def open_entry(path: Path, *, num_rows: int) -> FeatureArray | None:
    """Map an entry's values after checking every byte.

    Args:
        path: The entry's folder.
        num_rows: N that the array must have.

    Returns:
        The array; None where there is no entry.

    Raises:
        IntegrityError: It is damaged: a flipped byte, a file cut short, another shape.
    """
    try:
        header = read_header(path, "features")
    except FileNotFoundError:
        return None
    fields = {key: value for key, value in header.items() if key not in {"format", "checksum"}}
    if header.get("checksum") != _hash_fields(fields):
        raise IntegrityError(f"{path}: the header is damaged.")
    found, dtype = tuple(fields["shape"]), np.dtype(fields["dtype"])
    if found[:1] != (num_rows,):
        raise IntegrityError(f"{path}: the array has {found[0]} rows, not {num_rows}.")
    file = path / _VALUES
    size, expected = (file.stat().st_size if file.is_file() else 0), compute_size(found, dtype.name)
    if size != expected:
        raise IntegrityError(f"{path}: {_VALUES} has {size} bytes, not {expected}.")
    values = np.memmap(file, dtype=dtype, mode="r", shape=found)
    _check_pieces(path, values, fields["pieces"])
    return FeatureArray(
        values=np.asarray(values), channels_last=fields["channels_last"], computed_as=fields["computed_as"]
    )


def _check_pieces(path: Path, values: Values, pieces: Sequence[tuple[int, str]]) -> None:
    stops = np.cumsum([count for count, _ in pieces]).tolist()
    bounds = list(zip([0, *stops[:-1]], stops, strict=True))

    def is_sound(place: int) -> bool:
        start, stop = bounds[place]
        data = values[start:stop].reshape(-1).view(np.uint8).data
        return hashlib.sha256(data).hexdigest() == pieces[place][1]

    with ThreadPoolExecutor(_THREADS) as threads:
        broken = [place for place, sound in enumerate(threads.map(is_sound, range(len(pieces)))) if not sound]
    if broken:
        raise IntegrityError(
            f"{path}: {len(broken)} of {len(pieces)} pieces of {_VALUES} are not what was written (first: "
            f"rows {bounds[broken[0]][0]} to {bounds[broken[0]][1] - 1})."
        )


def _hash_fields(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
