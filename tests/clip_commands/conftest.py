"""Clips of generated performers, as folders of frames and as a video; a run with one head, one with two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

import praxiscope as px
from praxiscope.data.stage.dataset import StageSpec, write_stage_clips
from praxiscope.prediction.video_writer import VideoWriter
from praxiscope.runs.rundir import RunDir

T, RATE = 4, 10


@dataclass(frozen=True)
class ClipRuns:
    """What the tests share."""

    root: Path
    video: Path
    one: RunDir
    two: RunDir


def write_film(path: Path, folders: list[Path]) -> Path:
    """Write the frames of folders one after the other as a video of 10 frames a second."""
    frames = [Image.open(frame) for folder in folders for frame in sorted(folder.glob("*.jpg"))]
    film = VideoWriter(path, frames[0].size)
    for number, frame in enumerate(frames):
        film.write(frame, number / RATE)
    film.close()
    return path


def train(root: Path, runs: Path, name: str, **changes) -> RunDir:
    small = {
        "name": name, "model.name": "test_resnet", "model.img_size": 32, "model.num_frames": T,
        "train.epochs": 1, "train.warmup_epochs": 0, "train.batch_size": 4, "evaluate.resamples": 100, "train.precision": "fp32",
        "loader.workers": 0,
    }  # fmt: skip
    run = px.train(px.load_recipe("demo-cnn", {**small, **changes}), data=root, output=runs)
    px.evaluate(run)
    return run


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> ClipRuns:
    folder = tmp_path_factory.mktemp("clip-commands")
    spec = StageSpec(
        size=32, actions=("sit_down", "stand_up"), train_per_action=4, val_per_action=2, test_per_action=3,
        num_frames=8,
    )  # fmt: skip
    root = write_stage_clips(folder / "stage", spec)
    films = folder / "films"
    rows = ["path,split,verb,noun"]
    for number, clip in enumerate(sorted(frame.parent for frame in root.glob("[tv]*/*/*/*01.jpg"))):
        split = clip.parent.parent.name
        (films / split).mkdir(parents=True, exist_ok=True)
        film = write_film(films / split / f"{clip.name}-{number}.mp4", [clip])
        rows.append(f"{film.relative_to(films).as_posix()},{split},{clip.parent.name},{'ab'[number % 2]}")
    (films / "two.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    two = {
        "data.source": "csv", "data.csv": "two.csv", "data.heads": {"verb": "verb", "noun": "noun"},
        "train.monitor": "val/verb_top1", "clip.num_clips": 2,
        "train.histogram_every_epochs": 1,
    }  # fmt: skip
    tests = sorted((root / "test").glob("*/*"))
    return ClipRuns(
        root=root,
        video=write_film(folder / "long.mp4", tests),
        one=train(root, folder / "runs", "one", **{"model.temporal": "gru"}),
        two=train(films, folder / "runs", "two", **{"model.temporal": "attention"}, **two),
    )
