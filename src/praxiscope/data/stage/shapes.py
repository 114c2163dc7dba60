"""What everything on the stage is made of: rounded cones, ellipsoids, boxes, polygons; in world metres."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from praxiscope.data.stage.skeleton import Triple, Vector

Colour: TypeAlias = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Paint:
    """A surface's colour, with bands of a second colour if ``band`` is positive."""

    colour: Colour
    accent: Colour = (0.0, 0.0, 0.0)
    band: float = 0.0
    """Width of a band in metres along the shape's axis; 0 for none."""


@dataclass(frozen=True, eq=False)
class RoundCone:
    """The hull of two spheres: a limb, a stick; a ball when both ends agree."""

    start: Vector
    end: Vector
    start_radius: float
    end_radius: float
    paint: Paint


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid; the columns of ``turn`` are its axes."""

    centre: Vector
    turn: Vector
    radii: Triple
    paint: Paint


@dataclass(frozen=True, eq=False)
class Box:
    """A box with half edges ``half`` along the columns of ``turn``."""

    centre: Vector
    turn: Vector
    half: Triple
    paint: Paint

    def corners(self) -> Vector:
        """Return the eight corners, (8, 3)."""
        return np.asarray(self.centre + (_CORNER_SIGNS * self.half) @ self.turn.T)


@dataclass(frozen=True, eq=False)
class Polygon:
    """A flat convex polygon with corners (n, 3), seen from both sides."""

    corners: Vector
    paint: Paint


Shape: TypeAlias = RoundCone | Ellipsoid | Box | Polygon

_CORNER_SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


def cone(start: Vector, end: Vector, radii: tuple[float, float], colour: Colour | Paint) -> RoundCone:
    """Build a rounded cone from two points and their radii."""
    return RoundCone(start, end, radii[0], radii[1], _as_paint(colour))


def ball(centre: Vector, radius: float, colour: Colour | Paint) -> Ellipsoid:
    """Build a sphere."""
    return Ellipsoid(centre, np.eye(3), (radius, radius, radius), _as_paint(colour))


def ellipsoid(centre: Vector, turn: Vector, radii: Triple, colour: Colour | Paint) -> Ellipsoid:
    """Build an ellipsoid whose axes are the columns of ``turn``."""
    return Ellipsoid(centre, turn, radii, _as_paint(colour))


def polygon(corners: Iterable[Vector], colour: Colour | Paint) -> Polygon:
    """Build a flat polygon from its corners in order."""
    return Polygon(np.stack(list(corners)), _as_paint(colour))


def box(centre: Vector, turn: Vector, half: Triple, colour: Colour | Paint) -> Box:
    """Build a box from its middle, its axes and its half edges."""
    return Box(centre, turn, half, _as_paint(colour))


def outline_spheres(shape: Shape) -> tuple[Vector, Vector]:
    """Return spheres (n, 3), (n,) whose hull covers the shape; for shadows and for framing."""
    if isinstance(shape, RoundCone):
        return np.stack([shape.start, shape.end]), np.array([shape.start_radius, shape.end_radius])
    if isinstance(shape, Ellipsoid):
        # Small spheres at both ends of the two longer axes follow the outline closely enough.
        order = np.argsort(shape.radii)
        small = shape.radii[order[0]]
        ends = [shape.centre]
        for axis in order[1:]:
            offset = shape.turn[:, axis] * (shape.radii[axis] - small)
            ends += [shape.centre + offset, shape.centre - offset]
        return np.stack(ends), np.full(len(ends), small)
    corners = shape.corners() if isinstance(shape, Box) else shape.corners
    return corners, np.zeros(len(corners))


def _as_paint(colour: Colour | Paint) -> Paint:
    return colour if isinstance(colour, Paint) else Paint(colour=colour)
