"""Which frames of a clip a network sees: indices from (frames there are, recipe, draw), and nothing else.

Indices count the clip's own frames from 0; where the clip lies in a longer video is :mod:`.spans`' business.
A clip with fewer frames than are asked for shows some of them several times: nothing is padded with black.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from praxiscope.recipe.schema import ClipSection

Indices = npt.NDArray[np.int64]


def draw_indices(count: int, num_frames: int, section: ClipSection, rng: np.random.Generator) -> Indices:
    """Draw a training clip's frames.

    Args:
        count: Frames that the clip has, at least 1.
        num_frames: T, frames that the network takes.
        section: ``sampling`` decides: ``uniform`` draws nothing, ``segment`` a frame in each of T equal parts
            (Wang et al. 2016, TSN), ``dense`` the start of T frames at ``frame_stride``.
        rng: Source of every draw.

    Returns:
        int64 (T,), ascending, in ``[0, count)``.
    """
    if section.sampling == "uniform":
        return _spread_ends(count, num_frames)
    if section.sampling == "segment":
        edges = _cut_segments(count, num_frames)
        return _clip(edges[:-1] + np.floor(rng.random(num_frames) * np.diff(edges)), count)
    room = max(0, count - _reach(num_frames, section))
    return _step(int(rng.integers(0, room + 1)), count, num_frames, section)


def list_views(count: int, num_frames: int, section: ClipSection) -> list[Indices]:
    """Return an evaluated clip's frames, for each of ``section.num_clips`` views in time.

    ``uniform`` and ``segment``: view v of V takes the point (v + 1) / (V + 1) of each of T equal parts, so
    one view takes their middles (``uniform`` with one view: T points from the first to the last frame).
    ``dense``: V starts at even distances, one view the middle. Views may coincide where a clip is short.

    Args:
        count: Frames that the clip has, at least 1.
        num_frames: T.
        section: As for :func:`draw_indices`.

    Returns:
        V arrays, int64 (T,), ascending, in ``[0, count)``.
    """
    views = section.num_clips
    if section.sampling == "dense":
        room = max(0, count - _reach(num_frames, section))
        starts = [room / 2] if views == 1 else np.linspace(0, room, views).tolist()
        return [_step(int(start), count, num_frames, section) for start in starts]
    if section.sampling == "uniform" and views == 1:
        return [_spread_ends(count, num_frames)]
    edges = _cut_segments(count, num_frames)
    points = [(view + 1) / (views + 1) for view in range(views)]
    return [_clip(np.floor(edges[:-1] + point * np.diff(edges)), count) for point in points]


def list_drawable(count: int, num_frames: int | None, section: ClipSection) -> Indices:
    """Return every frame that training or evaluation may look at.

    Args:
        count: Frames that the clip has.
        num_frames: T; None where it isn't known.
        section: ``uniform`` draws nothing, so few frames are enough; the others may draw any.

    Returns:
        int64, ascending, each once.
    """
    if num_frames is None or section.sampling != "uniform":
        return np.arange(count)
    views = [_spread_ends(count, num_frames), *list_views(count, num_frames, section)]
    return np.unique(np.concatenate(views))


def count_distinct(views: list[Indices]) -> int:
    """Return how many of the views show other frames than all the others before them."""
    return len({view.tobytes() for view in views})


def _spread_ends(count: int, num_frames: int) -> Indices:
    """Return T points from the first to the last frame, rounded down; of one point the middle."""
    if num_frames == 1:
        return np.array([(count - 1) // 2])
    return np.linspace(0, count - 1, num_frames).astype(np.int64)


def _cut_segments(count: int, num_frames: int) -> npt.NDArray[np.float64]:
    return np.linspace(0, count, num_frames + 1)


def _reach(num_frames: int, section: ClipSection) -> int:
    """Return the frames from the first to the last of a dense clip."""
    return (num_frames - 1) * section.frame_stride + 1


def _step(start: int, count: int, num_frames: int, section: ClipSection) -> Indices:
    return _clip(start + section.frame_stride * np.arange(num_frames), count)


def _clip(indices: npt.NDArray[np.generic], count: int) -> Indices:
    """Stay within the clip: what would lie behind its end is its last frame."""
    return np.minimum(indices.astype(np.int64), count - 1)
