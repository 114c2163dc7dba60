"""Frames that lie as pictures, in a folder or in a tar; and torchcodec."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos_of_kinds import KINDS, encode, encode_kind

from praxiscope.data.clips import torchcodec_reader
from praxiscope.data.clips.frames import list_frames, order_by_number, read_frames
from praxiscope.data.clips.probe import probe_video
from praxiscope.data.images import ImageUnreadable
from praxiscope.errors import EnvironmentProblem


def picture(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 16), (level, level, level)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def level_of(image: Image.Image) -> int:
    return round(float(np.asarray(image).mean()))


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def write_tar(path: Path, names: dict[str, int]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, level in names.items():
            add(tar, name, picture(level))
    return path


def test_pictures_come_by_the_number_in_their_names(tmp_path):
    for number in (1, 2, 9, 10, 11, 100):
        (tmp_path / f"frame_{number}.jpg").write_bytes(picture(number))
    (tmp_path / "._frame_5.jpg").write_bytes(b"what macOS leaves")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    assert [path.stem for path in list_frames(tmp_path)] == [f"frame_{n}" for n in (1, 2, 9, 10, 11, 100)]
    assert [level_of(image) for image in read_frames(tmp_path, [5, 0, 3])] == [100, 1, 10]
    with pytest.raises(ImageUnreadable, match=r"holds 6 frames; number 6 \(from 0\) was asked for"):
        read_frames(tmp_path, [6])


def test_names_without_numbers_or_with_the_same_go_by_name():
    assert order_by_number(["b.jpg", "a_2.jpg", "c_1.jpg"]) == ["a_2.jpg", "b.jpg", "c_1.jpg"]
    assert order_by_number(["v_1.jpg", "u_1.jpg", "u_10.jpg"]) == ["u_1.jpg", "u_10.jpg", "v_1.jpg"]


def test_a_folder_that_changes_is_listed_again(tmp_path):
    (tmp_path / "1.jpg").write_bytes(picture(1))
    assert len(list_frames(tmp_path)) == 1
    (tmp_path / "2.jpg").write_bytes(picture(2))
    assert len(list_frames(tmp_path)) == 2


def test_a_thousand_pictures_are_listed_once(tmp_path, monkeypatch):
    for number in range(1000):
        (tmp_path / f"{number:06}.jpg").touch()
    list_frames(tmp_path)
    monkeypatch.setattr("os.scandir", lambda _: pytest.fail("listed again"))
    assert len(list_frames(tmp_path)) == 1000


def test_a_tar_gives_the_frames_of_the_folder_it_was_made_of(tmp_path):
    path = write_tar(
        tmp_path / "P01_01.tar", {f"P01_01/frame_{number:010}.jpg": number for number in (3, 1, 2)}
    )
    assert [file.name for file in list_frames(path)] == [f"frame_{number:010}.jpg" for number in (1, 2, 3)]
    assert [level_of(image) for image in read_frames(path, [0, 2])] == [1, 3]
    assert probe_video(path) == (3, None)
    assert sorted(tmp_path.iterdir()) == [path]  # nothing was unpacked
    with pytest.raises(ImageUnreadable, match="holds 3 frames"):
        read_frames(path, [3])


def test_hostile_members_of_a_tar_do_nothing(tmp_path):
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(("../../frame_1.jpg", "/etc/frame_2.jpg", "C:\\frame_3.jpg")):
            add(tar, name, picture(10 * number))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../frame_1.jpg")):
            entry = tarfile.TarInfo("frame_9.jpg")
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        add(tar, "frame_4.jpg", b"<html>")
        fifo = tarfile.TarInfo("frame_5.jpg")
        fifo.type = tarfile.FIFOTYPE
        tar.addfile(fifo)
    assert len(list_frames(path)) == 4
    assert [level_of(image) for image in read_frames(path, [0, 1, 2])] == [0, 10, 20]
    with pytest.raises(ImageUnreadable, match="no image but an HTML page"):
        read_frames(path, [3])
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:700], "no whole tar"),
        (lambda data: b"\x1f\x8b" + data, "is compressed"),
        (lambda data: b"<html>" * 200, "no whole tar|damaged header"),
    ],
)
def test_a_damaged_tar_is_named(tmp_path, damage, words):
    path = write_tar(tmp_path / "video.tar", {"1.jpg": 1, "2.jpg": 2})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ImageUnreadable, match=words):
        read_frames(path, [0])


def test_absent_pictures_are_named(tmp_path):
    with pytest.raises(ImageUnreadable, match="no such file"):
        read_frames(tmp_path / "absent.tar", [0])


def test_a_member_that_no_frame_is_as_large_as_is_refused(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "video.tar", {"1.jpg": 1})
    monkeypatch.setattr("praxiscope.data.clips.frames._LARGEST_MEMBER", 100)
    with pytest.raises(ImageUnreadable, match="which no frame has"):
        read_frames(path, [0])


def test_torchcodec_that_is_absent_or_does_not_load_is_said(tmp_path, monkeypatch):
    path = encode(tmp_path / "clip.mp4", count=5)
    torchcodec_reader.load_torchcodec.cache_clear()
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(EnvironmentProblem, match=r"not installed: pip install 'praxiscope\[torchcodec\]'"):
        read_frames(path, [0], decoder="torchcodec")

    class Broken:
        def __init__(self, *_: object) -> None:
            raise RuntimeError("Could not load libtorchcodec. Likely causes:")

    monkeypatch.setitem(sys.modules, "torchcodec.decoders", type(sys)("fake"))
    sys.modules["torchcodec.decoders"].VideoDecoder = Broken
    with pytest.raises(EnvironmentProblem, match=r"doesn't load here \(Could not load .* apt install ffmpeg"):
        read_frames(path, [0], decoder="torchcodec")
    torchcodec_reader.load_torchcodec.cache_clear()


@pytest.mark.parametrize("name", ["dense keys", "uneven times", "MPEG-4 avi with B-frames", "VP9"])
def test_torchcodec_gives_the_frames_of_pyav(tmp_path, name):
    try:
        torchcodec_reader.load_torchcodec()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    assert name in KINDS
    path = encode_kind(tmp_path, name)
    wanted = [0, 13, 14, 47, 59]
    ours, theirs = read_frames(path, wanted), read_frames(path, wanted, decoder="torchcodec")
    for one, other in zip(ours, theirs, strict=True):
        # The same FFmpeg gives the same bits; another converts colours within a few levels.
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean() < 2
    with pytest.raises(ImageUnreadable, match="ends before frame 60"):
        read_frames(path, [60], decoder="torchcodec")
