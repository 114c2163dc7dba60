"""Composing a scene from a seed, and rendering it: images, clips, and the actor's mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.stage import motions
from praxiscope.data.stage.actions import Action, Take, build_thing, clip_phases
from praxiscope.data.stage.backgrounds import BACKGROUNDS, Background, paint_background
from praxiscope.data.stage.camera import Camera, CameraDraw, frame_camera
from praxiscope.data.stage.draw import Canvas, Light
from praxiscope.data.stage.motions import Style, draw_style, strike_pose
from praxiscope.data.stage.objects import RESTING_HEIGHT_M, SCENERY, Spot
from praxiscope.data.stage.performers import Outfit, Performer, build_performer, dress_figure
from praxiscope.data.stage.seeding import rng_for
from praxiscope.data.stage.shapes import Colour, Shape, outline_spheres
from praxiscope.data.stage.skeleton import Vector, rotation, solve_pose

SUPERSAMPLE = 2
"""Pixels are drawn this many times finer in both directions, then averaged."""

_SCENERY, _ACTOR = 1, 2


@dataclass(frozen=True, kw_only=True)
class StageFrame:
    """One rendered instant."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) RGB."""
    mask: npt.NDArray[np.uint8]
    """(H, W), 255 where the actor or what the actor holds fills at least half a pixel, else 0."""


@dataclass(frozen=True, kw_only=True)
class StageClip:
    """A rendered clip."""

    frames: npt.NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    masks: npt.NDArray[np.uint8]
    """(T, H, W), as in :class:`StageFrame`."""
    fps: Fraction


@dataclass(frozen=True, kw_only=True)
class Extra:
    """Something that stands about: a noun of ``SCENERY``, or a passer-by when ``thing`` is None."""

    thing: str | None
    across: float
    """Metres to the right of the actor, as the camera sees it."""
    behind: float
    """Metres behind the actor, as the camera sees it."""
    yaw: float
    colour: Colour
    number: int
    """Seeds a passer-by."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that one sample shows; rendering it draws nothing by chance."""

    seed: int
    key: tuple[int | str, ...]
    """Names the sample's random streams; with the seed it makes the pixels' noise repeatable."""
    action: Action
    noun: str
    noun_colour: Colour
    performer: Performer
    outfit: Outfit
    style: Style
    phases: tuple[float, ...]
    """Of the motion, one per frame; falling for a reversed action."""
    camera: CameraDraw
    close: bool
    """Framed without the legs."""
    background: Background
    light: Light
    exposure: float
    grain: float
    """Standard deviation of the sensor noise, share of full scale."""
    extras: tuple[Extra, ...]


def compose_scene(
    action: Action,
    performer: Performer,
    *,
    seed: int,
    key: tuple[int | str, ...],
    num_frames: int | None = None,
    background: Background | None = None,
) -> Scene:
    """Draw a scene.

    Args:
        action: What is done.
        performer: Who does it.
        seed: The data set's seed.
        key: Names the sample; equal arguments give equal scenes.
        num_frames: Frames of a clip, or None for a still from the phases that show the action.
        background: Where; None draws one.

    Returns:
        The scene.
    """
    rng = rng_for(seed, *key, "action")
    style = draw_style(rng)
    noun = action.nouns[int(rng.integers(len(action.nouns)))]
    still = (float(rng.uniform(*action.show)),)
    look = rng_for(seed, *key, "look")
    outfit = performer.outfits[int(look.integers(len(performer.outfits)))]
    drawn = BACKGROUNDS[int(look.integers(len(BACKGROUNDS)))]
    background = background or drawn
    return Scene(
        seed=seed,
        key=key,
        action=action,
        noun=noun,
        noun_colour=_draw_colour(rng),
        performer=performer,
        outfit=outfit if action.hat_on else replace(outfit, hat="none"),
        style=style,
        phases=still if num_frames is None else clip_phases(action, num_frames),
        camera=_draw_camera(rng_for(seed, *key, "camera"), action),
        close=bool(action.near and look.random() < 0.45),
        background=background,
        light=_draw_light(look, background),
        exposure=float(look.uniform(0.85, 1.15)),
        grain=float(look.uniform(0.0, 0.02)),
        extras=_draw_extras(rng_for(seed, *key, "extras")),
    )


def _draw_camera(rng: np.random.Generator, action: Action) -> CameraDraw:
    # Mostly from the front half, now and then from behind.
    azimuth = rng.uniform(-85, 85) if rng.random() < 0.88 else rng.uniform(100, 260)
    elevation = rng.uniform(14, 42) if action.elevation == "high" else rng.triangular(-4, 8, 30)
    return CameraDraw(
        azimuth=float(azimuth),
        elevation=float(elevation),
        field_of_view=float(rng.uniform(22, 48)),
        roll=float(rng.normal(0, 1.8)),
        fill=float(rng.uniform(0.74, 0.95)),
        shift=(float(rng.uniform(-0.8, 0.8)), float(rng.uniform(-0.8, 0.8))),
    )


def _draw_light(rng: np.random.Generator, background: Background) -> Light:
    height, bearing = rng.uniform(0.85, 1.35), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(height) * np.sin(bearing), np.sin(height), np.cos(height) * np.cos(bearing)])
    warmth = rng.normal(0, 0.06)
    lamp = rng.uniform(0.4, 0.8) * np.array([1 + warmth, 1.0, 1 - warmth])
    above = rng.uniform(0.45, 0.62) * np.array([1 - warmth / 2, 1.0, 1 + warmth / 2])
    below = above * (0.55 + 0.4 * np.array(background.lower))
    hard = background.kind == "open"
    return Light(
        direction=direction,
        lamp=_colour(lamp),
        above=_colour(above),
        below=_colour(below),
        shadow=float(rng.uniform(0.3, 0.6)),
        softness=float(rng.uniform(0.004, 0.012) if hard else rng.uniform(0.01, 0.03)),
    )


def _draw_extras(rng: np.random.Generator) -> tuple[Extra, ...]:
    extras = []
    for number in range(int(rng.choice(4, p=(0.3, 0.35, 0.25, 0.1)))):
        thing = None if rng.random() < 0.12 else tuple(SCENERY)[int(rng.integers(len(SCENERY)))]
        side = 1 if rng.random() < 0.5 else -1
        extras.append(
            Extra(
                thing=thing,
                across=float(side * rng.uniform(0.75, 2.0)),
                behind=float(rng.uniform(2.0, 5.0) if thing is None else rng.uniform(-0.2, 1.8)),
                yaw=float(rng.uniform(-np.pi, np.pi)),
                colour=_draw_colour(rng),
                number=10_000 + 10 * int(rng.integers(1000)) + number,
            )
        )
    return tuple(extras)


def _draw_colour(rng: np.random.Generator) -> Colour:
    base = rng.uniform(0.1, 0.95, 3)
    return _colour(base / max(base.max(), 0.6) * rng.uniform(0.45, 0.95))


def _colour(values: Vector) -> Colour:
    red, green, blue = (float(v) for v in values)
    return (red, green, blue)


def render_image(scene: Scene, *, size: int = 96, frame: int = 0, actor: bool = True) -> StageFrame:
    """Render one frame of a scene.

    Args:
        scene: From :func:`compose_scene`.
        size: Pixels a side.
        frame: Which of the scene's phases, 0-based.
        actor: False leaves out the actor and what is held: the same place, empty (the mask is then 0).

    Returns:
        The image and the actor's mask.
    """
    takes = _perform(scene)
    empty = _set_scene(scene, takes, size)
    return _shoot(scene, takes[frame], empty, actor=actor)


def render_clip(scene: Scene, *, size: int = 96, actor: bool = True) -> StageClip:
    """Render all frames of a scene; the camera stands still and frames the whole motion.

    Args:
        scene: From :func:`compose_scene`.
        size: Pixels a side.
        actor: False leaves out the actor, as in :func:`render_image`.

    Returns:
        The frames, their masks and the frame rate that makes the clip last ``scene.action.seconds``.
    """
    takes = _perform(scene)
    empty = _set_scene(scene, takes, size)
    shots = [_shoot(scene, take, empty, actor=actor) for take in takes]
    return StageClip(
        frames=np.stack([shot.image for shot in shots]),
        masks=np.stack([shot.mask for shot in shots]),
        fps=Fraction(len(takes)) / Fraction(scene.action.seconds).limit_denominator(100),
    )


def _perform(scene: Scene) -> list[Take]:
    """Solve the actor's figure for every phase."""
    takes = []
    for phase in scene.phases:
        pose = strike_pose(scene.action.motion, phase, scene.style)
        body = scene.performer.body
        takes.append(
            Take(phase=phase, style=scene.style, body=body, figure=solve_pose(body, pose), noun=scene.noun)
        )
    return takes


@dataclass(frozen=True)
class _EmptySet:
    """The place without the actor, drawn once for all frames."""

    canvas: Canvas
    floor: npt.NDArray[np.bool_]
    grain: npt.NDArray[np.float32]
    """(size, size, 3), added at the end; also tells the size of the output."""


def _set_scene(scene: Scene, takes: list[Take], size: int) -> _EmptySet:
    camera = frame_camera(scene.camera, *_what_must_be_seen(scene, takes))
    # The background is painted at the output's resolution: a little out of focus, and a quarter of the time.
    backdrop, floor = paint_background(
        scene.background, camera, size, rng_for(scene.seed, *scene.key, "background")
    )
    canvas = Canvas(camera, scene.light, _enlarged(backdrop))
    floor = floor.repeat(SUPERSAMPLE, axis=0).repeat(SUPERSAMPLE, axis=1)
    shapes = [shape for extra in scene.extras for shape in _place_extra(extra, camera, scene)]
    if scene.action.furniture:
        shapes += _thing_shapes(scene, takes[0])
    canvas.cast_shadows(shapes, floor)
    canvas.draw(shapes, _SCENERY)
    grain = rng_for(scene.seed, *scene.key, "grain").standard_normal((size, size, 3), dtype=np.float32)
    return _EmptySet(canvas, floor, grain * np.float32(scene.grain))


def _shoot(scene: Scene, take: Take, empty: _EmptySet, *, actor: bool) -> StageFrame:
    canvas = empty.canvas.copy()
    if actor:
        shapes = dress_figure(take.figure, scene.performer, scene.outfit)
        if not scene.action.furniture:
            shapes += _thing_shapes(scene, take)
        canvas.cast_shadows(shapes, empty.floor)
        canvas.draw(shapes, _ACTOR)
    size = len(empty.grain)
    colour = _averaged(canvas.colour, size) * np.float32(scene.exposure) + empty.grain
    covered = _averaged((canvas.layer == _ACTOR).astype(np.float32)[..., None], size)[..., 0]
    return StageFrame(
        image=(np.clip(colour, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8),
        mask=np.where(covered >= 0.5, 255, 0).astype(np.uint8),
    )


def _enlarged(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Interpolate (S, S, 3) colours to SUPERSAMPLE times the side, in 256 steps."""
    fine = len(pixels) * SUPERSAMPLE
    image = Image.fromarray((np.clip(pixels, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8))
    image = image.resize((fine, fine), Image.Resampling.BILINEAR)
    return np.asarray(image).astype(np.float32) * np.float32(1 / 255)


def _averaged(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Shrink (size * SUPERSAMPLE, ..., C) to (size, size, C) by averaging blocks."""
    s = SUPERSAMPLE
    parts = [pixels[i::s, j::s] for i in range(s) for j in range(s)]
    return np.asarray(sum(parts[1:], parts[0]) / np.float32(len(parts)))[:size, :size]


def _thing_shapes(scene: Scene, take: Take) -> list[Shape]:
    """Return the shapes of the noun, if the action has one."""
    if scene.action.carry is None:
        return []
    return build_thing(scene.noun, scene.action)(scene.action.carry(take), scene.noun_colour)


def _what_must_be_seen(scene: Scene, takes: list[Take]) -> tuple[Vector, Vector]:
    """Return spheres (n, 3), (n,) around the actor and what is held, in all frames."""
    points, radii = [], []
    for take in takes:
        figure, head = take.figure, take.body.head
        seen = [figure.neck, *figure.shoulders, *figure.elbows, *figure.hands, *figure.hips]
        if not scene.close:
            seen += [*figure.knees, *figure.ankles, *figure.toes]
        points += [np.stack(seen), figure.head[None]]
        radii += [np.full(len(seen), 0.07), np.array([head * 1.5])]
        if scene.noun in _FRAMED:
            for shape in _thing_shapes(scene, take):
                centres, room = outline_spheres(shape)
                points.append(centres)
                radii.append(room)
    return np.concatenate(points), np.concatenate(radii)


_FRAMED = frozenset({"book", "box", "broom", "cup", "phone", "umbrella"})
"""Nouns that the camera keeps in the frame; a ball may fly out, furniture may be cut."""


def _place_extra(extra: Extra, camera: Camera, scene: Scene) -> list[Shape]:
    flat = np.array([camera.turn[2, 0], 0.0, camera.turn[2, 2]])
    flat /= np.linalg.norm(flat)
    right = np.cross(flat, (0.0, 1.0, 0.0))
    at = right * extra.across + flat * extra.behind
    if extra.thing is None:
        return _passer_by(extra, (float(at[0]), 0.0, float(at[2])), scene.seed)
    at[1] = RESTING_HEIGHT_M.get(extra.thing, 0.0)
    return SCENERY[extra.thing](Spot(at=at, turn=rotation(0.0, extra.yaw, 0.0)), extra.colour)


def _passer_by(extra: Extra, at: tuple[float, float, float], seed: int) -> list[Shape]:
    """Somebody who walks past in the distance; never one of the performers."""
    stranger = build_performer(seed, extra.number)
    style = Style(offset=abs(extra.yaw) / np.pi)
    figure = solve_pose(stranger.body, motions.walk(0.5, style), at=at, yaw=extra.yaw)
    return dress_figure(figure, stranger, stranger.outfits[0])
