"""Axis legend and the batch that travels from loader to model.

Axes, in the order in which they stand in a shape suffix:

=====  ==========================================
B      samples of a batch
V      views of an evaluated clip
T      frames of a clip
C      colour channels, RGB
H, W   height and width in pixels
K      classes of a head; of several heads side by side, all of them
M      heads
=====  ==========================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

NDIM_WITH_VIEWS = 6
"""Axes of clips in several views, (B, V, T, C, H, W); those of one view have no V."""

Rows = TypeVar("Rows", "npt.NDArray[np.float32]", "npt.NDArray[np.int64]", "torch.Tensor")


@dataclass(frozen=True, kw_only=True)
class Heads:
    """What a network answers: one label set, or several (verb and noun), whose logits stand side by side.

    One linear layer of K1 + K2 outputs is two heads: no weight of the one is a weight of the other.

    Attributes:
        names: label names of each head, in the order of the logits.
    """

    names: Mapping[str, tuple[str, ...]]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Labels of each head."""
        return tuple(len(labels) for labels in self.names.values())

    @property
    def total(self) -> int:
        """Length of a row of logits."""
        return sum(self.sizes)

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Where each head's logits stand in a row."""
        return dict(zip(self.names, cut_columns(self.sizes), strict=True))

    def split_logits(self, logits: Rows) -> dict[str, Rows]:
        """Cut (N, K) logits into each head's."""
        return {head: logits[:, columns] for head, columns in self.columns.items()}

    def split_targets(self, targets: Rows) -> dict[str, Rows]:
        """Cut targets, (N,) of one head or (N, M) of M heads, into each head's (N,)."""
        if targets.ndim == 1:
            return dict.fromkeys(self.names, targets)
        return {head: targets[:, place] for place, head in enumerate(self.names)}


def cut_columns(sizes: Sequence[int]) -> list[slice]:
    """Return the columns of heads of these sizes that stand side by side."""
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples on their way to the model.

    Attributes:
        images: uint8, (B, C, H, W), values 0..255, in channels-last memory; normalised on the device. Of
            clips (B, T, C, H, W), in several views (B, V, T, C, H, W). Or a frozen backbone's features,
            float, (B, D), of clips (B, T, D), or (B, C, H, W).
        targets: int64, indices into label names: (B,) of one head, (B, M) of several.
        rows: (B,) rows of the split's sorted table that the samples came from.
    """

    images: torch.Tensor
    targets: torch.Tensor
    rows: tuple[int, ...]
