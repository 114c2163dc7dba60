import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from praxiscope.stats.confusion import compute_confusion, compute_scores
from praxiscope.stats.topk import compute_target_ranks, compute_topk


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_equals_scikit_learn_where_there_are_no_ties(k):
    rng = np.random.default_rng(k)
    logits, targets = rng.normal(size=(500, 10)), rng.integers(10, size=500)
    theirs = top_k_accuracy_score(targets, logits, k=k, labels=range(10))
    assert compute_topk(logits, targets, k) == pytest.approx(theirs, abs=1e-12)


def draw_tied(seed):
    """Few distinct scores, so that most rows hold ties."""
    rng = np.random.default_rng(seed)
    width, count = int(rng.integers(1, 7)), int(rng.integers(1, 21))
    return rng.integers(0, 3, (count, width)), rng.integers(width, size=count)


@pytest.mark.parametrize("seed", range(100))
def test_ties_go_to_the_lower_index_as_in_a_stable_sort(seed):
    scores, targets = draw_tied(seed)
    logits = scores.astype(np.float16)
    expected = [
        sorted(range(len(row)), key=lambda index, row=row: -row[index]).index(target)
        for row, target in zip(scores, targets, strict=True)
    ]
    assert compute_target_ranks(logits, targets).tolist() == expected


@pytest.mark.parametrize("seed", range(100))
def test_top1_equals_the_confusion_diagonal_also_with_ties(seed):
    scores, targets = draw_tied(seed)
    logits = scores.astype(np.float64)
    confusion = compute_confusion(targets, logits.argmax(axis=1), logits.shape[1])
    assert compute_topk(logits, targets, 1) == compute_scores(confusion).top1


@pytest.mark.parametrize("k", [3, 5, 1000])
def test_k_of_all_classes_or_more_is_always_right(k):
    assert compute_topk(np.random.default_rng(0).normal(size=(20, 3)), [2] * 20, k) == 1.0


def test_no_samples_give_nan():
    assert np.isnan(compute_topk(np.empty((0, 3)), [], 1))


@pytest.mark.parametrize(
    ("logits", "targets", "k", "message"),
    [
        ([[0.0, 1.0]], [0], 0, "k is 0"),
        ([[0.0, np.nan]], [0], 1, "row 0 holds NaN"),
        ([[0.0, 1.0], [np.inf, 0.0]], [0, 0], 1, "row 1 holds NaN or infinity"),
        ([[0.0, 1.0]], [2], 1, r"targets\[0\] is 2, outside the allowed range 0\.\.1"),
        ([[0.0, 1.0]], [0, 1], 1, "1 rows and 2 targets"),
        ([0.0, 1.0], [0, 1], 1, r"\(samples, classes\), got \(2,\)"),
        (np.empty((2, 0)), [0, 0], 1, r"got \(2, 0\)"),
    ],
)
def test_malformed_input_is_refused(logits, targets, k, message):
    with pytest.raises(ValueError, match=message):
        compute_topk(np.asarray(logits), targets, k)
