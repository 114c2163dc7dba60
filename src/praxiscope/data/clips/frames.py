"""Frames by their number, out of a video file or a folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image

from praxiscope.data.images import DEFAULT_MAX_PIXELS, IMAGE_SUFFIXES, ImageUnreadable, decode_image
from praxiscope.data.video import Sampling, VideoUnreadable
from praxiscope.data.video import read_frames as read_video


def list_frames(folder: Path) -> tuple[Path, ...]:
    """Return a folder's pictures in the order of their names, which number them."""
    return _list_frames(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _list_frames(folder: Path, _changed_ns: int) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES))


def read_frames(
    source: Path,
    indices: Sequence[int],
    *,
    target_size: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[Image.Image]:
    """Read frames, upright, RGB.

    Args:
        source: A video file, or a folder with one picture a frame.
        indices: Ascending, from 0.
        target_size: Short side in pixels that a JPEG must at least be decoded to; all of it where None.
        max_pixels: Cap on width x height.

    Raises:
        ImageUnreadable: The source or a frame can't be read, or there are fewer frames.
    """
    if source.is_dir():
        files = list_frames(source)
        if indices and indices[-1] >= len(files):
            raise ImageUnreadable(f"holds {len(files)} frames; number {indices[-1]} (from 0) was asked for")
        return [
            decode_image(files[index], target_size=target_size, max_pixels=max_pixels) for index in indices
        ]
    return _read_video(source, indices, max_pixels)


def _read_video(source: Path, indices: Sequence[int], max_pixels: int) -> list[Image.Image]:
    wanted, found = set(indices), {}
    try:
        for frame in read_video(source, Sampling(limit=indices[-1] + 1), max_pixels=max_pixels):
            if frame.index in wanted:
                found[frame.index] = frame.image
    except VideoUnreadable as problem:
        if wanted - found.keys():
            raise ImageUnreadable(f"{problem.reason}, after {problem.decoded} frames") from problem
    if missing := sorted(wanted - found.keys()):
        raise ImageUnreadable(f"ends before frame {missing[0]} (from 0)")
    return [found[index] for index in indices]
