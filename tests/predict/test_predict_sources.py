from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from praxiscope.errors import UsageError
from praxiscope.prediction.sources import OutputNames, describe_counts, find_items


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(path, format="PNG")
    return path


def names(*sources, **options):
    return [item.name for item in find_items([str(source) for source in sources], **options).items]


def test_a_folder_is_read_with_its_subfolders_in_natural_order(tmp_path):
    for name in ("f10.png", "f2.png", "b/1.png", "no-suffix"):
        save(tmp_path / name)
    (tmp_path / "clip.MP4").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    found = find_items([str(tmp_path)])
    assert [item.name for item in found.items] == ["b/1.png", "clip.MP4", "f2.png", "f10.png", "no-suffix"]
    assert [item.kind for item in found.items] == ["image", "video", "image", "image", "image"]
    assert found.notes == (f"1 file in {tmp_path} passed over, no image or video: notes.txt",)
    assert describe_counts(found.items) == "4 images and 1 video"


def test_a_pattern_means_its_files(tmp_path):
    for name in ("a/x2.png", "a/x10.png", "a/deep/x1.png"):
        save(tmp_path / name)
    assert names(tmp_path / "a" / "*.png") == ["x2.png", "x10.png"]
    assert names(f"{tmp_path}/a/**/*.png") == ["deep/x1.png", "x2.png", "x10.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    assert names(save(tmp_path / "a[1].png")) == ["a[1].png"]


def test_a_text_file_lists_paths_relative_to_itself(tmp_path):
    save(tmp_path / "in" / "a.png")
    other = save(tmp_path / "else" / "b.png")
    listing = tmp_path / "in" / "list.txt"
    listing.write_text(f"\ufeffa.png\n\n{other}\n../else/b.png\nabsent.png\n", encoding="utf-8")
    found = find_items([str(listing)]).items
    assert [item.path.resolve() for item in found[:3]] == [tmp_path / "in" / "a.png", other, other]
    assert found[2].name == "else/b.png"
    assert len(found) == 4


def test_a_number_is_a_camera_unless_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_items(["0"]).items[0].kind == "camera"
    save(tmp_path / "0")
    assert find_items(["0"]).items[0].kind == "image"


def test_several_folders_keep_their_own_names(tmp_path):
    save(tmp_path / "one" / "1.png")
    save(tmp_path / "two" / "1.png")
    assert names(tmp_path / "one", tmp_path / "two") == ["one/1.png", "two/1.png"]


def test_what_a_file_holds_counts_more_than_its_name(tmp_path):
    assert find_items([str(save(tmp_path / "clip.mp4"))]).items[0].kind == "image"
    video = tmp_path / "clip"
    video.write_bytes(b"\x00\x00\x00\x18ftypisom")
    assert find_items([str(video)]).items[0].kind == "video"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("absent.png", "There is no absent.png. SOURCE is an image"),
        ("*.gif", r"No file matches \*.gif"),
        ("empty", "empty holds nothing to predict. Looked for images"),
        ("bytes.txt", "no UTF-8 text"),
        ("void.txt", "There is no void.txt|holds no path"),
    ],
)
def test_a_source_that_means_nothing_is_refused(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "void.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        find_items([source])


def test_earlier_output_inside_a_source_is_left_out(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "out" / "annotated" / "a.jpg")
    found = find_items([str(tmp_path)], exclude=tmp_path / "out")
    assert [item.name for item in found.items] == ["a.png"]
    assert found.notes == (f"1 file in {tmp_path / 'out'} left out: earlier output.",)
    with pytest.raises(UsageError, match=r"all it has \(1 file\) lies in"):
        find_items([str(tmp_path / "out")], exclude=tmp_path / "out")


HOSTILE = [
    "a.png", "A.PNG", "a.jpg", "a.png.jpg", "../../up.png", "/etc/passwd", "..", "con.png", "aux", "nul.txt",
    "x\ny.png", "\u202egnp.exe", "a:b.png", "a\\b.png", "dir./f.png", "f.png ", "e\u0301.png", "\u00e9.png", "x" * 300,
    "\U0001f600" * 100, "\udcff.png", "<script>.png", "a.jpg/frame-000001.jpg", "clip", "clip/1.jpg", "", ".", "=1+1.png",
]  # fmt: skip


def test_output_names_never_collide_nor_leave_the_folder(tmp_path):
    chosen = OutputNames()
    written = []
    for name in HOSTILE * 2:
        path = tmp_path / chosen.choose(name, ".jpg")
        assert path.resolve().is_relative_to(tmp_path), name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), name
        path.write_bytes(b"x")
        written.append(str(path.relative_to(tmp_path)).casefold())
    assert len(set(written)) == len(HOSTILE) * 2


def test_ordinary_names_stay_as_they_are():
    chosen = OutputNames()
    assert str(chosen.choose("walk/take 1 (final).jpg", ".jpg")) == "walk/take 1 (final).jpg"
    assert str(chosen.choose("walk/take 1 (final).png", ".jpg")) == "walk/take 1 (final).png.jpg"
    assert str(chosen.choose("歩く/写真.jpg", ".jpg")) == "歩く/写真.jpg"
    assert str(chosen.choose("WALK/Take 1 (final).jpg", ".jpg")) == "WALK/Take 1 (final)-2.jpg"
