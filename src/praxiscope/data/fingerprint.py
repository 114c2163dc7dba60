"""What is remembered of an image's content: its hash, a perceptual hash, a thumbnail, its size and traits.

The perceptual hash is a difference hash (Krawetz 2013, "Kind of like that"): the image is reduced to 17 x 16
grey pixels, and each of 256 bits says whether a pixel is brighter than its left neighbour.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from praxiscope.data.containers.handles import Content
from praxiscope.data.images import (
    DEFAULT_MAX_PIXELS,
    ImageUnreadable,
    check_size,
    has_transparency,
    open_image,
    read_orientation,
    upright_rgb,
)
from praxiscope.data.media import dump_pixels

HASH_SIDE = 16
THUMB_SIDE = 32
TINY_PIXELS = 32
_WHOLE_READ_BYTES = 64 * 2**20
"""Files up to this size are read once, for the hash and the decoder; larger ones twice, in pieces."""
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "TIFF", "AVIF"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What one file's content is."""

    sha256: str
    """Of the file's bytes, hex."""
    phash: str
    """256-bit difference hash, hex (64 digits)."""
    mirrored: str
    """The same of the image flipped left to right."""
    thumb: bytes
    """32 x 32 grey pixels, rows first."""
    width: int
    """Pixels, upright."""
    height: int
    traits: tuple[str, ...]
    """What a reader should know: ``alpha``, ``deep`` (over 8 bits), ``cmyk``, ``animated``, ``rotated``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A file without a decodable image."""

    sha256: str | None
    """Of the file's bytes, where they can be read."""
    reason: str


def take_fingerprint(
    source: Path | Content, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Fingerprint | Unreadable:
    """Hash a file, or a member of a container, and decode it whole.

    Pillow's ``verify()`` passes truncated JPEGs, so nothing short of decoding shows that a file is sound.

    Args:
        source: What :func:`praxiscope.data.media.load_sample` returns: a file, encoded bytes, or pixels.
        max_pixels: Cap on width x height before decoding.

    Returns:
        The fingerprint, or why there is none; never raises for what is wrong with the file.
    """
    sha256 = None
    traits: tuple[str, ...] = ()
    try:
        if isinstance(source, Path) and source.stat().st_size <= _WHOLE_READ_BYTES:
            source = source.read_bytes()
        sha256 = _hash(source)
        if isinstance(source, np.ndarray):
            check_size((source.shape[1], source.shape[0]), max_pixels)
            rgb = Image.fromarray(source)
        else:
            with open_image(source, max_pixels=max_pixels) as image:
                rgb = upright_rgb(image)
                traits = _find_traits(image)
    except ImageUnreadable as problem:
        return Unreadable(sha256=sha256, reason=problem.reason)
    except OSError as problem:
        reason = (
            "no such file" if isinstance(problem, FileNotFoundError) else problem.strerror or str(problem)
        )
        return Unreadable(sha256=sha256, reason=reason)
    grey = rgb.convert("L")
    phash, mirrored = compute_dhash(grey)
    return Fingerprint(
        sha256=sha256,
        phash=phash,
        mirrored=mirrored,
        thumb=grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX).tobytes(),
        width=rgb.width,
        height=rgb.height,
        traits=traits,
    )


def _hash(source: Path | Content) -> str:
    if isinstance(source, Path):
        return hash_file(source)
    return hashlib.sha256(source if isinstance(source, bytes) else dump_pixels(source)).hexdigest()


def hash_file(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes, read in pieces.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compute_dhash(grey: Image.Image) -> tuple[str, str]:
    """Return the 256-bit difference hash of a grey image, and that of its mirror image, in hex.

    Args:
        grey: Mode ``L``, any size.
    """
    small = np.asarray(grey.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), dtype=np.int16)
    return _pack(small), _pack(small[:, ::-1])


def _pack(small: NDArray[np.int16]) -> str:
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def _find_traits(image: Image.Image) -> tuple[str, ...]:
    traits = {
        "alpha": has_transparency(image),
        "deep": image.mode[:1] in {"I", "F"},
        "cmyk": image.mode == "CMYK",
        "animated": image.format in _ANIMATED and getattr(image, "is_animated", False),
        "rotated": read_orientation(image) != 1,
    }
    return tuple(name for name, present in traits.items() if present)
