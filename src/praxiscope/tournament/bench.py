"""What the phases of a bake-off share: its ledger and clock, one training, and who is out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.tournament.actions import Actions, ContestantFailed, Stage
from praxiscope.tournament.budget import BudgetClock, format_time
from praxiscope.tournament.ledger import Entry, Ledger
from praxiscope.tournament.plan import Costs, Rules


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where a bake-off is led from.

    Attributes:
        ledger: where decisions stand.
        clock: of the time box.
        actions: does the work.
        rules: what was asked for.
        contestants: names, in the order in which they were given.
        seed: of the halving; finalists get the numbers after it.
        mode: whether the monitored figure is better high or low.
        tell: told what happens.
    """

    ledger: Ledger
    clock: BudgetClock
    actions: Actions
    rules: Rules
    contestants: Sequence[str]
    seed: int
    mode: Literal["max", "min"]
    tell: Callable[[str], None]

    def say(self, text: str) -> None:
        """Tell something, with the time left."""
        left = self.rules.budget_s - self.clock.spent_s
        self.tell(f"[{format_time(left)} left] {text}")

    def train(
        self,
        name: str,
        costs: Costs,
        *,
        stage: Stage,
        seed: int,
        epochs: int,
        since: int = 0,
        then: Sequence[Costs],
    ) -> Entry | None:
        """Train a contestant unless that stands in the ledger.

        Args:
            name: the contestant.
            costs: as calibrated.
            stage: halving or finals.
            seed: of the training.
            epochs: done at its end.
            since: done before.
            then: whose runs are tested afterwards, at the least: so much time must be left.

        Returns:
            The line of the ledger; None where the contestant is out.

        Raises:
            OutOfTime: the time box is full.
        """
        known = self.ledger.find("trained", stage=stage, contestant=name, seed=seed, epochs=epochs)
        if known is not None or self.is_out(name):
            return known
        before, planned_s, rate = self.clock.spent_s, costs.train_s(epochs - since), self.rate

        def must_stop() -> bool:
            # A training that takes longer than planned says that the test will, too.
            live = (self.clock.spent_s - before) / planned_s
            closing_s = max(rate, live) * sum(each.test_s for each in then) + self.rules.verdict_s
            return self.clock.spent_s > self.rules.budget_s - closing_s

        try:
            trained = self.actions.train(name, stage=stage, seed=seed, epochs=epochs, must_stop=must_stop)
        except ContestantFailed as problem:
            self.put_out(name, stage, f"seed {seed}: {problem}" if stage == "finals" else str(problem))
            return None
        entry = self.ledger.append(
            "trained",
            stage=stage,
            contestant=name,
            seed=seed,
            epochs=epochs,
            **asdict(trained),
            planned_s=planned_s,
            took_s=self.clock.spent_s - before,
        )
        figure = "no finite figure" if trained.value is None else f"{trained.value:.4f}"
        self.say(f"{name}: {figure} at epoch {trained.best_epoch} of {epochs}")
        return entry

    @property
    def rate(self) -> float:
        """How many times the calibrated time trainings have taken so far, at least 1."""
        done = self.ledger.select("trained")
        planned = sum(entry["planned_s"] for entry in done)
        return max(1.0, sum(entry["took_s"] for entry in done) / planned) if planned else 1.0

    def count_closing(self, costs: Sequence[Costs]) -> float:
        """Return the seconds that testing one run of each of these takes, with verdict and report."""
        return self.rate * sum(each.test_s for each in costs) + self.rules.verdict_s

    def fits(self, seconds: float) -> bool:
        """Whether so much is left of the budget, by the ledger's last line."""
        return self.ledger.spent_s + seconds <= self.rules.budget_s

    def put_out(self, name: str, stage: str, reason: str) -> None:
        """Write down that a contestant is out, and why."""
        self.ledger.append("out", contestant=name, stage=stage, reason=reason)
        self.say(f"{name} is out: {reason}")

    def is_out(self, name: str) -> bool:
        """Whether a contestant has failed."""
        return self.ledger.find("out", contestant=name) is not None

    def nobody_left(self) -> UsageError:
        """Return the error of a bake-off in which all have failed."""
        out: Sequence[Mapping[str, object]] = self.ledger.select("out")
        reasons = "\n".join(f"  - {entry['contestant']}: {entry['reason']}" for entry in out)
        return UsageError(f"No contestant is left:\n{reasons}")

    def time_is_up(self, before: str) -> EnvironmentProblem:
        """Return the error of a time box that was full before there was anything to compare."""
        return EnvironmentProblem(
            f"The time box of {format_time(self.rules.budget_s)} was full before {before}: training took "
            f"{self.rate:.1f} x the calibrated time. What was trained is kept; start a new bake-off with a "
            "larger --budget, or when the machine has less else to do."
        )
