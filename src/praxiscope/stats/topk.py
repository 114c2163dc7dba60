"""Top-k accuracy with a stated rule for ties."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from praxiscope.stats.labels import IntArray, validate_logits

TIES_RULE = "Among classes with equal scores the one that is listed first ranks first, as argmax does."
"""The rule for ties as a sentence for readers of a report."""


def compute_target_ranks(logits: npt.NDArray[np.floating], targets: npt.ArrayLike) -> IntArray:
    """Find the rank of each sample's target among its classes, 0 for the best.

    Ties: among equal scores the lower class index ranks first, as in ``np.argmax``. So rank 0 is exactly
        "argmax is
    the target", and top-1 always equals the confusion matrix's diagonal, also under half precision's many
    ties.

    Args:
        logits: (N, K) finite scores of any monotone kind: logits, log-probabilities or probabilities.
        targets: (N,) integer class indices in ``[0, K)``.

    Returns:
        (N,) int64 ranks in ``[0, K)``.

    Raises:
        ValueError: Shapes that don't fit, non-finite scores, targets outside the range.
    """
    scores, true = validate_logits(logits, targets)
    own = np.take_along_axis(scores, true[:, None], axis=1)
    ahead = (scores == own) & (np.arange(scores.shape[1]) < true[:, None])
    ranks: IntArray = ((scores > own) | ahead).sum(axis=1, dtype=np.int64)
    return ranks


def compute_topk(logits: npt.NDArray[np.floating], targets: npt.ArrayLike, k: int) -> float:
    """Compute the share of samples whose target is among the k best classes.

    Args:
        logits: (N, K) finite scores.
        targets: (N,) integer class indices in ``[0, K)``.
        k: At least 1; with ``k >= K`` every sample counts as right.

    Returns:
        A fraction in [0, 1]; NaN for no samples. Ties as in `compute_target_ranks`.

    Raises:
        ValueError: ``k`` below 1, or what `compute_target_ranks` raises.

    >>> compute_topk(np.array([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1]]), [2, 2], 2)
    0.5
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    ranks = compute_target_ranks(logits, targets)
    return float((ranks < k).mean()) if ranks.size else float("nan")
