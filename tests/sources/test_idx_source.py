"""MNIST-style files become samples, and damaged ones are refused by name."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from container_files import build, codes, counts, draw, idx_bytes, labels_of, write_idx

from praxiscope.data.containers import idx
from praxiscope.data.media import decode_sample
from praxiscope.errors import DataError, UsageError

LABELS = [0, 1, 2] * 4


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    write_idx(tmp_path / "raw", draw(12, 28, 28), LABELS)
    write_idx(tmp_path / "raw", draw(6, 28, 28, seed=1), [0, 1, 2] * 2, "t10k")
    return tmp_path


@pytest.mark.parametrize("packed", [True, False])
def test_images_come_out_as_they_were_written(tmp_path: Path, packed: bool) -> None:
    pixels = draw(12, 20, 28)
    write_idx(tmp_path, pixels, LABELS, packed=packed)
    manifest = build(tmp_path, val_fraction=0.0, test_fraction=0.0)
    assert manifest.source == "idx"
    assert labels_of(manifest) == {f"train-images-idx3-ubyte#{row:05}": str(LABELS[row]) for row in range(12)}
    for row, path in enumerate(manifest.table["path"].to_pylist()):
        image = decode_sample(tmp_path, path)
        assert (image.mode, image.size) == ("RGB", (28, 20))
        np.testing.assert_array_equal(np.asarray(image), np.repeat(pixels[row][:, :, None], 3, axis=2))


def test_t10k_is_test_and_validation_is_cut_from_train(digits: Path) -> None:
    manifest = build(digits, val_fraction=0.25)
    assert counts(manifest) == {"train": 9, "val": 3, "test": 6}
    assert counts(build(digits / "raw", val_fraction=0.25)) == counts(manifest)


def test_gzipped_or_not_is_the_same_data(tmp_path: Path) -> None:
    prints = set()
    for packed in (True, False):
        folder = tmp_path / str(packed)
        write_idx(folder, draw(12, 28, 28), LABELS, packed=packed)
        prints.add(build(folder).fingerprint)
    assert len(prints) == 1


def test_of_two_equal_files_the_unpacked_one_is_read(digits: Path) -> None:
    write_idx(digits / "raw", draw(12, 28, 28), LABELS, packed=False)
    manifest = build(digits)
    assert codes(manifest)["idx.twice"].examples == ("raw/train-images-idx3-ubyte.gz",)
    assert manifest.usable("test").num_rows == 6


def test_classes_have_the_names_of_a_file(digits: Path) -> None:
    (digits / "raw" / "classes.txt").write_text("zéro\none\ntwo\n", encoding="utf-8")
    assert build(digits).heads == {"action": ("one", "two", "zéro")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"zero\none\n", "names 2 classes, but there is a label 2"),
        (b"zero\n\ntwo\n", "the name of class 1 is empty"),
        (b"zero\none\nzero\n", "'zero' is the name of class 0 and of class 2"),
        (b"z\xe9ro\none\ntwo\n", "is not UTF-8 text"),
    ],
)
def test_a_bad_file_of_names_is_refused(digits: Path, text: bytes, words: str) -> None:
    (digits / "raw" / "classes.txt").write_bytes(text)
    with pytest.raises(DataError, match=words):
        build(digits)


def test_numbers_above_nine_sort_as_numbers(tmp_path: Path) -> None:
    write_idx(tmp_path, draw(12, 8, 8), list(range(12)))
    assert build(tmp_path, val_fraction=0.0, test_fraction=0.0).heads["action"][:3] == ("00", "01", "02")


def _damage(name: str, content: bytes) -> dict[str, bytes]:
    return {name: content}


IMAGES, NUMBERS = idx_bytes(draw(12, 28, 28)), idx_bytes(np.array(LABELS, np.uint8))
PACKED = gzip.compress(IMAGES, mtime=0)
TRAIN, NUMBERED = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
MALFORMED = {
    "gzip cut in half": (f"{TRAIN}.gz", PACKED[: len(PACKED) // 2], "ends in the middle"),
    "gzip without its end": (f"{TRAIN}.gz", PACKED[:-4], "ends in the middle"),
    "gzip with a flipped byte": (f"{TRAIN}.gz", PACKED[:-6] + bytes([PACKED[-6] ^ 1]) + PACKED[-5:], "damaged gzip"),
    "gzip damaged inside": (f"{TRAIN}.gz", PACKED[:300] + b"\xff" * 40 + PACKED[340:], "damaged gzip|ends in the"),
    "no gzip": (f"{TRAIN}.gz", IMAGES, "damaged gzip"),
    "empty gzip": (f"{TRAIN}.gz", b"", "begins with nothing"),
    "gzip of nothing": (f"{TRAIN}.gz", gzip.compress(b""), "begins with nothing"),
    "gzip with more": (f"{TRAIN}.gz", gzip.compress(IMAGES + b"x"), "holds more"),
    "gzip with less": (f"{TRAIN}.gz", gzip.compress(IMAGES[:-9]), "declares 12 x 28 x 28 = 9,408 bytes"),
    "gzip bomb": (f"{TRAIN}.gz", gzip.compress(b"\0\0\x08\x03" + b"\x7f\xff\xff\xff" * 3), "unpack the .gz"),
    "empty": (TRAIN, b"", "begins with nothing"),
    "text": (TRAIN, b"<!DOCTYPE html><html>", "begins with 3c21444f"),
    "labels for images": (TRAIN, NUMBERS, "begins with 00000801, but an idx file of images begins with 00000803"),
    "signed bytes": (TRAIN, idx_bytes(draw(12, 28, 28), kind=9), "begins with 00000903"),
    "floats": (TRAIN, idx_bytes(draw(12, 28, 28), kind=13), "begins with 00000d03"),
    "colour": (TRAIN, idx_bytes(draw(12, 28, 28, 3)), "begins with 00000804"),
    "header cut": (TRAIN, IMAGES[:11], "ends within its header"),
    "no pixels": (TRAIN, idx_bytes(draw(12, 0, 28)), "declares images of 28 x 0 pixels"),
    "cut": (TRAIN, IMAGES[:-1], "holds 9,407"),
    "longer": (TRAIN, IMAGES + b"\0", "holds more"),
    "labels cut": (NUMBERED, NUMBERS[:-2], "declares 12 = 12 bytes and holds 10"),
    "images for labels": (NUMBERED, IMAGES, "an idx file of labels begins with 00000801"),
    "fewer labels": (NUMBERED, idx_bytes(np.zeros(11, np.uint8)), "holds 12 images and .* 11 labels"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_named(tmp_path: Path, kind: str) -> None:
    name, content, words = MALFORMED[kind]
    write_idx(tmp_path, draw(12, 28, 28), LABELS, packed=False)
    (tmp_path / name.removesuffix(".gz")).unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        build(tmp_path)
    assert name.removesuffix(".gz") in str(caught.value)


def test_labels_must_lie_beside_images(digits: Path) -> None:
    (digits / "raw/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"has no labels beside it: neither train-labels-idx1-ubyte nor"):
        build(digits)


def test_two_files_of_one_split_are_refused(digits: Path) -> None:
    write_idx(digits / "other", draw(12, 28, 28), LABELS)
    with pytest.raises(DataError, match="Two files hold the t"):
        build(digits)


def test_a_folder_without_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no idx files"):
        build(tmp_path, source="idx")


def test_groups_are_found_in_ids_but_not_in_folders(digits: Path) -> None:
    manifest = build(digits, group=r"#(\d{4})")
    assert set(manifest.table["group"].to_pylist()) == {"0000", "0001"}
    with pytest.raises(UsageError, match="the samples lie in containers, not in folders"):
        build(digits, group="parent")


def test_a_large_gzip_is_refused_and_the_unpacked_file_is_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(idx, "MAX_GZIP_BYTES", 9_000)
    write_idx(tmp_path, draw(12, 28, 28), LABELS)
    with pytest.raises(DataError, match=r"more than the 9,000 that are held in memory; unpack the \.gz file"):
        build(tmp_path)
    write_idx(tmp_path, draw(12, 28, 28), LABELS, packed=False)
    assert build(tmp_path).usable(None).num_rows == 12


def test_fashion_mnist_is_recognised() -> None:
    folder = os.environ.get("PRAXISCOPE_FASHION_MNIST")
    if not folder:
        pytest.skip("PRAXISCOPE_FASHION_MNIST doesn't name a folder with Fashion-MNIST's four files")
    from praxiscope.data.sources.idx import FASHION_NAMES, list_idx
    from praxiscope.recipe.schema import DataSection

    listing = list_idx(Path(folder), DataSection())
    assert len(listing.samples) == 70_000
    assert {sample.label for sample in listing.samples} == set(FASHION_NAMES)
    first = next(s for s in listing.samples if s.sample_id == "train-images-idx3-ubyte#00000")
    assert (first.label, first.split) == ("Ankle boot", "train")
