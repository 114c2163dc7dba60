"""Geometry of the Pareto picture: one drawing for the page (SVG) and for the PNG file.

All coordinates are user units of a ``WIDTH`` x ``HEIGHT`` box, y downwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from praxiscope.reporting.charts import Tick, compute_ticks
from praxiscope.reporting.costs.labels import Label, place_labels
from praxiscope.reporting.costs.points import CostKind, CostPoint, collect_points, number_runtimes
from praxiscope.reporting.wording import NARROW, format_interval, format_percent, shorten, show_text

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 18, 54
FONT_SIZE = 12.5
RADIUS = 6.0
MAX_LABELLED = 8
"""Up to so many points are all labelled; of more, those on the frontier and the chosen one."""


def _star(corners: int, inner: float, *, turn: float = -90.0) -> tuple[tuple[float, float], ...]:
    """Return the corners of a star of radius 1; of a polygon where ``inner`` is 1."""
    step = 360.0 / corners / (1 if inner == 1.0 else 2)
    count = corners if inner == 1.0 else 2 * corners
    angles = (math.radians(turn + index * step) for index in range(count))
    radii = (1.0 if inner == 1.0 or index % 2 == 0 else inner for index in range(count))
    return tuple(
        (round(r * math.cos(a), 3), round(r * math.sin(a), 3)) for a, r in zip(angles, radii, strict=True)
    )


SHAPES = (
    ("circle", _star(24, 1.0)),
    ("square", ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88))),
    ("triangle", tuple((1.15 * x, 1.15 * y) for x, y in _star(3, 1.0))),
    ("diamond", tuple((1.15 * x, 1.15 * y) for x, y in _star(4, 1.0))),
    ("star", tuple((1.3 * x, 1.3 * y) for x, y in _star(5, 0.45))),
    ("cross", tuple((1.2 * x, 1.2 * y) for x, y in _star(4, 0.42))),
    ("downward triangle", tuple((1.15 * x, 1.15 * y) for x, y in _star(3, 1.0, turn=90.0))),
    ("hexagon", _star(6, 1.0)),
)
"""Names and corners, in a circle of radius 1, of the markers of models; they repeat after eight."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point of the picture."""

    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float
    """Ends of the two intervals."""
    shape: int
    colour: int
    pale: bool
    ringed: bool
    note: str

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """The marker's corners in the picture."""
        return tuple(
            (round(self.x + RADIUS * x, 1), round(self.y + RADIUS * y, 1)) for x, y in SHAPES[self.shape][1]
        )


@dataclass(frozen=True, kw_only=True)
class ParetoChart:
    """Accuracy against one cost."""

    title: str
    axis: str
    summary: str
    marks: tuple[Mark, ...]
    """The pale ones first, so that the frontier lies on top."""
    frontier: tuple[tuple[float, float], ...]
    """Corners of the staircase, from the cheapest point to the most accurate."""
    labels: tuple[Label, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    limits: tuple[tuple[float, float, float, float, str], ...]
    """(x1, y1, x2, y2, text) of the user's limits."""
    models: tuple[tuple[str, int], ...]
    """(name, shape)"""
    runtimes: tuple[tuple[str, int], ...]
    """(name, colour)"""
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, kw_only=True)
class _Axes:
    low_cost: float
    high_cost: float
    low_accuracy: float
    high_accuracy: float

    def across(self, cost: float) -> float:
        share = math.log(cost / self.low_cost) / math.log(self.high_cost / self.low_cost)
        return round(LEFT + share * (WIDTH - RIGHT - LEFT), 1)

    def down(self, accuracy: float) -> float:
        share = (accuracy - self.low_accuracy) / (self.high_accuracy - self.low_accuracy)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def build_pareto(profile: Mapping[str, Any], kind: CostKind) -> ParetoChart | None:
    """Return the picture of accuracy against a cost, or None where no point has both.

    Args:
        profile: The content of ``profile.json``.
        kind: Which cost.
    """
    points = collect_points(profile, kind)
    if not points:
        return None
    constraints = profile.get("constraints") or {}
    axes = _choose_axes(points, constraints.get(kind.limit), constraints.get("min_accuracy"))
    models = tuple(dict.fromkeys(point.model for point in points))
    colours = number_runtimes(list(dict.fromkeys(point.runtime for point in points)))
    shapes = {model: index % len(SHAPES) for index, model in enumerate(models)}
    marks = tuple(
        _mark(point, axes, kind, shapes[point.model], colours[point.runtime])
        for point in sorted(points, key=lambda point: (not point.dominated, point.chosen))
    )
    frontier = _draw_frontier(points, axes)
    limits = _list_limits(axes, kind, constraints)
    return ParetoChart(
        title=kind.title,
        axis=kind.axis,
        summary=f"{kind.title}: " + "; ".join(mark.note for mark in marks) + ".",
        marks=marks,
        frontier=frontier,
        labels=_place(points, axes, marks, frontier, limits),
        x_ticks=tuple(
            Tick(at=axes.across(value), label=f"{value:g}")
            for value in compute_log_ticks(axes.low_cost, axes.high_cost)
        ),
        y_ticks=tuple(
            Tick(at=axes.down(value), label=f"{round(100 * value, 6):g}")
            for value in compute_ticks(axes.low_accuracy, axes.high_accuracy, wanted=6)
        ),
        limits=limits,
        models=tuple(shapes.items()),
        runtimes=tuple(sorted(colours.items(), key=lambda one: one[1])),
    )


def list_shapes() -> tuple[str, ...]:
    """Return the corners of each marker around the origin, as SVG writes them, for legends."""
    return tuple(
        " ".join(f"{round(RADIUS * x, 2)},{round(RADIUS * y, 2)}" for x, y in corners)
        for _, corners in SHAPES
    )


def compute_log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return values that read well on a logarithmic axis: 1, 2, 5 times powers of ten, or powers alone.

    Args:
        low: Smaller end, > 0.
        high: Larger end.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1,)):
        ticks = [
            factor * 10.0**power
            for power in powers
            for factor in factors
            if low <= factor * 10.0**power <= high
        ]
        if len(ticks) <= 8:
            break
    # Over less than an octave such values may all lie outside; equal steps read well there.
    return tuple(ticks) if len(ticks) > 1 else compute_ticks(low, high, wanted=4)


def _choose_axes(points: Sequence[CostPoint], cost_limit: float | None, floor: float | None) -> _Axes:
    costs = [end for point in points for end in (point.cost.low, point.cost.high) if end > 0]
    costs += [cost_limit] if cost_limit else []
    heights = [end for point in points for end in (point.accuracy.low, point.accuracy.high)]
    heights += [floor] if floor is not None else []
    # A decade's quarter of room keeps labels of the outermost points inside.
    room = max((max(costs) / min(costs)) ** 0.07, 1.12)
    margin = max(0.08 * (max(heights) - min(heights)), 0.005)
    return _Axes(
        low_cost=min(costs) / room,
        high_cost=max(costs) * room,
        low_accuracy=max(min(heights) - margin, -0.02),
        high_accuracy=min(max(heights) + margin, 1.02),
    )


def _mark(point: CostPoint, axes: _Axes, kind: CostKind, shape: int, colour: int) -> Mark:
    cost, accuracy = point.cost, point.accuracy
    interval = format_interval({"low": accuracy.low, "high": accuracy.high})
    spread = f" ({cost.low:.3g}\u2013{cost.high:.3g})" if cost.high > cost.low else ""
    return Mark(
        x=axes.across(cost.value),
        y=axes.down(accuracy.value),
        left=axes.across(max(cost.low, axes.low_cost)),
        right=axes.across(cost.high),
        top=axes.down(accuracy.high),
        bottom=axes.down(accuracy.low),
        shape=shape,
        colour=colour,
        pale=point.dominated,
        ringed=point.chosen,
        note=(
            f"{point.model}, {point.runtime}: {format_percent(accuracy.value)} right"
            f"{f' ({interval})' if accuracy.high > accuracy.low else ''},"
            f" {cost.value:.3g}{NARROW}{kind.unit}{spread}"
            f"{', chosen' if point.chosen else ''}{', dominated' if point.dominated else ''}"
        ),
    )


def _draw_frontier(points: Sequence[CostPoint], axes: _Axes) -> tuple[tuple[float, float], ...]:
    best = sorted({(point.cost.value, point.accuracy.value) for point in points if not point.dominated})
    corners: list[tuple[float, float]] = []
    for cost, accuracy in best:
        x, y = axes.across(cost), axes.down(accuracy)
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return (*corners, (float(WIDTH - RIGHT), corners[-1][1]))


def _list_limits(
    axes: _Axes, kind: CostKind, constraints: Mapping[str, Any]
) -> tuple[tuple[float, float, float, float, str], ...]:
    limits = []
    if constraints.get(kind.limit):
        x = axes.across(float(constraints[kind.limit]))
        text = f"at most {constraints[kind.limit]:g}{NARROW}{kind.unit}"
        limits.append((x, float(TOP), x, float(HEIGHT - BOTTOM), text))
    if constraints.get("min_accuracy") is not None:
        y = axes.down(float(constraints["min_accuracy"]))
        text = f"at least {format_percent(constraints['min_accuracy'])}"
        limits.append((float(LEFT), y, float(WIDTH - RIGHT), y, text))
    return tuple(limits)


def _place(
    points: Sequence[CostPoint],
    axes: _Axes,
    marks: Sequence[Mark],
    frontier: Sequence[tuple[float, float]],
    limits: Sequence[tuple[float, float, float, float, str]],
) -> tuple[Label, ...]:
    named = [point for point in points if len(points) <= MAX_LABELLED or point.chosen or not point.dominated]
    named.sort(key=lambda point: (not point.chosen, point.dominated, -point.accuracy.value, point.cost.value))
    wanted = [
        (
            f"{shorten(show_text(point.model), 24)} \u00b7 {shorten(show_text(point.runtime), 24)}",
            axes.across(point.cost.value),
            axes.down(point.accuracy.value),
        )
        for point in named
    ]
    lines = [(mark.x, mark.top, mark.x, mark.bottom) for mark in marks]
    lines += [(mark.left, mark.y, mark.right, mark.y) for mark in marks]
    lines += [(x1, y1, x2, y2) for (x1, y1), (x2, y2) in itertools.pairwise(frontier)]
    # Twice: a label across a limit's line reads worse than one across a whisker.
    lines += 2 * [limit[:4] for limit in limits]
    return place_labels(
        wanted,
        points=[(mark.x, mark.y) for mark in marks],
        lines=lines,
        frame=(LEFT + 2.0, TOP + 20.0, WIDTH - 2.0, HEIGHT - BOTTOM - 4.0),
        font_size=FONT_SIZE,
    )
