import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from praxiscope.stats.significance import adjust_holm, binomial_p_values, smallest_p_values


@pytest.mark.parametrize("accuracy", [0.01, 0.3, 0.588, 0.97])
@pytest.mark.parametrize("trials", [1, 5, 20, 126])
def test_binomial_tests_equal_scipy(trials, accuracy):
    hits = np.arange(trials + 1)
    found = binomial_p_values(hits, np.full(trials + 1, trials), accuracy)
    expected = [stats.binomtest(int(k), trials, accuracy).pvalue for k in hits]
    assert found == pytest.approx(expected)


def test_classes_of_several_sizes_are_tested_at_once():
    found = binomial_p_values([5, 0, 3, 0], [5, 20, 7, 0], 0.4)
    expected = [stats.binomtest(k, n, 0.4).pvalue for k, n in ((5, 5), (0, 20), (3, 7))]
    assert found == pytest.approx([*expected, 1.0])


def test_the_smallest_p_value_is_that_of_the_rarer_end():
    found = smallest_p_values([5, 20], 0.588)
    best = [min(stats.binomtest(k, n, 0.588).pvalue for k in range(n + 1)) for n in (5, 20)]
    assert found == pytest.approx(best)


@pytest.mark.parametrize("count", [0, 1, 2, 37])
def test_holm_equals_statsmodels(count):
    p_values = np.random.default_rng(count).random(count) ** 3
    expected = multipletests(p_values, method="holm")[1] if count else []
    assert adjust_holm(p_values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adjust_holm([0.2, 1.2]), "p_values must be a list of numbers in"),
        (lambda: binomial_p_values([6], [5], 0.5), "successes must lie between 0 and trials"),
        (lambda: binomial_p_values([1, 2], [5], 0.5), "must pair up"),
        (lambda: binomial_p_values([1], [5], 1.5), r"accuracy is 1.5; it must lie in \[0, 1\]"),
    ],
)
def test_malformed_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
