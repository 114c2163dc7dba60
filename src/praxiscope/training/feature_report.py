"""What a run says about the features that it was trained from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from praxiscope.data.manifest import quantify


@dataclass(frozen=True, kw_only=True)
class FeaturesReport:
    """What was cached for a session of training.

    Attributes:
        num_train: images of the training split.
        num_val: images of the validation split.
        num_views: augmented views of each training image.
        epochs: of the run.
        augmented: whether two views of an image differ.
        balanced: whether an epoch may draw an image more than once.
        size_bytes: of all arrays together.
        num_computed: images that went through the backbone now, views counted.
        computed_s: seconds that this took, reading and checking what was there included.
        precision: ``fp32`` or ``fp16``, as stored.
        entries: names of the cache's folders.
    """

    num_train: int
    num_val: int
    num_views: int
    epochs: int
    augmented: bool
    balanced: bool
    size_bytes: int
    num_computed: int
    computed_s: float
    precision: str
    entries: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """What the run's log and notes say."""
        views = quantify(self.num_views, "view")
        origin = f"computed in {self.computed_s:.1f} s" if self.num_computed else "from the cache"
        if 0 < self.num_computed < self.num_views * self.num_train + self.num_val:
            origin = f"{self.num_computed} of these images' {origin}, the rest from the cache"
        images = f"{self.num_train} training images x {views} and {self.num_val} validation images"
        said = [f"Features of {images}, {self.size_bytes / 2**20:.1f} MiB, {origin}"]
        if self.augmented and self.num_views < self.epochs:
            said.append(
                f"Each training image was seen in {views} only, not in a new one in each of {self.epochs} "
                "epochs (features.views)."
            )
        if self.augmented and self.balanced:
            said.append(
                "An image that balanced sampling drew several times in an epoch was the same view each time "
                "(train.sampling)."
            )
        return said

    def describe(self) -> dict[str, Any]:
        """Return the entry of ``run.json``."""
        return asdict(self) | {"entries": list(self.entries)}
