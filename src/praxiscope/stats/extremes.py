"""Classes at 100 % and at 0 %: how many of them chance alone would give, and which classes really differ.

Five test images of a class are few: at 58.8 % overall, a class that is no easier than the others has all five
right with probability 0.588^5 = 7.0 %. So among 100 such classes seven are "perfect" by chance.

Chance alone
    Every class has the same accuracy p, the overall one. A class with n samples is then perfect with
    probability p^n and at zero with (1 - p)^n, independently of the others: the number of such classes has a
    Poisson-binomial distribution, which is computed exactly (by convolution), not approximated.
Spread
    Classes differ, smoothly: their accuracies have a beta distribution with mean p whose spread is fitted to
    the whole table by maximum likelihood (Skellam 1948, the beta-binomial distribution). Where chance alone
    doesn't explain the number of extreme classes, this says whether they are more than the ends of an
    ordinary spread.
Which classes
    Each class's exact binomial test against p, two-sided, corrected after Holm (1979) over the classes.

All take samples as independent, and p as known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, expit

from praxiscope.stats.intervals import validate_level
from praxiscope.stats.labels import FloatArray, IntArray
from praxiscope.stats.significance import adjust_holm, binomial_p_values, smallest_p_values

SPREADS = np.concatenate([[0.0], expit(np.linspace(-9.0, 5.0, 561))])
"""Intraclass correlations that the fit of the spread chooses from."""


@dataclass(frozen=True, kw_only=True)
class ExpectedCount:
    """How many classes a model of chance puts at an extreme."""

    mean: float
    low: int
    """Lower end of the central range at the level asked for."""
    high: int


@dataclass(frozen=True, kw_only=True)
class ExtremeClasses:
    """The classes at one extreme, and how many of them to expect."""

    classes: tuple[int, ...]
    """Their indices, in order."""
    chance: ExpectedCount
    """Where every class has the overall accuracy."""
    spread: ExpectedCount
    """Where accuracies are spread as the whole table suggests."""


@dataclass(frozen=True, kw_only=True)
class ClassDifferences:
    """Each class against the overall accuracy."""

    p_values: FloatArray
    """(K,) of the exact binomial test, two-sided; NaN for a class without samples."""
    p_holm: FloatArray
    """(K,) after Holm's correction over the classes with samples."""
    better: tuple[int, ...]
    """Indices of the classes that are above the overall accuracy beyond chance."""
    worse: tuple[int, ...]
    smallest_holm: float
    """The smallest corrected p-value that any class could have reached with its number of samples, were all
    other classes ordinary."""


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """What the number of right samples of each class can say."""

    accuracy: float
    """Share of all samples that are right, in [0, 1]."""
    level: float
    perfect: ExtremeClasses
    zero: ExtremeClasses
    spread_sd: float
    """Fitted standard deviation of the classes' accuracies; 0 where chance alone fits best."""
    differences: ClassDifferences


def describe_extremes(
    correct: npt.ArrayLike, supports: npt.ArrayLike, *, level: float = 0.95
) -> Extremes | None:
    """Judge the classes at 100 % and at 0 %.

    Args:
        correct: (K,) integers, right samples of each class.
        supports: (K,) integers, samples of each class; classes without are left out.
        level: Of the expected ranges and of the tests, in (0, 1).

    Returns:
        The findings; None for fewer than two classes with samples, or where all samples or none are right:
        nothing is extreme then.

    Raises:
        ValueError: More right samples than samples, or a level outside (0, 1).
    """
    validate_level(level)
    right, count = (np.asarray(part, dtype=np.int64) for part in (correct, supports))
    if right.shape != count.shape or right.ndim != 1 or (right < 0).any() or (right > count).any():
        raise ValueError("correct and supports must pair up, and correct must lie between 0 and supports")
    seen = np.flatnonzero(count > 0)
    total = int(right.sum())
    if seen.size < 2 or total in {0, int(count.sum())}:
        return None
    accuracy = total / int(count.sum())
    spread = _fit_spread(right[seen], count[seen], accuracy)
    return Extremes(
        accuracy=accuracy,
        level=level,
        perfect=_judge(seen[right[seen] == count[seen]], count[seen], accuracy, spread, level),
        zero=_judge(seen[right[seen] == 0], count[seen], 1 - accuracy, spread, level),
        spread_sd=math.sqrt(accuracy * (1 - accuracy) * spread),
        differences=_compare_classes(right, count, accuracy, level),
    )


def count_distribution(probabilities: npt.ArrayLike) -> FloatArray:
    """Return the exact Poisson-binomial distribution.

    Args:
        probabilities: (K,) chances of independent events, in [0, 1].

    Returns:
        (K + 1,) probabilities that 0, 1 ... K of them occur.

    >>> count_distribution([0.5, 0.5]).tolist()
    [0.25, 0.5, 0.25]
    """
    distribution = np.ones(1)
    for chance in np.asarray(probabilities, dtype=np.float64):
        distribution = np.convolve(distribution, [1 - chance, chance])
    return distribution


def expect_count(probabilities: npt.ArrayLike, *, level: float = 0.95) -> ExpectedCount:
    """Return the mean and the central range of the number of independent events that occur.

    The range runs from the smallest number whose lower tail, itself included, holds (1 - level) / 2 to the
    smallest whose lower tail holds (1 + level) / 2.

    Args:
        probabilities: (K,) their chances, in [0, 1].
        level: In (0, 1).
    """
    chances = np.asarray(probabilities, dtype=np.float64)
    tails = np.cumsum(count_distribution(chances))
    outside = (1 - validate_level(level)) / 2
    ends = np.minimum(np.searchsorted(tails, [outside, 1 - outside]), chances.size)
    return ExpectedCount(mean=float(chances.sum()), low=int(ends[0]), high=int(ends[1]))


def _judge(
    classes: Sequence[int] | IntArray, supports: IntArray, accuracy: float, spread: float, level: float
) -> ExtremeClasses:
    """Judge one extreme; for the classes at zero, ``accuracy`` is the share that is wrong."""
    chance = accuracy**supports
    return ExtremeClasses(
        classes=tuple(int(index) for index in classes),
        chance=expect_count(chance, level=level),
        spread=expect_count(_extreme_chance(supports, accuracy, spread), level=level),
    )


def _extreme_chance(supports: IntArray, accuracy: float, spread: float) -> FloatArray:
    """Return the chance of each class to be wholly right when accuracies are beta distributed."""
    if spread == 0:
        return np.asarray(accuracy**supports, dtype=np.float64)
    a, b = (part * (1 - spread) / spread for part in (accuracy, 1 - accuracy))
    chance: FloatArray = np.exp(betaln(a + supports, b) - betaln(a, b))
    return chance


def _fit_spread(correct: IntArray, supports: IntArray, accuracy: float) -> float:
    """Return the intraclass correlation that is likeliest for the table, from `SPREADS`; 0 for no spread."""
    rho = SPREADS[1:, None]
    a, b = (part * (1 - rho) / rho for part in (accuracy, 1 - accuracy))
    spread_out = (betaln(a + correct, b + supports - correct) - betaln(a, b)).sum(axis=1)
    none = correct.sum() * math.log(accuracy) + (supports - correct).sum() * math.log1p(-accuracy)
    return float(SPREADS[np.argmax(np.concatenate([[none], spread_out]))])


def _compare_classes(
    correct: IntArray, supports: IntArray, accuracy: float, level: float
) -> ClassDifferences:
    seen = supports > 0
    p_values, p_holm = np.full(supports.size, np.nan), np.full(supports.size, np.nan)
    p_values[seen] = binomial_p_values(correct[seen], supports[seen], accuracy)
    p_holm[seen] = adjust_holm(p_values[seen])
    differs = seen & (np.nan_to_num(p_holm, nan=1.0) < 1 - level)
    above = correct > accuracy * supports
    smallest = float(smallest_p_values(supports[seen], accuracy).min()) * int(seen.sum())
    return ClassDifferences(
        p_values=p_values,
        p_holm=p_holm,
        better=tuple(np.flatnonzero(differs & above).tolist()),
        worse=tuple(np.flatnonzero(differs & ~above).tolist()),
        smallest_holm=min(1.0, smallest),
    )


def tell_extremes(found: Extremes, supports: npt.ArrayLike) -> tuple[str, ...]:
    """Put the findings into sentences that name no class.

    Args:
        found: From `describe_extremes`.
        supports: (K,) samples of each class, as given there.
    """
    count = np.asarray(supports, dtype=np.int64)
    count = count[count > 0]
    given = f"with {tell_supports(count)} and {100 * found.accuracy:.1f} % right overall"
    return (
        _tell_extreme(found, found.perfect, "100 %", given),
        _tell_extreme(found, found.zero, "0 %", given),
        _tell_differences(found, count),
    )


def tell_supports(supports: IntArray) -> str:
    """Say how many samples classes have: ``5 samples each`` or ``3 to 12 samples each (median 7)``."""
    low, high = int(supports.min()), int(supports.max())
    if low == high:
        return f"{low:,} sample{'s' if low > 1 else ''} each"
    return f"{low:,} to {high:,} samples each (median {np.median(supports):,.0f})"


def _tell_extreme(found: Extremes, side: ExtremeClasses, level: str, given: str) -> str:
    count, chance = len(side.classes), side.chance
    shown = len({*found.differences.better, *found.differences.worse} & set(side.classes))
    # Their number is one thing; a class with many samples may be told apart by them all the same.
    own = "1 is by its own samples" if shown == 1 else f"{shown:,} are by their own samples"
    but = f" by the number of such classes; {own} (below)" if shown else ""
    counted = f"{_count_classes(count)} at {level}; {given}, chance alone gives {_tell_range(chance)}"
    if count < chance.low:
        return f"{counted}: fewer than chance alone gives."
    if count <= chance.high:
        if not count:
            return f"{counted}."
        who = "this class is" if count == 1 else "these classes are"
        return f"{counted}: {who} not shown to be {'easier' if level == '100 %' else 'harder'}{but}."
    spread = _tell_range(side.spread)
    more = f"{counted}: more than chance alone, so classes do differ."
    if count > side.spread.high:
        return f"{more} It is more than an ordinary spread between classes gives, {spread}, too."
    return (
        f"{more} A spread of {100 * found.spread_sd:.0f} points between classes, fitted to all of them, "
        f"gives {spread}: nothing sets those at {level} apart from the classes next to them{but}."
    )


def _tell_differences(found: Extremes, supports: IntArray) -> str:
    differences, tested = found.differences, supports.size
    alpha, overall = 1 - found.level, f"{100 * found.accuracy:.1f} %"
    test = f"exact binomial tests, Holm's correction for {tested:,} classes"
    num_better, num_worse = len(differences.better), len(differences.worse)
    if num_better + num_worse:
        above, below = (_count_classes(count).lower() for count in (num_better, num_worse))
        return (
            f"Above the overall {overall} beyond chance: {above}; below it: {below} ({test}, p below "
            f"{alpha:.2g})."
        )
    if differences.smallest_holm >= alpha:
        return (
            f"No single class could be told apart from the overall {overall}, whatever its result: "
            f"{tell_supports(supports)} {'is' if supports.max() == 1 else 'are'} too few ({test})."
        )
    return f"No single class can be told apart from the overall {overall} ({test})."


def _count_classes(count: int) -> str:
    return {0: "No class", 1: "1 class"}.get(count, f"{count:,} classes")


def _tell_range(expected: ExpectedCount) -> str:
    return f"{expected.mean:.1f} ({expected.low:,} to {expected.high:,})"
