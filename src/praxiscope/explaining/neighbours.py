"""The features in front of a network's head, and the training images that lie nearest in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.errors import Diverged, UsageError
from praxiscope.explaining.subject import Subject, hold_still
from praxiscope.models.state import find_classifier_prefixes
from praxiscope.models.temporal import TemporalHead


def compute_features(
    subject: Subject, images: npt.NDArray[np.uint8], *, batch_size: int = 32
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what goes into the head of a network, and what comes out.

    Args:
        subject: The network.
        images: uint8 (N, H, W, 3), or clips (N, T, H, W, 3).
        batch_size: Images of a forward pass.

    Returns:
        Features, float32 (N, D): a map or a sequence of tokens in front of the head is averaged over its
        places; of clips what the head makes of all frames, in front of its last layer. Logits, float32
        (N, K).

    Raises:
        UsageError: The network has no head that is told apart from the rest.
        Diverged: A feature or a logit isn't finite.
    """
    prefixes = find_classifier_prefixes(subject.module)
    if not prefixes:
        raise UsageError(f"{subject.label} has no classifier that could be told apart from its features.")
    taken: list[Tensor] = []
    logits: list[Tensor] = []

    def take(_head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        taken.append(_pool(inputs[0]).float().cpu())

    head = subject.module.get_submodule(prefixes[0])
    if isinstance(head, TemporalHead):  # before it there are T vectors, behind its pooling one
        head = head.get_submodule("fc")
    handle = head.register_forward_pre_hook(take)
    try:
        with hold_still(subject.module), torch.no_grad(), subject.runtime.autocast():
            for start in range(0, len(images), batch_size):
                given = subject.module(subject.prepare(images[start : start + batch_size]))
                logits.append(given.float().cpu())
    finally:
        handle.remove()
    features, answers = torch.cat(taken), torch.cat(logits)
    sound = torch.isfinite(features).all(dim=1) & torch.isfinite(answers).all(dim=1)
    if not sound.all():
        raise Diverged(
            f"{subject.label} gives features or logits that aren't finite for {int((~sound).sum())} of "
            f"{len(sound)} images. Its weights hold NaN, or its precision ({subject.runtime.precision}) "
            "overflows."
        )
    return features.numpy(), answers.numpy()


def find_nearest(
    queries: npt.NDArray[np.floating], features: npt.NDArray[np.floating], count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Find the nearest rows by the cosine of the angle between features.

    Args:
        queries: (Q, D).
        features: (N, D).
        count: How many of each; fewer where N is smaller.

    Returns:
        Rows, int64 (Q, count), nearest first, equal ones in the order of the rows; cosines, float32, in
        [-1, 1]. A vector of zeros has the cosine 0 with all.
    """
    cosines = _to_unit(queries) @ _to_unit(features).T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    values = np.clip(np.take_along_axis(cosines, nearest, axis=1), -1.0, 1.0)
    return nearest.astype(np.int64), values.astype(np.float32)


def _to_unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    values = vectors.astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return unit


def _pool(features: Tensor) -> Tensor:
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    return features.mean(dim=1) if features.ndim == 3 else features
