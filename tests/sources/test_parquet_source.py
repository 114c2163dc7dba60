"""Image tables in Parquet, as the Hugging Face hub ships them, become samples."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from container_files import (
    build,
    codes,
    counts,
    draw,
    encode,
    hub_note,
    image_column,
    labels_of,
    write_parquet,
)

from praxiscope.data.containers import parquet as container
from praxiscope.data.media import decode_sample
from praxiscope.errors import DataError, UsageError

PIXELS = draw(12, 24, 30, 3)
LABELS = [0, 1, 2] * 4
NAMES = ["cat", "dog", "owl"]


def table(rows: slice = slice(None), **columns: object) -> dict[str, pa.Array]:
    return {"image": image_column(PIXELS[rows]), "label": pa.array(LABELS[rows]), **columns}


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Two training files, validation and test, in data/."""
    for name, rows in {
        "train-00000-of-00002": slice(0, 3),
        "train-00001-of-00002": slice(3, 6),
        "validation-00000-of-00001": slice(6, 9),
        "test-00000-of-00001": slice(9, 12),
    }.items():
        write_parquet(tmp_path / f"data/{name}.parquet", table(rows), hub_note(NAMES), row_group_size=2)
    return tmp_path


def test_a_hub_data_set_comes_out_as_it_was_written(hub: Path) -> None:
    manifest = build(hub)
    assert (manifest.source, manifest.heads) == ("parquet", {"action": ("cat", "dog", "owl")})
    assert counts(manifest) == {"train": 6, "val": 3, "test": 3}
    assert labels_of(manifest)["data/train-00001-of-00002#00001"] == "dog"
    images = [decode_sample(hub, path) for path in sorted(manifest.table["path"].to_pylist())]
    for image in images:
        assert any(np.array_equal(np.asarray(image), pixels) for pixels in PIXELS)
    assert len({image.tobytes() for image in images}) == 12


def test_file_bytes_are_what_is_hashed(hub: Path, tmp_path: Path) -> None:
    import hashlib

    rows = {row["sample_id"]: row for row in build(hub).table.to_pylist()}
    expected = hashlib.sha256(encode(PIXELS[4])).hexdigest()
    assert rows["data/train-00001-of-00002#00001"]["sha256"] == expected


def test_a_plain_binary_column_and_names_as_text(tmp_path: Path) -> None:
    columns = {
        "jpg": pa.array([encode(p) for p in PIXELS], pa.large_binary()),
        "class": pa.array([NAMES[n] for n in LABELS]),
    }
    write_parquet(tmp_path / "all.parquet", columns)
    manifest = build(tmp_path)
    assert manifest.heads["action"] == ("cat", "dog", "owl")
    assert sum(counts(manifest).values()) == 12
    assert counts(manifest)["test"] > 0


def test_numbers_without_names_are_padded_and_said(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", table() | {"label": pa.array([n * 5 for n in LABELS])})
    manifest = build(tmp_path)
    assert manifest.heads["action"] == ("00", "05", "10")
    assert codes(manifest)["parquet.no-names"].severity == "note"


def test_names_as_a_mapping(tmp_path: Path) -> None:
    note = hub_note({str(number): name for number, name in enumerate(NAMES)})
    write_parquet(tmp_path / "train.parquet", table(), note)
    assert build(tmp_path).heads["action"] == ("cat", "dog", "owl")


def test_columns_by_role(tmp_path: Path) -> None:
    columns = {
        "thumb": image_column(PIXELS[::-1]),
        "picture": image_column(PIXELS),
        "kind": pa.array(NAMES * 4),
        "part": pa.array(["train"] * 6 + ["valid"] * 3 + ["test"] * 3),
        "person": pa.array([0] * 6 + [1] * 3 + [2] * 3),
    }
    write_parquet(tmp_path / "all.parquet", columns)
    roles = {"path": "thumb", "label": "kind", "split": "part", "group": "person"}
    manifest = build(tmp_path, columns=roles)
    assert counts(manifest) == {"train": 6, "val": 3, "test": 3}
    assert set(manifest.table["group"].to_pylist()) == {"0", "1", "2"}
    first = decode_sample(tmp_path, manifest.table["path"].to_pylist()[0])
    np.testing.assert_array_equal(np.asarray(first), PIXELS[-1])
    with pytest.raises(
        UsageError, match=r"data\.columns\.label is 'knd', but all\.parquet has .*Did you mean 'kind'"
    ):
        build(tmp_path, columns={"label": "knd"})


def test_two_label_columns_are_not_guessed_from(tmp_path: Path) -> None:
    columns = {"img": image_column(PIXELS), "fine_label": pa.array(LABELS), "coarse_label": pa.array(LABELS)}
    note = hub_note(NAMES, label="fine_label", image="img")
    note["info"]["features"]["coarse_label"] = {"names": ["a", "b", "c"], "_type": "ClassLabel"}
    write_parquet(tmp_path / "train.parquet", columns, note)
    with pytest.raises(
        DataError, match=r"several columns of labels, fine_label, coarse_label\. Say which with"
    ):
        build(tmp_path)
    assert build(tmp_path, columns={"label": "coarse_label"}).heads["action"] == ("a", "b", "c")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (pa.array([0, -1] * 6), "has label -1: unlabelled"),
        (pa.array([0, 3] * 6), "has label 3, which has no name"),
        (pa.array([0, None] * 6), "the table gives no label"),
        (pa.array(["cat", " "] * 6), "the table gives no label"),
        (pa.array([0.0, 1.5] * 6), "has a label of type float; a label is a whole number or a text"),
    ],
)
def test_rows_without_a_label_are_left_out_by_name(tmp_path: Path, label: pa.Array, reason: str) -> None:
    write_parquet(tmp_path / "train.parquet", table() | {"label": label}, hub_note(NAMES))
    assert ("train#00001", reason) in build(tmp_path).rejected()


def test_rows_without_an_image_are_left_out_by_name(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    entries = [{"bytes": encode(p), "path": "x"} for p in PIXELS]
    entries[1] = {"bytes": None, "path": "elsewhere.png"}
    entries[2] = None
    entries[3] = {"bytes": encode(PIXELS[3])[:60], "path": "x"}
    write_parquet(tmp_path / "train.parquet", table() | {"image": pa.array(entries, kind)}, hub_note(NAMES))
    reasons = dict(build(tmp_path).rejected())
    assert {name: reason.split(" (")[0] for name, reason in reasons.items()} == {
        "train#00001": "holds no bytes in 'image' of row 1",
        "train#00002": "holds no bytes in 'image' of row 2",
        "train#00003": "damaged",
    }


def test_a_bad_split_column_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", table(part=pa.array(["train", "extra"] * 6)))
    with pytest.raises(DataError, match="the column 'part' holds 'extra', but a split is train"):
        build(tmp_path, columns={"split": "part"})


def test_a_row_without_a_split_is_left_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "all.parquet", table(part=pa.array(["train", "test", None] * 4)))
    rejected = build(tmp_path, columns={"split": "part"}).rejected()
    assert ("all#00002", "the table gives no split") in rejected


def test_files_of_no_split_are_left_out_beside_others(hub: Path) -> None:
    write_parquet(hub / "data/unsupervised-00000.parquet", table(), hub_note(NAMES))
    finding = codes(build(hub))["parquet.no-split"]
    assert finding.examples == ("data/unsupervised-00000.parquet",)


@pytest.mark.parametrize(
    ("columns", "note", "words"),
    [
        ({"image": image_column(PIXELS)}, None, "has no column label, as"),
        (table(), hub_note(["cat", "dog", "bat"]), "names its classes otherwise than"),
    ],
)
def test_tables_that_differ_are_refused(hub: Path, columns, note, words: str) -> None:
    write_parquet(hub / "data/train-00002-of-00002.parquet", columns, note)
    with pytest.raises(DataError, match=words):
        build(hub)


def test_names_given_twice_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", table(), hub_note(["cat", "dog", "dog"]))
    with pytest.raises(DataError, match="'dog' is the name of class 1 and of class 2"):
        build(tmp_path)


def _parquet(columns: dict[str, pa.Array], **options: object) -> bytes:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


GOOD = _parquet(table())
MALFORMED = {
    "empty": b"",
    "html": b"<!DOCTYPE html>",
    "lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "zeros": bytes(3000),
    "noise": np.random.default_rng(0).bytes(3000),
    "magic only": b"PAR1",
    "magic twice": b"PAR1PAR1",
    "cut in half": GOOD[: len(GOOD) // 2],
    "without its end": GOOD[:-1],
    "without its footer": GOOD[:-200],
    "start missing": GOOD[20:],
    "footer zeroed": GOOD[:-300] + bytes(290) + GOOD[-10:],
    "footer length lies": GOOD[:-8] + b"\xff\xff\xff\x7f" + GOOD[-4:],
    "footer of noise": GOOD[:-400] + np.random.default_rng(1).bytes(392) + GOOD[-8:],
    "no images": _parquet({"label": pa.array(LABELS)}),
    "no labels": _parquet({"image": image_column(PIXELS)}),
    "no columns": _parquet({}),
    "no rows": _parquet({"image": image_column(PIXELS[:0]), "label": pa.array([], pa.int64())}),
    "images as paths": _parquet({"image": pa.array(["a.png"] * 12), "label": pa.array(LABELS)}),
    "two binary columns": _parquet({"a": pa.array([b"x"] * 12), "b": pa.array([b"x"] * 12), "label": pa.array(LABELS)}),
    "json": b'{"image": 1}',
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "train.parquet").write_bytes(MALFORMED[kind])
    if kind == "no rows":
        assert "D2.nothing-usable" in codes(build(tmp_path, source="parquet"))
        return
    with pytest.raises(DataError) as caught:
        build(tmp_path, source="parquet")
    assert "train.parquet" in str(caught.value)
    assert "praxiscope" not in str(caught.value)


def test_a_folder_without_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no \.parquet file"):
        build(tmp_path, source="parquet")


def test_a_set_larger_than_the_cache_is_read_right_and_named(hub: Path, monkeypatch) -> None:
    monkeypatch.setattr("praxiscope.data.sources.parquet.CACHE_BYTES", 5_000)
    monkeypatch.setattr(container, "_ROW_GROUPS", container._RowGroups(5_000))
    manifest = build(hub)
    assert "data.pack" in codes(manifest)["parquet.large"].message
    paths = manifest.table["path"].to_pylist()
    for place in np.random.default_rng(0).integers(0, 12, 40):
        assert decode_sample(hub, paths[place]).size == (30, 24)
    assert container._ROW_GROUPS._size <= max(5_000, 2 * len(encode(PIXELS[0])) + 100)


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    columns = [image_column(PIXELS), pa.array(LABELS), pa.array(LABELS)]
    pq.write_table(pa.table(columns, names=["image", "label", "label"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"has several columns called label; rename one\."):
        build(tmp_path)


def test_images_that_are_kept_keep_no_file_open(hub: Path) -> None:
    images = container.ParquetImages(hub / "data/test-00000-of-00001.parquet")
    images.read("0:image")
    file = weakref.ref(images._file)
    del images
    assert file() is None


def test_a_column_that_has_gone_is_named(hub: Path) -> None:
    from praxiscope.data.images import ImageUnreadable

    with pytest.raises(ImageUnreadable, match="has no column 'photo'"):
        decode_sample(hub, "data/test-00000-of-00001.parquet//parquet:0:photo")
