"""Attribution to pixels through captum: integrated gradients and occlusion.

Both compare an image with one from which the evidence is gone: the colour that normalisation takes to zero
(the mean colour of the data that the network was normalised for). A black baseline would give black objects
no attribution at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from praxiscope.explaining.subject import Subject

STEPS = (64, 128, 256)
"""Points of the Gauss-Legendre rule. Networks of ReLUs are no smooth functions: on a fine-tuned
EfficientNet-Lite0 32 points missed the integral by half, 128 by a twentieth."""
TOLERANCE = 0.1
"""More points are taken for images whose gap is more than this part of the difference, or of one logit
where the difference is less. With the last of ``STEPS`` the gap is what it is, and reported."""
WINDOWS_PER_SIDE = 5
"""The occluding square's side is this part of the image's (Zeiler & Fergus: 50 of 225 px); it moves by half
of itself."""


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients:
    """Attributions, and how complete they are (Sundararajan et al. 2017, proposition 1)."""

    attributions: Tensor
    """float32 (N, 3, H, W), in logits."""
    difference: Tensor
    """float32 (N,): score of the image minus score of the baseline, in logits."""

    @property
    def gap(self) -> Tensor:
        """Sum of the attributions minus the difference: float32 (N,); 0 were the integral exact."""
        return self.attributions.sum(dim=(1, 2, 3)) - self.difference


def compute_integrated_gradients(
    subject: Subject,
    batch: Tensor,
    targets: Tensor,
    *,
    steps: Sequence[int] = STEPS,
    batch_size: int = 32,
) -> IntegratedGradients:
    """Integrate the gradient of a class score along the line from the baseline to the image.

    Args:
        subject: Held still by the caller.
        batch: float32 (N, 3, H, W), prepared.
        targets: int64 (N,), the classes whose scores (logits) are differentiated.
        steps: Passes forward and backward for each image: the first number for all, each further one for
            those that are not complete to within ``TOLERANCE``.
        batch_size: Points of the line, of all images together, in one pass; at least N.
    """
    difference = _compute_difference(subject, batch, targets)
    attributions = torch.zeros_like(batch)
    size = max(batch_size, len(batch))  # captum warns of less
    open_rows = torch.arange(len(batch), device=batch.device)
    for count in steps:
        attributions[open_rows] = _integrate(subject, batch[open_rows], targets[open_rows], count, size)
        result = IntegratedGradients(attributions=attributions, difference=difference)
        open_rows = torch.nonzero(result.gap.abs() > TOLERANCE * difference.abs().clamp_min(1.0)).flatten()
        if not len(open_rows):
            break
    return result


def _integrate(subject: Subject, batch: Tensor, targets: Tensor, steps: int, batch_size: int) -> Tensor:
    from captum.attr import IntegratedGradients as CaptumIntegratedGradients

    attributions: Tensor = CaptumIntegratedGradients(lambda images: _score(subject, images)).attribute(
        batch, torch.zeros_like(batch), target=targets, n_steps=steps, internal_batch_size=batch_size
    )
    return attributions.detach().float()


@torch.no_grad()
def _compute_difference(subject: Subject, batch: Tensor, targets: Tensor) -> Tensor:
    scores = _score(subject, torch.cat([batch, torch.zeros_like(batch[:1])]))
    rows = torch.arange(len(batch), device=batch.device)
    return scores[rows, targets] - scores[-1, targets]


def compute_occlusion(subject: Subject, batch: Tensor, targets: Tensor, *, batch_size: int = 32) -> Tensor:
    """Cover the image with a square of the baseline's colour, place by place; what the score loses is kept.

    Args:
        subject: Held still by the caller.
        batch: float32 (N, 3, H, W), prepared.
        targets: int64 (N,), the classes whose scores (logits) are read.
        batch_size: Covered images in one pass.

    Returns:
        float32 (N, H, W), in logits; the mean over the squares that cover a pixel.
    """
    from captum.attr import Occlusion

    side = max(batch.shape[-1] // WINDOWS_PER_SIDE, 1)
    stride = max(side // 2, 1)
    occlusion = Occlusion(lambda images: _score(subject, images))
    maps = []
    with torch.no_grad():
        for image, target in zip(batch, targets.tolist(), strict=True):
            lost = occlusion.attribute(
                image[None],
                sliding_window_shapes=(image.shape[0], side, side),
                strides=(image.shape[0], stride, stride),
                baselines=0.0,
                target=target,
                perturbations_per_eval=batch_size,
            )
            maps.append(lost[:, 0].float())
    return torch.cat(maps)


def _score(subject: Subject, images: Tensor) -> Tensor:
    with subject.runtime.autocast():
        logits: Tensor = subject.module(images)
    return logits.float()
