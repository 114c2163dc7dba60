import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from praxiscope.stats.groups import DRAWS, compare_groups, permute_values


def count_by_hand(first, second):
    pooled, size = np.concatenate([first, second]), len(first)
    observed = abs(np.mean(first) - np.mean(second))
    extreme = total = 0
    for chosen in itertools.combinations(range(pooled.size), size):
        inside = np.isin(np.arange(pooled.size), chosen)
        total += 1
        extreme += abs(pooled[inside].mean() - pooled[~inside].mean()) >= observed - 1e-9
    return extreme / total


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 6), (3, 4), (5, 5)])
def test_few_classes_are_dealt_in_all_ways(m, n):
    rng = np.random.default_rng(m * 10 + n)
    first, second = rng.integers(0, 6, m) / 5, rng.integers(0, 6, n) / 5
    p_value, smallest, exact = permute_values(first, second)
    assert exact
    assert p_value == pytest.approx(count_by_hand(first, second))
    assert smallest <= p_value


def test_many_classes_agree_with_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.random(40), rng.random(60) + 0.1
    p_value, smallest, exact = permute_values(first, second, seed=1)
    reference = stats.permutation_test(
        (first, second), lambda a, b, axis: abs(a.mean(axis=axis) - b.mean(axis=axis)),
        vectorized=True, n_resamples=20_000, alternative="greater", rng=2,
    ).pvalue  # fmt: skip
    assert not exact
    assert smallest == pytest.approx(1 / (DRAWS + 1))
    assert p_value == pytest.approx(reference, abs=0.012)
    assert permute_values(first, second, seed=1)[0] == p_value


def test_groups_that_do_not_differ_are_rarely_told_apart():
    alarms = 0
    for seed in range(200):
        recalls = np.random.default_rng(seed).integers(0, 6, 11) / 5
        groups = {"kind": {"a": range(5), "b": range(5, 11)}}
        alarms += compare_groups(groups, recalls)[0].p_holm < 0.05
    assert alarms <= 18


def test_every_two_groups_of_a_column_are_compared_and_corrected_together():
    recalls = np.random.default_rng(4).random(12)
    columns = {
        "kind": {"a": (0, 1, 2, 3), "b": (4, 5, 6, 7), "c": (8, 9, 10, 11)},
        "place": {"in": tuple(range(6)), "out": tuple(range(6, 12))},
    }
    found = compare_groups(columns, recalls)
    assert [{one.first, one.second} for one in found] == [{"a", "b"}, {"a", "c"}, {"b", "c"}, {"in", "out"}]
    expected = multipletests([one.p_value for one in found], method="holm")[1]
    assert [one.p_holm for one in found] == pytest.approx(expected)
    for one in found:
        means = [recalls[list(columns[one.column][name])].mean() for name in (one.first, one.second)]
        assert one.difference == pytest.approx(means[0] - means[1])
        assert one.difference >= 0


def test_classes_without_samples_and_empty_groups_are_left_out():
    recalls = np.array([0.2, 0.4, np.nan, 0.8, np.nan])
    found = compare_groups({"kind": {"a": (0, 1, 2), "b": (3,), "c": (4,)}}, recalls)
    assert len(found) == 1
    assert (found[0].first, found[0].second, found[0].num_classes) == ("b", "a", (1, 2))


def test_a_large_difference_between_many_classes_is_told_apart_and_a_tiny_group_never_is():
    recalls = np.array([0.9, 0.95, 0.85, 0.9, 0.92, 0.3, 0.2, 0.35, 0.4, 0.3])
    apart = compare_groups({"kind": {"a": range(5), "b": range(5, 10)}}, recalls)[0]
    assert apart.p_value == pytest.approx(2 / 252)
    tiny = compare_groups({"kind": {"a": (0,), "b": (5, 6)}}, recalls)[0]
    assert tiny.p_value == tiny.smallest_p == pytest.approx(1 / 3)
