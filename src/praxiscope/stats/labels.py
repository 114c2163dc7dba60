"""Checks that every metric makes on what it is given, so that a wrong label is never counted in silence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def validate_labels(labels: npt.ArrayLike, num_classes: int, *, name: str) -> IntArray:
    """Return labels as a flat int64 array after checking their range.

    Args:
        labels: (N,) integers in ``[0, num_classes)``.
        num_classes: Number of classes K, at least 1.
        name: What the labels are, for the message: ``"targets"`` or ``"preds"``.

    Raises:
        ValueError: Labels that aren't integers, aren't one-dimensional or lie outside the range; the message
            names the first offending value, its position and the range.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integer class indices, got dtype {array.dtype}")
    outside = np.flatnonzero((array < 0) | (array >= num_classes))
    if outside.size:
        first = int(outside[0])
        raise ValueError(
            f"{name}[{first}] is {array[first]}, outside the allowed range 0..{num_classes - 1} "
            f"({outside.size} of {array.size} values are outside)"
        )
    return array.astype(np.int64, copy=False)


def validate_logits(
    logits: npt.NDArray[np.floating], targets: npt.ArrayLike
) -> tuple[npt.NDArray[np.floating], IntArray]:
    """Return logits and targets after checking that they pair up and can be ranked.

    Args:
        logits: (N, K) finite scores.
        targets: (N,) integer class indices in ``[0, K)``.

    Returns:
        The logits unchanged and the targets as int64.

    Raises:
        ValueError: Shapes that don't fit, non-finite logits (the row is named), targets outside the range.
    """
    scores = np.asarray(logits)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"logits must have shape (samples, classes), got {scores.shape}")
    true = validate_labels(targets, scores.shape[1], name="targets")
    if len(scores) != true.size:
        raise ValueError(f"logits and targets must pair up, got {len(scores)} rows and {true.size} targets")
    finite = np.isfinite(scores)
    if not finite.all():
        raise ValueError(
            f"logits must be finite; row {int(np.argwhere(~finite)[0, 0])} holds NaN or infinity"
        )
    return scores, true
