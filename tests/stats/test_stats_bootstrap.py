import math
import time
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from praxiscope.stats import bootstrap
from praxiscope.stats.bootstrap import (
    bootstrap_calibration,
    bootstrap_means,
    bootstrap_scores,
    bootstrap_sums,
    code_groups,
)
from praxiscope.stats.calibration import compute_calibration, compute_sample_losses
from praxiscope.stats.confusion import SCORE_NAMES, compute_confusion, compute_scores


def make_answers(seed, size=400, num_classes=6, right=0.7):
    rng = np.random.default_rng(seed)
    targets = rng.integers(num_classes, size=size)
    return targets, np.where(rng.random(size) < right, targets, rng.integers(num_classes, size=size))


def loop_over_groups(codes, statistic, *, resamples, seed):
    """Draw groups one by one and hand the drawn rows to the statistic: the definition, no shortcut."""
    num_groups = codes.max() + 1
    members = [np.flatnonzero(codes == group) for group in range(num_groups)]
    draws = np.random.default_rng(seed).integers(num_groups, size=(resamples, num_groups))
    return np.array([statistic(np.concatenate([members[group] for group in draw])) for draw in draws])


def quantiles(values, level=0.95):
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2])


def test_grouped_scores_equal_the_plain_loop_to_rounding():
    targets, preds = make_answers(0, size=120)
    groups = np.random.default_rng(1).integers(25, size=120)
    ours = bootstrap_scores(targets, preds, 6, groups=groups, resamples=200, seed=5)
    loop = loop_over_groups(
        code_groups(groups, 120),
        lambda rows: [
            getattr(compute_scores(compute_confusion(targets[rows], preds[rows], 6)), name)
            for name in SCORE_NAMES
        ],
        resamples=200,
        seed=5,
    )
    for column, name in enumerate(SCORE_NAMES):
        np.testing.assert_allclose((ours[name].low, ours[name].high), quantiles(loop[:, column]), atol=1e-12)


def test_grouped_calibration_and_means_equal_the_plain_loop_to_rounding():
    rng = np.random.default_rng(2)
    logits, targets = rng.normal(size=(150, 5)), rng.integers(5, size=150)
    groups = rng.integers(40, size=150)
    ours = bootstrap_calibration(compute_sample_losses(logits, targets), groups=groups, resamples=100, seed=3)
    loop = loop_over_groups(
        code_groups(groups, 150),
        lambda rows: [
            getattr(compute_calibration(logits[rows], targets[rows]), name)
            for name in ("nll", "brier", "ece")
        ],
        resamples=100,
        seed=3,
    )
    for column, name in enumerate(("nll", "brier")):
        np.testing.assert_allclose((ours[name].low, ours[name].high), quantiles(loop[:, column]), atol=1e-12)
    value, (low, high) = ours["ece"].value, quantiles(loop[:, 2])
    expected = max(0, min(2 * value - high, value)), max(2 * value - low, value)
    np.testing.assert_allclose((ours["ece"].low, ours["ece"].high), expected, atol=1e-12)
    right = logits.argmax(axis=1) == targets
    mean = bootstrap_means({"right": right}, groups=groups, resamples=100, seed=3)["right"]
    loop = loop_over_groups(code_groups(groups, 150), lambda rows: right[rows].mean(), resamples=100, seed=3)
    np.testing.assert_allclose((mean.low, mean.high), quantiles(loop), atol=1e-12)
    assert mean.value == right.mean()


def test_drawing_cells_has_the_distribution_of_drawing_rows(monkeypatch):
    targets, preds = make_answers(3, size=90)
    seen = {}

    def keep(value, resampled, *, level):
        seen[len(seen)] = resampled
        return percentile_interval(value, resampled, level=level)

    percentile_interval = bootstrap.percentile_interval
    monkeypatch.setattr(bootstrap, "percentile_interval", keep)
    bootstrap_scores(targets, preds, 6, resamples=2000, seed=1)
    cells = dict(zip(SCORE_NAMES, seen.values(), strict=True))
    rng = np.random.default_rng(9)
    rows = rng.integers(90, size=(2000, 90))
    top1 = (targets[rows] == preds[rows]).mean(axis=1)
    macro_f1 = [f1_score(targets[row], preds[row], average="macro", zero_division=0) for row in rows[:250]]
    assert stats.ks_2samp(cells["top1"], top1).pvalue > 1e-3
    assert stats.ks_2samp(cells["macro_f1"], macro_f1).pvalue > 1e-3
    share = (targets == preds).mean()
    assert cells["top1"].mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 90 / 2000))
    assert cells["top1"].var() == pytest.approx(share * (1 - share) / 90, rel=0.15)


def test_groups_of_one_sample_each_are_no_groups():
    targets, preds = make_answers(4)
    plain = bootstrap_scores(targets, preds, 6, resamples=100)
    assert bootstrap_scores(targets, preds, 6, groups=[None] * 400, resamples=100) == plain
    assert (
        bootstrap_scores(targets, preds, 6, groups=[f"clip{i}" for i in range(400)], resamples=100) == plain
    )


def test_names_of_groups_dont_matter_only_who_belongs_together():
    targets, preds = make_answers(5, size=60)
    codes = np.arange(60) // 6
    named = bootstrap_scores(targets, preds, 6, groups=[f"p{code}" for code in codes], resamples=50)
    assert bootstrap_scores(targets, preds, 6, groups=codes, resamples=50) == named


def test_correlated_groups_widen_the_interval():
    targets = np.zeros(1000, dtype=int)
    preds = np.repeat(np.random.default_rng(0).random(50) < 0.3, 20).astype(int)  # whole groups are wrong
    alone = bootstrap_scores(targets, preds, 2)["top1"]
    grouped = bootstrap_scores(targets, preds, 2, groups=np.arange(1000) // 20)["top1"]
    # 20 samples that are all alike count as one: sqrt(20) = 4.5 times as wide.
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(20), rel=0.15)


@pytest.mark.parametrize("groups", [None, np.arange(400) // 3])
def test_same_seed_same_interval_whatever_the_chunks(monkeypatch, groups):
    targets, preds = make_answers(6)
    losses = compute_sample_losses(np.random.default_rng(0).normal(size=(400, 6)), targets)

    def compute(seed):
        plan = {"groups": groups, "resamples": 60, "seed": seed}
        figures = {**bootstrap_scores(targets, preds, 6, **plan), **bootstrap_calibration(losses, **plan)}
        return np.array([(figure.low, figure.high) for figure in figures.values()])

    whole = compute(1)
    assert (compute(2) != whole).any()
    monkeypatch.setattr(bootstrap, "CHUNK_ELEMENTS", 1000)
    np.testing.assert_allclose(compute(1), whole, rtol=1e-12)  # products of other shapes round otherwise


def test_single_group_gives_a_value_without_interval():
    targets, preds = make_answers(7, size=20)
    figure = bootstrap_scores(targets, preds, 6, groups=["only"] * 20, resamples=10)["macro_f1"]
    assert figure.value == compute_scores(compute_confusion(targets, preds, 6)).macro_f1
    assert math.isnan(figure.low)
    assert math.isnan(figure.high)


def test_sums_are_of_as_many_groups_as_there_are():
    drawn = bootstrap_sums(np.column_stack([np.ones(7), np.arange(7)]), resamples=500, seed=0)
    assert (drawn[:, 0] == 7).all()
    assert drawn[:, 1].mean() == pytest.approx(21, abs=4 * math.sqrt(7 * 4 / 500))


@pytest.mark.parametrize("groups", [None, [0, 0, 1]])
def test_no_resamples_are_refused(groups):
    with pytest.raises(ValueError, match="resamples is 0"):
        bootstrap_scores([0, 1, 1], [0, 1, 0], 2, groups=groups, resamples=0)


def test_malformed_input_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        bootstrap_scores([], [], 2)
    with pytest.raises(ValueError, match=r"groups must have shape \(2,\), got \(1,\)"):
        bootstrap_scores([0, 1], [0, 1], 2, groups=["a"])
    with pytest.raises(ValueError, match="level is 95"):
        bootstrap_means({"x": [1.0, 2.0]}, level=95)
    with pytest.raises(ValueError, match="at least one group"):
        bootstrap_sums(np.empty((0, 2)), resamples=3, seed=0)
    with pytest.raises(ValueError, match=r"preds\[0\] is 2"):
        bootstrap_scores([0], [2], 2)


def test_memory_stays_bounded_with_many_groups_and_classes():
    targets, preds = make_answers(8, size=20_000, num_classes=100)
    losses = compute_sample_losses(np.random.default_rng(0).normal(size=(20_000, 10)), targets % 10)
    tracemalloc.start()
    bootstrap_scores(targets, preds, 100, groups=np.arange(20_000) // 2, resamples=150)
    bootstrap_calibration(losses, resamples=150)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All 150 x 20,000 draws at once would take 24 MB for each of several arrays at 150, 1.6 GB at 10,000.
    assert peak < 80e6


def test_all_headline_figures_take_well_under_two_seconds():
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(15), 126)
    logits = rng.normal(size=(1890, 15)) + 2 * np.eye(15)[targets]
    best = math.inf
    for _ in range(3):  # the best of three: other work on the machine is no property of the code
        start = time.perf_counter()
        bootstrap_scores(targets, logits.argmax(axis=1), 15, resamples=2000)
        bootstrap_means({"top5": logits.argmax(axis=1) == targets}, resamples=2000)
        bootstrap_calibration(compute_sample_losses(logits, targets), resamples=2000)
        best = min(best, time.perf_counter() - start)
    assert best < 2


class Population:
    """A classifier with known true scores, whose errors are shared by the samples of a group."""

    def __init__(self, num_classes, group_size, seed):
        rng = np.random.default_rng(seed)
        rates = 0.7 * np.eye(num_classes) + 0.3 * rng.dirichlet(np.ones(num_classes), size=num_classes)
        shares = rng.dirichlet(np.full(num_classes, 20.0))
        self.cells = (shares[:, None] * rates).ravel()
        self.num_classes, self.group_size = num_classes, group_size
        self.truth = compute_scores(
            np.rint(self.cells.reshape(num_classes, num_classes) * 1e12).astype(np.int64)
        )

    def draw(self, num_groups, rng):
        """Draw groups of samples, 60 % of which repeat their group's cell."""
        cells = rng.choice(self.cells.size, p=self.cells, size=(num_groups, self.group_size))
        copied = rng.random(cells.shape) < (0.6 if self.group_size > 1 else 0.0)
        cells = np.where(copied, cells[:, :1], cells).ravel()
        groups = np.repeat(np.arange(num_groups), self.group_size)
        return cells // self.num_classes, cells % self.num_classes, groups


def measure_coverage(population, *, experiments, num_groups, resamples, use_groups=True):
    rng = np.random.default_rng(0)
    held = {"top1": 0, "macro_f1": 0, "balanced_acc": 0}
    for seed in range(experiments):
        targets, preds, groups = population.draw(num_groups, rng)
        figures = bootstrap_scores(
            targets,
            preds,
            population.num_classes,
            groups=groups if use_groups else None,
            resamples=resamples,
            seed=seed,
        )
        for name in held:
            held[name] += figures[name].low <= getattr(population.truth, name) <= figures[name].high
    return {name: count / experiments for name, count in held.items()}


@pytest.mark.parametrize(("group_size", "num_groups"), [(1, 600), (5, 150)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(group_size, num_groups):
    coverage = measure_coverage(
        Population(5, group_size, seed=1), experiments=150, num_groups=num_groups, resamples=300
    )
    # 150 experiments at 95 %: the binomial's 99.9 % range is 0.88 to 1; percentiles cost up to a point more.
    assert all(0.87 <= share <= 1 for share in coverage.values()), coverage


def test_ignoring_groups_would_hold_the_truth_far_too_rarely():
    coverage = measure_coverage(
        Population(5, 5, seed=1), experiments=150, num_groups=150, resamples=300, use_groups=False
    )
    assert coverage["top1"] < 0.87


@pytest.mark.soak
@pytest.mark.parametrize(("group_size", "num_groups"), [(1, 1890), (5, 378)])
def test_coverage_over_500_experiments_lies_between_93_and_97_percent(group_size, num_groups):
    coverage = measure_coverage(
        Population(15, group_size, seed=2), experiments=500, num_groups=num_groups, resamples=2000
    )
    assert all(0.93 <= share <= 0.97 for share in coverage.values()), coverage
