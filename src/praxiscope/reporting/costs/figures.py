"""The Pareto picture as a PNG file, painted from the same geometry as the page's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon
from matplotlib.patheffects import withStroke

from praxiscope.reporting.costs.chart import (
    BOTTOM,
    FONT_SIZE,
    HEIGHT,
    LEFT,
    RADIUS,
    RIGHT,
    TOP,
    WIDTH,
    Mark,
    ParetoChart,
    build_pareto,
)
from praxiscope.reporting.costs.points import LATENCY, MEMORY
from praxiscope.reporting.figures import GRID, INK, MUTED, drawable, save_figure
from praxiscope.reporting.wording import shorten

COLOURS = (
    "#1d2126",
    "#7a7f86",
    "#3d9bd0",
    "#b85a91",
    "#00835f",
    "#0b5c99",
    "#b97f00",
    "#c0500a",
    "#7d7400",
    "#6a4fb0",
    "#8c2f2f",
    "#3f6f6f",
)
"""One a runtime, in the order of `points.RUNTIMES`, then the spare ones; ``costs.css`` has the same."""
_POINTS_A_UNIT = 0.72
_HALO = withStroke(linewidth=2.5, foreground="white")
_MARKERS = ("o", "s", "^", "D", "*", "P", "v", "h")


def plot_pareto(chart: ParetoChart) -> Figure:
    """Draw accuracy against a cost, with intervals, frontier, limits and the chosen point.

    Args:
        chart: From `build_pareto`.

    Returns:
        The figure; `save_figure` writes it.
    """
    rows = 1 + (len(chart.models) + 2) // 3 + (len(chart.runtimes) + 3) // 4
    height = HEIGHT / 100 + 0.24 * rows + 0.35
    figure = Figure(figsize=(WIDTH / 100, height))
    part = HEIGHT / 100 / height
    axes = figure.add_axes((0.0, 1.0 - part - 0.35 / height, 1.0, part))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    figure.text(LEFT / WIDTH, 1 - 0.28 / height, chart.title, color=INK, fontsize=12, fontweight="bold")
    _draw_scales(axes, chart)
    _draw_marks(axes, chart)
    _draw_labels(axes, chart)
    _draw_legends(figure, chart, top=1.0 - part - 0.33 / height, row=0.24 / height)
    return figure


def write_profile_figures(profile: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write ``pareto_latency.png`` and ``pareto_memory.png``; one without a point isn't written.

    Args:
        profile: The content of ``profile.json``.
        folder: Existing folder.
    """
    charts = (("pareto_latency.png", LATENCY), ("pareto_memory.png", MEMORY))
    drawn = ((name, build_pareto(profile, kind)) for name, kind in charts)
    return tuple(save_figure(plot_pareto(chart), folder / name) for name, chart in drawn if chart is not None)


def _draw_scales(axes: Axes, chart: ParetoChart) -> None:
    size = FONT_SIZE * _POINTS_A_UNIT
    for tick in chart.y_ticks:
        axes.plot([LEFT, WIDTH - RIGHT], [tick.at, tick.at], color=GRID, linewidth=0.8, zorder=1)
        axes.text(LEFT - 8, tick.at, tick.label, ha="right", va="center", fontsize=size, color=MUTED)
    for tick in chart.x_ticks:
        axes.plot([tick.at, tick.at], [TOP, HEIGHT - BOTTOM], color=GRID, linewidth=0.8, zorder=1)
        axes.text(tick.at, HEIGHT - BOTTOM + 8, tick.label, ha="center", va="top", fontsize=size, color=MUTED)
    axes.text(WIDTH - RIGHT, HEIGHT - 12, chart.axis, ha="right", va="center", fontsize=size, color=MUTED)
    axes.text(LEFT, HEIGHT - 12, "accuracy (%, upwards)", ha="left", va="center", fontsize=size, color=MUTED)
    for x1, y1, x2, y2, text in chart.limits:
        axes.plot([x1, x2], [y1, y2], color=INK, linewidth=1.1, linestyle=(0, (6, 3)), zorder=2)
        is_upright = x1 == x2
        axes.text(
            x1 - 5 if is_upright else x1 + 4, TOP + 10 if is_upright else y1 - 8, text,
            ha="right" if is_upright else "left", va="center",
            fontsize=size, color=INK, path_effects=[_HALO], zorder=6,
        )  # fmt: skip


def _draw_marks(axes: Axes, chart: ParetoChart) -> None:
    xs, ys = zip(*chart.frontier, strict=True)
    axes.plot(xs, ys, color=MUTED, linewidth=1.3, zorder=2)
    for order, mark in enumerate(chart.marks):
        shade, alpha = COLOURS[mark.colour], 0.35 if mark.pale else 1.0
        zorder = 3 + order / 1000
        _draw_whiskers(axes, mark, shade, alpha * 0.7, zorder)
        axes.add_patch(
            Polygon(
                mark.corners, facecolor=shade, edgecolor="white", linewidth=0.7, alpha=alpha, zorder=zorder
            )
        )
        if mark.ringed:
            axes.add_patch(
                Circle((mark.x, mark.y), 1.9 * RADIUS, fill=False, edgecolor=INK, linewidth=1.6, zorder=5)
            )


def _draw_whiskers(axes: Axes, mark: Mark, shade: str, alpha: float, zorder: float) -> None:
    for xs, ys in (((mark.left, mark.right), (mark.y, mark.y)), ((mark.x, mark.x), (mark.top, mark.bottom))):
        axes.plot(xs, ys, color=shade, linewidth=1.2, alpha=alpha, zorder=zorder)


def _draw_labels(axes: Axes, chart: ParetoChart) -> None:
    for label in chart.labels:
        if label.lead is not None:
            axes.plot(
                [label.anchor_x, label.lead[0]],
                [label.anchor_y, label.lead[1]],
                color=MUTED,
                linewidth=0.7,
                zorder=2,
            )
        axes.text(
            label.x, label.y, drawable(label.text), fontsize=FONT_SIZE * _POINTS_A_UNIT * 0.94, color=INK,
            va="baseline", zorder=6, parse_math=False, path_effects=[_HALO],
        )  # fmt: skip


def _draw_legends(figure: Figure, chart: ParetoChart, *, top: float, row: float) -> None:
    style = {
        "frameon": False,
        "fontsize": 8.5,
        "handletextpad": 0.4,
        "columnspacing": 1.4,
        "borderaxespad": 0.0,
    }
    shapes = [
        Line2D([], [], linestyle="", marker=_MARKERS[shape], color=MUTED, markersize=6)
        for _, shape in chart.models
    ]
    colours = [
        Line2D([], [], linestyle="", marker="s", color=COLOURS[colour], markersize=7)
        for _, colour in chart.runtimes
    ]
    left = LEFT / WIDTH
    for handles, names, ncols, at in (
        (shapes, chart.models, 3, top),
        (colours, chart.runtimes, 4, top - row * ((len(chart.models) + 2) // 3) - 0.5 * row),
    ):
        legend = figure.legend(
            handles, [shorten(drawable(name), 34) for name, _ in names],
            loc="upper left", bbox_to_anchor=(left, at), ncols=ncols, **style,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)
