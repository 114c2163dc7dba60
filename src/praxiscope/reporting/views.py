"""One evaluation as the page shows it: the content of ``metrics.json``, arranged and put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from praxiscope.reporting.charts import ConfusionChart, LineChart, build_confusion, build_reliability
from praxiscope.reporting.wording import (
    MISSING,
    NARROW,
    describe_calibration,
    describe_clean,
    describe_result,
    format_count,
    format_interval,
    format_percent,
)

SPLIT_NAMES = {"test": "test", "val": "validation", "train": "training"}
HEADLINE_SCORES = (("top1", "Top-1 accuracy"), ("macro_f1", "Macro F1"), ("top5", "Top-5 accuracy"))
SCORE_LABELS = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "balanced_acc": "Balanced accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "nll": "Negative log-likelihood",
    "brier": "Brier score",
    "ece": "Expected calibration error",
}
MAX_CONFUSIONS = 12
MAX_MATRIX_CLASSES = 110
"""Beyond, a matrix has thousands of cells too small to point at; the table of confusions says more."""
NO_PERCENT = frozenset({"nll", "brier"})


@dataclass(frozen=True, kw_only=True)
class ScoreCard:
    """One headline score on all and on clean samples, side by side."""

    label: str
    columns: tuple[tuple[str, str, Mapping[str, Any] | None], ...]
    """(kind, label, score) for ``all`` and ``clean``."""
    bars: tuple[tuple[str, Mapping[str, Any]], ...]
    """(kind, score) of those that exist."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One line of the table of all scores: value and interval, all and clean."""

    label: str
    cells: tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """One of the most frequent confusions."""

    target: str
    preds: str
    target_index: int
    preds_index: int
    count: int
    share: float


@dataclass(frozen=True, kw_only=True)
class EvaluationView:
    """Everything that the page says about one evaluated split."""

    split: str
    split_name: str
    command: str
    level: str
    """Confidence level of all intervals, for a reader."""
    verdict: str
    clean_sentence: str
    interval_sentence: str
    calibration_sentence: str
    cards: tuple[ScoreCard, ...]
    scores: tuple[ScoreRow, ...]
    rules: tuple[str, ...]
    confusion: ConfusionChart | None
    """None where there are too many classes for a matrix to be read."""
    top_confusions: tuple[Confusion, ...]
    reliability: LineChart | None
    bins: tuple[Mapping[str, Any], ...]
    per_class: tuple[Mapping[str, Any], ...]
    heads: tuple[()] = ()
    """It is of one head; `JointView` is of several."""


def build_view(metrics: Mapping[str, Any], *, command: str) -> EvaluationView:
    """Arrange one evaluation.

    Args:
        metrics: The content of ``metrics.json``.
        command: What to type to evaluate this split again.
    """
    return EvaluationView(
        split=metrics["split"],
        split_name=SPLIT_NAMES.get(metrics["split"], metrics["split"]),
        command=command,
        level=f"{100 * metrics['interval']['level']:g}{NARROW}%",
        verdict=describe_result(metrics),
        clean_sentence=describe_clean(metrics),
        interval_sentence=describe_interval(metrics["interval"]),
        calibration_sentence=describe_calibration(metrics),
        cards=tuple(build_card(metrics, key, label) for key, label in _choose_scores(metrics)),
        scores=tuple(
            _build_row(metrics, key, label) for key, label in SCORE_LABELS.items() if metrics["all"].get(key)
        ),
        rules=tuple(str(rule) for rule in metrics.get("rules", {}).values()),
        confusion=build_confusion(metrics["confusion"], metrics["names"])
        if metrics["num_classes"] <= MAX_MATRIX_CLASSES
        else None,
        top_confusions=_list_confusions(metrics),
        reliability=build_reliability(metrics["reliability"]),
        bins=tuple(one for one in metrics["reliability"] if one["count"]),
        per_class=tuple(metrics["per_class"]),
    )


def _list_confusions(metrics: Mapping[str, Any]) -> tuple[Confusion, ...]:
    places = {name: index for index, name in enumerate(metrics["names"])}
    return tuple(
        Confusion(**one, target_index=places[one["target"]], preds_index=places[one["preds"]])
        for one in metrics["top_confusions"][:MAX_CONFUSIONS]
    )


def _choose_scores(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    # Among five classes or fewer, top-5 is right by definition and says nothing.
    return [
        (key, label)
        for key, label in HEADLINE_SCORES
        if metrics["all"].get(key) and (key != "top5" or metrics["num_classes"] > 5)
    ]


def build_card(metrics: Mapping[str, Any], key: str, label: str) -> ScoreCard:
    """Return one score of some metrics, on all and on clean samples."""
    scores = {kind: (metrics[kind] or {}).get(key) for kind in ("all", "clean")}
    counts = {"all": metrics["num_samples"], "clean": metrics["num_clean"]}
    return ScoreCard(
        label=label,
        columns=tuple(
            (kind, f"{name} {format_count(counts[kind])}", scores[kind])
            for kind, name in (("all", "all"), ("clean", "clean"))
        ),
        bars=tuple((kind, score) for kind, score in scores.items() if score),
    )


def _build_row(metrics: Mapping[str, Any], key: str, label: str) -> ScoreRow:
    everything, clean = metrics["all"][key], (metrics["clean"] or {}).get(key)
    first, second = (_format_score(score, key) for score in (everything, clean))
    return ScoreRow(label=label, cells=(*first, *second))


def _format_score(score: Mapping[str, Any] | None, key: str) -> tuple[str, str]:
    if score is None or score["value"] is None:
        return MISSING, ""
    if key not in NO_PERCENT:
        return format_percent(score["value"]), format_interval(score)
    has_interval = score.get("low") is not None and score.get("high") is not None
    return f"{score['value']:.3f}", f"{score['low']:.3f}\u2013{score['high']:.3f}" if has_interval else ""


def describe_interval(interval: Mapping[str, Any]) -> str:
    """Return how the intervals were made, in one sentence."""
    return (
        f"Intervals: {100 * interval['level']:g}{NARROW}%, {interval['method']},"
        f" {format_count(interval['resamples'])} resamples of {format_count(interval['num_groups'])} groups."
    )
