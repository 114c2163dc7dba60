"""Smooth noise in place of an explanation: the floor that every method is held against."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

_GRID = 7


def draw_noise(images: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.float32]:
    """Draw a coarse random map for each image.

    Args:
        images: uint8 (N, H, W, 3). The same image gets the same map whatever stands beside it.
        seed: Another one gives other maps.

    Returns:
        float32 (N, 7, 7), uniform in [0, 1).
    """
    maps = [
        np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(image).data)]).random((_GRID, _GRID))
        for image in images
    ]
    return np.stack(maps).astype(np.float32)
