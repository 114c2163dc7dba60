"""Many dimensions brought down to two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def project_pca(
    features: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Project onto the two directions of largest variance (Pearson 1901).

    Args:
        features: (N, D), N >= 1, D >= 1.

    Returns:
        Points, float64 (N, 2), and the share of the variance that each axis carries, in [0, 1]. The signs of
        the axes, which the method leaves open, are chosen so that the largest loading is positive. A
        direction without variance (beyond rounding), or beyond the dimensions that there are, has only zeros.

    Raises:
        ValueError: ``features`` has other axes, or holds nothing.
    """
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"features have shape {values.shape}; two axes with something in them are needed")
    centred = values - values.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    # Equal rows differ from their own mean by rounding: without this, noise would be all of the variance.
    rounding = np.finfo(np.float64).eps * max(values.shape) * float(np.linalg.norm(values))
    sizes = np.where(sizes > rounding, sizes, 0.0)
    points = np.zeros((len(values), 2))
    shares = [0.0, 0.0]
    for axis in range(min(2, len(sizes))):
        if sizes[axis] > 0:
            sign = 1.0 if right[axis][np.abs(right[axis]).argmax()] >= 0 else -1.0
            points[:, axis] = sign * left[:, axis] * sizes[axis]
            shares[axis] = float(sizes[axis] ** 2 / (sizes**2).sum())
    return points, (shares[0], shares[1])
