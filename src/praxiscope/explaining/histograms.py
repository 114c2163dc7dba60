"""What the layers do over a sample of the data: distributions, dead units, saturation, norms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from praxiscope.errors import UsageError
from praxiscope.explaining.subject import Subject
from praxiscope.models.layer_statistics import LayerReport, LayerRow, WeightRow, measure_layers
from praxiscope.tensors import Heads

__all__ = ["LayerReport", "LayerRow", "WeightRow", "collect_histograms"]


def collect_histograms(
    subject: Subject,
    images: npt.NDArray[np.uint8],
    targets: npt.NDArray[np.int64],
    *,
    heads: Heads | None = None,
    batch_size: int = 8,
) -> LayerReport:
    """Run the network forwards and backwards over images and describe every activation function and block.

    Computed in float32 whatever the runtime's precision is: small gradients shall not vanish by rounding.

    Args:
        subject: The network; it is left as it was.
        images: uint8 (N, H, W, 3), evaluated crops, or clips (N, T, H, W, 3). Some 64 tell dead units from
            rare ones; memory doesn't grow with N.
        targets: int64 (N,), the true classes, of M heads (N, M): gradients are those of the cross-entropy.
        heads: Which logits belong to which head; None where there is only one.
        batch_size: Images of one pass; the graph of one batch is kept at a time.

    Returns:
        The figures; ``describe_findings`` says them in words.

    Raises:
        UsageError: No image, or another number of targets.
    """
    if not len(images) or len(images) != len(targets):
        raise UsageError(
            f"Histograms need as many targets as images and at least one; got {len(images)} images and "
            f"{len(targets)} targets."
        )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(images), batch_size):
            place = slice(start, start + batch_size)
            yield subject.prepare(images[place]), torch.from_numpy(targets[place]).to(subject.runtime.device)

    return measure_layers(subject.module, batches(), heads=heads)
