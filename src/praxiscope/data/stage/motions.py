"""The motions: each turns a phase in [0, 1] and a style into a pose. All are written for the right hand.

Units are those of :mod:`praxiscope.data.stage.skeleton`. A periodic motion repeats ``CYCLES`` times in a clip
and starts where the style's ``offset`` says; the others run once from beginning to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import cos, pi, sin
from typing import TypeAlias

import numpy as np

from praxiscope.data.stage.skeleton import SIDES, Pose, Reach, Step, Triple

CYCLES = 2


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one take differs from the textbook; constant through a clip."""

    size: float = 1.0
    """Amplitude of the motion, about 1."""
    offset: float = 0.0
    """Where a periodic motion starts, in cycles, in [0, 1)."""
    choice: float = 0.0
    """Picks among a motion's variants, in [0, 1)."""
    mirrored: bool = False
    """Left-handed."""
    lean: Triple = (0.0, 0.0, 0.0)
    """Added to the chest's bend, radians."""
    look: Triple = (0.0, 0.0, 0.0)
    """Added to the head's turn, radians."""
    hands: tuple[Triple, Triple] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    """Added to the hands' places, in arm lengths."""
    stance: float = 0.0
    """Added to half the distance between the feet, in leg lengths."""


Motion: TypeAlias = Callable[[float, Style], Pose]


def draw_style(rng: np.random.Generator) -> Style:
    """Draw a style."""
    lean, look = rng.normal(0, 0.05, 3), rng.normal(0, 0.12, 3)
    hands = rng.normal(0, 0.035, (2, 3))
    return Style(
        size=float(rng.uniform(0.82, 1.15)),
        offset=float(rng.random()),
        choice=float(rng.random()),
        mirrored=bool(rng.random() < 0.35),
        lean=_triple(lean),
        look=_triple(look),
        hands=(_triple(hands[0]), _triple(hands[1])),
        stance=float(rng.uniform(-0.02, 0.06)),
    )


def strike_pose(motion: Motion, phase: float, style: Style) -> Pose:
    """Return the pose of a motion at a phase, with the style's habits and handedness."""
    pose = motion(phase, style)
    hands = (_nudged(pose.hands[0], style.hands[0]), _nudged(pose.hands[1], style.hands[1]))
    pose = replace(pose, hands=hands, bend=_add(pose.bend, style.lean), look=_add(pose.look, style.look))
    return pose.mirrored() if style.mirrored else pose


def _nudged(reach: Reach, by: Triple) -> Reach:
    # What touches the head or an object must keep touching it; free hands may wander.
    return replace(reach, at=_add(reach.at, by)) if reach.frame == "chest" else reach


def _triple(values: Sequence[float] | np.ndarray) -> Triple:
    a, b, c = (float(v) for v in values)
    return (a, b, c)


def _add(a: Triple, b: Triple) -> Triple:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def _keys(t: float, *keys: tuple[float, Triple]) -> Triple:
    """Ease between key values: (phase, value) in rising order of phase."""
    if t <= keys[0][0]:
        return keys[0][1]
    for (t0, a), (t1, b) in pairwise(keys):
        if t <= t1:
            u = (t - t0) / (t1 - t0)
            w = u * u * (3 - 2 * u)
            return (a[0] + (b[0] - a[0]) * w, a[1] + (b[1] - a[1]) * w, a[2] + (b[2] - a[2]) * w)
    return keys[-1][1]


def _hang(side: int, swing: float = 0.0, bend: float = 0.95) -> Reach:
    """A hanging arm, swung forward by ``swing`` radians; ``bend`` is its share of full length."""
    s = SIDES[side]
    return Reach(
        frame="chest", at=(s * 0.13, -cos(swing) * bend, sin(swing) * bend), pole=(s * 0.4, 0.0, -1.0)
    )


def _chest(at: Triple, pole: Triple) -> Reach:
    return Reach(frame="chest", at=at, pole=pole)


def _stand(style: Style, *, ahead: float = 0.0) -> tuple[Step, Step]:
    """Feet side by side, or the left one ``ahead`` of the right by that many leg lengths."""
    x = 0.13 + style.stance
    return (
        Step(at=(x, 0.0, ahead / 2), pole=(0.15, 0.0, 1.0), toe=(0.25, -0.28, 1.0)),
        Step(at=(-x, 0.0, -ahead / 2), pole=(-0.15, 0.0, 1.0), toe=(-0.25, -0.28, 1.0)),
    )


def _turns(t: float, style: Style) -> float:
    """Angle of a periodic motion, radians."""
    return 2 * pi * (t * CYCLES + style.offset)


def _stride(angle: float, reach: float, lift: float) -> tuple[float, float, float]:
    """Return an ankle's (forward, up) against the hips and how far the heel is raised, for a gait's angle."""
    u = (angle / (2 * pi)) % 1.0
    if u < 0.5:
        return reach * (1 - 4 * u), 0.0, max(u - 0.38, 0.0) * 4
    v = (u - 0.5) * 2
    return reach * (2 * (v * v * (3 - 2 * v)) - 1), lift * sin(pi * v) ** 1.5, 0.5 * (1 - v) * sin(pi * v) * 2


def _gait(
    t: float, style: Style, *, reach: float, lift: float, travel: float
) -> tuple[Triple, tuple[Step, Step]]:
    angle = _turns(t, style)
    drop = 1 - (1 - reach**2) ** 0.5
    root = (0.0, 1.0 - drop * (0.5 + 0.5 * cos(2 * angle)), travel * (t - 0.5))
    steps = []
    for side in (0, 1):
        forward, up, heel = _stride(angle + side * pi, reach, lift)
        at = (SIDES[side] * 0.1, up + 0.1 * min(heel, 1.0), root[2] + forward)
        steps.append(Step(at=at, toe=(0.0, -0.28 - 1.2 * min(heel, 1.0), 1.0)))
    return root, (steps[0], steps[1])


def walk(t: float, style: Style) -> Pose:
    """Walk forward, arms swinging against the legs."""
    root, feet = _gait(t, style, reach=0.42 * style.size, lift=0.1, travel=1.6)
    swing = 0.68 * style.size * cos(_turns(t, style))
    twist = 0.12 * swing
    return Pose(
        root=root,
        turn=(0.03, twist, 0.0),
        bend=(0.02, -2 * twist, 0.0),
        feet=feet,
        hands=(_hang(0, -swing, 0.93), _hang(1, swing, 0.93)),
    )


def run(t: float, style: Style) -> Pose:
    """Run: long strides with a flight phase, elbows bent, body leaning forward."""
    angle = _turns(t, style)
    root, feet = _gait(t, style, reach=0.56 * style.size, lift=0.5, travel=2.2)
    root = (root[0], root[1] + 0.1 + 0.07 * cos(2 * angle), root[2])
    feet = (_raised(feet[0], 0.07), _raised(feet[1], 0.07))
    swing = cos(angle) * style.size
    hands = []
    for side, sign in ((0, -swing), (1, swing)):
        s = SIDES[side]
        hands.append(
            _chest(
                (-s * 0.1 * max(sign, 0.0) + s * 0.1, -0.42 + 0.22 * sign, 0.12 + 0.5 * sign),
                (s * 0.5, -0.5, -1.0),
            )
        )
    return Pose(
        root=root,
        turn=(0.16, 0.12 * swing, 0.0),
        bend=(0.14, -0.3 * swing, 0.0),
        look=(-0.15, 0.0, 0.0),
        feet=feet,
        hands=(hands[0], hands[1]),
    )


def _raised(step: Step, by: float) -> Step:
    return replace(step, at=_add(step.at, (0.0, by, 0.0)))


def jump(t: float, style: Style) -> Pose:
    """Crouch, leap with arms and legs apart, land."""
    height = 0.42 * style.size
    root = _keys(
        t,
        (0.0, (0, 0.99, 0)),
        (0.28, (0, 0.7, -0.1)),
        (0.4, (0, 1.0, 0)),
        (0.52, (0, 1 + height, 0)),
        (0.66, (0, 1.0, 0)),
        (0.78, (0, 0.75, -0.08)),
        (1.0, (0, 0.99, 0)),
    )
    air = min(max((root[1] - 1) / height, 0.0), 1.0)
    spread, tuck = (0.42, 0.08) if style.choice < 0.6 else (0.12, 0.34)
    feet = tuple(
        Step(
            at=(s * (0.14 + style.stance + spread * air), (height + tuck) * air, -0.3 * tuck * air),
            pole=(0.5 * s * air, 0.0, 1.0),
            toe=(0.35 * s, -0.28 - 0.9 * air, 1.0),
        )
        for s in SIDES
    )
    hands = []
    for s in SIDES:
        at = _keys(
            t,
            (0.0, (s * 0.13, -0.93, 0.05)),
            (0.28, (s * 0.2, -0.72, -0.55)),
            (0.5, (s * 0.5, 0.8, 0.1)),
            (0.6, (s * 0.55, 0.72, 0.1)),
            (0.78, (s * 0.4, -0.5, 0.5)),
            (1.0, (s * 0.13, -0.93, 0.05)),
        )
        hands.append(_chest(at, (s * 1.0, 0.0, -0.4)))
    bend = _keys(
        t, (0.0, (0, 0, 0)), (0.28, (0.6, 0, 0)), (0.5, (-0.1, 0, 0)), (0.78, (0.45, 0, 0)), (1.0, (0, 0, 0))
    )
    return Pose(
        root=root,
        bend=bend,
        look=(-bend[0] * 0.5, 0.0, 0.0),
        feet=(feet[0], feet[1]),
        hands=(hands[0], hands[1]),
    )


def wave(t: float, style: Style) -> Pose:
    """Wave a raised hand."""
    swing = sin(_turns(t * 1.3, style)) * 0.26 * style.size
    return Pose(
        bend=(0.0, 0.0, 0.05),
        look=(0.0, 0.0, 0.05),
        feet=_stand(style),
        hands=(_hang(0), _chest((-0.42 - swing, 0.66 - 0.25 * abs(swing), 0.16), (-1.0, -0.6, -0.1))),
    )


def clap(t: float, style: Style) -> Pose:
    """Clap in front of the chest."""
    gap = (0.5 + 0.5 * cos(_turns(t * 1.6, style))) * 0.26 * style.size
    height = -0.26 + 0.45 * (style.choice if style.choice > 0.6 else 0.2)
    hands = [_chest((s * (gap - 0.27), height, 0.56), (s * 0.8, -1.0, -0.2)) for s in SIDES]
    return Pose(bend=(0.04, 0.0, 0.0), feet=_stand(style), hands=(hands[0], hands[1]))


SEAT = 0.54
"""Height of the hips of who sits, ``floor`` frame."""
SEAT_BACK = -0.46
"""How far behind the feet the hips then are."""


def sit_down(t: float, style: Style) -> Pose:
    """Sit down on the chair behind."""
    root = _keys(t, (0.05, (0, 0.99, -0.02)), (0.45, (0, 0.8, -0.3)), (0.8, (0, SEAT, SEAT_BACK)))
    lean = _keys(t, (0.05, (0, 0, 0)), (0.45, (0.62, 0, 0)), (0.9, (-0.02, 0, 0)))
    hands = []
    for s in SIDES:
        at = _keys(
            t, (0.05, (s * 0.3, 0.86, 0.03)), (0.45, (s * 0.25, 0.72, 0.25)), (0.85, (s * 0.17, 0.66, -0.02))
        )
        hands.append(Reach(frame="floor", at=at, pole=(s * 0.6, -0.4, -1.0)))
    look = (-0.3 * lean[0], 0.0, 0.0)
    return Pose(
        root=root,
        turn=(lean[0] * 0.5, 0, 0),
        bend=(lean[0] * 0.5, 0, 0),
        look=look,
        feet=_stand(style),
        hands=(hands[0], hands[1]),
    )


GRASP = 0.45
"""Phase from which a picked-up object is in the hands."""
GRASP_AT: Triple = (0.0, 0.17, 0.52)
"""Where it lies until then, ``floor`` frame."""


def pick_up(t: float, style: Style) -> Pose:
    """Squat, grasp what lies on the floor, and lift it to the chest."""
    root = _keys(
        t, (0.0, (0, 0.99, 0)), (0.42, (0, 0.6, -0.24)), (0.5, (0, 0.6, -0.24)), (0.95, (0, 0.99, 0))
    )
    lean = _keys(t, (0.0, (0.02, 0, 0)), (0.42, (1.0, 0, 0)), (0.5, (1.0, 0, 0)), (0.95, (-0.04, 0, 0)))
    hands = []
    for s in SIDES:
        grip = (s * 0.19, GRASP_AT[1], GRASP_AT[2])
        at = _keys(t, (0.0, (s * 0.3, 0.86, 0.05)), (0.42, grip), (0.5, grip), (0.95, (s * 0.19, 1.16, 0.4)))
        hands.append(Reach(frame="floor", at=at, pole=(s * 1.0, -0.3, -0.7)))
    return Pose(
        root=root,
        turn=(lean[0] * 0.5, 0, 0),
        bend=(lean[0] * 0.55, 0, 0),
        look=(0.25 * min(lean[0], 0.6), 0, 0),
        feet=_stand(replace(style, stance=style.stance + 0.07)),
        hands=(hands[0], hands[1]),
    )


def drink(t: float, style: Style) -> Pose:
    """Raise a cup to the mouth, drink, lower it."""
    at = _keys(
        t,
        (0.0, (-1.6, -5.2, 4.2)),
        (0.32, (-0.35, -1.0, 2.0)),
        (0.72, (-0.35, -0.95, 1.95)),
        (1.0, (-1.6, -5.2, 4.2)),
    )
    tilt = _keys(
        t,
        (0.2, (0.05, 0, 0)),
        (0.42, (-0.34 * style.size, 0, 0)),
        (0.68, (-0.34 * style.size, 0, 0)),
        (0.85, (0.05, 0, 0)),
    )
    return Pose(
        look=tilt, feet=_stand(style), hands=(_hang(0), Reach(frame="head", at=at, pole=(-1.0, -0.5, 0.2)))
    )


def phone_call(t: float, style: Style) -> Pose:
    """Take the phone to the ear, talk, nod."""
    at = _keys(t, (0.0, (-2.0, -5.5, 3.0)), (0.22, (-1.32, -0.35, 0.35)), (1.0, (-1.32, -0.35, 0.35)))
    nod = 0.06 * sin(_turns(t * 2, style))
    talk = 0.4 + 0.3 * sin(_turns(t, style))
    free = _hang(0) if style.choice < 0.6 else _chest((-0.05, -0.45 + 0.2 * talk, 0.5), (1.0, -0.6, -0.3))
    return Pose(
        look=(0.05 + nod, 0.0, 0.13),
        feet=_stand(style),
        hands=(free, Reach(frame="head", at=at, pole=(-0.55, -1.2, 0.45))),
    )


def read(t: float, style: Style) -> Pose:
    """Hold an open book and read; turn a page in the middle."""
    page = _keys(t, (0.42, (0, 0, 0)), (0.5, (0.22, 0.12, 0.03)), (0.6, (0, 0, 0)))
    rock = 0.02 * sin(_turns(t, style))
    hands = []
    for s in SIDES:
        turn = page if s < 0 else (0.0, 0.0, 0.0)
        hands.append(
            _chest((-s * 0.14 + turn[0], -0.13 + rock + turn[1], 0.5 + turn[2]), (s * 0.8, -1.0, -0.2))
        )
    eyes = 0.1 * sin(_turns(t, style))
    return Pose(bend=(0.06, 0.0, 0.0), look=(0.42, eyes, 0.0), feet=_stand(style), hands=(hands[0], hands[1]))


RELEASE = 0.56
"""Phase at which a thrown object leaves the hand."""


def throw(t: float, style: Style) -> Pose:
    """Wind up with a step, throw overarm, follow through."""
    right = _keys(
        t,
        (0.0, (0.05, -0.4, 0.5)),
        (0.34, (-0.5, 0.42, -0.55)),
        (0.44, (-0.5, 0.5, -0.5)),
        (RELEASE, (-0.05, 0.62, 0.66)),
        (0.78, (0.55, -0.5, 0.6)),
        (1.0, (0.3, -0.8, 0.3)),
    )
    left = _keys(
        t,
        (0.0, (-0.05, -0.4, 0.5)),
        (0.34, (0.1, 0.25, 0.85)),
        (RELEASE, (0.45, -0.55, 0.1)),
        (1.0, (0.15, -0.9, 0.1)),
    )
    yaw = _keys(
        t,
        (0.0, (0, 0, 0)),
        (0.36, (-0.16, -0.65 * style.size, 0.12)),
        (0.62, (0.3, 0.45, -0.05)),
        (1.0, (0.1, 0.1, 0)),
    )
    step = _keys(t, (0.0, (0.12, 0, 0.05)), (0.26, (0.12, 0.2, 0.3)), (0.42, (0.12, 0, 0.5)))
    push = _keys(t, (0.2, (0, 0.98, -0.05)), (0.36, (0, 0.93, -0.05)), (0.6, (0, 0.9, 0.25)))
    heel = _keys(t, (0.45, (0, 0, 0)), (0.65, (0, 0.12, 0.1)))
    return Pose(
        root=push,
        turn=(0.02, yaw[1] * 0.5, 0.0),
        bend=(yaw[0], yaw[1] * 0.6, yaw[2]),
        look=(0.0, -yaw[1] * 0.7, 0.0),
        feet=(
            Step(at=step),
            Step(
                at=(-0.16, heel[1], -0.3 + heel[2]), pole=(-0.3, 0, 1), toe=(-0.5, -0.28 - heel[1] * 5, 1.0)
            ),
        ),
        hands=(_chest(left, (0.6, -0.6, -0.4)), _chest(right, (-0.8, -0.6, -0.3))),
    )


CONTACT = 0.5
"""Phase at which a kick meets the ball."""
KICK_AT: Triple = (-0.1, 0.03, 0.42)
"""Where the ball lies until then, ``floor`` frame."""


def kick(t: float, style: Style) -> Pose:
    """Swing the right leg back, kick the ball on the floor, follow through."""
    size = style.size
    foot = _keys(
        t,
        (0.0, (-0.13, 0, -0.1)),
        (0.3, (-0.14, 0.4, -0.62)),
        (CONTACT, (-0.1, 0.06, 0.3)),
        (0.64, (-0.04, 0.62 * size, 0.86)),
        (0.74, (-0.05, 0.5 * size, 0.84)),
        (1.0, (-0.13, 0, 0.15)),
    )
    lean = _keys(t, (0.0, (0, 0, 0)), (0.3, (0.2, -0.25, 0)), (0.64, (-0.2, 0.3, 0)), (1.0, (0, 0, 0)))
    arms = _keys(t, (0.0, (-0.2, 0.2, 0)), (0.3, (0.9, -0.9, 0)), (0.64, (-0.7, 0.9, 0)), (1.0, (0, 0, 0)))
    left = _chest((0.55, -0.68 * cos(arms[0]) - 0.05, 0.68 * sin(arms[0])), (0.4, 0.0, -1.0))
    right = _chest((-0.5, -0.7 * cos(arms[1]) - 0.05, 0.7 * sin(arms[1])), (-0.4, 0.0, -1.0))
    return Pose(
        root=(0.05, 0.96, 0.0),
        turn=(lean[0] * 0.5, lean[1] * 0.5, 0.0),
        bend=(lean[0], -lean[1], 0.0),
        look=(0.3, 0.0, 0.0),
        feet=(
            Step(at=(0.1, 0, 0.04)),
            Step(at=foot, toe=(0.0, -0.28 - 0.35 * abs(foot[2]), 1.0 if foot[2] < 0.6 else 0.7)),
        ),
        hands=(left, right),
    )


def broom_ends(t: float, style: Style) -> tuple[Triple, Triple]:
    """Return the broom's top and foot in the ``floor`` frame, for the right hand."""
    swing = sin(_turns(t, style)) * style.size
    return (0.2 - 0.05 * swing, 1.42, 0.22), (-0.12 + 0.36 * swing, -0.04, 0.98 + 0.1 * swing)


def sweep(t: float, style: Style) -> Pose:
    """Sweep the floor with a broom held in both hands."""
    top, foot = np.array(broom_ends(t, style))
    swing = sin(_turns(t, style)) * style.size
    upper, lower = _triple(top + (foot - top) * 0.1), _triple(top + (foot - top) * 0.42)
    return Pose(
        root=(0.0, 0.95, -0.06),
        turn=(0.1, 0.0, 0.0),
        bend=(0.3, 0.12 * swing, 0.0),
        look=(0.32, 0.0, 0.0),
        feet=_stand(style, ahead=0.3),
        hands=(
            Reach(frame="floor", at=upper, pole=(1, -0.3, -0.4)),
            Reach(frame="floor", at=lower, pole=(-1, -0.3, -0.4)),
        ),
    )


BED = 0.56
"""Height of the hips of who lies on the bed, ``floor`` frame."""


def sleep(t: float, style: Style) -> Pose:
    """Lie on a bed, on the back or curled up on the left side, breathing."""
    breath = 0.012 * sin(_turns(t, style))
    if style.choice < 0.5:
        bent = 0.18 if style.choice < 0.2 else 0.0
        feet = (
            Step(at=(0.12, BED - 0.05, 0.97 - bent * 0.4), pole=(0.3, 1.0, 0.0), toe=(0.3, 1.0, 0.25)),
            Step(at=(-0.12, BED - 0.05, 0.97 - bent * 2.2), pole=(-0.1, 1.0, 0.0), toe=(-0.3, 1.0, 0.25)),
        )
        hands = (
            _chest((-0.2, -0.5, 0.22 + breath), (1.0, -0.3, -0.1)),
            _chest((0.2, -0.42, 0.24 + breath), (-1.0, -0.3, -0.1)),
        )
        return Pose(
            root=(0, BED, 0),
            turn=(-pi / 2, 0, 0),
            look=(0.12, 0.5 * (style.size - 1) * 3, 0),
            feet=feet,
            hands=hands,
        )
    curl = 0.3 + 0.3 * style.choice
    feet = (
        Step(at=(curl * 0.75, BED - 0.1, 0.62), pole=(1.0, 0.0, 0.3), toe=(0.5, 0.0, 1.0)),
        Step(at=(curl * 0.5, BED + 0.06, 0.7), pole=(1.0, 0.15, 0.3), toe=(0.5, 0.0, 1.0)),
    )
    hands = (
        _chest((-0.3, 0.15, 0.35), (0.2, -1.0, 0.3)),
        _chest((0.05, 0.0, 0.42 + breath), (-0.2, -1.0, 0.3)),
    )
    return Pose(
        root=(0, BED, 0),
        turn=(0.0, pi / 2, -pi / 2),
        bend=(0.25, 0.0, 0.0),
        look=(0.2, 0.0, 0.0),
        feet=feet,
        hands=hands,
    )


def punch(t: float, style: Style) -> Pose:
    """Box: a guard before the chin and two straight punches."""
    reach = [0.0, 0.0]
    for start, side in ((0.1, 1), (0.55, 0)):
        reach[side] = _keys(
            t,
            (start, (0, 0, 0)),
            (start + 0.16, (1, 0, 0)),
            (start + 0.24, (1, 0, 0)),
            (start + 0.4, (0, 0, 0)),
        )[0]
    hands = []
    for side in (0, 1):
        s, out = SIDES[side], reach[side]
        hands.append(
            _chest((-s * 0.16 - s * 0.08 * out, 0.08 + 0.04 * out, 0.34 + 0.62 * out), (s * 0.7, -1.0, -0.2))
        )
    twist = 0.5 * style.size * (reach[1] - reach[0])
    bob = 0.015 * sin(_turns(t * 2, style))
    return Pose(
        root=(0.0, 0.9 + bob, 0.06 * max(reach)),
        turn=(0.05, -0.25 + 0.4 * twist, 0.0),
        bend=(0.16, 0.6 * twist, 0.0),
        look=(0.05, 0.25 - twist, 0.0),
        feet=_stand(replace(style, stance=style.stance + 0.04), ahead=0.55),
        hands=(hands[0], hands[1]),
    )


def hold_umbrella(t: float, style: Style) -> Pose:
    """Stroll under an open umbrella."""
    root, feet = _gait(t, style, reach=0.22 * style.size, lift=0.1, travel=0.9)
    swing = 0.3 * style.size * cos(_turns(t, style))
    hand = _chest((0.12, -0.22 + 0.02 * cos(2 * _turns(t, style)), 0.42), (-0.8, -1.0, -0.2))
    return Pose(root=root, bend=(0.03, 0.0, 0.0), feet=feet, hands=(_hang(0, -swing, 0.93), hand))
