"""Things: what actors hold or use (nouns), and furniture and plants that stand about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from praxiscope.data.stage.shapes import Colour, Paint, Shape, ball, box, cone, ellipsoid, polygon
from praxiscope.data.stage.skeleton import Triple, Vector, rotation

WOOD: Colour = (0.52, 0.35, 0.2)


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Where a thing is: the columns of ``turn`` are its own x, y (up) and z (front)."""

    at: Vector
    turn: Vector
    scale: float = 1.0

    def point(self, offset: Triple) -> Vector:
        """Turn an offset in the thing's own axes, metres, into world metres."""
        return np.asarray(self.at + self.turn @ np.array(offset) * self.scale)

    def half(self, edges: Triple) -> Triple:
        """Scale half edges."""
        return (edges[0] * self.scale, edges[1] * self.scale, edges[2] * self.scale)


def _slab(spot: Spot, centre: Triple, half: Triple, colour: Colour) -> Shape:
    return box(spot.point(centre), spot.turn, spot.half(half), colour)


def phone(spot: Spot, colour: Colour) -> list[Shape]:
    """A phone, its back to its own z; long side up."""
    dark = tuple(0.25 * c for c in colour)
    return [
        _slab(spot, (0, 0, 0), (0.046, 0.092, 0.012), (dark[0], dark[1], dark[2])),
        polygon([spot.point((x, y, -0.014)) for x, y in _RECTANGLE], (0.75, 0.88, 0.95)),
    ]


_RECTANGLE = ((-0.038, -0.08), (0.038, -0.08), (0.038, 0.08), (-0.038, 0.08))


def cup(spot: Spot, colour: Colour) -> list[Shape]:
    """A mug: its opening up, its handle at its own -x."""
    return [
        cone(spot.point((0, -0.045, 0)), spot.point((0, 0.045, 0)), (0.045, 0.052), Paint(colour=colour)),
        ellipsoid(spot.point((0, 0.09, 0)), spot.turn, (0.046, 0.012, 0.046), (0.2, 0.12, 0.08)),
        cone(spot.point((-0.07, -0.03, 0)), spot.point((-0.07, 0.03, 0)), (0.014, 0.014), colour),
    ]


def book(spot: Spot, colour: Colour) -> list[Shape]:
    """An open book: its spine along its own y, its pages towards its own -z."""
    shapes: list[Shape] = []
    for s in (-1.0, 1.0):
        leaf = spot.turn @ rotation(0.0, s * 0.35, 0.0)
        centre = spot.point((s * 0.095, 0.0, -0.03))
        shapes.append(box(centre, leaf, spot.half((0.1, 0.135, 0.012)), colour))
        shapes.append(
            box(centre - leaf[:, 2] * 0.014, leaf, spot.half((0.09, 0.122, 0.008)), (0.95, 0.93, 0.86))
        )
    return shapes


def closed_book(spot: Spot, colour: Colour) -> list[Shape]:
    """A thick book lying flat."""
    return [
        _slab(spot, (0, 0, 0), (0.15, 0.05, 0.12), colour),
        _slab(spot, (0, 0, 0.006), (0.144, 0.036, 0.122), (0.95, 0.93, 0.86)),
    ]


def toy_ball(spot: Spot, colour: Colour) -> list[Shape]:
    """A ball with bands."""
    pale = tuple(0.4 + 0.6 * (1 - c) for c in colour)
    paint = Paint(colour=colour, accent=(pale[0], pale[1], pale[2]), band=0.055 * spot.scale)
    radius = 0.125 * spot.scale
    return [ellipsoid(spot.at, spot.turn, (radius, radius, radius), paint)]


def parcel(spot: Spot, colour: Colour) -> list[Shape]:
    """A cardboard box with a strip of tape."""
    brown = tuple(0.55 * a + 0.45 * b for a, b in zip((0.72, 0.53, 0.33), colour, strict=True))
    return [
        _slab(spot, (0, 0, 0), (0.165, 0.13, 0.14), (brown[0], brown[1], brown[2])),
        _slab(spot, (0, 0, 0), (0.03, 0.133, 0.143), (0.86, 0.78, 0.6)),
    ]


def broom(spot: Spot, colour: Colour) -> list[Shape]:
    """A broom of 1.5 m at scale 1: its foot at the spot, its stick along its own y."""
    return [
        cone(spot.point((0, 0.1, 0)), spot.point((0, 1.5, 0)), (0.02, 0.02), WOOD),
        _slab(spot, (0, 0.07, 0), (0.19, 0.03, 0.045), colour),
        _slab(spot, (0, -0.01, 0), (0.2, 0.055, 0.06), (0.83, 0.7, 0.36)),
    ]


def umbrella(spot: Spot, colour: Colour) -> list[Shape]:
    """An open umbrella: the hand at the spot, the canopy 0.95 m above along its own y."""
    shade = tuple(0.78 * c for c in colour)
    shapes: list[Shape] = [
        cone(spot.point((0, -0.12, 0)), spot.point((0, 1.1, 0)), (0.014, 0.012), (0.15, 0.15, 0.17))
    ]
    rings = [(0.0, 1.08), (0.32, 0.99), (0.6, 0.78)]
    for k in range(8):
        tint = colour if k % 2 else (shade[0], shade[1], shade[2])
        rib = [(cos(a), sin(a)) for a in (k * pi / 4, (k + 1) * pi / 4)]
        edge = [[spot.point((r * c, y, r * s)) for c, s in rib] for r, y in rings]
        shapes.append(polygon([edge[0][0], *edge[1]], tint))
        shapes.append(polygon([edge[1][0], edge[1][1], edge[2][1], edge[2][0]], tint))
    return shapes


def chair(spot: Spot, colour: Colour) -> list[Shape]:
    """A chair whose seat's top is 0.45 m high at scale 1; its front at its own z."""
    posts = [((x, 0.42, -0.21), (x, 0.95, -0.27)) for x in (-0.21, 0.21)]
    return [
        _slab(spot, (0, 0.42, 0), (0.24, 0.03, 0.23), colour),
        _slab(spot, (0, 0.8, -0.255), (0.22, 0.13, 0.018), colour),
        *_legs(spot, (0.21, 0.4, 0.2), 0.022, colour),
        *(cone(spot.point(low), spot.point(top), (0.024, 0.022), colour) for low, top in posts),
    ]


def _legs(spot: Spot, reach: Triple, radius: float, colour: Colour) -> list[Shape]:
    """Four legs at (+-x, +-z) up to height y."""
    x, y, z = reach
    feet = [(sx * x, sz * z) for sx in (-1, 1) for sz in (-1, 1)]
    return [cone(spot.point((u, 0.02, v)), spot.point((u, y, v)), (radius, radius), colour) for u, v in feet]


def bed(spot: Spot, colour: Colour) -> list[Shape]:
    """A bed whose mattress top is 0.45 m high at scale 1; its head end at its own -z."""
    return [
        _slab(spot, (0, 0.2, 0), (0.52, 0.12, 1.06), WOOD),
        _slab(spot, (0, 0.38, 0), (0.5, 0.07, 1.03), colour),
        _slab(spot, (0, 0.5, -1.07), (0.53, 0.42, 0.03), WOOD),
        ellipsoid(spot.point((0, 0.47, -0.78)), spot.turn, spot.half((0.4, 0.085, 0.2)), (0.95, 0.94, 0.9)),
    ]


def table(spot: Spot, colour: Colour) -> list[Shape]:
    """A table."""
    top = _slab(spot, (0, 0.72, 0), (0.55, 0.025, 0.35), colour)
    return [top, *_legs(spot, (0.48, 0.7, 0.28), 0.028, colour)]


def plant(spot: Spot, colour: Colour) -> list[Shape]:
    """A plant in a pot."""
    green = (0.12 + 0.15 * colour[0], 0.38 + 0.25 * colour[1], 0.14)
    shapes: list[Shape] = [cone(spot.point((0, 0.1, 0)), spot.point((0, 0.26, 0)), (0.11, 0.15), colour)]
    for k in range(6):
        out, rise = 0.16 + 0.06 * (k % 2), 0.55 + 0.16 * (k % 3)
        tip = spot.point((out * cos(k * 1.05), rise, out * sin(k * 1.05)))
        shapes.append(cone(spot.point((0, 0.3, 0)), tip, (0.05, 0.1), green))
    return shapes


def post(spot: Spot, colour: Colour) -> list[Shape]:
    """A street lamp or standing lamp."""
    return [
        cone(spot.point((0, 0.03, 0)), spot.point((0, 2.0, 0)), (0.05, 0.035), colour),
        ellipsoid(spot.point((0, 0.03, 0)), spot.turn, spot.half((0.18, 0.05, 0.18)), colour),
        ball(spot.point((0, 2.1, 0)), 0.16 * spot.scale, (0.98, 0.94, 0.78)),
    ]


def shelf(spot: Spot, colour: Colour) -> list[Shape]:
    """A shelf with books."""
    shapes: list[Shape] = [
        _slab(spot, (0, 0.75, -0.14), (0.45, 0.75, 0.02), colour),
        _slab(spot, (-0.45, 0.75, 0), (0.025, 0.75, 0.15), colour),
        _slab(spot, (0.45, 0.75, 0), (0.025, 0.75, 0.15), colour),
    ]
    for level, y in enumerate((0.06, 0.55, 1.03, 1.48)):
        shapes.append(_slab(spot, (0, y, 0), (0.45, 0.02, 0.15), colour))
        if level < 3:
            hue = (0.3 + 0.2 * level, 0.3, 0.65 - 0.2 * level)
            shapes.append(_slab(spot, (-0.18 + 0.15 * level, y + 0.19, 0), (0.22, 0.16, 0.1), hue))
    return shapes


Builder = Callable[[Spot, Colour], list[Shape]]

NOUNS: dict[str, Builder] = {
    "ball": toy_ball,
    "bed": bed,
    "book": book,
    "box": parcel,
    "broom": broom,
    "chair": chair,
    "cup": cup,
    "phone": phone,
    "umbrella": umbrella,
}
"""What an action can be done with, besides ``nothing``."""

SCENERY: dict[str, Builder] = {
    "ball": toy_ball,
    "box": parcel,
    "chair": chair,
    "plant": plant,
    "post": post,
    "shelf": shelf,
    "table": table,
}
"""What may stand about without a part in the action."""

RESTING_HEIGHT_M: dict[str, float] = {"ball": 0.125, "box": 0.13}
"""Height of the middle of things that lie on the floor; others stand on their own origin."""
