"""Generated videos of the kinds that seeking could get wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def draw_moving(index: int, size: tuple[int, int]) -> np.ndarray:
    """Texture that moves and changes, so that no two frames are alike and B-frames pay."""
    width, height = size
    rng = np.random.default_rng(7)
    base = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(base).resize((2 * width, 2 * height), Image.Resampling.BICUBIC))
    shift = (3 * index) % width
    pixels = large[index % height : index % height + height, shift : shift + width].copy()
    for bit in range(8):  # the frame's number, to be read by `read_number`
        left = bit * width // 8
        pixels[:16, left : left + width // 8] = 255 if index >> bit & 1 else 0
    return pixels


def read_number(image: Image.Image) -> int:
    """Return the number that `draw_moving` wrote."""
    pixels = np.asarray(image)[2:14].astype(float)
    cells = np.array_split(pixels, 8, axis=1)
    return sum((cell[:, 2:-2].mean() > 127) << bit for bit, cell in enumerate(cells))


def encode(
    path: Path,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    count: int = 60,
    size: tuple[int, int] = (96, 64),
    times_ms: list[int] | None = None,
    container_options: dict[str, str] | None = None,
    bframes: int | None = None,
    gop: int | None = None,
) -> Path:
    """Encode `count` moving frames, 25 a second or at `times_ms`."""
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if gop is not None:
            stream.codec_context.gop_size = gop
        if bframes is not None:
            stream.codec_context.max_b_frames = bframes
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(draw_moving(index, size), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


_UNEVEN = np.cumsum(np.random.default_rng(3).integers(10, 120, 60)).tolist()
X264 = {"preset": "veryfast", "threads": "1"}
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "dense keys": ("mp4", {"options": {**X264, "g": "10", "bf": "2"}}),
    "sparse keys": ("mp4", {"options": {**X264, "g": "250", "bf": "3", "x264-params": "b-pyramid=normal"}}),
    "one key": ("mkv", {"options": {**X264, "g": "250", "bf": "2"}}),
    "no B-frames": ("mp4", {"options": {**X264, "g": "12", "bf": "0"}}),
    "open GOP": ("mkv", {"options": {**X264, "g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}}),
    "open GOP mp4": ("mp4", {"options": {**X264, "g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}}),
    "intra refresh": ("mkv", {"options": {**X264, "g": "12", "bf": "0", "x264-params": "intra-refresh=1"}}),
    "transport stream": ("ts", {"options": {**X264, "g": "12", "bf": "2"}}),
    "bare stream": ("h264", {"options": {**X264, "g": "12", "bf": "2"}}),
    "interlaced": ("mp4", {"options": {**X264, "g": "12", "bf": "2", "flags": "+ilme+ildct"}}),
    "uneven times": ("mkv", {"options": {**X264, "g": "12", "bf": "2"}, "times_ms": _UNEVEN}),
    "late start": ("mp4", {"options": {**X264, "g": "12", "bf": "2"}, "times_ms": [5000 + 40 * i for i in range(60)]}),
    "odd size": ("mkv", {"options": {**X264, "g": "12"}, "size": (98, 66)}),
    "fragmented": ("mp4", {"options": {**X264, "g": "12", "bf": "2"},
                           "container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "MPEG-4 avi": ("avi", {"codec": "mpeg4", "options": {"qscale": "3", "g": "12"}}),
    "MPEG-4 avi with B-frames": ("avi", {"codec": "mpeg4", "options": {"qscale": "3", "g": "12"}, "bframes": 2}),
    "MPEG-4 mp4 with B-frames": ("mp4", {"codec": "mpeg4", "options": {"qscale": "3", "g": "12"}, "bframes": 2}),
    "H.264 avi with B-frames": ("avi", {"options": {**X264, "g": "12", "bf": "2"}}),
    "MPEG-2": ("mpg", {"codec": "mpeg2video", "options": {"qscale": "3", "g": "12"}, "bframes": 2}),
    "VP8": ("webm", {"codec": "libvpx", "options": {"deadline": "realtime", "g": "20"}}),
    "VP9": ("webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "20"}}),
    "VP9 with hidden frames": ("webm", {"codec": "libvpx-vp9",
        "options": {"deadline": "good", "cpu-used": "5", "g": "30", "lag-in-frames": "16", "auto-alt-ref": "1"}}),
    "HEVC": ("mp4", {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=15:pools=1"}}),
    "AV1": ("mp4", {"codec": "libsvtav1", "options": {"preset": "12", "g": "20"}}),
    "motion JPEG": ("avi", {"codec": "mjpeg", "options": {"qscale": "3"}}),
}  # fmt: skip
"""By name: suffix and arguments of `encode`."""


def encode_kind(folder: Path, name: str) -> Path:
    """Write a video of :data:`KINDS`."""
    suffix, arguments = KINDS[name]
    return encode(folder / f"{name.replace(' ', '-')}.{suffix}", **arguments)  # type: ignore[arg-type]
