"""Peak signal-to-noise ratio: how far two versions of an image are apart."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def compute_psnr(image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Return 10 log10(255^2 / mean squared difference) in dB; infinite for equal images.

    Args:
        image: uint8, any shape.
        other: uint8, the same shape.

    Raises:
        ValueError: The shapes differ.

    >>> a = np.zeros((2, 2, 3), np.uint8)
    >>> compute_psnr(a, a), round(compute_psnr(a, a + np.uint8(1)), 2)
    (inf, 48.13)
    """
    if image.shape != other.shape:
        raise ValueError(f"shapes {image.shape} and {other.shape} differ")
    error = float(np.mean((image.astype(np.float64) - other.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
