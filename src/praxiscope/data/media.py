"""How a sample's path becomes an image, whether it is a file or a member of a container."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from praxiscope.data.images import DEFAULT_MAX_PIXELS, decode_image


def decode_sample(
    root: Path, path: str, *, target_size: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Decode a sample to an upright Pillow image of mode RGB.

    Args:
        root: Data folder.
        path: The manifest's ``path``.
        target_size: As :func:`praxiscope.data.images.read_image`.
        max_pixels: Likewise.

    Raises:
        ImageUnreadable: As there.
    """
    return decode_image(root / path, target_size=target_size, max_pixels=max_pixels)
