"""Groups of classes compared: is the model better at individual sports than at team sports?

The unit is the class, not the sample: all images of a class share what makes it easy or hard, so that a
hundred more images of one class say nothing new about its group. Two groups are compared by the difference
of their mean class recall, and the difference is tested by permutation: how often would it be as large, in
either direction, if the classes had been dealt to the two groups at random (Fisher 1935; Phipson and Smyth
2010 for the + 1 in a drawn sample)? All ways to deal them are counted where there are at most `MAX_EXACT`;
otherwise `DRAWS` are drawn. P-values are corrected after Holm (1979) over all comparisons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from praxiscope.stats.labels import FloatArray
from praxiscope.stats.significance import adjust_holm

MAX_EXACT = 20_000
DRAWS = 20_000
DRAWN_ELEMENTS = 2**20
"""Values that are shuffled at a time; 8 MiB."""
FEW_CLASSES = 5
"""Below so many classes in a group only a very large difference can show."""
_TIES = 1e-9
"""Differences that are equal but for rounding count as equal; recalls are fractions of small integers."""


@dataclass(frozen=True, kw_only=True)
class GroupDifference:
    """Two groups of one column, compared by mean class recall."""

    column: str
    first: str
    """The group with the higher mean class recall; of equals the one that comes first."""
    second: str
    difference: float
    """Mean class recall of the first minus that of the second, in [0, 1]."""
    num_classes: tuple[int, int]
    p_value: float
    """Two-sided, by permutation of classes."""
    p_holm: float
    """The same after Holm's correction over all comparisons."""
    smallest_p: float
    """The smallest p-value that so few classes could give, uncorrected."""
    exact: bool
    """Whether all ways to deal the classes were counted; otherwise `DRAWS` were drawn."""


def compare_groups(
    columns: Mapping[str, Mapping[str, Sequence[int]]], recalls: npt.ArrayLike, *, seed: int = 0
) -> tuple[GroupDifference, ...]:
    """Compare every two groups within each column.

    Args:
        columns: Column name -> group name -> indices of its classes.
        recalls: (K,) recall of each class in [0, 1]; NaN for a class without samples, which is left out.
        seed: Of the permutations that are drawn.

    Returns:
        One comparison for every two groups that have a class with samples, in the order of the columns.
    """
    values = np.asarray(recalls, dtype=np.float64)
    found = []
    for column, groups in columns.items():
        held = {name: values[list(members)] for name, members in groups.items()}
        held = {name: part[~np.isnan(part)] for name, part in held.items()}
        usable = [name for name, part in held.items() if part.size]
        for pair in itertools.combinations(usable, 2):
            # The better group first; of equals the one that comes first.
            first, second = sorted(pair, key=lambda name: -float(held[name].mean()))
            found.append(_compare_pair(column, (first, second), held[first], held[second], seed))
    corrected = adjust_holm([one.p_value for one in found])
    return tuple(replace(one, p_holm=float(p)) for one, p in zip(found, corrected, strict=True))


def permute_values(first: FloatArray, second: FloatArray, *, seed: int = 0) -> tuple[float, float, bool]:
    """Test a difference of means by dealing the values to the two sides at random.

    Args:
        first: (M,) values of one side, M >= 1.
        second: (N,) values of the other, N >= 1.
        seed: Of the draws, where there are too many ways to count.

    Returns:
        Two-sided p-value; the smallest that M and N values could give; whether all ways were counted.
    """
    pooled = np.concatenate([first, second])
    size, total = first.size, float(pooled.sum())
    observed = abs(float(first.mean() - second.mean()))
    ways = math.comb(pooled.size, size)
    exact = ways <= MAX_EXACT
    sums = _count_sums(pooled, size) if exact else _draw_sums(pooled, size, seed)
    spread = np.abs(sums / size - (total - sums) / second.size)
    extreme = int((spread >= observed - _TIES).sum())
    if not exact:
        return (extreme + 1) / (DRAWS + 1), 1 / (DRAWS + 1), False
    # With sides of one size, each way has a mirror image that is as extreme.
    return extreme / ways, (2 if size == second.size else 1) / ways, True


def _count_sums(pooled: FloatArray, size: int) -> FloatArray:
    if 2 * size > pooled.size:
        # The smaller side is picked, mirrored: 1 of 20,000 values rather than 19,999, in 8 bytes a way.
        return float(pooled.sum()) - _count_sums(pooled, pooled.size - size)
    ways = math.comb(pooled.size, size)
    picks = itertools.chain.from_iterable(itertools.combinations(range(pooled.size), size))
    chosen = np.fromiter(picks, dtype=np.int64, count=ways * size).reshape(ways, size)
    sums: FloatArray = pooled[chosen].sum(axis=1)
    return sums


def _draw_sums(pooled: FloatArray, size: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    parts = []
    step = max(1, min(1000, DRAWN_ELEMENTS // pooled.size))
    for start in range(0, DRAWS, step):
        rows = np.tile(pooled, (min(step, DRAWS - start), 1))
        parts.append(rng.permuted(rows, axis=1)[:, :size].sum(axis=1))
    return np.concatenate(parts)


def _compare_pair(
    column: str, names: tuple[str, str], first: FloatArray, second: FloatArray, seed: int
) -> GroupDifference:
    p_value, smallest_p, exact = permute_values(first, second, seed=seed)
    return GroupDifference(
        column=column,
        first=names[0],
        second=names[1],
        difference=float(first.mean() - second.mean()),
        num_classes=(first.size, second.size),
        p_value=p_value,
        p_holm=p_value,
        smallest_p=smallest_p,
        exact=exact,
    )
