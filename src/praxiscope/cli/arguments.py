"""What people type, brought into the form that the parser knows; flags brought into a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from praxiscope.errors import UsageError

LATEST = "@latest"
"""What a bare ``--resume`` becomes: the newest run of this recipe and data."""
_NUMBER = re.compile(r"[+-]?\d+")


def normalize_arguments(words: Sequence[str]) -> list[str]:
    """Give a bare ``--resume`` or ``--cache-features`` its value, which the parser can't leave out.

    >>> normalize_arguments(["train", "--cache_features", "mine.yaml"])
    ['train', '--cache-features=1', 'mine.yaml']
    >>> normalize_arguments(["train", "demo-cnn", "--resume", "--epochs", "3"])
    ['train', 'demo-cnn', '--resume=@latest', '--epochs', '3']
    >>> normalize_arguments(["train", "--resume", "runs/demo-cnn/x"])
    ['train', '--resume', 'runs/demo-cnn/x']

    ``--space`` takes all the ``key=values`` that follow it:

    >>> normalize_arguments(["tune", "--space", "lr=1,2", "opt=a,b", "demo-cnn"])
    ['tune', '--space', 'lr=1,2', '--space', 'opt=a,b', 'demo-cnn']
    """
    result: list[str] = []
    in_space = False
    for word, following in zip(words, [*words, "-"][1:], strict=True):
        in_space = word == "--space" or (in_space and not word.startswith("-") and "=" in word)
        if in_space and word != "--space" and result[-1] != "--space":
            result += ["--space", word]
        elif word == "--resume" and following.startswith("-"):
            result.append(f"--resume={LATEST}")
        elif word.replace("_", "-") == "--cache-features" and not _NUMBER.fullmatch(following):
            result.append("--cache-features=1")
        else:
            result.append(word)
    return result


def split_names(words: Sequence[str] | None) -> list[str] | None:
    """Return the names of a flag that may be repeated or take several at once, separated by commas.

    >>> split_names(["layer1,layer2", "bn1"])
    ['layer1', 'layer2', 'bn1']
    """
    if not words:
        return None
    return [name.strip() for word in words for name in word.split(",") if name.strip()]


def build_recipe_source(recipe: str | None, model: str | None) -> str | Mapping[str, Any] | None:
    """Return what to load: the recipe that was named, or one made for ``--model`` alone."""
    if recipe is not None or model is None:
        return recipe
    name = re.sub(r"[^a-z0-9._-]+", "-", model.lower()).strip("-._")
    if not name:
        raise UsageError(f"--model '{model}' is no model's name; see `praxiscope recipes` or timm's list.")
    return {"name": name[:64], "model": {"name": model}}


def collect_overrides(flags: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the overrides of a recipe: flags that were given, then ``--set``, which wins.

    Args:
        flags: recipe key -> value, None where the flag was not given.
        settings: ``section.key=value``.

    Raises:
        UsageError: a ``--set`` without ``=``, or the same key both ways with different values.
    """
    from praxiscope.recipe.load import parse_overrides

    overrides = {key: value for key, value in flags.items() if value is not None}
    for key, value in parse_overrides(settings).items():
        if key in overrides and overrides[key] != value:
            raise UsageError(
                f"{key} is given twice: a flag says {overrides[key]}, --set says {value}; keep one."
            )
        overrides[key] = value
    return overrides


def collect_data_overrides(
    flags: Mapping[str, Any], settings: Sequence[str], *, also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the overrides of a command that only looks at data.

    Args:
        flags: As for `collect_overrides`.
        settings: ``data.key=value``.
        also: Beginnings of further keys that count, such as ``clip.``.

    Raises:
        UsageError: As there, or a key of another section, which would change nothing.
    """
    overrides = collect_overrides(flags, settings)
    for key in overrides:
        if not key.startswith(("data.", *also)):
            allowed = ", ".join(f"{each}*" if each.endswith(".") else each for each in ("data.", *also))
            raise UsageError(f"--set {key}: this command reads the data only, so only {allowed} keys count.")
    return overrides
