"""From where a noisy curve rises, if it does: a test for the rise, and a broken line for its beginning.

A rise that is there
    The curve, smoothed by a running median of `SMOOTHING` values, has its minimum somewhere; what counts is
    what follows the minimum. The values after it rise when (1) their least-squares line climbs with a t
    statistic above `CLIMB` and the later half of them lies above the minimum by more than `ABOVE` standard
    errors, or lies above it by more than `FAR_ABOVE` alone (a rise that has levelled off), and (2) the median
    of the last `LASTING` values is above the minimum by more than `NOISE_FACTOR` times the noise and by more
    than a smallest rise worth a word. The minimum itself is no part of the line: among noisy values the
    smallest is small by chance, and every flat curve would seem to rise from it.
Noise
    The larger of two estimates of its standard deviation: the median absolute second difference, to which a
    trend adds nothing, and the scatter about the line, which sees noise that lasts for several epochs.
Where it began
    The corner of the line that is flat, then climbs, and fits best (least squares) from where the curve first
    came close to its minimum; the rise begins with the first smoothed value above the minimum after it.
"""

from __future__ import annotations

import math
from statistics import median

import numpy as np

from praxiscope.stats.labels import FloatArray

SMOOTHING = 3
LASTING = 3
CLIMB = 3.5
ABOVE = 2.5
FAR_ABOVE = 6.0
NOISE_FACTOR = 1.5
NEAR = 2.0
"""The valley around the minimum reaches up by so many times the noise."""
MIN_VALUES = 5


def smooth_curve(values: FloatArray) -> FloatArray:
    """Take the running median of `SMOOTHING` values; the window shrinks at both ends.

    Args:
        values: (E,) finite.
    """
    reach = SMOOTHING // 2
    plain = values.tolist()
    return np.array([median(plain[max(0, at - reach) : at + reach + 1]) for at in range(len(plain))])


def estimate_noise(values: FloatArray) -> float:
    """Estimate the standard deviation of the noise around a smooth curve.

    Args:
        values: (E,) finite, E >= 3.
    """
    second_differences = np.diff(values, n=2)
    # Independent noise of variance s^2 has second differences of variance 6 s^2; 0.6745 is the normal's
    # quartile.
    return float(np.median(np.abs(second_differences))) / (0.6745 * math.sqrt(6))


def find_rise(values: FloatArray, *, smallest: float) -> int | None:
    """Find the first value of a lasting rise, by the module's rule.

    Args:
        values: (E,) finite, in order.
        smallest: A rise by less isn't worth a word, in the values' unit.

    Returns:
        Index of the first value that belongs to the rise; None when there is no rise, or fewer than
        `MIN_VALUES` values.
    """
    if values.size < MIN_VALUES:
        return None
    smoothed = smooth_curve(values)
    lowest = int(np.argmin(smoothed))
    floor, after = float(smoothed[lowest]), values[lowest + 1 :]
    if after.size < LASTING:
        return None
    noise = _measure_noise(values, after)
    end = median(after[-LASTING:].tolist())
    if not _climbs(after, floor, noise) or end <= floor + max(smallest, NOISE_FACTOR * noise):
        return None
    valley = np.flatnonzero(smoothed <= floor + max(2 * smallest, NEAR * noise))
    corner = _find_corner(values, int(valley[0]))
    # The rise ends above the floor, so there is a value above it.
    return None if corner is None else corner + int(np.argmax(smoothed[corner:] > floor))


def _measure_noise(values: FloatArray, after: FloatArray) -> float:
    noise = estimate_noise(values)
    if after.size < MIN_VALUES:
        return noise
    slope, places = _fit_slope(after)
    scatter = float(((after - after.mean() - slope * places) ** 2).sum())
    return max(noise, math.sqrt(scatter / (after.size - 2)))


def _climbs(after: FloatArray, floor: float, noise: float) -> bool:
    late = after[-max(LASTING, after.size // 2) :]
    slope, places = _fit_slope(after)
    if noise == 0:
        return slope > 0 or float(late.mean()) > floor
    climb = slope * math.sqrt(float((places**2).sum())) / noise
    # The minimum is a median of two or three values, hence the half.
    above = (float(late.mean()) - floor) / (noise * math.sqrt(1 / late.size + 1 / 2))
    return (climb > CLIMB and above > ABOVE) or above > FAR_ABOVE


def _fit_slope(values: FloatArray) -> tuple[float, FloatArray]:
    places = np.arange(values.size) - (values.size - 1) / 2
    return float((places * values).sum() / (places**2).sum()), places.astype(np.float64)


def _find_corner(values: FloatArray, start: int) -> int | None:
    """Return the first index after the corner of the best line that is flat, then climbs, from ``start``."""
    part = values[start:] - values[start:].mean()
    places = np.arange(part.size, dtype=np.float64)
    best, corner = math.inf, None
    for flat_until in range(part.size - 2):
        climb = np.maximum(0.0, places - flat_until)
        climb -= climb.mean()
        slope = float(climb @ part) / float(climb @ climb)
        rest = float(((part - slope * climb) ** 2).sum())
        if slope > 0 and rest < best:
            best, corner = rest, start + flat_until + 1
    return corner
