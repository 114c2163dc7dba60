"""Models with invented answers, as predictions files, run folders and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from praxiscope.data.manifest import Manifest, build_table, write_manifest
from praxiscope.evaluation.predictions import (
    HeadOutputs,
    PredictionsInfo,
    build_predictions,
    write_predictions,
)
from praxiscope.runs.rundir import RunDir

NAMES = ("clap", "run", "texting", "walk")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a model answers: its logits follow from the skill and two seeds."""

    skill: float = 2.0
    noise_seed: int = 0
    """Noise of its own; what all models share comes from the samples."""
    n: int = 240
    names: tuple[str, ...] = NAMES
    recipe: str = "model-a"
    group_size: int = 1
    """Samples of a group, which share their noise; 1 for no groups."""
    split: str = "test"
    start: int = 0
    """Number of the first sample."""

    def targets(self) -> np.ndarray:
        """Return (N,) places in NAMES, whatever the order of the model's own names."""
        return np.arange(self.start, self.start + self.n) % len(NAMES)

    def logits(self) -> np.ndarray:
        """Return (N, K) logits in the order of NAMES."""
        rows = np.arange(self.start, self.start + self.n)
        shared = np.stack([np.random.default_rng([7, row]).normal(0, 1, len(NAMES)) for row in rows])
        groups = rows // self.group_size
        own = np.stack(
            [np.random.default_rng([self.noise_seed, 1, group]).normal(0, 1, len(NAMES)) for group in groups]
        )
        logits = shared + own
        logits[np.arange(self.n), self.targets()] += self.skill
        return logits

    def sample_ids(self) -> list[str]:
        """Return N ids."""
        return [
            f"test/{NAMES[row % len(NAMES)]}/{row:05d}.jpg" for row in range(self.start, self.start + self.n)
        ]

    def groups(self) -> list[str | None]:
        """Return N groups."""
        rows = range(self.start, self.start + self.n)
        return [None if self.group_size == 1 else f"g{row // self.group_size}" for row in rows]

    def predictions(self):
        """Return the predictions table, labels in the order of the model's own names."""
        order = [NAMES.index(name) for name in self.names]
        place = {name: index for index, name in enumerate(self.names)}
        targets = np.array([place[NAMES[target]] for target in self.targets()])
        info = PredictionsInfo(
            heads={"action": self.names},
            weights_sha256=f"{self.noise_seed:064x}",
            manifest_fingerprint="ff" * 32,
            recipe_name=self.recipe,
            created="2026-01-01T00:00:00+00:00",
        )
        return build_predictions(
            info,
            sample_ids=self.sample_ids(),
            splits=self.split,
            outputs={"action": HeadOutputs(targets=targets, logits=self.logits()[:, order])},
            groups=self.groups(),
            clean=np.arange(self.n) % 12 != 5,
        )

    def write(self, path: Path) -> Path:
        """Write a predictions file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(self.predictions(), path)
        return path

    def write_run(self, root: Path, *, seed: int = 0, epochs: int = 3, split: str = "test") -> RunDir:
        """Write a run folder: recipe, manifest, predictions."""
        run = RunDir.create(root, self.recipe)
        run.recipe.write_text(
            f"name: {self.recipe}\nseed: {seed}\ntrain:\n  epochs: {epochs}\n", encoding="utf-8"
        )
        rows = [
            {"sample_id": sample_id, "path": sample_id, "split": "test", "action": sample_id.split("/")[1],
             "sha256": f"{index:064x}"}
            for index, sample_id in enumerate(self.sample_ids())
        ]  # fmt: skip
        # Each seed cuts its own validation split from the same samples.
        rows += [
            {"sample_id": f"train/run/{index}.jpg", "path": f"train/run/{index}.jpg",
             "split": "val" if index % 5 == seed % 5 else "train", "action": "run", "sha256": f"{index:063x}a"}
            for index in range(20)
        ]  # fmt: skip
        manifest = Manifest(
            table=build_table(rows, ["action"]),
            root=root,
            heads={"action": tuple(sorted(NAMES))},
            source="folder",
            findings=(),
        )
        write_manifest(manifest, run.manifest)
        write_predictions(self.predictions(), run.predictions(split))
        return run


def write_csv(path: Path, header: str, rows: list[str]) -> Path:
    """Write a table as text."""
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def write_answers(path: Path, model: Model, *, probabilities: bool = False) -> Path:
    """Write a model's answers as another tool's table."""
    logits = model.logits()
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = [NAMES[target] for target in model.targets()]
    if probabilities:
        header = "image,label," + ",".join(f"prob_{name}" for name in NAMES)
        rows = [
            f"{one},{true}," + ",".join(f"{value:.9f}" for value in row)
            for one, true, row in zip(model.sample_ids(), truth, probs, strict=True)
        ]
    else:
        header = "sample_id,target,prediction"
        rows = [
            f"{one},{true},{NAMES[row.argmax()]}"
            for one, true, row in zip(model.sample_ids(), truth, probs, strict=True)
        ]
    # In an order of its own: rows are aligned by id.
    return write_csv(path, header, rows[::-1])
