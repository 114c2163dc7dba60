"""The idx format of MNIST: a magic number, the dimensions, big-endian, then bytes; perhaps gzipped.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from praxiscope.data.containers.handles import ContainerUnreadable, RandomReader, parse_index

MAX_GZIP_BYTES = 4 * 2**30
"""Unpacked size from which a gzipped file is refused: it would be held in memory."""

_DIMENSIONS = {"labels": 1, "images": 3}
_UNSIGNED_BYTE = 0x08
_PIECE = 2**20


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class IdxHeader:
    """What the first bytes of an idx file of unsigned bytes say."""

    shape: tuple[int, ...]
    """(N,) for labels, (N, H, W) for images."""

    @property
    def offset(self) -> int:
        """Where the data begin, in bytes."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        """Bytes that the data have."""
        return math.prod(self.shape)


class IdxImages:
    """The images of an idx file: read in place, or held in memory where the file is gzipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory: NDArray[np.uint8] | None = None
        if path.suffix.lower() == ".gz":
            self._memory = read_idx(path, "images")
            self.shape = self._memory.shape
            return
        self._reader = RandomReader(path)
        with _open(path) as stream:
            header = _read_header(stream, path, "images")
        _check_size(self._reader.size - header.offset, header, path)
        self._offset, self.shape = header.offset, header.shape

    def read(self, member: str) -> NDArray[np.uint8]:
        """Return image number `member`, uint8, (H, W), grey."""
        index = parse_index(member, self.shape[0], self._path)
        if self._memory is not None:
            pixels: NDArray[np.uint8] = self._memory[index]
            return pixels
        height, width = self.shape[1:]
        content = self._reader.read(self._offset + index * height * width, height * width)
        return np.frombuffer(content, np.uint8).reshape(height, width)


def read_idx(path: Path, kind: Literal["labels", "images"]) -> NDArray[np.uint8]:
    """Read an idx file whole.

    Args:
        path: The file; gzipped when its name ends with ``.gz``.
        kind: What it must hold.

    Returns:
        uint8, (N,) or (N, H, W).

    Raises:
        ContainerUnreadable: It is missing, has another magic number, or another size than it declares.
    """
    with _open(path) as stream:
        header = _read_header(stream, path, kind)
        if path.suffix.lower() == ".gz" and header.size > MAX_GZIP_BYTES:
            raise ContainerUnreadable(
                f"declares {header.size:,} bytes, more than the {MAX_GZIP_BYTES:,} that are held in memory; "
                "unpack the .gz file",
                path,
            )
        pieces, missing = [], header.size + 1  # one more, to see whether the file goes on
        while missing and (piece := stream.read(min(missing, _PIECE))):
            pieces.append(piece)
            missing -= len(piece)
        content = b"".join(pieces)
    _check_size(len(content), header, path)
    return np.frombuffer(content, np.uint8).reshape(header.shape)


def _read_header(stream: _Stream, path: Path, kind: Literal["labels", "images"]) -> IdxHeader:
    dimensions = _DIMENSIONS[kind]
    magic = stream.read(4)
    if magic != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions]).hex()
        raise ContainerUnreadable(
            f"begins with {magic.hex() or 'nothing'}, but an idx file of {kind} begins with {expected}", path
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ContainerUnreadable("ends within its header", path)
    shape = struct.unpack(f">{dimensions}I", sizes)
    if kind == "images" and 0 in shape[1:]:
        raise ContainerUnreadable(f"declares images of {shape[2]} x {shape[1]} pixels", path)
    return IdxHeader(shape=shape)


def _check_size(size: int, header: IdxHeader, path: Path) -> None:
    if size != header.size:
        dimensions = " x ".join(map(str, header.shape))
        found = "more" if size > header.size else f"{size:,}"
        raise ContainerUnreadable(
            f"declares {dimensions} = {header.size:,} bytes and holds {found}; fetch it again", path
        )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Stream]:
    """Open a file for reading, unpacking it where its name says so; damage becomes ContainerUnreadable."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise ContainerUnreadable("no such file", path) from None
    except EOFError:
        raise ContainerUnreadable(
            "ends in the middle (a gzip file cut short); fetch it again", path
        ) from None
    except (zlib.error, gzip.BadGzipFile) as problem:
        raise ContainerUnreadable(f"is a damaged gzip file ({problem})", path) from problem
    except OSError as problem:
        raise ContainerUnreadable(f"can't be read ({problem.strerror or problem})", path) from problem
