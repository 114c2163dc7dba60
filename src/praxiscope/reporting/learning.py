"""A run's log read under the run's own conditions: how many samples, which augmentation, which loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from praxiscope.recipe.schema import AugmentSection, Recipe
from praxiscope.stats.learning import describe_learning
from praxiscope.stats.learning_findings import Conditions, LearningFindings


def describe_run(
    rows: Sequence[Mapping[str, Any]], recipe: Recipe | None, run: Mapping[str, Any]
) -> LearningFindings:
    """Say what the training of a run shows.

    Args:
        rows: ``metrics.jsonl``, one per epoch.
        recipe: The run's; None where it can't be read, and then nothing is known about mixing and losses.
        run: The content of ``run.json``.
    """
    best = run.get("best") or {}
    monitor = recipe.train.monitor if recipe is not None else best.get("monitor") or "val/top1"
    return describe_learning(rows, monitor=monitor, conditions=read_conditions(recipe, run))


def read_conditions(recipe: Recipe | None, run: Mapping[str, Any]) -> Conditions:
    """Return how the figures of a run's log were measured.

    Args:
        recipe: The run's; None where it can't be read.
        run: The content of ``run.json``: sample counts, and the epochs after which it was extended.
    """
    data = run.get("data") or {}
    known = Conditions(
        num_train=data.get("num_train"),
        num_val=data.get("num_val"),
        extensions=tuple(int(each["at_epoch"]) for each in run.get("extensions") or ()),
    )
    if recipe is None:
        return known
    train, model, augment = recipe.train, recipe.model, recipe.augment
    return Conditions(
        num_train=known.num_train,
        num_val=known.num_val,
        extensions=known.extensions,
        mixed=bool(augment.mixup or augment.cutmix) and augment.mix_prob > 0,
        augmented=_is_augmented(augment),
        dropout=model.drop_rate > 0 or model.drop_path_rate > 0,
        # Balanced draws are of other classes than validation's, so their loss is another one too.
        same_loss=train.loss == "ce"
        and train.smoothing == 0
        and train.class_weights == "none"
        and train.sampling == "shuffle",
    )


def _is_augmented(augment: AugmentSection) -> bool:
    crops = augment.crop_padding > 0 or augment.crop_scale != (1.0, 1.0)
    strengths = (augment.hflip, augment.color_jitter, augment.random_erasing)
    return crops or any(strengths) or augment.policy != "none"
