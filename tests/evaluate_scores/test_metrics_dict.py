import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint

from praxiscope.errors import DataError
from praxiscope.evaluation.predictions import HeadOutputs, build_predictions
from praxiscope.evaluation.scores import HEADLINE_NAMES, compute_metrics
from praxiscope.runs.atomic import render_json

TOP_LEVEL = [
    "schema", "split", "num_samples", "num_clean", "num_classes", "head", "names", "weights_sha256",
    "manifest_fingerprint", "all", "clean", "interval", "per_class", "confusion", "reliability",
    "top_confusions", "extremes", "groups", "rules",
]  # fmt: skip


def compute(predictions, **options):
    """Compute few resamples, and hold every result against strict JSON and the documented form."""
    metrics = compute_metrics(predictions, **{"resamples": 200, **options})
    assert list(metrics) == TOP_LEVEL
    assert json.loads(render_json(metrics)) == metrics
    for section in filter(None, (metrics["all"], metrics["clean"])):
        assert list(section) == ["n", *HEADLINE_NAMES]
        for name in HEADLINE_NAMES:
            figure = section[name]
            assert 0 <= figure["value"] <= (1 + 1e-12 if name not in {"nll", "brier"} else math.inf)
            assert figure["low"] is None or figure["low"] <= figure["high"]
    return metrics


def test_headline_figures_equal_scikit_learn(make_predictions):
    predictions = make_predictions(size=300, num_classes=8)
    metrics = compute(predictions)
    targets, preds = predictions.targets(), predictions.preds()
    probs = special.softmax(predictions.logits().astype(float), axis=1)
    values = {name: metrics["all"][name]["value"] for name in HEADLINE_NAMES}
    expected = {
        "top1": reference.accuracy_score(targets, preds),
        "top5": reference.top_k_accuracy_score(targets, probs, k=5),
        "macro_f1": reference.f1_score(targets, preds, average="macro"),
        "weighted_f1": reference.f1_score(targets, preds, average="weighted"),
        "macro_precision": reference.precision_score(targets, preds, average="macro"),
        "macro_recall": reference.recall_score(targets, preds, average="macro"),
        "weighted_precision": reference.precision_score(targets, preds, average="weighted"),
        "weighted_recall": reference.recall_score(targets, preds, average="weighted"),
        "balanced_acc": reference.balanced_accuracy_score(targets, preds),
        "nll": reference.log_loss(targets, probs),
        "brier": reference.brier_score_loss(targets, probs, scale_by_half=False),
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert metrics["confusion"] == reference.confusion_matrix(targets, preds).tolist()


def test_per_class_figures_equal_scikit_learn_and_statsmodels(make_predictions):
    predictions = make_predictions(size=200)
    rows = compute(predictions)["per_class"]
    targets, preds = predictions.targets(), predictions.preds()
    parts = reference.precision_recall_fscore_support(targets, preds)
    for index, row in enumerate(rows):
        assert row["name"] == predictions.names()[index]
        found = [row[key] for key in ("precision", "recall", "f1", "support")]
        assert found == pytest.approx([part[index] for part in parts])
        right = int(((targets == index) & (preds == index)).sum())
        for side, count in (("recall", row["support"]), ("precision", row["predicted"])):
            low, high = proportion_confint(right, count, alpha=0.05, method="wilson")
            assert (row[f"{side}_low"], row[f"{side}_high"]) == pytest.approx((low, high))


def test_clean_figures_are_those_of_the_clean_samples_alone(make_predictions):
    clean = np.random.default_rng(1).random(60) < 0.6
    predictions = make_predictions(clean=clean)
    metrics = compute(predictions)
    alone = compute(predictions.select(clean))
    assert (metrics["num_samples"], metrics["num_clean"]) == (60, clean.sum())
    assert metrics["clean"] == alone["all"]
    assert metrics["clean"] != metrics["all"]


def test_no_clean_samples_give_null(make_predictions):
    metrics = compute(make_predictions(clean=np.zeros(60, bool)))
    assert metrics["num_clean"] == 0
    assert metrics["clean"] is None


def test_same_seed_same_figures(make_predictions):
    predictions = make_predictions()
    assert compute(predictions, seed=3) == compute(predictions, seed=3)
    assert compute(predictions, seed=3)["all"]["top1"] != compute(predictions, seed=4)["all"]["top1"]


def test_groups_are_counted_and_widen_the_intervals(make_predictions):
    logits = np.repeat(np.random.default_rng(0).normal(size=(20, 4)), 10, axis=0)  # ten like samples a group
    targets = np.zeros(200, int)
    alone = compute(make_predictions(logits=logits, targets=targets))
    grouped = compute(
        make_predictions(logits=logits, targets=targets, groups=[f"p{i // 10}" for i in range(200)])
    )
    assert alone["interval"]["num_groups"] == 200
    assert grouped["interval"] == {
        "level": 0.95, "method": "percentile bootstrap by group", "resamples": 200, "num_groups": 20,
    }  # fmt: skip
    for name in ("top1", "nll", "brier"):
        widths = [one["all"][name]["high"] - one["all"][name]["low"] for one in (alone, grouped)]
        assert widths[1] > 2 * widths[0], name
    assert "there are 20" in grouped["rules"]["few_groups"]
    assert "few_groups" not in alone["rules"]


def test_a_higher_level_widens_every_interval(make_predictions):
    predictions = make_predictions(size=200)
    narrow, wide = compute(predictions, level=0.8), compute(predictions, level=0.99)
    for name in HEADLINE_NAMES:
        assert wide["all"][name]["low"] < narrow["all"][name]["low"], name
    assert wide["per_class"][0]["recall_low"] < narrow["per_class"][0]["recall_low"]


def test_absent_classes_are_null_and_the_rule_is_stated(make_predictions):
    # Class 0: right. Class 1: never predicted. Class 2: predicted, no samples. Class 3: neither.
    logits = np.eye(4)[[0, 0, 2, 0]] * 3
    metrics = compute(make_predictions(logits=logits, targets=[0, 0, 1, 1]))
    rows = metrics["per_class"]
    assert (rows[1]["precision"], rows[1]["recall"], rows[1]["f1"]) == (None, 0.0, 0.0)
    assert (rows[2]["precision"], rows[2]["recall"], rows[2]["f1"]) == (0.0, None, 0.0)
    assert (rows[3]["precision"], rows[3]["recall"], rows[3]["f1"]) == (None, None, None)
    assert (rows[2]["recall_low"], rows[1]["precision_high"]) == (None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = reference.f1_score([0, 0, 1, 1], [0, 0, 2, 0], average="macro")
    assert metrics["all"]["macro_f1"]["value"] == pytest.approx(theirs)
    assert "left out of macro averages" in metrics["rules"]["absent_classes"]
    assert "null" in metrics["rules"]["undefined"]


def test_one_sample_has_figures_but_no_headline_interval(make_predictions):
    metrics = compute(make_predictions(logits=[[0.0, 1.0, 0.0]], targets=[1]))
    assert metrics["all"]["top1"] == {"value": 1.0, "low": None, "high": None}
    assert metrics["per_class"][1]["recall_low"] == pytest.approx(0.2065, abs=1e-4)
    assert "Where all samples are of one group it is null" in metrics["rules"]["intervals"]


def test_a_single_class_is_right_by_construction(make_predictions):
    metrics = compute(make_predictions(logits=np.zeros((10, 1)), targets=[0] * 10))
    assert metrics["all"]["top1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert metrics["all"]["nll"]["value"] == 0.0
    assert metrics["top_confusions"] == []


@pytest.mark.parametrize("num_classes", [2, 5])
def test_top5_of_five_classes_or_fewer_is_one_and_said_to_be(make_predictions, num_classes):
    metrics = compute(make_predictions(num_classes=num_classes))
    assert metrics["all"]["top5"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert f"With {num_classes} classes" in metrics["rules"]["top5"]


def test_top5_of_six_classes_is_a_real_figure(make_predictions):
    metrics = compute(make_predictions(num_classes=6))
    assert "top5" not in metrics["rules"]


@pytest.mark.parametrize(("right", "value"), [(True, 1.0), (False, 0.0)])
def test_all_right_or_all_wrong_is_not_said_to_be_certain(make_predictions, right, value):
    targets = np.arange(40) % 7
    metrics = compute(
        make_predictions(logits=5.0 * np.eye(7)[targets if right else (targets + 1) % 7], targets=targets)
    )
    low, high = proportion_confint(40 * value, 40, method="wilson")
    figure = metrics["all"]["top1"]
    assert (figure["value"], figure["low"], figure["high"]) == (
        value,
        pytest.approx(low),
        pytest.approx(high),
    )


def test_confusions_are_the_most_frequent_first(make_predictions):
    targets = [0] * 10 + [1] * 4 + [2] * 3
    preds = [1] * 3 + [0] * 7 + [2] * 3 + [1] + [0, 2, 2]
    names = ("texting", "calling", "eating")
    found = compute(make_predictions(logits=np.eye(3)[preds], targets=targets, names=names))["top_confusions"]
    assert found == [
        {"target": "texting", "preds": "calling", "count": 3, "share": 0.3},
        {"target": "calling", "preds": "eating", "count": 3, "share": 0.75},
        {"target": "eating", "preds": "texting", "count": 1, "share": pytest.approx(1 / 3)},
    ]


def test_reliability_counts_every_sample_in_15_bins(make_predictions):
    bins = compute(make_predictions())["reliability"]
    assert len(bins) == 15
    assert sum(one["count"] for one in bins) == 60
    assert all((one["accuracy"] is None) == (one["count"] == 0) for one in bins)


def test_ece_interval_holds_its_value(make_predictions):
    for seed in range(10):
        figure = compute(make_predictions(seed=seed))["all"]["ece"]
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1


def test_several_heads_are_scored_each_and_together(make_predictions):
    one = make_predictions()
    info = dataclasses.replace(one.info, heads={"action": one.names(), "noun": ("cup", "pan")})
    both = build_predictions(
        info,
        sample_ids=one.sample_ids,
        splits="test",
        outputs={
            "action": HeadOutputs(targets=one.targets(), logits=one.logits()),
            "noun": HeadOutputs(targets=np.zeros(60, int), logits=np.tile([1.0, 0.0], (60, 1))),
        },
    )
    assert compute(both, head="action") == compute(one)
    assert compute(both, head="noun")["names"] == ["cup", "pan"]
    joint = compute_metrics(both, resamples=200)
    assert joint["heads"] == {"action": compute(one), "noun": compute(both, head="noun")}
    assert (joint["head"], joint["joint"]) == ("joint", ["action", "noun"])


def test_no_samples_are_refused(make_predictions):
    with pytest.raises(DataError, match="no predictions to score"):
        compute_metrics(make_predictions(logits=np.empty((0, 3)), targets=np.empty(0, int)))


def test_samples_of_several_splits_are_refused(make_predictions):
    with pytest.raises(DataError, match=r"2 splits \(test, val\)"):
        compute_metrics(make_predictions(splits=["test", "val"] * 30))
