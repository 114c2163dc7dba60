"""How a front end follows training. The loop speaks to this; it never prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands after a step.

    Attributes:
        epoch: 1-based, of ``epochs``.
        batch: batches done of ``batches`` in this epoch.
        step: optimiser steps done in all.
        loss: mean of the epoch so far.
        lr: learning rate of the step.
        images_per_s: over this session's part of the epoch.
        eta_s: seconds to the end of the run at that speed, validation not counted; None at the start.
        best: best monitored figure so far.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    step: int
    loss: float
    lr: float
    images_per_s: float
    eta_s: float | None
    best: float | None


class Watcher(Protocol):
    """Follows a run."""

    def note(self, text: str) -> None:
        """Something that a reader of the log should know."""

    def step(self, progress: Progress) -> None:
        """An optimiser step is done."""

    def phase(self, text: str, done: int, total: int) -> None:
        """Something else is under way: checking files, validating."""

    def epoch(self, row: Mapping[str, float | int]) -> None:
        """An epoch is validated and logged."""


class Silent:
    """Follows a run without a word; the default of the Python API."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def step(self, progress: Progress) -> None:
        """Say nothing."""

    def phase(self, text: str, done: int, total: int) -> None:
        """Say nothing."""

    def epoch(self, row: Mapping[str, float | int]) -> None:
        """Say nothing."""
