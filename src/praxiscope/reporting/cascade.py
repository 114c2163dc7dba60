"""The curve of a cascade as a picture and as a table: accuracy against mean cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from praxiscope.reporting.figures import BLUE, GRID, INK, MUTED, ORANGE, save_figure
from praxiscope.runs import atomic
from praxiscope.stats.cascade import ThresholdCurve

COLUMNS = (
    "threshold",
    "val_asked",
    "val_accuracy",
    "val_cost_ms",
    "test_asked",
    "test_accuracy",
    "test_cost_ms",
)


def write_curve_csv(val: ThresholdCurve, test: ThresholdCurve, path: Path) -> Path:
    """Write one row a threshold and return ``path``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = (val.thresholds, val.asked, val.accuracy, val.cost, test.asked, test.accuracy, test.cost)
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    atomic.write_text(path, text.getvalue())
    return path


def plot_cascade(
    val: ThresholdCurve, test: ThresholdCurve, figures: Mapping[str, Any], threshold: float
) -> Figure:
    """Draw both curves, the two networks alone, and the chosen threshold with its test intervals.

    Args:
        val: Curve that was planned with.
        test: The same thresholds on test.
        figures: ``confirmed`` of ``cascade.json``: ``accuracy`` and ``cost_ms`` with their intervals.
        threshold: The chosen one.

    Returns:
        The figure; `save_figure` writes it.
    """
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    # The last point is the large network alone: between it and the curve there is nothing.
    inner = slice(None, -1)
    axes.plot(val.cost[inner], 100 * val.accuracy[inner], color=BLUE, linewidth=1.8, label="validation")
    axes.plot(
        test.cost[inner],
        100 * test.accuracy[inner],
        color=ORANGE,
        linewidth=1.6,
        linestyle="--",
        label="test",
    )
    for curve, color, marker in ((val, BLUE, "o"), (test, ORANGE, "s")):
        axes.plot(curve.cost[[0, -1]], 100 * curve.accuracy[[0, -1]], marker, color=color, markersize=5)
    for place, name in ((0, "small alone (t = 0)"), (-1, "large alone (t = 1)")):
        axes.annotate(
            name, (float(test.cost[place]), 100 * float(test.accuracy[place])), xytext=(6, -12),
            textcoords="offset points", fontsize=8, color=MUTED, ha="left" if place == 0 else "right",
        )  # fmt: skip
    _mark_chosen(axes, val, figures, threshold)
    axes.set_xlabel("mean cost of a sample, ms", color=MUTED)
    axes.set_ylabel("accuracy, %", color=MUTED)
    axes.set_title("Cascade", loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.08, y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=MUTED, length=0)
    axes.legend(frameon=False, loc="lower right")
    return figure


def write_cascade_figure(
    val: ThresholdCurve, test: ThresholdCurve, figures: Mapping[str, Any], threshold: float, path: Path
) -> Path:
    """Write the `plot_cascade` figure and return ``path``."""
    return save_figure(plot_cascade(val, test, figures, threshold), path)


def _mark_chosen(axes: Axes, val: ThresholdCurve, found: Mapping[str, Any], threshold: float) -> None:
    place = int(np.flatnonzero(val.thresholds == threshold)[0])
    planned = (float(val.cost[place]), 100 * float(val.accuracy[place]))
    axes.plot(*planned, "D", color=BLUE, markersize=8, label=f"planned, t = {threshold:.3f}")
    cost, accuracy = found["cost_ms"], found["accuracy"]
    across, up = _reach(cost), _reach(accuracy, scale=100)
    axes.errorbar(
        cost["value"], 100 * accuracy["value"], xerr=across, yerr=up, fmt="D", color=ORANGE, markersize=6,
        capsize=3, linewidth=1.4, label="test, 95 % intervals",
    )  # fmt: skip


def _reach(figure: Mapping[str, Any], scale: float = 1.0) -> list[list[float]] | None:
    """Return how far an interval reaches below and above its value; None where there is none."""
    if figure["low"] is None or figure["high"] is None:
        return None
    below, above = figure["value"] - figure["low"], figure["high"] - figure["value"]
    return [[scale * max(0.0, below)], [scale * max(0.0, above)]]
