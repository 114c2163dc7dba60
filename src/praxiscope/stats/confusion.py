"""Confusion matrix and the scores that follow from it.

One rule for classes without samples, the one scikit-learn applies when it isn't told which labels exist:

* A class that occurs neither among the targets nor among the predictions is left out of the macro averages.
* A class that is predicted but has no sample counts as 0 in macro precision, recall and F1.
* A class that has samples but is never predicted has no precision; it counts as 0 in the averages.
* Balanced accuracy is the mean recall over the classes that have samples.
* Weighted averages weigh by the number of samples, so classes without samples play no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from praxiscope.stats.labels import FloatArray, IntArray, validate_labels

ABSENT_CLASSES_RULE = (
    "Classes that occur neither among the targets nor among the predictions are left out of macro "
    "averages; a class that is predicted but has no sample, or has samples but is never predicted, counts "
    "as 0 in them. Balanced accuracy is the mean recall over the classes that have samples."
)
"""The module's rule as a sentence for readers of a report."""

SCORE_NAMES = (
    "top1",
    "macro_f1",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "weighted_precision",
    "weighted_recall",
    "balanced_acc",
)
"""Names of the summary scores, in the order in which they are reported."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """Precision, recall and F1 of each of K classes, in [0, 1], NaN where undefined."""

    support: IntArray
    """(K,) samples whose target is the class."""
    predicted: IntArray
    """(K,) samples that were given the class."""
    correct: IntArray
    """(K,) samples of the class that were given the class."""
    precision: FloatArray
    """(K,) NaN for a class that was never predicted."""
    recall: FloatArray
    """(K,) NaN for a class without samples."""
    f1: FloatArray
    """(K,) NaN for a class that is neither among the targets nor among the predictions."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Summary scores of one confusion matrix, in [0, 1]; NaN throughout when it is empty."""

    top1: float
    macro_f1: float
    weighted_f1: float
    macro_precision: float
    macro_recall: float
    weighted_precision: float
    weighted_recall: float
    balanced_acc: float


def compute_confusion(targets: npt.ArrayLike, preds: npt.ArrayLike, num_classes: int) -> IntArray:
    """Count how often each target was given each prediction.

    Args:
        targets: (N,) integer class indices in ``[0, K)``.
        preds: (N,) integer class indices in ``[0, K)``.
        num_classes: K.

    Returns:
        (K, K) int64 counts, rows true, columns predicted.

    Raises:
        ValueError: Labels outside the range (the value and the range are named), or of different lengths.

    >>> compute_confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    true = validate_labels(targets, num_classes, name="targets")
    given = validate_labels(preds, num_classes, name="preds")
    if true.size != given.size:
        raise ValueError(f"targets and preds must pair up, got {true.size} targets and {given.size} preds")
    counts = np.bincount(true * num_classes + given, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64, copy=False)


def compute_class_scores(confusion: npt.ArrayLike) -> ClassScores:
    """Compute precision, recall and F1 of each class.

    Args:
        confusion: (K, K) non-negative integer counts, rows true, columns predicted.

    Raises:
        ValueError: Not a square matrix of non-negative integers.
    """
    matrix = _validate_confusion(confusion)
    correct, support, predicted = np.diag(matrix).copy(), matrix.sum(axis=1), matrix.sum(axis=0)
    return ClassScores(
        support=support,
        predicted=predicted,
        correct=correct,
        precision=_divide(correct, predicted, empty=np.nan),
        recall=_divide(correct, support, empty=np.nan),
        f1=_divide(2 * correct, support + predicted, empty=np.nan),
    )


def compute_scores(confusion: npt.ArrayLike) -> Scores:
    """Compute the summary scores of a confusion matrix, by the module's rule for classes without samples.

    Args:
        confusion: (K, K) non-negative integer counts, rows true, columns predicted.

    Raises:
        ValueError: Not a square matrix of non-negative integers.

    >>> compute_scores([[1, 1], [0, 1]]).macro_recall
    0.75
    """
    matrix = _validate_confusion(confusion)
    scores = compute_margin_scores(np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0))
    return Scores(**{name: float(scores[name]) for name in SCORE_NAMES})


def compute_margin_scores(
    correct: npt.NDArray[np.generic], support: npt.NDArray[np.generic], predicted: npt.NDArray[np.generic]
) -> dict[str, FloatArray]:
    """Compute the summary scores of many confusion matrices at once, from their diagonals and margins.

    Nothing in the summary scores depends on *which* wrong class was given, so these 3 K counts stand for K x
    K.

    Args:
        correct: (..., K) diagonals.
        support: (..., K) row sums.
        predicted: (..., K) column sums.

    Returns:
        ``SCORE_NAMES`` to arrays of the leading shape; NaN where a matrix is empty.
    """
    hits, true, given = (np.asarray(part, dtype=np.float64) for part in (correct, support, predicted))
    per_class = {
        "precision": _divide(hits, given, empty=0.0),
        "recall": _divide(hits, true, empty=0.0),
        "f1": _divide(2 * hits, true + given, empty=0.0),
    }
    total, num_seen = true.sum(axis=-1), ((true + given) > 0).sum(axis=-1)
    scores = {"top1": _divide(hits.sum(axis=-1), total, empty=np.nan)}
    for name, values in per_class.items():
        scores[f"macro_{name}"] = _divide(values.sum(axis=-1), num_seen, empty=np.nan)
        scores[f"weighted_{name}"] = _divide((values * true).sum(axis=-1), total, empty=np.nan)
    scores["balanced_acc"] = _divide(per_class["recall"].sum(axis=-1), (true > 0).sum(axis=-1), empty=np.nan)
    return {name: scores[name] for name in SCORE_NAMES}


def _validate_confusion(confusion: npt.ArrayLike) -> IntArray:
    matrix = np.asarray(confusion)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"a confusion matrix must be square and not empty, got shape {matrix.shape}")
    if not np.issubdtype(matrix.dtype, np.integer) or (matrix < 0).any():
        raise ValueError("a confusion matrix must hold non-negative integer counts")
    return matrix.astype(np.int64, copy=False)


def _divide(
    numerator: npt.NDArray[np.generic], denominator: npt.NDArray[np.generic], *, empty: float
) -> FloatArray:
    """Divide element by element; ``empty`` where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    quotient: FloatArray = np.divide(top, bottom, out=np.full(bottom.shape, empty), where=bottom > 0)
    return quotient
