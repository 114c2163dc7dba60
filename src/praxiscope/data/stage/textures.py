"""Patterns on walls and floors, as brightness per surface point."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from praxiscope.data.stage.raycast import Plane

Pattern: TypeAlias = Literal["plain", "bricks", "stripes", "tiles", "planks", "checks", "mottled", "dots"]


class Noise:
    """Random numbers on a periodic grid of 64 x 64 cells, as they are and interpolated."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.cells: Plane = rng.random((64, 64), dtype=np.float32)
        padded = Image.fromarray(np.pad(self.cells, ((0, 1), (0, 1)), mode="wrap"))
        smooth = padded.resize((65 * 8, 65 * 8), Image.Resampling.BILINEAR)
        self._smooth: Plane = np.asarray(smooth)[4:516, 4:516].ravel()

    def smooth(self, u: Plane, v: Plane) -> Plane:
        """Look up interpolated values in [0, 1) at any coordinates, in cells."""
        i, j = (u * 8).astype(np.int32), (v * 8).astype(np.int32)
        return np.asarray(self._smooth[((i & 511) << 9) | (j & 511)])


def compute_texture(pattern: Pattern, u: Plane, v: Plane, noise: Noise) -> Plane:
    """Return brightness factors around 1 for surface coordinates in metres."""
    if pattern == "plain":
        return np.ones_like(u)
    if pattern == "mottled":
        return 0.8 + 0.25 * noise.smooth(u * 3, v * 3) + 0.15 * noise.smooth(u * 11, v * 11)
    if pattern == "dots":
        return np.where(((u * 3) % 1 - 0.5) ** 2 + ((v * 3) % 1 - 0.5) ** 2 < 0.06, 0.72, 1.0).astype(
            np.float32
        )
    if pattern == "stripes":
        return np.where(np.floor(u * 5) % 2 == 0, 1.0, 0.82).astype(np.float32)
    if pattern == "checks":
        return np.where((np.floor(u * 2.2) + np.floor(v * 2.2)) % 2 == 0, 1.0, 0.62).astype(np.float32)
    wide, high, shift = {"bricks": (0.26, 0.1, 0.5), "tiles": (0.4, 0.4, 0.0), "planks": (1.6, 0.16, 0.37)}[
        pattern
    ]
    row = np.floor(v / high)
    column = u / wide + row * shift
    cell = noise.cells[row.astype(np.int32) % 64, np.floor(column).astype(np.int32) % 64]
    seam = ((v / high) % 1 < 0.1) | (column % 1 < 0.1 * high / wide)
    return np.where(seam, np.float32(0.75), 0.88 + 0.24 * cell).astype(np.float32)
