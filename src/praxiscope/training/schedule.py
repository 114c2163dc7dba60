"""The learning rate as a function of where training stands; nothing here keeps state.

A run whose number of epochs is changed has a :class:`Joint` there. What a joint needs to know is saved with
the run, so the rate stays a function of (step, joints) and a resume behind a joint is exact like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from praxiscope.recipe.schema import TrainSection

_WARMUP_START = 0.01  # warm-up begins at lr / 100

Rule = Literal["rejoin", "stretch", "hold", "unaffected"]
"""How the rate goes on behind a joint: as ``train.extend`` says, or ``unaffected``, for schedules that don't
depend on the number of epochs."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Where a run was continued to another number of epochs.

    Attributes:
        step: optimiser steps done before it.
        epoch: epochs completed before it.
        from_epochs: planned before.
        to_epochs: planned from here on.
        lr: learning rate of the last step before it.
        rule: how the rate goes on.
        warmup_epochs: length of ``rejoin``'s rise.
    """

    step: int
    epoch: int
    from_epochs: int
    to_epochs: int
    lr: float
    rule: Rule
    warmup_epochs: float


def compute_lr(
    section: TrainSection,
    *,
    step: int,
    steps_per_epoch: int,
    plateau_factor: float = 1.0,
    joints: Sequence[Joint] = (),
) -> float:
    """Return the learning rate of an optimiser step.

    Args:
        section: the recipe's ``train``.
        step: optimiser steps done before this one, from 0.
        steps_per_epoch: optimiser steps of one epoch.
        plateau_factor: what ``plateau`` has reduced the peak by so far.
        joints: where the number of epochs was changed, in order; the last one before ``step`` rules.

    Returns:
        After a linear warm-up from lr / 100 that reaches the peak with its last step: half a cosine, which
        would reach ``min_lr`` with the step after the last (Loshchilov & Hutter 2017, without restarts), a
        factor every ``decay_epochs``, or the peak. Behind a joint, a cosine goes on as ``train.extend`` says:
        ``rejoin`` moves in equal shares from the rate before the joint to the longer curve, so no step jumps
        by more than a warm-up step of the same length would.
    """
    joint = next((each for each in reversed(joints) if each.step <= step), None)
    if joint is None:
        epochs = joints[0].from_epochs if joints else section.epochs
        return _follow(section, epochs, step, steps_per_epoch, plateau_factor)
    target = _follow(section, joint.to_epochs, step, steps_per_epoch, plateau_factor)
    warm = section.warmup_epochs * steps_per_epoch
    if section.schedule != "cosine" or joint.rule in {"stretch", "unaffected"} or step < warm:
        return target
    if joint.rule == "hold":  # a warm-up that wasn't over has been finished first
        return joint.lr if joint.step >= warm else section.lr
    if joint.step < warm:  # both curves have the same warm-up: there is nothing to rejoin
        return target
    left = joint.to_epochs * steps_per_epoch - joint.step
    rise = max(1, min(math.ceil(joint.warmup_epochs * steps_per_epoch), left))
    share = min(1.0, (step - joint.step + 1) / rise)
    return joint.lr + (target - joint.lr) * share


def _follow(
    section: TrainSection, epochs: int, step: int, steps_per_epoch: int, plateau_factor: float
) -> float:
    """Return the rate of a run that was planned for so many epochs from its start."""
    epoch = step / steps_per_epoch
    if epoch < section.warmup_epochs:
        share = (step + 1) / max(1, math.ceil(section.warmup_epochs * steps_per_epoch))
        return section.lr * (_WARMUP_START + (1 - _WARMUP_START) * min(1.0, share))
    if section.schedule == "cosine":
        warm = section.warmup_epochs * steps_per_epoch
        share = (step - warm) / max(1.0, epochs * steps_per_epoch - warm)
        return section.min_lr + (section.lr - section.min_lr) * 0.5 * (
            1 + math.cos(math.pi * min(1.0, share))
        )
    if section.schedule == "step":
        return section.lr * section.decay_rate ** math.floor(
            (epoch - section.warmup_epochs) / section.decay_epochs
        )
    if section.schedule == "plateau":
        return max(section.min_lr, section.lr * plateau_factor)
    return section.lr
