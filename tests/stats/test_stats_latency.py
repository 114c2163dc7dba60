"""Distribution-free intervals of quantiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, quantile_test

from praxiscope.stats.latency import quantile_interval, smallest_sample


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("size", [6, 36, 100, 368, 1000])
def test_intervals_equal_scipys_quantile_test(size, quantile):
    values = np.random.default_rng(size).gamma(2.0, size=size)
    found = quantile_interval(values, quantile)
    expected = quantile_test(values, p=quantile).confidence_interval(confidence_level=0.95)
    assert found.value == pytest.approx(np.quantile(values, quantile))
    for end, reference in ((found.low, expected.low), (found.high, expected.high)):
        assert end == reference or (math.isnan(end) and math.isnan(reference))


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_intervals_hold_the_true_quantile_as_often_as_they_say(quantile):
    rng = np.random.default_rng(0)
    truth = -math.log(1 - quantile)
    hits = 0
    for _ in range(2000):
        found = quantile_interval(rng.exponential(size=80), quantile)
        hits += found.low <= truth <= found.high
    # Order statistics are discrete, so the coverage is at least what is asked for, and not far above.
    assert 0.94 <= hits / 2000 <= 0.99


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 6), (0.9, 36), (0.99, 368)])
def test_too_few_values_give_no_end(quantile, needed):
    assert smallest_sample(quantile) == needed
    assert not math.isnan(quantile_interval(np.arange(float(needed)), quantile).high)
    assert math.isnan(quantile_interval(np.arange(float(needed - 1)), quantile).high)
    assert binom.cdf(needed - 1, needed, quantile) >= 0.975


def test_no_values_and_impossible_quantiles_are_refused():
    with pytest.raises(ValueError, match="at least one value"):
        quantile_interval([], 0.5)
    with pytest.raises(ValueError, match="finite"):
        quantile_interval([1.0, math.inf], 0.5)
    with pytest.raises(ValueError, match="quantile is 1"):
        quantile_interval([1.0], 1)
    with pytest.raises(ValueError, match="level is 2"):
        quantile_interval([1.0], 0.5, level=2)
