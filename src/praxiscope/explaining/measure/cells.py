"""Maps as ranked cells: at most 28 x 28 of them, each worth the mean of its pixels.

Single pixels are too fine a unit: switching off scattered pixels makes patterns that a network never saw,
which moves its answer whatever was under them (Samek et al. 2017 delete regions for that reason). Cells
treat a map that is fine-grained and one that was enlarged from 7 x 7 alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

MAX_CELLS = 28
"""Cells a side; 8 px each at 224 px."""
Cells = npt.NDArray[np.float64]
"""(N, C), row by row."""


def count_cells(side: int) -> int:
    """Return the number of cells a side of an image of that many pixels a side."""
    return min(side, MAX_CELLS)


def pool_cells(maps: npt.NDArray[np.floating], cells: int) -> Cells:
    """Average maps (N, H, W) over cells; returns float64 (N, cells * cells).

    Cells differ by a pixel in width where the side isn't a multiple. Equal pixels give exactly equal cells,
    so that ties stay ties.
    """
    pooled = np.asarray(maps, dtype=np.float64)
    for axis in (1, 2):
        starts = _find_edges(pooled.shape[axis], cells)
        widths = np.diff(np.append(starts, pooled.shape[axis]))
        shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
        pooled = np.add.reduceat(pooled, starts, axis=axis) / widths.reshape(shape)
    return pooled.reshape(len(pooled), -1)


def spread_cells(flags: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    """Return flags (..., C) of cells as flags (..., side, side) of pixels."""
    cells = round(flags.shape[-1] ** 0.5)
    owner = np.searchsorted(_find_edges(side, cells), np.arange(side), side="right") - 1
    square = flags.reshape(*flags.shape[:-1], cells, cells)
    return np.asarray(square[..., owner[:, None], owner[None, :]])


def order_cells(values: Cells, noise: Cells) -> npt.NDArray[np.int64]:
    """Return (N, C) cells from the most evidence to the least.

    Cells of equal value come in the order of `noise`, not in that of the pixels: a map that says the same
    everywhere is then exactly the random map.
    """
    return np.lexsort((-noise, -values), axis=-1)


def correlate_ranks(first: Cells, second: Cells) -> npt.NDArray[np.float64]:
    """Compute Spearman's rank correlation of each pair of rows; ties get their mean rank.

    Returns:
        (N,) in [-1, 1]; 0 where one of the two is constant, as it then says nothing about the other.
    """
    ranks = [rankdata(values, axis=1) for values in (first, second)]
    centred = [each - each.mean(axis=1, keepdims=True) for each in ranks]
    norms = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    products = (centred[0] * centred[1]).sum(axis=1)
    alike: npt.NDArray[np.float64] = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return alike


def _find_edges(side: int, cells: int) -> npt.NDArray[np.int64]:
    return np.arange(cells, dtype=np.int64) * side // cells
