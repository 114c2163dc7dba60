"""What ``--space`` means: recipe keys, each with the values that a study may give it."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.recipe.load import list_keys, load_recipe, parse_yaml
from praxiscope.recipe.schema import Recipe

Kind = Literal["float", "int", "choice"]

_CALL = re.compile(r"([a-z]+)\((.*)\)", re.DOTALL)
_RANGES: dict[str, tuple[Kind, bool]] = {
    "uniform": ("float", False), "loguniform": ("float", True),
    "int": ("int", False), "logint": ("int", True),
}  # fmt: skip
_FORMS = (
    "loguniform(1e-5,1e-3), uniform(0,0.5), int(1,8), logint(8,256), or a list of values such as adamw,sgd"
)
# A key without its section is looked for in this order: batch_size means train.batch_size.
_SECTIONS = ("train", "model", "clip", "augment", "features", "loader", "evaluate", "data")
# Flags of ``train`` that are called otherwise than their keys.
_FLAGS = {
    "amp": "train.precision", "augmentation": "augment.preset", "ema": "train.ema_decay",
    "cache_features": "features.views", "drop_path": "model.drop_path_rate", "model": "model.name",
    "optimizer": "train.opt", "workers": "loader.workers",
}  # fmt: skip
_REFUSED = {
    "seed": "the best of several seeds is luck, not a setting; give it with --set or --seed, and train the "
    "winner from several seeds afterwards",
    "name": "it names the runs of the study",
    "description": "it changes nothing about training",
    "train.monitor": "trials are compared by one figure: --metric",
    "train.mode": "trials are compared by one figure: --metric",
    "data": "trials must be compared on the same samples; give it with --set",
    "track": "it changes nothing about training",
    "evaluate.resamples": "it changes nothing about training",
    "loader": "it changes nothing about the result",
}
_ALLOWED_OF_REFUSED = frozenset({"data.pack", "data.train_per_class"})
MAX_CHECKED = 512
"""Combinations that are tried for one value before it is refused."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One recipe key and its values."""

    key: str
    """Dotted: ``train.lr``."""
    text: str
    """As it was written: ``loguniform(1e-5,1e-3)``."""
    kind: Kind
    """``float`` and ``int`` have a range, ``choice`` a list."""
    low: float = 0.0
    """Smallest value of a range."""
    high: float = 0.0
    """Largest value of a range, included."""
    log: bool = False
    """Whether a range is searched in its logarithm."""
    choices: tuple[str, ...] = ()
    """Values of a list as they were written; each is read as YAML."""

    @property
    def size(self) -> int | None:
        """How many values it has; None for a range of real numbers."""
        if self.kind == "choice":
            return len(self.choices)
        return int(self.high) - int(self.low) + 1 if self.kind == "int" else None

    def read(self, value: Any) -> Any:
        """Return the recipe's value for one that was proposed: of a list, its text read as YAML.

        >>> Dimension(key="train.opt", text="adamw,sgd", kind="choice", choices=("adamw", "sgd")).read("sgd")
        'sgd'
        """
        return parse_yaml(value, origin=f"--space {self.key}") if self.kind == "choice" else value

    def list_values(self) -> list[Any]:
        """Return the values of a list or of a range of whole numbers, as they are proposed.

        Raises:
            UsageError: It is a range of real numbers.
        """
        if self.kind == "choice":
            return list(self.choices)
        if self.kind == "int":
            return list(range(int(self.low), int(self.high) + 1))
        raise UsageError(
            f"--sampler grid goes through all combinations, but --space {self.key}={self.text} has "
            f"endlessly many values. Write a list, such as {self.key.rpartition('.')[2]}={self.low:g},"
            f"{self.high:g}, or take another sampler."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**vars(self), "choices": list(self.choices)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Dimension:
        """Return what :meth:`to_dict` described."""
        return cls(**{**content, "choices": tuple(content["choices"])})


Space = tuple[Dimension, ...]


def parse_space(words: Sequence[str], recipe: Recipe) -> Space:
    """Read ``--space``.

    Args:
        words: ``lr=loguniform(1e-5,1e-3)``, ``train.opt=adamw,sgd`` ...
        recipe: What the values are put into: each one must fit it.

    Raises:
        UsageError: Says what was written and what is allowed.
    """
    if not words:
        raise UsageError(f"--space: which keys, and which values? Write key=values: {_FORMS}.")
    space = tuple(_parse_dimension(word) for word in words)
    keys = [dimension.key for dimension in space]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"--space gives {key} twice; keep one.")
    for dimension in space:
        for value in _list_ends(dimension):
            _require_use(dimension, value, space, recipe)
    return space


def apply_proposal(recipe: Recipe, space: Space, proposal: Mapping[str, Any]) -> Recipe:
    """Return the recipe with a proposal's values.

    Args:
        recipe: The study's.
        space: What the proposal is out of.
        proposal: Value by key, choices as their text.

    Raises:
        UsageError: The values don't go together; says which.
    """
    changes = {dimension.key: dimension.read(proposal[dimension.key]) for dimension in space}
    shown = " ".join(f"{key}={value}" for key, value in changes.items())
    return _apply(recipe, changes, f"The proposal {shown}")


def list_combinations(space: Space) -> list[dict[str, Any]]:
    """Return all proposals of a finite space, the last key changing fastest.

    Raises:
        UsageError: A range of real numbers has endlessly many.
    """
    values = [dimension.list_values() for dimension in space]
    keys = [dimension.key for dimension in space]
    return [dict(zip(keys, each, strict=True)) for each in itertools.product(*values)]


def count_combinations(space: Space) -> int | None:
    """Return how many proposals there are; None for endlessly many."""
    sizes = [dimension.size for dimension in space]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _parse_dimension(word: str) -> Dimension:
    name, equals, text = (part.strip() for part in word.partition("="))
    if not equals or not name or not text:
        raise UsageError(f"--space '{word}': write key=values. Values are {_FORMS}.")
    key = _find_key(name)
    call = _CALL.fullmatch(text)
    if call is None:
        return _parse_list(key, text, text)
    if call[1] in {"choice", "categorical"}:
        return _parse_list(key, text, call[2])
    if call[1] not in _RANGES:
        hint = did_you_mean(call[1], (*_RANGES, "choice"))
        raise UsageError(f"--space {key}={text}: there is no '{call[1]}'.{hint} Allowed are {_FORMS}.")
    kind, log = _RANGES[call[1]]
    low, high = _parse_ends(key, text, call[2], whole=kind == "int")
    if log and low <= 0:
        raise UsageError(
            f"--space {key}={text}: a logarithm needs numbers above 0; the lower one is {low:g}."
        )
    return Dimension(key=key, text=text, kind=kind, low=low, high=high, log=log)


def _parse_ends(key: str, text: str, inner: str, *, whole: bool) -> tuple[float, float]:
    parts = [part.strip() for part in inner.split(",")]
    try:
        ends = [float(part) for part in parts]
    except ValueError:
        ends = []
    if len(ends) != 2 or not all(map(math.isfinite, ends)):
        raise UsageError(f"--space {key}={text}: give the smallest and the largest value, as in {_FORMS}.")
    low, high = ends
    if whole and not (low.is_integer() and high.is_integer()):
        raise UsageError(f"--space {key}={text}: int and logint take whole numbers.")
    if low >= high:
        raise UsageError(f"--space {key}={text}: the first number must be below the second.")
    return low, high


def _parse_list(key: str, text: str, inner: str) -> Dimension:
    choices = _split_list(inner)
    if len(choices) < 2 or not all(choices):
        raise UsageError(
            f"--space {key}={text}: that is one value, or one is empty. Give at least two ({_FORMS}), or set "
            f"it for all trials: --set {key}=..."
        )
    for choice in choices:
        if choices.count(choice) > 1:
            raise UsageError(f"--space {key}={text}: '{choice}' is listed twice.")
    return Dimension(key=key, text=text, kind="choice", choices=tuple(choices))


def _split_list(text: str) -> list[str]:
    """Split at commas that are not inside brackets.

    >>> _split_list("[backbone],[],[layer1,layer2]")
    ['[backbone]', '[]', '[layer1,layer2]']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _find_key(name: str) -> str:
    known = list_keys()
    plain = name.removeprefix("--").replace("-", "_")
    found = [f"{section}.{plain}" for section in _SECTIONS if f"{section}.{plain}" in known]
    if name in known or name.startswith("model.kwargs."):
        key = name
    elif plain in _FLAGS:
        key = _FLAGS[plain]
    elif found:
        key = found[0]
    else:
        short = {each.rpartition(".")[2] for each in known}
        hint = did_you_mean(name, known if "." in name else {*short, *_FLAGS})
        raise UsageError(
            f"--space: there is no recipe key '{name}'.{hint} `praxiscope recipes keys` lists all."
        )
    reason = _REFUSED.get(key) or _REFUSED.get(key.partition(".")[0])
    if reason is not None and key not in _ALLOWED_OF_REFUSED:
        raise UsageError(f"--space can't search {key}: {reason}.")
    return key


def _list_ends(dimension: Dimension) -> list[Any]:
    if dimension.kind == "choice":
        return list(dimension.choices)
    ends = (dimension.low, dimension.high)
    return [int(end) for end in ends] if dimension.kind == "int" else list(ends)


def _require_use(dimension: Dimension, value: Any, space: Space, recipe: Recipe) -> None:
    """Refuse a value that fits the recipe neither alone nor with values of the other keys."""
    what = f"--space {dimension.key}={dimension.text}: {value}"
    try:
        _apply(recipe, {dimension.key: dimension.read(value)}, what)
    except UsageError:
        others = [each for each in space if each is not dimension]
        for ends in itertools.islice(itertools.product(*map(_list_ends, others)), MAX_CHECKED):
            proposal = {each.key: end for each, end in zip(others, ends, strict=True)}
            with contextlib.suppress(UsageError):
                apply_proposal(recipe, space, proposal | {dimension.key: value})
                return
        raise


def _apply(recipe: Recipe, changes: Mapping[str, Any], what: str) -> Recipe:
    try:
        return load_recipe(recipe.model_dump(mode="json"), changes)
    except UsageError as problem:
        lines = str(problem).splitlines()
        reason = "; ".join(line.strip(" -") for line in lines[1:]) or lines[0]
        raise UsageError(f"{what} can't be trained: {reason}") from problem
