"""Which test decides, and what it says: one place for all of a comparison's paired differences.

A difference is second minus first. What is counted is an event of each sample (answered right; given a
certain wrong label), under each seed of either contestant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from praxiscope.stats.intervals import Interval, wilson_interval
from praxiscope.stats.labels import IntArray
from praxiscope.stats.paired import (
    ALPHA,
    POWER,
    compare_replicates,
    design_effect,
    mcnemar_p_values,
    paired_interval,
    sign_flip_p_value,
    smallest_difference,
    smallest_sign_flip_p,
    student_quantile,
)

Events = npt.NDArray[np.bool_]
Method = Literal["mcnemar", "sign-flip", "replicates"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A paired difference of two shares."""

    difference: Interval
    p_value: float
    only_first: float
    """Samples with the event under the first alone; the mean over pairs of seeds."""
    only_second: float


def choose_method(num_seeds: tuple[int, int], codes: IntArray) -> Method:
    """Return the test that decides.

    Args:
        num_seeds: Seeds of the first and of the second.
        codes: (N,) group numbers of the samples.
    """
    if max(num_seeds) > 1:
        return "replicates"
    return "mcnemar" if np.unique(codes).size == codes.size else "sign-flip"


def weigh(first: Events, second: Events, codes: IntArray, *, level: float) -> Evidence:
    """Estimate and test a difference of shares.

    Args:
        first: (A, N) whether the event holds, under each of the first's seeds.
        second: (B, N) the same for the second.
        codes: (N,) group numbers of the samples.
        level: Confidence level of the interval.
    """
    only_first, only_second = _count_alone(first, second)
    method = choose_method((len(first), len(second)), codes)
    size = codes.size
    if not size:
        nothing = Interval(value=math.nan, low=math.nan, high=math.nan)
        return Evidence(difference=nothing, p_value=1.0, only_first=0.0, only_second=0.0)
    if method == "replicates":
        found = compare_replicates(first, second, codes)
        half = found.standard_error * student_quantile(found.degrees_of_freedom, (1 + level) / 2)
        value = found.difference
        interval = Interval(value=value, low=max(-1.0, value - half), high=min(1.0, value + half))
        return Evidence(
            difference=interval, p_value=found.p_value, only_first=only_first, only_second=only_second
        )
    change = second[0].astype(np.int64) - first[0]
    shrink = design_effect(change, codes) if method == "sign-flip" else 1.0
    low, high = paired_interval(only_first / shrink, only_second / shrink, size / shrink, level=level)
    if method == "mcnemar":
        p_value = float(mcnemar_p_values(only_first, only_second))
    else:
        p_value = sign_flip_p_value(np.bincount(codes, weights=change).round().astype(np.int64))
    value = float(change.mean())
    known = np.unique(codes).size > 1
    return Evidence(
        difference=Interval(
            value=value,
            low=min(float(low), value) if known else math.nan,
            high=max(float(high), value) if known else math.nan,
        ),
        p_value=p_value,
        only_first=only_first,
        only_second=only_second,
    )


def find_smallest_difference(first: Events, second: Events, codes: IntArray) -> tuple[float, float]:
    """Return the smallest difference that the deciding test could tell, and the discordance.

    With 80 % power at 5 %, from the observed discordance. In groups n is divided by the design effect; over
    seeds it follows from the standard error.

    Args:
        first: (A, N) as in `weigh`.
        second: (B, N)
        codes: (N,)

    Returns:
        A fraction, NaN where no difference could be told; the share of samples that only one has right.
    """
    only_first, only_second = _count_alone(first, second)
    discordance = (only_first + only_second) / codes.size
    method = choose_method((len(first), len(second)), codes)
    if method == "replicates":
        found = compare_replicates(first, second, codes)
        quantiles = [student_quantile(found.degrees_of_freedom, share) for share in (1 - ALPHA / 2, POWER)]
        return min(1.0, found.standard_error * sum(quantiles)), discordance
    shrink = design_effect(second[0].astype(np.int64) - first[0], codes) if method == "sign-flip" else 1.0
    if smallest_sign_flip_p(np.unique(codes).size) > ALPHA:
        return math.nan, discordance
    return smallest_difference(codes.size / shrink, discordance), discordance


def estimate_share(events: npt.NDArray[np.bool_], codes: IntArray, *, level: float) -> Interval:
    """Return a share with Wilson's interval over the effective number of samples.

    Args:
        events: (N,) of one model.
        codes: (N,) group numbers.
        level: Confidence level.
    """
    if not events.size or np.unique(codes).size < 2:
        value = float(events.mean()) if events.size else math.nan
        return Interval(value=value, low=math.nan, high=math.nan)
    shrink = design_effect(events, codes)
    low, high = wilson_interval(events.sum() / shrink, events.size / shrink, level=level)
    return Interval(value=float(events.mean()), low=float(low), high=float(high))


def _count_alone(first: Events, second: Events) -> tuple[float, float]:
    """Count samples with the event under one alone, the mean over pairs of seeds."""
    if not first.shape[1]:
        return 0.0, 0.0
    # Over pairs of seeds, mean(a (1 - b)) is mean(a) - mean(a) mean(b) for each sample.
    before, after = first.mean(axis=0), second.mean(axis=0)
    both = before * after
    return float((before - both).sum()), float((after - both).sum())
