"""Images without their actor, on another background, and damaged as much without losing either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from praxiscope.explaining.measure.regions import fill_regions, grow_masks, move_masks
from praxiscope.explaining.measure.samples import Classes, Images, Masks

Fill = Literal["scene", "colour"]
MARGIN_SHARE = 0.03
"""By how much of the side the actor's hole is grown, so that no rim of the actor stays."""
TITLES = {
    "whole": "whole image",
    "no_actor": "actor masked out",
    "damaged": "same hole elsewhere (control)",
    "other": "background masked out",
    "alike": "background of a sample with the same answer (control)",
}
"""The conditions; which they are is said in :mod:`praxiscope.explaining.measure.reliance`."""
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Images with masks and what each is paired with."""

    images: Images
    masks: Masks
    other: Rows
    """(N,), any other sample."""
    alike: Rows
    """(N,), another sample with the same answer; -1 where there is none."""
    fill: Fill
    colour: npt.NDArray[np.uint8]
    """(3,), mean of the images."""

    @property
    def usable(self) -> Rows:
        """Rows that can be shown under every condition."""
        return np.arange(len(self.images)) if self.fill == "colour" else np.flatnonzero(self.alike >= 0)


def pair_scenes(
    images: Images, masks: Masks, answers: Classes, *, fill: Fill, rng: np.random.Generator
) -> Scenes:
    """Draw a partner of any kind and one with the same answer for each of N >= 2 images.

    Args:
        images: uint8 (N, S, S, 3).
        masks: (N, S, S), none empty and none full.
        answers: (N,), the network's on these images.
        fill: As ``measure_reliance``.
        rng: Draws partners.
    """
    count = len(images)
    other = (np.arange(count) + rng.integers(1, count, size=count)) % count
    alike = np.full(count, -1, dtype=np.int64)
    for answer in np.unique(answers):
        same = rng.permutation(np.flatnonzero(answers == answer))
        if len(same) > 1:  # a ring in random order: nobody is its own partner
            alike[same] = np.roll(same, 1)
    colour = images.mean(axis=(0, 1, 2)).round().astype(np.uint8)
    return Scenes(images=images, masks=masks, other=other, alike=alike, fill=fill, colour=colour)


def show_scenes(scenes: Scenes, rows: Rows, rng: np.random.Generator) -> dict[str, Images]:
    """Change images in every way but ``whole``.

    Args:
        scenes: From :func:`pair_scenes`.
        rows: Which of them, all usable.
        rng: Places the hole of the control.

    Returns:
        Condition -> uint8 (len(rows), S, S, 3).
    """
    images = scenes.images[rows]
    holes = grow_masks(scenes.masks[rows], images.shape[1] * MARGIN_SHARE)
    elsewhere = move_masks(holes, rng)
    if scenes.fill == "colour":
        return {
            "no_actor": np.where(holes[..., None], scenes.colour, images),
            "damaged": np.where(elsewhere[..., None], scenes.colour, images),
            "other": np.where(scenes.masks[rows][..., None], images, scenes.colour),
            "alike": images,
        }
    return {
        "no_actor": fill_regions(images, holes),
        "damaged": fill_regions(images, elsewhere),
        "other": _paste(scenes, rows, scenes.other[rows]),
        "alike": _paste(scenes, rows, scenes.alike[rows]),
    }


def _paste(scenes: Scenes, rows: Rows, partners: Rows) -> Images:
    """Put the actors of `rows` on the backgrounds of `partners`, whose own actors are filled."""
    images, masks = scenes.images[partners], scenes.masks[partners]
    behind = fill_regions(images, grow_masks(masks, images.shape[1] * MARGIN_SHARE))
    return np.where(scenes.masks[rows][..., None], scenes.images[rows], behind)
