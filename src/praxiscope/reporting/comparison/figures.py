"""PNG figures of a comparison: differences of classes, scores, confusions and seeds.

Blue says "the second contestant is better", orange "the first is better"; the side of the zero line and the
sign say the same. What can't be told apart is pale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from praxiscope.reporting.comparison.rows import (
    ClassDeltas,
    ConfusionDelta,
    collect_class_deltas,
    collect_confusion_deltas,
    count_alike,
    order_pairs,
    subtract_confusions,
)
from praxiscope.reporting.figures import BLUE, INK, MUTED, ORANGE, drawable, dress_axes, save_figure
from praxiscope.reporting.wording import shorten

MAX_MATRIX_CLASSES = 60
"""Up to this many classes the confusion difference is drawn as a matrix; beyond, as a list of the largest."""
MAX_COUNTED_CLASSES = 30
_DIVERGING = LinearSegmentedColormap.from_list("better", [ORANGE, "#f0b48c", "#fbfaf8", "#8fc1e3", BLUE])
_PALE = 0.4


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One line of a forest plot."""

    label: str
    value: float
    low: float | None
    high: float | None
    told_apart: bool = True
    dots: tuple[float, ...] = ()
    """Values of single seeds."""


def plot_delta_bar(deltas: ClassDeltas, *, first: str, second: str) -> Figure:
    """Draw the difference of recall of each class with its interval, best for ``second`` on top.

    Classes that can be told apart after Holm's correction are in full colour with an asterisk.

    Args:
        deltas: From `collect_class_deltas`; the largest differences where there are many classes.
        first: Label of the contestant that is subtracted.
        second: Label of the other.

    Returns:
        The figure; `save_figure` writes it.

    Raises:
        ValueError: No class has a difference.
    """
    if not deltas.rows:
        raise ValueError("there is no class with a difference to draw: each one has no samples")
    rows = deltas.rows
    figure = Figure(figsize=(8.6, 1.9 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour, alpha = _shade(row.difference), 1.0 if row.told_apart else _PALE
        axes.barh(place, 100 * row.difference, height=0.72, color=colour, alpha=alpha, linewidth=0)
        _draw_whisker(axes, row.low, row.high, place)
    names = [
        f"{'* ' if row.told_apart else ''}{shorten(drawable(row.name), 34)}  ({row.support:,})"
        for row in rows
    ]
    _set_rows(axes, names)
    shown = "" if len(rows) == deltas.total else f", {len(rows)} of {deltas.total:,} classes"
    dress_axes(axes, f"Difference of recall by class{shown}")
    _direct(axes, first, second)
    axes.set_xlabel(
        f"percentage points, 95 % intervals; * told apart after Holm's correction: {deltas.told_apart:,}",
        color=MUTED,
    )
    return figure


def plot_forest(panels: Sequence[tuple[str, Sequence[ForestRow], bool]]) -> Figure:
    """Draw values with their intervals, one panel below the other.

    Args:
        panels: (title, rows, whether the rows are differences); fractions in [0, 1]. A panel of differences
            has a line at zero.

    Returns:
        The figure; `save_figure` writes it.

    Raises:
        ValueError: There is no row to draw.
    """
    filled = [panel for panel in panels if panel[1]]
    if not filled:
        raise ValueError("there is nothing to draw: no score with a value")
    heights = [len(rows) + 1.6 for _, rows, _ in filled]
    figure = Figure(figsize=(8.6, 0.4 + 0.34 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(filled), 1, squeeze=False, height_ratios=heights)
    for axes, (title, rows, is_difference) in zip(grid[:, 0], filled, strict=True):
        for place, row in enumerate(rows):
            colour = _shade(row.value) if is_difference else BLUE
            alpha = 1.0 if row.told_apart else _PALE + 0.15
            if row.low is not None and row.high is not None:
                axes.plot(
                    [100 * row.low, 100 * row.high],
                    [place, place],
                    color=colour,
                    alpha=alpha * 0.6,
                    linewidth=5,
                    solid_capstyle="butt",
                )
            axes.plot(
                [100 * dot for dot in row.dots],
                [place] * len(row.dots),
                "|",
                color=INK,
                markersize=9,
                alpha=0.7,
            )
            axes.plot(
                [100 * row.value],
                [place],
                "D" if is_difference else "o",
                color=colour,
                alpha=alpha,
                markersize=6,
            )
        _set_rows(axes, [shorten(drawable(row.label), 44) for row in rows])
        dress_axes(axes, title)
        if is_difference:
            axes.axvline(0, color=INK, linewidth=1.0)
            _make_symmetric(axes)
        axes.set_xlabel(
            "percentage points, 95 % intervals" if is_difference else "%, 95 % intervals",
            color=MUTED,
            fontsize=9,
        )
    return figure


def plot_confusion_difference(
    difference: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    first: str,
    second: str,
    unit: str = "samples",
) -> Figure:
    """Draw a confusion matrix minus another; blue where ``second`` does better.

    Doing better is more on the diagonal and less beside it. The number in a cell is ``second`` minus
    ``first``.

    Args:
        difference: (K, K) second minus first, rows true, columns predicted.
        names: K class names.
        first: Label of the contestant that is subtracted.
        second: Label of the other.
        unit: Of the numbers.

    Returns:
        The figure; `save_figure` writes it.

    Raises:
        ValueError: ``difference`` isn't K x K for the K names.
    """
    values = np.asarray(difference, dtype=np.float64)
    classes = len(names)
    if classes == 0 or values.shape != (classes, classes):
        raise ValueError(
            f"difference has shape {values.shape}; allowed is {(classes, classes)}, one row per name"
        )
    better = np.where(np.eye(classes, dtype=bool), values, -values)
    limit = max(float(np.abs(better).max()), 1.0)
    is_counted = classes <= MAX_COUNTED_CLASSES
    side = min(20.0, max(5.4, 2.4 + classes * (0.46 if is_counted else 0.24)))
    font_size = 8.5 if is_counted else 6.5
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.subplots()
    # The square root keeps small differences visible; the sign stays.
    image = axes.imshow(
        _spread(better / limit), cmap=_DIVERGING, vmin=-1.0, vmax=1.0, interpolation="nearest"
    )
    labels = [shorten(drawable(name), 26) for name in names]
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=font_size, parse_math=False)
    axes.set_yticks(range(classes), labels, fontsize=font_size, parse_math=False)
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    labels = [shorten(drawable(name), 26) for name in (second, first)]
    dress_axes(axes, "{} \u2212 {} ({})".format(*labels, unit))
    axes.grid(visible=False)
    if is_counted:
        _print_differences(axes, values, _spread(better / limit), font_size)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.03, shrink=0.4, aspect=16, pad=0.02, ticks=[-1.0, 0.0, 1.0]
    )
    ends = (f"{labels[1]} better", "same", f"{labels[0]} better")
    bar.ax.set_yticklabels(ends, fontsize=font_size, parse_math=False)
    bar.outline.set_visible(False)
    return figure


def plot_confusion_list(rows: Sequence[ConfusionDelta], *, first: str, second: str) -> Figure:
    """Draw how often each of some confusions occurs for both contestants, as a dumbbell a row.

    Args:
        rows: From `collect_confusion_deltas`.
        first: Label of the one contestant, an open marker.
        second: Label of the other, a filled one.

    Returns:
        The figure; `save_figure` writes it.

    Raises:
        ValueError: ``rows`` is empty.
    """
    if not rows:
        raise ValueError("there is no confusion that differs between the two")
    figure = Figure(figsize=(8.6, 1.9 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour = BLUE if row.difference < 0 else ORANGE
        axes.plot(
            [row.first, row.second],
            [place, place],
            color=colour,
            linewidth=3,
            alpha=1.0 if row.told_apart else _PALE,
        )
        axes.plot(
            [row.first],
            [place],
            "o",
            markerfacecolor="white",
            markeredgecolor=INK,
            markersize=6,
            clip_on=False,
        )
        axes.plot([row.second], [place], "o", color=colour, markersize=6, clip_on=False)
    arrows = (
        f"{shorten(drawable(row.target), 24)} \u2192 {shorten(drawable(row.preds), 24)}" for row in rows
    )
    _set_rows(
        axes, [f"{'* ' if row.told_apart else ''}{arrow}" for row, arrow in zip(rows, arrows, strict=True)]
    )
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress_axes(axes, "Confusions that differ most, true \u2192 predicted")
    names = (shorten(drawable(name), 30) for name in (first, second))
    axes.set_xlabel(
        "samples; open: {}, filled: {} (blue: fewer, orange: more)".format(*names),
        color=MUTED,
        parse_math=False,
    )
    return figure


def write_comparison_figures(result: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write the figures of a comparison beside its ``comparison.json``.

    ``forest.png``, and of the two most accurate contestants ``delta_bar.png`` and
    ``confusion_difference.png``; of further pairs ``delta_bar-2.png`` and so on. What can't be drawn (no
    class with samples, no confusion matrix) isn't written.

    Args:
        result: The content of ``comparison.json``.
        folder: Existing folder.

    Returns:
        The paths written.
    """
    paths = []
    panels = list_forest_panels(result)
    if any(rows for _, rows, _ in panels):
        paths.append(save_figure(plot_forest(panels), folder / "forest.png"))
    for number, pair in enumerate(order_pairs(result), start=1):
        ending = ".png" if number == 1 else f"-{number}.png"
        labels = {"first": pair["first"], "second": pair["second"]}
        deltas = collect_class_deltas(pair["per_class"])
        if deltas.rows:
            paths.append(save_figure(plot_delta_bar(deltas, **labels), folder / f"delta_bar{ending}"))
        figure = _draw_confusions(result, pair)
        if figure is not None:
            paths.append(save_figure(figure, folder / f"confusion_difference{ending}"))
    return tuple(paths)


def list_forest_panels(result: Mapping[str, Any]) -> list[tuple[str, list[ForestRow], bool]]:
    """Return what `plot_forest` draws of a comparison: top-1 and macro F1, each with its differences."""
    panels: list[tuple[str, list[ForestRow], bool]] = []
    for key, title in (("top1", "Top-1 accuracy"), ("macro_f1", "Macro F1")):
        scores = [
            ForestRow(
                label=one["label"],
                value=score["value"],
                low=score["low"],
                high=score["high"],
                dots=_list_seeds(one) if key == "top1" else (),
            )
            for one in result["contestants"]
            if (score := one["all"].get(key)) is not None and score["value"] is not None
        ]
        differences = [
            ForestRow(
                label=f"{shorten(pair['second'], 20)} \u2212 {shorten(pair['first'], 20)}",
                value=score["value"],
                low=score["low"],
                high=score["high"],
                told_apart=pair["told_apart"],
            )
            for pair in order_pairs(result)
            if (score := pair["differences"]["all"].get(key)) is not None and score["value"] is not None
        ]
        panels += [(title, scores, False), (f"{title}: difference", differences, True)]
    return panels


def _list_seeds(contestant: Mapping[str, Any]) -> tuple[float, ...]:
    members = contestant["members"]
    return tuple(one["top1"] for one in members if one.get("top1") is not None) if len(members) > 1 else ()


def _draw_confusions(result: Mapping[str, Any], pair: Mapping[str, Any]) -> Figure | None:
    labels = {"first": pair["first"], "second": pair["second"]}
    if len(result["names"]) > MAX_MATRIX_CLASSES:
        rows = collect_confusion_deltas(pair["confusion_differences"])
        return plot_confusion_list(rows, **labels) if rows else None
    difference = subtract_confusions(result, pair)
    if difference is None:
        return None
    unit = "samples" if count_alike(result, pair) else "points of the true class"
    return plot_confusion_difference(difference, result["names"], **labels, unit=unit)


def _shade(difference: float) -> str:
    return BLUE if difference > 0 else (ORANGE if difference < 0 else MUTED)


def _draw_whisker(axes: Axes, low: float | None, high: float | None, place: int) -> None:
    if low is not None and high is not None:
        axes.plot([100 * low, 100 * high], [place, place], color=INK, linewidth=1.1)
        axes.plot([100 * low, 100 * high], [place, place], "|", color=INK, markersize=5, markeredgewidth=1.1)


def _set_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8.5, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _direct(axes: Axes, first: str, second: str) -> None:
    """Draw the zero line, and say on which side who is better."""
    axes.axvline(0, color=INK, linewidth=1.0)
    _make_symmetric(axes)
    for at, side, text in (
        (0.0, "left", f"\u2190 {shorten(drawable(first), 30)} better"),
        (1.0, "right", f"{shorten(drawable(second), 30)} better \u2192"),
    ):
        colour = ORANGE if side == "left" else BLUE
        axes.annotate(
            text, (at, 1.0), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
            ha=side, va="bottom", fontsize=9, color=colour, parse_math=False,
        )  # fmt: skip
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=11, color=INK, fontweight="bold", pad=22)


def _make_symmetric(axes: Axes) -> None:
    reach = max(map(abs, axes.get_xlim()))
    axes.set_xlim(-reach, reach)


def _spread(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    spread: np.ndarray[Any, Any] = np.sign(values) * np.sqrt(np.abs(values))
    return spread


def _print_differences(
    axes: Axes, values: np.ndarray[Any, Any], strength: np.ndarray[Any, Any], font_size: float
) -> None:
    for row, column in zip(*np.nonzero(np.abs(values) >= 0.05), strict=True):
        value = values[row, column]
        text = f"{value:+.0f}" if float(value).is_integer() else f"{value:+.1f}"
        color = "white" if abs(strength[row, column]) > 0.8 else INK
        axes.text(
            column,
            row,
            text.replace("-", "\u2212"),
            ha="center",
            va="center",
            fontsize=font_size - 0.5 * (len(text) > 3),
            color=color,
        )
