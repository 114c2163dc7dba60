"""CIFAR's published files: pickled batches of Python 2, and fixed records.

The pickles come from the network, so nothing in them may run: the reader below knows the five names that
arrays and byte strings are stored with, and stands plain holders of its own in for them. No numpy object is
built by a pickle, and any other name is refused (E2).

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), and the read-me of
the published archives.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from praxiscope.data.containers.handles import ContainerUnreadable, RandomReader, parse_index

SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
MAX_PICKLE_BYTES = 2**30
"""The largest published file has 155 MB."""

_MAX_MEMO = 10_000_000
_MAX_LABEL = 2**31
_SHOWN = 80
_RECORDS_AT_ONCE = 1_000
# What the unpickler was seen to raise on damaged and on hostile files.
_PICKLE_ERRORS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
    MemoryError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CifarBatch:
    """A batch as stored."""

    pixels: NDArray[np.uint8]
    """(N, 3, 32, 32), RGB."""
    labels: Mapping[str, tuple[int, ...]]
    """``labels`` of CIFAR-10; ``fine_labels`` and ``coarse_labels`` of CIFAR-100."""


class CifarPython:
    """The images of a pickled batch, held in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.batch = read_batch(path)

    def read(self, member: str) -> NDArray[np.uint8]:
        """Return image number `member`, uint8, (32, 32, 3), RGB."""
        index = parse_index(member, len(self.batch.pixels), self._path)
        return np.ascontiguousarray(self.batch.pixels[index].transpose(1, 2, 0))


class CifarBinary:
    """The images of a file of records, read in place: label bytes, then 3 x 32 x 32 bytes.

    Args:
        path: The file.
        label_bytes: 1 (CIFAR-10), or 2 (CIFAR-100: coarse, fine).

    Raises:
        ContainerUnreadable: Its size is no whole number of records.
    """

    def __init__(self, path: Path, label_bytes: int) -> None:
        self._reader = RandomReader(path)
        self._label_bytes = label_bytes
        self._record = label_bytes + PIXEL_BYTES
        if self._reader.size % self._record or not self._reader.size:
            raise ContainerUnreadable(
                f"has {self._reader.size:,} bytes, which is no whole number of records of {self._record:,}; "
                "fetch it again",
                path,
            )
        self._count = self._reader.size // self._record

    def read(self, member: str) -> NDArray[np.uint8]:
        """Return image number `member`, uint8, (32, 32, 3), RGB."""
        index = parse_index(member, self._count, self._reader.path)
        content = self._reader.read(index * self._record + self._label_bytes, PIXEL_BYTES)
        planes = np.frombuffer(content, np.uint8).reshape(3, SIDE, SIDE)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def read_labels(self) -> NDArray[np.uint8]:
        """Return the label bytes of all records, uint8, (N, 1) or (N, 2)."""
        pieces = []
        for start in range(0, self._count, _RECORDS_AT_ONCE):
            count = min(_RECORDS_AT_ONCE, self._count - start)
            content = self._reader.read(start * self._record, count * self._record)
            records = np.frombuffer(content, np.uint8).reshape(count, self._record)
            pieces.append(records[:, : self._label_bytes].copy())
        return np.concatenate(pieces)


def read_batch(path: Path) -> CifarBatch:
    """Read a pickled batch.

    Raises:
        ContainerUnreadable: It is missing, damaged, asks for code, or holds something else.
    """
    stored = read_pickle(path)
    data = stored.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.size != len(data) * PIXEL_BYTES:
        raise ContainerUnreadable("holds no array 'data' of N x 3072 bytes; it is no CIFAR batch", path)
    labels: dict[str, tuple[int, ...]] = {}
    for key in ("labels", "fine_labels", "coarse_labels"):
        if key not in stored:
            continue
        numbers = stored[key]
        if not isinstance(numbers, list) or not all(
            type(number) is int and abs(number) < _MAX_LABEL for number in numbers
        ):
            raise ContainerUnreadable(f"holds {key!r} that are no list of small whole numbers", path)
        if len(numbers) != len(data):
            raise ContainerUnreadable(f"holds {len(data):,} images and {len(numbers):,} {key}", path)
        labels[key] = tuple(numbers)
    if not labels:
        raise ContainerUnreadable("holds neither 'labels' nor 'fine_labels'; it is no CIFAR batch", path)
    return CifarBatch(pixels=data.reshape(-1, 3, SIDE, SIDE), labels=labels)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a CIFAR pickle: a mapping of names to arrays, lists, numbers and byte strings; no code is run.

    Raises:
        ContainerUnreadable: It is missing, damaged, asks for code, or holds something else.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_PICKLE_BYTES else b""
    except OSError as problem:
        raise ContainerUnreadable(f"can't be read ({problem.strerror})", path) from problem
    if size > MAX_PICKLE_BYTES:
        raise ContainerUnreadable(f"has {size:,} bytes, too many for a CIFAR batch", path)
    try:
        _check_memo(content)
        stored = _Reader(content).load()
    except ForbiddenGlobal as problem:
        raise ContainerUnreadable(
            f"asks for {problem}, which no CIFAR file needs: it is damaged or an attack. Nothing was run",
            path,
        ) from None
    except _PICKLE_ERRORS as problem:
        raise ContainerUnreadable(
            f"is no whole pickle of plain data ({str(problem) or type(problem).__name__}); fetch it again",
            path,
        ) from problem
    if not isinstance(stored, dict):
        raise ContainerUnreadable("holds no mapping; it is no CIFAR file", path)
    return {_as_text(key): _finish(value) for key, value in stored.items() if isinstance(key, str | bytes)}


class ForbiddenGlobal(pickle.UnpicklingError):
    """A pickle names something that no CIFAR file needs."""


class _Reader(pickle.Unpickler):
    """Unpickles plain data and arrays of bytes; strings of Python 2 stay bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._known = _make_stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of one of the few names that CIFAR's files use.

        Raises:
            ForbiddenGlobal: It is another one.
        """
        if (module, name) not in self._known:
            raise ForbiddenGlobal(ascii(f"{module}.{name}"[:_SHOWN]))
        return self._known[module, name]


def _make_stand_ins() -> dict[tuple[str, str], Callable[..., Any] | type]:
    """Return fresh stand-ins: a pickle can set attributes of what it is given, and spoils only its own."""

    class Dtype:
        def __init__(self, kind: bytes | str, *_: Any) -> None:
            self.kind = _as_text(kind)

        def __setstate__(self, state: Any) -> None:
            """Byte order and the like: a byte has none."""

    class Array(_Stored):
        def __setstate__(self, state: Any) -> None:
            _, self.shape, dtype, self.fortran, self.content = state
            self.kind = dtype.kind

    def reconstruct(*_: Any) -> Array:
        return Array()

    def frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> Array:
        array = Array()
        array.__setstate__((1, shape, dtype, order == "F", content))
        return array

    def encode(text: str, codec: str) -> bytes:
        if codec not in ("latin1", b"latin1"):
            raise ForbiddenGlobal(f"the codec {ascii(codec)[:_SHOWN]}")
        return text.encode("latin1")

    known: dict[tuple[str, str], Callable[..., Any] | type] = {
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): encode,  # how Python 3 stores bytes by protocol 2
    }
    for core in ("numpy.core", "numpy._core"):
        known[f"{core}.multiarray", "_reconstruct"] = reconstruct
        known[f"{core}.numeric", "_frombuffer"] = frombuffer
    return known


class _Stored:
    """An array as a pickle describes it."""

    shape: Any = None
    kind: Any = None
    fortran: Any = None
    content: Any = None


def _check_memo(content: bytes) -> None:
    """Refuse pickles that number their parts absurdly: the unpickler would reserve memory for each number.

    Raises:
        ValueError: It does so, or isn't a pickle.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in {"PUT", "BINPUT", "LONG_BINPUT"} and int(argument or 0) > _MAX_MEMO:
            raise ValueError(f"a part is numbered {argument:,}")


def _as_text(name: str | bytes) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else name


def _finish(value: Any) -> Any:
    """Return an array for one that was stored, and other values as they are."""
    if not isinstance(value, _Stored):
        return value
    whole = (
        value.kind in {"u1", "B", "uint8"}
        and isinstance(value.content, bytes | bytearray)
        and isinstance(value.shape, tuple)
        and all(type(length) is int and length >= 0 for length in value.shape)
        and len(value.content) == int(np.prod(value.shape, dtype=np.object_))
    )
    if not whole:
        return None
    flat = np.frombuffer(value.content, np.uint8)
    return flat.reshape(value.shape, order="F" if value.fortran else "C")
