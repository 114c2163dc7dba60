"""Two small trained runs on the same generated pictures, for tests of predicting and of cascades."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from class_folders import write_class_folders
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.train import train

NAMES = ("clap", "run", "wave")


@dataclass(frozen=True, kw_only=True)
class TrainedPair:
    """``data`` are class folders; ``small`` sees 32 px, ``large`` 48 px with mirror images averaged in."""

    data: Path
    small: RunDir
    large: RunDir


_TRAINED: list[TrainedPair] = []


def train_pair(root: Path) -> TrainedPair:
    """Train both for an epoch, and evaluate them on val and test; once in a process, wherever it is asked."""
    if not _TRAINED:
        _TRAINED.append(_train_both(root))
    return _TRAINED[0]


def _train_both(root: Path) -> TrainedPair:
    splits = {"train": 8, "val": 10, "test": 12}
    data = write_class_folders(root / "data", splits=splits, names=NAMES, size=120)
    runs = [
        _train(root, data, "small", {"model.img_size": 32, "seed": 1}),
        _train(root, data, "large", {"model.img_size": 48, "seed": 2, "evaluate.flip": True}),
    ]
    return TrainedPair(data=data, small=runs[0], large=runs[1])


def _train(root: Path, data: Path, name: str, overrides: dict[str, object]) -> RunDir:
    recipe = {
        "name": name,
        "model": {"name": "test_resnet"},
        "augment": "none",
        "train": {"epochs": 1, "batch_size": 12, "precision": "fp32", "warmup_epochs": 0, "lr": 0.01},
        "loader": {"workers": 0},
        "evaluate": {"resamples": 100, "batch_size": 16},
    }
    run = train(load_recipe(recipe, overrides), data=data, output=root / "runs", device="cpu")
    for split in ("val", "test"):
        evaluate(run, split=split, device="cpu")
    return run
