"""The canvas: a depth buffer, one lamp, a sky, and shadows on the floor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from praxiscope.data.stage.camera import Camera
from praxiscope.data.stage.raycast import BoxInView, ConeInView, EllipsoidInView, Plane, PolygonInView, Solid
from praxiscope.data.stage.shapes import Box, Colour, Ellipsoid, Paint, RoundCone, Shape, outline_spheres
from praxiscope.data.stage.skeleton import Vector

NEAR_M = 0.15
"""Shapes closer than this to the camera are not drawn."""

_TOO_SMALL = 0.8
"""Shapes that span fewer fine pixels are left out: the eyes of a passer-by."""

_NO_SHADOW_M = 0.03
"""Cones and ellipsoids thinner than this leave no shadow worth its time: eyes, ears, a mug's handle."""

_WRAP = 0.2
"""How far light creeps around the terminator: a large, soft lamp instead of a point."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """A distant lamp, and light from all around."""

    direction: Vector
    """(3,) unit vector from the scene towards the lamp, world axes."""
    lamp: Colour
    """Strength of the lamp per channel."""
    above: Colour
    """Strength of the surrounding light from above."""
    below: Colour
    """Strength of the surrounding light from below."""
    shadow: float
    """Share of the floor's light that a shadow takes, in [0, 1]."""
    softness: float
    """Standard deviation of a shadow's edge, in image sides."""


class Canvas:
    """Pixels being painted.

    Attributes:
        colour: (S, S, 3) float32, nominally in [0, 1].
        depth: (S, S) float32, metres along the camera's axis; infinity where only background is.
        layer: (S, S) uint8, the number given to ``draw`` by whoever won the pixel; 0 is background.
    """

    def __init__(self, camera: Camera, light: Light, background: Plane) -> None:
        self.camera = camera
        self.light = light
        self.size = background.shape[0]
        self.colour = background.copy()
        self.depth = np.full((self.size, self.size), np.inf, dtype=np.float32)
        self.layer = np.zeros((self.size, self.size), dtype=np.uint8)
        self._right, self._up = camera.pixel_rays(self.size)
        self._to_lamp = (camera.turn @ light.direction).astype(np.float32)
        self._zenith = camera.turn[:, 1].astype(np.float32)

    def copy(self) -> Canvas:
        """Return an independent canvas with the same pixels: to draw many frames over one scenery."""
        twin = Canvas(self.camera, self.light, self.colour)
        twin.depth[:] = self.depth
        twin.layer[:] = self.layer
        return twin

    def draw(self, shapes: Iterable[Shape], layer: int) -> None:
        """Draw shapes with depth test; pixels that they win get the number ``layer``."""
        for shape in shapes:
            solid, points, radii = self._place(shape)
            window = self._window(points, radii)
            if window is not None:
                self._fill(solid, window, shape.paint, layer)

    def cast_shadows(self, shapes: Iterable[Shape], floor: npt.NDArray[np.bool_]) -> None:
        """Darken the floor (plane y = 0) where shapes stand in the light.

        Args:
            shapes: What casts the shadows.
            floor: (S, S), where the background is floor; only pixels of layer 0 are darkened.
        """
        outlines = []
        for shape in shapes:
            spheres, radii = outline_spheres(shape)
            if len(spheres) > 2 or radii.max() >= _NO_SHADOW_M:
                outlines.append(_shadow_outline(spheres, radii, self.light.direction))
        if not outlines:
            return
        points = np.stack(outlines)
        visible = self.camera.to_view(points)[..., 2].min(axis=1) > NEAR_M
        coarse = self.size // 2  # shadows are soft: half the resolution is enough
        shade = Image.new("L", (coarse, coarse))
        pen = ImageDraw.Draw(shade)
        for outline in (self.camera.project(points[visible]) * coarse).tolist():
            pen.polygon([(x, y) for x, y in outline], fill=255)
        shade = shade.filter(ImageFilter.GaussianBlur(self.light.softness * coarse))
        shade = shade.resize((self.size, self.size), Image.Resampling.BILINEAR)
        strength = np.asarray(shade, dtype=np.float32) * np.float32(self.light.shadow / 255)
        strength *= floor & (self.layer == 0)
        self.colour *= (1 - strength)[..., None]

    def _place(self, shape: Shape) -> tuple[Solid, Vector, Vector]:
        """Turn a shape into camera axes, with spheres that hold it."""
        view = self.camera.to_view
        if isinstance(shape, RoundCone):
            ends, radii = (
                view(np.stack([shape.start, shape.end])),
                np.array([shape.start_radius, shape.end_radius]),
            )
            axis = ends[1] - ends[0]
            length = float(np.linalg.norm(axis))
            slope = float(radii[0] - radii[1]) / max(length, 1e-9)
            if abs(slope) < 0.999:
                return ConeInView(ends[0], axis / length, length, float(radii[0]), slope), ends, radii
            # One sphere holds the other: what is left of the cone is a ball.
            big = int(radii.argmax())
            ball = EllipsoidInView(ends[big], np.eye(3) / radii[big], float(radii[big]))
            return ball, ends[big : big + 1], radii[big : big + 1]
        if isinstance(shape, Ellipsoid):
            centre = view(shape.centre)
            unit = (self.camera.turn @ shape.turn).T / np.array(shape.radii)[:, None]
            return EllipsoidInView(centre, unit, shape.radii[1]), centre[None], np.array([max(shape.radii)])
        corners = view(shape.corners() if isinstance(shape, Box) else shape.corners)
        if isinstance(shape, Box):
            axes = self.camera.turn @ shape.turn
            return BoxInView(view(shape.centre), axes, np.array(shape.half)), corners, np.zeros(8)
        return PolygonInView(corners), corners, np.zeros(len(corners))

    def _window(self, points: Vector, radii: Vector) -> tuple[slice, slice] | None:
        """Rows and columns that spheres in camera axes can touch; None if there are none."""
        left = top = 1.0
        right = bottom = 0.0
        for (x, y, z), radius in zip(points.tolist(), radii.tolist(), strict=True):
            if z - radius < NEAR_M:
                return None
            u, v = x / z, y / z
            # A sphere's outline reaches at most r * sqrt(1 + u^2 + v^2) / (z - r) from its centre's image.
            room = radius * (1 + u * u + v * v) ** 0.5 / (z - radius)
            left, right = min(left, self._column(u - room)), max(right, self._column(u + room))
            top, bottom = min(top, self._row(v + room)), max(bottom, self._row(v - room))
        if max(right - left, bottom - top) * self.size < _TOO_SMALL:
            return None
        columns, rows = self._span(left, right), self._span(top, bottom)
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def _column(self, slope: float) -> float:
        return self.camera.centre[0] + self.camera.focal * slope

    def _row(self, slope: float) -> float:
        return self.camera.centre[1] - self.camera.focal * slope

    def _span(self, low: float, high: float) -> slice:
        return slice(max(int(low * self.size) - 1, 0), min(int(high * self.size) + 2, self.size))

    def _fill(self, solid: Solid, window: tuple[slice, slice], paint: Paint, layer: int) -> None:
        rows, columns = window
        right, up = self._right[columns], self._up[rows]
        depth = solid.depth(right[None, :], up[:, None])
        hits = np.flatnonzero(depth < self.depth[window])
        if len(hits) == 0:
            return
        row, column = np.divmod(hits, columns.stop - columns.start)
        z = depth.ravel()[hits]
        nx, ny, nz, along = solid.surface(right[column] * z, up[row] * z, z)
        pixels = (row + rows.start) * self.size + (column + columns.start)
        self.colour.reshape(-1, 3)[pixels] = self._shade((nx, ny, nz), along, paint)
        self.depth.reshape(-1)[pixels] = z
        self.layer.reshape(-1)[pixels] = layer

    def _shade(self, normal: tuple[Plane, Plane, Plane], along: Plane, paint: Paint) -> Plane:
        """Return (n, 3) colours: Lambert's law with a wrapped lamp, and a sky that fades downwards."""
        nx, ny, nz = normal
        lit = nx * self._to_lamp[0] + ny * self._to_lamp[1] + nz * self._to_lamp[2]
        lit = np.maximum((lit + _WRAP) / (1 + _WRAP), 0)
        upward = (nx * self._zenith[0] + ny * self._zenith[1] + nz * self._zenith[2]) * 0.5 + 0.5
        lamp, above, below = (
            np.array(c, dtype=np.float32) for c in (self.light.lamp, self.light.above, self.light.below)
        )
        strength = lit[:, None] * lamp + below + upward[:, None] * (above - below)
        colour = np.array(paint.colour, dtype=np.float32)
        if paint.band > 0:
            second = np.floor(along / np.float32(paint.band)) % 2 == 1
            colour = np.where(second[:, None], np.array(paint.accent, dtype=np.float32), colour)
        return np.asarray(strength * colour)


_COMPASS = np.stack([np.cos(np.arange(14) * np.pi / 7), np.sin(np.arange(14) * np.pi / 7)], axis=-1)


def _shadow_outline(points: Vector, radii: Vector, to_lamp: Vector) -> Vector:
    """Return the outline (14, 3) on the floor of the hull of spheres, seen from the lamp."""
    ground = (points - to_lamp * (points[:, 1:2] / to_lamp[1]))[:, [0, 2]]
    farthest = (_COMPASS @ ground.T + radii).argmax(axis=1)
    outline = ground[farthest] + _COMPASS * radii[farthest, None]
    return np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], axis=-1)
