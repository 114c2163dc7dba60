"""Sixteen places to act in: rooms, open air and studios, painted per pixel by casting rays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, sin
from typing import Literal

import numpy as np
import numpy.typing as npt

from praxiscope.data.stage.camera import Camera
from praxiscope.data.stage.raycast import Plane
from praxiscope.data.stage.shapes import Colour
from praxiscope.data.stage.textures import Noise, Pattern, compute_texture


@dataclass(frozen=True, kw_only=True)
class Background:
    """A place; colours are varied a little in each scene."""

    name: str
    kind: Literal["room", "open", "studio"]
    upper: Colour
    """Wall, or the sky at the horizon."""
    lower: Colour
    """Floor or ground."""
    upper_pattern: Pattern = "plain"
    lower_pattern: Pattern = "plain"
    zenith: Colour = (0.3, 0.5, 0.85)
    """Sky overhead (open air only)."""
    skyline: Literal["none", "hills", "houses", "trees"] = "none"


BACKGROUNDS: tuple[Background, ...] = (
    Background(
        name="bedroom",
        kind="room",
        upper=(0.78, 0.72, 0.82),
        lower=(0.55, 0.42, 0.36),
        lower_pattern="mottled",
    ),
    Background(
        name="brick_loft",
        kind="room",
        upper=(0.62, 0.34, 0.26),
        lower=(0.45, 0.43, 0.42),
        upper_pattern="bricks",
    ),
    Background(
        name="kitchen",
        kind="room",
        upper=(0.82, 0.88, 0.86),
        lower=(0.75, 0.73, 0.68),
        upper_pattern="tiles",
        lower_pattern="checks",
    ),
    Background(
        name="living_room",
        kind="room",
        upper=(0.85, 0.78, 0.62),
        lower=(0.6, 0.41, 0.25),
        lower_pattern="planks",
    ),
    Background(
        name="office", kind="room", upper=(0.8, 0.81, 0.83), lower=(0.38, 0.42, 0.5), lower_pattern="mottled"
    ),
    Background(
        name="parlour",
        kind="room",
        upper=(0.34, 0.52, 0.46),
        lower=(0.48, 0.3, 0.2),
        upper_pattern="stripes",
        lower_pattern="planks",
    ),
    Background(
        name="gym", kind="room", upper=(0.55, 0.66, 0.8), lower=(0.8, 0.6, 0.36), lower_pattern="planks"
    ),
    Background(
        name="nursery",
        kind="room",
        upper=(0.93, 0.8, 0.55),
        lower=(0.62, 0.7, 0.55),
        upper_pattern="dots",
        lower_pattern="mottled",
    ),
    Background(
        name="meadow",
        kind="open",
        upper=(0.82, 0.9, 0.95),
        lower=(0.38, 0.55, 0.22),
        lower_pattern="mottled",
        skyline="hills",
    ),
    Background(
        name="street",
        kind="open",
        upper=(0.8, 0.83, 0.88),
        lower=(0.4, 0.4, 0.42),
        lower_pattern="tiles",
        skyline="houses",
    ),
    Background(
        name="beach",
        kind="open",
        upper=(0.75, 0.9, 0.95),
        lower=(0.86, 0.76, 0.55),
        lower_pattern="mottled",
        zenith=(0.2, 0.55, 0.9),
    ),
    Background(
        name="park",
        kind="open",
        upper=(0.78, 0.85, 0.8),
        lower=(0.62, 0.56, 0.45),
        lower_pattern="mottled",
        skyline="trees",
    ),
    Background(
        name="snow",
        kind="open",
        upper=(0.86, 0.88, 0.93),
        lower=(0.9, 0.92, 0.96),
        lower_pattern="mottled",
        zenith=(0.62, 0.7, 0.82),
        skyline="trees",
    ),
    Background(
        name="dusk",
        kind="open",
        upper=(0.95, 0.6, 0.4),
        lower=(0.42, 0.36, 0.38),
        lower_pattern="tiles",
        zenith=(0.28, 0.25, 0.5),
        skyline="houses",
    ),
    Background(name="studio", kind="studio", upper=(0.72, 0.72, 0.74), lower=(0.6, 0.6, 0.62)),
    Background(
        name="canvas",
        kind="studio",
        upper=(0.46, 0.42, 0.36),
        lower=(0.36, 0.32, 0.28),
        upper_pattern="mottled",
    ),
)

BACKGROUND_NAMES: tuple[str, ...] = tuple(background.name for background in BACKGROUNDS)


def find_background(name: str) -> Background:
    """Return a background by its name; KeyError if there is none."""
    return {background.name: background for background in BACKGROUNDS}[name]


def paint_background(
    background: Background, camera: Camera, size: int, rng: np.random.Generator
) -> tuple[Plane, npt.NDArray[np.bool_]]:
    """Paint what lies behind everything.

    Args:
        background: Which place.
        camera: From where.
        size: Pixels a side.
        rng: Varies colours, the walls' position, windows, clouds.

    Returns:
        Colours (size, size, 3) float32 in about [0, 1], and where the floor is (size, size) bool.
    """
    view = _View(camera, size)
    tint = rng.normal(1, 0.07) * rng.normal(1, 0.05, 3)
    noise = Noise(rng)
    lower = _scaled(background.lower, tint)
    upper = _scaled(background.upper, rng.normal(1, 0.07) * rng.normal(1, 0.05, 3))
    painter = {"room": _paint_room, "open": _paint_open, "studio": _paint_studio}[background.kind]
    behind, floor = painter(background, upper, view, noise, rng)
    reach = -view.origin[1] / view.y[floor]
    u, v = view.origin[0] + view.x[floor] * reach, view.origin[2] + view.z[floor] * reach
    texture = compute_texture(background.lower_pattern, u, v, noise)
    near = 1 / (1 + np.float32(0.004) * reach * reach)  # patterns fade with distance instead of flickering
    ground = (1 + (texture - 1) * near)[:, None] * lower
    if background.kind == "open":
        haze = np.clip(reach / 60, 0, 0.7)[:, None]
        ground = ground * (1 - haze) + upper * haze
    behind[floor] = ground
    return behind, floor


class _View:
    """World directions (x, y, z) of all pixels' rays, each (size, size) float32."""

    def __init__(self, camera: Camera, size: int) -> None:
        right, up = camera.pixel_rays(size)
        r, u, f = camera.turn.astype(np.float32)
        self.x, self.y, self.z = (right[None, :] * r[k] + up[:, None] * u[k] + f[k] for k in range(3))
        self.origin = camera.position.astype(np.float32)
        self.forward = camera.turn[2]
        self.size = size


Painter = Callable[
    [Background, Plane, _View, Noise, np.random.Generator], tuple[Plane, npt.NDArray[np.bool_]]
]


def _paint_room(
    background: Background, upper: Plane, view: _View, noise: Noise, rng: np.random.Generator
) -> tuple[Plane, npt.NDArray[np.bool_]]:
    """Two walls that meet in a corner behind the actor, a skirting board, perhaps a window or a picture."""
    turn = float(rng.uniform(-0.5, 0.5))
    behind = float(rng.uniform(1.3, 3.2))
    corner = float(rng.uniform(1.4, 5.0)) * (1 if rng.random() < 0.5 else -1)
    flat = np.array([view.forward[0], view.forward[2]])
    flat = flat / np.linalg.norm(flat)
    normal = np.array([flat[0] * cos(turn) - flat[1] * sin(turn), flat[0] * sin(turn) + flat[1] * cos(turn)])
    side = np.array([-normal[1], normal[0]]) * np.sign(corner)
    distances = []
    for axis, offset in ((normal, behind), (side, abs(corner))):
        facing = view.x * np.float32(axis[0]) + view.z * np.float32(axis[1])
        gap = np.float32(offset) - view.origin[0] * np.float32(axis[0]) - view.origin[2] * np.float32(axis[1])
        gap = max(gap, np.float32(0.3))
        distances.append(np.where(facing > 1e-4, gap / np.maximum(facing, np.float32(1e-4)), np.float32(1e4)))
    first = distances[0] <= distances[1]
    reach = np.minimum(distances[0], distances[1])
    height = view.origin[1] + view.y * reach
    across = np.where(
        first,
        (view.origin[0] + view.x * reach) * np.float32(side[0])
        + (view.origin[2] + view.z * reach) * np.float32(side[1]),
        (view.origin[0] + view.x * reach) * np.float32(normal[0])
        + (view.origin[2] + view.z * reach) * np.float32(normal[1]),
    )
    shade = np.where(first, np.float32(1), np.float32(rng.uniform(0.75, 0.92)))
    shade = shade * (np.float32(0.88) + np.float32(0.05) * np.clip(height, 0, 3))
    colour = (shade * compute_texture(background.upper_pattern, across, height, noise))[..., None] * upper
    _hang_pictures(colour, first, across, height, rng)
    colour[(height < 0.12) & (height >= 0)] *= np.float32(0.7)
    return colour, height < 0


def _hang_pictures(
    colour: Plane, wall: npt.NDArray[np.bool_], across: Plane, height: Plane, rng: np.random.Generator
) -> None:
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(-2.2, 2.2), rng.uniform(1.3, 1.9)
        w, h = rng.uniform(0.25, 0.6), rng.uniform(0.2, 0.5)
        frame, inside = rng.uniform(0.15, 0.9, 3), rng.uniform(0.3, 1.0, 3)
        dx, dy = np.abs(across - np.float32(x)), np.abs(height - np.float32(y))
        colour[wall & (dx < w) & (dy < h)] = frame.astype(np.float32)
        colour[wall & (dx < w - 0.06) & (dy < h - 0.06)] = inside.astype(np.float32)


def _paint_open(
    background: Background, upper: Plane, view: _View, noise: Noise, rng: np.random.Generator
) -> tuple[Plane, npt.NDArray[np.bool_]]:
    """Sky with clouds, and a skyline on the horizon."""
    flat = np.sqrt(view.x * view.x + view.z * view.z)
    rise = view.y / flat
    bearing = np.arctan2(view.x, view.z) + np.float32(rng.uniform(0, 6))
    fade = np.clip(rise * 1.6, 0, 1)[..., None]
    clouds = np.clip(noise.smooth(bearing * 4, rise * 12) * 2 - 1.0, 0, 1)[..., None] * np.float32(
        rng.uniform(0, 0.8)
    )
    sky = upper * (1 - fade) + np.array(background.zenith, dtype=np.float32) * fade
    sky = sky + (np.float32(0.97) - sky) * clouds
    line = _skyline(background.skyline, bearing, noise)
    if line is not None:
        top, colour = line
        sky = np.where((rise < top)[..., None], colour, sky)
    if background.name == "beach":
        water = (rise < 0.0) & (rise > -0.06)
        sky[water] = (0.16, 0.42, 0.55)
        return sky.astype(np.float32), rise <= -0.06
    return sky.astype(np.float32), rise < 0


def _skyline(kind: str, bearing: Plane, noise: Noise) -> tuple[Plane, Plane] | None:
    """Return the skyline's height (slope above the horizon) and its colours (..., 3)."""
    if kind == "hills":
        top = 0.07 + 0.05 * np.sin(bearing * 2.3) + 0.03 * np.sin(bearing * 5.1 + 1)
        return top, np.broadcast_to(np.array((0.32, 0.45, 0.38), dtype=np.float32), (*bearing.shape, 3))
    if kind == "houses":
        house = np.floor(bearing * 5).astype(np.int32)
        top = 0.12 + 0.35 * noise.cells[house % 64, 3]
        grey = 0.35 + 0.4 * noise.cells[house % 64, 9]
        return top, np.stack([grey, grey * 0.93, grey * (0.8 + 0.2 * noise.cells[house % 64, 17])], axis=-1)
    if kind == "trees":
        crown = np.abs(np.sin(bearing * 9)) ** 0.6
        tree = np.floor(bearing * 9 / np.pi).astype(np.int32)
        top = (0.12 + 0.22 * noise.cells[tree % 64, 5]) * crown
        green = 0.7 + 0.5 * noise.cells[tree % 64, 7]
        return top, np.stack([green * 0.2, green * 0.36, green * 0.2], axis=-1)
    return None


def _paint_studio(
    background: Background, upper: Plane, view: _View, noise: Noise, rng: np.random.Generator
) -> tuple[Plane, npt.NDArray[np.bool_]]:
    """A seamless backdrop: a gradient that runs into the floor, lit from one side."""
    rise = view.y / np.sqrt(view.x * view.x + view.z * view.z)
    ramp = np.linspace(-1, 1, view.size, dtype=np.float32)
    glow = (
        1
        + np.float32(rng.uniform(-0.25, 0.25)) * ramp[None, :]
        + np.float32(rng.uniform(-0.2, 0.2)) * ramp[:, None]
    )
    bearing = np.arctan2(view.x, view.z)
    texture = compute_texture(background.upper_pattern, bearing * 6, rise * 6, noise)
    return (glow * texture)[..., None] * upper, rise < np.float32(rng.uniform(-0.3, -0.05))


def _scaled(colour: Colour, factor: npt.NDArray[np.float64]) -> Plane:
    return np.clip(np.array(colour) * factor, 0.02, 1.0).astype(np.float32)
