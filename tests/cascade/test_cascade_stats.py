from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from praxiscope.stats.calibration import compute_softmax
from praxiscope.stats.cascade import (
    COLDEST,
    HOTTEST,
    ask_large,
    choose_thresholds,
    compute_confidence,
    compute_costs,
    compute_curve,
    find_indistinct,
    fit_temperature,
)


def draw(seed=0, count=400, classes=5, heat=1.0):
    """Return logits times ``heat``, with targets drawn from the softmax of the logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    probabilities = compute_softmax(logits)
    targets = np.array([rng.choice(classes, p=row) for row in probabilities])
    return heat * logits, targets


@pytest.mark.parametrize("heat", [0.3, 1.0, 4.0])
def test_the_temperature_minimises_sklearns_log_loss(heat):
    logits, targets = draw(heat=heat)
    reference = minimize_scalar(
        lambda log_t: log_loss(targets, compute_softmax(logits / np.exp(log_t)), labels=range(5)),
        bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-10},
    )  # fmt: skip
    assert fit_temperature(logits, targets) == pytest.approx(np.exp(reference.x), rel=1e-5)


def test_the_temperature_finds_the_heat_that_was_put_in():
    logits, targets = draw(count=20_000, heat=3.0)
    assert fit_temperature(logits, targets) == pytest.approx(3.0, rel=0.03)


def test_temperatures_without_an_optimum_stop_at_the_ends():
    perfect = np.eye(4) * 5
    assert fit_temperature(perfect, np.arange(4)) == COLDEST
    assert fit_temperature(perfect, (np.arange(4) + 1) % 4) == HOTTEST
    assert fit_temperature(np.zeros((3, 2)), np.array([0, 1, 0])) == HOTTEST
    with pytest.raises(ValueError, match="at least one sample"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))


def test_the_ends_ask_nobody_and_everybody():
    confidence = np.array([0.2, 0.5, 1.0, 1.0])
    assert not ask_large(confidence, 0.0).any()
    assert ask_large(confidence, 1.0).all()
    assert ask_large(confidence, 0.5).tolist() == [True, False, False, False]
    assert compute_costs(ask_large(confidence, 0.0), 0.0, 2.0, 9.0).tolist() == [2.0] * 4
    assert compute_costs(ask_large(confidence, 1.0), 1.0, 2.0, 9.0).tolist() == [9.0] * 4
    assert compute_costs(ask_large(confidence, 0.5), 0.5, 2.0, 9.0).tolist() == [11.0, 2.0, 2.0, 2.0]


def test_the_curve_is_that_of_a_plain_loop():
    rng = np.random.default_rng(3)
    confidence = np.round(rng.uniform(0.2, 1, 300), 2)  # many equal ones
    small, large = rng.random(300) < confidence, rng.random(300) < 0.8
    thresholds = np.unique(np.concatenate([choose_thresholds(confidence), confidence, [0.0, 0.5, 1.0]]))
    curve = compute_curve(thresholds, confidence, small, large, cost_small=1.5, cost_large=7.0)
    for place, threshold in enumerate(thresholds):
        asked = [threshold >= 1 or value < threshold for value in confidence]
        right = [large[i] if asked[i] else small[i] for i in range(300)]
        cost = [(0 if threshold >= 1 else 1.5) + (7.0 if one else 0) for one in asked]
        assert curve.accuracy[place] == pytest.approx(np.mean(right), abs=1e-12)
        assert curve.cost[place] == pytest.approx(np.mean(cost), abs=1e-12)
        assert curve.asked[place] == pytest.approx(np.mean(asked), abs=1e-12)
    assert curve.accuracy[0] == small.mean()
    assert curve.accuracy[-1] == large.mean()


def test_thresholds_lie_between_confidences():
    assert choose_thresholds(np.array([0.9, 0.3, 0.3, 0.5])).tolist() == pytest.approx([0, 0.4, 0.7, 1])
    assert choose_thresholds(np.array([1.0])).tolist() == [0, 1]
    many = choose_thresholds(np.random.default_rng(0).random(5000))
    assert len(many) == 201
    assert (np.diff(many) > 0).all()
    with pytest.raises(ValueError, match="at least one sample"):
        choose_thresholds(np.zeros(0))


def test_points_that_can_be_told_from_the_best_are_left_out():
    from statsmodels.stats.contingency_tables import mcnemar

    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.2, 1, 500)
    small, large = rng.random(500) < confidence, rng.random(500) < 0.85
    grid = choose_thresholds(confidence, max_points=41)
    curve = compute_curve(grid, confidence, small, large, cost_small=1, cost_large=5)
    found = find_indistinct(curve, confidence, small, large)
    best = np.where(ask_large(confidence, grid[curve.accuracy.argmax()]), large, small)
    for place, threshold in enumerate(grid):
        right = np.where(ask_large(confidence, threshold), large, small)
        table = [
            [(best & right).sum(), (best & ~right).sum()],
            [(~best & right).sum(), (~best & ~right).sum()],
        ]
        assert found[place] == (mcnemar(table, exact=True).pvalue > 0.05)
    assert found[curve.accuracy.argmax()]
    assert not found[0]


def test_groups_count_as_one_vote_each():
    """Five performers, each with 40 samples that agree: too few groups to tell anything at 5 %."""
    groups = np.repeat([f"p{i}" for i in range(5)], 40)
    confidence = np.linspace(0.2, 0.9, 200)
    small, large = np.zeros(200, bool), np.ones(200, bool)
    curve = compute_curve(np.array([0.0, 1.0]), confidence, small, large, cost_small=1, cost_large=5)
    assert find_indistinct(curve, confidence, small, large).tolist() == [False, True]
    assert find_indistinct(curve, confidence, small, large, groups=groups).tolist() == [True, True]


def test_confidence_is_the_calibrated_maximum():
    logits = np.array([[2.0, 0.0], [0.0, 1e4]], np.float32)
    assert compute_confidence(logits, 2.0).tolist() == pytest.approx([1 / (1 + np.exp(-1)), 1.0])
