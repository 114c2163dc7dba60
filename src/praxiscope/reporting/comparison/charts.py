"""Geometry of a comparison page's drawings: numbers in, positions out, no markup."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from praxiscope.reporting.charts import MatrixFrame, frame_matrix
from praxiscope.reporting.wording import MISSING, NARROW, format_points


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One value with its interval on an axis from 0 to 100."""

    at: float
    low: float | None
    high: float | None
    kind: str
    """``score``, ``gain``, ``loss`` or ``even``."""
    told_apart: bool = True
    zero: float | None = None
    """Where the axis has its zero line."""
    dots: tuple[float, ...] = ()
    """Single seeds."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What an axis from 0 to 100 stands for."""

    low: float
    high: float
    labels: tuple[str, ...]
    """At the left end, in the middle of an axis of differences, at the right end."""

    def place(self, value: float) -> float:
        """Return where a value lies, at most at the ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100.0 * min(max(share, 0.0), 1.0), 2)


@dataclass(frozen=True, kw_only=True)
class DifferenceCell:
    """One cell in which two confusion matrices differ."""

    row: int
    column: int
    text: str
    is_better: bool
    """True where the second contestant does better: more on the diagonal, or less beside it."""
    strength: float
    """In [0, 1]."""
    note: str


@dataclass(frozen=True, kw_only=True)
class DifferenceChart(MatrixFrame):
    """Cells in which the second confusion matrix differs from the first."""

    cells: tuple[DifferenceCell, ...]
    supports: tuple[int, ...]


def scale_scores(values: Iterable[float]) -> Scale:
    """Return an axis of scores that spans the values and a little more, with round ends."""
    found = list(values)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    span = max(high - low, 0.02)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if 6 * step >= span)
    start = max(math.floor((low - 0.05 * span) / step) * step, 0.0)
    stop = min(math.ceil((high + 0.05 * span) / step) * step, 1.0)
    return Scale(low=start, high=stop, labels=(f"{100 * start:.0f}", f"{100 * stop:.0f}{NARROW}%"))


def scale_differences(values: Iterable[float]) -> Scale:
    """Return an axis of differences with zero in its middle and a round end."""
    reach = max((abs(value) for value in values), default=0.0) or 0.01
    power = 10.0 ** math.floor(math.log10(reach))
    end = next(
        factor * power for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if factor * power >= reach * 0.999
    )
    shown = f"{100 * end:g}"
    return Scale(low=-end, high=end, labels=(f"\u2212{shown}", "0", f"+{shown}"))


def draw_score(score: Mapping[str, Any], scale: Scale, dots: Sequence[float] = ()) -> Bar:
    """Return a score's bar."""
    low, high = score.get("low"), score.get("high")
    return Bar(
        at=scale.place(score["value"]),
        low=None if low is None else scale.place(low),
        high=None if high is None else scale.place(high),
        kind="score",
        dots=tuple(scale.place(dot) for dot in dots),
    )


def draw_difference(
    value: float, interval: tuple[float | None, float | None], scale: Scale, *, told_apart: bool
) -> Bar:
    """Return the bar of a difference; ``gain`` where the second contestant is better."""
    low, high = interval
    return Bar(
        at=scale.place(value),
        low=None if low is None else scale.place(low),
        high=None if high is None else scale.place(high),
        kind="gain" if value > 0 else ("loss" if value < 0 else "even"),
        told_apart=told_apart,
        zero=scale.place(0.0),
        note=format_point_interval(low, high),
    )


def format_point_interval(low: float | None, high: float | None) -> str:
    """Return the interval of a difference as ``-1.2 to +3.4``, or an empty string where it has none."""
    if low is None or high is None:
        return ""
    return f"{format_points(low)} to {format_points(high)}"


def build_difference(
    difference: Sequence[Sequence[float]],
    first: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    unit: str,
) -> DifferenceChart:
    """Return the cells in which two confusion matrices differ.

    Args:
        difference: (K, K) second minus first, rows true, columns predicted.
        first: (K, K) counts of the first, for the number of samples of each class.
        names: K class names.
        unit: Of the differences.
    """
    changed = [
        (row, column, value)
        for row, values in enumerate(difference)
        for column, value in enumerate(values)
        if abs(value) >= 0.05
    ]
    largest = max((abs(value) for _, _, value in changed), default=1.0)
    return DifferenceChart(
        cells=tuple(
            DifferenceCell(
                row=row,
                column=column,
                text=format_change(value),
                is_better=(value > 0) == (row == column),
                # The square root keeps small changes visible.
                strength=math.sqrt(abs(value) / largest),
                note=f"true {names[row]}, predicted {names[column]}: {format_change(value)} {unit}",
            )
            for row, column, value in changed
        ),
        supports=tuple(round(sum(row)) for row in first),
        **vars(frame_matrix(names)),
    )


def format_change(value: float) -> str:
    """Return a difference of counts as ``+11``, ``-3`` or ``+1.3`` (means over seeds)."""
    shown = f"{value:+.0f}" if abs(value - round(value)) < 0.05 else f"{value:+.1f}"
    return shown.replace("-", "\u2212")


def format_number(value: float | None) -> str:
    """Return a count, or a mean of counts over seeds, for a table."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"
