"""Windows over time, counted by hand, and segments made of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from praxiscope.data.video import Frame, VideoUnreadable
from praxiscope.errors import UsageError
from praxiscope.prediction.ranking import Guess
from praxiscope.prediction.segments import Spoken, find_stretch, list_stretches, merge_windows
from praxiscope.prediction.sources import Item
from praxiscope.prediction.windows import Windowing, cut_windows
from praxiscope.workflows.predict_clips import WindowChoice, plan_windows


def film(times):
    for number, time_s in enumerate(times):
        yield Frame(index=number, time_s=time_s, image=Image.new("RGB", (4, 2), (number % 256, 0, 0)))


def number_of(image):
    return np.array(image)[0, 0, :1]


def cut(times, window, stride):
    found = cut_windows(film(times), Windowing(window_s=window, stride_s=stride), number_of)
    return [
        (round(each.start_s, 6), round(each.end_s, 6), [int(crop[0]) for crop in each.crops])
        for each in found
    ]


def test_windows_hold_the_frames_of_their_time():
    assert cut(np.arange(10) / 10, 0.4, 0.2) == [
        (0.0, 0.4, [0, 1, 2, 3]), (0.2, 0.6, [2, 3, 4, 5]), (0.4, 0.8, [4, 5, 6, 7]),
        (0.6, 1.0, [6, 7, 8, 9]),
    ]  # fmt: skip


def test_the_end_gets_a_window_of_the_same_length():
    assert cut(np.arange(5) / 10, 0.4, 0.4) == [(0.0, 0.4, [0, 1, 2, 3]), (0.1, 0.5, [1, 2, 3, 4])]


def test_a_short_video_is_one_window():
    assert cut([0.0, 0.1], 5, 1) == [(0.0, 0.2, [0, 1])]
    assert cut([0.0], 5, 1) == [(0.0, 0.0, [0])]
    assert cut([], 5, 1) == []


def test_strides_above_the_window_leave_gaps():
    assert cut(np.arange(10) / 10, 0.2, 0.5) == [(0.0, 0.2, [0, 1]), (0.5, 0.7, [5, 6])]


def test_a_picture_that_stands_still_is_what_a_window_without_a_frame_shows():
    assert (0.4, 0.8, [1]) in cut([0.0, 0.1, 2.0, 2.1], 0.4, 0.4)


def test_frames_that_break_off_end_in_a_window_and_the_reason():
    def broken():
        yield from film([0.0, 0.1, 0.2])
        raise VideoUnreadable("cut", decoded=3)

    found = cut_windows(broken(), Windowing(window_s=0.2, stride_s=0.2), number_of)
    assert [len(next(found).crops) for _ in range(2)] == [2, 2]
    with pytest.raises(VideoUnreadable, match="cut"):
        next(found)


def test_memory_is_of_a_window_whatever_the_length():
    alive = 0

    class Held(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def hold(image):
        nonlocal alive
        alive += 1
        return number_of(image).view(Held)

    most = 0
    for window in cut_windows(film(np.arange(3000) / 10), Windowing(window_s=1.0, stride_s=0.5), hold):
        most = max(most, alive)
        del window
    assert most <= 25


def say(start, end, label, probability):
    return Spoken(start_s=start, end_s=end, guess=Guess(label=label, probability=probability))


def test_neighbours_with_one_answer_merge_and_cover_all_time_once():
    spoken = [say(0, 2, "a", 0.5), say(1, 3, "a", 0.7), say(2, 4, "b", 0.9), say(3, 5, "a", 0.4)]
    segments = merge_windows(spoken)
    assert [(s.start_s, s.end_s, s.label, s.windows) for s in segments] == [
        (0, 2.5, "a", 2), (2.5, 3.5, "b", 1), (3.5, 5, "a", 1)
    ]  # fmt: skip
    assert segments[0].confidence == pytest.approx(0.6)
    stretches = list_stretches(spoken)
    assert [find_stretch(stretches, t).guess.label for t in (0, 2.4, 2.6, 3.6, 9)] == [
        "a",
        "a",
        "b",
        "a",
        "a",
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"window_s": -1.0}, "--window -1: must be a number of seconds"),
        ({"window_s": 0.0, "stride_s": 1.0}, "--window 0 predicts each video as one clip"),
        ({"stride_s": 0.0}, "--stride 0: must be"),
    ],
)
def test_impossible_windows_are_refused(values, words):
    with pytest.raises(UsageError, match=words):
        WindowChoice(**values)


def test_windows_need_a_length_and_times(tmp_path):
    camera, frames, video = (
        Item(kind=kind, path=tmp_path / kind, name=kind) for kind in ("camera", "frames", "video")
    )
    with pytest.raises(UsageError, match="give their length with --window"):
        plan_windows([camera], WindowChoice(), None)
    with pytest.raises(UsageError, match="folder of frames, which have no times"):
        plan_windows([frames], WindowChoice(window_s=1.0), 2.0)
    with pytest.raises(UsageError, match="give --window SECONDS too"):
        plan_windows([video], WindowChoice(stride_s=1.0), None)
    cut_camera, notes = plan_windows([camera, frames], WindowChoice(), 2.0)
    assert cut_camera(camera) == Windowing(window_s=2.0, stride_s=1.0)
    assert cut_camera(frames) is None
    assert ["windows of 2 s" in note for note in notes] == [False, True]
