"""Performers: bodies, faces, hair and wardrobes, and the shapes that a figure is drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from praxiscope.data.stage.seeding import rng_for
from praxiscope.data.stage.shapes import Colour, Paint, Shape, cone, ellipsoid
from praxiscope.data.stage.skeleton import SIDES, Body, Figure, Triple, Vector

_T = TypeVar("_T")

SKINS: tuple[Colour, ...] = (
    (0.98, 0.83, 0.73),
    (0.94, 0.76, 0.62),
    (0.85, 0.64, 0.49),
    (0.72, 0.51, 0.37),
    (0.55, 0.37, 0.26),
    (0.40, 0.26, 0.19),
)
HAIR_COLOURS: tuple[Colour, ...] = (
    (0.09, 0.07, 0.06),
    (0.22, 0.13, 0.08),
    (0.45, 0.27, 0.13),
    (0.80, 0.62, 0.32),
    (0.62, 0.24, 0.10),
    (0.66, 0.66, 0.66),
)
HAIR_STYLES = ("short", "short", "long", "bun", "bald", "curly")
HATS = ("none", "none", "none", "none", "cap", "beanie", "brim")
BOTTOMS = ("trousers", "trousers", "trousers", "shorts", "skirt")


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """One set of clothes."""

    top: Paint
    long_sleeves: bool
    bottom: Colour
    cut: str
    """``trousers``, ``shorts`` or ``skirt``."""
    shoes: Colour
    hat: str
    """``none``, ``cap``, ``beanie`` or ``brim``."""
    hat_colour: Colour


@dataclass(frozen=True, kw_only=True)
class Performer:
    """A person who acts: the data set's group."""

    name: str
    body: Body
    skin: Colour
    hair: str
    hair_colour: Colour
    outfits: tuple[Outfit, ...]


@lru_cache(maxsize=4096)
def build_performer(seed: int, number: int) -> Performer:
    """Draw performer ``number`` of the company of ``seed``; the same one every time."""
    rng = rng_for(seed, "performer", number)
    height = float(rng.uniform(1.52, 1.93))
    return Performer(
        name=f"p{number:04d}",
        body=_draw_body(rng, height),
        skin=_pick(rng, SKINS),
        hair=_pick(rng, HAIR_STYLES),
        hair_colour=_pick(rng, HAIR_COLOURS),
        outfits=tuple(_draw_outfit(rng) for _ in range(3)),
    )


def _draw_body(rng: np.random.Generator, height: float) -> Body:
    legs, width, arms, head = (float(rng.normal(1, s)) for s in (0.025, 0.06, 0.03, 0.05))
    # Shares of the height after standard anthropometric tables; head and hands are a little large, so that
    # what they do can be read at 64 pixels.
    return Body(
        thigh=0.242 * height * legs,
        shin=0.240 * height * legs,
        ankle=0.045 * height,
        foot=0.12 * height,
        hip=0.055 * height * width,
        waist=0.10 * height,
        torso=0.19 * height,
        shoulder=0.112 * height * width,
        upper_arm=0.178 * height * arms,
        forearm=0.198 * height * arms,
        neck=0.035 * height,
        head=0.062 * height * head,
        girth=float(rng.uniform(0.86, 1.24)) * height / 1.72,
    )


def _draw_outfit(rng: np.random.Generator) -> Outfit:
    banded = rng.random() < 0.3
    return Outfit(
        top=Paint(
            colour=_cloth(rng, 0.9),
            accent=_cloth(rng, 0.9),
            band=float(rng.uniform(0.04, 0.09)) if banded else 0.0,
        ),
        long_sleeves=bool(rng.random() < 0.6),
        bottom=_cloth(rng, 0.45),
        cut=_pick(rng, BOTTOMS),
        shoes=_cloth(rng, 0.5),
        hat=_pick(rng, HATS),
        hat_colour=_cloth(rng, 0.9),
    )


def _cloth(rng: np.random.Generator, vivid: float) -> Colour:
    """Draw a colour whose saturation is at most ``vivid``."""
    hue, saturation = rng.uniform(0, 3), rng.uniform(0.1, vivid)
    value = rng.uniform(0.2, 0.95)
    wheel = np.clip(np.abs((hue - np.array([0.0, 1.0, 2.0]) + 1.5) % 3 - 1.5) * -1 + 1, 0, 1) ** 0.6
    red, green, blue = (float(value * (1 - saturation * (1 - w))) for w in wheel)
    return (red, green, blue)


def _pick(rng: np.random.Generator, choices: tuple[_T, ...]) -> _T:
    return choices[int(rng.integers(len(choices)))]


def dress_figure(figure: Figure, performer: Performer, outfit: Outfit) -> list[Shape]:
    """Return the shapes of a clothed figure, about 30."""
    shapes = _trunk(figure, performer.body, outfit)
    for side in (0, 1):
        shapes += _arm(figure, performer, outfit, side)
        shapes += _leg(figure, performer, outfit, side)
    return shapes + _head(figure, performer) + _hair_and_hat(figure, performer, outfit)


def _trunk(figure: Figure, body: Body, outfit: Outfit) -> list[Shape]:
    girth, top = body.girth, outfit.top
    chest_turn, pelvis_turn = figure.chest_turn, figure.pelvis_turn
    chest = figure.neck - chest_turn[:, 1] * body.torso * 0.48
    belly = figure.waist - chest_turn[:, 1] * 0.01
    seat = figure.pelvis + pelvis_turn[:, 1] * 0.02
    collar = figure.neck - chest_turn[:, 1] * 0.02
    yoke = (0.065 * girth, 0.068 * girth)
    return [
        ellipsoid(seat, pelvis_turn, (body.hip * 1.75, 0.14, 0.115 * girth), outfit.bottom),
        ellipsoid(belly, chest_turn, (body.hip * 1.5, body.waist * 1.15, 0.10 * girth), top),
        ellipsoid(chest, chest_turn, (body.shoulder * 0.86, body.torso * 0.62, 0.125 * girth), top),
        *(cone(collar, shoulder, yoke, top.colour) for shoulder in figure.shoulders),
    ]


def _arm(figure: Figure, performer: Performer, outfit: Outfit, side: int) -> list[Shape]:
    girth, sleeve = performer.body.girth, outfit.top.colour
    shoulder, elbow, hand = figure.shoulders[side], figure.elbows[side], figure.hands[side]
    wrist = elbow + (hand - elbow) * 0.74
    lower = sleeve if outfit.long_sleeves else performer.skin
    shapes: list[Shape] = [
        cone(shoulder, elbow, (0.062 * girth, 0.048 * girth), sleeve),
        cone(elbow, wrist, (0.047 * girth, 0.034 * girth), lower),
        cone(wrist, hand + (hand - wrist) * 0.25, (0.036, 0.046), performer.skin),
    ]
    return shapes


def _leg(figure: Figure, performer: Performer, outfit: Outfit, side: int) -> list[Shape]:
    girth = performer.body.girth
    hip, knee, ankle, toe = (joint[side] for joint in (figure.hips, figure.knees, figure.ankles, figure.toes))
    bare = outfit.cut != "trousers"
    wide = 0.13 if outfit.cut == "skirt" else 0.062
    heel = ankle - (toe - ankle) * 0.22 - (0.0, 0.02, 0.0)
    return [
        cone(hip, knee, (0.092 * girth, wide * girth), outfit.bottom),
        cone(knee, ankle, (0.060 * girth, 0.042 * girth), performer.skin if bare else outfit.bottom),
        cone(heel, toe, (0.048, 0.040), outfit.shoes),
    ]


def _head(figure: Figure, performer: Performer) -> list[Shape]:
    part = _HeadParts(figure, performer.body.head)
    skin = performer.skin
    collar = figure.neck - figure.chest_turn[:, 1] * 0.02
    return [
        cone(collar, figure.head, (0.052, 0.050), skin),
        part.oval((0.0, 0.0, 0.0), (1.0, 1.22, 1.1), skin),
        part.oval((0.0, -0.15, 1.12), (0.2, 0.2, 0.2), skin),  # nose
        part.oval((0.0, -0.6, 0.93), (0.34, 0.09, 0.1), (0.55, 0.2, 0.2)),  # mouth
        *(part.oval((s * 0.42, 0.15, 0.92), (0.17, 0.17, 0.17), (0.08, 0.06, 0.06)) for s in SIDES),  # eyes
        *(part.oval((s * 0.98, -0.05, 0.0), (0.24, 0.24, 0.24), skin) for s in SIDES),  # ears
    ]


def _hair_and_hat(figure: Figure, performer: Performer, outfit: Outfit) -> list[Shape]:
    part = _HeadParts(figure, performer.body.head)
    style, colour, felt = performer.hair, performer.hair_colour, outfit.hat_colour
    shapes: list[Shape] = []
    if style != "bald":
        puff = 1.32 if style == "curly" else 1.1
        shapes.append(part.oval((0.0, 0.3, -0.24), (puff, 1.12 * puff**0.5, 1.12), colour))
    if style == "long":
        thick = (part.radius * 0.95, part.radius * 0.75)
        shapes.append(cone(part.at((0.0, 0.1, -0.6)), part.at((0.0, -1.7, -0.85)), thick, colour))
    if style == "bun":
        shapes.append(part.oval((0.0, 0.75, -1.2), (0.55, 0.55, 0.55), colour))
    if outfit.hat != "none":
        rise = 0.72 if outfit.hat == "beanie" else 0.62
        shapes.append(part.oval((0.0, rise, -0.12), (1.16, 0.95, 1.22), felt))
    if outfit.hat == "cap":
        shapes.append(part.oval((0.0, 0.62, 1.15), (0.85, 0.12, 0.75), felt))
    if outfit.hat == "brim":
        shapes.append(part.oval((0.0, 0.62, 0.0), (2.0, 0.14, 2.0), felt))
    return shapes


class _HeadParts:
    """Places parts of a head in head radii, turned with it."""

    def __init__(self, figure: Figure, radius: float) -> None:
        self._centre, self._turn, self.radius = figure.head, figure.head_turn, radius

    def at(self, offset: Triple) -> Vector:
        return np.asarray(self._centre + self._turn @ np.array(offset) * self.radius)

    def oval(self, offset: Triple, radii: Triple, colour: Colour) -> Shape:
        x, y, z = (self.radius * r for r in radii)
        return ellipsoid(self.at(offset), self._turn, (x, y, z), colour)
