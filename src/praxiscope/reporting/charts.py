"""Geometry of the vector charts in the HTML report: numbers in, coordinates out, no markup.

The template turns these into inline SVG whose colours are CSS variables, so that one drawing serves the
light theme, the dark theme and paper. All coordinates are in user units of the chart's own ``width`` x
``height`` box, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from praxiscope.reporting.wording import describe_joints, format_count, format_percent, shorten, show_text

Place = Callable[[float], float]
WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34
MAX_COUNTED_CLASSES = 24
"""Up to this many classes a cell is wide enough for its count; beyond, the count is in the cell's tooltip."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One measured value: where it lies, and what a tooltip says about it."""

    x: float
    y: float
    note: str
    radius: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series: polylines (several where values are missing) and their dots."""

    name: str
    paths: tuple[str, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """A panel with one or two series over epochs, or accuracy over confidence."""

    title: str
    summary: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marker: float | None
    joints: tuple[Tick, ...] = ()
    """Where the run was continued to another number of epochs."""
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One non-empty cell of the confusion matrix."""

    row: int
    column: int
    count: int
    share: float
    strength: float


@dataclass(frozen=True, kw_only=True)
class MatrixFrame:
    """Names and sizes of a K x K matrix that keep its labels readable."""

    names: tuple[str, ...]
    short_names: tuple[str, ...]
    label_width: float
    """Room for the names, left and on top."""
    side: float
    """Of a cell."""
    font_size: float
    counted: bool
    """Whether a number fits into a cell."""


@dataclass(frozen=True, kw_only=True)
class ConfusionChart(MatrixFrame):
    """Non-empty cells of a K x K confusion matrix."""

    cells: tuple[Cell, ...]
    supports: tuple[int, ...]


def compute_ticks(low: float, high: float, *, wanted: int = 5) -> tuple[float, ...]:
    """Return round values (1, 2, 2.5 or 5 times a power of ten) inside [low, high].

    Args:
        low: Smaller end of the axis.
        high: Larger end; when it isn't larger, the one value ``low`` is returned.
        wanted: About how many ticks.
    """
    if not high > low:
        return (low,)
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(index * step for index in range(first, last + 1))


def build_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    best_epoch: int | None,
    extensions: Sequence[Mapping[str, Any]] = (),
) -> tuple[LineChart, ...]:
    """Return the panels loss, top-1 (of several heads also each one's) and learning rate.

    A panel without a single finite value is left out.

    Args:
        rows: One mapping per epoch, as in ``metrics.jsonl``; missing and non-finite values leave gaps.
        best_epoch: Epoch of the kept checkpoint, marked by a vertical line.
        extensions: Where the run was continued, as in ``run.json``, marked by a vertical line with words.
    """
    panels = (
        ("Loss", (("train", "train/loss"), ("val", "val/loss")), 1.0, ""),
        ("Top-1 accuracy (%)", (("train", "train/top1"), ("val", "val/top1")), 100.0, "\u202f%"),
        *(
            (f"Top-1, {head} (%)", (("train", f"train/{head}_top1"), ("val", key)), 100.0, "\u202f%")
            for key in rows[0]
            if (head := _find_head(key))
        ),
        ("Learning rate", (("lr", "lr"),), 1.0, ""),
    )
    charts = []
    for title, keys, scale, unit in panels:
        series = {name: _read_series(rows, key, scale) for name, key in keys}
        if any(series.values()):
            charts.append(_mark_joints(_build_panel(title, series, unit, best_epoch), rows, extensions))
    return tuple(charts)


def _find_head(key: str) -> str:
    """Return the head whose top-1 a column is, nothing where it is none."""
    inner = key.removeprefix("val/").removesuffix("_top1")
    return inner if key == f"val/{inner}_top1" else ""


def _mark_joints(
    chart: LineChart, rows: Sequence[Mapping[str, Any]], extensions: Sequence[Mapping[str, Any]]
) -> LineChart:
    epochs = [int(row["epoch"]) for row in rows]
    across = _axis(min(epochs), max(epochs), LEFT + 6, WIDTH - RIGHT - 6)
    joints = tuple(
        Tick(at=across(min(max(epoch, min(epochs)), max(epochs))), label=label)
        for epoch, label in describe_joints(extensions)
    )
    words = "".join(f" {tick.label.capitalize()}." for tick in joints)
    return replace(chart, joints=joints, summary=chart.summary + words)


def build_reliability(bins: Sequence[Mapping[str, Any]]) -> LineChart | None:
    """Return accuracy over confidence, or None where no bin holds a sample.

    Args:
        bins: ``low``, ``high``, ``count``, ``confidence``, ``accuracy``, fractions in [0, 1].
    """
    filled = [one for one in bins if one["count"]]
    if not filled:
        return None
    width, largest = 360, max(one["count"] for one in filled)
    side = width - LEFT - RIGHT
    across, down = _axis(0, 1, LEFT, LEFT + side), _axis(0, 1, TOP + side, TOP)
    dots = tuple(
        Dot(
            x=across(one["confidence"]),
            y=down(one["accuracy"]),
            note=(
                f"confidence {format_percent(one['confidence'])}, right {format_percent(one['accuracy'])},"
                f" {format_count(one['count'])} samples"
            ),
            # The dot's area is the number of samples.
            radius=round(2.0 + 7.0 * math.sqrt(one["count"] / largest), 1),
        )
        for one in filled
    )
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    return LineChart(
        title="Calibration",
        summary=f"Accuracy against confidence in {len(filled)} bins: "
        + "; ".join(dot.note for dot in dots)
        + ".",
        lines=(Line(name="val", paths=(_join(dots),), dots=dots),),
        x_ticks=tuple(Tick(at=across(value), label=f"{100 * value:.0f}") for value in ticks),
        y_ticks=tuple(Tick(at=down(value), label=f"{100 * value:.0f}") for value in ticks),
        marker=None,
        width=width,
        height=TOP + side + BOTTOM,
    )


def build_confusion(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> ConfusionChart:
    """Return the non-empty cells of a confusion matrix.

    Args:
        confusion: (K, K) counts, rows true, columns predicted.
        names: K class names.

    Raises:
        ValueError: The matrix isn't K x K.
    """
    classes = len(names)
    if len(confusion) != classes or any(len(row) != classes for row in confusion):
        raise ValueError(f"confusion must be {classes} x {classes}, one row and one column per name")
    supports = tuple(sum(row) for row in confusion)
    cells = tuple(
        # The square root keeps rare confusions visible beside a strong diagonal.
        Cell(
            row=row,
            column=column,
            count=count,
            share=count / supports[row],
            strength=math.sqrt(count / supports[row]),
        )
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count
    )
    return ConfusionChart(cells=cells, supports=supports, **vars(frame_matrix(names)))


def frame_matrix(names: Sequence[str]) -> MatrixFrame:
    """Return the sizes of a matrix with one row and one column a name."""
    classes = len(names)
    counted = classes <= MAX_COUNTED_CLASSES
    font_size = 12.5 if counted else 9.0
    short_names = tuple(shorten(show_text(name), 24) for name in names)
    return MatrixFrame(
        names=tuple(names),
        short_names=short_names,
        label_width=16 + 0.58 * font_size * max(len(name) for name in short_names),
        side=min(64.0, 480 / classes) if classes <= 10 else (34.0 if counted else 11.0),
        font_size=font_size,
        counted=counted,
    )


def _read_series(rows: Sequence[Mapping[str, Any]], key: str, scale: float) -> list[tuple[int, float | None]]:
    points: list[tuple[int, float | None]] = []
    for row in rows:
        value = row.get(key)
        number = math.nan if value is None else scale * float(value)
        points.append((int(row["epoch"]), number if math.isfinite(number) else None))
    return points if any(value is not None for _, value in points) else []


def _build_panel(
    title: str, series: Mapping[str, Sequence[tuple[int, float | None]]], unit: str, best_epoch: int | None
) -> LineChart:
    epochs = [epoch for points in series.values() for epoch, _ in points]
    values = [value for points in series.values() for _, value in points if value is not None]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    down = _axis(low - room, high + room, HEIGHT - BOTTOM, TOP)
    across = _axis(min(epochs), max(epochs), LEFT + 6, WIDTH - RIGHT - 6)
    y_values = compute_ticks(low - room, high + room, wanted=4)
    x_values = [value for value in compute_ticks(min(epochs), max(epochs), wanted=6) if value == int(value)]
    ends = [
        f"{name} from {_write(found[0], unit)} to {_write(found[-1], unit)}"
        for name, points in series.items()
        if (found := [value for _, value in points if value is not None])
    ]
    return LineChart(
        title=title,
        summary=f"{title} over {len(set(epochs))} epochs: " + "; ".join(ends) + ".",
        lines=tuple(
            _build_line(name, points, across, down, unit) for name, points in series.items() if points
        ),
        x_ticks=tuple(Tick(at=across(value), label=f"{value:.0f}") for value in x_values),
        y_ticks=tuple(Tick(at=down(value), label=_write_tick(value)) for value in y_values),
        marker=across(best_epoch) if best_epoch in epochs and best_epoch is not None else None,
    )


def _build_line(
    name: str, points: Sequence[tuple[int, float | None]], across: Place, down: Place, unit: str
) -> Line:
    runs: list[list[Dot]] = [[]]
    radius = 3.0 if len(points) <= 60 else 1.5
    for epoch, value in points:
        if value is None:
            runs.append([])
            continue
        note = f"epoch {epoch}, {name}: {_write(value, unit)}"
        runs[-1].append(Dot(x=across(epoch), y=down(value), note=note, radius=radius))
    return Line(
        name=name,
        paths=tuple(_join(run) for run in runs if len(run) > 1),
        dots=tuple(dot for run in runs for dot in run),
    )


def _axis(low: float, high: float, start: float, stop: float) -> Place:
    span = high - low

    def place(value: float) -> float:
        # A single epoch has no span: it stands in the middle.
        share = (value - low) / span if span else 0.5
        return round(start + share * (stop - start), 1)

    return place


def _join(dots: Sequence[Dot]) -> str:
    return " ".join(f"{dot.x},{dot.y}" for dot in dots)


def _write(value: float, unit: str) -> str:
    return f"{value:.1f}{unit}" if unit else f"{value:.3g}"


def _write_tick(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{round(value, 9):g}"
