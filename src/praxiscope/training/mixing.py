"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019): a batch is blended with itself in reverse order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from praxiscope.recipe.schema import AugmentSection


def mix_batch(
    images_BCHW: Tensor,
    targets: Tensor,
    section: AugmentSection,
    *,
    sizes: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Blend each sample with another one, images and targets alike.

    Args:
        images_BCHW: float, normalised; changed in place.
        targets: int64 class indices, (B,) of one head, (B, M) of several.
        section: ``mixup`` and ``cutmix`` are the alphas of the weight's Beta distribution, 0 for never; with
            both, one of them is drawn for each batch. ``mix_prob`` is how often a batch is mixed at all.
        sizes: classes of each head; K is their sum.
        rng: source of every draw.

    Returns:
        The images, and float (B, K) soft targets that sum to 1 in each head; the indices as they came
        where nothing was mixed.
    """
    alphas = {"mixup": section.mixup, "cutmix": section.cutmix}
    kinds = [kind for kind, alpha in alphas.items() if alpha > 0]
    if not kinds or rng.random() >= section.mix_prob:
        return images_BCHW, targets
    kind = kinds[rng.integers(len(kinds))]
    weight = float(rng.beta(alphas[kind], alphas[kind]))
    others = images_BCHW.flip(0)
    if kind == "mixup":
        images_BCHW.mul_(weight).add_(others, alpha=1 - weight)
    else:
        height, width = images_BCHW.shape[2:]
        top, bottom, left, right = draw_box(height, width, weight, rng)
        images_BCHW[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        # A box that the border has cut is smaller than was drawn: the share is counted, not assumed.
        weight = 1 - (bottom - top) * (right - left) / (height * width)
    hard = encode_targets(targets, sizes).to(images_BCHW.dtype)
    return images_BCHW, weight * hard + (1 - weight) * hard.flip(0)


def encode_targets(targets: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return one-hot rows, (B, K), the heads side by side."""
    heads = zip(targets.reshape(len(targets), -1).unbind(1), sizes, strict=True)
    return torch.cat([torch.nn.functional.one_hot(each, size) for each, size in heads], dim=1)


def draw_box(height: int, width: int, weight: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw CutMix's box: area 1 - ``weight`` of the image, any centre, cut at the border.

    Returns:
        (top, bottom, left, right) in pixels, half-open.
    """
    share = math.sqrt(1 - weight)
    half_height, half_width = round(height * share) // 2, round(width * share) // 2
    row, column = int(rng.integers(height)), int(rng.integers(width))
    return (
        max(0, row - half_height),
        min(height, row + half_height),
        max(0, column - half_width),
        min(width, column + half_width),
    )
