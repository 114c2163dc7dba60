"""What a user should hear before the first step: where a command does less than its words may promise."""

from __future__ import annotations

import numpy as np

from praxiscope.data.manifest import Manifest
from praxiscope.models.build import BuiltModel
from praxiscope.models.catalog import CARDS, ModelCard
from praxiscope.recipe.schema import Recipe


def describe_surprises(recipe: Recipe, manifest: Manifest, built: BuiltModel) -> list[str]:
    """Return a sentence for each thing about a new run that its user may not have meant.

    Args:
        recipe: as asked for.
        manifest: the samples, with the size of each image.
        built: the network and its input.
    """
    found = (
        _describe_scratch(recipe, built),
        _describe_enlarging(recipe, manifest, built),
        _describe_groups(recipe),
        _describe_balance(recipe),
    )
    return [sentence for sentence in found if sentence is not None]


def _describe_scratch(recipe: Recipe, built: BuiltModel) -> str | None:
    if recipe.model.pretrained or recipe.model.weights is not None or not built.card.pretrained:
        return None
    sentence = (
        f"NOTE: '{recipe.model.name}' starts from random weights. Published ones are only taken when asked "
        "for: --pretrained, or --weights FILE."
    )
    if built.card.family == "vit":
        sentence += " Without them a Vision Transformer learns little from fewer than millions of images."
    return sentence


def _describe_enlarging(recipe: Recipe, manifest: Manifest, built: BuiltModel) -> str | None:
    """Say that small images are blown up, unless published weights want it so."""
    rows = manifest.usable("train")
    sides = np.minimum(rows["width"].to_numpy(), rows["height"].to_numpy())
    typical = int(np.median(sides))
    if 2 * typical > built.img_size or recipe.model.pretrained or recipe.model.weights is not None:
        return None
    sentence = (
        f"NOTE: images are enlarged: half of them have a short side of at most {typical} px, and "
        f"'{recipe.model.name}' gets {built.img_size}, at {(built.img_size / typical) ** 2:.0f} x the cost."
    )
    small = _find_small(built.card)
    if small is None:
        return f"{sentence} --img-size sets another size."
    return f"{sentence} For images of this size there is --model {small} --img-size {max(16, typical)}."


def _find_small(card: ModelCard) -> str | None:
    """Return the name of the card that adapts the same architecture to small images."""
    if card.small or card.fit_patches:
        return None
    for other in CARDS:
        if other.fit_patches and card.family == other.family:
            return other.name
        if other.small and other.timm_name.removesuffix("_bn") == card.timm_name.removesuffix("_bn"):
            return other.name
    return None


def _describe_balance(recipe: Recipe) -> str | None:
    """Say that rare classes are lifted twice."""
    if recipe.train.sampling != "balanced" or recipe.train.class_weights != "balanced":
        return None
    return (
        "NOTE: train.sampling=balanced draws each class equally often, and train.class_weights=balanced "
        "weighs rare classes more on top of that: they count twice over. One of the two is enough."
    )


def _describe_groups(recipe: Recipe) -> str | None:
    repeats, batch_size = recipe.augment.repeats, recipe.train.batch_size
    images = batch_size // repeats
    if images * repeats == batch_size:
        return None
    return (
        f"NOTE: a batch holds {images * repeats} samples, {images} images drawn {repeats} times each: "
        f"train.batch_size {batch_size} is no multiple of augment.repeats."
    )
