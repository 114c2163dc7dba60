"""The end of a bake-off: seeds for the finalists, then the test split, once.

The finalists are trained anew and to more epochs, from seeds that had no part in choosing them: the run that
made a contestant a finalist was the luckiest of its kind more often than not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from praxiscope.tournament.actions import OutOfTime
from praxiscope.tournament.bench import Bench
from praxiscope.tournament.budget import format_time
from praxiscope.tournament.ledger import Entry
from praxiscope.tournament.plan import Costs, Plan, count_round, find_largest, settle_final

Runs = dict[str, list[str]]
"""Contestant -> the runs that count."""


def run_finals(bench: Bench, plan: Plan, costs: Mapping[str, Costs], names: Sequence[str]) -> Runs:
    """Train the finalists from their seeds, one seed of all after the other.

    Returns:
        As many runs of each: those of whole rounds of seeds or, where time was too short for one, those of
        the halving.

    Raises:
        UsageError: no finalist is left.
        EnvironmentProblem: the time box was full before there was anything to compare.
    """
    opened = bench.ledger.find("test-opened")
    if opened is not None:  # from there on nothing is trained
        return {name: list(runs) for name, runs in opened["runs"].items()}
    final = bench.ledger.find("finalists") or _settle(bench, plan, costs, names)
    chosen = {name: costs[name] for name in final["names"]}
    epochs = _fit_epochs(bench, final["epochs"], list(chosen.values()))
    if epochs is not None:
        for number in range(1, final["seeds"] + 1):
            if bench.ledger.find("cut", what="seeds"):
                break
            if not bench.ledger.find("round", number=number) and not _run_round(
                bench, number, epochs, chosen
            ):
                break
    runs = _collect(bench, list(chosen))
    bench.ledger.append("test-opened", runs=runs)
    return runs


def test_finalists(bench: Bench, runs: Mapping[str, Sequence[str]]) -> None:
    """Evaluate each run on the test split, once."""
    for name, paths in runs.items():
        for run in paths:
            if bench.ledger.find("tested", run=run) is None:
                bench.say(f"testing {name}")
                figures = dict(bench.actions.test(run))
                bench.ledger.append("tested", contestant=name, run=run, figures=figures)


def judge(bench: Bench, runs: Mapping[str, Sequence[str]]) -> None:
    """Compare the finalists, where there are several."""
    if len(runs) > 1 and bench.ledger.find("verdict") is None:
        bench.say(f"comparing {' and '.join(runs)}")
        bench.ledger.append("verdict", **bench.actions.compare(runs))


def _settle(bench: Bench, plan: Plan, costs: Mapping[str, Costs], names: Sequence[str]) -> Entry:
    spent_s = _count_rungs(bench, plan, costs)
    seeds, epochs = settle_final(plan, [costs[name] for name in names], bench.rules, spent_s=spent_s)
    bench.say(f"finalists: {', '.join(names)}; {seeds} seeds of {epochs} epochs each")
    return bench.ledger.append(
        "finalists", names=list(names), seeds=seeds, epochs=epochs, calibrated_s=spent_s
    )


def _count_rungs(bench: Bench, plan: Plan, costs: Mapping[str, Costs]) -> float:
    """Return the seconds of calibration and of the rungs, as calibrated."""
    seconds = float(bench.ledger.require("plan")["calibration_s"])
    standing, since = list(costs), 0
    for number, rung in enumerate(plan.rungs, start=1):
        seconds += sum(costs[name].train_s(rung.epochs - since) for name in standing)
        decided = bench.ledger.find("rung", number=number)
        if decided is None:
            break
        standing, since = list(decided["kept"]), rung.epochs
    return seconds


def _fit_epochs(bench: Bench, epochs: int, costs: Sequence[Costs]) -> int | None:
    """Return the epochs of the finals: as settled, or as many as there is time for.

    None where that is fewer than the halving has given them: its runs are the better ones then.
    """
    known = bench.ledger.find("cut", what="epochs")
    if known is not None:
        return None if known["to"] is None else int(known["to"])
    if bench.ledger.find("trained", stage="finals"):
        return epochs
    rate, rest_s = bench.rate, bench.rules.verdict_s
    least = max((entry["epochs"] for entry in bench.ledger.select("rung")), default=1)
    fitting = find_largest(lambda count: bench.fits(rate * count_round(costs, count) + rest_s), least, epochs)
    if fitting != epochs:
        bench.ledger.append("cut", what="epochs", was=epochs, to=fitting, rate=rate)
        bench.say(f"time is short: {fitting or 'no'} epochs for the finals instead of {epochs}")
    return fitting


def _run_round(bench: Bench, number: int, epochs: int, chosen: Mapping[str, Costs]) -> bool:
    """Train one seed of every finalist; False where time is too short for it."""
    seed, costs = bench.seed + number, list(chosen.values())
    before = costs * (number - 1)  # rounds whose runs will be tested
    needed = bench.rate * count_round(costs, epochs)
    begun = bench.ledger.find("trained", stage="finals", seed=seed)
    if number > 1 and not begun and not bench.fits(needed + bench.count_closing(before)):
        _cut_seeds(bench, number, f"it needs about {format_time(needed)}")
        return False
    try:
        for name, each in chosen.items():
            bench.train(name, each, stage="finals", seed=seed, epochs=epochs, then=before)
    except OutOfTime as problem:
        _cut_seeds(bench, number, str(problem))
        return False
    bench.ledger.append("round", number=number, seed=seed, epochs=epochs)
    return True


def _cut_seeds(bench: Bench, number: int, reason: str) -> None:
    bench.ledger.append("cut", what="seeds", to=number - 1, reason=reason)
    bench.say(f"no time for seed {number} ({reason}): {number - 1} of each finalist count")


def _collect(bench: Bench, names: Sequence[str]) -> Runs:
    """Return the runs that count."""
    standing = [name for name in names if not bench.is_out(name)]
    if not standing:
        raise bench.nobody_left()
    seeds = {entry["seed"] for entry in bench.ledger.select("round")}
    runs: Runs = {}
    for name in standing:
        finals = bench.ledger.select("trained", stage="finals", contestant=name)
        rungs = bench.ledger.select("trained", stage="rungs", contestant=name)
        counted = [entry for entry in finals if entry["seed"] in seeds] if seeds else rungs[-1:]
        if counted:
            runs[name] = [entry["run"] for entry in counted]
    if not runs:
        raise bench.time_is_up("one seed of each finalist was trained")
    return runs
