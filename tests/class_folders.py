"""Generated folders of labelled pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_class_folders(
    root: Path, *, splits: dict[str, int], names: tuple[str, ...], size: int = 40
) -> Path:
    """Write class folders of noisy JPEGs whose colour tells the class.

    Args:
        root: gets ``<split>/<class>/<n>.jpg``; an empty split name leaves that level out.
        splits: split -> images of each class.
        names: class names.
        size: side in pixels.
    """
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        for place, name in enumerate(names):
            folder = root / split / name if split else root / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (size, size, 3))
                pixels[:, :, place % 3] = pixels[:, :, place % 3] // 4 + 48 * (place // 3 + 1)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:03d}.jpg", quality=90)
    return root
