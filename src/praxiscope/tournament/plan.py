"""How a time box is laid out: rungs of successive halving, then seeds for the finalists.

Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization", with
epochs as the resource: after each rung the better half goes on, to about twice as many epochs. The finalists
are then trained anew, each from several seeds that had no part in choosing them.

Everything here is a function of the calibrated costs and the budget, so a plan is the same whenever it is
made from the same ledger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from praxiscope.errors import UsageError
from praxiscope.tournament.budget import format_time

PLANNED_SHARE = 0.9
"""Share of the budget that a plan fills. A calibration of a few batches tells an epoch's time to within some
per cent; what is over at the end is not lost on anybody, what is missing costs seeds."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one contestant takes, measured.

    Attributes:
        session_s: seconds that each call of training takes besides epochs: reading the data's state, building
            the network, drawing the curves.
        epoch_s: seconds of an epoch with its validation and its checkpoint.
        test_s: seconds of an evaluation on the test split.
    """

    session_s: float
    epoch_s: float
    test_s: float

    def train_s(self, epochs: int) -> float:
        """Seconds of a session of so many epochs."""
        return self.session_s + epochs * self.epoch_s


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One round of the halving.

    Attributes:
        epochs: that each contestant has been trained for at its end.
        enter: contestants that begin it.
        keep: that go on.
    """

    epochs: int
    enter: int
    keep: int


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the user asked for.

    Attributes:
        budget_s: the time box in seconds.
        finalists: contestants that get several seeds, at least 1.
        seeds: of each finalist, at least 1.
        max_epochs: that no training exceeds.
        verdict_s: seconds kept for comparison and report.
    """

    budget_s: float
    finalists: int
    seeds: int
    max_epochs: int
    verdict_s: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is settled before the first rung.

    Attributes:
        rungs: of the halving, in order; none where there are no more contestants than finalists.
        finalists: contestants that get several seeds.
        seeds: of each finalist.
        epochs: of each finalist's trainings.
        planned_s: seconds of all this, if the costliest contestants get furthest.
    """

    rungs: tuple[Rung, ...]
    finalists: int
    seeds: int
    epochs: int
    planned_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the ledger."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Plan:
        """Return what :meth:`to_dict` described."""
        names = ("finalists", "seeds", "epochs", "planned_s")
        rungs = tuple(Rung(**rung) for rung in content["rungs"])
        return cls(rungs=rungs, **{name: content[name] for name in names})


def make_plan(costs: Sequence[Costs], rules: Rules, *, spent_s: float) -> Plan:
    """Lay out the largest bake-off that the time box holds.

    As many seeds as asked for, and then as many epochs as fit; fewer seeds only where not even the shortest
    halving fits beside them.

    Args:
        costs: of each contestant that can take part.
        rules: what was asked for.
        spent_s: seconds spent already, on calibration.

    Raises:
        UsageError: the budget doesn't hold the shortest bake-off of these contestants, or ``max_epochs``
            leaves no room for the rungs; names the smallest that do.
    """
    shape = _halvings(len(costs), rules.finalists)
    shortest = 2 ** len(shape)
    if rules.max_epochs < shortest:
        raise UsageError(
            f"--max-epochs {rules.max_epochs}: {len(costs)} models are halved {len(shape)} times, each time "
            f"after twice as many epochs, so at least {shortest} are needed. Or name fewer models."
        )
    limit = PLANNED_SHARE * rules.budget_s - spent_s
    for seeds in range(rules.seeds, 0, -1):
        fitting = find_largest(
            lambda epochs, seeds=seeds: _count_plan(shape, costs, rules, seeds, epochs) <= limit,  # type: ignore[misc]
            shortest,
            rules.max_epochs,
        )
        if fitting is not None:
            return _lay_out(shape, costs, rules, seeds, fitting)
    needed = (spent_s + _count_plan(shape, costs, rules, 1, shortest)) / PLANNED_SHARE
    raise UsageError(describe_shortage(rules.budget_s, needed, len(costs)))


def describe_shortage(budget_s: float, needed_s: float, contestants: int) -> str:
    """Return the message of a budget that is too small."""
    smallest = f"{math.ceil(needed_s / 60)}m" if needed_s > 120 else f"{math.ceil(needed_s / 5) * 5}s"
    return (
        f"--budget: {format_time(budget_s)} are too short for {contestants} models on this data and machine. "
        f"The smallest that holds every rung, one seed and the test is about --budget {smallest}; fewer "
        "models, smaller images (--set model.img_size=PX) or fewer of them (--set data.train_per_class=N) "
        "need less."
    )


def settle_final(plan: Plan, costs: Sequence[Costs], rules: Rules, *, spent_s: float) -> tuple[int, int]:
    """Return seeds and epochs of the finalists, now that it is known who they are.

    The plan had to assume that the costliest get furthest. What cheaper ones leave over goes into seeds, then
    into epochs.

    Args:
        plan: made before.
        costs: of the finalists.
        rules: what was asked for.
        spent_s: seconds of calibration and, *as calibrated*, of the rungs. Not as measured: then a process
            that was killed would plan differently from one that wasn't.
    """
    left = PLANNED_SHARE * rules.budget_s - spent_s - rules.verdict_s
    for seeds in range(rules.seeds, plan.seeds - 1, -1):
        fitting = find_largest(
            lambda epochs, seeds=seeds: _count_final(costs, seeds, epochs) <= left,  # type: ignore[misc]
            plan.epochs,
            rules.max_epochs,
        )
        if fitting is not None:
            return seeds, fitting
    return plan.seeds, plan.epochs


def count_round(costs: Sequence[Costs], epochs: int) -> float:
    """Return the seconds that one seed of each finalist takes, its test included."""
    return sum(each.train_s(epochs) + each.test_s for each in costs)


def _halvings(contestants: int, finalists: int) -> tuple[tuple[int, int], ...]:
    """Return (enter, keep) of each rung.

    >>> _halvings(7, 2)
    ((7, 4), (4, 2))
    """
    shape = []
    while contestants > finalists:
        keep = max(finalists, math.ceil(contestants / 2))
        shape.append((contestants, keep))
        contestants = keep
    return tuple(shape)


def _rung_epochs(number: int, rungs: int, epochs: int) -> int:
    """Return the epochs at the end of a rung (from 0): a half of the final's at the last, and so on down."""
    return epochs >> (rungs - number)


def _lay_out(
    shape: tuple[tuple[int, int], ...], costs: Sequence[Costs], rules: Rules, seeds: int, epochs: int
) -> Plan:
    rungs = tuple(
        Rung(epochs=_rung_epochs(number, len(shape), epochs), enter=enter, keep=keep)
        for number, (enter, keep) in enumerate(shape)
    )
    return Plan(
        rungs=rungs,
        finalists=min(rules.finalists, len(costs)),
        seeds=seeds,
        epochs=epochs,
        planned_s=_count_plan(shape, costs, rules, seeds, epochs),
    )


def _count_plan(
    shape: tuple[tuple[int, int], ...], costs: Sequence[Costs], rules: Rules, seeds: int, epochs: int
) -> float:
    """Return the seconds of a plan in which the costliest contestants get furthest."""
    seconds, before = rules.verdict_s, 0
    for number, (enter, _) in enumerate(shape):
        until = _rung_epochs(number, len(shape), epochs)
        seconds += sum(_largest_of([each.train_s(until - before) for each in costs], enter))
        before = until
    finals = [_count_final([each], seeds, epochs) for each in costs]
    return seconds + sum(_largest_of(finals, rules.finalists))


def _count_final(costs: Sequence[Costs], seeds: int, epochs: int) -> float:
    return seeds * count_round(costs, epochs)


def _largest_of(values: Sequence[float], count: int) -> list[float]:
    return sorted(values, reverse=True)[:count]


def find_largest(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the largest number in [low, high] that fits, of a condition that fails from some number on."""
    if low > high or not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
