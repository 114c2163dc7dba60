"""WebDataset shards become samples; what is odd in a shard is named and never extracted."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from container_files import build, codes, counts, draw, encode, labels_of, write_tar

from praxiscope.data.media import decode_sample
from praxiscope.errors import DataError

PIXELS = draw(12, 24, 30, 3)
LABELS = [0, 1, 2] * 4


def pairs(rows: range, ending: str = "cls") -> list[tuple[str, bytes]]:
    members = []
    for row in rows:
        text = {
            "cls": str(LABELS[row]),
            "txt": f"kind {LABELS[row]}\n",
            "json": json.dumps({"label": LABELS[row]}),
        }
        members += [(f"{row:04}.png", encode(PIXELS[row])), (f"{row:04}.{ending}", text[ending].encode())]
    return members


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for name, rows in {
        "train-000000": range(3),
        "train-000001": range(3, 6),
        "val-000000": range(6, 9),
    }.items():
        write_tar(tmp_path / f"{name}.tar", pairs(rows))
    write_tar(tmp_path / "test" / "000000.tar", pairs(range(9, 12)))
    return tmp_path


def test_shards_come_out_as_they_were_written(shards: Path) -> None:
    manifest = build(shards)
    assert (manifest.source, manifest.heads) == ("webdataset", {"action": ("0", "1", "2")})
    assert counts(manifest) == {"train": 6, "val": 3, "test": 3}
    rows = {row["sample_id"]: row for row in manifest.table.to_pylist()}
    assert rows["test/000000#0010"]["split"] == "test"
    for row in range(12):
        found = next(entry for name, entry in rows.items() if name.endswith(f"#{row:04}"))
        np.testing.assert_array_equal(np.asarray(decode_sample(shards, found["path"])), PIXELS[row])
        assert found["action"] == str(LABELS[row])
    assert codes(manifest)["webdataset.no-names"].count == 3


@pytest.mark.parametrize(("ending", "name"), [("txt", "kind 1"), ("json", "1"), ("cls", "1")])
def test_labels_as_number_text_or_json(tmp_path: Path, ending: str, name: str) -> None:
    write_tar(tmp_path / "train.tar", pairs(range(12), ending))
    assert labels_of(build(tmp_path))["train#0001"] == name


def test_a_key_of_json_or_an_ending_can_be_chosen(tmp_path: Path) -> None:
    members = [(f"{row}.jpg", encode(PIXELS[row], "JPEG")) for row in range(12)]
    members += [(f"{row}.json", json.dumps({"pose": f"pose {LABELS[row]}"}).encode()) for row in range(12)]
    members += [(f"{row}.txt", f"a caption of picture {row}".encode()) for row in range(12)]
    write_tar(tmp_path / "train.tar", members)
    assert build(tmp_path, columns={"label": "pose"}).heads["action"] == ("pose 0", "pose 1", "pose 2")
    assert (
        len(build(tmp_path, columns={"label": "txt"}, val_fraction=0, test_fraction=0).heads["action"]) == 12
    )


@pytest.mark.parametrize("file", ["classes.txt", "classnames.txt"])
def test_numbers_get_names_from_a_file(shards: Path, file: str) -> None:
    (shards / file).write_text("run\njump\nsit\n", encoding="utf-8")
    assert build(shards).heads["action"] == ("jump", "run", "sit")
    (shards / file).write_text("run\njump\n", encoding="utf-8")
    assert ("train-000000#0002", "has label 2, but there are 2 classes") in build(shards).rejected()


def test_keys_may_have_folders_and_images_other_endings(tmp_path: Path) -> None:
    members = []
    for row in range(12):
        members += [
            (f"part{row % 2}/{row:02}.jpg", encode(PIXELS[row], "JPEG")),
            (f"part{row % 2}/{row:02}.mask.png", encode(PIXELS[row])),
            (f"part{row % 2}/{row:02}.cls", b"%d\n" % LABELS[row]),
        ]
    write_tar(tmp_path / "train.tar", members)
    manifest = build(tmp_path, group="parent")
    assert "train#part1/03" in labels_of(manifest)
    assert set(manifest.table["group"].to_pylist()) == {"train#part0", "train#part1"}


BAD_SAMPLES = {
    "no label": ({"png": encode(PIXELS[0])}, "has no label (.cls, .txt, .json)"),
    "no number": ({"png": encode(PIXELS[0]), "cls": b"dog"}, "has a .cls that holds 'dog' instead of a class number"),
    "negative": ({"png": encode(PIXELS[0]), "cls": b"-1"}, "has a .cls that holds '-1'"),
    "huge": ({"png": encode(PIXELS[0]), "cls": b"9" * 30}, "has a .cls that holds '99999999999999999999'"),
    "long": ({"png": encode(PIXELS[0]), "cls": b"1" * 65}, "has a .cls of 65 bytes, too many for a label"),
    "empty": ({"png": encode(PIXELS[0]), "cls": b""}, "has a .cls that holds ''"),
    "no text": ({"png": encode(PIXELS[0]), "txt": b"\xff\xfe\xff"}, "has a .txt that is not UTF-8 text"),
    "caption": ({"png": encode(PIXELS[0]), "txt": b"a " * 150}, "has 299 characters in .txt, which is no class name"),
    "nothing": ({"png": encode(PIXELS[0]), "txt": b" \n"}, "has nothing in .txt, which is no class name"),
    "two lines": ({"png": encode(PIXELS[0]), "txt": b"a\nb"}, "has 3 characters in .txt, which is no class name"),
    "bad json": ({"png": encode(PIXELS[0]), "json": b"{"}, "has a .json that can't be read"),
    "deep json": ({"png": encode(PIXELS[0]), "json": b"[" * 99_999}, "has a .json that can't be read"),
    "list": ({"png": encode(PIXELS[0]), "json": b"[1]"}, "has a .json without 'label'"),
    "no key": ({"png": encode(PIXELS[0]), "json": b'{"x": 1}'}, "has a .json without 'label'"),
    "odd key": ({"png": encode(PIXELS[0]), "json": b'{"label": [1]}'}, "has a 'label' in .json that is neither"),
    "two images": ({"png": encode(PIXELS[0]), "jpg": b"x", "cls": b"1"}, "has several images: jpg, png"),
    "cut image": ({"png": encode(PIXELS[0])[:99], "cls": b"1"}, "damaged"),
    "empty image": ({"png": b"", "cls": b"1"}, "no image but an empty file"),
    "html": ({"jpg": b"<!DOCTYPE html>", "cls": b"1"}, "no image but an HTML page"),
    "text": ({"jpg": b"hello", "cls": b"1"}, "no image but text"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_SAMPLES)
def test_a_malformed_sample_is_left_out_by_name(tmp_path: Path, kind: str) -> None:
    parts, reason = BAD_SAMPLES[kind]
    members = pairs(range(12)) + [(f"bad.{ending}", content) for ending, content in parts.items()]
    write_tar(tmp_path / "train.tar", members)
    manifest = build(tmp_path)
    assert manifest.usable(None).num_rows == 12
    [(name, found)] = manifest.rejected()
    assert name == "train#bad"
    assert found.startswith(reason)


def test_a_key_that_stands_there_twice_is_left_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [*pairs(range(12)), ("0003.png", encode(PIXELS[5]))])
    assert build(tmp_path).rejected() == [("train#0003", "stands in the shard more than once (png)")]


def test_equal_keys_of_two_shards_are_two_samples(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"train-{number}.tar", pairs(range(number * 6, number * 6 + 6)))
    write_tar(
        tmp_path / "train-2.tar", [("0000.png", encode(draw(1, 24, 30, 3, seed=9)[0])), ("0000.cls", b"1")]
    )
    assert {"train-0#0000", "train-2#0000"} <= labels_of(build(tmp_path)).keys()


def test_labels_without_an_image_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [*pairs(range(12)), ("alone.cls", b"1")])
    assert codes(build(tmp_path))["webdataset.no-image"].examples == ("train#alone",)


def hostile_members() -> list[tuple[tarfile.TarInfo, bytes]]:
    kinds = {
        "link.png": (tarfile.SYMTYPE, "/etc/passwd"),
        "hard.png": (tarfile.LNKTYPE, "../../etc/passwd"),
        "device.png": (tarfile.CHRTYPE, ""),
        "block.png": (tarfile.BLKTYPE, ""),
        "pipe.png": (tarfile.FIFOTYPE, ""),
    }
    members = []
    for name, (kind, target) in kinds.items():
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        members.append((entry, b""))
    return members


def test_hostile_members_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    root = tmp_path / "data"
    outside = [
        ("/absolute.png", encode(PIXELS[0])),
        ("../above.png", encode(PIXELS[1])),
        ("a/../../b.png", b"x"),
    ]
    write_tar(root / "train.tar", [*pairs(range(12)), *hostile_members(), *outside])
    before = sorted(tmp_path.rglob("*"))
    manifest = build(root)
    assert codes(manifest)["E3.strange-member"].count == 5
    assert codes(manifest)["E3.outside-path"].count == 3
    assert manifest.table.num_rows == 12
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [*pairs(range(12)), ("caf\udce9.png", encode(PIXELS[0]))])
    assert codes(build(tmp_path))["D8.undecodable-name"].examples == (r"train.tar#caf\udce9.png",)


def tar_of(rows: range) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in pairs(rows):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


GOOD = tar_of(range(12))
MALFORMED = {
    "empty": (b"", "is no whole tar file"),
    "html": (b"<!DOCTYPE html><html></html>", "is no whole tar file"),
    "text": (b"hello " * 300, "is no whole tar file"),
    "noise": (np.random.default_rng(0).bytes(5000), "is no whole tar file|is compressed"),
    "gzip": (gzip.compress(GOOD), "is compressed, so its members can't be read where they lie; unpack it"),
    "cut in the first header": (GOOD[:300], "is no whole tar file"),
    "cut in the first image": (GOOD[:700], "is no whole tar file|ends within '0000.png'"),
    "cut in an image": (GOOD[: len(GOOD) // 2], "is no whole tar file|ends within"),
    "cut in the last label": (GOOD[: GOOD.rindex(b"0011.cls") + 512], "is no whole tar file|ends within '0011.cls'"),
    "header with a flipped byte": (GOOD[:100] + b"\x07" + GOOD[101:], "is no whole tar file"),
    "second header damaged": (GOOD.replace(b"0000.cls", b"9999.cls"), "has a damaged header at byte"),
    "size that is no number": (GOOD[:124] + b"zzzzzzzzzzz\0" + GOOD[136:], "is no whole tar file"),
    "negative size": (GOOD[:124] + b"\xff" * 12 + GOOD[136:], "is no whole tar file"),
    "zip": (b"PK\x03\x04" + bytes(600), "is no whole tar file"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "is no whole tar file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_shard_is_named(tmp_path: Path, kind: str) -> None:
    content, words = MALFORMED[kind]
    (tmp_path / "train-000000.tar").write_bytes(content)
    write_tar(tmp_path / "train-000001.tar", pairs(range(12)))
    with pytest.raises(DataError, match=words) as caught:
        build(tmp_path)
    assert "train-000000.tar" in str(caught.value)


def test_zeros_are_an_empty_shard(tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(bytes(10_240))
    write_tar(tmp_path / "train-000001.tar", pairs(range(12)))
    assert build(tmp_path).usable(None).num_rows == 12


def test_a_shard_cut_between_members_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.tar").write_bytes(GOOD[: GOOD.index(b"0009.png")])
    assert codes(build(tmp_path))["webdataset.no-end"].examples == ("train.tar",)


@pytest.mark.parametrize("name", ["train-000000.tar.gz", "train.tgz", "sub/train.tar.zst"])
def test_compressed_shards_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(gzip.compress(GOOD))
    with pytest.raises(
        DataError, match=r"is compressed, so its members can't be read where they lie; unpack it to a"
    ):
        build(tmp_path, source="webdataset")


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no shards \(\.tar\)"):
        build(tmp_path, source="webdataset")


def test_shards_of_no_split_are_left_out_beside_others(shards: Path) -> None:
    write_tar(shards / "extra.tar", pairs(range(2)))
    assert codes(build(shards))["webdataset.no-split"].examples == ("extra.tar",)
