"""A clip as a network sees it in evaluation: its views in time, every frame resized and cropped; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.clips.crops import CROP_PLACES, Frame, crop_views
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.sampling import Indices, list_views
from praxiscope.data.clips.spans import Span
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.transforms import EvalTransform
from praxiscope.recipe.schema import ClipSection

Views = npt.NDArray[np.uint8]
"""(V, T, S, S, 3), RGB in [0, 255]."""


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """What a network needs to know of a clip.

    Attributes:
        num_frames: T, frames that it looks at.
        section: which ones.
        typical_s: median length of its training clips in seconds; None where their files have no times.
    """

    num_frames: int
    section: ClipSection
    typical_s: float | None = None

    def list_views(self, count: int) -> list[Indices]:
        """Return the frames of each view of a clip of ``count`` frames, as evaluation takes them."""
        return list_views(count, self.num_frames, self.section)


def crop_frame(frame: Frame, rule: ClipRule, transform: EvalTransform) -> npt.NDArray[np.uint8]:
    """Return a frame's crops, (P, S, S, 3), of which each becomes part of another view."""
    return np.stack([transform(frame, place) for place in CROP_PLACES[rule.section.num_crops]])


def stack_views(views: Sequence[Indices], crops: Mapping[int, npt.NDArray[np.uint8]]) -> Views:
    """Put the frames of each view together, as :func:`praxiscope.data.clips.crops.crop_views` orders them.

    Args:
        views: Arrays of T indices.
        crops: Of each index that occurs, as of :func:`crop_frame`.
    """
    return np.concatenate([np.stack([crops[index] for index in view.tolist()], axis=1) for view in views])


def read_views(
    source: Path,
    span: Span,
    rule: ClipRule,
    transform: EvalTransform,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> tuple[Views, tuple[int, int]]:
    """Read a clip's views, and the (width, height) of its frames.

    Args:
        source: A video, or a folder with one picture a frame.
        span: Where the clip lies in it.
        rule: Which frames.
        transform: Evaluation's.
        max_pixels: Cap on width x height.

    Raises:
        ImageUnreadable: A frame can't be read.
    """
    views = rule.list_views(span.count)
    wanted = np.unique(np.concatenate(views)).tolist()
    frames: list[Image.Image] = read_frames(
        source,
        [index + span.first for index in wanted],
        target_size=transform.decode_size,
        max_pixels=max_pixels,
        decoder=rule.section.decoder,
    )
    by_number = dict(zip(wanted, frames, strict=True))
    return crop_views(views, by_number, transform, rule.section.num_crops), frames[0].size
