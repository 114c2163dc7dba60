"""The one reader of images: every entry point (check, train, evaluate, report) sees the same pixels.

What a file is, is read from its first bytes, never from its name. What comes out is always 8-bit RGB:

========================================  =====================================================
stored as                                 becomes
========================================  =====================================================
EXIF orientation 2-8                      upright pixels
transparency (alpha, palette, colour key) composited on white
16-bit grey, 32-bit integers 0..65535     ``value / 257``, rounded
floats in [0, 1] / [0, 255] / [0, 65535]  scaled by 255 / 1 / 1/257, rounded; the narrowest range that fits
CMYK, YCbCr, Lab, 1-bit, grey, palette    Pillow's conversion to RGB; embedded colour profiles are ignored
several frames (GIF, WebP, APNG, TIFF)    the first frame
========================================  =====================================================
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from praxiscope.errors import DataError

DEFAULT_MAX_PIXELS = 100_000_000
"""Images that declare more pixels than this are refused before they are decoded."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff",
     ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".heic", ".heif", ".jxl"}
)  # fmt: skip
"""Lower-case file name ends that promise an image; a file so named that is none is quarantined."""

_HEAD_BYTES = 64
_ORIENTATION_TAG = 0x0112
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document; save it as PNG"),
    (b"\xff\x0a", "a JPEG XL image, which is not supported; convert it to JPEG or PNG"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image, which is not supported; convert it to JPEG or PNG"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the real file with `git lfs pull`"),
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders were seen to raise on damaged files. `Warning` is there for processes that turn
# warnings into errors; MemoryError for sizes that a damaged header promises.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError,
    RuntimeError, EOFError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError, Warning,
)  # fmt: skip


class ImageUnreadable(DataError):
    """A file holds no image that can be decoded whole.

    Attributes:
        reason: One line that says why, without the file's name.
    """

    def __init__(self, reason: str, source: Path | None = None) -> None:
        self.reason = " ".join(reason.split())
        super().__init__(self.reason if source is None else f"{str(source)!r}: {self.reason}")


def read_image(
    source: Path | bytes, *, target_size: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read an image as upright 8-bit RGB.

    Args:
        source: A file, or the content of one.
        target_size: Side in pixels that the image will be reduced to anyway. A JPEG may then be decoded at
            1/2, 1/4 or 1/8 scale (2-4 x faster for photographs of 12 megapixels), as long as its short side
            stays at least this long.
        max_pixels: Cap on width x height, checked before decoding.

    Returns:
        A contiguous, writable array, uint8, shape (H, W, 3), RGB in [0, 255].

    Raises:
        ImageUnreadable: The file is missing, no image, damaged, truncated or too large.
    """
    return np.array(decode_image(source, target_size=target_size, max_pixels=max_pixels))


def decode_image(
    source: Path | bytes, *, target_size: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Decode an image to an upright Pillow image of mode RGB; see :func:`read_image`."""
    with open_image(source, max_pixels=max_pixels) as image:
        if target_size is not None:
            image.draft(None, (target_size, target_size))
        return upright_rgb(image)


@contextlib.contextmanager
def open_image(source: Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image without decoding it; what goes wrong inside the block becomes :class:`ImageUnreadable`.

    Args:
        source: A file, or the content of one.
        max_pixels: Cap on width x height.

    Yields:
        Pillow's lazy image, of the format that the content has.

    Raises:
        ImageUnreadable: As :func:`read_image`.
    """
    path = source if isinstance(source, Path) else None
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream,
            Image.open(stream, formats=(_require_format(stream),)) as image,
        ):
            check_size(image.size, max_pixels)
            yield image
    except ImageUnreadable as problem:
        raise ImageUnreadable(problem.reason, path) from None
    except _DECODE_ERRORS as problem:
        raise ImageUnreadable(_explain(problem), path) from problem


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an open image whole and turn it upright, as mode RGB by the rules of this module.

    Raises:
        ImageUnreadable: Its numbers fit no 8-bit scale that this module knows.
    """
    image.load()
    # Read after loading: Pillow turns TIFF upright itself, and PNG may carry EXIF behind the pixels.
    orientation = read_orientation(image)
    rgb = _convert_rgb(image)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1-8 of an open image; 1 where it has none or its EXIF block is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODE_ERRORS:  # broken metadata beside whole pixels: viewers show such a file as it is stored
        return 1
    return orientation if orientation in range(1, 9) else 1


def sniff_format(head: bytes) -> str | None:
    """Return Pillow's name of the image format that a file's first 64 bytes announce, or None.

    >>> sniff_format(b"GIF89a..."), sniff_format(b"<!DOCTYPE html>")
    ('GIF', None)
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:12] in {b"ftypavif", b"ftypavis"}:
        return "AVIF"
    # "P6" and white space: a text that begins with "P1" is more likely a text.
    return "PPM" if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() else None


def describe_content(head: bytes) -> str:
    """Say in a few words what a file that is no image holds, from its first 64 bytes."""
    if not head:
        return "an empty file (zero bytes)"
    for signature, words in _FOREIGN:
        if head.startswith(signature):
            return words
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return (
            "a HEIC photo; convert it to JPEG" if brand in {b"heic", b"heix", b"mif1", b"hevc"} else "a video"
        )
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<script")):
        return "an HTML page, such as a failed download"
    if start.startswith((b"<svg", b"<?xml")):
        return "an XML or SVG file"
    if not any(byte < 9 or 13 < byte < 32 for byte in head):
        return "text"
    return "zeros" if not any(head) else "content of an unknown kind"


def read_head(path: Path) -> bytes:
    """Return a file's first 64 bytes.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _require_format(stream: IO[bytes]) -> str:
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    name = sniff_format(head)
    if name is None:
        raise ImageUnreadable(f"no image but {describe_content(head)}")
    if name not in Image.OPEN:
        Image.init()
    if name not in Image.OPEN:
        raise ImageUnreadable(f"this Pillow was built without {name}; convert it to JPEG or PNG")
    return name


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse an image by the size (width, height) that it declares.

    Raises:
        ImageUnreadable: It has more pixels than `max_pixels`, or none.
    """
    width, height = size
    if width * height > max_pixels:
        raise ImageUnreadable(
            f"declares {width} x {height} pixels, above the cap of {max_pixels:,} (max_pixels)"
        )
    if min(size) < 1:
        raise ImageUnreadable(f"declares {width} x {height} pixels")


def _explain(problem: BaseException) -> str:
    if isinstance(problem, FileNotFoundError):
        return "no such file"
    if isinstance(problem, OSError) and problem.strerror:
        return f"can't be read ({problem.strerror})"
    if isinstance(problem, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"declares too many pixels ({problem})"
    if isinstance(problem, MemoryError):
        return "needs more memory than there is"
    return f"damaged ({str(problem) or type(problem).__name__})"


def _convert_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode[:1] in {"I", "F"}:
        return Image.fromarray(_scale_to_byte(np.asarray(image))).convert("RGB")
    if has_transparency(image):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def has_transparency(image: Image.Image) -> bool:
    """Whether an open image has an alpha channel or a transparent colour."""
    return image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info


def _scale_to_byte(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    if not values.size:
        raise ImageUnreadable("has no pixels")
    wide = values.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    # A 16-bit integer is what it is, however dark; only floats leave their range to be guessed.
    ranges = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    for full in ranges:
        if low >= 0.0 and high <= full:
            return np.floor(wide * (255.0 / full) + 0.5).astype(np.uint8)
    raise ImageUnreadable(
        f"holds values from {low:g} to {high:g}, which fit no scale up to 65535; convert it to 8 or 16 bits"
    )
