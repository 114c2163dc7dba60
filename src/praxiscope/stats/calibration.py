"""Probabilities from logits, proper scores, and calibration in equal-width bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from praxiscope.stats.labels import FloatArray, IntArray, validate_logits

NUM_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. 2017."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleLosses:
    """What each sample contributes to the probabilistic scores."""

    nll: FloatArray
    """(N,) negative log-likelihood of the target in nats, at least 0."""
    brier: FloatArray
    """(N,) sum over classes of the squared difference to the one-hot target, in [0, 2]."""
    confidence: FloatArray
    """(N,) probability of the predicted class, in [1 / K, 1]."""
    correct: npt.NDArray[np.bool_]
    """(N,) whether the predicted class (lowest index among equals) is the target."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The samples whose confidence lies in ``(low, high]``."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean confidence of the bin; NaN when it is empty."""
    accuracy: float
    """Share of right samples of the bin; NaN when it is empty."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How good the probabilities are; NaN for no samples."""

    nll: float
    """Mean negative log-likelihood in nats: 0 is perfect, log K is a uniform guess."""
    brier: float
    """Mean multi-class Brier score in [0, 2] (Brier 1950, the sum over classes)."""
    ece: float
    """Expected calibration error in [0, 1] (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
    bins: tuple[ReliabilityBin, ...]


def compute_log_softmax(logits: npt.NDArray[np.floating]) -> FloatArray:
    """Compute log-probabilities along the last axis in float64, stable for logits of any finite size.

    Args:
        logits: (..., K) finite.

    >>> compute_log_softmax(np.array([1e4, 1e4])).round(4).tolist()
    [-0.6931, -0.6931]
    """
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float64)


def compute_softmax(logits: npt.NDArray[np.floating]) -> FloatArray:
    """Compute probabilities along the last axis in float64; they sum to 1 within rounding.

    Args:
        logits: (..., K) finite.
    """
    shifted = np.asarray(logits, dtype=np.float64)
    weights = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), dtype=np.float64)


def compute_sample_losses(logits: npt.NDArray[np.floating], targets: npt.ArrayLike) -> SampleLosses:
    """Compute each sample's negative log-likelihood, Brier score and confidence.

    Args:
        logits: (N, K) finite.
        targets: (N,) integer class indices in ``[0, K)``.

    Raises:
        ValueError: Shapes that don't fit, non-finite logits, targets outside the range.
    """
    scores, true = validate_logits(logits, targets)
    log_probs = compute_log_softmax(scores)
    probs = np.exp(log_probs)
    rows, preds = np.arange(true.size), scores.argmax(axis=1)
    own = probs[rows, true]
    # sum_k (p_k - y_k)^2 = sum_k p_k^2 - 2 p_target + 1, without building the one-hot matrix.
    brier = np.maximum((probs**2).sum(axis=1) - 2 * own + 1, 0.0)
    return SampleLosses(
        nll=np.maximum(-log_probs[rows, true], 0.0),
        brier=brier,
        confidence=np.minimum(probs[rows, preds], 1.0),
        correct=preds == true,
    )


def assign_bins(confidence: npt.NDArray[np.floating], num_bins: int = NUM_BINS) -> IntArray:
    """Find the equal-width bin ``(i / B, (i + 1) / B]`` of each confidence; 0 belongs to the first.

    Args:
        confidence: (N,) in [0, 1].
        num_bins: B, at least 1.

    Returns:
        (N,) int64 in ``[0, B)``.

    Raises:
        ValueError: ``num_bins`` below 1, or confidences outside [0, 1].
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; it must be at least 1")
    values = np.asarray(confidence, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("confidences must lie in [0, 1]")
    inner_edges = np.arange(1, num_bins) / num_bins
    return np.searchsorted(inner_edges, values, side="left").astype(np.int64)


def sum_bin_gaps(
    confidence_sums: npt.NDArray[np.generic], correct_sums: npt.NDArray[np.generic]
) -> FloatArray:
    """Sum the gaps between confidence and accuracy over the bins: the ECE times the number of samples.

    ``sum_b n_b / n * |accuracy_b - confidence_b|`` is ``sum_b |correct_b - confidence_sum_b| / n``, so the
    sums of each bin are all that it needs, and empty bins need no special case.

    Args:
        confidence_sums: (..., B) sum of the confidences of each bin.
        correct_sums: (..., B) number of right samples of each bin.

    Returns:
        (...) the error times the number of samples.
    """
    gaps = np.abs(np.asarray(correct_sums, np.float64) - np.asarray(confidence_sums, np.float64))
    return np.asarray(gaps.sum(axis=-1), dtype=np.float64)


def compute_calibration(
    logits: npt.NDArray[np.floating], targets: npt.ArrayLike, *, num_bins: int = NUM_BINS
) -> Calibration:
    """Compute NLL, Brier score, ECE and the bins of the reliability diagram.

    Args:
        logits: (N, K) finite.
        targets: (N,) integer class indices in ``[0, K)``.
        num_bins: Equal-width bins of the confidence.

    Raises:
        ValueError: What `compute_sample_losses` and `assign_bins` raise.
    """
    return summarize_calibration(compute_sample_losses(logits, targets), num_bins=num_bins)


def summarize_calibration(losses: SampleLosses, *, num_bins: int = NUM_BINS) -> Calibration:
    """Compute `Calibration` from what each sample contributes.

    Args:
        losses: Of N samples.
        num_bins: Equal-width bins of the confidence.
    """
    bins = assign_bins(losses.confidence, num_bins)
    counts = np.bincount(bins, minlength=num_bins)
    confidence_sums = np.bincount(bins, weights=losses.confidence, minlength=num_bins)
    correct_sums = np.bincount(bins, weights=losses.correct, minlength=num_bins)
    size = losses.nll.size
    nan = float("nan")
    return Calibration(
        nll=float(losses.nll.mean()) if size else nan,
        brier=float(losses.brier.mean()) if size else nan,
        ece=float(sum_bin_gaps(confidence_sums, correct_sums)) / size if size else nan,
        bins=tuple(
            ReliabilityBin(
                low=index / num_bins,
                high=(index + 1) / num_bins,
                count=int(counts[index]),
                confidence=float(confidence_sums[index] / counts[index]) if counts[index] else nan,
                accuracy=float(correct_sums[index] / counts[index]) if counts[index] else nan,
            )
            for index in range(num_bins)
        ),
    )
