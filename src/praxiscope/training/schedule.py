"""The learning rate as a function of where training stands; nothing here keeps state."""

from __future__ import annotations

import math

from praxiscope.recipe.schema import TrainSection

_WARMUP_START = 0.01  # warm-up begins at lr / 100


def compute_lr(
    section: TrainSection, *, step: int, steps_per_epoch: int, plateau_factor: float = 1.0
) -> float:
    """Return the learning rate of an optimiser step.

    Args:
        section: the recipe's ``train``.
        step: optimiser steps done before this one, from 0.
        steps_per_epoch: optimiser steps of one epoch.
        plateau_factor: what ``plateau`` has reduced the peak by so far.

    Returns:
        After a linear warm-up from lr / 100 that reaches the peak with its last step: half a cosine, which
        would reach ``min_lr`` with the step after the last (Loshchilov & Hutter 2017, without restarts), a
        factor every ``decay_epochs``, or the peak.
    """
    epoch = step / steps_per_epoch
    if epoch < section.warmup_epochs:
        share = (step + 1) / max(1, math.ceil(section.warmup_epochs * steps_per_epoch))
        return section.lr * (_WARMUP_START + (1 - _WARMUP_START) * min(1.0, share))
    if section.schedule == "cosine":
        warm = section.warmup_epochs * steps_per_epoch
        share = (step - warm) / max(1.0, section.epochs * steps_per_epoch - warm)
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
