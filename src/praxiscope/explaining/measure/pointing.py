"""Where maps point, held against masks of the actor, and against what chance would give.

* Pointing game (Zhang et al. 2016, https://arxiv.org/abs/1608.00507): a hit where the largest value lies in
  the mask
  or near it. There the tolerance is 15 px of 224; here it grows with the image.
* Energy (Wang et al. 2020, Score-CAM, https://arxiv.org/abs/1910.01279): share of the map's mass inside the
  mask.

Both say where the network and the method look together. A network that goes by the background is explained
**well** by a map that misses the actor, so neither decides which method is to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from praxiscope.explaining.measure.regions import grow_masks
from praxiscope.explaining.measure.samples import Maps, Masks

TOLERANCE_SHARE = 15 / 224
"""Tolerance of the pointing game as a share of the image's side."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The masks, and what pointing without looking would give; all (N,) in [0, 1]."""

    masks: Masks
    near: Masks
    """Masks grown by the tolerance."""
    area: FloatArray
    """Share of the image inside the mask: the energy of a map that says the same everywhere."""
    chance: FloatArray
    """Share inside the grown mask: hits of a random point."""
    centre: FloatArray
    """Hits of the image's centre, where actors like to stand."""


def prepare_targets(masks: Masks) -> Targets:
    """Grow masks (N, S, S) by the tolerance, and compute what chance gives."""
    side = masks.shape[1]
    near = grow_masks(masks, side * TOLERANCE_SHARE)
    middle = slice((side - 1) // 2, side // 2 + 1)
    return Targets(
        masks=masks,
        near=near,
        area=masks.mean(axis=(1, 2)),
        chance=near.mean(axis=(1, 2)),
        centre=near[:, middle, middle].mean(axis=(1, 2)),
    )


def score_pointing(maps: Maps, near: Masks) -> FloatArray:
    """Return (N,) shares of each map's largest values that lie in the grown mask.

    One largest value gives 0 or 1. Several equal ones are averaged, so that a constant map gets the mask's
    share of the image, not what its first pixel happens to hit.
    """
    largest = maps == maps.max(axis=(1, 2), keepdims=True)
    return np.asarray((largest & near).sum(axis=(1, 2)) / largest.sum(axis=(1, 2)))


def score_energy(maps: Maps, masks: Masks) -> FloatArray:
    """Return (N,) shares of each map's positive mass inside the mask.

    Evidence against the class (below 0) doesn't count. Where all is above 0 the least value is taken off,
    as an offset says nothing about places. A map without any mass gets the mask's share of the image.
    """
    mass = np.maximum(maps.astype(np.float64), 0)
    mass -= mass.min(axis=(1, 2), keepdims=True)
    total = mass.sum(axis=(1, 2))
    inside = (mass * masks).sum(axis=(1, 2))
    return np.asarray(np.divide(inside, total, out=masks.mean(axis=(1, 2)), where=total > 0))
