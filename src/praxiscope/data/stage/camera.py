"""A perspective camera and how it frames the actor."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin, tan

import numpy as np
import numpy.typing as npt

from praxiscope.data.stage.skeleton import Vector


@dataclass(frozen=True, kw_only=True)
class CameraDraw:
    """What is drawn by chance about a camera; angles in degrees."""

    azimuth: float
    """0 sees the actor's face, 90 the left side, 180 the back."""
    elevation: float
    """Above the horizontal."""
    field_of_view: float
    """Across the whole image."""
    roll: float
    fill: float
    """Share of the image's side that the longer side of the actor's bounding box takes, in (0, 1]."""
    shift: tuple[float, float]
    """Where in the free room the box lies, right and up, in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera in units of the image's side, whatever its pixel count."""

    position: Vector
    """(3,) world metres."""
    turn: Vector
    """(3, 3); rows are the world directions right, up, forward."""
    focal: float
    """Focal length in image sides."""
    centre: tuple[float, float]
    """Principal point in image sides, from the left and from the top."""

    def to_view(self, points: Vector) -> Vector:
        """Turn world points (..., 3) into camera axes: right, up, forward (depth), in metres."""
        return np.asarray((points - self.position) @ self.turn.T)

    def project(self, points: Vector) -> Vector:
        """Project world points (..., 3) in front of the camera to image sides (..., 2), x right, y down."""
        view = self.to_view(points)
        depth = np.maximum(view[..., 2], 1e-3)
        x = self.centre[0] + self.focal * view[..., 0] / depth
        y = self.centre[1] - self.focal * view[..., 1] / depth
        return np.stack([x, y], axis=-1)

    def pixel_rays(self, size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the rays' right part per column (size,) and up part per row (size,), for forward = 1."""
        middle = (np.arange(size, dtype=np.float64) + 0.5) / size
        right = (middle - self.centre[0]) / self.focal
        up = (self.centre[1] - middle) / self.focal
        return right.astype(np.float32), up.astype(np.float32)


def frame_camera(draw: CameraDraw, points: Vector, radii: Vector) -> Camera:
    """Place a camera so that all spheres lie inside the image.

    Args:
        draw: Direction, lens, and how tightly to frame.
        points: (n, 3) world metres, what must be seen.
        radii: (n,) metres, room around each point.

    Returns:
        The camera. The longer side of the spheres' bounding box takes ``draw.fill`` of the image.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    target = (low + high) / 2
    turn = _look_along(draw)
    focal = 0.5 / tan(np.radians(draw.field_of_view) / 2)
    distance = 5.0
    for _ in range(6):  # the size on the image is nearly proportional to 1/distance: converges at once
        box = _bounds((points - target) @ turn.T + (0.0, 0.0, distance), radii)
        extent = float((box[1] - box[0]).max()) * focal
        distance = max(distance * extent / draw.fill, 1.2)
    box = _bounds((points - target) @ turn.T + (0.0, 0.0, distance), radii) * focal
    free = np.maximum(1.0 - (box[1] - box[0]), 0.0) / 2 * 0.9
    x = 0.5 - float(box[0, 0] + box[1, 0]) / 2 + draw.shift[0] * float(free[0])
    y = 0.5 + float(box[0, 1] + box[1, 1]) / 2 - draw.shift[1] * float(free[1])
    return Camera(position=target - turn[2] * distance, turn=turn, focal=focal, centre=(x, y))


def _look_along(draw: CameraDraw) -> Vector:
    azimuth, elevation, roll = (np.radians(a) for a in (draw.azimuth, draw.elevation, draw.roll))
    flat = cos(elevation)
    forward = -np.array([sin(azimuth) * flat, sin(elevation), cos(azimuth) * flat])
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    return np.stack([right * cos(roll) + up * sin(roll), up * cos(roll) - right * sin(roll), forward])


def _bounds(view: Vector, radii: Vector) -> Vector:
    depth = np.maximum(view[:, 2], 0.3)
    centre, room = view[:, :2] / depth[:, None], (radii / depth)[:, None]
    return np.stack([(centre - room).min(axis=0), (centre + room).max(axis=0)])
