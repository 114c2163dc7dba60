"""What a study was asked for; written once, read by every worker and by every resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.tuning.space import Dimension, Space, count_combinations

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "hyperband", "none"]


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A study.

    Attributes:
        name: names its folder.
        recipe: what every trial changes.
        space: keys and values that are searched.
        data: absolute path of the data.
        metric: a figure of validation, ``val/top1``; it also chooses each trial's best epoch.
        mode: whether more or less of it is better.
        trials: to begin in all.
        sampler: ``tpe`` (Bergstra et al. 2011), ``random``, or ``grid``: every combination once.
        pruner: what ends trials early.
        seed: of the proposals; each trial trains from the recipe's own seed.
        device: as for ``train``.
    """

    name: str
    recipe: Recipe
    space: Space
    data: str
    metric: str
    mode: Literal["max", "min"]
    trials: int
    sampler: Sampler
    pruner: Pruner
    seed: int
    device: str | None = None

    @property
    def epochs(self) -> int:
        """Largest number of epochs of a trial."""
        ends = [self.recipe.train.epochs]
        for each in self.space:
            if each.key == "train.epochs":
                ends = [int(each.read(value)) for value in each.choices] or [int(each.high)]
        return max(ends)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            **vars(self),
            "schema": 1,
            "recipe": self.recipe.model_dump(mode="json"),
            "space": [each.to_dict() for each in self.space],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> StudyPlan:
        """Return what :meth:`to_dict` described."""
        fields = {key: value for key, value in content.items() if key != "schema"}
        recipe = load_recipe(content["recipe"])
        space = tuple(Dimension.from_dict(each) for each in content["space"])
        return cls(**{**fields, "recipe": recipe, "space": space})


def check_sampler(word: str, space: Space, trials: int | None) -> Sampler:
    """Return a sampler's name: ``grid`` where there are no more combinations than trials.

    Other samplers would propose some of them again, and a training with the same seed gives the same figure.

    Args:
        word: as given.
        space: what is searched.
        trials: as given.

    Raises:
        UsageError: there is no such sampler, or the space is endless and the sampler ``grid``.
    """
    _require_one_of("--sampler", word, get_args(Sampler))
    if word == "grid":
        for each in space:
            each.list_values()
    count = count_combinations(space)
    return "grid" if count is not None and count <= (trials or DEFAULT_TRIALS) else cast("Sampler", word)


def check_pruner(word: str) -> Pruner:
    """Return a pruner's name.

    Raises:
        UsageError: there is no such pruner.
    """
    _require_one_of("--pruner", word, get_args(Pruner))
    return cast("Pruner", word)


def settle_trials(asked: int | None, sampler: Sampler, space: Space) -> int:
    """Return the number of trials: as asked for, 20, or all of a grid and never more than it has.

    Raises:
        UsageError: fewer than one.
    """
    if asked is not None and asked < 1:
        raise UsageError(f"--trials is {asked}; it must be 1 or more.")
    if sampler != "grid":
        return asked or DEFAULT_TRIALS
    count = count_combinations(space)
    assert count is not None  # check_sampler refused endless spaces
    if asked is None and count > MAX_GRID:
        raise UsageError(
            f"--sampler grid: there are {count:,} combinations. Say how many with --trials, "
            "shorten the lists, or take another sampler."
        )
    return min(asked or count, count)


DEFAULT_TRIALS = 20
"""Trials where nobody says how many."""
MAX_GRID = 1000
"""Combinations that a grid goes through without being told how many."""


def _require_one_of(flag: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise UsageError(f"{flag} is '{word}'; choose {', '.join(allowed)}.{did_you_mean(word, allowed)}")
