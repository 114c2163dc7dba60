"""Two contestants as a comparison's page shows them: differences, classes, confusions, repairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from praxiscope.comparison.result import FIGURES, LOWER_IS_BETTER
from praxiscope.reporting.comparison.charts import (
    Bar,
    DifferenceChart,
    Scale,
    build_difference,
    draw_difference,
    format_change,
    format_number,
    format_point_interval,
    scale_differences,
)
from praxiscope.reporting.comparison.figures import MAX_MATRIX_CLASSES
from praxiscope.reporting.comparison.repairs import Album, RepairGallery, build_galleries
from praxiscope.reporting.comparison.rows import (
    ClassDelta,
    collect_class_deltas,
    collect_confusion_deltas,
    count_alike,
    find_contestant,
    subtract_confusions,
)
from praxiscope.reporting.comparison.scores import build_cell, list_ends
from praxiscope.reporting.views import NO_PERCENT, SCORE_LABELS
from praxiscope.reporting.wording import (
    MISSING,
    NARROW,
    describe_p_value,
    format_count,
    format_interval,
    format_p_value,
    format_percent,
    format_points,
)

MAX_LISTED = 16
"""Confusions in the table beside the matrix."""


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """One score of both contestants and its difference."""

    label: str
    first: str
    second: str
    difference: str
    interval: str
    clean: str
    bar: Bar | None
    better: str
    """``first``, ``second`` or empty where the interval holds zero."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class of a pair."""

    delta: ClassDelta
    bar: Bar
    interval: str
    p_value: str


@dataclass(frozen=True, kw_only=True)
class ConfusionRow:
    """One confusion that differs."""

    target: str
    preds: str
    first: str
    second: str
    change: str
    is_better: bool
    told_apart: bool


@dataclass(frozen=True, kw_only=True)
class PairView:
    """Everything that the page says about two contestants."""

    first: str
    second: str
    verdict: str
    told_apart: bool
    sentences: tuple[str, ...]
    figures: tuple[FigureRow, ...]
    figure_scale: Scale
    has_clean: bool
    classes: tuple[ClassRow, ...]
    class_scale: Scale
    class_sentence: str
    matrix: DifferenceChart | None
    unit: str
    confusions: tuple[ConfusionRow, ...]
    galleries: tuple[RepairGallery, ...]
    agreement: tuple[tuple[str, str, str], ...]
    """(label, value, note)"""


def build_pair(
    result: Mapping[str, Any], pair: Mapping[str, Any], album: Album, *, max_shown: int
) -> PairView:
    """Arrange one pair.

    Args:
        result: The content of ``comparison.json``.
        pair: One of its ``pairs``.
        album: Where pictures and answers are.
        max_shown: Samples a gallery.
    """
    deltas = collect_class_deltas(pair["per_class"])
    ends = [end for row in deltas.rows for end in (row.difference, row.low, row.high) if end is not None]
    class_scale = scale_differences(ends)
    figures = {key: score for key, score in pair["differences"]["all"].items() if key not in NO_PERCENT}
    figure_scale = scale_differences(list_ends(figures.values()))
    unit = "samples" if count_alike(result, pair) else "points of the true class"
    return PairView(
        first=pair["first"],
        second=pair["second"],
        verdict=pair["verdict"],
        told_apart=bool(pair["told_apart"]),
        sentences=_describe_pair(pair),
        figures=_build_figures(result, pair, figure_scale),
        figure_scale=figure_scale,
        has_clean=pair["differences"].get("clean") is not None,
        classes=tuple(_build_class(row, class_scale) for row in deltas.rows),
        class_scale=class_scale,
        class_sentence=_describe_classes(deltas.told_apart, deltas.total, len(deltas.rows), deltas.undefined),
        matrix=_build_matrix(result, pair, unit),
        unit=unit,
        confusions=_list_confusions(pair),
        galleries=build_galleries(pair, album, max_shown=max_shown),
        agreement=_list_agreement(pair),
    )


def _describe_pair(pair: Mapping[str, Any]) -> tuple[str, ...]:
    test, mcnemar, smallest = pair["test"], pair.get("mcnemar"), pair.get("smallest_difference")
    sentences = []
    if mcnemar:
        sentences.append(
            f"{format_number(mcnemar['only_first'])} samples are right with {pair['first']} alone,"
            f" {format_number(mcnemar['only_second'])} with {pair['second']} alone;"
            f" exact McNemar test: {describe_p_value(mcnemar['p_value'])}."
        )
    if mcnemar is None or not mcnemar["decides"]:
        sentences.append(f"The test that decides: {test['name']}, {describe_p_value(test['p_value'])}.")
    if test.get("p_holm") is not None and test["p_holm"] != test["p_value"]:
        sentences.append(f"Corrected for the number of pairs (Holm): {describe_p_value(test['p_holm'])}.")
    if test.get("reason"):
        sentences.append(test["reason"])
    if smallest and smallest.get("value") is not None:
        sentences.append(
            f"The smallest difference that {format_count(smallest['n'])} samples can tell"
            f" ({100 * smallest['power']:.0f}{NARROW}% of the time):"
            f" {100 * smallest['value']:.1f} points of top-1 accuracy."
        )
    return tuple(sentences)


def _build_figures(result: Mapping[str, Any], pair: Mapping[str, Any], scale: Scale) -> tuple[FigureRow, ...]:
    sides = [find_contestant(result, pair[side])["all"] for side in ("first", "second")]
    clean = pair["differences"].get("clean") or {}
    rows = []
    for key in FIGURES:
        difference = pair["differences"]["all"].get(key)
        if difference is None or difference.get("value") is None:
            continue
        rows.append(
            FigureRow(
                label=SCORE_LABELS[key] + (" (lower is better)" if key in LOWER_IS_BETTER else ""),
                first=build_cell(sides[0].get(key), key, None).value,
                second=build_cell(sides[1].get(key), key, None).value,
                difference=_format_difference(difference["value"], key),
                interval=_format_ends(difference, key),
                clean=_format_clean(clean.get(key), key),
                bar=_draw_figure(difference, key, scale),
                better=_name_better(difference, key),
            )
        )
    return tuple(rows)


def _draw_figure(difference: Mapping[str, Any], key: str, scale: Scale) -> Bar | None:
    if key in NO_PERCENT:
        return None
    # Blue is "second better", whichever direction of the score that is.
    sign = -1.0 if key in LOWER_IS_BETTER else 1.0
    bar = draw_difference(
        difference["value"],
        (difference.get("low"), difference.get("high")),
        scale,
        told_apart=bool(_name_better(difference, key)),
    )
    if sign < 0 and bar.kind != "even":
        return Bar(**{**vars(bar), "kind": "loss" if bar.kind == "gain" else "gain"})
    return bar


def _name_better(difference: Mapping[str, Any], key: str) -> str:
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None or low <= 0 <= high:
        return ""
    return "second" if (low > 0) != (key in LOWER_IS_BETTER) else "first"


def _format_difference(value: float, key: str) -> str:
    return f"{value:+.3f}".replace("-", "\u2212") if key in NO_PERCENT else format_points(value)


def _format_ends(difference: Mapping[str, Any], key: str) -> str:
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None:
        return ""
    return f"{_format_difference(low, key)} to {_format_difference(high, key)}"


def _format_clean(difference: Mapping[str, Any] | None, key: str) -> str:
    if difference is None or difference.get("value") is None:
        return MISSING
    return _format_difference(difference["value"], key)


def _build_class(row: ClassDelta, scale: Scale) -> ClassRow:
    return ClassRow(
        delta=row,
        bar=draw_difference(row.difference, (row.low, row.high), scale, told_apart=row.told_apart),
        interval=format_point_interval(row.low, row.high),
        p_value=format_p_value(row.p_holm),
    )


def _describe_classes(told_apart: int, total: int, shown: int, undefined: int) -> str:
    if not total:
        return "No class has samples, so there is no difference by class."
    verb = "differs" if told_apart == 1 else "differ"
    share = f"{format_count(told_apart)} of {format_count(total)} classes"
    sentence = f"{share} {verb} beyond chance after Holm's correction."
    if shown < total:
        sentence += f" The {shown} largest differences are shown; per_class.csv holds all."
    if undefined:
        sentence += (
            f" {format_count(undefined)} {'class has' if undefined == 1 else 'classes have'} no samples."
        )
    return sentence


def _build_matrix(result: Mapping[str, Any], pair: Mapping[str, Any], unit: str) -> DifferenceChart | None:
    difference = subtract_confusions(result, pair)
    if difference is None or len(result["names"]) > MAX_MATRIX_CLASSES:
        return None
    first = find_contestant(result, pair["first"])["confusion"]
    return build_difference(difference, first, result["names"], unit=unit)


def _list_confusions(pair: Mapping[str, Any]) -> tuple[ConfusionRow, ...]:
    return tuple(
        ConfusionRow(
            target=row.target,
            preds=row.preds,
            first=format_number(row.first),
            second=format_number(row.second),
            change=format_change(row.difference),
            is_better=row.difference < 0,
            told_apart=row.told_apart,
        )
        for row in collect_confusion_deltas(pair["confusion_differences"], limit=MAX_LISTED)
    )


def _list_agreement(pair: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    found = pair.get("agreement")
    if found is None:
        return ()
    kappa = f"Cohen's kappa {found['kappa']:.2f}" if found.get("kappa") is not None else ""
    return (
        ("Same answer", format_percent(found["same_answer"]), kappa),
        ("Both right", format_number(found["both_right"]), "samples"),
        (f"Only {pair['first']}", format_number(found["only_first"]), "right"),
        (f"Only {pair['second']}", format_number(found["only_second"]), "right"),
        ("Both wrong", format_number(found["both_wrong"]), "samples"),
        (
            "Either right",
            format_percent(found["oracle_top1"]["value"]),
            format_interval(found["oracle_top1"]),
        ),
    )
