"""A clip run with two heads on the stage."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

import praxiscope as px
from praxiscope.data.stage.dataset import StageSpec, write_stage_clips
from praxiscope.runs.rundir import RunDir

ACTIONS = ("pick_up", "put_down", "sit_down", "stand_up")
FRAMES = 4


@dataclass(frozen=True)
class Stage:
    root: Path
    settings: dict


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """Clips of the stage with a table of verbs, an invented noun, and performers."""
    spec = StageSpec(
        size=24, actions=ACTIONS, train_per_action=6, val_per_action=3, test_per_action=5, num_frames=6,
        test_performers=4,
    )  # fmt: skip
    root = write_stage_clips(tmp_path_factory.mktemp("heads") / "stage", spec)
    rows = list(csv.DictReader((root / "stage.csv").read_text(encoding="utf-8").splitlines()))
    lines = ["path,split,verb,noun,performer"]
    lines += [
        f"{row['path']},{row['split']},{row['verb']},{'left' if place % 2 else 'right'},{row['performer']}"
        for place, row in enumerate(rows)
    ]
    (root / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "data.source": "csv", "data.csv": "clips.csv", "data.heads": {"verb": "verb", "noun": "noun"},
        "data.columns": {"group": "performer"},
    }  # fmt: skip
    return Stage(root, settings)


def train_heads(stage, folder, **changes) -> RunDir:
    """Train a tiny clip network with two heads."""
    small = {
        "model.name": "resnet18-small-half", "model.img_size": 16, "model.num_frames": FRAMES,
        "train.epochs": 2, "train.batch_size": 8, "evaluate.resamples": 100, "train.precision": "fp32",
        "loader.workers": 0,
    }  # fmt: skip
    recipe = px.load_recipe("demo-cnn", {**small, **stage.settings, **changes})
    return px.train(recipe, data=stage.root, output=folder)


@pytest.fixture(scope="session")
def run(stage, tmp_path_factory) -> RunDir:
    """A trained and evaluated run of two heads with a mean of frames, with its temporal reliance."""
    made = train_heads(stage, tmp_path_factory.mktemp("runs"))
    px.evaluate(made, temporal=True)
    return made
