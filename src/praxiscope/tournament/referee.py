"""Who goes on, who is out, and when it ends: decisions of a bake-off, each from lines of its ledger.

Nothing is trained here: :class:`~praxiscope.tournament.actions.Actions` does that. What came back is written
down, and decided from what is written. Started again on the same ledger, everything that stands there is
passed over, so a bake-off that was killed ends with the ranking of one that wasn't.

Time is the one thing that a kill changes. It decides nothing about who is better: where time runs short, a
recorded line cuts rungs, epochs or seeds *for all alike*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from praxiscope.errors import UsageError
from praxiscope.tournament.actions import ContestantFailed, OutOfTime
from praxiscope.tournament.bench import Bench
from praxiscope.tournament.budget import format_time
from praxiscope.tournament.finals import judge, run_finals, test_finalists
from praxiscope.tournament.ledger import Entry
from praxiscope.tournament.plan import Costs, Plan, Rung, describe_shortage, make_plan
from praxiscope.tournament.ranking import order_by_figure

_COSTS = ("session_s", "epoch_s", "test_s")


def lead(bench: Bench) -> None:
    """Do whatever of a bake-off isn't done yet.

    Raises:
        UsageError: the budget is too small, or no contestant is left.
        EnvironmentProblem: the time box was full before there was anything to compare.
    """
    if bench.ledger.find("done"):
        return
    costs = _calibrate(bench)
    plan = _settle_plan(bench, costs)
    finalists = _halve(bench, plan, costs)
    runs = run_finals(bench, plan, costs, finalists)
    test_finalists(bench, runs)
    judge(bench, runs)
    bench.ledger.append("done")


def _calibrate(bench: Bench) -> dict[str, Costs]:
    """Return the costs of everybody who can take part, in the order given."""
    for name in bench.contestants:
        if bench.is_out(name) or bench.ledger.find("calibrated", contestant=name):
            continue
        bench.say(f"calibrating {name}")
        before = bench.clock.spent_s
        try:
            costs = bench.actions.calibrate(
                name, must_stop=lambda: bench.clock.spent_s > bench.rules.budget_s
            )
        except ContestantFailed as problem:
            bench.put_out(name, "calibration", str(problem))
        except OutOfTime:
            # A calibration is a small part of the smallest bake-off; more can't be said.
            least = 4 * len(bench.contestants) * bench.rules.budget_s
            raise UsageError(describe_shortage(bench.rules.budget_s, least, len(bench.contestants))) from None
        else:
            took = bench.clock.spent_s - before
            bench.ledger.append("calibrated", contestant=name, **asdict(costs), took_s=took)
    found = {entry["contestant"]: entry for entry in bench.ledger.select("calibrated")}
    return {
        name: Costs(**{key: found[name][key] for key in _COSTS})
        for name in bench.contestants
        if name in found
    }


def _settle_plan(bench: Bench, costs: Mapping[str, Costs]) -> Plan:
    if (known := bench.ledger.find("plan")) is not None:
        return Plan.from_dict(known["plan"])
    if not costs:
        raise bench.nobody_left()
    # As recorded, without what a kill has cost: the plan is then the one of a bake-off that wasn't killed.
    spent_s = bench.ledger.require("begin")["spent_s"]
    spent_s += sum(entry["took_s"] for entry in bench.ledger.select("calibrated"))
    plan = make_plan(list(costs.values()), bench.rules, spent_s=spent_s)
    bench.ledger.append("plan", plan=plan.to_dict(), calibration_s=spent_s)
    rungs = "".join(f"{rung.enter} models to {rung.epochs} epochs, " for rung in plan.rungs)
    bench.say(
        f"plan: {rungs}{plan.finalists} finalists x {plan.seeds} seeds of {plan.epochs} epochs or more; "
        f"about {format_time(plan.planned_s)} at most"
    )
    return plan


def _halve(bench: Bench, plan: Plan, costs: Mapping[str, Costs]) -> list[str]:
    """Return the finalists, best first where a rung has put them in an order."""
    standing, since = list(costs), 0
    for number, rung in enumerate(plan.rungs, start=1):
        decided = bench.ledger.find("rung", number=number)
        if decided is None and not _ends_before(bench, number, rung, since, {n: costs[n] for n in standing}):
            decided = _run_rung(bench, number, rung, since, {n: costs[n] for n in standing})
        if decided is None:
            break
        standing, since = list(decided["kept"]), rung.epochs
    failed = {entry["contestant"] for entry in bench.ledger.select("out") if entry["stage"] != "finals"}
    standing = [name for name in standing if name not in failed][: plan.finalists]
    if not standing:
        raise bench.nobody_left()
    return standing


def _run_rung(
    bench: Bench, number: int, rung: Rung, since: int, standing: Mapping[str, Costs]
) -> Entry | None:
    """Train everybody to the rung's epochs, then decide; None where time ran out first."""
    results: dict[str, Entry] = {}
    bench.say(f"rung {number}: {', '.join(standing)} to {rung.epochs} epochs")
    tested = _costliest_finalists(bench, standing)
    try:
        for name, costs in standing.items():
            entry = bench.train(
                name, costs, stage="rungs", seed=bench.seed, epochs=rung.epochs, since=since,
                then=tested,
            )  # fmt: skip
            if entry is not None:
                results[name] = entry
    except OutOfTime as problem:
        _end_halving(bench, number, str(problem))
        return None
    order = order_by_figure(results, mode=bench.mode)
    kept, left = order[: rung.keep], order[rung.keep :]
    bench.say(f"rung {number}: {', '.join(kept) or 'nobody'} go on, out: {', '.join(left) or 'nobody'}")
    figures = {
        name: {"value": results[name]["value"], "val_loss": results[name]["val_loss"]} for name in order
    }
    return bench.ledger.append(
        "rung", number=number, epochs=rung.epochs, order=order, kept=kept, left=left, figures=figures
    )


def _ends_before(bench: Bench, number: int, rung: Rung, since: int, standing: Mapping[str, Costs]) -> bool:
    """Decide whether the halving ends before a rung, for want of time."""
    if bench.ledger.find("cut", what="rungs"):
        return True
    # A rung that has begun was found to fit, and the first one by the plan.
    if number == 1 or bench.ledger.find("trained", stage="rungs", epochs=rung.epochs):
        return False
    needed = bench.rate * sum(each.train_s(rung.epochs - since) for each in standing.values())
    if bench.fits(needed + bench.count_closing(_costliest_finalists(bench, standing))):
        return False
    _end_halving(bench, number, f"it needs about {format_time(needed)}")
    return True


def _end_halving(bench: Bench, number: int, reason: str) -> None:
    if number == 1:
        raise bench.time_is_up("the first rung was")
    bench.ledger.append("cut", what="rungs", number=number, reason=reason)
    bench.say(f"no time for rung {number} ({reason}): the halving ends before it")


def _costliest_finalists(bench: Bench, standing: Mapping[str, Costs]) -> Sequence[Costs]:
    """Return the costs of who may have to be tested if the finals are left out."""
    costliest = sorted(standing.values(), key=lambda each: each.test_s, reverse=True)
    return costliest[: bench.rules.finalists]
