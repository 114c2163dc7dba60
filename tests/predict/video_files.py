"""Videos whose frames say which they are: frame i is grey of level 8 * i, with a red top left quarter."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path,
    *,
    times: list[float] | None = None,
    count: int = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
) -> Path:
    """Write frames at ``times`` in seconds (25 a second by default)."""
    times = [i / 25 for i in range(count)] if times is None else times
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, rate=25, options={"qscale": "2"} if codec == "mpeg4" else {"crf": "5"}
        )
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        if path.suffix != ".avi":
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw_frame(index, size), format="rgb24")
            if path.suffix != ".avi":
                frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def draw_frame(index: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    width, height = size
    pixels = np.full((height, width, 3), min(255, 8 * index), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 0, 0)
    return pixels


def read_level(image: object) -> int:
    """Return the number of a frame from its lower right corner."""
    corner = np.asarray(image)[-8:, -8:].astype(float)
    return round(corner.mean() / 8)


def turn_display(path: Path, degrees: int) -> Path:
    """Write the rotation of the display into an MP4's track header, as phones do.

    The matrix of the track (``tkhd``) is 36 bytes before its width and height, at the end of the box.
    """
    turns = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (value << 16 for value in turns[degrees])
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    matrix = start + size - 8 - 36
    for place, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
        data[matrix + place : matrix + place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(data))
    return path
