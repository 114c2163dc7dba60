"""How much the best of several figures flatters what it was chosen for."""

from __future__ import annotations

import math

from scipy import integrate, stats


def expected_maximum(count: int) -> float:
    """Return the expected largest of so many independent standard normal numbers.

    Args:
        count: n, at least 1.

    Returns:
        The integral of x n phi(x) Phi(x)^(n-1); 0 for one, 0.564 for two, 1.867 for twenty.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; the largest of fewer than 1 number doesn't exist")
    if count == 1:
        return 0.0

    def integrand(x: float) -> float:
        return float(x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1))

    # Numbers beyond 12 standard deviations are rarer than any number of trials.
    return float(integrate.quad(integrand, -12.0, 12.0, limit=200)[0])


def standard_error(share: float, count: int) -> float:
    """Return the standard error of a share of so many independent samples, in (0, 0.5].

    Two right and two wrong answers are added (Agresti and Coull 1998, https://doi.org/10.2307/2685469): the
    plain formula gives 0 where all answers are right, as if nothing could be better by luck.

    Args:
        share: in [0, 1].
        count: N, at least 1.

    >>> round(standard_error(0.8, 400), 4), round(standard_error(1.0, 20), 4)
    (0.02, 0.0564)
    """
    total = count + 4
    smoothed = (share * count + 2) / total
    return math.sqrt(smoothed * (1.0 - smoothed) / total)
