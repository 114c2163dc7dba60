"""Draw the picture of the README: ``python docs/images/draw.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from praxiscope.data.stage.dataset import StageSpec, plan_samples
from praxiscope.data.stage.scene import render_image

COLUMNS = 8
SIZE = 120


def main() -> None:
    """Write ``stage.jpg``: two performers' frames of each action that a still can show."""
    spec = StageSpec(seed=4, size=SIZE, train_per_action=1, val_per_action=0, test_per_action=0)
    samples = plan_samples(spec, "images")
    frames = [render_image(sample.scene(spec), size=SIZE).image for sample in samples]
    rows = [np.concatenate(frames[i : i + COLUMNS], axis=1) for i in range(0, len(frames), COLUMNS)]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.save(Path(__file__).with_name("stage.jpg"), quality=88, optimize=True)


if __name__ == "__main__":
    main()
