"""Rotation flags, written into a file by hand."""

from __future__ import annotations

from pathlib import Path


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
