"""Placement of labels beside points, so that none covers another or a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
"""left, top, right, bottom."""

_DISTANCES = (11.0, 22.0, 36.0, 52.0, 72.0)
_ANGLES = (-35, 35, -145, 145, 0, 180, -90, 90, -65, 65, -115, 115)
"""Degrees, y downwards; the upper right comes first."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text that found a place, and the point that it belongs to."""

    text: str
    x: float
    y: float
    """Left end of the baseline."""
    anchor_x: float
    anchor_y: float
    """The point."""
    lead: tuple[float, float] | None
    """Where a thin line from the point ends; None where the label stands right beside its point."""


def place_labels(
    wanted: Sequence[tuple[str, float, float]],
    *,
    points: Sequence[tuple[float, float]],
    lines: Sequence[tuple[float, float, float, float]],
    frame: Box,
    font_size: float,
) -> tuple[Label, ...]:
    """Return a place for each label that has one; the first ones choose first.

    Args:
        wanted: (text, x, y of its point).
        points: Centres of all markers; no label covers one.
        lines: (x1, y1, x2, y2), upright or level; they are covered only when nothing else is free.
        frame: Where labels may stand.
        font_size: In the units of the coordinates.
    """
    taken = [(x - 8.0, y - 8.0, x + 8.0, y + 8.0) for x, y in points]
    placed = []
    for text, x, y in wanted:
        width, height = measure_text(text, font_size), 1.15 * font_size
        best: tuple[float, Box] | None = None
        for rank, (distance, angle) in enumerate((d, a) for d in _DISTANCES for a in _ANGLES):
            box = _put_box(x, y, distance, math.radians(angle), (width, height))
            if not _is_inside(box, frame) or any(_overlap(box, other) for other in taken):
                continue
            price = rank + 25.0 * sum(_overlap(box, _as_box(line)) for line in lines)
            if best is None or price < best[0]:
                best = (price, box)
        if best is not None:
            taken.append(best[1])
            placed.append(_label(text, x, y, best[1], font_size))
    return tuple(placed)


def measure_text(text: str, font_size: float) -> float:
    """Return about how wide a text is; wide scripts count double."""
    return font_size * sum(1.0 if ord(character) > 0x2E80 else 0.56 for character in text)


def _put_box(x: float, y: float, distance: float, angle: float, size: tuple[float, float]) -> Box:
    width, height = size
    centre_x = x + math.cos(angle) * (distance + width / 2 * abs(math.cos(angle)))
    centre_y = y + math.sin(angle) * (distance + height / 2)
    return (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)


def _label(text: str, x: float, y: float, box: Box, font_size: float) -> Label:
    left, top, right, bottom = box
    near = (min(max(x, left), right), min(max(y, top), bottom))
    apart = math.hypot(near[0] - x, near[1] - y) > 15.0
    return Label(
        text=text,
        x=round(left, 1),
        y=round(bottom - 0.3 * font_size, 1),
        anchor_x=x,
        anchor_y=y,
        lead=(round(near[0], 1), round(near[1], 1)) if apart else None,
    )


def _is_inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _as_box(line: tuple[float, float, float, float]) -> Box:
    x1, y1, x2, y2 = line
    return (min(x1, x2) - 1.0, min(y1, y2) - 1.0, max(x1, x2) + 1.0, max(y1, y2) + 1.0)
