"""``tune.json``: what a study found, from its journal alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from praxiscope.stats.selection import expected_maximum, standard_error
from praxiscope.tuning.plan import StudyPlan
from praxiscope.tuning.study import Study

_STATES = {
    "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "unfinished",
}  # fmt: skip
_SHARES = ("top1", "top5", "weighted_recall")
"""Figures that are a share of the samples, so that their standard error follows from their number."""


def build_result(plan: StudyPlan, study: Study, *, num_val: int | None) -> dict[str, Any]:
    """Return the content of ``tune.json``.

    Args:
        plan: what was asked for.
        study: its trials.
        num_val: validation samples; None before a trial has begun.
    """
    trials = [_describe_trial(plan, trial) for trial in study.trials if trial.state.name != "WAITING"]
    done = [trial for trial in trials if trial["state"] == "complete"]
    # A pruned trial had its chance to be the best as well.
    tried = sum(trial["state"] in {"complete", "pruned"} for trial in trials)
    choose = max if plan.mode == "max" else min
    best = choose(done, key=lambda trial: trial["value"]) if done else None  # the earliest of equals
    importance = study.compute_importance()
    return {
        "schema": 1,
        "name": plan.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": plan.recipe.model_dump(mode="json"),
        "data": plan.data,
        "num_val": num_val,
        "metric": plan.metric,
        "mode": plan.mode,
        "sampler": plan.sampler,
        "pruner": plan.pruner,
        "seed": plan.seed,
        "asked_trials": plan.trials,
        "space": [each.to_dict() for each in plan.space],
        "trials": trials,
        "best": None if best is None else best["number"],
        "importance": importance if isinstance(importance, dict) else None,
        "importance_note": importance if isinstance(importance, str) else IMPORTANCE_RULE,
        "selection": describe_selection(plan, best, tried, num_val),
    }


IMPORTANCE_RULE = (
    "PED-ANOVA (Watanabe et al. 2023): how far the values of the better tenth of the finished trials are "
    "from those of all. It says what mattered within this space, with these few trials."
)


def _describe_trial(plan: StudyPlan, trial: Any) -> dict[str, Any]:
    facts = trial.user_attrs
    curve = facts.get("curve") or [trial.intermediate_values[e] for e in sorted(trial.intermediate_values)]
    known = [value for value in curve if value is not None]
    choose = max if plan.mode == "max" else min
    return {
        "number": trial.number,
        "state": _STATES[trial.state.name],
        "value": choose(known) if known else None,
        "best_epoch": facts.get("best_epoch", 0),
        "epochs": len(curve),
        "params": {
            each.key: each.read(trial.params[each.key]) for each in plan.space if each.key in trial.params
        },
        "proposal": {each.key: trial.params.get(each.key) for each in plan.space},
        "curve": curve,
        "seconds": facts.get("seconds"),
        "run": facts.get("run", ""),
        "reason": facts.get("reason", ""),
    }  # fmt: skip


def describe_selection(
    plan: StudyPlan, best: Mapping[str, Any] | None, count: int, num_val: int | None
) -> dict[str, Any]:
    """Return by how much the best trial's figure may flatter it, and a sentence that says so.

    Args:
        plan: what was asked for.
        best: the best finished trial.
        count: trials that it was chosen from, pruned ones included.
        num_val: validation samples.
    """
    advice = (
        "Train best.yaml from several seeds that had no part in choosing, and read the test split once, at "
        "the end."
    )
    if best is None or not num_val:
        return {"optimism": None, "standard_error": None, "sentence": "No trial has finished yet."}
    name = plan.metric.rpartition("/")[2]
    start = f"The best of {count} trials was chosen by its validation figure, so that figure flatters it"
    if count == 1:
        sentence = f"One trial has finished: nothing was chosen yet. {advice}"
        return {"optimism": 0.0, "standard_error": None, "sentence": sentence}
    if not name.endswith(_SHARES):
        return {"optimism": None, "standard_error": None, "sentence": f"{start}. {advice}"}
    error = standard_error(best["value"], num_val)
    optimism = expected_maximum(count) * error
    sentence = (
        f"{start}: {num_val:,} validation samples give a share of {100 * best['value']:.1f} % a standard "
        f"error of {100 * error:.1f} points, and were all {count} equally good, the luckiest would still "
        f"look about {100 * optimism:.1f} points better than it is: less as far as trials err on the same "
        f"samples, more as each counts with its best epoch. {advice}"
    )
    return {"optimism": optimism, "standard_error": error, "sentence": sentence}
