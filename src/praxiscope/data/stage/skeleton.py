"""The mannequin's skeleton: forward kinematics for the trunk, two-bone inverse kinematics for the limbs.

World axes: x to the actor's left, y up, z the way the actor faces; metres. Side 0 is left, side 1 right.
A pose is written in body units, so that every performer can strike it:

* ``floor``: leg lengths; (0, 0, 0) is ankle height between the feet, y = 1 the hips of a straight stance;
* ``chest``: arm lengths from the limb's own shoulder, turned with the chest;
* ``head``: head radii from the head's centre, turned with the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, sin
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float64]
Triple: TypeAlias = tuple[float, float, float]

SIDES: tuple[float, float] = (1.0, -1.0)
"""Sign of x of the left and the right side."""


def rotation(pitch: float, yaw: float, roll: float) -> Vector:
    """Return the (3, 3) matrix that rolls about z, then pitches about x, then yaws about y.

    Args:
        pitch: Radians; positive leans forward.
        yaw: Radians; positive turns to the left.
        roll: Radians; positive leans to the right.
    """
    cp, sp, cy, sy, cr, sr = cos(pitch), sin(pitch), cos(yaw), sin(yaw), cos(roll), sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_y @ about_x @ about_z)


@dataclass(frozen=True, kw_only=True)
class Body:
    """A performer's proportions, in metres."""

    thigh: float
    shin: float
    ankle: float
    """Height of the ankle above the floor."""
    foot: float
    hip: float
    """Half the distance between the hip joints."""
    waist: float
    """Pelvis to waist."""
    torso: float
    """Waist to the base of the neck."""
    shoulder: float
    """Half the distance between the shoulder joints."""
    upper_arm: float
    forearm: float
    """Elbow to the middle of the hand."""
    neck: float
    head: float
    """Radius of the head, from side to side."""
    girth: float
    """Thickness of trunk and limbs; 1 is average."""

    @property
    def leg(self) -> float:
        """Hip to ankle."""
        return self.thigh + self.shin

    @property
    def arm(self) -> float:
        """Shoulder to the middle of the hand."""
        return self.upper_arm + self.forearm

    def on_floor(self, at: Triple) -> Vector:
        """Turn a point of the ``floor`` frame into metres."""
        return np.array(at) * self.leg + (0.0, self.ankle, 0.0)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where the middle of a hand goes, and which way the elbow points."""

    frame: Literal["chest", "head", "floor"]
    at: Triple
    pole: Triple
    """Direction of the elbow, in the chest's frame; need not have unit length."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where an ankle goes (``floor`` frame), and which way knee and toes point (actor's frame)."""

    at: Triple
    pole: Triple = (0.0, 0.0, 1.0)
    toe: Triple = (0.0, -0.28, 1.0)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """One instant of a motion, in body units; angles are (pitch, yaw, roll) in radians."""

    root: Triple = (0.0, 1.0, 0.0)
    """Middle of the hips, ``floor`` frame."""
    turn: Triple = (0.0, 0.0, 0.0)
    """Pelvis against the world."""
    bend: Triple = (0.0, 0.0, 0.0)
    """Chest against the pelvis."""
    look: Triple = (0.0, 0.0, 0.0)
    """Head against the chest."""
    hands: tuple[Reach, Reach]
    feet: tuple[Step, Step]

    def mirrored(self) -> Pose:
        """Swap left and right."""
        return replace(
            self,
            root=_flip(self.root),
            turn=_counter(self.turn),
            bend=_counter(self.bend),
            look=_counter(self.look),
            hands=(_flip_reach(self.hands[1]), _flip_reach(self.hands[0])),
            feet=(_flip_step(self.feet[1]), _flip_step(self.feet[0])),
        )


def _flip(at: Triple) -> Triple:
    return (-at[0], at[1], at[2])


def _counter(angles: Triple) -> Triple:
    return (angles[0], -angles[1], -angles[2])


def _flip_reach(reach: Reach) -> Reach:
    return replace(reach, at=_flip(reach.at), pole=_flip(reach.pole))


def _flip_step(step: Step) -> Step:
    return Step(at=_flip(step.at), pole=_flip(step.pole), toe=_flip(step.toe))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A solved pose: joints in world metres. Paired joints have shape (2, 3), left first."""

    pelvis: Vector
    waist: Vector
    neck: Vector
    head: Vector
    shoulders: Vector
    elbows: Vector
    hands: Vector
    hips: Vector
    knees: Vector
    ankles: Vector
    toes: Vector
    pelvis_turn: Vector
    """(3, 3) rotation, as are the next two."""
    chest_turn: Vector
    head_turn: Vector

    def joints(self) -> Vector:
        """Return all 18 joints, shape (18, 3): four of the trunk, then seven pairs."""
        trunk = np.stack([self.pelvis, self.waist, self.neck, self.head])
        pairs = (self.shoulders, self.elbows, self.hands, self.hips, self.knees, self.ankles, self.toes)
        return np.concatenate([trunk, *pairs])


def bend_limb(
    start: Vector, target: Vector, lengths: tuple[float, float], pole: Vector
) -> tuple[Vector, Vector]:
    """Solve a limb of two bones by the law of cosines.

    Args:
        start: Shoulder or hip, (3,).
        target: Wanted position of the limb's end, (3,); drawn in to what the limb can reach.
        lengths: Lengths of the upper and the lower bone, metres.
        pole: Direction that the middle joint is drawn to, (3,); any length but zero.

    Returns:
        The middle joint and the end, (3,) each. Both bones keep their lengths.
    """
    upper, lower = lengths
    axis = target - start
    distance = float(np.linalg.norm(axis))
    axis = axis / distance if distance > 1e-9 else np.array([0.0, -1.0, 0.0])
    reach = min(max(distance, abs(upper - lower) * 1.001 + 1e-6), (upper + lower) * 0.999)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    height = max(upper**2 - along**2, 0.0) ** 0.5
    side = pole - axis * float(pole @ axis)
    if float(np.linalg.norm(side)) < 1e-6:  # the pole lies along the limb: any perpendicular will do
        side = np.cross(axis, (1.0, 0.0, 0.0) if abs(axis[0]) < 0.9 else (0.0, 1.0, 0.0))
    middle = start + axis * along + side / np.linalg.norm(side) * height
    return middle, start + axis * reach


def solve_pose(body: Body, pose: Pose, *, at: Triple = (0.0, 0.0, 0.0), yaw: float = 0.0) -> Figure:
    """Put a body into a pose.

    Args:
        body: Proportions.
        pose: What to strike, in body units.
        at: Where the actor stands, world metres.
        yaw: Which way the actor faces, radians; 0 faces +z.

    Returns:
        The joints in world metres.
    """
    pelvis = body.on_floor(pose.root)
    pelvis_turn = rotation(*pose.turn)
    chest_turn = pelvis_turn @ rotation(*pose.bend)
    # The waist shares the bend, so that the back curves instead of folding.
    halfway = pelvis_turn @ rotation(*(angle / 2 for angle in pose.bend))
    waist = pelvis + halfway @ (0.0, body.waist, 0.0)
    neck = waist + chest_turn @ (0.0, body.torso, 0.0)
    head_turn = chest_turn @ rotation(*pose.look)
    head = neck + head_turn @ (0.0, body.neck + body.head, 0.12 * body.head)
    shoulders = np.stack([neck + chest_turn @ (s * body.shoulder, -0.04, 0.0) for s in SIDES])
    hips = np.stack([pelvis + pelvis_turn @ (s * body.hip, 0.0, 0.0) for s in SIDES])
    arms = [_arm(body, pose.hands[k], (shoulders[k], chest_turn), (head, head_turn)) for k in (0, 1)]
    legs = [_leg(body, pose.feet[k], hips[k]) for k in (0, 1)]
    figure = Figure(
        pelvis=pelvis,
        waist=waist,
        neck=neck,
        head=head,
        shoulders=shoulders,
        elbows=np.stack([arm[0] for arm in arms]),
        hands=np.stack([arm[1] for arm in arms]),
        hips=hips,
        knees=np.stack([leg[0] for leg in legs]),
        ankles=np.stack([leg[1] for leg in legs]),
        toes=np.stack([leg[2] for leg in legs]),
        pelvis_turn=pelvis_turn,
        chest_turn=chest_turn,
        head_turn=head_turn,
    )
    return figure if yaw == 0.0 and not any(at) else _moved(figure, np.array(at), rotation(0.0, yaw, 0.0))


def _arm(
    body: Body, reach: Reach, chest: tuple[Vector, Vector], head: tuple[Vector, Vector]
) -> tuple[Vector, Vector]:
    shoulder, chest_turn = chest
    if reach.frame == "floor":
        target = body.on_floor(reach.at)
    elif reach.frame == "head":
        target = head[0] + head[1] @ np.array(reach.at) * body.head
    else:
        target = shoulder + chest_turn @ np.array(reach.at) * body.arm
    return bend_limb(shoulder, target, (body.upper_arm, body.forearm), chest_turn @ np.array(reach.pole))


def _leg(body: Body, step: Step, hip: Vector) -> tuple[Vector, Vector, Vector]:
    knee, ankle = bend_limb(hip, body.on_floor(step.at), (body.thigh, body.shin), np.array(step.pole))
    toe = np.array(step.toe)
    return knee, ankle, ankle + toe / np.linalg.norm(toe) * body.foot


def _moved(figure: Figure, at: Vector, turn: Vector) -> Figure:
    names = (
        "pelvis",
        "waist",
        "neck",
        "head",
        "shoulders",
        "elbows",
        "hands",
        "hips",
        "knees",
        "ankles",
        "toes",
    )
    joints = {name: getattr(figure, name) @ turn.T + at for name in names}
    turns = {name: turn @ getattr(figure, name) for name in ("pelvis_turn", "chest_turn", "head_turn")}
    return replace(figure, **joints, **turns)
