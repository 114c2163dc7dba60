"""How a sample's path becomes an image, whether it is a file or a member of a container.

A manifest's ``path`` is one of

- ``train/clap/001.jpg``: a file, relative to the data folder;
- ``train-images-idx3-ubyte.gz//idx:42``: a **member**: the container's path, ``//``, the format, ``:``, and
  what that format calls the member.

No file can be called so: ``/`` stands in no file name, and a posix path relative to a folder has no empty
part. ``#``, ``:``, ``!`` and the like are part of a name, as they always were.

====================  ===============================  =================
format                member                           is
====================  ===============================  =================
``cifar-python``      row                              pixels, RGB
``cifar-10-binary``   row                              pixels, RGB
``cifar-100-binary``  row                              pixels, RGB
``idx``               row                              pixels, grey
``parquet``           row ``:`` column                 an encoded image
``tar``               offset ``:`` size, in bytes      an encoded image
====================  ===============================  =================

Containers are opened once in a process and read from any number of threads; see
:mod:`praxiscope.data.containers.handles`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from praxiscope.data.containers.cifar import CifarBinary, CifarPython
from praxiscope.data.containers.handles import Container, ContainerUnreadable, Content, Handles
from praxiscope.data.containers.idx import IdxImages
from praxiscope.data.containers.parquet import ParquetImages
from praxiscope.data.containers.tar import TarImages
from praxiscope.data.images import DEFAULT_MAX_PIXELS, check_size, decode_image

MEMBER_MARK = "//"
"""Stands between a container's path and its member."""

FileState = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""

_FORMATS: dict[str, Callable[[Path], Container]] = {
    "cifar-python": CifarPython,
    "cifar-10-binary": partial(CifarBinary, label_bytes=1),
    "cifar-100-binary": partial(CifarBinary, label_bytes=2),
    "idx": IdxImages,
    "parquet": ParquetImages,
    "tar": TarImages,
}
_HANDLES = Handles()


class Place(NamedTuple):
    """Where a sample lies."""

    file: str
    """Posix path relative to the data folder: the image, or the container that holds it."""
    kind: str | None
    """The container's format; None for a plain file."""
    member: str
    """What the format calls the member; empty for a plain file."""


def join_member(file: str, kind: str, member: str | int) -> str:
    """Return the manifest's ``path`` of a container's member.

    >>> join_member("raw/train-images-idx3-ubyte.gz", "idx", 42)
    'raw/train-images-idx3-ubyte.gz//idx:42'
    """
    return f"{file}{MEMBER_MARK}{kind}:{member}"


def split_path(path: str) -> Place:
    """Take a manifest's ``path`` apart.

    >>> split_path("train-images-idx3-ubyte.gz//idx:42")
    Place(file='train-images-idx3-ubyte.gz', kind='idx', member='42')
    >>> split_path("train/clap/take#1:002.jpg").kind is None
    True
    """
    file, mark, rest = path.partition(MEMBER_MARK)
    if not mark:
        return Place(path, None, "")
    kind, _, member = rest.partition(":")
    return Place(file, kind, member)


def open_container(path: Path, kind: str, handles: Handles | None = None) -> Container:
    """Return an open container.

    Args:
        path: The file.
        kind: Its format, as in a manifest's ``path``.
        handles: Where open containers are kept; those of the process by default.

    Raises:
        ContainerUnreadable: It is missing, damaged, or of a format that this version doesn't know.
    """
    if kind not in _FORMATS:
        raise ContainerUnreadable(
            f"is a container of the kind {kind!r}, and this version knows {', '.join(_FORMATS)}", path
        )
    return (_HANDLES if handles is None else handles).open(path, kind, _FORMATS[kind])


def load_sample(root: Path, path: str, handles: Handles | None = None) -> Path | Content:
    """Return what a sample is decoded from: the file, or a container's member.

    Args:
        root: Data folder.
        path: The manifest's ``path``.
        handles: As :func:`open_container`.

    Returns:
        A path that was not looked at yet; encoded bytes; or pixels, uint8, (H, W) or (H, W, 3).

    Raises:
        ContainerUnreadable: The container or the member can't be read.
    """
    file, kind, member = split_path(path)
    if kind is None:
        return root / path
    return open_container(root / file, kind, handles).read(member)


def decode_sample(
    root: Path, path: str, *, target_size: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Decode a sample to an upright Pillow image of mode RGB.

    Args:
        root: Data folder.
        path: The manifest's ``path``.
        target_size: As :func:`praxiscope.data.images.read_image`.
        max_pixels: Likewise.

    Raises:
        ImageUnreadable: As there, or the container that holds it can't be read.
    """
    content = load_sample(root, path)
    if isinstance(content, np.ndarray):
        check_size((content.shape[1], content.shape[0]), max_pixels)
        return Image.fromarray(content).convert("RGB")
    return decode_image(content, target_size=target_size, max_pixels=max_pixels)


def read_sample(root: Path, path: str, handles: Handles | None = None) -> bytes:
    """Return the bytes that a sample's sha256 is taken over.

    A file's or an encoded member's own; for pixels a line with type and shape, then the pixels, so that equal
    images have equal hashes in whatever container they lie.

    Raises:
        OSError: The file can't be read.
        ContainerUnreadable: The container or the member can't be read.
    """
    content = load_sample(root, path, handles)
    if isinstance(content, Path):
        return content.read_bytes()
    return content if isinstance(content, bytes) else dump_pixels(content)


def dump_pixels(pixels: NDArray[np.uint8]) -> bytes:
    r"""Return pixels as :func:`read_sample` does.

    >>> dump_pixels(np.zeros((1, 2, 3), np.uint8))
    b'uint8 1x2x3\n\x00\x00\x00\x00\x00\x00'
    """
    return f"uint8 {'x'.join(map(str, pixels.shape))}\n".encode() + pixels.tobytes()


def hash_sample(root: Path, path: str, handles: Handles | None = None) -> str:
    """Return the sha256 (hex) of :func:`read_sample`; files are read in pieces.

    Raises:
        OSError: The file can't be read.
        ContainerUnreadable: The container or the member can't be read.
    """
    if split_path(path).kind is not None:
        return hashlib.sha256(read_sample(root, path, handles)).hexdigest()
    with (root / path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_state(root: Path, path: str) -> FileState | None:
    """Return size and modification time of the file that a sample lies in; None where there is none."""
    try:
        status = (root / split_path(path).file).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
