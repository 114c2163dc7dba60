"""Images to profile on where a model comes without data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

GENERATED_SIZE = (640, 480)
"""Width and height in pixels."""


def write_pictures(folder: Path, count: int, *, seed: int = 0) -> tuple[str, ...]:
    """Write JPEGs whose content costs a decoder about what a photograph does: soft shapes and fine grain.

    Args:
        folder: gets ``generated-<n>.jpg``.
        count: how many.
        seed: draws them.

    Returns:
        Their names.
    """
    rng = np.random.default_rng(seed)
    names = tuple(f"generated-{index:03d}.jpg" for index in range(count))
    for name in names:
        soft = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(soft.resize(GENERATED_SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
        grain = rng.normal(0.0, 8.0, pixels.shape).astype(np.float32)
        picture = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
        picture.save(folder / name, quality=90)
    return names
