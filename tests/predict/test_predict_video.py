from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from video_files import draw_frame, read_level, turn_display, write_video

from praxiscope.data.video import Sampling, VideoUnreadable, count_frames, read_frames
from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.prediction import camera
from praxiscope.prediction.camera import CameraAddress, find_addresses, read_camera
from praxiscope.prediction.video_writer import VideoWriter


def read(path, **sampling):
    return list(read_frames(path, Sampling(**sampling)))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "webm"])
def test_every_frame_comes_once_in_order_with_its_time(tmp_path, suffix):
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(suffix, "libx264")
    frames = read(write_video(tmp_path / f"clip.{suffix}", codec=codec))
    assert [frame.index for frame in frames] == list(range(12))
    assert [read_level(frame.image) for frame in frames] == list(range(12))
    assert np.allclose([frame.time_s for frame in frames], np.arange(12) / 25, atol=0.0011)


def test_every_nth_frame_and_a_limit(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    assert [frame.index for frame in read(path, every=5)] == [0, 5, 10]
    assert [frame.index for frame in read(path, every=5, limit=2)] == [0, 5]
    assert count_frames(path, Sampling(every=5)) == 3
    assert count_frames(path, Sampling(every=5, limit=2)) == 2


def test_fps_chooses_by_time_where_frames_come_unevenly(tmp_path):
    times = [0.0, 0.04, 0.5, 0.9, 1.0, 1.02, 2.6]
    frames = read(write_video(tmp_path / "uneven.mp4", times=times), fps=2)
    # The first frame at or after 0, 0.5, 1.0, 1.5 (which is 2.6, and serves all ticks up to there).
    assert [frame.index for frame in frames] == [0, 2, 4, 6]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.5, 1.0, 2.6], abs=1e-3)


def test_fps_above_the_videos_own_takes_every_frame(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    assert len(read(path, fps=1000)) == 12
    assert count_frames(path, Sampling(fps=1000)) == 12


def test_time_starts_with_the_first_frame(tmp_path):
    frames = read(write_video(tmp_path / "late.mkv", times=[3.0, 3.1, 3.2]))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2], abs=2e-3)


@pytest.mark.parametrize(("degrees", "red"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_frames_are_turned_as_a_player_turns_them(tmp_path, degrees, red):
    path = turn_display(write_video(tmp_path / "turned.mp4", count=2), degrees)
    image = np.asarray(read(path)[0].image).astype(int)
    assert image.shape[:2] == ((64, 48) if degrees != 180 else (48, 64))
    corner = image[red[0], red[1]]
    assert corner[0] > 150
    assert corner[1] < 80


def test_a_truncated_video_gives_what_it_has_and_says_so(tmp_path):
    path = write_video(tmp_path / "cut.mkv", count=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoUnreadable, match=r"declares 4\.0 s and ends at|damaged") as caught:
        list(read_frames(path, Sampling()))
    assert 0 < caught.value.decoded < 80


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "damaged or no video"), (b"<html>", "damaged or no video"), (bytes(5000), "damaged or no video")],
)
def test_files_that_are_no_video_are_named(tmp_path, content, words):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoUnreadable, match=words):
        read(path)
    assert count_frames(path, Sampling()) == 1


def test_a_missing_file_a_cap_and_sound_alone(tmp_path):
    with pytest.raises(VideoUnreadable, match="no such file"):
        read(tmp_path / "absent.mp4")
    path = write_video(tmp_path / "clip.mp4")
    with pytest.raises(VideoUnreadable, match="above the cap of 100"):
        list(read_frames(path, Sampling(), max_pixels=100))


def test_damaged_bytes_never_end_the_program(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", count=10).read_bytes()
    rng = np.random.default_rng(0)
    failed = 0
    for trial in range(25):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        path = tmp_path / f"{trial}.mp4"
        path.write_bytes(bytes(data[: rng.integers(100, len(data))] if trial % 2 else data))
        try:
            read(path)
        except VideoUnreadable:
            failed += 1
    assert failed > 0


def test_memory_does_not_grow_with_the_length(tmp_path):
    path = write_video(tmp_path / "long.mp4", times=[i / 25 for i in range(120)], size=(320, 240))
    tracemalloc.start()
    for _frame in read_frames(path, Sampling()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 320 * 240 * 3


def test_sampling_refuses_what_means_nothing():
    for given, words in (
        ({"every": 0}, "--every 0"),
        ({"fps": 0.0}, "--fps 0"),
        ({"fps": float("inf")}, "--fps inf"),
        ({"fps": 2.0, "every": 2}, "exclude each other"),
        ({"limit": 0}, "--limit 0"),
    ):
        with pytest.raises(UsageError, match=words):
            Sampling(**given)


def test_an_annotated_video_keeps_size_and_times(tmp_path):
    times = [0.0, 0.04, 0.5, 2.0]
    writer = VideoWriter(tmp_path / "out.mp4", (63, 47))
    from PIL import Image

    for index, time in enumerate(times):
        writer.write(Image.fromarray(draw_frame(index, (63, 47))), time)
    writer.write(Image.fromarray(draw_frame(5, (200, 20))), 3.0)  # another size on the way
    assert not (tmp_path / "out.mp4").exists()
    writer.close()
    frames = read(tmp_path / "out.mp4")
    assert [frame.time_s for frame in frames] == pytest.approx([*times, 3.0], abs=1e-3)
    assert {frame.image.size for frame in frames} == {(64, 48)}
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_pyav_without_encoders_is_named(tmp_path, monkeypatch):
    import av

    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(EnvironmentProblem, match="libx264, mpeg4"):
        VideoWriter(tmp_path / "out.mp4", (64, 48))


def test_a_camera_is_read_as_a_video(tmp_path, monkeypatch):
    path = write_video(tmp_path / "live.mkv")
    fake = CameraAddress(format="matroska", file=str(path), options={})
    monkeypatch.setattr(camera, "find_addresses", lambda number: [fake])
    assert [frame.index for frame in read_camera(0, Sampling(limit=3))] == [0, 1, 2]


def test_a_missing_camera_says_what_was_tried(monkeypatch):
    monkeypatch.setattr(camera, "find_addresses", lambda number: find_addresses(number, "linux"))
    with pytest.raises(EnvironmentProblem, match=r"Camera 7 .*v4l2 /dev/video7: No such file"):
        list(read_camera(7, Sampling()))
    monkeypatch.setattr(camera, "find_addresses", lambda number: [])
    with pytest.raises(EnvironmentProblem, match="no camera of that number is listed"):
        list(read_camera(7, Sampling()))


def test_each_system_has_its_own_address(monkeypatch):
    assert find_addresses(1, "linux")[0].file == "/dev/video1"
    assert {address.format for address in find_addresses(1, "darwin")} == {"avfoundation"}
    monkeypatch.setattr(camera, "_list_names", lambda device: ["Built-in", "USB"])
    assert find_addresses(1, "win32")[0].file == "video=USB"
    assert find_addresses(2, "win32") == []


@pytest.mark.shared
def test_real_clips(shared_data):
    folder = shared_data / "clips-edge-cases"
    sizes = {f.name: read(f)[0].image.size for f in folder.glob("video_*.mov")}
    assert sizes == {
        "video_0.mov": (568, 320), "video_180.mov": (568, 320), "video_90.mov": (320, 568), "video_270.mov": (320, 568),
    }  # fmt: skip
    counts = {
        "abseiling_k400.mp4": 250, "demo.mp4": 280, "flipping_a_pancake.mkv": 310, "test.avi": 164,
        "unordered.mov": 4, "v_Basketball_g01_c01.avi": 141,
    }  # fmt: skip
    for name, count in counts.items():
        frames = [frame.time_s for frame in read_frames(folder / name, Sampling())]
        assert len(frames) == count, name
        assert (np.diff(frames) > 0).all(), name
    with pytest.raises(VideoUnreadable) as caught:
        read(folder / "corrupted.mp4")
    assert caught.value.decoded == 28


@pytest.mark.shared
@pytest.mark.soak
def test_all_real_clips_give_frames(shared_data):
    clips = sorted((shared_data / "clips-mhi27").glob("*.avi"))
    assert len(clips) == 27
    for clip in clips:
        times = [frame.time_s for frame in read_frames(clip, Sampling())]
        assert len(times) > 50
        assert np.allclose(np.diff(times), times[1], atol=1e-6)
