"""A small classifier that answers where it is sure, and a large one for the rest: temperature and threshold.

The rule, for a threshold t: the large one answers where the small one's calibrated confidence is **below** t.
At ``t = 0`` that is never; at ``t = 1`` it is always, by definition also where the confidence is exactly 1,
and the small one isn't run at all. So both ends are the two classifiers themselves, in accuracy and in cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from praxiscope.stats.bootstrap import Groups, code_groups
from praxiscope.stats.calibration import compute_softmax
from praxiscope.stats.labels import FloatArray, IntArray, validate_logits
from praxiscope.stats.paired import mcnemar_p_values, sign_flip_p_value

COLDEST, HOTTEST = 0.05, 20.0
"""Range in which a temperature is sought. Where every sample is right, colder is better without end."""
MAX_POINTS = 201
"""Points of a curve: thresholds at evenly spaced quantiles of the confidence."""

Flags = npt.NDArray[np.bool_]


def fit_temperature(logits: npt.NDArray[np.floating], targets: npt.ArrayLike) -> float:
    """Find the temperature T that minimises the log loss of ``softmax(logits / T)`` (Guo et al. 2017).

    The loss is convex in 1 / T, so its derivative, the mean of E_p[z] - z_target, has one root.

    Args:
        logits: (N, K) finite, N >= 1.
        targets: (N,) integers in ``[0, K)``.

    Returns:
        T in [``COLDEST``, ``HOTTEST``]; above 1 where the classifier was overconfident.

    Raises:
        ValueError: No samples, shapes that don't fit, non-finite logits, targets outside the range.
    """
    scores, true = validate_logits(logits, targets)
    if not true.size:
        raise ValueError("there must be at least one sample to fit a temperature to")
    wide = scores.astype(np.float64)
    centred = wide - wide[np.arange(true.size), true][:, None]

    def slope(inverse: float) -> float:
        return float((compute_softmax(inverse * wide) * centred).sum(axis=1).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    return 1 / float(brentq(slope, low, high, xtol=1e-12))


def compute_confidence(logits: npt.NDArray[np.floating], temperature: float) -> FloatArray:
    """Return (N,) the probability of the likeliest class under a temperature, in [1 / K, 1].

    Args:
        logits: (N, K) finite.
        temperature: above 0.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return np.asarray(np.minimum(compute_softmax(scaled).max(axis=1), 1.0), dtype=np.float64)


def ask_large(confidence: npt.NDArray[np.floating], threshold: float) -> Flags:
    """Return (N,) true where the large classifier answers.

    >>> ask_large(np.array([0.2, 1.0]), 0.0).tolist(), ask_large(np.array([0.2, 1.0]), 1.0).tolist()
    ([False, False], [True, True])
    """
    if threshold >= 1:
        return np.ones(len(confidence), dtype=np.bool_)
    return np.asarray(confidence < threshold, dtype=np.bool_)


def compute_costs(asked: Flags, threshold: float, cost_small: float, cost_large: float) -> FloatArray:
    """Return (N,) what each sample costs: the small classifier, and the large one where it was asked.

    At ``threshold = 1`` nobody needs the small one's confidence, so it costs nothing.
    """
    first = 0.0 if threshold >= 1 else cost_small
    return np.asarray(first + cost_large * asked, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdCurve:
    """Accuracy and cost of P thresholds, ascending from 0 to 1, on the same N samples."""

    thresholds: FloatArray
    """(P,) in [0, 1]."""
    asked: FloatArray
    """(P,) share of samples that the large classifier answers."""
    accuracy: FloatArray
    """(P,) in [0, 1]."""
    cost: FloatArray
    """(P,) mean of a sample, in the unit of the costs."""

    def __len__(self) -> int:
        return len(self.thresholds)


def choose_thresholds(confidence: npt.NDArray[np.floating], *, max_points: int = MAX_POINTS) -> FloatArray:
    """Return the thresholds worth looking at: 0, midpoints between neighbouring confidences, 1.

    Args:
        confidence: (N,) in [0, 1], N >= 1.
        max_points: P at most; where there are more midpoints, those at evenly spaced quantiles.

    Returns:
        (P,) ascending, without repeats.

    Raises:
        ValueError: No samples.
    """
    ordered = np.sort(np.asarray(confidence, dtype=np.float64))
    if not ordered.size:
        raise ValueError("there must be at least one sample to choose thresholds from")
    middles = ((ordered[1:] + ordered[:-1]) / 2)[np.diff(ordered) > 0]
    if middles.size > max_points - 2:
        middles = middles[np.linspace(0, middles.size - 1, max_points - 2).round().astype(np.int64)]
    return np.unique(np.concatenate([[0.0], middles, [1.0]]))


def compute_curve(
    thresholds: FloatArray,
    confidence: npt.NDArray[np.floating],
    right_small: Flags,
    right_large: Flags,
    *,
    cost_small: float,
    cost_large: float,
) -> ThresholdCurve:
    """Compute accuracy and mean cost at each threshold.

    Args:
        thresholds: (P,) ascending, in [0, 1].
        confidence: (N,) of the small classifier, N >= 1.
        right_small: (N,) where the small one is right.
        right_large: (N,) where the large one is right.
        cost_small: of a sample, at least 0.
        cost_large: in the same unit.
    """
    order = np.argsort(confidence, kind="stable")
    count = len(order)
    gained = np.concatenate([[0], np.cumsum(right_large[order].astype(np.int64) - right_small[order])])
    places = np.searchsorted(np.asarray(confidence)[order], thresholds, side="left")
    places = np.where(thresholds >= 1, count, places)
    asked = places / count
    first = np.where(thresholds >= 1, 0.0, cost_small)
    return ThresholdCurve(
        thresholds=np.asarray(thresholds, dtype=np.float64),
        asked=asked,
        accuracy=(right_small.sum() + gained[places]) / count,
        cost=first + cost_large * asked,
    )


def find_indistinct(
    curve: ThresholdCurve,
    confidence: npt.NDArray[np.floating],
    right_small: Flags,
    right_large: Flags,
    *,
    groups: Groups | None = None,
    alpha: float = 0.05,
) -> Flags:
    """Find the thresholds whose accuracy can't be told from the best one's on these samples.

    By the exact McNemar test; where samples come in groups, by the exact sign-flip test over groups.

    Args:
        curve: Of these samples.
        confidence: (N,)
        right_small: (N,)
        right_large: (N,)
        groups: (N,) as in `code_groups`.
        alpha: Level of the test.

    Returns:
        (P,) true where the p-value is above ``alpha``; the best is among them.
    """
    codes = code_groups(groups, len(confidence))
    best = int(np.argmax(curve.accuracy))

    def judge(threshold: float) -> Flags:
        return np.where(ask_large(confidence, threshold), right_large, right_small)

    right = judge(float(curve.thresholds[best]))
    return np.array(
        [_p_value(right, judge(float(threshold)), codes) > alpha for threshold in curve.thresholds],
        dtype=np.bool_,
    )


def _p_value(first: Flags, second: Flags, codes: IntArray) -> float:
    if codes.max() + 1 == codes.size:
        return float(mcnemar_p_values((first & ~second).sum(), (second & ~first).sum()))
    differences = second.astype(np.int64) - first.astype(np.int64)
    return sign_flip_p_value(np.bincount(codes, weights=differences).astype(np.int64))
