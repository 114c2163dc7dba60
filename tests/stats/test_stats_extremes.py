import re

import numpy as np
import pytest
from scipy import stats

from praxiscope.stats.extremes import (
    count_distribution,
    describe_extremes,
    expect_count,
    tell_extremes,
    tell_supports,
)


def describe(correct, supports, **options):
    found = describe_extremes(correct, supports, **options)
    return found, (() if found is None else tell_extremes(found, supports))


def read_published(shared_data, name):
    text = (shared_data / "peer-results" / "a3_vit_sports" / name).read_text(encoding="utf-8")
    rows = re.findall(r"^(.+?)\s+([\d.]+)%\s+(\d+)$", text, re.MULTILINE)
    supports = np.array([int(count) for *_, count in rows])
    correct = np.rint([float(share) / 100 for _, share, _ in rows] * supports).astype(int)
    return [name for name, *_ in rows], correct, supports


def test_the_distribution_of_a_count_equals_brute_force_and_the_binomial():
    chances = np.random.default_rng(0).random(10)
    outcomes = (np.arange(2**10)[:, None] >> np.arange(10)) & 1
    weights = np.where(outcomes, chances, 1 - chances).prod(axis=1)
    expected = np.bincount(outcomes.sum(axis=1), weights=weights)
    assert count_distribution(chances) == pytest.approx(expected)
    assert count_distribution(np.full(100, 0.07)) == pytest.approx(stats.binom.pmf(np.arange(101), 100, 0.07))


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_range_is_that_of_the_quantiles(level):
    found = expect_count(np.full(100, 0.588**5), level=level)
    ends = stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], 100, 0.588**5)
    assert (found.low, found.high) == tuple(ends.astype(int))
    assert found.mean == pytest.approx(100 * 0.588**5)


def test_expected_numbers_equal_a_simulation_of_classes_of_one_accuracy():
    supports = np.random.default_rng(1).integers(3, 9, 60)
    draws = np.random.default_rng(2).binomial(supports, 0.6, size=(20_000, 60))
    perfect, zero = (draws == supports).sum(axis=1), (draws == 0).sum(axis=1)
    # A table whose overall accuracy is 0.6 to the sample.
    correct = np.zeros(60, int)
    for index in range(round(0.6 * supports.sum())):
        open_classes = np.flatnonzero(correct < supports)
        correct[open_classes[index % open_classes.size]] += 1
    found, _ = describe(correct, supports)
    assert found.accuracy == pytest.approx(0.6, abs=0.003)
    for side, counts in ((found.perfect, perfect), (found.zero, zero)):
        assert side.chance.mean == pytest.approx(counts.mean(), rel=0.05)
        inside = ((counts >= side.chance.low) & (counts <= side.chance.high)).mean()
        assert inside >= 0.94


def test_the_spread_of_accuracies_is_recovered():
    rng = np.random.default_rng(3)
    supports = np.full(400, 20)
    correct = rng.binomial(supports, rng.beta(6, 4, 400))
    found, _ = describe(correct, supports)
    assert found.spread_sd == pytest.approx(np.sqrt(0.24 / 11), rel=0.1)
    chance = stats.betabinom.pmf(20, 20, 6, 4)
    assert found.perfect.spread.mean == pytest.approx(400 * chance, rel=0.35)


def test_classes_of_one_accuracy_show_no_spread_and_no_easy_class():
    supports = np.full(100, 5)
    verdicts = []
    for seed in range(100):
        correct = np.random.default_rng(seed).binomial(supports, 0.588)
        found, sentences = describe(correct, supports)
        verdicts.append("more than chance alone" in sentences[0])
        assert not found.differences.better
        assert not found.differences.worse
    assert sum(verdicts) <= 6


def test_ten_perfect_classes_of_five_samples_are_not_shown_to_be_easier():
    correct = np.concatenate([np.full(10, 5), np.full(66, 3), np.full(22, 2), [1, 1]])
    found, sentences = describe(correct, np.full(100, 5))
    assert len(found.perfect.classes) == 10
    assert sentences[0] == (
        "10 classes at 100 %; with 5 samples each and 58.8 % right overall, chance alone gives "
        f"{100 * found.accuracy**5:.1f} (2 to 12): these classes are not shown to be easier."
    ).replace("58.8", f"{100 * found.accuracy:.1f}")
    assert sentences[1].startswith("No class at 0 %; with 5 samples each")
    assert "whatever its result: 5 samples each are too few" in sentences[2]


def test_a_class_beyond_chance_is_found_by_the_corrected_exact_test():
    correct, supports = np.array([60, 61, 59, 60, 98, 20]), np.full(6, 100)
    found, sentences = describe(correct, supports)
    assert (found.differences.better, found.differences.worse) == ((4,), (5,))
    expected = [stats.binomtest(int(k), 100, found.accuracy).pvalue for k in correct]
    assert found.differences.p_values == pytest.approx(expected)
    assert "beyond chance: 1 class; below it: 1 class (exact binomial tests" in sentences[2]


def test_far_more_perfect_classes_than_a_spread_gives_are_said_to_be():
    correct, supports = np.array([20] * 30 + [8] * 60), np.full(90, 20)
    _, sentences = describe(correct, supports)
    assert "more than chance alone, so classes do differ" in sentences[0]
    assert "more than an ordinary spread between classes gives" in sentences[0]


def test_a_class_of_many_samples_among_the_perfect_ones_is_not_called_unremarkable():
    supports = np.array([5] * 50 + [40])
    correct = np.array([5] * 4 + [3] * 36 + [2] * 10 + [40])
    found, sentences = describe(correct, supports)
    assert found.differences.better == (50,)
    assert len(found.perfect.classes) <= found.perfect.chance.high
    assert sentences[0].endswith(
        "not shown to be easier by the number of such classes; 1 is by its own samples (below)."
    )
    assert "beyond chance: 1 class" in sentences[2]


def test_fewer_than_chance_is_said():
    _, sentences = describe(np.full(200, 4), np.full(200, 5))
    assert sentences[0].endswith("fewer than chance alone gives.")


def test_classes_without_samples_are_left_out():
    with_absent, _ = describe([5, 3, 0], [5, 5, 0])
    without, _ = describe([5, 3], [5, 5])
    assert with_absent.perfect == without.perfect
    assert with_absent.zero.classes == ()
    assert np.isnan(with_absent.differences.p_values[2])


@pytest.mark.parametrize(("correct", "supports"), [([5, 5], [5, 5]), ([0, 0], [5, 5]), ([3], [5]), ([], [])])
def test_nothing_is_extreme_where_all_are_alike(correct, supports):
    assert describe_extremes(np.array(correct, int), np.array(supports, int)) is None


def test_malformed_input_is_refused():
    with pytest.raises(ValueError, match="correct must lie between 0 and supports"):
        describe_extremes([6], [5])
    with pytest.raises(ValueError, match="level is 1"):
        describe_extremes([3, 4], [5, 5], level=1.0)


@pytest.mark.parametrize(
    ("supports", "told"),
    [([5, 5], "5 samples each"), ([1], "1 sample each"), ([3, 7, 12], "3 to 12 samples each (median 7)")],
)
def test_supports_are_told(supports, told):
    assert tell_supports(np.array(supports)) == told


@pytest.mark.shared
def test_what_the_published_perfect_and_zero_classes_are_worth(shared_data):
    names, correct, supports = read_published(shared_data, "results_20250208_114438_test_report.txt")
    found, sentences = describe(correct, supports)
    assert found.accuracy == pytest.approx(0.588)
    # The report's text names ten perfect classes; its table holds fifteen.
    assert len(found.perfect.classes) == 15
    assert [names[index] for index in found.zero.classes] == [
        "frisbee", "gaga", "parallel bar", "trapeze", "ultimate",
    ]  # fmt: skip
    assert (found.perfect.chance.low, found.perfect.chance.high) == (2, 12)
    assert found.perfect.chance.mean == pytest.approx(100 * 0.588**5)
    assert found.zero.chance.mean == pytest.approx(100 * 0.412**5)
    assert "nothing sets those at 100 % apart from the classes next to them" in sentences[0]
    assert not found.differences.better
    assert not found.differences.worse
