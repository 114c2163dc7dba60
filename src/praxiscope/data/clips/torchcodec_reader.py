"""Chosen frames of a video through torchcodec, where it is installed and finds an FFmpeg to load.

With the FFmpeg that PyAV brings its frames are PyAV's bit for bit; with another one they are what that one's
decoder and colour conversion make of the file (docs/decoding.md). That is why the decoder is part of a recipe
and of a pack's key, and why nothing chooses between the two by itself.

torchcodec takes any times that a file has for times of presentation, and any key frame for one that decoding
can begin at. Files whose times are none (AVI with B-frames) therefore go to PyAV.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.video import VideoUnreadable
from praxiscope.data.video_index import find_index
from praxiscope.data.video_seek import read_from_start
from praxiscope.errors import EnvironmentProblem


@cache
def load_torchcodec() -> Any:
    """Return torchcodec's ``VideoDecoder``.

    Raises:
        EnvironmentProblem: It isn't installed, or doesn't load.
    """
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]
    except ImportError as problem:
        raise EnvironmentProblem(
            "clip.decoder is torchcodec, which is not installed: pip install 'praxiscope[torchcodec]', or "
            "leave clip.decoder out (pyav)."
        ) from problem
    except (OSError, RuntimeError) as problem:
        raise _describe_unloadable(problem) from problem
    try:  # its libraries are loaded when something is first decoded
        VideoDecoder(b"no video")
    except (OSError, RuntimeError, ValueError) as problem:
        if "load" in str(problem) and "libtorchcodec" in str(problem):
            raise _describe_unloadable(problem) from problem
    return VideoDecoder


def _describe_unloadable(problem: Exception) -> EnvironmentProblem:
    first = next((line for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
    cause = first.partition(". ")[0].strip()
    return EnvironmentProblem(
        f"clip.decoder is torchcodec, which doesn't load here ({cause}). It needs a torch that it was built "
        "for and an FFmpeg with shared libraries (Debian: apt install ffmpeg); or leave clip.decoder out "
        "(pyav)."
    )


def read_by_torchcodec(
    path: Path, indices: Sequence[int], *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[int, Image.Image]:
    """Return a video's frames by number, as :func:`praxiscope.data.video_seek.read_chosen` does.

    Raises:
        VideoUnreadable: It can't be read, or has fewer frames.
        EnvironmentProblem: torchcodec doesn't load.
    """
    decoder_class = load_torchcodec()
    wanted = sorted(set(indices))
    try:
        index = find_index(path)
    except OSError:
        index = None
    if index is None or wanted[-1:] >= [len(index)]:
        return read_from_start(path, indices, max_pixels=max_pixels)
    try:
        decoder = decoder_class(
            str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact", device="cpu"
        )
        height, width = decoder.metadata.height, decoder.metadata.width
        if height * width > max_pixels:
            raise VideoUnreadable(
                f"declares {width} x {height} pixels, above the cap of {max_pixels:,} (max_pixels)"
            )
        frames = decoder.get_frames_at(wanted).data.numpy() if wanted else ()
    except (RuntimeError, ValueError, IndexError, OSError) as problem:  # all that its C++ part raises
        words = str(problem).splitlines() or [type(problem).__name__]
        raise VideoUnreadable(f"damaged or no video ({words[0]})") from problem
    return {index: Image.fromarray(frame) for index, frame in zip(wanted, frames, strict=True)}
