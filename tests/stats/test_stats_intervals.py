import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from praxiscope.stats.intervals import Interval, percentile_interval, reflect_interval, wilson_interval

rng = np.random.default_rng(0)
COUNTS = [(int(rng.integers(trials + 1)), int(trials)) for trials in rng.integers(1, 5001, size=100)]
COUNTS += [(0, 1), (1, 1), (0, 5000), (5000, 5000)]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("case", COUNTS)
def test_wilson_equals_statsmodels(case, level):
    successes, trials = case
    ours = wilson_interval(successes, trials, level=level)
    theirs = proportion_confint(successes, trials, alpha=1 - level, method="wilson")
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("case", COUNTS)
def test_wilson_holds_the_share_and_stays_in_range(case):
    successes, trials = case
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


def test_wilson_of_arrays_has_nan_where_there_are_no_trials():
    low, high = wilson_interval([0, 5, 0], [0, 5, 5])
    assert np.isnan([low[0], high[0]]).all()
    assert high[1] == 1.0
    assert low[2] == 0.0


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="between 0 and trials"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95])
def test_a_level_that_is_no_probability_is_refused(level):
    with pytest.raises(ValueError, match=r"for example 0\.95"):
        wilson_interval(1, 2, level=level)


def test_percentile_interval_cuts_equal_tails():
    interval = percentile_interval(0.5, np.linspace(0, 1, 1001), level=0.9)
    assert interval.low == pytest.approx(0.05)
    assert interval.high == pytest.approx(0.95)


def test_reflected_interval_mirrors_the_ends_and_holds_the_value():
    mirrored = reflect_interval(Interval(value=0.5, low=0.45, high=0.7), lowest=0.0, highest=1.0)
    assert (mirrored.low, mirrored.high) == (pytest.approx(0.3), pytest.approx(0.55))
    # All resamples lie above the value: the mirrored interval ends below it and is widened to reach it.
    widened = reflect_interval(Interval(value=0.02, low=0.03, high=0.06), lowest=0.0, highest=1.0)
    assert (widened.low, widened.high) == (0.0, 0.02)


def test_an_unknown_interval_stays_unknown():
    unknown = reflect_interval(Interval(value=0.5, low=math.nan, high=math.nan), lowest=0.0, highest=1.0)
    assert math.isnan(unknown.low)
    assert math.isnan(unknown.high)
