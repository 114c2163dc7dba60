"""Quantiles of times with intervals that assume no distribution, from order statistics."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from praxiscope.stats.intervals import Interval, validate_level


def quantile_interval(values: npt.ArrayLike, quantile: float, *, level: float = 0.95) -> Interval:
    """Estimate a quantile with the interval between two order statistics (David and Nagaraja 2003, 7.1).

    The number of values below the true quantile is binomial whatever the distribution, so the chance that
    two order statistics hold the quantile between them is known exactly. The interval is the shortest whose
    error on each side is at most ``(1 - level) / 2``; it holds for independent values.

    Args:
        values: (N,) finite numbers, N at least 1.
        quantile: In (0, 1); 0.5 is the median.
        level: Confidence level in (0, 1).

    Returns:
        The quantile (linear between neighbours) and its interval. An end is NaN where N values are too few
        to give it: see `smallest_sample`.

    Raises:
        ValueError: No values, values that aren't finite, or a quantile or level outside (0, 1).

    >>> quantile_interval([5.0, 1.0, 4.0, 2.0, 3.0, 6.0], 0.5)
    Interval(value=3.5, low=1.0, high=6.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if not ordered.size or not np.isfinite(ordered).all():
        raise ValueError("a quantile needs at least one value, and finite ones")
    tail = (1 - validate_level(level)) / 2
    below = bdtr(np.arange(ordered.size + 1), ordered.size, _validate_quantile(quantile))
    # P(B <= k - 1) is the chance that the k-th smallest lies above the quantile.
    low = int(np.searchsorted(below, tail, side="right"))
    # P(B >= k) = 1 - P(B <= k - 1) is the chance that the k-th smallest lies below it.
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return Interval(
        value=float(np.quantile(ordered, quantile)),
        low=float(ordered[low - 1]) if low >= 1 else math.nan,
        high=float(ordered[high - 1]) if high <= ordered.size else math.nan,
    )


def smallest_sample(quantile: float, *, level: float = 0.95) -> int:
    """Return how many values `quantile_interval` needs to give both ends.

    >>> smallest_sample(0.5), smallest_sample(0.9), smallest_sample(0.99)
    (6, 36, 368)
    """
    tail = (1 - validate_level(level)) / 2
    rarer = max(_validate_quantile(quantile), 1 - quantile)
    return math.ceil(math.log(tail) / math.log(rarer))


def _validate_quantile(quantile: float) -> float:
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}; it must lie between 0 and 1, for example 0.5")
    return quantile
