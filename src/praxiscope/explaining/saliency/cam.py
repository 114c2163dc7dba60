"""Class activation maps: a weighted sum of one layer's channels, of maps and of patch tokens alike."""

from __future__ import annotations

import torch
from torch import Tensor

from praxiscope.errors import UsageError
from praxiscope.explaining.saliency.target import cut_graph
from praxiscope.explaining.subject import Subject
from praxiscope.models.layer_uses import LayerUse

# pytorch-grad-cam's, with whose figures people compare; it decides where gradients are smaller than its root.
_EPSILON = 1e-6
# float16 loses gradients below 6e-8; torch's own scaler starts at a larger power, but losses are means.
_HALF_SCALE = 1024.0


def compute_gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight each channel by the mean of its gradient (Selvaraju et al. 2017, equations 1 and 2).

    Args:
        activations: float32 (N, C, h, w).
        gradients: of the class score with respect to them, float32 (N, C, h, w).

    Returns:
        float32 (N, h, w), >= 0.
    """
    weights = gradients.mean(dim=(2, 3))
    return torch.einsum("nc,nchw->nhw", weights, activations).relu_()


def compute_gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weight each channel by its positive gradients, each by equation 19 of Chattopadhyay et al. 2018.

    The derivation assumes activations that are never negative; of others (tokens, SiLU) the denominator can
    come near zero. Arguments and result as of :func:`compute_gradcam`.
    """
    positive = gradients.relu()
    square = positive.square()
    total = activations.sum(dim=(2, 3), keepdim=True)
    alpha = square / (2 * square + total * square * positive + _EPSILON)
    weights = (alpha * positive).sum(dim=(2, 3))
    return torch.einsum("nc,nchw->nhw", weights, activations).relu_()


def compute_eigencam(activations: Tensor) -> Tensor:
    """Project each position on the first principal component of the channels (Muhammad & Yeasin 2020).

    Channels are centred over the positions, as without it the component is mostly their mean. The sign of a
    component is arbitrary; it is chosen such that positions with larger activations (their Euclidean length)
    get larger values.

    Args:
        activations: float32 (N, C, h, w).

    Returns:
        float32 (N, h, w), >= 0; the same for every class. All NaN where an activation isn't finite.
    """
    flat = activations.flatten(2).transpose(1, 2).double()  # (N, P, C)
    broken = ~torch.isfinite(flat).all(dim=2).all(dim=1)
    flat = flat.masked_fill(broken[:, None, None], 0.0)  # eigh would fail for the whole batch
    centred = flat - flat.mean(dim=1, keepdim=True)
    # The smaller of the two Gram matrices has the same leading component as the decomposition of the whole.
    if centred.shape[1] <= centred.shape[2]:
        values, vectors = torch.linalg.eigh(centred @ centred.mT)
        projection = vectors[..., -1] * values[..., -1:].clamp_min(0).sqrt()
    else:
        vectors = torch.linalg.eigh(centred.mT @ centred).eigenvectors
        projection = (centred @ vectors[..., -1:]).squeeze(-1)
    length = flat.norm(dim=2)
    agreement = (projection * (length - length.mean(dim=1, keepdim=True))).sum(dim=1, keepdim=True)
    signed = torch.where(agreement < 0, -projection, projection)
    signed = signed.relu_().masked_fill_(broken[:, None], torch.nan)
    return signed.float().reshape(-1, *activations.shape[2:])


def read_layer(
    subject: Subject, batch: Tensor, targets: Tensor | None, use: LayerUse
) -> tuple[Tensor, Tensor | None]:
    """Run one batch forward, and backward as far as one layer.

    Args:
        subject: Held still by the caller.
        batch: float32 (N, 3, H, W), prepared.
        targets: int64 (N,), the classes whose scores (logits) are differentiated; None for no gradients.
        use: The layer.

    Returns:
        Activations and gradients, float32 (N, C, h, w).

    Raises:
        UsageError: The score doesn't depend on what the layer puts out.
    """
    with cut_graph(subject.module, use) as leaves, torch.set_grad_enabled(targets is not None):
        with subject.runtime.autocast():
            logits = subject.module(batch)
        (leaf,) = leaves
        activations = use.to_maps(leaf.detach()).float()
        if targets is None:
            return activations, None
        gradient = _differentiate(subject, logits, targets, leaf)
    if gradient is None:
        raise UsageError(f"The score of a class doesn't depend on '{use.name}'; choose another layer.")
    if use.layout == "tokens":
        _check_patches_matter(use, gradient)
    return activations, use.to_maps(gradient)


def _differentiate(subject: Subject, logits: Tensor, targets: Tensor, leaf: Tensor) -> Tensor | None:
    scale = _HALF_SCALE if subject.runtime.precision == "fp16" else 1.0
    score = logits.float().gather(1, targets[:, None]).sum() * scale
    if not score.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(score, [leaf], allow_unused=True)
    return None if gradient is None else gradient.float().div_(scale)


def _check_patches_matter(use: LayerUse, gradient: Tensor) -> None:
    """Refuse a map that would be empty by construction: behind the last attention only one token is read."""
    before = use.prefix_tokens
    if before and not gradient[:, before:].any() and gradient[:, :before].any():
        raise UsageError(
            f"Behind '{use.name}' only the class token decides, so its patches have no gradient and the map "
            "would be empty. Choose a layer before the last attention: 'blocks.11.norm1' of twelve blocks."
        )
