"""The losses, each a pure function of logits and goals; every one is a sum over a batch's samples.

The sum is what lets batches of different sizes, and the batches of one accumulated step, weigh each sample
the same: the loop divides by the number of samples.

Goals are class indices, int64 (B,), or after MixUp or CutMix soft targets, float (B, K) with rows that sum
to 1. No loss takes indices for targets: :func:`soften` makes both kinds the same thing first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from praxiscope.errors import UsageError
from praxiscope.recipe.schema import TrainSection
from praxiscope.tensors import Heads, cut_columns

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits float32 (B, K), goals) -> the sum of the samples' losses, a scalar."""


def build_loss(section: TrainSection, class_counts: npt.NDArray[np.int64]) -> Loss:
    """Return the loss that a recipe asks for.

    Args:
        section: the recipe's ``train``.
        class_counts: int64 (K,), training samples of each class; what ``class_weights: balanced`` follows.

    Raises:
        UsageError: ``bce_threshold`` isn't between the targets that smoothing leaves.
    """
    threshold, floor = section.bce_threshold, section.smoothing / len(class_counts)
    if threshold is not None and not floor <= threshold < 1 - section.smoothing + floor:
        raise UsageError(
            f"train.bce_threshold is {threshold:g}, but train.smoothing={section.smoothing:g} leaves targets "
            f"of {floor:.3g} and {1 - section.smoothing + floor:.3g}: all would count the same. Set "
            "train.smoothing=0, which thresholded targets don't need, or a threshold in between."
        )
    weights_K = compute_class_weights(class_counts) if section.class_weights == "balanced" else None
    if section.loss == "bce":
        return partial(
            binary_cross_entropy,
            smoothing=section.smoothing,
            threshold=section.bce_threshold,
            weights_K=weights_K,
        )
    if section.loss == "focal":
        return partial(focal, gamma=section.focal_gamma, smoothing=section.smoothing, weights_K=weights_K)
    return partial(cross_entropy, smoothing=section.smoothing, weights_K=weights_K)


def combine_losses(losses: Sequence[Loss], heads: Heads, weights: Sequence[float]) -> Loss:
    """Return the weighted sum of the heads' losses; of one head with weight 1, its loss itself.

    Args:
        losses: one of each head.
        heads: whose logits stand side by side.
        weights: of each head's loss.
    """
    if len(losses) == 1 and weights[0] == 1:
        return losses[0]
    columns = cut_columns(heads.sizes)

    def combined(logits_BK: Tensor, goals: Tensor) -> Tensor:
        # Indices (B, M) have a column for each head; soft targets (B, K) have each head's columns.
        soft = goals.is_floating_point()
        parts = [
            weight
            * loss(logits_BK[:, cut], goals[:, cut] if soft else goals.reshape(len(goals), -1)[:, place])
            for place, (loss, cut, weight) in enumerate(zip(losses, columns, weights, strict=True))
        ]
        return torch.stack(parts).sum()

    return combined


def compute_class_weights(class_counts: npt.NDArray[np.int64]) -> Tensor:
    """Return ``balanced`` weights, float32 (K,): N / (K_present x samples of the class).

    Over the training split they average to 1, so the learning rate means what it means without them. A class
    without a training sample weighs nothing and isn't counted in K_present.
    """
    present = class_counts > 0
    weights = np.zeros(len(class_counts))
    weights[present] = class_counts.sum() / (present.sum() * class_counts[present])
    return torch.from_numpy(weights).float()


def soften(goals: Tensor, num_classes: int, *, smoothing: float = 0.0) -> Tensor:
    """Return goals as smoothed soft targets, float32 (B, K): ``(1 - smoothing) x target + smoothing / K``.

    Indices are one-hot encoded. Rows sum to 1. (Szegedy et al. 2016; on mixed targets as timm's Mixup does.)
    """
    if goals.ndim == 1:
        goals = functional.one_hot(goals, num_classes)
    return goals.float() * (1 - smoothing) + smoothing / num_classes


def cross_entropy(
    logits_BK: Tensor, goals: Tensor, *, smoothing: float = 0.0, weights_K: Tensor | None = None
) -> Tensor:
    """Return the softmax cross-entropy, ``-sum_k w_k t_k log p_k``, summed over the samples.

    Args:
        logits_BK: float32.
        goals: indices (B,) or soft targets (B, K).
        smoothing: label smoothing.
        weights_K: of the classes; none where None.
    """
    weights_K = None if weights_K is None else weights_K.to(logits_BK.device)
    return functional.cross_entropy(
        logits_BK, goals, weight=weights_K, label_smoothing=smoothing, reduction="sum"
    )


def binary_cross_entropy(
    logits_BK: Tensor,
    goals: Tensor,
    *,
    smoothing: float = 0.0,
    threshold: float | None = None,
    weights_K: Tensor | None = None,
) -> Tensor:
    """Return a sigmoid cross-entropy for each class, averaged over the classes, summed over the samples.

    The scale is that of Wightman et al. 2021 ("ResNet strikes back") and timm's ``BinaryCrossEntropy``: a
    mean over all B x K elements, so that published learning rates mean the same.

    Args:
        logits_BK: float32.
        goals: indices (B,), which are one-hot encoded, or soft targets (B, K).
        smoothing: targets become ``(1 - smoothing) t + smoothing / K``.
        threshold: targets above it then count as 1, others as 0; they stay soft where None.
        weights_K: a sample weighs ``sum_k t_k w_k``, with t before smoothing.
    """
    num_classes = logits_BK.shape[1]
    targets_BK = soften(goals, num_classes, smoothing=smoothing)
    if threshold is not None:
        targets_BK = (targets_BK > threshold).float()
    losses_B = functional.binary_cross_entropy_with_logits(logits_BK, targets_BK, reduction="none").mean(
        dim=1
    )
    if weights_K is not None:
        losses_B = losses_B * (soften(goals, num_classes) @ weights_K.to(logits_BK.device))
    return losses_B.sum()


def focal(
    logits_BK: Tensor,
    goals: Tensor,
    *,
    gamma: float,
    smoothing: float = 0.0,
    weights_K: Tensor | None = None,
) -> Tensor:
    """Return the focal loss over a softmax, ``-sum_k w_k t_k (1 - p_k)^gamma log p_k``, summed over samples.

    Lin et al. 2017 wrote it for a sigmoid; this is the usual form for one class of many. At ``gamma`` 0 it is
    :func:`cross_entropy`.

    Args:
        logits_BK: float32.
        goals: indices (B,) or soft targets (B, K).
        gamma: exponent, 0 or more: how little well-classified samples weigh.
        smoothing: label smoothing.
        weights_K: of the classes; none where None.
    """
    targets_BK = soften(goals, logits_BK.shape[1], smoothing=smoothing)
    if weights_K is not None:
        targets_BK = targets_BK * weights_K.to(logits_BK.device)
    log_probs_BK = functional.log_softmax(logits_BK, dim=1)
    # Below gamma 1 the power's slope at a probability of exactly 1 is infinite; the floor keeps it finite.
    rest_BK = (-torch.expm1(log_probs_BK)).clamp_min(torch.finfo(torch.float32).tiny)
    return -(targets_BK * rest_BK**gamma * log_probs_BK).sum()
