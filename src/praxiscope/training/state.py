"""What training changes besides weights and optimiser: small, plain, and saved with every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from praxiscope.recipe.schema import TrainSection
from praxiscope.stats.confusion import compute_scores
from praxiscope.tensors import Heads
from praxiscope.training.schedule import Joint


@dataclass(kw_only=True)
class Tally:
    """Running figures of the epoch in progress, so that a resume in mid-epoch logs the same row.

    Attributes:
        confusions: int64 (K, K) of each head, rows true, columns predicted.
        loss_sum: sum of the samples' losses.
        top5_sums: of each head, samples whose target is among the five highest logits.
        joint_sums: samples right in all heads at once, and with their targets among the five best joint
            answers; empty with one head.
        seconds: time spent so far.
    """

    confusions: list[npt.NDArray[np.int64]]
    loss_sum: float = 0.0
    top5_sums: list[int] = field(default_factory=list)
    joint_sums: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_samples(self) -> int:
        """Samples seen so far."""
        return int(self.confusions[0].sum())

    @classmethod
    def start(cls, sizes: Sequence[int]) -> Self:
        """Return zeros for heads of these sizes."""
        confusions = [np.zeros((size, size), np.int64) for size in sizes]
        return cls(
            confusions=confusions, top5_sums=[0] * len(sizes), joint_sums=[0, 0] if len(sizes) > 1 else []
        )

    def compute_row(self, prefix: str, heads: Heads) -> dict[str, float]:
        """Return loss, top-1, top-5 and the averaged scores under ``prefix/``.

        Of several heads, each head's scores are ``prefix/<head>_...``, and top-1 and top-5 those of the joint
        answer.
        """
        count = max(1, self.num_samples)
        figures = {"loss": self.loss_sum / count}
        for head, confusion, top5 in zip(heads.names, self.confusions, self.top5_sums, strict=True):
            start = f"{head}_" if self.joint_sums else ""
            scores = {"top5": top5 / count, **asdict(compute_scores(confusion))}
            figures |= {f"{start}{key}": value for key, value in scores.items()}
        if self.joint_sums:
            figures |= {"top1": self.joint_sums[0] / count, "top5": self.joint_sums[1] / count}
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
    def start(cls, *sizes: int) -> TrainState:
        """Return the state before the first step, of heads with so many classes."""
        return cls(tally=Tally.start(sizes))

    def to_json(self) -> dict[str, Any]:
        """Return plain values only."""
        content = {key: value for key, value in vars(self).items() if key != "tally"}
        tally = dict(vars(self.tally))
        tally["confusions"] = [each.tolist() for each in self.tally.confusions]
        return content | {"tally": tally, "joints": [asdict(joint) for joint in self.joints]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainState:
        """Return what :meth:`to_json` described."""
        tally = dict(content["tally"])
        if "confusion" in tally:  # written when there was one head only
            tally["confusions"], tally["top5_sums"] = [tally.pop("confusion")], [tally.pop("top5_sum")]
        tally["confusions"] = [np.array(each, np.int64) for each in tally["confusions"]]
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
        self.tally = Tally.start([len(each) for each in self.tally.confusions])

    def is_better(self, value: float, mode: Literal["max", "min"]) -> bool:
        """Whether a monitored figure beats the best so far; NaN never does, a tie doesn't."""
        if value != value:  # noqa: PLR0124 - NaN
            return False
        if self.best_value is None:
            return True
        return value > self.best_value if mode == "max" else value < self.best_value
