"""Exact binomial tests of many proportions at once, and Holm's correction for testing many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlog1py, xlogy

from praxiscope.stats.labels import FloatArray, IntArray

ROUNDING = 1 + 1e-7
"""Outcomes whose probability equals the observed one's but for rounding count as equally likely."""


def binomial_p_values(successes: npt.ArrayLike, trials: npt.ArrayLike, accuracy: float) -> FloatArray:
    """Compute the two-sided exact binomial test of each proportion against one accuracy.

    The p-value is the probability of all outcomes that are no more likely than the observed one (the "method
    of small p-values", as in R's ``binom.test`` and scipy's ``binomtest``).

    Args:
        successes: (K,) integers in ``[0, trials]``.
        trials: (K,) integers, at least 0.
        accuracy: Probability of a success under the null hypothesis, in [0, 1].

    Returns:
        (K,) p-values in [0, 1]; 1 where there are no trials.

    Raises:
        ValueError: More successes than trials, negative counts, an accuracy outside [0, 1].

    >>> round(float(binomial_p_values([5], [5], 0.588)[0]), 4)
    0.0822
    """
    hits, counts = _pair_counts(successes, trials)
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy is {accuracy}; it must lie in [0, 1]")
    p_values = np.ones(counts.size)
    for count in np.unique(counts):
        pmf = _binomial_pmf(int(count), accuracy)
        at = counts == count
        # Sorted once, so that a thousand classes of one size cost one pass.
        order = np.sort(pmf)
        below = np.searchsorted(order, pmf[hits[at]] * ROUNDING, side="right")
        p_values[at] = np.concatenate([[0.0], np.cumsum(order)])[below]
    return np.minimum(p_values, 1.0)


def smallest_p_values(trials: npt.ArrayLike, accuracy: float) -> FloatArray:
    """Return the smallest p-value that `binomial_p_values` could give with so many trials.

    Args:
        trials: (K,) integers, at least 0.
        accuracy: As there.

    Returns:
        (K,) p-values in [0, 1].
    """
    counts = np.atleast_1d(np.asarray(trials, dtype=np.int64))
    # The distribution has one peak, so its least likely outcome is one of the two ends.
    return np.minimum(
        binomial_p_values(np.zeros_like(counts), counts, accuracy),
        binomial_p_values(counts, counts, accuracy),
    )


def adjust_holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values for having tested many hypotheses, after Holm (1979).

    With all that fall below 0.05 called different, the chance of one false call or more is at most 5 %.

    Args:
        p_values: (M,) in [0, 1].

    Returns:
        (M,) adjusted p-values in their order.

    Raises:
        ValueError: A p-value outside [0, 1].

    >>> adjust_holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1 or not ((raw >= 0) & (raw <= 1)).all():
        raise ValueError(f"p_values must be a list of numbers in [0, 1], got {raw.tolist()}")
    order = np.argsort(raw, kind="stable")
    scaled = raw[order] * np.arange(raw.size, 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if raw.size else scaled
    return adjusted


def _pair_counts(successes: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    hits = np.atleast_1d(np.asarray(successes, dtype=np.int64))
    counts = np.atleast_1d(np.asarray(trials, dtype=np.int64))
    if hits.shape != counts.shape or (hits < 0).any() or (hits > counts).any():
        raise ValueError("successes and trials must pair up, and successes must lie between 0 and trials")
    return hits, counts


def _binomial_pmf(trials: int, accuracy: float) -> FloatArray:
    k = np.arange(trials + 1)
    choose = gammaln(trials + 1) - gammaln(k + 1) - gammaln(trials - k + 1)
    pmf: FloatArray = np.exp(choose + xlogy(k, accuracy) + xlog1py(trials - k, -accuracy))
    return pmf
