from __future__ import annotations

import numpy as np
import pytest

from praxiscope.comparison.cascade import Costs, Wish, pair_predictions, plan_cascade
from praxiscope.comparison.cascade_costs import read_costs
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.predictions import HeadOutputs, PredictionsInfo, build_predictions
from praxiscope.stats.bootstrap import bootstrap_means
from praxiscope.stats.calibration import compute_softmax

NAMES = ("a", "b", "c", "d")
COSTS = Costs(small_ms=2.0, large_ms=10.0, source="a test")


def build(targets, logits, *, names=NAMES, split="val", groups=None, ids=None):
    info = PredictionsInfo(
        heads={"action": names},
        weights_sha256="0" * 64,
        manifest_fingerprint="0" * 64,
        recipe_name="r",
        created="now",
    )
    return build_predictions(
        info,
        sample_ids=ids or [f"{i:05d}" for i in range(len(targets))],
        splits=split,
        outputs={"action": HeadOutputs(targets=np.asarray(targets), logits=np.asarray(logits, np.float32))},
        groups=groups,
    )


def draw_pair(seed, count, split, *, groups=None, hard=0.5):
    """A small network that knows when it is lost, and a large one that is right more often."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 4, count)
    lost = rng.random(count) < hard
    small = rng.normal(0, 1, (count, 4))
    small[np.arange(count), targets] += np.where(lost, 0.5, 6.0)
    large = rng.normal(0, 1, (count, 4))
    large[np.arange(count), targets] += np.where(lost, 3.0, 5.0)
    return pair_predictions(
        build(targets, small, split=split, groups=groups),
        build(targets, large, split=split, groups=groups),
        labels=("small", "large"),
    )


def test_the_ends_are_the_two_networks():
    val, test = draw_pair(0, 300, "val"), draw_pair(1, 400, "test")
    for threshold, right, cost in ((0.0, test.right_small, 2.0), (1.0, test.right_large, 10.0)):
        plan = plan_cascade(val, test, COSTS, Wish(threshold=threshold))
        confirmed = plan.figures["confirmed"]
        assert confirmed["accuracy"]["value"] == right.mean()
        assert (confirmed["cost_ms"]["value"], confirmed["asked"]["value"]) == (cost, threshold)
        assert confirmed["planned_cost_inside"] is True
        reference = bootstrap_means({"x": right}, resamples=2000, seed=0)["x"]
        assert confirmed["accuracy"]["low"] == reference.low


def test_the_default_is_cheaper_and_as_good():
    val, test = draw_pair(0, 800, "val"), draw_pair(1, 2000, "test")
    plan = plan_cascade(val, test, COSTS, Wish())
    found = plan.figures["confirmed"]
    assert 0 < plan.threshold < 1
    assert found["cost_ms"]["value"] < 9
    assert found["accuracy"]["value"] > test.right_large.mean() - 0.02
    assert plan.figures["plan"]["accuracy"]["value"] >= plan.val.accuracy.max() - 0.01
    assert "can't be told from the best" in plan.figures["chosen_by"]


def test_test_decides_nothing():
    val = draw_pair(0, 300, "val")
    plans = [plan_cascade(val, draw_pair(seed, 200, "test"), COSTS, Wish()) for seed in (1, 2)]
    assert plans[0].threshold == plans[1].threshold
    assert plans[0].temperature == plans[1].temperature
    assert plans[0].figures["plan"] == plans[1].figures["plan"]


def test_wishes_are_kept_on_validation():
    val, test = draw_pair(0, 500, "val"), draw_pair(1, 500, "test")
    cheap = plan_cascade(val, test, COSTS, Wish(max_latency_ms=4.0)).figures["plan"]
    assert cheap["cost_ms"]["value"] <= 4.0
    good = plan_cascade(val, test, COSTS, Wish(min_accuracy=0.85))
    assert good.figures["plan"]["accuracy"]["value"] >= 0.85
    # Nothing cheaper on the curve is good enough; nothing affordable is more accurate.
    cheaper = good.val.cost < good.figures["plan"]["cost_ms"]["value"] - 1e-9
    assert (good.val.accuracy[cheaper] < 0.85).all()
    assert good.val.accuracy[good.val.cost <= 4.0].max() == cheap["accuracy"]["value"]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"max_latency_ms": 1.0}, "cheapest threshold already costs 2 ms"),
        ({"min_accuracy": 0.9999}, "the best that any threshold reaches on validation is 0.9"),
    ],
)
def test_impossible_wishes_name_the_nearest(wish, words):
    with pytest.raises(UsageError, match=words):
        plan_cascade(draw_pair(0, 300, "val"), draw_pair(1, 300, "test"), COSTS, Wish(**wish))


def test_wishes_and_costs_that_mean_nothing():
    for given, words in (
        ({"max_latency_ms": 3.0, "min_accuracy": 0.5}, "exclude each other"),
        ({"min_accuracy": 85.0}, "--min-accuracy 85: must lie between 0 and 1"),
        ({"threshold": -0.1}, "--threshold -0.1"),
    ):
        with pytest.raises(UsageError, match=words):
            Wish(**given)
    with pytest.raises(UsageError, match="cost of the large model is 0 ms"):
        Costs(small_ms=1.0, large_ms=0.0, source="x")


def test_labels_are_matched_by_name():
    rng = np.random.default_rng(0)
    targets, logits = rng.integers(0, 4, 50), rng.normal(0, 1, (50, 4))
    order = [2, 0, 3, 1]
    place = np.argsort(order)
    turned = build(place[targets], logits[:, order], names=tuple(NAMES[i] for i in order))
    pair = pair_predictions(build(targets, logits), turned, labels=("s", "l"))
    assert (pair.right_small == pair.right_large).all()


def test_pairs_that_do_not_belong_together_are_refused():
    targets, logits = [0, 1, 2], np.eye(4)[:3]
    mine = build(targets, logits)
    for other, words in (
        (build(targets, logits, names=("a", "b", "c", "x")), "s and l have different labels"),
        (
            build(targets, logits, ids=["00000", "00001", "z"]),
            "1 sample only in s, for example '00002'; 1 sample only in l",
        ),
        (
            build([0, 1, 3], logits),
            "disagree about the true label of 1 sample, first of '00002': 'c' and 'd'",
        ),
    ):
        with pytest.raises(DataError, match=words):
            pair_predictions(mine, other, labels=("s", "l"))


def test_planned_figures_mostly_fall_inside():
    """Validation and test from one population, of equal size: the plan is inside in most experiments.

    Both figures are noisy, so a fixed plan is inside a 95 % interval of test less often than 95 times of 100:
    P(|d| < 1.96 s) with d of variance 2 s^2 is 83 %. Choosing the best point costs a little more.
    """
    inside = {"planned_accuracy_inside": 0, "planned_cost_inside": 0}
    for seed in range(60):
        val, test = draw_pair(2 * seed, 300, "val"), draw_pair(2 * seed + 1, 300, "test")
        confirmed = plan_cascade(val, test, COSTS, Wish(), resamples=200).figures["confirmed"]
        for key in inside:
            inside[key] += confirmed[key]
    assert min(inside.values()) >= 40
    assert max(inside.values()) < 60


def test_plan_and_find_agree_as_often_as_the_level_says():
    """A tenth as many validation as test samples: the interval of test alone would rarely hold the plan."""
    agree, inside = {"accuracy": 0, "cost_ms": 0}, 0
    for seed in range(60):
        val, test = draw_pair(2 * seed, 200, "val"), draw_pair(2 * seed + 1, 2000, "test")
        confirmed = plan_cascade(val, test, COSTS, Wish(threshold=0.7), resamples=200).figures["confirmed"]
        inside += confirmed["planned_cost_inside"]
        for key in agree:
            agree[key] += confirmed["differences"][key]["agree"]
    assert min(agree.values()) >= 0.85 * 60
    assert inside < 0.7 * 60
    harder = draw_pair(1, 2000, "test", hard=0.9)
    other = plan_cascade(draw_pair(0, 2000, "val"), harder, COSTS, Wish(threshold=0.7)).figures
    gap = other["confirmed"]["differences"]["cost_ms"]
    assert gap["value"] == other["confirmed"]["cost_ms"]["value"] - other["plan"]["cost_ms"]["value"]
    assert gap["agree"] is False
    assert gap["low"] > 0


def test_intervals_are_by_group():
    """Twenty copies of each sample are one sample: the interval must not shrink."""
    single = draw_pair(1, 60, "test", groups=[f"g{i}" for i in range(60)])
    val = draw_pair(0, 200, "val")

    def widen(pair, times):
        def repeat(table):
            return build(
                np.repeat(table.targets(), times), np.repeat(table.logits(), times, axis=0), split="test",
                groups=np.repeat(table.groups, times).tolist(),
            )  # fmt: skip

        return pair_predictions(repeat(pair.small), repeat(pair.large), labels=("s", "l"))

    first = plan_cascade(val, single, COSTS, Wish(threshold=0.5)).figures["confirmed"]["accuracy"]
    copies = plan_cascade(val, widen(single, 20), COSTS, Wish(threshold=0.5)).figures["confirmed"]["accuracy"]
    assert copies["high"] - copies["low"] == pytest.approx(first["high"] - first["low"], rel=0.1)


def test_calibration_is_told_before_and_after():
    plan = plan_cascade(draw_pair(0, 300, "val"), draw_pair(1, 300, "test"), COSTS, Wish())
    told = plan.figures["calibration"]
    assert told["val"]["nll_after"] <= told["val"]["nll_before"]
    val = draw_pair(0, 300, "val")
    probabilities = compute_softmax(val.small.logits() / plan.temperature)
    own = probabilities[np.arange(300), val.targets]
    assert told["val"]["nll_after"] == pytest.approx(-np.log(own).mean(), rel=1e-6)


def test_costs_that_are_a_folder_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"there is no such file; name the profile\.json"):
        read_costs(tmp_path, tmp_path / "small", tmp_path / "large")
