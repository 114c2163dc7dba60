"""Where rays from the camera meet each kind of shape, and the surface's normal there.

Rays start at the origin of the camera's axes (right, up, forward) and have forward part 1, so the ray
parameter is the depth. Components are kept in separate arrays and combined elementwise in float32: quick,
and independent of any matrix library's threads. A miss has depth infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from praxiscope.data.stage.skeleton import Vector

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ConeInView:
    """A rounded cone in camera axes: the hull of two spheres, neither of which holds the other."""

    start: Vector
    axis: Vector
    """Unit vector from the first to the second centre."""
    length: float
    radius: float
    """Of the first sphere."""
    slope: float
    """Loss of radius per metre of axis; the sine of the cone's half angle."""

    def depth(self, right: Plane, up: Plane) -> Plane:
        """Return the nearest hit's depth for rays (right, up, 1), any broadcastable shapes.

        On the side, a point at height y along the axis and distance rho from it fulfils
        rho * cos = radius - y * sin. Squared and with the ray put in, that is a quadratic in the depth;
        it counts between the circles where the cone touches its spheres, which close both ends.
        """
        squared = right * right + up * up + 1
        end = self.start + self.axis * self.length
        depth = _sphere_depth(right, up, squared, (self.start, self.radius))
        depth = np.minimum(
            depth, _sphere_depth(right, up, squared, (end, self.radius - self.slope * self.length))
        )
        slope, cosine2 = self.slope, 1 - self.slope**2
        height = -float(self.start @ self.axis)
        taper = self.radius - slope * height
        climb = _dot(right, up, self.axis)
        a = np.float32(cosine2) * squared - climb * climb
        b = _dot(right, up, -cosine2 * self.start) + climb * np.float32(slope * taper - cosine2 * height)
        c = cosine2 * (float(self.start @ self.start) - height**2) - taper**2
        inside = b * b - a * np.float32(c)
        side = (-b - np.sqrt(np.maximum(inside, 0))) / np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
        reached = side * climb + np.float32(height)
        low = slope * self.radius
        high = self.length + slope * (self.radius - slope * self.length)
        valid = (inside > 0) & (side > 0) & (reached >= low) & (reached <= high)
        return np.where(valid, np.minimum(side, depth), depth)

    def surface(self, x: Plane, y: Plane, z: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """Return the unit normal's three parts and the metres along the axis of points (n,)."""
        dx, dy, dz = (p - np.float32(s) for p, s in zip((x, y, z), self.start, strict=True))
        ax, ay, az = (np.float32(a) for a in self.axis)
        height = dx * ax + dy * ay + dz * az
        along = (height - np.float32(self.slope * self.radius)) / np.float32(1 - self.slope**2)
        along = np.clip(along, 0, np.float32(self.length))
        scale = 1 / (np.float32(self.radius) - np.float32(self.slope) * along)
        return (dx - along * ax) * scale, (dy - along * ay) * scale, (dz - along * az) * scale, along


@dataclass(frozen=True, eq=False)
class EllipsoidInView:
    """An ellipsoid in camera axes; ``unit`` (3, 3) maps offsets from the centre to the unit sphere."""

    centre: Vector
    unit: Vector
    height: float
    """Half length of the second axis, metres: the one that bands run along."""

    def depth(self, right: Plane, up: Plane) -> Plane:
        """Return the nearest hit's depth for rays (right, up, 1), any broadcastable shapes."""
        start = -self.unit @ self.centre
        parts = [_dot(right, up, row) for row in self.unit]
        a = parts[0] * parts[0] + parts[1] * parts[1] + parts[2] * parts[2]
        b = _dot(right, up, self.unit.T @ start)
        inside = b * b - a * np.float32(start @ start - 1)
        return np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.float32(np.inf))

    def surface(self, x: Plane, y: Plane, z: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """Return the unit normal's three parts and the metres along the second axis of points (n,)."""
        dx, dy, dz = (p - np.float32(c) for p, c in zip((x, y, z), self.centre, strict=True))
        rows = [[np.float32(v) for v in row] for row in self.unit]
        u, v, w = (dx * row[0] + dy * row[1] + dz * row[2] for row in rows)
        nx, ny, nz = (u * rows[0][k] + v * rows[1][k] + w * rows[2][k] for k in range(3))
        scale = 1 / np.sqrt(nx * nx + ny * ny + nz * nz)
        return nx * scale, ny * scale, nz * scale, v * np.float32(self.height)


@dataclass(frozen=True, eq=False)
class BoxInView:
    """A box in camera axes; the columns of ``turn`` are its edges' directions."""

    centre: Vector
    turn: Vector
    half: Vector

    def depth(self, right: Plane, up: Plane) -> Plane:
        """Return the nearest hit's depth for rays (right, up, 1), any broadcastable shapes.

        A ray is inside the box between the last of the three slabs it enters and the first it leaves.
        """
        start = -self.turn.T @ self.centre
        enter: Plane = np.full((), -np.inf, dtype=np.float32)
        leave: Plane = np.full((), np.inf, dtype=np.float32)
        for k in range(3):
            along = _dot(right, up, self.turn[:, k])
            pace = 1 / np.where(np.abs(along) < 1e-6, np.float32(1e-6), along)
            middle, room = -np.float32(start[k]) * pace, np.abs(np.float32(self.half[k]) * pace)
            enter, leave = np.maximum(enter, middle - room), np.minimum(leave, middle + room)
        return np.where((enter < leave) & (enter > 0), enter, np.float32(np.inf))

    def surface(self, x: Plane, y: Plane, z: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """Return the unit normal's three parts and the metres along the second edge of points (n,)."""
        offset = np.stack([x, y, z]) - self.centre[:, None].astype(np.float32)
        turn = self.turn.astype(np.float32)
        local = [offset[0] * turn[0, k] + offset[1] * turn[1, k] + offset[2] * turn[2, k] for k in range(3)]
        face = np.argmax(np.abs(np.stack(local)) / self.half[:, None].astype(np.float32), axis=0)
        sign = np.sign(np.choose(face, local))
        nx, ny, nz = (turn[row][face] * sign for row in range(3))
        return nx, ny, nz, local[1]


@dataclass(frozen=True, eq=False)
class PolygonInView:
    """A convex polygon in camera axes, corners (n, 3) in order."""

    corners: Vector

    def _normal(self) -> Vector:
        normal = np.cross(self.corners[1] - self.corners[0], self.corners[2] - self.corners[0])
        normal = normal / max(float(np.linalg.norm(normal)), 1e-12)
        return np.asarray(normal if normal @ self.corners[0] < 0 else -normal)

    def depth(self, right: Plane, up: Plane) -> Plane:
        """Return the hit's depth for rays (right, up, 1), any broadcastable shapes."""
        normal = self._normal()
        facing = _dot(right, up, normal)
        inside = facing < -1e-6
        flat = self.corners[:, :2] / self.corners[:, 2:]
        following = np.roll(flat, -1, axis=0)
        area = float((flat[:, 0] * following[:, 1] - following[:, 0] * flat[:, 1]).sum())
        for (x0, y0), (x1, y1) in zip(flat, following, strict=True):
            edge = (up - np.float32(y0)) * np.float32(x1 - x0) - (right - np.float32(x0)) * np.float32(
                y1 - y0
            )
            inside &= edge * np.float32(np.sign(area)) >= 0
        depth = np.float32(normal @ self.corners[0]) / np.where(inside, facing, np.float32(-1))
        return np.where(inside, depth, np.float32(np.inf))

    def surface(self, x: Plane, y: Plane, z: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """Return the unit normal's three parts and the metres along the first edge of points (n,)."""
        normal = self._normal()
        edge = self.corners[1] - self.corners[0]
        edge = (edge / max(float(np.linalg.norm(edge)), 1e-12)).astype(np.float32)
        origin = self.corners[0].astype(np.float32)
        along = (x - origin[0]) * edge[0] + (y - origin[1]) * edge[1] + (z - origin[2]) * edge[2]
        nx, ny, nz = (np.full_like(x, part) for part in normal)
        return nx, ny, nz, along


def _dot(right: Plane, up: Plane, vector: Vector) -> Plane:
    """Ray (right, up, 1) times a vector."""
    return np.asarray(right * np.float32(vector[0]) + up * np.float32(vector[1]) + np.float32(vector[2]))


def _sphere_depth(right: Plane, up: Plane, squared: Plane, sphere: tuple[Vector, float]) -> Plane:
    centre, radius = sphere
    b = _dot(right, up, centre)
    inside = b * b - squared * np.float32(centre @ centre - radius**2)
    return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / squared, np.float32(np.inf))


Solid: TypeAlias = ConeInView | EllipsoidInView | BoxInView | PolygonInView
