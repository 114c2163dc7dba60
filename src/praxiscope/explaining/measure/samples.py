"""What explanations are measured on: evaluated images with labels, groups, and masks of the actor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from praxiscope.errors import UsageError

Images: TypeAlias = npt.NDArray[np.uint8]
"""(N, S, S, 3), as ``data.transforms.EvalTransform`` gives them."""
Masks: TypeAlias = npt.NDArray[np.bool_]
"""(N, S, S), true on the actor; a row without a true pixel stands for an image without a mask."""
Maps: TypeAlias = npt.NDArray[np.float32]
"""(N, S, S), larger is more evidence."""
Classes: TypeAlias = npt.NDArray[np.int64]
"""(N,) indices into the names."""


class Answerer(Protocol):
    """What the measures ask of a network; :class:`praxiscope.explaining.subject.Subject` is one."""

    @property
    def names(self) -> tuple[str, ...]:
        """K class names in the order of the logits."""

    def compute_logits(self, images: Images) -> npt.NDArray[np.float32]:
        """Return logits, float32 (N, K)."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSamples:
    """N samples, all of one size.

    Raises:
        UsageError: No samples, or parts that don't pair up.
    """

    images: Images
    """uint8 (N, S, S, 3): the crops that are evaluated."""
    targets: Classes
    """int64 (N,): true classes."""
    sample_ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    """What the bootstrap draws: performer, video, duplicate cluster; None for a sample on its own."""
    split: str = ""
    """Where they come from, for the result."""
    masks: Masks | None = None
    """bool (N, S, S), or None where nobody has masks."""

    def __post_init__(self) -> None:
        """Check that all parts are of the same samples."""
        count = len(self.images)
        lengths = {len(self.targets), len(self.sample_ids), len(self.groups)}
        if count == 0 or lengths != {count}:
            raise UsageError(
                f"Samples to measure on need one target, id and group each, and at least one "
                f"image; got {count} "
                f"images, {len(self.targets)} targets, {len(self.sample_ids)} ids, {len(self.groups)} groups."
            )
        if self.masks is not None and self.masks.shape != self.images.shape[:3]:
            raise UsageError(
                f"Masks must have the shape of the images, {self.images.shape[:3]}; got {self.masks.shape}."
            )

    @property
    def masked(self) -> npt.NDArray[np.int64]:
        """Rows that have a mask with the actor and something else in it, ascending."""
        if self.masks is None:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self.masks.any(axis=(1, 2)) & ~self.masks.all(axis=(1, 2)))
