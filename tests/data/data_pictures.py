"""Generated pictures and damaged files for the tests of praxiscope.data."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def draw_picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Return a photo-like RGB picture: light, objects, grain. Other seeds look different."""
    rng = np.random.default_rng(seed)
    light = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    pen = ImageDraw.Draw(light)
    for _ in range(7):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(6, size[0] // 2), rng.integers(6, size[1] // 2)
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)((x, y, x + w, y + h), fill=colour)
    grain = rng.normal(0, 4, (size[1], size[0], 3))
    soft = np.asarray(light.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float64)
    return Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def save_tree(root: Path, layout: dict[str, int], *, start: int = 0) -> Path:
    """Write `layout` ({folder: number of pictures}) below `root`; every picture is another one."""
    seed = start
    for folder, count in layout.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number:03}.jpg").write_bytes(encode(draw_picture(seed), quality=90))
            seed += 1
    return root


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_declaring(width: int, height: int) -> bytes:
    """A valid PNG header of any size with next to no pixels behind it."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + png_chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + png_chunk(b"IEND", b"")
    )


def _cut(kind: str, share: float, **options: object) -> Callable[[int], bytes]:
    def make(seed: int) -> bytes:
        whole = encode(draw_picture(seed), kind, **options)
        return whole[: int(len(whole) * share)]

    return make


def _wrong_crc(seed: int) -> bytes:
    whole = bytearray(encode(draw_picture(seed), "PNG"))
    whole[whole.index(b"IDAT") + 4 + 20] ^= 0xFF
    return bytes(whole)


def _jpeg_without_size(seed: int) -> bytes:
    whole = bytearray(encode(draw_picture(seed)))
    place = whole.index(b"\xff\xc0") + 5
    whole[place : place + 4] = b"\0\0\0\0"
    return bytes(whole)


def _noise(seed: int, count: int = 2000) -> bytes:
    return b"\x01" + np.random.default_rng(seed).bytes(count)


MALFORMED: dict[str, Callable[[int], bytes]] = {
    "empty": lambda seed: b"",
    "html": lambda seed: b"<!DOCTYPE html><html><body>404 %d</body></html>" % seed,
    "json": lambda seed: b'{"error": %d}' % seed,
    "svg": lambda seed: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="%d"/></svg>' % seed,
    "pdf": lambda seed: b"%PDF-1.7\n" + _noise(seed),
    "zip": lambda seed: b"PK\x03\x04" + _noise(seed),
    "lfs": lambda seed: b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\n" % seed,
    "zeros": lambda seed: bytes(1000 + seed),
    "noise": _noise,
    "jpeg-half": _cut("JPEG", 0.5),
    "jpeg-last-tenth-missing": _cut("JPEG", 0.9),
    "progressive-half": _cut("JPEG", 0.5, progressive=True),
    "jpeg-start": lambda seed: encode(draw_picture(seed))[: 20 + seed % 7],
    "jpeg-no-size": _jpeg_without_size,
    "jpeg-then-noise": lambda seed: b"\xff\xd8\xff\xe0" + _noise(seed),
    "png-half": _cut("PNG", 0.5),
    "png-crc": _wrong_crc,
    "png-bomb": lambda seed: png_declaring(60_000 + seed, 60_000),
    "webp-half": _cut("WEBP", 0.5),
    "tiff-half": _cut("TIFF", 0.5, compression="tiff_lzw"),
    "bmp-half": _cut("BMP", 0.5),
    "gif-start": lambda seed: encode(draw_picture(seed).quantize(32), "GIF")[: 40 + seed % 9],
}
"""Kinds of files that promise an image and hold none that can be decoded whole."""
