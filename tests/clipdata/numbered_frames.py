"""Clips whose pictures carry their number, so that what was read can be told from what was asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

BITS = 10
_BLOCK = 16


def draw_number(number: int) -> Image.Image:
    """Return a picture of two rows of five blocks, white for a bit that is set."""
    bits = [(number >> place) & 1 for place in range(BITS)]
    blocks = np.array(bits, dtype=np.uint8).reshape(2, 5) * 255
    return Image.fromarray(blocks.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)).convert("RGB")


def read_number(picture: Image.Image) -> int:
    """Return the number that a picture carries, compressed or not."""
    grey = np.asarray(picture.convert("L"), dtype=np.float64)
    bits = grey.reshape(2, _BLOCK, 5, _BLOCK).mean(axis=(1, 3)).ravel() > 127
    return int(sum(1 << place for place, bit in enumerate(bits) if bit))


def write_video(
    path: Path, count: int, *, rate: Fraction | int = 25, times: list[int] | None = None, start: int = 0
) -> Path:
    """Write a video whose i-th picture carries start + i, at an even rate or at `times` in milliseconds."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if path.suffix == ".mkv" else "mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 5 * _BLOCK, 2 * _BLOCK, "yuv420p"
        stream.bit_rate = 4_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_image(draw_number(start + index))
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, numbers: list[int], *, pattern: str = "frame_{:010d}.png") -> Path:
    """Write a folder of pictures that carry the number in their name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        draw_number(number).save(folder / pattern.format(number))
    return folder
