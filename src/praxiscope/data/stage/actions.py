"""The catalogue of actions: verb, nouns, motion, and what the actor holds or sits on.

``stand_up`` and ``put_down`` are ``sit_down`` and ``pick_up`` run backwards, to the last bit. A still image
can't tell such twins apart, so image sets leave out every action with ``reverses``; clips have them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from praxiscope.data.stage import motions, objects
from praxiscope.data.stage.motions import Motion, Style
from praxiscope.data.stage.objects import Spot
from praxiscope.data.stage.skeleton import Body, Figure, Triple, Vector, rotation
from praxiscope.errors import UsageError, did_you_mean

NOTHING = "nothing"
"""Noun of an action done with the body alone."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """One instant of one performance: what places the things in it."""

    phase: float
    style: Style
    body: Body
    figure: Figure
    noun: str

    @property
    def main(self) -> int:
        """Side of the leading hand."""
        return 0 if self.style.mirrored else 1

    def on_floor(self, at: Triple) -> Vector:
        """Turn a right-handed ``floor`` point into world metres."""
        return self.body.on_floor((-at[0], at[1], at[2]) if self.style.mirrored else at)


Carry = Callable[[Take], Spot]


def _at_ear(take: Take) -> Spot:
    turn, hand = take.figure.head_turn, take.figure.hands[take.main]
    s = 1.0 if take.style.mirrored else -1.0
    return Spot(
        at=hand + turn @ np.array((-s * 0.01, 0.035, 0.0)),
        turn=turn @ rotation(-0.35, s * 1.5, 0.0),
        scale=1.15,
    )


def _at_mouth(take: Take) -> Spot:
    turn = take.figure.head_turn
    s = -1.0 if take.style.mirrored else 1.0
    lifted = 1 - min(abs(take.phase - 0.55) / 0.25, 1.0)
    offset = turn @ np.array((s * 0.055, 0.03, 0.0))
    tilt = rotation(-0.9 * lifted, 0.0, 0.0)
    turn = turn @ tilt if s > 0 else turn @ tilt @ np.diag((-1.0, 1.0, 1.0))
    return Spot(at=take.figure.hands[take.main] + offset, turn=turn, scale=1.15)


def _between_hands(take: Take) -> Spot:
    return Spot(at=take.figure.hands.mean(axis=0), turn=take.figure.chest_turn)


def _open_book(take: Take) -> Spot:
    figure = take.figure
    hand = figure.hands[1 - take.main]  # the other hand turns the page
    other = figure.hands[take.main]
    middle = (hand + other) / 2
    eye = figure.head - middle
    back = -eye / np.linalg.norm(eye)
    side = figure.chest_turn[:, 0] - back * float(back @ figure.chest_turn[:, 0])
    side /= np.linalg.norm(side)
    up = np.cross(back, side)
    return Spot(at=middle + up * 0.06, turn=np.stack([side, up, back], axis=1), scale=1.1)


def _lifted(take: Take) -> Spot:
    if take.phase >= motions.GRASP:
        middle = take.figure.hands.mean(axis=0)
        return Spot(at=middle, turn=np.eye(3))
    return Spot(at=take.on_floor(motions.GRASP_AT), turn=np.eye(3))


def _thrown(take: Take) -> Spot:
    hand = take.figure.hands[take.main]
    late = max(take.phase - motions.RELEASE, 0.0)
    palm = hand + take.figure.chest_turn @ np.array((0.0, 0.09, 0.05))
    if late == 0.0:
        return Spot(at=palm, turn=take.figure.chest_turn, scale=0.8)
    start = take.on_floor((-0.2, 2.25, 0.75))
    flown = np.array((0.0, 0.6 * late - 2.2 * late * late, 5.5 * late))
    return Spot(at=start + flown, turn=rotation(9 * late, 0.0, 0.0), scale=0.8)


def _kicked(take: Take) -> Spot:
    late = max(take.phase - motions.CONTACT, 0.0)
    start = take.on_floor(motions.KICK_AT)
    start[1] = 0.125
    flown = np.array((0.0, 2.6 * late - 3.0 * late * late, 4.2 * late))
    return Spot(at=start + np.maximum(flown, 0), turn=rotation(8 * late, 0.0, 0.3))


def _swept(take: Take) -> Spot:
    top, foot = (take.on_floor(end) for end in motions.broom_ends(take.phase, take.style))
    foot[1] = max(foot[1], 0.05)
    stick = top - foot
    length = float(np.linalg.norm(stick))
    up = stick / length
    side = np.array((1.0, 0.0, 0.0)) - up * up[0]
    side /= np.linalg.norm(side)
    return Spot(at=foot, turn=np.stack([side, up, np.cross(side, up)], axis=1), scale=length / 1.45)


def _overhead(take: Take) -> Spot:
    s = 1.0 if take.style.mirrored else -1.0
    return Spot(at=take.figure.hands[take.main], turn=rotation(-0.12, 0.0, s * -0.12))


def _under_seat(take: Take) -> Spot:
    hips = take.body.on_floor((0.0, motions.SEAT, motions.SEAT_BACK))
    top = hips[1] - 0.09 * take.body.girth
    hips[1] = 0.0
    return Spot(at=hips + np.array((0.0, 0.0, 0.02)), turn=np.eye(3), scale=float(top / 0.45))


def _under_back(take: Take) -> Spot:
    hips = take.body.on_floor((0.0, motions.BED, 0.0))
    top = hips[1] - 0.11 * take.body.girth
    hips[1] = 0.0
    return Spot(at=hips + np.array((0.0, 0.0, 0.12)), turn=np.eye(3), scale=float(top / 0.45))


@dataclass(frozen=True, kw_only=True)
class Action:
    """One class."""

    name: str
    verb: str
    nouns: tuple[str, ...] = (NOTHING,)
    """What it can be done with; a sample has one of them."""
    motion: Motion
    carry: Carry | None = None
    """Places the noun; None when there is none."""
    furniture: bool = False
    """The noun is furniture: part of the scene, not of the actor's mask."""
    show: tuple[float, float] = (0.0, 1.0)
    """Phases that a still image is taken from: those that show the action."""
    near: bool = False
    """The upper body tells the action: the camera may come closer."""
    seconds: float = 2.0
    """Length of a clip."""
    reverses: str | None = None
    """Name of the action that this one is, run backwards."""
    hat_on: bool = True
    """False takes a performer's hat off: nobody sleeps in one."""
    elevation: Literal["level", "high"] = "level"
    """``high``: seen from above eye level, so that who lies is seen."""


ACTIONS: tuple[Action, ...] = (
    Action(name="clap", verb="clap", motion=motions.clap, near=True),
    Action(
        name="drink",
        verb="drink",
        nouns=("cup",),
        motion=motions.drink,
        carry=_at_mouth,
        show=(0.36, 0.7),
        near=True,
    ),
    Action(
        name="hold_umbrella",
        verb="hold",
        nouns=("umbrella",),
        motion=motions.hold_umbrella,
        carry=_overhead,
        near=True,
    ),
    Action(name="jump", verb="jump", motion=motions.jump, show=(0.42, 0.62), seconds=1.6),
    Action(
        name="kick",
        verb="kick",
        nouns=("ball",),
        motion=motions.kick,
        carry=_kicked,
        show=(0.46, 0.76),
        seconds=1.6,
    ),
    Action(
        name="phone_call",
        verb="call",
        nouns=("phone",),
        motion=motions.phone_call,
        carry=_at_ear,
        show=(0.3, 1.0),
        near=True,
    ),
    Action(
        name="pick_up",
        verb="pick_up",
        nouns=("ball", "book", "box"),
        motion=motions.pick_up,
        carry=_lifted,
        show=(0.24, 0.72),
    ),
    Action(name="punch", verb="punch", motion=motions.punch, show=(0.16, 0.42), near=True, seconds=1.6),
    Action(
        name="put_down",
        verb="put_down",
        nouns=("ball", "book", "box"),
        motion=motions.pick_up,
        carry=_lifted,
        show=(0.28, 0.76),
        reverses="pick_up",
    ),
    Action(name="read", verb="read", nouns=("book",), motion=motions.read, carry=_open_book, near=True),
    Action(name="run", verb="run", motion=motions.run, seconds=1.6),
    Action(
        name="sit_down",
        verb="sit_down",
        nouns=("chair",),
        motion=motions.sit_down,
        carry=_under_seat,
        furniture=True,
        show=(0.45, 1.0),
    ),
    Action(
        name="sleep",
        verb="sleep",
        nouns=("bed",),
        motion=motions.sleep,
        carry=_under_back,
        furniture=True,
        hat_on=False,
        elevation="high",
        seconds=3.0,
    ),
    Action(
        name="stand_up",
        verb="stand_up",
        nouns=("chair",),
        motion=motions.sit_down,
        carry=_under_seat,
        furniture=True,
        show=(0.0, 0.55),
        reverses="sit_down",
    ),
    Action(name="sweep", verb="sweep", nouns=("broom",), motion=motions.sweep, carry=_swept),
    Action(
        name="throw",
        verb="throw",
        nouns=("ball", "box"),
        motion=motions.throw,
        carry=_thrown,
        show=(0.28, 0.6),
        seconds=1.6,
    ),
    Action(name="walk", verb="walk", motion=motions.walk),
    Action(name="wave", verb="wave", motion=motions.wave, near=True),
)

IMAGE_ACTIONS: tuple[str, ...] = tuple(action.name for action in ACTIONS if action.reverses is None)
"""Classes of image sets: all actions that a still can show."""

CLIP_ACTIONS: tuple[str, ...] = tuple(action.name for action in ACTIONS)
"""Classes of clip sets."""


def find_action(name: str) -> Action:
    """Return an action by its name.

    Raises:
        UsageError: No action has this name.
    """
    for action in ACTIONS:
        if action.name == name:
            return action
    hint, allowed = did_you_mean(name, CLIP_ACTIONS), ", ".join(CLIP_ACTIONS)
    raise UsageError(f"Unknown stage action {name!r}.{hint} Choose from: {allowed}.")


def clip_phases(action: Action, num_frames: int) -> tuple[float, ...]:
    """Return the phases of a clip's frames: even steps from 0 to 1, or from 1 to 0 for a reversed action."""
    steps = tuple(k / max(num_frames - 1, 1) for k in range(num_frames))
    return steps if action.reverses is None else steps[::-1]


def build_thing(noun: str, action: Action) -> objects.Builder:
    """Return what draws the noun in this action: a book is open where it is read, and closed elsewhere."""
    if noun == "book" and action.verb != "read":
        return objects.closed_book
    return objects.NOUNS[noun]
