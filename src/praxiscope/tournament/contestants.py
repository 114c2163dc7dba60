"""Who takes part: names become recipes that can be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.models.catalog import find_card
from praxiscope.recipe.load import list_recipes, load_recipe
from praxiscope.recipe.schema import DataSection, Recipe

Mode = Literal["same-recipe", "best-recipe"]

_DEFAULT = {
    "name": "bakeoff",
    # A cap: the time box ends most bake-offs long before.
    "train": {
        "epochs": 100,
        "batch_size": 32,
        "lr": 1e-3,
        "warmup_epochs": 1,
        "smoothing": 0.1,
        "clip_grad": 1.0,
    },
}
_DEFAULT_MONITOR = "val/top1"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One model in a bake-off.

    Attributes:
        name: tells it from the others; also a folder name.
        recipe: how it is trained, all but the number of epochs and the seed.
    """

    name: str
    recipe: Recipe


def choose_contestants(
    models: Sequence[str],
    *,
    mode: str = "same-recipe",
    recipe: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Contestant, ...]:
    """Turn ``--models`` into contestants.

    Args:
        models: names of models; with ``best-recipe`` also recipes, by name or as a ``.yaml`` file.
        mode: ``same-recipe``: one recipe, in which only the model's name differs; ``best-recipe``: each model
            by the built-in recipe that is made for it. Data, seed and monitored figure are the same for all
            even then: figures of other validation images can't be compared.
        recipe: the one of ``same-recipe``; a plain one where not given.
        overrides: recipe keys for all, ``{"model.img_size": 128}``.

    Raises:
        UsageError: an unknown mode, model or recipe, fewer than two contestants, one named twice, or a recipe
            that can't take part.
    """
    if mode not in get_args(Mode):
        raise UsageError(
            f"--mode '{mode}': choose one of {', '.join(get_args(Mode))}.{did_you_mean(mode, get_args(Mode))}"
        )
    changes = dict(overrides or {})
    if "model.name" in changes:
        raise UsageError("--set model.name: the models of a bake-off are named with --models.")
    if mode == "same-recipe":
        chosen = _share_recipe(models, load_recipe(recipe or _DEFAULT, changes))
    elif recipe is not None:
        raise UsageError(
            f"--recipe '{recipe}' is for --mode same-recipe; with best-recipe, name recipes in --models."
        )
    else:
        chosen = _level(tuple(_find_best(word, changes) for word in models), changes)
    _refuse(chosen)
    return tuple(_pin_data(each) for each in chosen)


def _share_recipe(models: Sequence[str], base: Recipe) -> tuple[Contestant, ...]:
    plain = base.model_dump(mode="json")
    contestants = []
    for model in models:
        name = _slug(find_card(model).name)
        contestants.append(
            Contestant(name=name, recipe=load_recipe(plain, {"name": name, "model.name": model}))
        )
    return tuple(contestants)


def _find_best(word: str, changes: Mapping[str, Any]) -> Contestant:
    """Return the contestant that a recipe's or a model's name means."""
    if word in list_recipes() or word.lower().endswith((".yaml", ".yml")):
        recipe = load_recipe(word, changes)
        return Contestant(name=recipe.name, recipe=recipe)
    try:
        card = find_card(word)
    except UsageError as problem:
        raise UsageError(
            f"{problem} Nor is there a recipe '{word}'.{did_you_mean(word, list_recipes())}"
        ) from None
    made_for = [name for name in list_recipes() if find_card(load_recipe(name).model.name) == card]
    if len(made_for) == 1:
        recipe = load_recipe(made_for[0], changes)
        return Contestant(name=recipe.name, recipe=recipe)
    if made_for:
        raise UsageError(
            f"--models {word}: {len(made_for)} built-in recipes train it. Name the one that you mean: "
            f"{', '.join(made_for)}."
        )
    raise UsageError(
        f"--models {word}: no built-in recipe trains it. Name a recipe or a .yaml file instead, or use "
        "--mode same-recipe."
    )


def _level(contestants: tuple[Contestant, ...], changes: Mapping[str, Any]) -> tuple[Contestant, ...]:
    """Give all the same data, seed and monitored figure."""
    data = {key.removeprefix("data."): value for key, value in changes.items() if key.startswith("data.")}
    monitors = {each.recipe.train.monitor for each in contestants}
    monitor = monitors.pop() if len(monitors) == 1 else _DEFAULT_MONITOR
    levelled = []
    for each in contestants:
        content = each.recipe.model_dump(mode="json")
        content["data"] = DataSection(**data).model_dump(mode="json")
        content["seed"] = changes.get("seed", 0)
        content["train"] |= {"monitor": monitor, "mode": "auto"}
        levelled.append(Contestant(name=each.name, recipe=load_recipe(content)))
    return tuple(levelled)


def _pin_data(contestant: Contestant) -> Contestant:
    """Make splits independent of the seed: all seeds of all contestants see the same samples."""
    recipe = contestant.recipe
    seed = recipe.seed if recipe.data.seed is None else recipe.data.seed
    pinned = load_recipe(recipe.model_dump(mode="json"), {"data.seed": seed})
    return Contestant(name=contestant.name, recipe=pinned)


def _refuse(contestants: tuple[Contestant, ...]) -> None:
    names = [each.name for each in contestants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--models names {', '.join(twice)} more than once; each takes part once.")
    if len(names) < 2:
        given = f"only {names[0]}" if names else "none"
        raise UsageError(
            f"A bake-off needs at least two models, --models gives {given}: --models A,B[,C...]."
        )
    cached = [each.name for each in contestants if each.recipe.features.views]
    if cached:
        raise UsageError(
            f"{', '.join(cached)}: the recipe caches features, so its first epoch costs more than the others "
            "and the time box can't be planned by epochs. Add --set features.views=0."
        )


def _slug(model: str) -> str:
    """Return a model's name as a recipe may be called."""
    return re.sub(r"[^a-z0-9._-]+", "-", model.lower()).strip("-._")[:64]
