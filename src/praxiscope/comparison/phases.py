"""What stands beside the accuracy of trained runs: each head, the gap to training, time, size, a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from praxiscope.comparison.align import Aligned
from praxiscope.comparison.contestants import Contestant
from praxiscope.comparison.headline import Plan
from praxiscope.comparison.result import ComparisonResult
from praxiscope.comparison.tables import SampleTable
from praxiscope.errors import UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.stats.bootstrap import bootstrap_means

State = Literal["reached", "missed", "open"]

TRAINING_RULE = (
    "Gap: train minus validation top-1 at the best epoch, from the training log (training figures are "
    "averages over the epoch, under augmentation, so the gap can understate overfitting; none where images "
    "were mixed). Time: of training and validation, in all sessions. Of several seeds, means."
)
TARGET_RULE = (
    "A target is reached where the whole interval of top-1 lies at or above it, missed where it lies below, "
    "and open where the interval holds it: these samples are too few to say."
)


def add_phases(
    result: ComparisonResult,
    contestants: Sequence[Contestant],
    *,
    aligned: Aligned | None,
    target: float | None,
    plan: Plan,
) -> ComparisonResult:
    """Add to each contestant ``training``, ``heads`` and, with a target, ``target``.

    Args:
        result: The comparison.
        contestants: Those of ``result``, in its order.
        aligned: The samples that were compared; None where only counts are known.
        target: Top-1 accuracy to reach, in (0, 1]; None for none.
        plan: Of the bootstrap, for the heads.
    """
    told = []
    for entry, contestant in zip(result.contestants, contestants, strict=True):
        more: dict[str, Any] = {
            "training": _tell_training(contestant),
            "heads": {} if aligned is None else _score_heads(contestant, aligned, plan),
        }
        if target is not None:
            more["target"] = judge_target(entry["label"], entry["all"]["top1"], target)
        told.append({**entry, **more})
    rules = dict(result.rules)
    if any(one["training"] for one in told):
        rules["training"] = TRAINING_RULE
    if target is not None:
        rules["target"] = TARGET_RULE
    return replace(result, contestants=told, rules=rules, target=target)


def check_target(target: float | None) -> None:
    """Refuse a target that isn't a share.

    Raises:
        UsageError: It isn't in (0, 1].
    """
    if target is not None and not 0 < target <= 1:
        percent = f" (for {target:g} %: --target {target / 100:g})" if 1 < target <= 100 else ""
        raise UsageError(f"--target {target:g}: give a top-1 accuracy above 0 and up to 1{percent}.")


def judge_target(label: str, top1: Mapping[str, float | None], target: float) -> dict[str, str]:
    """Return ``state`` and ``sentence``: whether an accuracy reaches the target.

    >>> judge_target("a", {"value": 0.40, "low": 0.36, "high": 0.44}, 0.35)["state"]
    'reached'
    >>> judge_target("a", {"value": 0.34, "low": 0.30, "high": 0.38}, 0.35)["sentence"]
    'a is below the target of 35.0 % with 34.0 %, but its interval (30.0 to 38.0) holds it.'
    """
    value, low, high = top1["value"], top1["low"], top1["high"]
    assert value is not None
    aim, has = f"the target of {100 * target:.1f} %", f"{100 * value:.1f} %"
    side = "above" if value > target else "below" if value < target else "at"
    state: State = "open"
    if low is None or high is None or np.isnan([low, high]).any():
        sentence = f"{label} is {side} {aim} with {has}; there is no interval to judge by."
    else:
        span = f"({100 * low:.1f} to {100 * high:.1f})"
        state = "reached" if low >= target else "missed" if high < target else "open"
        sentence = (
            f"{label} is {side} {aim} with {has}, but its interval {span} holds it."
            if state == "open"
            else f"{label} {'reaches' if state == 'reached' else 'misses'} {aim}: {has} {span}."
        )
    return {"state": state, "sentence": sentence}


def _tell_training(contestant: Contestant) -> dict[str, Any] | None:
    """Return ``gap``, ``train_s``, ``parameters`` and ``epochs``; None for what is no run."""
    runs = [table.run for table in contestant.members]
    found = [_read_training(run) for run in runs if run is not None]
    if not found:
        return None
    return {key: _mean([one[key] for one in found]) for key in found[0]}


def _read_training(path: Path) -> dict[str, float | None]:
    run = RunDir.open(path)
    stored = run.read_run_json()
    augment = load_recipe(run.recipe).augment
    mixed = bool(augment.mixup or augment.cutmix) and augment.mix_prob > 0
    learning = stored.get("learning") or {}
    return {
        "gap": None if mixed else learning.get("gap_at_best"),
        "train_s": (stored.get("time") or {}).get("train_s"),
        "parameters": (stored.get("model") or {}).get("parameters"),
        "epochs": learning.get("num_epochs"),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return known[0] if len(set(known)) == 1 else float(np.mean(known))


def _score_heads(contestant: Contestant, aligned: Aligned, plan: Plan) -> dict[str, Any]:
    """Return each head's top-1 on the compared samples, where the joint answer was compared."""
    tables = [table for table in contestant.members if isinstance(table, SampleTable)]
    if not all(table.head_hits for table in tables):
        return {}
    hits = {}
    for head in tables[0].head_hits:
        rows = [dict(zip(table.sample_ids, table.head_hits[head].tolist(), strict=True)) for table in tables]
        hits[head] = np.mean([[own[name] for name in aligned.sample_ids] for own in rows], axis=0)
    if len(tables) > 1:  # the interval would have to hold the spread over seeds
        return {head: {"value": float(own.mean()), "low": None, "high": None} for head, own in hits.items()}
    groups = None if aligned.groups is None else list(aligned.groups)
    found = bootstrap_means(hits, groups=groups, **vars(plan))
    return {head: vars(one) for head, one in found.items()}
