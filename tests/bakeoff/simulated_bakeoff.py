"""A bake-off without networks: trainings are figures from a formula, and time passes when told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from praxiscope.tournament.actions import ContestantFailed, OutOfTime, Trained
from praxiscope.tournament.bench import Bench
from praxiscope.tournament.budget import BudgetClock
from praxiscope.tournament.ledger import Ledger
from praxiscope.tournament.plan import Costs, Rules
from praxiscope.tournament.ranking import build_result
from praxiscope.tournament.referee import lead


class Killed(BaseException):
    """The process is gone."""


@dataclass
class World:
    """What outlives a process: time, the disk, and how fast the machine is.

    Attributes:
        costs: of each model, as a calibration measures them.
        speed: (model, work) -> how many times the calibrated time it really takes.
        fails: (model, stage) -> reason.
        kill_at: the tick that the process doesn't survive.
    """

    costs: dict[str, Costs]
    speed: Callable[[str, str], float] = lambda _model, _work: 1.0
    fails: dict[tuple[str, str], str] = field(default_factory=dict)
    kill_at: set[int] = field(default_factory=set)
    now: float = 0.0
    ticks: int = 0
    epochs: dict[str, int] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)
    tested: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.ticks += 1
        if self.ticks in self.kill_at:
            raise Killed


def figure(model: str, seed: int, epoch: int) -> float:
    """Learning curves that cross: the sum of a talent, a pace and a draw."""
    number = sum(model.encode())
    draw = ((number * 31 + seed * 17 + epoch * 7) % 101) / 1010
    return (number % 13) / 26 + (1 - 0.8**epoch) * ((number % 7) / 14) + draw


class SimulatedActions:
    def __init__(self, world: World) -> None:
        self._world = world

    def calibrate(self, contestant: str, *, must_stop: Callable[[], bool]) -> Costs:
        world, costs = self._world, self._world.costs[contestant]
        for _ in range(4):
            world.tick((costs.session_s + costs.test_s) / 4)
            if must_stop():
                raise OutOfTime("the time box is full")
        self._fail(contestant, "calibration")
        return costs

    def train(
        self, contestant: str, *, stage: str, seed: int, epochs: int, must_stop: Callable[[], bool]
    ) -> Trained:
        world, costs = self._world, self._world.costs[contestant]
        run = f"{stage}/{contestant}/{seed}" if stage == "rungs" else f"{stage}/{contestant}/{seed}/{epochs}"
        rate = world.speed(contestant, run)
        world.tick(costs.session_s * rate)
        while world.epochs.get(run, 0) < epochs:
            for _ in range(4):  # steps
                world.tick(costs.epoch_s * rate / 4)
                if must_stop():
                    raise OutOfTime("the time box is full")
            world.epochs[run] = world.epochs.get(run, 0) + 1
            world.tick()
        self._fail(contestant, stage)
        curve = [figure(contestant, seed, epoch) for epoch in range(1, epochs + 1)]
        return Trained(
            run=run,
            value=max(curve),
            best_epoch=curve.index(max(curve)) + 1,
            val_loss=1 - max(curve),
            curve=tuple(curve),
        )

    def test(self, run: str) -> Mapping[str, Any]:
        world = self._world
        contestant = run.split("/")[1]
        if run not in world.tested:
            world.tests.append(run)
            world.tick(world.costs[contestant].test_s * world.speed(contestant, "test"))
            world.tested.add(run)
        world.tick()
        return {"top1": {"value": figure(contestant, 0, 3)}}

    def compare(self, runs: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
        self._world.tick(5.0)
        return {"verdict": " or ".join(runs), "folder": "comparison"}

    def _fail(self, contestant: str, stage: str) -> None:
        if (contestant, stage) in self._world.fails:
            raise ContestantFailed(self._world.fails[contestant, stage])


def lead_simulated(world: World, folder: Path, **rules: Any) -> dict[str, Any]:
    """Lead a bake-off to its end, started again after each kill; return the content of ``bakeoff.json``."""
    asked = {"budget_s": 3600.0, "finalists": 2, "seeds": 3, "max_epochs": 40, "verdict_s": 10.0} | rules
    while True:
        clock = BudgetClock(spent_s=world.now, now=lambda: world.now)
        ledger = Ledger(folder, clock)
        if not ledger.entries:
            ledger.append(
                "begin", asked=asked, monitor="val/top1", monitor_mode="max", data={},
                contestants=[{"name": name} for name in world.costs],
            )  # fmt: skip
        bench = Bench(
            ledger=ledger, clock=clock, actions=SimulatedActions(world), rules=Rules(**asked),
            contestants=list(world.costs), seed=0, mode="max", tell=world.said.append,
        )  # fmt: skip
        try:
            lead(bench)
        except Killed:
            continue
        return build_result(ledger)


def make_costs(
    count: int, *, session_s: float = 3.0, epoch_s: float = 10.0, test_s: float = 4.0
) -> dict[str, Costs]:
    """Return the costs of some models, each a fifth costlier than the one before."""
    return {
        f"model-{chr(97 + number)}": Costs(
            session_s=session_s, epoch_s=epoch_s * 1.2**number, test_s=test_s * 1.2**number
        )
        for number in range(count)
    }
