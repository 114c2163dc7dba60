"""Paired statistics against scipy, statsmodels, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, top_k_accuracy_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from praxiscope.stats.bootstrap import bootstrap_cells, bootstrap_scores, draw_counts
from praxiscope.stats.calibration import compute_calibration, compute_sample_losses, compute_softmax
from praxiscope.stats.confusion import compute_confusion, compute_scores
from praxiscope.stats.groups import DRAWS, permute_values
from praxiscope.stats.paired import (
    compare_replicates,
    design_effect,
    mcnemar_p_values,
    mcnemar_power,
    paired_interval,
    sign_flip_p_value,
    smallest_difference,
    smallest_sign_flip_p,
)
from praxiscope.stats.paired_bootstrap import Answers, bootstrap_contestants
from praxiscope.stats.proportions import fisher_p_values, newcombe_interval, smallest_unpaired_difference
from praxiscope.stats.significance import adjust_holm
from praxiscope.stats.topk import compute_topk

# ------------------------------------------------------------------------------ exact tests


def test_mcnemar_equals_scipy_and_statsmodels():
    pairs = [(b, c) for b in range(0, 30, 3) for c in range(0, 40, 3)] + [(275, 100), (1200, 1310)]
    ours = mcnemar_p_values(*np.array(pairs).T)
    for (b, c), p_value in zip(pairs, ours, strict=True):
        if b + c:
            assert p_value == pytest.approx(binomtest(b, b + c, 0.5).pvalue, abs=1e-12, rel=1e-9)
        assert p_value == pytest.approx(mcnemar([[5, b], [c, 9]], exact=True).pvalue, abs=1e-12, rel=1e-9)


def test_mcnemar_without_discordance_is_one_and_negative_counts_are_refused():
    assert mcnemar_p_values(0, 0) == 1.0
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar_p_values(-1, 2)


def brute_sign_flip(differences):
    held = [d for d in differences if d]
    total = abs(sum(held))
    sums = [
        abs(sum(s * d for s, d in zip(signs, held, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(held))
    ]
    return np.mean([value >= total for value in sums])


def test_sign_flip_equals_counting_all_signs():
    rng = np.random.default_rng(0)
    for _ in range(60):
        differences = rng.integers(-4, 5, rng.integers(1, 11))
        assert sign_flip_p_value(differences) == pytest.approx(brute_sign_flip(differences), abs=1e-12)


def test_sign_flip_of_single_samples_is_mcnemar():
    differences = [1] * 14 + [-1] * 3 + [0] * 100
    assert sign_flip_p_value(differences) == pytest.approx(float(mcnemar_p_values(3, 14)), rel=1e-12)
    # One group of another size sends it through the convolution.
    mixed = [1] * 9 + [-1] * 2 + [2]
    assert sign_flip_p_value(mixed) == pytest.approx(brute_sign_flip(mixed), abs=1e-12)


def test_sign_flip_of_many_groups_is_close_to_normal_and_never_negative():
    rng = np.random.default_rng(1)
    differences = rng.choice([-3, -2, -1, 1, 2, 3], 60_000)
    z = abs(differences.sum()) / math.sqrt((differences**2).sum())
    assert sign_flip_p_value(differences) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.01)
    assert sign_flip_p_value([0, 0]) == 1.0


def test_smallest_sign_flip_p_is_reached():
    assert sign_flip_p_value([1, 2, 3, 1]) == smallest_sign_flip_p(4) == 0.125


def test_holm_equals_statsmodels():
    rng = np.random.default_rng(2)
    for _ in range(12):  # statsmodels takes a tenth of a second each
        raw = rng.random(rng.integers(1, 40)) ** 3
        assert adjust_holm(raw) == pytest.approx(multipletests(raw, method="holm")[1], abs=1e-12)


def test_fisher_equals_scipy():
    rng = np.random.default_rng(3)
    for _ in range(150):
        n, m = rng.integers(1, 200, 2)
        a, b = rng.integers(0, n + 1), rng.integers(0, m + 1)
        theirs = fisher_exact([[a, n - a], [b, m - b]])[1]
        assert fisher_p_values((a, n), (b, m))[0] == pytest.approx(theirs, rel=1e-6, abs=1e-12)
    with pytest.raises(ValueError, match="between 0 and trials"):
        fisher_p_values((5, 4), (1, 2))


def test_newcombe_equals_statsmodels():
    for a, n, b, m in ((56, 70, 48, 80), (9, 10, 3, 10), (0, 10, 0, 20), (126, 126, 120, 126)):
        theirs = confint_proportions_2indep(b, m, a, n, compare="diff", method="newcomb")
        low, high = newcombe_interval((a, n), (b, m))
        assert (float(low), float(high)) == pytest.approx(theirs, abs=1e-9)
    assert np.isnan(newcombe_interval((0, 0), (1, 2))[0])


# ------------------------------------------------------------------------------ intervals, power


def test_paired_interval_has_the_published_form_and_a_width_without_discordance():
    # Bonett and Price 2012, equation 3, by hand: n = 30, b = 8, c = 2.
    wins, loses = 9 / 32, 3 / 32
    half = 1.959963984540054 * math.sqrt((wins + loses - (wins - loses) ** 2) / 32)
    low, high = paired_interval(2, 8, 30)
    assert (float(low), float(high)) == pytest.approx((wins - loses - half, wins - loses + half))
    low, high = paired_interval(0, 0, 50)
    assert low < 0 < high
    assert np.isnan(paired_interval(0, 0, 0)[0])


def simulate_answers(rng, *, n, discordance, difference, size):
    """Draw counts of samples that only the first, and only the second, has right."""
    wins = (discordance + difference) / 2
    drawn = rng.multinomial(n, [discordance - wins, wins, 1 - discordance], size=size)
    return drawn[:, 0], drawn[:, 1]


def test_paired_interval_covers():
    only_first, only_second = simulate_answers(
        np.random.default_rng(4), n=126, discordance=0.2, difference=0.05, size=20_000
    )
    low, high = paired_interval(only_first, only_second, 126)
    assert 0.94 <= ((low <= 0.05) & (high >= 0.05)).mean() <= 0.97


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.3), (500, 0.05), (1890, 0.2)])
def test_the_smallest_difference_is_found_in_80_percent_of_experiments(n, discordance):
    smallest = smallest_difference(n, discordance)
    only_first, only_second = simulate_answers(
        np.random.default_rng(5),
        n=n,
        discordance=max(discordance, smallest),
        difference=smallest,
        size=20_000,
    )
    found = (mcnemar_p_values(only_first, only_second) <= 0.05) & (only_second > only_first)
    assert found.mean() == pytest.approx(0.8, abs=0.015)
    assert mcnemar_power(n, smallest, max(discordance, smallest)) >= 0.8


def test_more_samples_tell_smaller_differences_and_too_few_tell_none():
    assert smallest_difference(4000, 0.2) < smallest_difference(1000, 0.2)
    assert np.isnan(smallest_difference(4, 0.5))
    assert np.isnan(smallest_difference(0.5, 0.5))
    # Without discordance the smallest is one where all discordance is the difference.
    assert 0 < smallest_difference(200, 0.0) < 0.1
    with pytest.raises(ValueError, match=r"discordance is 1\.2"):
        smallest_difference(10, 1.2)
    with pytest.raises(ValueError, match="level"):
        smallest_difference(10, 0.2, power=1.5)


def test_the_smallest_unpaired_difference_is_larger_than_the_paired_one():
    unpaired = smallest_unpaired_difference((1475, 1890), (1604, 1890))
    # The continuity correction adds 1 / n.
    plain = 2.8016 * math.sqrt(0.8146 * 0.1854 * 2 / 1890)
    assert unpaired == pytest.approx(plain + 1 / 1890, rel=2e-3)
    assert unpaired > smallest_difference(1890, 0.2)


def test_the_smallest_unpaired_difference_is_found_in_80_percent_of_experiments():
    rng = np.random.default_rng(11)
    for trials, share in ((60, 0.75), (1000, 0.9)):
        gap = smallest_unpaired_difference((round(share * trials), trials), (round(share * trials), trials))
        hits = [rng.binomial(trials, share + side * gap / 2, 1500) for side in (-1, 1)]
        found = fisher_p_values((hits[0], trials), (hits[1], trials)) < 0.05
        assert found.mean() == pytest.approx(0.8, abs=0.035)
    # Not 0 where all answers are right, never above 1, and none where so few could tell nothing.
    assert 0.2 < smallest_unpaired_difference((20, 20), (20, 20)) < 0.6
    assert smallest_unpaired_difference((2, 4), (2, 4)) <= 1
    assert np.isnan(smallest_unpaired_difference((1, 1), (0, 1)))


def test_the_design_effect_of_copies_is_their_number():
    values = np.repeat(np.random.default_rng(6).integers(0, 2, 400), 5)
    codes = np.repeat(np.arange(400), 5)
    assert design_effect(values, codes) == pytest.approx(5.0, rel=1e-9)
    assert design_effect(values, np.arange(2000)) == 1.0
    assert design_effect(np.zeros(10), np.zeros(10, np.int64)) == 1.0


# ------------------------------------------------------------------------------ seeds


def test_replicates_without_seeds_are_the_paired_t_test():
    rng = np.random.default_rng(7)
    first, second = rng.random((1, 200)) < 0.7, rng.random((1, 200)) < 0.75
    found = compare_replicates(first, second, np.arange(200))
    change = second[0].astype(float) - first[0]
    assert found.standard_error == pytest.approx(change.std(ddof=1) / math.sqrt(200), rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(199)
    same = compare_replicates(first, first, np.arange(200))
    assert (same.difference, same.p_value) == (0.0, 1.0)


def test_false_verdicts_of_recipes_that_are_equal_are_five_percent_at_most():
    rng, false = np.random.default_rng(8), 0
    for _ in range(600):
        ease, shifts = rng.normal(0, 1, 400), rng.normal(0, 0.03, 6)
        chance = np.clip(0.8 + 0.15 * ease[None, :] + shifts[:, None], 0, 1)
        right = rng.random((6, 400)) < chance
        false += compare_replicates(right[:3], right[3:], np.arange(400)).p_value < 0.05
    # Four standard deviations of a binomial (600, 0.05) above its mean.
    assert false <= 30 + 4 * math.sqrt(600 * 0.05 * 0.95)


# ------------------------------------------------------------------------------ bootstrap


def make_answers(rng, n, k, skills):
    targets = rng.integers(k, size=n)
    noise = rng.normal(0, 1, (n, k))
    answers = []
    for skill in skills:
        logits = noise + rng.normal(0, 1, (n, k))
        logits[np.arange(n), targets] += skill
        ranks = (logits > logits[np.arange(n), targets][:, None]).sum(axis=1)
        answers.append(
            Answers(
                preds=logits.argmax(axis=1),
                in_top5=ranks < 5,
                losses=compute_sample_losses(logits, targets),
            )
        )
    return targets, answers


def test_scores_equal_scikit_learn_and_resampled_differences_a_plain_loop():
    rng = np.random.default_rng(9)
    targets, (a, b) = make_answers(rng, 300, 6, (2.0, 2.6))
    groups = rng.integers(40, size=300)
    first, second = bootstrap_contestants(targets, [[a], [b]], 6, groups=groups, resamples=4000, seed=1)
    assert first.value("top1") == pytest.approx(accuracy_score(targets, a.preds), abs=1e-12)
    assert first.value("macro_f1") == pytest.approx(f1_score(targets, a.preds, average="macro"), abs=1e-12)
    assert second.value("weighted_f1") == pytest.approx(
        f1_score(targets, b.preds, average="weighted"), abs=1e-12
    )
    assert second.value("balanced_acc") == pytest.approx(balanced_accuracy_score(targets, b.preds), abs=1e-12)
    assert first.value("nll") == pytest.approx(a.losses.nll.mean(), abs=1e-12)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    loop = {"top1": [], "macro_f1": [], "nll": []}
    for _ in range(1500):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        loop["top1"].append((b.preds == targets)[rows].mean() - (a.preds == targets)[rows].mean())
        loop["macro_f1"].append(
            f1_score(targets[rows], b.preds[rows], average="macro")
            - f1_score(targets[rows], a.preds[rows], average="macro")
        ) if len(loop["macro_f1"]) < 300 else None
        loop["nll"].append((b.losses.nll - a.losses.nll)[rows].mean())
    for name, values in loop.items():
        ours, error = second.drawn[name] - first.drawn[name], np.std(values)
        assert ours.mean() == pytest.approx(np.mean(values), abs=4 * error / math.sqrt(len(values)))
        assert ours.std() == pytest.approx(error, rel=0.2)


def test_without_groups_kinds_of_samples_give_the_distribution_of_samples():
    rng = np.random.default_rng(10)
    targets, (a, b) = make_answers(rng, 2000, 3, (1.0, 1.3))
    plain = [Answers(preds=one.preds) for one in (a, b)]
    alone = bootstrap_contestants(targets, [[plain[0]], [plain[1]]], 3, resamples=6000, seed=2)
    change = alone[1].drawn["top1"] - alone[0].drawn["top1"]
    exact = ((b.preds == targets).astype(float) - (a.preds == targets)).std() / math.sqrt(2000)
    assert change.std() == pytest.approx(exact, rel=0.05)
    assert set(alone[0].by_seed) == {"top1", "macro_f1", "weighted_f1", "balanced_acc"}


def test_counts_are_drawn_as_a_multinomial():
    counts = np.array([1, 3, 8, 40, 200])
    drawn = np.concatenate(list(draw_counts(counts, resamples=40_000, seed=3)))
    assert (drawn.sum(axis=1) == 252).all()
    shares = counts / 252
    assert drawn.mean(axis=0) == pytest.approx(counts, abs=0.2)
    expected = 252 * (np.diag(shares) - np.outer(shares, shares))
    assert np.cov(drawn.T) == pytest.approx(expected, abs=1.2)
    assert np.concatenate(list(draw_counts(np.array([50, 60]), resamples=5, seed=0))).sum() == 550


def test_drawn_confusions_give_the_intervals_of_drawn_samples():
    rng = np.random.default_rng(11)
    targets = rng.integers(8, size=900)
    preds = np.where(rng.random(900) < 0.7, targets, rng.integers(8, size=900))
    drawn = bootstrap_cells(compute_confusion(targets, preds, 8), resamples=8000, seed=0)
    interval = bootstrap_scores(targets, preds, 8, resamples=8000, seed=5)["macro_f1"]
    assert np.quantile(drawn["macro_f1"], [0.025, 0.975]) == pytest.approx(
        [interval.low, interval.high], abs=0.003
    )


def test_seeds_add_their_spread_without_bias():
    rng = np.random.default_rng(12)
    targets = rng.integers(4, size=20_000)
    accuracies = (0.70, 0.74, 0.78)
    seeds = [
        Answers(preds=np.where(rng.random(20_000) < share, targets, (targets + 1) % 4))
        for share in accuracies
    ]
    found = bootstrap_contestants(targets, [seeds], 4, resamples=6000, seed=1)[0]
    assert found.by_seed["top1"] == pytest.approx(accuracies, abs=0.01)
    within = 0.74 * 0.26 / 20_000 / 3
    between = np.var(found.by_seed["top1"], ddof=1) / 3
    # Samples are drawn once for all seeds, whose errors are independent here.
    assert found.drawn["top1"].var() == pytest.approx(between + within, rel=0.15)


def test_unfit_arguments_are_refused():
    answers = Answers(preds=np.array([0, 1]))
    with pytest.raises(ValueError, match="at least one sample"):
        bootstrap_contestants([], [[Answers(preds=np.array([], dtype=int))]], 2)
    with pytest.raises(ValueError, match="pair up"):
        bootstrap_contestants([0, 1, 1], [[answers]], 2)
    with pytest.raises(ValueError, match="preds"):
        bootstrap_contestants([0, 1], [[Answers(preds=np.array([0, 2]))]], 2)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_contestants([0, 1], [[answers]], 2, resamples=0)


# ------------------------------------------------------------------------------ coverage


def count_covered(experiments, *, grouped, seed):
    """Simulate experiments; count how often the interval of the difference holds the true one."""
    rng, k, n = np.random.default_rng(seed), 5, 600
    covered = {"top1": 0, "macro_f1": 0}
    population_targets, population = draw_population(np.random.default_rng(99), 200_000, k, grouped=False)
    truth = {
        "top1": np.mean(population[1] == population_targets) - np.mean(population[0] == population_targets),
        "macro_f1": f1_score(population_targets, population[1], average="macro")
        - f1_score(population_targets, population[0], average="macro"),
    }
    for number in range(experiments):
        targets, preds = draw_population(rng, n, k, grouped=grouped)
        groups = np.repeat(np.arange(n // 5), 5) if grouped else None
        found = bootstrap_contestants(
            targets, [[Answers(preds=one)] for one in preds], k, groups=groups, resamples=800, seed=number
        )
        for name in covered:
            low, high = np.quantile(found[1].drawn[name] - found[0].drawn[name], [0.025, 0.975])
            covered[name] += low <= truth[name] <= high
    return covered


def draw_population(rng, n, k, *, grouped):
    """Draw targets and two models' answers; in groups of five, samples are easy or hard together."""
    targets = rng.integers(k, size=n)
    ease = np.repeat(rng.random(n // 5), 5) if grouped else rng.random(n)
    own = rng.random(n)
    hit_first = own < 0.4 + 0.5 * ease
    hit_second = np.where(rng.random(n) < 0.7, hit_first, rng.random(n) < 0.6 + 0.3 * ease)
    return targets, [np.where(hit, targets, rng.integers(k, size=n)) for hit in (hit_first, hit_second)]


def honest_bounds(experiments):
    """93 to 97 % of 500; for fewer, as far from 95 % as chance alone reaches (three deviations)."""
    spread = max(0.02, 3 * math.sqrt(0.95 * 0.05 / experiments))
    return (0.95 - spread) * experiments, (0.95 + spread) * experiments


@pytest.mark.parametrize("grouped", [False, True])
def test_bootstrap_intervals_cover(grouped):
    low, high = honest_bounds(120)
    for name, count in count_covered(120, grouped=grouped, seed=1).items():
        assert low <= count <= high, name


@pytest.mark.soak
@pytest.mark.parametrize("grouped", [False, True])
def test_bootstrap_intervals_cover_in_500_experiments(grouped):
    for name, count in count_covered(500, grouped=grouped, seed=2).items():
        assert 0.93 * 500 <= count <= 0.97 * 500, name


# ------------------------------------------------------------------------------ memory


def test_very_unequal_groups_are_counted_in_little_memory():
    import tracemalloc

    values = np.random.default_rng(13).random(12_000)
    tracemalloc.start()
    p_value, smallest, exact = permute_values(values[:-1], values[-1:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert exact
    assert peak < 8 * 2**20
    # The last value against all others: how many of the 12,000 lie as far from the rest's mean.
    distances = np.abs(values - (values.sum() - values) / 11_999)
    assert p_value == pytest.approx((distances >= distances[-1] - 1e-9).mean(), abs=1e-12)
    assert smallest == 1 / 12_000


def test_drawing_from_many_values_needs_little_memory():
    import tracemalloc

    values = np.random.default_rng(14).random(4000)
    tracemalloc.start()
    p_value, smallest, exact = permute_values(values[:2000], values[2000:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not exact
    assert smallest == 1 / (DRAWS + 1)
    assert 0 < p_value <= 1
    assert peak < 40 * 2**20


# ------------------------------------------------------------------------------ 200 random tables


def test_200_random_tables_agree_with_scikit_learn_and_torchmetrics():
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(16)
    for _ in range(200):
        k, n = int(rng.integers(3, 12)), int(rng.integers(20, 200))
        targets, logits = rng.integers(k, size=n), rng.normal(0, 2, (n, k))
        probs = compute_softmax(logits)
        preds = logits.argmax(axis=1)
        seen = np.union1d(targets, preds)
        assert compute_scores(compute_confusion(targets, preds, k)).macro_f1 == pytest.approx(
            f1_score(targets, preds, average="macro", labels=seen), abs=1e-12
        )
        top = int(rng.integers(1, k))
        assert compute_topk(logits, targets, top) == pytest.approx(
            top_k_accuracy_score(targets, logits, k=top, labels=range(k)), abs=1e-12
        )
        theirs = multiclass_calibration_error(
            torch.from_numpy(probs),
            torch.from_numpy(targets),
            num_classes=k,
            n_bins=15,
            norm="l1",
            validate_args=False,
        )
        ours = compute_calibration(logits, targets).ece
        # torchmetrics sums in single precision whatever it is given; the plain loop doesn't.
        assert ours == pytest.approx(float(theirs), abs=1e-6)
        assert ours == pytest.approx(loop_ece(probs.max(axis=1), preds == targets), abs=1e-12)


def loop_ece(confidences, correct):
    gaps = []
    for index in range(15):
        inside = [i for i, value in enumerate(confidences) if index / 15 < value <= (index + 1) / 15]
        gaps.append(abs(math.fsum(confidences[i] for i in inside) - sum(correct[i] for i in inside)))
    return math.fsum(gaps) / len(confidences)
