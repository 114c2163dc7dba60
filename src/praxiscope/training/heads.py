"""What training asks of a network's heads: their losses and weights, and the figure that chooses an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from praxiscope.data.loader import SampleSet
from praxiscope.errors import UsageError, did_you_mean
from praxiscope.recipe.schema import MONITORS, Recipe
from praxiscope.tensors import Heads
from praxiscope.training.losses import Loss, build_loss, combine_losses

JOINT_MONITORS = ("val/loss", "val/top1", "val/top5")
"""Figures of several heads at once."""


def weigh_heads(recipe: Recipe, heads: Heads) -> list[float]:
    """Return the weight of each head's loss.

    Raises:
        UsageError: The recipe weighs a head that the data doesn't have, or no head at all.
    """
    given = recipe.train.loss_weights
    for head in given:
        if head not in heads.names:
            raise UsageError(
                f"train.loss_weights names '{head}'; the heads of this data are {', '.join(heads.names)}."
                f"{did_you_mean(head, heads.names)}"
            )
    weights = [given.get(head, 1.0) for head in heads.names]
    if not any(weights):
        raise UsageError("train.loss_weights leaves no head to train; give one of them a weight above 0.")
    return weights


def check_monitor(recipe: Recipe, heads: Heads) -> None:
    """Refuse a figure to choose epochs by that validation of these heads doesn't give.

    Raises:
        UsageError: Names those that it gives.
    """
    given: tuple[str, ...] = MONITORS
    if len(heads.names) > 1:
        given = tuple(name for name in MONITORS if name in JOINT_MONITORS) + tuple(
            name.replace("val/", f"val/{head}_") for head in heads.names for name in MONITORS
        )
    if recipe.train.monitor not in given:
        raise UsageError(
            f"train.monitor is {recipe.train.monitor}; of the heads {', '.join(heads.names)} there are "
            f"{', '.join(given)}."
        )


def build_heads_loss(recipe: Recipe, train: SampleSet, weights: Sequence[float]) -> Loss:
    """Return the loss that a recipe asks for, summed over the heads with their weights."""
    targets = train.heads.split_targets(train.targets)
    losses = [
        build_loss(recipe.train, np.bincount(targets[head], minlength=len(names)))
        for head, names in train.heads.names.items()
    ]
    return combine_losses(losses, train.heads, weights)
