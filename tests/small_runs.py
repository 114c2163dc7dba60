"""A run that trains in seconds, for tests of what comes after training."""

from __future__ import annotations

from pathlib import Path

from praxiscope.recipe.load import load_recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.train import train


def train_small(data: Path, runs: Path, *, name: str = "tiny", model: str = "test_resnet") -> RunDir:
    """Train a small network for two epochs on generated images and evaluate it on the test split."""
    recipe = load_recipe(
        {
            "name": name,
            "seed": 3,
            "model": {"name": model, "img_size": 32},
            "train": {"epochs": 2, "batch_size": 12, "precision": "fp32", "lr": 3e-3, "warmup_epochs": 0},
            "loader": {"workers": 0},
            "evaluate": {"resamples": 100},
        }
    )
    run = train(recipe, data=data, output=runs)
    evaluate(run)
    return run
