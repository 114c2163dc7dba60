"""Axis legend and the batch that travels from loader to model.

Axes, in the order in which they stand in a shape suffix:

=====  ==========================================
B      samples of a batch
T      frames of a clip
C      colour channels, RGB
H, W   height and width in pixels
K      classes of a head
=====  ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples on their way to the model.

    Attributes:
        images: uint8, (B, C, H, W), values 0..255, in channels-last memory; normalised on the device. Or a
            frozen backbone's features, float, (B, D) or (B, C, H, W).
        targets: int64, (B,), indices into the head's label names.
        rows: (B,) rows of the split's sorted table that the samples came from.
    """

    images: torch.Tensor
    targets: torch.Tensor
    rows: tuple[int, ...]
