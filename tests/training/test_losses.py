"""Each loss against its formula in float64, against torch, and against timm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional

from praxiscope.errors import UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import TrainSection
from praxiscope.training.losses import (
    binary_cross_entropy,
    build_loss,
    compute_class_weights,
    cross_entropy,
    focal,
    soften,
)

COUNTS = np.array([10, 30, 60, 20])
INDICES = torch.tensor([0, 3, 1, 1, 2])


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32))


def mix(goals: torch.Tensor, share: float) -> torch.Tensor:
    one_hot = functional.one_hot(goals, 4).float()
    return share * one_hot + (1 - share) * one_hot.flip(0)


def log_probs(logits: torch.Tensor) -> np.ndarray:
    z = logits.double().numpy()
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def truth(goals: torch.Tensor, smoothing: float) -> np.ndarray:
    hard = goals.double().numpy() if goals.ndim == 2 else np.eye(4)[goals.numpy()]
    return hard * (1 - smoothing) + smoothing / 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("goals", [INDICES, mix(INDICES, 0.7)])
@pytest.mark.parametrize("weights", [None, torch.tensor([3.0, 1.0, 0.5, 0.0])])
def test_cross_entropy_is_its_formula(logits, goals, smoothing, weights):
    each = -truth(goals, smoothing) * log_probs(logits)
    expected = (each * (1 if weights is None else weights.double().numpy())).sum()
    ours = cross_entropy(logits, goals, smoothing=smoothing, weights_K=weights)
    assert float(ours) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("goals", [INDICES, mix(INDICES, 0.7)])
def test_bce_is_its_formula(logits, goals, smoothing, threshold):
    probs = 1 / (1 + np.exp(-logits.double().numpy()))
    targets = truth(goals, smoothing)
    if threshold is not None:
        targets = (targets > threshold).astype(float)
    expected = -(targets * np.log(probs) + (1 - targets) * np.log(1 - probs)).mean(axis=1).sum()
    ours = binary_cross_entropy(logits, goals, smoothing=smoothing, threshold=threshold)
    assert float(ours) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("goals", [INDICES, mix(INDICES, 0.7)])
def test_focal_is_its_formula_and_ce_at_gamma_0(logits, goals, gamma):
    log_p = log_probs(logits)
    expected = -(truth(goals, 0.1) * (1 - np.exp(log_p)) ** gamma * log_p).sum()
    assert float(focal(logits, goals, gamma=gamma, smoothing=0.1)) == pytest.approx(expected, rel=1e-5)
    if gamma == 0:
        torch.testing.assert_close(
            focal(logits, goals, gamma=0, smoothing=0.1), cross_entropy(logits, goals, smoothing=0.1)
        )


def test_focal_of_one_example_by_hand():
    """p = (3/4, 1/4): -(1/4)^2 log(3/4)."""
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert float(focal(logits, torch.tensor([0]), gamma=2)) == pytest.approx(-(0.25**2) * math.log(0.75))


def test_focal_has_a_gradient_where_the_network_is_certain():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    focal(logits, torch.tensor([0]), gamma=0.5).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_bce_means_what_it_means_in_timm(logits, smoothing, threshold):
    """Published learning rates hold: timm's mean over B x K is our sum divided by B, mixed or not."""
    theirs = BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)
    ours = binary_cross_entropy(logits, INDICES, smoothing=smoothing, threshold=threshold) / 5
    torch.testing.assert_close(ours, theirs(logits, INDICES))
    # timm smooths mixed targets where it mixes them.
    mixed = mixup_target(INDICES, 4, lam=0.7, smoothing=smoothing)
    ours = binary_cross_entropy(logits, mix(INDICES, 0.7), smoothing=smoothing, threshold=threshold) / 5
    torch.testing.assert_close(ours, theirs(logits, mixed))
    soft = cross_entropy(logits, mix(INDICES, 0.7), smoothing=smoothing) / 5
    torch.testing.assert_close(soft, SoftTargetCrossEntropy()(logits, mixed))


@pytest.mark.parametrize("loss", ["ce", "bce", "focal"])
def test_indices_and_their_one_hot_rows_are_the_same_goal(loss, logits):
    """Integer targets never reach a sigmoid as numbers."""
    for more in ({}, {"smoothing": 0.1, "class_weights": "balanced"}):
        compute = build_loss(TrainSection(loss=loss, **more), COUNTS)
        torch.testing.assert_close(compute(logits, INDICES), compute(logits, mix(INDICES, 1.0)))


@pytest.mark.parametrize("loss", ["ce", "bce", "focal"])
def test_a_batch_weighs_as_much_as_its_parts(loss, logits):
    compute = build_loss(TrainSection(loss=loss, smoothing=0.1, class_weights="balanced"), COUNTS)
    parts = compute(logits[:2], INDICES[:2]) + compute(logits[2:], INDICES[2:])
    torch.testing.assert_close(parts, compute(logits, INDICES))


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat(np.arange(4), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    ours = compute_class_weights(COUNTS).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    assert ours[labels].mean() == pytest.approx(1)  # so the learning rate means what it meant


def test_a_class_without_training_samples_weighs_nothing():
    weights = compute_class_weights(np.array([10, 0, 30]))
    assert weights.tolist() == pytest.approx([2.0, 0.0, 40 / 60])


@pytest.mark.parametrize("loss", ["ce", "bce", "focal"])
def test_balanced_weights_scale_a_sample_by_its_class(loss, logits):
    plain = build_loss(TrainSection(loss=loss), COUNTS)
    weighted = build_loss(TrainSection(loss=loss, class_weights="balanced"), COUNTS)
    for row, target in enumerate(INDICES):
        factor = 120 / (4 * COUNTS[int(target)])
        ours = weighted(logits[[row]], target[None])
        torch.testing.assert_close(ours, factor * plain(logits[[row]], target[None]))


def test_a_mixed_sample_of_bce_weighs_as_its_classes_do_by_share(logits):
    weights = compute_class_weights(COUNTS)
    goals = torch.tensor([[0.25, 0, 0.75, 0]])
    expected = (0.25 * weights[0] + 0.75 * weights[2]) * binary_cross_entropy(logits[:1], goals)
    torch.testing.assert_close(binary_cross_entropy(logits[:1], goals, weights_K=weights), expected)


def test_soft_targets_sum_to_one():
    torch.testing.assert_close(soften(INDICES, 4, smoothing=0.3).sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("word", ["CE", "ce", "BCE", "Focal"])
def test_a_loss_may_be_written_in_capitals(word):
    assert load_recipe({"name": "a"}, {"train.loss": word}).train.loss == word.lower()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"train.loss": "cee"}, "train.loss is 'cee': input should be 'ce', 'bce' or 'focal'. Did you mean 'ce'?"),
        ({"train.bce_threshold": 0.2}, "bce_threshold is for loss bce; the loss is ce. Leave one of them out"),
        ({"augment.repeats": 9, "train.batch_size": 8}, "augment.repeats (9) must not be above train.batch_size (8)"),
    ],
)  # fmt: skip
def test_settings_that_can_not_go_together_are_refused(overrides, words):
    with pytest.raises(UsageError) as caught:
        load_recipe({"name": "a"}, overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(("threshold", "smoothing"), [(0.0, 0.1), (0.04, 0.1), (0.6, 0.9)])
def test_a_threshold_that_smoothing_has_overtaken_is_refused(threshold, smoothing):
    section = TrainSection(loss="bce", bce_threshold=threshold, smoothing=smoothing)
    with pytest.raises(UsageError, match="all would count the same"):
        build_loss(section, np.array([3, 3]))
    assert build_loss(TrainSection(loss="bce", bce_threshold=0.2, smoothing=0.1), np.array([3, 3]))
