"""Two shares from different samples: Newcombe's interval and Fisher's exact test."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtri

from praxiscope.stats.intervals import wilson_interval
from praxiscope.stats.labels import FloatArray, IntArray
from praxiscope.stats.paired import ALPHA, POWER, find_least
from praxiscope.stats.significance import ROUNDING


def newcombe_interval(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    level: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """Compute the interval of a difference of two independent shares, second minus first.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17:873), made of both shares' Wilson intervals.

    Args:
        first: (...) successes and trials of the first.
        second: (...) the same of the second.
        level: Confidence level in (0, 1).

    Returns:
        Lower and upper ends, in [-1, 1]; NaN where either has no trials.

    Raises:
        ValueError: Successes outside [0, trials], or a level outside (0, 1).

    >>> low, high = newcombe_interval((48, 80), (56, 70))
    >>> round(float(low), 4), round(float(high), 4)
    (0.0524, 0.3339)
    """
    before, after = (_share(*part) for part in (first, second))
    low1, high1 = wilson_interval(*first, level=level)
    low2, high2 = wilson_interval(*second, level=level)
    difference = after - before
    low = difference - np.sqrt((after - low2) ** 2 + (high1 - before) ** 2)
    high = difference + np.sqrt((high2 - after) ** 2 + (before - low1) ** 2)
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def fisher_p_values(
    first: tuple[npt.ArrayLike, npt.ArrayLike], second: tuple[npt.ArrayLike, npt.ArrayLike]
) -> FloatArray:
    """Compute Fisher's exact test of two independent shares, two-sided, element by element.

    The p-value is the probability of all tables with these margins that are no more likely than the observed
    one, as in R and scipy.

    Args:
        first: (M,) successes and trials of the first.
        second: (M,) the same of the second.

    Returns:
        (M,) p-values in (0, 1].

    Raises:
        ValueError: Successes outside [0, trials].
    """
    parts = np.broadcast_arrays(*(np.atleast_1d(np.asarray(part, np.int64)) for part in (*first, *second)))
    hits1, total1, hits2, total2 = parts
    if any((part < 0).any() for part in parts) or (hits1 > total1).any() or (hits2 > total2).any():
        raise ValueError("successes must lie between 0 and trials")
    return np.array([_fisher(*map(int, row)) for row in zip(hits1, total1, hits2, total2, strict=True)])


def smallest_unpaired_difference(
    first: tuple[int, int], second: tuple[int, int], *, power: float = POWER, alpha: float = ALPHA
) -> float:
    """Return the smallest difference of two independent shares that Fisher's test finds with this power.

    The number of trials that a difference needs is that of Casagrande, Pike and Smith 1978 (Biometrics
    34:483; Fleiss, Levin and Paik 2003, section 4.4), whose continuity correction stands for the exact test.
    The two shares lie around the pooled one; where that would leave [0, 1], one of them lies at its end.

    Args:
        first: Successes and trials of the first.
        second: The same of the second.
        power: Chance of finding it.
        alpha: Level of the two-sided test.

    Returns:
        A fraction in (0, 1]; NaN where no difference could be told.
    """
    pooled = (first[0] + second[0]) / (first[1] + second[1])
    ratio = second[1] / first[1]

    def reaches(difference: float) -> bool:
        low = min(max(pooled - difference / 2, 0.0), 1.0 - difference)
        shares = (low, low + difference)
        needed = (_count_needed(*pair, ratio, power, alpha) for pair in (shares, shares[::-1]))
        return max(needed) <= first[1]

    return find_least(reaches)


def _count_needed(before: float, after: float, ratio: float, power: float, alpha: float) -> float:
    """Return the trials that the first share needs where the second has ``ratio`` times as many."""
    gap, middle = abs(after - before), (before + ratio * after) / (ratio + 1)
    chance = float(ndtri(1 - alpha / 2)) * math.sqrt((ratio + 1) * middle * (1 - middle))
    truth = float(ndtri(power)) * math.sqrt(ratio * before * (1 - before) + after * (1 - after))
    plain = (chance + truth) ** 2 / (ratio * gap**2)
    return plain / 4 * (1 + math.sqrt(1 + 2 * (ratio + 1) / (plain * ratio * gap))) ** 2


def _share(successes: npt.ArrayLike, trials: npt.ArrayLike) -> FloatArray:
    hits, count = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    share: FloatArray = np.divide(hits, count, out=np.full(count.shape, np.nan), where=count > 0)
    return share


def _fisher(hits1: int, total1: int, hits2: int, total2: int) -> float:
    hits, total = hits1 + hits2, total1 + total2
    outcomes = np.arange(max(0, hits - total2), min(hits, total1) + 1)
    log_pmf = (
        _log_choose(total1, outcomes) + _log_choose(total2, hits - outcomes)
        - _log_choose(total, np.array([hits]))
    )  # fmt: skip
    pmf = np.exp(log_pmf)
    own = pmf[hits1 - outcomes[0]]
    return float(min(1.0, pmf[pmf <= own * ROUNDING].sum()))


def _log_choose(total: int, chosen: IntArray) -> FloatArray:
    found: FloatArray = gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1)
    return found
