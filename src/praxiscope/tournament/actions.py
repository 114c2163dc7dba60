"""What a bake-off has done for it: calibrate, train, test, compare. The real thing is in ``workflows``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from praxiscope.errors import PraxiscopeError
from praxiscope.tournament.plan import Costs

Stage = Literal["rungs", "finals"]


class ContestantFailed(PraxiscopeError):
    """A contestant can't go on: it diverged, can't be built, ran out of memory. The others go on."""


class OutOfTime(PraxiscopeError):
    """A training was ended because the time box is full."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training left behind.

    Attributes:
        run: the run's folder, a posix path relative to the bake-off's.
        value: best monitored figure of all its epochs; None where none was finite.
        best_epoch: of that figure, 1-based; 0 where there is none.
        val_loss: of that epoch; decides between equals.
        curve: the monitored figure of each epoch.
    """

    run: str
    value: float | None
    best_epoch: int
    val_loss: float | None
    curve: tuple[float | None, ...]


class Actions(Protocol):
    """Does the work of a bake-off."""

    def calibrate(self, contestant: str, *, must_stop: Callable[[], bool]) -> Costs:
        """Measure what a contestant costs.

        Raises:
            ContestantFailed: it can't take part.
            OutOfTime: ``must_stop`` said so.
        """

    def train(
        self, contestant: str, *, stage: Stage, seed: int, epochs: int, must_stop: Callable[[], bool]
    ) -> Trained:
        """Train until so many epochs are done in all, going on with the run where there is one.

        Raises:
            ContestantFailed: it can't go on.
            OutOfTime: ``must_stop`` said so.
        """

    def test(self, run: str) -> Mapping[str, Any]:
        """Evaluate a run on the test split, or read what that gave; return its figures."""

    def compare(self, runs: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
        """Compare the finalists' runs on the test split; return ``verdict`` and ``folder``."""
