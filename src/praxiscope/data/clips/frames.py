"""Frames by their number, out of a video file, a folder of pictures or a tar of pictures.

Frame i is, from 0,

- of a video the i-th picture that decoding from its start gives (:mod:`praxiscope.data.video_index`),
- of pictures the i-th in the order of the last number in their names; of their names, where one has no number
  or two have the same. Which numbers are there is :mod:`.timeline`'s business.

A tar's index is read once in each process, its members where they lie: nothing is extracted, names of members
are never used as paths, and links and devices in it are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import Image

from praxiscope.data.clips.torchcodec_reader import read_by_torchcodec
from praxiscope.data.containers.handles import RandomReader
from praxiscope.data.containers.tar import TarMember, index_tar
from praxiscope.data.images import DEFAULT_MAX_PIXELS, IMAGE_SUFFIXES, ImageUnreadable, decode_image
from praxiscope.data.video import VideoUnreadable
from praxiscope.data.video_seek import read_chosen

Decoder = Literal["pyav", "torchcodec"]

_LISTED = 4096
_INDEXED = 64
_LARGEST_MEMBER = 256 << 20
_NUMBER = re.compile(r"(\d+)(?=\D*$)")


def is_tar(source: Path) -> bool:
    """Whether a source is a tar of pictures, which its name says."""
    return source.suffix.lower() == ".tar"


def list_frames(source: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder or a tar in their order; see the module.

    A member of a tar stands as ``<tar>/<member>``, which names it and can't be opened.

    Raises:
        ImageUnreadable: The tar can't be read.
        OSError: The folder or tar can't be read.
    """
    status = source.stat()
    if is_tar(source) and not source.is_dir():
        members = _index_members(source, status.st_mtime_ns, status.st_size)
        return tuple(source / member.name for member in members)
    return _list_folder(source, status.st_mtime_ns)


@lru_cache(maxsize=_LISTED)
def _list_folder(folder: Path, _changed_ns: int) -> tuple[Path, ...]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _is_picture(entry.name)]
    return tuple(folder / name for name in order_by_number(names))


@lru_cache(maxsize=_INDEXED)
def _index_members(tar: Path, _changed_ns: int, _size: int) -> tuple[TarMember, ...]:
    found = {member.name: member for member in index_tar(tar).members}  # of equal names the last, as tar does
    pictures = {name: member for name, member in found.items() if _is_picture(name.rpartition("/")[2])}
    return tuple(pictures[name] for name in order_by_number(list(pictures)))


def _is_picture(name: str) -> bool:
    # "._frame.jpg" is what macOS leaves beside frame.jpg.
    return not name.startswith(".") and f".{name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES


def order_by_number(names: Sequence[str]) -> list[str]:
    """Return names in the order of the last number before their suffix.

    Where one has none, or two have the same, in the order of the names themselves.

    >>> order_by_number(["f_10.jpg", "f_9.jpg"]), order_by_number(["u_2.jpg", "v_2.jpg", "u_10.jpg"])
    (['f_9.jpg', 'f_10.jpg'], ['u_10.jpg', 'u_2.jpg', 'v_2.jpg'])
    """
    numbers = {}
    for name in names:
        match = _NUMBER.search(name.rpartition("/")[2].rpartition(".")[0])
        if match is None or int(match.group(1)) in numbers:
            return sorted(names)
        numbers[int(match.group(1))] = name
    return [numbers[number] for number in sorted(numbers)]


def read_frames(
    source: Path,
    indices: Sequence[int],
    *,
    target_size: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    decoder: Decoder = "pyav",
) -> list[Image.Image]:
    """Read frames, upright, RGB.

    Args:
        source: A video file, a folder or a tar with one picture a frame.
        indices: From 0, in any order; see the module.
        target_size: Short side in pixels that a JPEG must at least be decoded to; all of it where None.
            Frames of a video always have all of their pixels.
        max_pixels: Cap on width x height.
        decoder: What decodes a video.

    Raises:
        ImageUnreadable: The source or a frame can't be read, or there are fewer frames.
        EnvironmentProblem: ``torchcodec`` is asked for and doesn't load.
    """
    if source.is_dir() or is_tar(source):
        return _read_pictures(source, indices, target_size, max_pixels)
    read = read_by_torchcodec if decoder == "torchcodec" else read_chosen
    try:
        found = read(source, indices, max_pixels=max_pixels)
    except VideoUnreadable as problem:
        raise ImageUnreadable(problem.reason) from problem
    return [found[index] for index in indices]


def _read_pictures(
    source: Path, indices: Sequence[int], target_size: int | None, max_pixels: int
) -> list[Image.Image]:
    try:
        files = list_frames(source)
    except OSError as problem:
        gone = isinstance(problem, FileNotFoundError)
        reason = "no such file" if gone else f"can't be read ({problem.strerror})"
        raise ImageUnreadable(reason, source) from problem
    if indices and max(indices) >= len(files):
        raise ImageUnreadable(f"holds {len(files)} frames; number {max(indices)} (from 0) was asked for")
    contents: Sequence[Path | bytes] = [files[index] for index in indices]
    if is_tar(source) and not source.is_dir():
        contents = _read_members(source, indices)
    return [decode_image(each, target_size=target_size, max_pixels=max_pixels) for each in contents]


def _read_members(tar: Path, indices: Sequence[int]) -> list[bytes]:
    status = tar.stat()
    members, reader = _index_members(tar, status.st_mtime_ns, status.st_size), RandomReader(tar)
    contents = []
    for member in (members[index] for index in indices):
        if member.size > _LARGEST_MEMBER:
            raise ImageUnreadable(f"{member.name!r} has {member.size:,} bytes, which no frame has", tar)
        contents.append(reader.read(member.offset, member.size))
    return contents
