"""Predictions -> ``metrics.json``: every figure of an evaluation, with intervals, from the table alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from praxiscope.errors import DataError
from praxiscope.evaluation.baseline import score_baseline
from praxiscope.evaluation.groups import GROUPS_RULE, ClassGroups, score_groups
from praxiscope.evaluation.joint import join_heads
from praxiscope.evaluation.predictions import Predictions
from praxiscope.stats.bootstrap import bootstrap_calibration, bootstrap_means, bootstrap_scores, code_groups
from praxiscope.stats.calibration import NUM_BINS, compute_calibration, compute_sample_losses
from praxiscope.stats.confusion import (
    ABSENT_CLASSES_RULE,
    ClassScores,
    compute_class_scores,
    compute_confusion,
)
from praxiscope.stats.extremes import ExtremeClasses, Extremes, describe_extremes, tell_extremes
from praxiscope.stats.intervals import Interval, open_extreme, wilson_interval
from praxiscope.stats.labels import IntArray
from praxiscope.stats.topk import TIES_RULE, compute_target_ranks

SCHEMA_VERSION = 1
TOP_K = 5
NUM_TOP_CONFUSIONS = 20
FEW_GROUPS = 30

EXTREMES_RULE = (
    "Chance alone: every class has the overall accuracy p, so a class of n samples is at 100 % with "
    "probability p^n and at 0 % with (1 - p)^n; the range in parentheses is that of the exact distribution "
    "of their number. Spread: accuracies of classes follow a beta distribution fitted to all of them. Both "
    "take samples as independent."
)
GROUPED_EXTREMES_RULE = " Here samples share groups, so both give more such classes than is said."

HEADLINE_NAMES = (
    "top1", "top5", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "weighted_precision",
    "weighted_recall", "balanced_acc", "nll", "brier", "ece",
)  # fmt: skip
"""Figures of the sections ``all`` and ``clean``, in their order."""


def compute_metrics(
    predictions: Predictions,
    *,
    head: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    grouping: ClassGroups | None = None,
    training: IntArray | None = None,
) -> dict[str, Any]:
    """Compute everything that ``metrics.json`` holds, in the form that docs/architecture.md gives.

    Of several heads the joint answer stands first, and each head's figures under ``heads`` (see
    :mod:`praxiscope.evaluation.joint`).

    Args:
        predictions: At least one sample, all of one split.
        head: Only this one of several heads.
        seed: Of the bootstrap; the same seed gives the same intervals.
        resamples: Of the bootstrap, at least 1.
        level: Confidence level of all intervals, in (0, 1).
        grouping: Groups of a head's classes to compare, from `read_class_groups`; None for none.
        training: (N, M) targets of the training samples, from `read_training_targets`, for what always naming
            the most frequent answer would give; None leaves ``baseline`` out.

    Returns:
        Plain JSON values, fractions in [0, 1], None for what is undefined; ``rules`` says when that is.

    Raises:
        DataError: No samples, or several splits.
        UsageError: No such head.
        ValueError: ``resamples`` or ``level`` outside their range.
    """
    if not len(predictions):
        raise DataError("There are no predictions to score: no sample of the split could be used.")
    plan = {"seed": seed, "resamples": resamples, "level": level}
    chosen = list(predictions.heads) if head is None else [predictions.resolve_head(head)]
    scored = {name: _score_head(predictions, name, plan) for name in chosen}
    if grouping is not None:
        owner = grouping.head or predictions.resolve_head(head)
        scored[owner]["groups"] = score_groups(predictions, owner, grouping, plan)
        scored[owner]["rules"]["groups"] = GROUPS_RULE
    if training is not None:
        for name, metrics in scored.items():
            metrics["baseline"] = score_baseline(predictions, training, [name])
    metrics = scored[chosen[0]]
    if len(chosen) > 1:
        metrics = join_heads(predictions, scored, plan)
        if training is not None:
            metrics["baseline"] = score_baseline(predictions, training, chosen)
    return dict(without_nan(metrics))


def _score_head(predictions: Predictions, head: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Compute the metrics of one head."""
    split, level, resamples = predictions.split, plan["level"], plan["resamples"]
    names, targets, preds = predictions.names(head), predictions.targets(head), predictions.preds(head)
    confusion = compute_confusion(targets, preds, len(names))
    num_clean = int(predictions.clean.sum())
    num_groups = int(code_groups(predictions.groups, len(predictions)).max()) + 1
    return {
        "schema": SCHEMA_VERSION,
        "split": split,
        "num_samples": len(predictions),
        "num_clean": num_clean,
        "num_classes": len(names),
        "head": head,
        "names": list(names),
        "weights_sha256": predictions.info.weights_sha256,
        "manifest_fingerprint": predictions.info.manifest_fingerprint,
        "all": _compute_section(predictions, head, plan),
        "clean": _compute_section(predictions.select(predictions.clean), head, plan) if num_clean else None,
        "interval": {
            "level": level,
            "method": "percentile bootstrap by group",
            "resamples": resamples,
            "num_groups": num_groups,
        },
        "per_class": _list_classes(confusion, names, level),
        "confusion": confusion.tolist(),
        "reliability": _list_bins(predictions, head),
        "top_confusions": list_top_confusions(confusion, names, limit=NUM_TOP_CONFUSIONS),
        "extremes": summarize_extremes(confusion, names, level=level),
        "groups": None,
        "rules": _state_rules(len(names), num_groups, num_groups < len(predictions)),
    }


def list_top_confusions(confusion: IntArray, names: tuple[str, ...], *, limit: int) -> list[dict[str, Any]]:
    """List the most frequent wrong answers, most frequent first, ties in the order of the names.

    Args:
        confusion: (K, K) counts, rows true, columns predicted.
        names: K label names.
        limit: At most so many.

    Returns:
        Dicts with ``target``, ``preds``, ``count`` and ``share``, the part of the target's samples, in (0,
        1].
    """
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(limit, np.count_nonzero(wrong))]
    supports = np.asarray(confusion).sum(axis=1)
    return [
        {
            "target": names[target],
            "preds": names[given],
            "count": int(wrong[target, given]),
            "share": float(wrong[target, given] / supports[target]),
        }
        for target, given in zip(
            *(part.tolist() for part in np.unravel_index(order, wrong.shape)), strict=True
        )
    ]


def summarize_extremes(confusion: IntArray, names: Sequence[str], *, level: float) -> dict[str, Any]:
    """Name the classes at 100 % and at 0 % recall, with how many of each chance alone would give.

    Args:
        confusion: (K, K) counts, rows true, columns predicted.
        names: K label names.
        level: Of intervals, ranges and tests.

    Returns:
        ``accuracy``, ``perfect``, ``zero``, ``spread_sd``, ``differences`` and ``sentences``; docs/metrics.md
        defines them.
    """
    scores = compute_class_scores(confusion)
    found = describe_extremes(scores.correct, scores.support, level=level)
    seen, total = int((scores.support > 0).sum()), int(scores.support.sum())
    ends = [
        [_name_class(names, int(index), scores, level) for index in np.flatnonzero(scores.recall == recall)]
        for recall in (1.0, 0.0)
    ]
    summary: dict[str, Any] = {
        "accuracy": int(scores.correct.sum()) / total,
        "num_classes": seen,
        "perfect": {"classes": ends[0]},
        "zero": {"classes": ends[1]},
        "spread_sd": None,
        "differences": None,
        "sentences": [],
    }
    if found is None:
        if seen > 1:
            word, share = ("Every", 100) if ends[0] else ("No", 0)
            told = f"{word} sample is right, so all {seen:,} classes are at {share} % and none stands out."
            summary["sentences"] = [told]
        return summary
    summary["perfect"] |= _list_expected(found.perfect)
    summary["zero"] |= _list_expected(found.zero)
    summary["spread_sd"] = found.spread_sd
    summary["differences"] = _list_differences(found, names, scores, level)
    summary["sentences"] = list(tell_extremes(found, scores.support))
    return summary


def _list_expected(side: ExtremeClasses) -> dict[str, Any]:
    return {
        key: {"mean": one.mean, "low": one.low, "high": one.high}
        for key, one in (("by_chance", side.chance), ("by_spread", side.spread))
    }


def _list_differences(
    found: Extremes, names: Sequence[str], scores: ClassScores, level: float
) -> dict[str, Any]:
    tests = found.differences
    told = {
        side: [
            {
                **_name_class(names, index, scores, level),
                "recall": float(scores.recall[index]),
                "p_value": float(tests.p_values[index]),
                "p_holm": float(tests.p_holm[index]),
            }
            for index in sorted(members, key=lambda index: (tests.p_holm[index], index))
        ]
        for side, members in (("better", tests.better), ("worse", tests.worse))
    }
    return {**told, "smallest_p_holm": tests.smallest_holm}


def _name_class(names: Sequence[str], index: int, scores: ClassScores, level: float) -> dict[str, Any]:
    low, high = wilson_interval(scores.correct[index], scores.support[index], level=level)
    return {
        "name": names[index],
        "support": int(scores.support[index]),
        "recall_low": float(low),
        "recall_high": float(high),
    }


def _compute_section(predictions: Predictions, head: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Compute the headline figures of some samples: ``all`` or ``clean``."""
    logits, targets = predictions.logits(head), predictions.targets(head)
    groups = predictions.groups
    figures: dict[str, Interval] = {
        **bootstrap_scores(targets, predictions.preds(head), logits.shape[1], groups=groups, **plan),
        **bootstrap_means({"top5": compute_target_ranks(logits, targets) < TOP_K}, groups=groups, **plan),
        **bootstrap_calibration(compute_sample_losses(logits, targets), groups=groups, **plan),
    }
    num_groups = int(code_groups(groups, len(predictions)).max()) + 1
    for name, by_construction in (("top1", 1), ("top5", TOP_K)):
        if logits.shape[1] > by_construction:
            figures[name] = open_extreme(figures[name], num_groups, level=plan["level"])
    section: dict[str, Any] = {"n": len(predictions)}
    for name in HEADLINE_NAMES:
        figure = figures[name]
        section[name] = {"value": figure.value, "low": figure.low, "high": figure.high}
    return section


def _list_classes(confusion: IntArray, names: tuple[str, ...], level: float) -> list[dict[str, Any]]:
    scores = compute_class_scores(confusion)
    recall_low, recall_high = wilson_interval(scores.correct, scores.support, level=level)
    precision_low, precision_high = wilson_interval(scores.correct, scores.predicted, level=level)
    return [
        {
            "name": name,
            "support": int(scores.support[index]),
            "predicted": int(scores.predicted[index]),
            "precision": float(scores.precision[index]),
            "recall": float(scores.recall[index]),
            "f1": float(scores.f1[index]),
            "recall_low": float(recall_low[index]),
            "recall_high": float(recall_high[index]),
            "precision_low": float(precision_low[index]),
            "precision_high": float(precision_high[index]),
        }
        for index, name in enumerate(names)
    ]


def _list_bins(predictions: Predictions, head: str) -> list[dict[str, Any]]:
    calibration = compute_calibration(predictions.logits(head), predictions.targets(head))
    return [dict(vars(one)) for one in calibration.bins]


def _state_rules(num_classes: int, num_groups: int, grouped: bool) -> dict[str, str]:
    rules = {
        "absent_classes": ABSENT_CLASSES_RULE,
        "undefined": (
            "Per class, recall is undefined without samples, precision without predictions, F1 without "
            "either; an undefined figure is null, in the text report a dash."
        ),
        "ties": TIES_RULE,
        "intervals": (
            "Groups of samples (each sample its own group where none is given) are drawn with replacement; "
            "the interval spans the percentiles of the resampled figures. A top-1 or top-5 of exactly 0 or "
            "1 has Wilson's interval over the groups instead, as every resample gives the same. It doesn't "
            "cover the spread over training seeds. Where all samples are of one group it is null: there is "
            "nothing to resample."
        ),
        "per_class_intervals": "Per class, Wilson's interval, which takes samples as independent.",
        "calibration": (
            f"ECE uses {NUM_BINS} equal-width bins of the top class's probability. It comes out too large "
            "for few samples, more so the better the model is calibrated, so its interval is the basic "
            "bootstrap's, which reaches further down; a well calibrated model's error may be lower still. "
            "Brier score is the sum over classes, from 0 to 2. NLL is in nats."
        ),
    }
    rules["extremes"] = EXTREMES_RULE + (GROUPED_EXTREMES_RULE if grouped else "")
    if num_classes <= TOP_K:
        rules["top5"] = (
            f"With {num_classes} classes the five best hold every class, so top-5 is 1 by construction."
        )
    if num_groups < FEW_GROUPS:
        rules["few_groups"] = (
            f"Bootstrap intervals tend to be too narrow below {FEW_GROUPS} groups; there are {num_groups}."
        )
    return rules


def without_nan(value: Any) -> Any:
    """Return nested mappings, lists and numbers with every NaN replaced by None: JSON has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return value
