"""Scores of each contestant and their differences, with intervals from the paired bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from praxiscope.comparison.align import Aligned, Answered
from praxiscope.comparison.result import FIGURES
from praxiscope.stats.bootstrap import code_groups
from praxiscope.stats.calibration import compute_sample_losses
from praxiscope.stats.intervals import Interval, percentile_interval, reflect_interval, wilson_interval
from praxiscope.stats.labels import IntArray
from praxiscope.stats.paired import ReplicateTest, combine_variances, paired_interval, student_quantile
from praxiscope.stats.paired_bootstrap import Answers, Resampled, bootstrap_contestants
from praxiscope.stats.topk import compute_target_ranks

TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How intervals are made."""

    level: float = 0.95
    resamples: int = 10_000
    seed: int = 0


def resample(aligned: Aligned, extra: Sequence[Sequence[Answered]], plan: Plan) -> list[Resampled]:
    """Score all contestants, then what is given extra (ensembles), on the same resamples."""
    answers = [
        [_score_samples(one, aligned.targets) for one in seeds] for seeds in (*aligned.answers, *extra)
    ]
    return bootstrap_contestants(
        aligned.targets,
        answers,
        len(aligned.names),
        groups=aligned.groups,
        resamples=plan.resamples,
        seed=plan.seed,
    )


def tell_figures(found: Resampled, codes: IntArray, plan: Plan, num_classes: int) -> dict[str, Any]:
    """Return a contestant's figures as in ``comparison.json``: value, interval, spread over seeds."""
    groups = np.unique(codes).size
    section: dict[str, Any] = {"n": codes.size}
    for name in FIGURES:
        if name not in found.by_seed:
            section[name] = None
            continue
        by_seed = found.by_seed[name]
        interval = _single(name, found, groups, plan)
        chance_free = {"top1": num_classes > 1, "top5": num_classes > TOP_K}
        if by_seed.size == 1 and interval.value in {0.0, 1.0} and chance_free.get(name) and groups > 1:
            low, high = wilson_interval(int(interval.value) * groups, groups, level=plan.level)
            interval = Interval(value=interval.value, low=float(low), high=float(high))
        section[name] = {
            **vars(interval),
            "sd": float(by_seed.std(ddof=1)) if by_seed.size > 1 else None,
            "min": float(by_seed.min()),
            "max": float(by_seed.max()),
        }
    return section


def tell_differences(
    first: Resampled, second: Resampled, codes: IntArray, plan: Plan
) -> dict[str, dict[str, float] | None]:
    """Return the differences of the figures, second minus first; None where one lacks the figure."""
    groups = np.unique(codes).size
    return {
        name: vars(_difference(name, first, second, groups, plan))
        if name in first.by_seed and name in second.by_seed
        else None
        for name in FIGURES
    }


def _score_samples(answered: Answered, targets: IntArray) -> Answers:
    if answered.logits is None:
        return Answers(preds=answered.preds)
    return Answers(
        preds=answered.preds,
        in_top5=compute_target_ranks(answered.logits, targets) < TOP_K,
        losses=compute_sample_losses(answered.logits, targets),
    )


def _single(name: str, found: Resampled, groups: int, plan: Plan) -> Interval:
    value, drawn = found.value(name), found.drawn[name]
    seeds = found.by_seed[name]
    highest = math.inf if name == "nll" else 2.0 if name == "brier" else 1.0
    if seeds.size > 1:
        tested = _split_variance(value, drawn, groups, [seeds])
        return _student_interval(tested, plan.level, 0.0, highest)
    interval = percentile_interval(value, drawn if groups > 1 else drawn[:0], level=plan.level)
    return reflect_interval(interval, lowest=0.0, highest=1.0) if name == "ece" else interval


def _difference(name: str, first: Resampled, second: Resampled, groups: int, plan: Plan) -> Interval:
    value, drawn = second.value(name) - first.value(name), second.drawn[name] - first.drawn[name]
    seeds = [one.by_seed[name] for one in (first, second) if one.by_seed[name].size > 1]
    widest = math.inf if name == "nll" else 2.0 if name == "brier" else 1.0
    if seeds:
        return _student_interval(_split_variance(value, drawn, groups, seeds), plan.level, -widest, widest)
    interval = percentile_interval(value, drawn if groups > 1 else drawn[:0], level=plan.level)
    if name == "top1" and interval.low == interval.high:
        # Every resample is alike, which says that groups are few, not that nothing else could have come.
        loses, wins = max(-value, 0.0) * groups, max(value, 0.0) * groups
        low, high = paired_interval(loses, wins, groups, level=plan.level)
        return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
    return reflect_interval(interval, lowest=-1.0, highest=1.0) if name == "ece" else interval


def _split_variance(
    value: float, drawn: np.ndarray[Any, np.dtype[np.float64]], groups: int, seeds: Sequence[Any]
) -> ReplicateTest:
    """Divide the resampled variance between samples and seeds, which know theirs from few."""
    parts = [(float(scores.var(ddof=1)) / scores.size, scores.size - 1) for scores in seeds]
    if groups > 1:
        rest = float(drawn.var()) - sum(variance for variance, _ in parts)
        parts.append((max(rest, 0.0), groups - 1))
    return combine_variances(value, parts)


def _student_interval(tested: ReplicateTest, level: float, lowest: float, highest: float) -> Interval:
    half = tested.standard_error * student_quantile(tested.degrees_of_freedom, (1 + level) / 2)
    value = tested.difference
    if math.isnan(half):
        return Interval(value=value, low=math.nan, high=math.nan)
    return Interval(value=value, low=max(lowest, value - half), high=min(highest, value + half))


def code_samples(aligned: Aligned) -> IntArray:
    """Return (N,) group numbers of the samples."""
    return code_groups(aligned.groups, len(aligned.sample_ids))
