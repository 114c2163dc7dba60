import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from praxiscope.stats.confusion import SCORE_NAMES, compute_class_scores, compute_confusion, compute_scores

SHARED = Path(os.environ.get("PRAXISCOPE_SHARED", Path(__file__).parents[3] / "shared"))
PUBLISHED = SHARED / "data" / "peer-results" / "resnet_vit_har"


def random_tables(count):
    """Labels of every awkward kind: classes never seen, never predicted, predicted without samples."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        num_classes = int(rng.integers(2, 12))
        size = int(rng.integers(1, 60))
        seen = rng.choice(num_classes, size=int(rng.integers(1, num_classes + 1)), replace=False)
        given_classes = rng.choice(num_classes, size=int(rng.integers(1, num_classes + 1)), replace=False)
        targets, preds = rng.choice(seen, size), rng.choice(given_classes, size)
        agree = rng.random(size) < rng.random()
        yield targets, np.where(agree, targets, preds), num_classes


def reference_scores(targets, preds):
    scores = {"top1": reference.accuracy_score(targets, preds)}
    for average in ("macro", "weighted"):
        parts = reference.precision_recall_fscore_support(targets, preds, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), parts, strict=False):
            scores[f"{average}_{name}"] = value
    with warnings.catch_warnings():
        # "y_pred contains classes not in y_true" is the case under test; a single class can't be told apart.
        warnings.simplefilter("ignore", UserWarning)
        scores["balanced_acc"] = reference.balanced_accuracy_score(targets, preds)
    return scores


def test_scores_equal_scikit_learn_on_200_random_tables_with_absent_classes():
    absent = 0
    for targets, preds, num_classes in random_tables(200):
        ours = compute_scores(compute_confusion(targets, preds, num_classes))
        absent += len(np.union1d(targets, preds)) < num_classes
        for name, value in reference_scores(targets, preds).items():
            assert getattr(ours, name) == pytest.approx(value, abs=1e-12), name
    assert absent > 50


def test_class_scores_equal_scikit_learn_and_are_nan_exactly_where_undefined():
    for targets, preds, num_classes in random_tables(100):
        ours = compute_class_scores(compute_confusion(targets, preds, num_classes))
        theirs = reference.precision_recall_fscore_support(
            targets, preds, labels=range(num_classes), zero_division=np.nan
        )
        for mine, other in zip((ours.precision, ours.recall, ours.f1, ours.support), theirs, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-12)


def test_confusion_equals_scikit_learn():
    for targets, preds, num_classes in random_tables(50):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            theirs = reference.confusion_matrix(targets, preds, labels=range(num_classes))
        np.testing.assert_array_equal(compute_confusion(targets, preds, num_classes), theirs)


@pytest.mark.parametrize("seed", range(100))
def test_renumbering_the_classes_changes_no_score(seed):
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(1, 7))
    renumber = rng.permutation(num_classes)
    targets, preds = rng.integers(num_classes, size=(2, rng.integers(1, 31)))
    plain = compute_scores(compute_confusion(targets, preds, num_classes))
    renumbered = compute_scores(compute_confusion(renumber[targets], renumber[preds], num_classes))
    for name in SCORE_NAMES:
        assert getattr(plain, name) == pytest.approx(getattr(renumbered, name), abs=1e-12)
        assert 0 <= getattr(plain, name) <= 1 + 1e-12


@pytest.mark.parametrize("wrong", [-1, 3, 99])
def test_label_outside_the_range_is_named_with_the_range(wrong):
    with pytest.raises(
        ValueError, match=rf"preds\[1\] is {wrong}, outside the allowed range 0\.\.2 \(1 of 3"
    ):
        compute_confusion([0, 1, 2], [0, wrong, 2], 3)
    with pytest.raises(ValueError, match=rf"targets\[0\] is {wrong}"):
        compute_confusion([wrong, 1, 2], [0, 1, 2], 3)


def test_unsigned_labels_beyond_int64_are_refused_too():
    with pytest.raises(ValueError, match="outside the allowed range"):
        compute_confusion(np.array([2**63 + 1], np.uint64), [0], 3)


@pytest.mark.parametrize(
    ("targets", "preds", "num_classes", "message"),
    [
        ([0, 1], [0], 2, "2 targets and 1 preds"),
        ([0.0, 1.0], [0, 1], 2, "integer class indices, got dtype float64"),
        ([[0], [1]], [0, 1], 2, r"one-dimensional, got shape \(2, 1\)"),
        ([0], [0], 0, "num_classes is 0"),
    ],
)
def test_malformed_labels_are_refused(targets, preds, num_classes, message):
    with pytest.raises(ValueError, match=message):
        compute_confusion(targets, preds, num_classes)


@pytest.mark.parametrize("matrix", [[[1, 2]], [], [[1, -1], [0, 1]], [[0.5, 1.0], [1.0, 1.0]]])
def test_malformed_confusion_is_refused(matrix):
    with pytest.raises(ValueError, match="confusion matrix"):
        compute_scores(matrix)


def test_no_samples_give_nan_not_a_figure():
    scores = compute_scores(compute_confusion([], [], 3))
    assert all(np.isnan(getattr(scores, name)) for name in SCORE_NAMES)


@pytest.mark.shared
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no published results at {PUBLISHED}")
@pytest.mark.parametrize("model", ["resnet18", "vit_b16"])
def test_published_figures_follow_from_the_published_confusion_matrix(model):
    told = json.loads((PUBLISHED / f"{model}_test_metrics.json").read_text(encoding="utf-8"))
    lines = (
        (PUBLISHED / f"{model}_test_metrics_confusion_matrix.csv").read_text(encoding="utf-8").splitlines()
    )
    names = lines[0].split(",")[1:]
    matrix = np.array([[int(cell) for cell in line.split(",")[1:]] for line in lines[1:]])
    scores, classes = compute_scores(matrix), compute_class_scores(matrix)
    assert scores.top1 == pytest.approx(told["top1_acc"], abs=1e-12)
    assert scores.macro_f1 == pytest.approx(told["macro_f1"], abs=1e-12)
    assert scores.weighted_f1 == pytest.approx(told["weighted_f1"], abs=1e-12)
    for index, name in enumerate(names):
        assert classes.precision[index] == pytest.approx(told["per_class"][name]["precision"], abs=1e-12)
        assert classes.recall[index] == pytest.approx(told["per_class"][name]["recall"], abs=1e-12)
