"""Tests of two classifiers on the same samples: exact, by group, and over seeds.

* Independent samples, one run each: the exact McNemar test (McNemar 1947) on the samples that only one of the
  two has right.
* Samples in groups (performer, video): the exact sign-flip test over groups. If the two classifiers were
  exchangeable, each group's difference would be as likely with the other sign, so all signs are counted
  (Fisher 1935). With one sample a group it is the exact McNemar test.
* Several seeds: samples and seeds are both drawn from more of their kind, so both variances count
  (Bouthillier et al. 2021, https://arxiv.org/abs/2103.03098), with Satterthwaite's (1946) degrees of freedom,
  as three seeds know their spread badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, gammaln, ndtri, stdtr, stdtrit, xlog1py, xlogy

from praxiscope.stats.intervals import validate_level
from praxiscope.stats.labels import FloatArray, IntArray

POWER = 0.8
ALPHA = 0.05

_LONG = 10_000
"""Above so many groups of one absolute difference the far tails of its distribution are cut off."""
_NEGLIGIBLE_LOG = -70.0
"""Log of the share of the peak below which such a tail is cut: 4e-31."""


@dataclass(frozen=True, kw_only=True)
class ReplicateTest:
    """A difference of means over samples and seeds, with what both contribute to its error."""

    difference: float
    """Mean of the second minus mean of the first."""
    standard_error: float
    degrees_of_freedom: float
    p_value: float
    """Two-sided, of Student's t."""


def mcnemar_p_values(only_first: npt.ArrayLike, only_second: npt.ArrayLike) -> FloatArray:
    """Compute the two-sided exact McNemar test, element by element.

    Of the samples that only one of two classifiers has right, each is as likely to be the first's as the
    second's if neither is better, so the smaller count follows a binomial distribution with 1/2. Doubling its
    tail is what ``scipy.stats.binomtest`` and ``statsmodels`` give.

    Args:
        only_first: (...) samples that only the first has right, at least 0.
        only_second: (...) samples that only the second has right, at least 0.

    Returns:
        (...) p-values in [0, 1]; 1 where there are no such samples.

    Raises:
        ValueError: Negative counts.

    >>> round(float(mcnemar_p_values(3, 14)), 4)
    0.0127
    """
    first, second = np.broadcast_arrays(np.asarray(only_first, np.int64), np.asarray(only_second, np.int64))
    if (first < 0).any() or (second < 0).any():
        raise ValueError("counts of samples must be at least 0")
    tail = bdtr(np.minimum(first, second).astype(np.float64), first + second, 0.5)
    return np.asarray(np.minimum(2.0 * tail, 1.0), dtype=np.float64)


def sign_flip_p_value(differences: npt.ArrayLike) -> float:
    """Compute the two-sided exact sign-flip test of whole-number differences, one a group.

    The sum of the differences with random signs is a sum of scaled binomials, one for each absolute value
    that occurs; its distribution is computed by convolution, not drawn.

    Args:
        differences: (G,) integers: of each group, what the second counts minus what the first counts.

    Returns:
        The chance of a sum as far from 0, in (0, 1]. With differences of -1, 0 and 1 it is the exact McNemar
        test. The smallest possible is ``2 ** (1 - m)`` with m differences other than 0.

    >>> sign_flip_p_value([2, 1, 3, 1, 2])
    0.0625
    """
    held = np.asarray(differences, dtype=np.int64)
    sizes, counts = np.unique(np.abs(held[held != 0]), return_counts=True)
    if not sizes.size:
        return 1.0
    if sizes.size == 1:
        return float(mcnemar_p_values((held > 0).sum(), (held < 0).sum()))
    # With k of m groups positive a size v contributes v (2 k - m); shifted, the sum is 2 * sum(v k) - total.
    pmf, start = np.ones(1), 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        part, offset = _halves_pmf(count)
        spread = np.zeros(pmf.size + size * (part.size - 1))
        for index, probability in enumerate(part):
            spread[index * size : index * size + pmf.size] += probability * pmf
        pmf, start = spread, start + offset * size
    sums = 2 * (start + np.arange(pmf.size)) - int((sizes * counts).sum())
    return float(min(1.0, pmf[np.abs(sums) >= abs(int(held.sum()))].sum()))


def smallest_sign_flip_p(num_groups: int) -> float:
    """Return the smallest p-value that `sign_flip_p_value` could give with so many groups."""
    return float(min(1.0, 2.0 ** (1 - num_groups)))


def smallest_difference(
    num_samples: float, discordance: float, *, power: float = POWER, alpha: float = ALPHA
) -> float:
    """Find the smallest difference of accuracy that so many samples could tell with the exact McNemar test.

    Two classifiers that differ on a share d of the samples, one of them better by x: the number of samples on
    which they differ is binomial (n, d), and of these a share (d + x) / 2 d is the better one's. The
    chance that the test finds the better one better is summed over both. A difference above d is only
    possible with a discordance of its own size, which is then assumed.

    Args:
        num_samples: Independent samples; a fraction (an effective number) is rounded down.
        discordance: Share of samples that only one of the two has right, in [0, 1].
        power: Chance of finding it, in (0, 1).
        alpha: Level of the test, in (0, 1).

    Returns:
        A fraction in (0, 1]; NaN where no difference could be told.

    Raises:
        ValueError: An argument outside its range.
    """
    if not 0 <= discordance <= 1:
        raise ValueError(f"discordance is {discordance}; it must lie in [0, 1]")
    validate_level(power)
    validate_level(alpha)
    count = math.floor(num_samples)

    def reaches(difference: float) -> bool:
        return mcnemar_power(count, difference, max(discordance, difference), alpha=alpha) >= power

    return find_least(reaches) if count > 0 else math.nan


def find_least(reaches: Callable[[float], bool]) -> float:
    """Return the least share in (0, 1] that reaches what is asked, by bisection; NaN where 1 doesn't.

    Args:
        reaches: False up to some share, true from there on.
    """
    if not reaches(1.0):
        return math.nan
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def mcnemar_power(num_samples: int, difference: float, discordance: float, *, alpha: float = ALPHA) -> float:
    """Compute the chance that the exact McNemar test finds the better of two classifiers better.

    Args:
        num_samples: Independent samples, at least 1.
        difference: True difference of accuracy, in [0, discordance].
        discordance: True share of samples that only one of them has right, in (0, 1].
        alpha: Level of the two-sided test.
    """
    middle, spread = num_samples * discordance, math.sqrt(num_samples * discordance * (1 - discordance))
    # Nine standard deviations hold all but 1e-18 of the discordant counts; ten more samples, the few.
    low, high = max(0, int(middle - 9 * spread) - 10), min(num_samples, int(middle + 9 * spread) + 10)
    differing = np.arange(low, high + 1)
    weights = _binomial_pmf(differing, num_samples, discordance)
    critical = _critical_counts(differing, alpha)
    found = critical >= 0
    loses = (discordance - difference) / (2 * discordance)
    chances = bdtr(critical[found].astype(np.float64), differing[found], loses)
    return float((weights[found] * chances).sum())


def paired_interval(
    only_first: npt.ArrayLike, only_second: npt.ArrayLike, num_samples: npt.ArrayLike, *, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Compute the adjusted Wald interval of a paired difference of proportions, second minus first.

    Bonett and Price 2012 (Journal of Educational and Behavioral Statistics 37): one sample is added to both
    discordant cells, which keeps the interval honest for few samples and gives it a width where none differ.

    Args:
        only_first: (...) samples that only the first has right; effective numbers may be fractions.
        only_second: (...) samples that only the second has right.
        num_samples: (...) all samples.
        level: Confidence level in (0, 1).

    Returns:
        Lower and upper ends, in [-1, 1]; NaN where there are no samples.

    Raises:
        ValueError: A level outside (0, 1).
    """
    z = float(ndtri((1 + validate_level(level)) / 2))
    first, second, count = np.broadcast_arrays(
        *(np.asarray(part, np.float64) for part in (only_first, only_second, num_samples))
    )
    loses, wins = (first + 1) / (count + 2), (second + 1) / (count + 2)
    half = z * np.sqrt(np.maximum(wins + loses - (wins - loses) ** 2, 0.0) / (count + 2))
    known = np.where(count > 0, 1.0, np.nan)
    return np.maximum(wins - loses - half, -1.0) * known, np.minimum(wins - loses + half, 1.0) * known


def design_effect(differences: npt.ArrayLike, codes: IntArray) -> float:
    """Compute by how much groups inflate the variance of a mean (Kish 1965; Rao and Scott 1992).

    n samples in groups tell as much as n divided by it independent ones.

    Args:
        differences: (N,) values of the samples.
        codes: (N,) group numbers from 0.

    Returns:
        At least 1: groups that happen to cancel out are no reason to claim more samples than there are.
    """
    values = np.asarray(differences, dtype=np.float64)
    alone = float(((values - values.mean()) ** 2).sum()) if values.size else 0.0
    num_groups = np.unique(codes).size
    if num_groups < 2 or alone == 0:
        return 1.0
    return max(1.0, _sum_squares_by_group(values, codes) / alone)


def compare_replicates(
    first: npt.NDArray[np.generic], second: npt.NDArray[np.generic], codes: IntArray
) -> ReplicateTest:
    """Compare two means over samples and seeds, both taken as draws from more of their kind.

    Args:
        first: (A, N) value of each sample under each of the first's A >= 1 seeds.
        second: (B, N) the same for the second.
        codes: (N,) group numbers of the samples.
    """
    before, after = np.asarray(first, np.float64), np.asarray(second, np.float64)
    per_sample = after.mean(axis=0) - before.mean(axis=0)
    groups, size = np.unique(codes).size, per_sample.size
    difference = float(per_sample.mean()) if size else math.nan
    parts = []
    if groups > 1:
        scatter = _sum_squares_by_group(per_sample, codes) * groups / (groups - 1) / size**2
        parts.append((scatter, groups - 1))
    seeds = [side.mean(axis=1) for side in (before, after) if len(side) > 1]
    parts += [(float(scores.var(ddof=1)) / scores.size, scores.size - 1) for scores in seeds]
    return combine_variances(difference, parts)


def combine_variances(difference: float, parts: list[tuple[float, int]]) -> ReplicateTest:
    """Test a difference whose variance is a sum of parts, each known with its own degrees of freedom.

    Args:
        difference: Estimated difference.
        parts: Variance and degrees of freedom of each part.

    Returns:
        With a p-value of 1 where nothing varies: then nothing is known about the error.
    """
    total = sum(variance for variance, _ in parts)
    if not total > 0:
        return ReplicateTest(
            difference=difference, standard_error=math.nan, degrees_of_freedom=math.nan, p_value=1.0
        )
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    error = math.sqrt(total)
    return ReplicateTest(
        difference=difference,
        standard_error=error,
        degrees_of_freedom=freedom,
        p_value=float(2 * stdtr(freedom, -abs(difference) / error)),
    )


def student_quantile(degrees_of_freedom: float, probability: float) -> float:
    """Return the quantile of Student's t; NaN for NaN degrees of freedom."""
    return float(stdtrit(degrees_of_freedom, probability))


def _halves_pmf(count: int) -> tuple[FloatArray, int]:
    """Return the binomial (count, 1/2) probabilities and the outcome that the first belongs to."""
    outcomes = np.arange(count + 1)
    log_pmf = gammaln(count + 1) - gammaln(outcomes + 1) - gammaln(count - outcomes + 1) - count * math.log(2)
    if count <= _LONG:
        return np.exp(log_pmf), 0
    kept = np.flatnonzero(log_pmf - log_pmf.max() > _NEGLIGIBLE_LOG)
    return np.exp(log_pmf[kept]), int(kept[0])


def _binomial_pmf(outcomes: IntArray, trials: int, chance: float) -> FloatArray:
    choose = gammaln(trials + 1) - gammaln(outcomes + 1) - gammaln(trials - outcomes + 1)
    pmf: FloatArray = np.exp(choose + xlogy(outcomes, chance) + xlog1py(trials - outcomes, -chance))
    return pmf


def _critical_counts(differing: IntArray, alpha: float) -> IntArray:
    """Return the largest smaller count that McNemar's test still rejects at, -1 where there is none."""
    z = float(ndtri(1 - alpha / 2))
    counts = np.minimum(np.floor(differing / 2 - z * np.sqrt(differing) / 2).astype(np.int64) + 3, differing)
    while True:
        kept = counts >= 0
        tail = np.zeros(counts.size)
        tail[kept] = bdtr(counts[kept].astype(np.float64), differing[kept], 0.5)
        above = kept & (2 * tail > alpha)
        if not above.any():
            return counts
        counts = counts - above


def _sum_squares_by_group(values: FloatArray, codes: IntArray) -> float:
    sums = np.bincount(codes, weights=values - values.mean())
    return float((sums**2).sum())
