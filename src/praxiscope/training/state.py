"""What training changes besides weights and optimiser: small, plain, and saved with every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from praxiscope.recipe.schema import TrainSection
from praxiscope.stats.confusion import compute_scores
from praxiscope.training.schedule import Joint


@dataclass(kw_only=True)
class Tally:
    """Running figures of the epoch in progress, so that a resume in mid-epoch logs the same row.

    Attributes:
        confusion: int64 (K, K), rows true, columns predicted.
        loss_sum: sum of the samples' losses.
        top5_sum: samples whose target is among the five highest logits.
        seconds: time spent so far.
    """

    confusion: npt.NDArray[np.int64]
    loss_sum: float = 0.0
    top5_sum: int = 0
    seconds: float = 0.0

    @property
    def num_samples(self) -> int:
        """Samples seen so far."""
        return int(self.confusion.sum())

    def compute_row(self, prefix: str) -> dict[str, float]:
        """Return loss, top-1, top-5 and the averaged scores under ``prefix/``."""
        count = max(1, self.num_samples)
        scores = asdict(compute_scores(self.confusion))
        figures = {"loss": self.loss_sum / count, "top5": self.top5_sum / count} | scores
        return {f"{prefix}/{key}": float(value) for key, value in figures.items()}


@dataclass(kw_only=True)
class TrainState:
    """Where training stands.

    Attributes:
        tally: of the epoch in progress.
        epoch: epochs completed.
        batch: batches done of the epoch in progress.
        step: optimiser steps applied.
        best_value: best monitored figure so far, of epoch ``best_epoch`` (1-based; 0: none yet).
        plateau_factor: what the plateau schedule has reduced the learning rate by.
        plateau_epochs: epochs since it saw a better figure or reduced.
        skipped_steps: steps that mixed precision left out because a scaled gradient overflowed.
        train_s: seconds of training and validation in all sessions.
        scaler: the gradient scaler's state (fp16).
        plan: fingerprint of what the batches of the epoch in progress were cut from.
        stopped_early: early stopping has ended the run.
        lr: learning rate of the last step.
        planned_epochs: epochs that the learning rate is laid out for; 0 before a plan is adopted.
        joints: where that number was changed.
    """

    tally: Tally
    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_value: float | None = None
    best_epoch: int = 0
    plateau_factor: float = 1.0
    plateau_epochs: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    train_s: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)
    plan: str = ""
    stopped_early: bool = False
    lr: float = 0.0
    planned_epochs: int = 0
    joints: list[Joint] = field(default_factory=list)

    @classmethod
    def start(cls, num_classes: int) -> TrainState:
        """Return the state before the first step."""
        return cls(tally=Tally(confusion=np.zeros((num_classes, num_classes), np.int64)))

    def to_json(self) -> dict[str, Any]:
        """Return plain values only."""
        content = {key: value for key, value in vars(self).items() if key != "tally"}
        tally = dict(vars(self.tally))
        tally["confusion"] = self.tally.confusion.tolist()
        return content | {"tally": tally, "joints": [asdict(joint) for joint in self.joints]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainState:
        """Return what :meth:`to_json` described."""
        tally = dict(content["tally"])
        tally["confusion"] = np.array(tally["confusion"], np.int64)
        joints = [Joint(**joint) for joint in content.get("joints", [])]
        return cls(**{**content, "tally": Tally(**tally), "joints": joints})

    def adopt_plan(self, train: TrainSection) -> Joint | None:
        """Lay the rest of the run out for ``train.epochs``.

        Returns:
            The joint, where steps have been made under another plan; then a run that early stopping had ended
            goes on, and its patience counts from here.
        """
        before, self.planned_epochs = self.planned_epochs, train.epochs
        if before in {0, train.epochs} or self.step == 0:
            return None
        joint = Joint(
            step=self.step,
            epoch=self.epoch,
            from_epochs=before,
            to_epochs=train.epochs,
            lr=self.lr,
            rule=train.extend if train.schedule == "cosine" else "unaffected",
            warmup_epochs=train.extend_warmup_epochs,
        )
        self.joints.append(joint)
        self.stopped_early = False
        return joint

    def begin_epoch(self) -> None:
        """Close the epoch that was in progress."""
        self.epoch += 1
        self.restart_epoch()

    def restart_epoch(self) -> None:
        """Begin the epoch in progress again; steps that were made stay made."""
        self.batch = 0
        self.tally = Tally(confusion=np.zeros_like(self.tally.confusion))

    def is_better(self, value: float, mode: Literal["max", "min"]) -> bool:
        """Whether a monitored figure beats the best so far; NaN never does, a tie doesn't."""
        if value != value:  # noqa: PLR0124 - NaN
            return False
        if self.best_value is None:
            return True
        return value > self.best_value if mode == "max" else value < self.best_value
