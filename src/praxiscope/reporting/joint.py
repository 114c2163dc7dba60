"""What the page says about several heads: their joint answer first, then each head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from praxiscope.reporting.sections import ExtremesSection, GroupsSection, build_extremes, build_groups
from praxiscope.reporting.views import (
    SPLIT_NAMES,
    EvaluationView,
    ScoreCard,
    build_card,
    build_view,
    describe_interval,
)
from praxiscope.reporting.wording import (
    MISSING,
    NARROW,
    describe_clean,
    format_count,
    format_interval,
    format_percent,
    format_points,
)
from praxiscope.stats.epic import SETS, TASKS, name_accuracy

MAX_CONFUSIONS = 12


@dataclass(frozen=True, kw_only=True)
class HeadRow:
    """One line of the table of heads."""

    name: str
    classes: str
    top1: Mapping[str, Any]
    clean: Mapping[str, Any] | None
    top5: Mapping[str, Any]
    baseline: str
    """Top-1 of always naming the most frequent training answer, and that answer."""


@dataclass(frozen=True, kw_only=True)
class HeadView:
    """One head's own figures."""

    name: str
    view: EvaluationView
    extremes: ExtremesSection | None
    groups: GroupsSection | None


@dataclass(frozen=True, kw_only=True)
class TemporalRow:
    """Accuracy with the frames in one order."""

    order: str
    top1: Mapping[str, Any]
    difference: str
    change: str


@dataclass(frozen=True, kw_only=True)
class TemporalView:
    """What the order of frames is worth."""

    verdict: str
    rows: tuple[TemporalRow, ...]
    rule: str


@dataclass(frozen=True, kw_only=True)
class JointView:
    """One evaluated split of several heads."""

    split: str
    split_name: str
    command: str
    level: str
    verdict: str
    clean_sentence: str
    interval_sentence: str
    cards: tuple[ScoreCard, ...]
    rows: tuple[HeadRow, ...]
    outcomes: tuple[tuple[str, str, str], ...]
    """Which heads are right, samples, share."""
    top_confusions: tuple[Mapping[str, Any], ...]
    epic: tuple[tuple[str, ...], ...]
    """Rows of EPIC-KITCHENS-100's table, in percent: set, segments, six accuracies."""
    epic_notes: tuple[str, ...]
    rules: tuple[str, ...]
    heads: tuple[HeadView, ...]


def build_joint_view(metrics: Mapping[str, Any], *, command: str) -> JointView:
    """Arrange one evaluation of several heads.

    Args:
        metrics: The content of ``metrics.json``.
        command: What to type to evaluate this split again.
    """
    named = [(metrics["head"], metrics), *metrics["heads"].items()]
    cards = [build_card(own, "top1", f"{name.capitalize()}, top-1") for name, own in named]
    epic = metrics.get("epic")
    return JointView(
        split=metrics["split"],
        split_name=SPLIT_NAMES.get(metrics["split"], metrics["split"]),
        command=command,
        level=f"{100 * metrics['interval']['level']:g}{NARROW}%",
        verdict=_describe_result(metrics),
        clean_sentence=describe_clean(metrics),
        interval_sentence=describe_interval(metrics["interval"]),
        cards=tuple(cards),
        rows=tuple(_build_row(name, own) for name, own in named),
        outcomes=tuple(_tell_outcome(one, metrics["joint"]) for one in metrics["outcomes"]),
        top_confusions=tuple(metrics["top_confusions"][:MAX_CONFUSIONS]),
        epic=_build_epic(epic) if epic else (),
        epic_notes=(*epic["sentences"], epic["rule"]) if epic else (),
        rules=tuple(map(str, metrics["rules"].values())),
        heads=tuple(
            HeadView(
                name=name,
                view=build_view(own, command=command),
                extremes=build_extremes(own),
                groups=build_groups(own),
            )
            for name, own in metrics["heads"].items()
        ),
    )


def build_temporal(metrics: Mapping[str, Any] | None) -> TemporalView | None:
    """Return what the order of frames is worth, None where it wasn't measured."""
    found = (metrics or {}).get("temporal_reliance")
    if not found:
        return None
    return TemporalView(
        verdict=found["verdict"],
        rows=tuple(
            TemporalRow(
                order=one["order"],
                top1=one["top1"],
                difference=_tell_difference(one["difference"]),
                change=MISSING if one["largest_change"] is None else f"{one['largest_change']:.2g}",
            )
            for one in found["orders"]
        ),
        rule=found["rule"],
    )


def _tell_difference(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return MISSING
    value = format_points(difference["value"])
    if difference["low"] is None:
        return value
    return f"{value} ({format_points(difference['low'])} to {format_points(difference['high'])})"


def _describe_result(metrics: Mapping[str, Any]) -> str:
    score, heads = metrics["all"]["top1"], metrics["joint"]
    split = SPLIT_NAMES.get(metrics["split"], metrics["split"])
    sentence = (
        f"{' and '.join(heads).capitalize()} right on {format_percent(score['value'])} of "
        f"{format_count(metrics['num_samples'])} {split} samples"
    )
    if interval := format_interval(score):
        sentence += f" ({100 * metrics['interval']['level']:g}{NARROW}% interval {interval})"
    if baseline := metrics.get("baseline"):
        sentence += (
            f", where always naming \u201c{baseline['name']}\u201d, the most frequent answer of training, "
            f"would be right on {format_percent(baseline['all']['top1'])}"
        )
    return sentence + "."


def _build_row(name: str, metrics: Mapping[str, Any]) -> HeadRow:
    baseline = metrics.get("baseline")
    clean = metrics["clean"]
    return HeadRow(
        name=name,
        classes=format_count(metrics["num_classes"]) + (" combinations" if "heads" in metrics else ""),
        top1=metrics["all"]["top1"],
        clean=None if clean is None else clean["top1"],
        top5=metrics["all"]["top5"],
        baseline=f"{format_percent(baseline['all']['top1'])} ({baseline['name']})" if baseline else MISSING,
    )


def _tell_outcome(one: Mapping[str, Any], heads: list[str]) -> tuple[str, str, str]:
    told = " and ".join(one["right"]) or "none"
    only = " only" if 0 < len(one["right"]) < len(heads) else ""
    return told + only, format_count(one["count"]), format_percent(one["share"])


def _build_epic(epic: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for subset in SETS:
        found = [epic["figures"][name_accuracy(subset, task, top)] for top in (1, 5) for task in TASKS]
        sizes = "/".join(dict.fromkeys(format_count(one["n"]) for one in found))
        values = (MISSING if one["value"] is None else f"{100 * one['value']:.2f}" for one in found)
        rows.append((subset, sizes, *values))
    return tuple(rows)
