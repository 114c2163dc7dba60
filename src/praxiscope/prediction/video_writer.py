"""Annotated frames as an MP4 that keeps the times of the frames it was made of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from praxiscope.errors import EnvironmentProblem
from praxiscope.runs import atomic

_TICKS = 90_000
_ENCODERS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))


class VideoWriter:
    """Writes an MP4 under a temporary name, which becomes its own when it is closed.

    Args:
        path: ends in ``.mp4``.
        size: (width, height) of the frames; H.264 wants even numbers, so an odd edge gets one pixel more.

    Raises:
        EnvironmentProblem: This PyAV has no encoder for it.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        import av

        self._path, self._aside = path, atomic.temporary_name(path)
        self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._last = -1
        name, options = _choose_encoder()
        self._container = av.open(str(self._aside), "w", format="mp4")
        stream: Any = self._container.add_stream(name, options=options)
        self._stream = stream
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def write(self, image: Image.Image, time_s: float) -> None:
        """Add a frame.

        Args:
            image: RGB; of another size than the first, it is fitted into it.
            time_s: seconds since the start; not before the last frame's.
        """
        import av

        frame: Any = av.VideoFrame.from_ndarray(np.asarray(self._fit(image)), format="rgb24")
        self._last = max(self._last + 1, round(time_s * _TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Write what waits in the encoder and give the file its name."""
        with atomic.naming_full_disk(self._path):
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()
            self._aside.replace(self._path)

    def _fit(self, image: Image.Image) -> Image.Image:
        if image.size == self._size:
            return image
        width, height = self._size
        if image.width > width or image.height > height:
            scale = min(width / image.width, height / image.height)
            image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
        canvas = Image.new("RGB", self._size)
        canvas.paste(image, (0, 0))
        return canvas


def _choose_encoder() -> tuple[str, dict[str, str]]:
    import av

    for name, options in _ENCODERS:
        if name in av.codecs_available:
            return name, dict(options)
    raise EnvironmentProblem(
        f"--save-video: this PyAV has none of the encoders {', '.join(name for name, _ in _ENCODERS)}; "
        "install PyAV's own wheel (pip install av), or leave --save-video out and get single frames."
    )
