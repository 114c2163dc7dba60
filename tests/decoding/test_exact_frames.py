"""Frames by number: the same bits whether a video is read from its start or sought in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from video_files_turned import turn_display
from videos_of_kinds import KINDS, encode, encode_kind, read_number

from praxiscope.data.clips.frames import read_frames
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.video import VideoUnreadable, count_pictures, open_video
from praxiscope.data.video_index import find_index
from praxiscope.data.video_seek import plan_runs, read_chosen, read_from_start

FROM_THE_START = {"bare stream", "MPEG-4 avi with B-frames", "H.264 avi with B-frames"}
"""Kinds whose packets don't say when frames are shown."""
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")

    def make(name: str) -> Path:
        if not (found := list(folder.glob(f"{name.replace(' ', '-')}.*"))):
            try:
                return encode_kind(folder, name)
            except ValueError as problem:  # an FFmpeg without this encoder
                pytest.skip(f"{name}: {problem}")
        return found[0]

    return make


def compare_with_start(path: Path, draws: int) -> int:
    count = count_pictures(path)[0]
    whole = read_from_start(path, range(count))
    rng = np.random.default_rng(0)
    for _ in range(draws):
        size = min(count, int(rng.integers(1, 9)))
        wanted = rng.choice(count, size, replace=False).tolist()
        found = read_chosen(path, wanted)
        assert sorted(found) == sorted(wanted)
        for index in wanted:
            assert found[index].tobytes() == whole[index].tobytes(), (path.name, index)
    return count


@pytest.mark.parametrize("name", KINDS)
def test_frames_by_seeking_are_those_of_reading_from_the_start(made, name):
    path = made(name)
    assert compare_with_start(path, draws=5) == 60
    assert [read_number(image) for image in read_frames(path, [0, 17, 59])] == [0, 17, 59]
    assert (find_index(path) is None) == (name in FROM_THE_START)


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["clips-edge-cases", "clips-mhi27", "epic100/clips"])
def test_the_same_of_real_clips(shared_data, folder):
    paths = [path for path in sorted((shared_data / folder).iterdir()) if path.suffix in VIDEO_SUFFIXES]
    small = [path for path in paths if path.name not in {"S001C001P001R001A001_rgb.avi", "corrupted.mp4"}]
    for path in small[:: 6 if folder == "clips-mhi27" else 1]:
        compare_with_start(path, draws=2)


@pytest.mark.soak
@pytest.mark.shared
def test_the_same_of_every_real_clip_and_many_draws(shared_data):
    paths = [path for path in sorted(shared_data.glob("*/**/*.*")) if path.suffix in VIDEO_SUFFIXES]
    for path in paths:
        compare_with_start(path, draws=20)
    assert len(paths) >= 41


def test_what_is_decoded_is_what_is_needed(made):
    index = find_index(made("dense keys"))
    assert index is not None
    assert len(index) == 60
    (first, last, frames), second = plan_runs(index, [12, 55])
    assert (first, frames) == (10, [12])
    assert last < 20
    assert second[0] == 50
    # The last packet of one group and the first of the next are one stretch.
    last_of_group = int(np.flatnonzero(index.packet == 29)[0])
    assert plan_runs(index, [last_of_group, 30]) == [(20, 30, [last_of_group, 30])]


def test_streams_without_key_frames_to_begin_at_are_read_from_their_start(made, monkeypatch):
    path = made("intra refresh")
    from praxiscope.data import video_seek

    read = []
    monkeypatch.setattr(
        video_seek, "read_from_start", lambda *a, **k: read.append(a) or read_from_start(*a, **k)
    )
    found = read_chosen(path, [40])
    assert read
    assert read_number(found[40]) == 40


def test_a_video_that_changes_is_looked_at_again(tmp_path, made):
    path = shutil.copy(made("dense keys"), tmp_path / "clip.mp4")
    assert read_number(read_frames(path, [30])[0]) == 30
    encode(path, count=20)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ImageUnreadable, match="ends before frame 30"):
        read_frames(path, [30])


def test_uneven_times_change_no_number(made):
    images = read_frames(made("uneven times"), list(range(0, 60, 7)))
    assert [read_number(image) for image in images] == list(range(0, 60, 7))


@pytest.mark.shared
def test_the_four_rotated_videos_stand_upright(shared_data):
    folder = shared_data / "clips-edge-cases"  # four scenes of a keyboard, looked at once: letters upright
    sizes = {a: read_frames(folder / f"video_{a}.mov", [1])[0].size for a in (0, 90, 180, 270)}
    assert sizes == {0: (568, 320), 90: (320, 568), 180: (568, 320), 270: (320, 568)}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_turned_alike_by_seeking_and_from_the_start(tmp_path, degrees):
    plain = encode(tmp_path / "plain.mp4", options={"g": "10", "bf": "2"})
    turned = turn_display(shutil.copy(plain, tmp_path / "turned.mp4"), degrees)
    assert find_index(turned) is not None
    found = np.asarray(read_frames(turned, [45])[0])
    assert found.tobytes() == read_from_start(turned, [45])[45].tobytes()
    upright = np.rot90(found, degrees // 90)  # what was turned clockwise, turned back
    assert upright.tobytes() == read_frames(plain, [45])[0].tobytes()


def test_one_thread_decodes(made):
    with open_video(made("dense keys")) as container:
        codec = container.streams.video[0].codec_context
        next(container.decode(video=0))
        assert codec.thread_count == 1
        assert codec.thread_type.name == "NONE"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system doesn't list open files")
def test_files_are_closed_also_after_errors(tmp_path, made):
    sound = made("sparse keys")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(sound.read_bytes()[:-400])
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(10):
        read_frames(sound, [3, 50])
        with pytest.raises((ImageUnreadable, VideoUnreadable)):
            read_frames(cut, [59])
        with pytest.raises(ImageUnreadable):
            read_frames(sound, [60])
        with pytest.raises(ImageUnreadable, match="above the cap"):
            read_frames(sound, [3], max_pixels=100)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_an_absent_video_is_named(tmp_path):
    with pytest.raises(ImageUnreadable, match="no such file"):
        read_frames(tmp_path / "absent.mp4", [0])
    assert read_frames(tmp_path / "absent.mp4", []) == []
