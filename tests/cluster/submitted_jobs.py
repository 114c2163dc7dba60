"""Small trainings to submit, and what is compared of them."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import Any

from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Progress, Silent

_TIMED = frozenset({"images_per_s", "epoch_s", "peak_memory_mib"})


def build_recipe(**changes: Any) -> Recipe:
    """A network that trains in seconds, whose augmentation and dropout a wrong resume would show."""
    return load_recipe(
        {
            "name": "tiny",
            "seed": 3,
            "model": {"name": "test_resnet", "img_size": 32, "drop_rate": 0.2},
            "augment": {"crop_scale": [0.5, 1.0], "color_jitter": 0.2},
            "train": {"epochs": 40, "batch_size": 6, "precision": "fp32", "lr": 3e-3},
            "loader": {"workers": 0},
            "evaluate": {"resamples": 100},
        },
        {key.replace("__", "."): value for key, value in changes.items()},
    )


def write_recipe(path: Path, **changes: Any) -> Path:
    path.write_text(dump_recipe(build_recipe(**changes)), encoding="utf-8")
    return path


def digest(run: RunDir) -> dict[str, Any]:
    """Return the sha256 of the last weights and optimiser state, and every figure that isn't a time."""
    last = max((run.checkpoints).glob("step-*"))
    files = ("model.safetensors", "optimizer.safetensors")
    return {
        "step": last.name,
        **{name: hashlib.sha256((last / name).read_bytes()).hexdigest() for name in files},
        "rows": [{k: v for k, v in row.items() if k not in _TIMED} for row in run.read_metrics()],
        "best": run.read_run_json()["best"],
    }


class StoppingAt(Silent):
    """Sends this process SIGTERM after an optimiser step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def step(self, progress: Progress) -> None:
        if progress.step == self._step:
            signal.raise_signal(signal.SIGTERM)
