"""Pictures of several kinds for the tests of packs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from praxiscope.data.build import build_manifest
from praxiscope.data.manifest import Manifest
from praxiscope.recipe.schema import DataSection


def draw(seed: int, size: tuple[int, int]) -> Image.Image:
    """A smooth RGB picture with a little grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8))


def write_mixed_folder(root: Path) -> Path:
    """JPEG large and small, grey, CMYK, turned by EXIF; PNG with alpha; 16-bit PNG; in two classes."""
    for split in ("train", "test"):
        for name in ("run", "walk"):
            (root / split / name).mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    draw(0, (150, 90)).save(root / "train/run/large.jpg", quality=92)
    draw(1, (700, 500)).save(root / "train/run/huge.jpg", quality=92)  # decoded at half scale
    draw(2, (40, 55)).save(root / "train/run/small.jpg", quality=92)
    draw(3, (120, 80)).convert("L").save(root / "train/walk/grey.jpg", quality=92)
    draw(4, (120, 81)).convert("CMYK").save(root / "train/walk/cmyk.jpg", quality=92)
    draw(5, (120, 80)).save(root / "train/walk/turned.jpg", quality=92, exif=turned)
    draw(6, (100, 100)).convert("RGBA").save(root / "test/run/alpha.png")
    grey = np.asarray(draw(7, (90, 130)).convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(root / "test/run/deep.png")
    draw(8, (64, 64)).save(root / "test/walk/exact.png")
    shutil.copy(root / "test/walk/exact.png", root / "test/walk/again.png")  # the same content twice
    return root


def read_folder(root: Path, **section: object) -> Manifest:
    return build_manifest(root, DataSection(val_fraction=0.0, **section), seed=0)
