import math

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import brier_score_loss, log_loss

from praxiscope.stats.calibration import (
    assign_bins,
    compute_calibration,
    compute_log_softmax,
    compute_sample_losses,
    compute_softmax,
)


def make_case(seed, size=400, num_classes=7, scale=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, num_classes)) * scale, rng.integers(num_classes, size=size)


def loop_ece(logits, targets, num_bins):
    """Follow Guo et al. 2017 bin by bin, with masks and no shared code."""
    probs = special.softmax(np.asarray(logits, np.float64), axis=1)
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == targets
    total = 0.0
    for index in range(num_bins):
        low, high = index / num_bins, (index + 1) / num_bins
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 50.0, 1e3, 1e6])
def test_softmax_and_log_softmax_equal_scipy(scale):
    logits = np.random.default_rng(0).uniform(-scale, scale, (200, 4))
    np.testing.assert_allclose(
        compute_log_softmax(logits), special.log_softmax(logits, axis=1), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(
        compute_softmax(logits), special.softmax(logits, axis=1), rtol=1e-12, atol=1e-300
    )


def test_huge_logits_neither_overflow_nor_lose_the_loss():
    calibration = compute_calibration(np.array([[1e30, -1e30], [-3e4, 3e4]]), [0, 0])
    assert calibration.nll == pytest.approx(6e4 / 2)
    assert calibration.brier == pytest.approx(1.0)
    assert calibration.ece == pytest.approx(0.5)


def test_logits_of_half_precision_are_scored_in_double():
    logits, targets = make_case(1)
    half = logits.astype(np.float16)
    ours, double = compute_calibration(half, targets), compute_calibration(half.astype(np.float64), targets)
    assert (ours.nll, ours.brier, ours.ece) == (double.nll, double.brier, double.ece)


@pytest.mark.parametrize("seed", range(5))
def test_nll_and_brier_equal_scikit_learn(seed):
    logits, targets = make_case(seed)
    probs = special.softmax(logits, axis=1)
    ours = compute_calibration(logits, targets)
    assert ours.nll == pytest.approx(log_loss(targets, probs, labels=range(7)), abs=1e-12)
    theirs = brier_score_loss(targets, probs, labels=range(7), scale_by_half=False)
    assert ours.brier == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
@pytest.mark.parametrize("seed", range(5))
def test_ece_equals_an_independent_loop(seed, num_bins):
    logits, targets = make_case(seed, scale=1.0 + seed)
    ours = compute_calibration(logits, targets, num_bins=num_bins)
    assert ours.ece == pytest.approx(loop_ece(logits, targets, num_bins), abs=1e-12)


def test_reliability_bins_hold_every_sample_once_and_carry_the_ece():
    logits, targets = make_case(3)
    ours = compute_calibration(logits, targets)
    assert sum(one.count for one in ours.bins) == len(targets)
    filled = [one for one in ours.bins if one.count]
    assert sum(one.count * abs(one.accuracy - one.confidence) for one in filled) / 400 == pytest.approx(
        ours.ece
    )
    assert all(one.low < one.confidence <= one.high for one in filled)
    assert all(math.isnan(one.accuracy) and math.isnan(one.confidence) for one in ours.bins if not one.count)


def test_bins_are_open_below_and_closed_above():
    assert assign_bins(np.array([0.0, 0.2, np.nextafter(0.2, 1), 0.4, 1.0]), 5).tolist() == [0, 0, 1, 1, 4]


def test_a_single_class_is_certain_and_right():
    calibration = compute_calibration(np.array([[3.0], [-5.0]]), [0, 0])
    assert (calibration.nll, calibration.brier, calibration.ece) == (0.0, 0.0, 0.0)


def test_sample_losses_stay_in_their_ranges_at_the_extremes():
    losses = compute_sample_losses(np.array([[1e4, 0.0], [0.0, 1e4], [0.0, 0.0]]), [0, 0, 1])
    assert losses.nll.tolist() == [0.0, 1e4, pytest.approx(math.log(2))]
    assert losses.brier.tolist() == [0.0, 2.0, pytest.approx(0.5)]
    assert losses.correct.tolist() == [True, False, False]


def test_no_samples_give_nan():
    calibration = compute_calibration(np.empty((0, 3)), [])
    assert all(math.isnan(value) for value in (calibration.nll, calibration.brier, calibration.ece))


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        ([[0.0, np.inf]], [0], "row 0 holds NaN or infinity"),
        ([[0.0, 1.0]], [-1], "outside the allowed range"),
    ],
)
def test_malformed_input_is_refused(logits, targets, message):
    with pytest.raises(ValueError, match=message):
        compute_calibration(np.asarray(logits), targets)


@pytest.mark.parametrize("values", [[1.1], [-0.1], [np.nan]])
def test_confidences_outside_their_range_are_refused(values):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        assign_bins(np.array(values))


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="num_bins is 0"):
        assign_bins(np.array([0.5]), 0)
