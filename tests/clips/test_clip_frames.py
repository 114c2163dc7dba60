"""Which frames a clip shows: indices by hand, and read out of frames that carry their number."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.sampling import count_distinct, draw_indices, list_views
from praxiscope.data.clips.spans import resolve_span
from praxiscope.data.images import ImageUnreadable
from praxiscope.errors import DataError
from praxiscope.recipe.schema import ClipSection


@pytest.mark.parametrize(
    ("base", "stop", "first", "count"),
    [(1, "exclusive", 9, 10), (1, "inclusive", 9, 11), (0, "exclusive", 10, 10), (0, "inclusive", 10, 11)],
)
def test_a_span_follows_the_stated_convention(base, stop, first, count):
    span = resolve_span(10, 20, ClipSection(frame_base=base, stop=stop))
    assert (span.first, span.count) == (first, count)


@pytest.mark.parametrize(
    ("start", "stop", "words"), [(0, 5, "before the first"), (5, 5, "there is no frame")]
)
def test_impossible_spans_are_refused(start, stop, words):
    with pytest.raises(DataError, match=words):
        resolve_span(start, stop, ClipSection())


def test_uniform_goes_from_the_first_to_the_last_frame():
    section = ClipSection()
    expected = np.linspace(0, 29, 8, dtype=int).tolist()
    assert list_views(30, 8, section)[0].tolist() == expected
    assert draw_indices(30, 8, section, np.random.default_rng(0)).tolist() == expected
    assert list_views(7, 1, section)[0].tolist() == [3]


def test_segments_give_one_frame_each():
    section = ClipSection(sampling="segment")
    assert list_views(16, 4, section)[0].tolist() == [2, 6, 10, 14]
    drawn = np.stack([draw_indices(16, 4, section, np.random.default_rng(seed)) for seed in range(200)])
    assert (drawn // 4 == np.arange(4)).all()
    assert all(set(drawn[:, place] % 4) == {0, 1, 2, 3} for place in range(4))


def test_dense_clips_keep_their_stride_and_stay_inside():
    section = ClipSection(sampling="dense", frame_stride=3, num_clips=3)
    assert [view.tolist() for view in list_views(20, 4, section)] == [
        [0, 3, 6, 9], [5, 8, 11, 14], [10, 13, 16, 19],
    ]  # fmt: skip
    starts = {draw_indices(20, 4, section, np.random.default_rng(seed))[0] for seed in range(300)}
    assert starts == set(range(11))


def test_short_clips_repeat_frames_and_views_coincide():
    section = ClipSection(sampling="dense", frame_stride=2, num_clips=3)
    views = list_views(3, 4, section)
    assert all(view.tolist() == [0, 2, 2, 2] for view in views)
    assert count_distinct(views) == 1
    assert list_views(1, 4, ClipSection())[0].tolist() == [0, 0, 0, 0]


@pytest.fixture
def numbered(tmp_path):
    """A folder of frames whose grey value is their number."""
    for number in range(12):
        Image.new("RGB", (8, 8), (number * 10,) * 3).save(tmp_path / f"frame_{number + 1:06d}.png")
    return tmp_path


def test_frames_are_those_that_were_asked_for(numbered):
    frames = read_frames(numbered, [0, 3, 11])
    assert [frame.getpixel((0, 0))[0] for frame in frames] == [0, 30, 110]


def test_a_frame_behind_the_end_is_named(numbered):
    with pytest.raises(ImageUnreadable, match="holds 12 frames; number 12"):
        read_frames(numbered, [12])
