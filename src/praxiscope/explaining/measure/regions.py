"""Regions of images: grown, put elsewhere, filled from around them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from praxiscope.explaining.measure.samples import Images, Masks


def grow_masks(masks: Masks, radius: float) -> Masks:
    """Add all pixels within `radius` px of a mask (N, S, S); empty masks stay empty."""
    grown = np.zeros_like(masks)
    for place in np.flatnonzero(masks.any(axis=(1, 2))):
        grown[place] = distance_transform_edt(~masks[place]) <= radius
    return grown


def move_masks(masks: Masks, rng: np.random.Generator) -> Masks:
    """Put each mask where it covers least of itself, round the edges; of equally good places one at random.

    Args:
        masks: (N, S, S).
        rng: Breaks ties.

    Returns:
        (N, S, S): the same outlines elsewhere, without what would still cover the original.
    """
    moved = np.zeros_like(masks)
    for place, mask in enumerate(masks):
        spectrum = np.fft.rfft2(mask.astype(np.float64))
        overlap = np.rint(np.fft.irfft2(np.abs(spectrum) ** 2, s=mask.shape)).astype(np.int64)
        choices = np.flatnonzero(overlap == overlap.min())
        down, right = np.unravel_index(int(rng.choice(choices)), mask.shape)
        moved[place] = np.roll(mask, (int(down), int(right)), axis=(0, 1)) & ~mask
    return moved


def fill_regions(images: Images, holes: Masks) -> Images:
    """Fill holes with what surrounds them, smoothly, the nearer the more.

    Known pixels are averaged over ever larger squares (2, 4, 8 ... px), and each unknown pixel is taken
    from the smallest squares that know anything, blended from coarse to fine ("push-pull", Gortler et al.
    1996, The Lumigraph). Nothing of what was inside the hole is used.

    Args:
        images: uint8 (N, S, S, 3).
        holes: (N, S, S); a hole that covers all becomes mid-grey.
    """
    known: npt.NDArray[np.float32] = (~holes).astype(np.float32)[..., None]
    colours: npt.NDArray[np.float32] = images.astype(np.float32) * known
    filled = _pull(colours, known)
    return np.where(holes[..., None], np.clip(np.rint(filled), 0, 255).astype(np.uint8), images)


def _pull(colours: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Close the gaps of colours (N, H, W, 3), which are multiplied by weights (N, H, W, 1) in [0, 1]."""
    height, width = colours.shape[1:3]
    if height == 1 and width == 1:
        return np.where(weights > 0, colours / np.maximum(weights, 1e-6), np.float32(127))
    sums, seen = _halve(colours), _halve(weights)
    # A square that knows a quarter of its pixels counts as known; coarser ones fill what lies deeper.
    full = np.minimum(4 * seen, 1)
    coarse = _pull(np.asarray(sums / np.maximum(seen, 1e-6) * full, dtype=np.float32), full)
    return np.asarray(colours + (1 - weights) * _double(coarse, height, width))


def _halve(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average 2 x 2 squares; an odd edge is repeated."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2), (0, values.shape[2] % 2), (0, 0)), mode="edge")
    count, height, width, channels = even.shape
    return np.asarray(even.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4)))


def _double(values: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Enlarge twofold, linearly between the centres of pixels."""
    for axis, length in ((1, height), (2, width)):
        at = np.clip((np.arange(length) + 0.5) / 2 - 0.5, 0, values.shape[axis] - 1)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        share = (at - low).astype(np.float32).reshape((1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1))
        values = values.take(low, axis=axis) * (1 - share) + values.take(high, axis=axis) * share
    return values
