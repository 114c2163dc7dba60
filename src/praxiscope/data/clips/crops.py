"""An evaluated clip's views: its frames in time, each cut at one or three places in space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.clips.sampling import Indices, list_views
from praxiscope.data.manifest import Manifest, quantify
from praxiscope.data.transforms import EvalTransform
from praxiscope.recipe.schema import ClipSection

CROP_PLACES: Mapping[int, tuple[float, ...]] = {1: (0.5,), 3: (0.0, 0.5, 1.0)}
"""Where crops lie along a frame's longer side, by ``clip.num_crops``: 0 left or top, 1 right or bottom."""

Frame = Image.Image | npt.NDArray[np.uint8]


def crop_views(
    views: Sequence[Indices], frames: Mapping[int, Frame], transform: EvalTransform, num_crops: int
) -> npt.NDArray[np.uint8]:
    """Cut every view out of a clip's frames.

    Args:
        views: the frames of each view in time, (T,) each.
        frames: by number, all that occur.
        transform: evaluation's.
        num_crops: 1 or 3.

    Returns:
        uint8 (V, T, S, S, 3), V = views in time x crops; all crops of a view stand together.
    """
    stacks = []
    cut = [
        {index: transform(frame, place) for index, frame in frames.items()}
        for place in CROP_PLACES[num_crops]
    ]
    for view in views:
        stacks += [np.stack([crops[index] for index in view.tolist()]) for crops in cut]
    return np.stack(stacks)


def count_views(section: ClipSection) -> int:
    """Return V, the views of an evaluated clip."""
    return section.num_clips * section.num_crops


def count_distinct_views(
    count: int, size: tuple[int, int], num_frames: int, section: ClipSection, transform: EvalTransform
) -> int:
    """Return how many of a clip's views differ from each other.

    Args:
        count: its frames.
        size: (width, height) of them.
        num_frames: T.
        section: the views.
        transform: evaluation's.
    """
    in_time = {view.tobytes() for view in list_views(count, num_frames, section)}
    in_space = {transform.find_box(size, place) for place in CROP_PLACES[section.num_crops]}
    return len(in_time) * len(in_space)


def describe_coinciding(
    manifest: Manifest, split: str, num_frames: int, section: ClipSection, transform: EvalTransform
) -> str | None:
    """Say of how many clips of a split some views coincide; None of images, and where all views differ."""
    views = count_views(section)
    if not manifest.holds_clips or views == 1:
        return None
    rows = manifest.usable(split).select(["num_frames", "width", "height"]).to_pylist()
    numbers = [
        count_distinct_views(row["num_frames"], (row["width"], row["height"]), num_frames, section, transform)
        for row in rows
    ]
    if not (short := [number for number in numbers if number < views]):
        return None
    return (
        f"{quantify(len(short), 'clip')} of {len(rows):,} ({split}) have fewer than {views} different views "
        f"(clip.num_clips {section.num_clips} x clip.num_crops {section.num_crops}; {min(short)} at least): "
        "too short, or square. Views that coincide count as often as they occur."
    )
