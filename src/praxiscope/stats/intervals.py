"""A figure with its interval, and the score interval of a proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from praxiscope.stats.labels import FloatArray


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its confidence interval, all in the value's own unit.

    ``low`` and ``high`` are NaN where the data can't give an interval.
    """

    value: float
    low: float
    high: float


def subtract_intervals(first: Interval, second: Interval) -> Interval:
    """Return ``second - first`` of two independent figures, from the interval of each.

    By square-and-add (Zou & Donner 2008, Statistics in Medicine 27:1693), of which Newcombe's interval of two
    shares is a case. NaN where either has no interval.

    >>> subtract_intervals(
    ...     Interval(value=0.0, low=-3.0, high=3.0), Interval(value=9.0, low=5.0, high=13.0)
    ... )
    Interval(value=9.0, low=4.0, high=14.0)
    """
    value = second.value - first.value
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Interval(value=value, low=value - below, high=value + above)


def validate_level(level: float) -> float:
    """Return a confidence level after checking that it lies strictly between 0 and 1.

    Raises:
        ValueError: It doesn't.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, for example 0.95")
    return level


def wilson_interval(
    successes: npt.ArrayLike, trials: npt.ArrayLike, *, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Compute Wilson's score interval of a proportion (Wilson 1927), element by element.

    It never leaves [0, 1] and stays honest for few trials: 5 of 5 gives 0.57 to 1.

    Args:
        successes: (...) integers in ``[0, trials]``.
        trials: (...) integers, at least 0.
        level: Confidence level in (0, 1).

    Returns:
        Lower and upper ends, of the broadcast shape, in [0, 1]; NaN where there are no trials.

    Raises:
        ValueError: More successes than trials, negative counts, or a level outside (0, 1).

    >>> low, high = wilson_interval(5, 5)
    >>> round(float(low), 3), round(float(high), 3)
    (0.566, 1.0)
    """
    hits, count = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    if (hits < 0).any() or (hits > count).any():
        raise ValueError("successes must lie between 0 and trials")
    z2 = float(ndtri((1 + validate_level(level)) / 2)) ** 2
    safe = np.where(count > 0, count, np.nan)
    centre = (hits + z2 / 2) / (safe + z2)
    half = math.sqrt(z2) / (safe + z2) * np.sqrt(hits * (safe - hits) / safe + z2 / 4)
    # At 0 and at `trials` successes the end is exact; the formula alone leaves rounding there.
    low = np.where(hits == 0, np.where(count > 0, 0.0, np.nan), centre - half)
    high = np.where(hits == count, np.where(count > 0, 1.0, np.nan), centre + half)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def open_extreme(figure: Interval, num_groups: int, *, level: float) -> Interval:
    """Give a share of exactly 0 or 1, where all resamples agree, Wilson's interval over the groups.

    Args:
        figure: A share in [0, 1] with its bootstrap interval.
        num_groups: Groups that were resampled; of one alone nothing is known, and the figure stays as it is.
        level: Confidence level in (0, 1).
    """
    if figure.value not in {0.0, 1.0} or num_groups < 2:
        return figure
    low, high = wilson_interval(int(figure.value) * num_groups, num_groups, level=level)
    return Interval(value=figure.value, low=float(low), high=float(high))


def percentile_interval(value: float, resampled: npt.NDArray[np.floating], *, level: float) -> Interval:
    """Put the percentile interval of resampled values around a value (Efron 1979).

    Args:
        value: The figure on the data itself.
        resampled: (R,) the figure on each resample; empty gives an interval of NaN.
        level: Confidence level in (0, 1).

    Raises:
        ValueError: A level outside (0, 1).
    """
    tail = (1 - validate_level(level)) / 2
    if not resampled.size:
        return Interval(value=value, low=math.nan, high=math.nan)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high))


def reflect_interval(interval: Interval, *, lowest: float, highest: float) -> Interval:
    """Turn a percentile interval into the basic one, for a figure that resampling pushes to one side.

    The ends are reflected at the value (Davison and Hinkley 1997, section 5.2), cut to the figure's range,
    and widened where needed to hold the value.

    Args:
        interval: From `percentile_interval`.
        lowest: Smallest possible figure.
        highest: Largest possible figure.
    """
    value = interval.value
    low, high = 2 * value - interval.high, 2 * value - interval.low
    if math.isnan(low):
        return interval
    return Interval(value=value, low=max(lowest, min(low, value)), high=min(highest, max(high, value)))
