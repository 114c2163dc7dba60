"""CIFAR's published files become samples; nothing that a pickle asks for is run (E2)."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from container_files import (
    build,
    cifar10_batch,
    codes,
    counts,
    draw,
    flatten,
    labels_of,
    py2_array,
    py2_list,
    py2_pickle,
    py2_string,
    write_cifar10,
    write_cifar100,
)

from praxiscope.data.containers.cifar import read_batch, read_pickle
from praxiscope.data.media import decode_sample
from praxiscope.errors import DataError, UsageError

NAMES = ("airplane", "automobile", "bird")
PIXELS = draw(36, 32, 32, 3)
LABELS = [0, 1, 2] * 12


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    return write_cifar10(tmp_path / "cifar-10-batches-py", PIXELS, LABELS, NAMES)


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    fine = [7, 42, 99] * 12
    return write_cifar100(tmp_path / "cifar-100-python", PIXELS, fine, [number // 5 for number in fine])


def read_all(manifest) -> dict[str, np.ndarray]:
    rows = manifest.table.select(["sample_id", "path"]).to_pylist()
    return {row["sample_id"]: np.asarray(decode_sample(manifest.root, row["path"])) for row in rows}


def test_python_2_pickles_are_what_numpy_reads(cifar10: Path) -> None:
    """The writer of these tests against the real unpickler, then the restricted one against both."""
    path = cifar10 / "data_batch_1"
    with path.open("rb") as stream:
        really = pickle.load(stream, encoding="bytes")
    np.testing.assert_array_equal(really[b"data"], flatten(PIXELS)[:6])
    batch = read_batch(path)
    np.testing.assert_array_equal(batch.pixels.reshape(6, -1), really[b"data"])
    assert list(batch.labels["labels"]) == really[b"labels"]


def test_cifar10_comes_out_as_it_was_written(cifar10: Path) -> None:
    manifest = build(cifar10, val_fraction=0.0)
    assert (manifest.source, manifest.heads) == ("cifar", {"action": NAMES})
    assert counts(manifest) == {"train": 30, "val": 0, "test": 6}
    assert labels_of(manifest)["data_batch_2#00004"] == NAMES[LABELS[10]]
    images = read_all(manifest)
    for row, pixels in enumerate(PIXELS):
        part = f"data_batch_{row // 6 + 1}" if row < 30 else "test_batch"
        np.testing.assert_array_equal(images[f"{part}#{row % 6:05}"], pixels)


def test_the_folder_above_does_too(cifar10: Path) -> None:
    manifest = build(cifar10.parent)
    assert "cifar-10-batches-py/test_batch#00003" in labels_of(manifest)
    assert manifest.usable(None).num_rows == 36


@pytest.mark.parametrize("kind", ["default", "fine", "coarse", "coarse_labels"])
def test_cifar100_has_two_label_sets(cifar100: Path, kind: str) -> None:
    columns = {} if kind == "default" else {"label": kind}
    manifest = build(cifar100, columns=columns)
    fine = ("fine 07", "fine 42", "fine 99")
    assert manifest.heads["action"] == (("coarse 01", "coarse 08", "coarse 19") if "coarse" in kind else fine)
    assert manifest.usable("test").num_rows == 18


def test_another_label_set_is_refused(cifar10: Path) -> None:
    with pytest.raises(
        UsageError, match=r"data.columns.label is 'coarse', but cifar-10-python has .* fine\."
    ):
        build(cifar10, columns={"label": "coarse"})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_subsets_written_again_by_python_3_are_read(tmp_path: Path, protocol: int) -> None:
    content = {"data": flatten(PIXELS), "labels": LABELS}
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=protocol))
    np.testing.assert_array_equal(read_batch(tmp_path / "test_batch").pixels.reshape(36, -1), flatten(PIXELS))


def test_column_major_arrays_are_turned(tmp_path: Path) -> None:
    content = {"data": np.asfortranarray(flatten(PIXELS)), "labels": LABELS}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    np.testing.assert_array_equal(read_batch(tmp_path / "test_batch").pixels.reshape(36, -1), flatten(PIXELS))


def write_binary(folder: Path, names: list[str], label_bytes: Callable[[int], bytes]) -> None:
    folder.mkdir()
    for name, rows in zip(names, np.array_split(np.arange(36), len(names)), strict=True):
        records = [label_bytes(row) + flatten(PIXELS)[row].tobytes() for row in rows]
        (folder / name).write_bytes(b"".join(records))


def test_binary_files_hold_the_same_images(tmp_path: Path, cifar10: Path) -> None:
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    write_binary(tmp_path / "bin", names, lambda row: bytes([LABELS[row]]))
    (tmp_path / "bin" / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n", encoding="utf-8")
    assert build(tmp_path / "bin").fingerprint == build(cifar10).fingerprint


def test_binary_cifar100_with_and_without_names(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    write_binary(folder, ["train.bin", "test.bin"], lambda row: bytes([LABELS[row], LABELS[row] * 4]))
    assert build(tmp_path).heads["action"] == ("00", "04", "08")
    assert build(tmp_path, columns={"label": "coarse"}).heads["action"] == ("00", "01", "02")
    (folder / "fine_label_names.txt").write_text("".join(f"name {n}\n" for n in range(9)), encoding="utf-8")
    assert build(tmp_path).heads["action"] == ("name 0", "name 4", "name 8")


def test_files_that_are_not_the_published_ones_are_named(cifar100: Path) -> None:
    finding = codes(build(cifar100))["cifar.other-file"]
    assert (finding.severity, finding.count) == ("warning", 3)
    assert "md5 " in finding.message
    assert "published 16019d7e3df5f24257cddd939b257f8d" in finding.message


def test_published_files_raise_no_warning(cifar100: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from praxiscope.data.sources import cifar

    known = {
        name: hashlib.md5((cifar100 / name).read_bytes()).hexdigest() for name in ("train", "test", "meta")
    }
    monkeypatch.setitem(cifar.PUBLISHED_MD5, "cifar-100-python", known)
    assert "cifar.other-file" not in codes(build(cifar100))


def test_absent_batches_are_named(cifar10: Path) -> None:
    (cifar10 / "data_batch_3").unlink()
    assert codes(build(cifar10))["cifar.absent"].examples == ("data_batch_3",)


def test_without_names_classes_are_numbers(cifar10: Path) -> None:
    (cifar10 / "batches.meta").unlink()
    assert build(cifar10).heads["action"] == ("0", "1", "2")


@pytest.mark.parametrize("number", [3, -1, 2**31 - 1])
def test_a_label_without_a_class_is_left_out_by_name(cifar10: Path, number: int) -> None:
    (cifar10 / "data_batch_1").write_bytes(cifar10_batch(PIXELS[:6], [0, 1, 2, number, 1, 2]))
    manifest = build(cifar10)
    assert manifest.rejected() == [("data_batch_1#00003", f"has label {number}, but there are 3 classes")]


def test_several_forms_are_not_guessed_from(cifar10: Path, cifar100: Path) -> None:
    with pytest.raises(
        DataError, match=r"several forms of CIFAR: cifar-10-python in .* and cifar-100-python in"
    ):
        build(cifar10.parent)


def test_a_folder_without_cifar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no CIFAR"):
        build(tmp_path, source="cifar")


# E2 ------------------------------------------------------------------------------------------------------


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def hostile(mark: Path) -> dict[str, bytes]:
    """Pickles that leave `mark` behind when they are loaded freely, or eat memory."""
    write = f"open({str(mark)!r}, 'w').close()"
    good = cifar10_batch(PIXELS[:6], LABELS[:6])
    return {
        "eval": pickle.dumps(Call(eval, write)),
        "exec": pickle.dumps({"data": Call(exec, write)}),
        "os.system": pickle.dumps({"labels": [Call(os.system, f"touch '{mark}'")]}, protocol=0),
        "posix by its old name": b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.",
        "inst": b"(S'touch " + str(mark).encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'touch " + str(mark).encode() + b"'\no.",
        "stack global": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93" + pickle.dumps(write)[2:-1] + b"\x85R.",
        "attribute of what is allowed": b"\x80\x04\x8c\x05numpy\x8c\x14ndarray.__class__.x\x93)R.",
        "numpy.load": b"cnumpy\nload\n(S'" + str(mark).encode() + b"'\ntR.",
        "getattr": b"c__builtin__\ngetattr\n(c__builtin__\n__import__\nS'__call__'\ntR(S'os'\ntR.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent id": b"Pevil\n.",
        "in the middle of a batch": good[:-2] + py2_string(b"x") + pickle.dumps(Call(eval, write))[2:-1] + b"u.",
        "state of a function": b"c_codecs\nencode\n}(S'__code__'\nK\x01ub.",
        "state of a class": b"cnumpy\nndarray\nN}(S'__setstate__'\nK\x01u\x86b.",
        "codec that runs code": b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        "memo of 32 GB": b"\x80\x02}r\xff\xff\xff\x7f.",
        "array of a petabyte": (
            b"\x80\x05}\x8c\x04datacnumpy._core.numeric\n_frombuffer\n(\x8a\x07\x00\x00\x00\x00\x00\x00\x04"
            b"cnumpy\ndtype\n\x8c\x02u1\x85R\x8a\x07\x00\x00\x00\x00\x00\x00\x04\x85\x8c\x01CtRs."
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", hostile(Path("x")))
@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
def test_hostile_pickles_are_refused_and_nothing_runs(
    cifar10: Path, tmp_path: Path, kind: str, name: str
) -> None:
    mark = tmp_path / "executed"
    (cifar10 / name).write_bytes(hostile(mark)[kind])
    with pytest.raises(DataError) as caught:
        build(cifar10, source="cifar")
    assert name in str(caught.value)
    assert not mark.exists()


def test_the_hostile_pickles_are_real(tmp_path: Path) -> None:
    """They do what they say when they are loaded freely: the refusals above mean something."""
    mark = tmp_path / "executed"
    for kind in ("eval", "exec", "os.system", "stack global", "in the middle of a batch"):
        content = hostile(mark)[kind]
        pickle.loads(content, encoding="bytes")
        assert mark.exists(), kind
        mark.unlink()


def test_the_message_names_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(Call(os.system, "true")))
    with pytest.raises(
        DataError, match=r"asks for '(posix|nt)\.system', which no CIFAR file needs.*Nothing was run"
    ):
        read_pickle(tmp_path / "test_batch")


def test_a_pickle_spoils_nothing_for_the_next(cifar10: Path, tmp_path: Path) -> None:
    spoiling = b"\x80\x04c_codecs\nencode\nN}(\x8c\x0c__defaults__\x8c\x01a\x85u\x86b0}."
    (tmp_path / "spoiling").write_bytes(spoiling)
    assert read_pickle(tmp_path / "spoiling") == {}
    assert len(read_batch(cifar10 / "test_batch").pixels) == 6


GOOD = cifar10_batch(PIXELS[:6], LABELS[:6])
MALFORMED = {
    "empty": (b"", "is no whole pickle"),
    "html": (b"<!DOCTYPE html><html>404</html>", "is no whole pickle"),
    "zeros": (bytes(5000), "is no whole pickle"),
    "noise": (np.random.default_rng(0).bytes(5000), "is no whole pickle"),
    "cut at the start": (GOOD[:1], "is no whole pickle"),
    "cut in the labels": (GOOD[:60], "is no whole pickle"),
    "cut in the pixels": (GOOD[: len(GOOD) // 2], "is no whole pickle"),
    "without its end": (GOOD[:-1], "is no whole pickle"),
    "a list": (b"\x80\x02" + py2_list([1, 2]) + b".", "holds no mapping"),
    "a number": (pickle.dumps(5), "holds no mapping"),
    "no data": (py2_pickle({b"labels": py2_list([1])}), "holds no array 'data'"),
    "data of text": (py2_pickle({b"data": py2_string(b"x")}), "holds no array 'data'"),
    "pixels too few": (cifar10_batch(PIXELS[:6, :, :31], LABELS[:6]), "holds no array 'data' of N x 3072"),
    "floats": (pickle.dumps({"data": np.zeros((6, 3072), np.float32), "labels": LABELS[:6]}), "holds no array"),
    "objects": (pickle.dumps({"data": np.array([{}], object), "labels": [1]}), "holds no array"),
    "shape that lies": (GOOD.replace(b"J\x06\0\0\0J\x00\x0c\0\0", b"J\x07\0\0\0J\x00\x0c\0\0"), "holds no array"),
    "negative shape": (GOOD.replace(b"J\x06\0\0\0J\x00\x0c", b"J" + struct.pack("<i", -6) + b"J\x00\x0c"), "holds no"),
    "no labels": (py2_pickle({b"data": py2_array(flatten(PIXELS[:6]))}), "holds neither 'labels' nor"),
    "labels of text": (cifar10_batch(PIXELS[:6], [b"a"] * 6), "holds 'labels' that are no list of small whole"),
    "fewer labels": (cifar10_batch(PIXELS[:6], LABELS[:5]), "holds 6 images and 5 labels"),
    "a huge label": (pickle.dumps({"data": flatten(PIXELS[:1]), "labels": [10**5000]}, 2), "no list of small whole"),
    "cifar-100's keys": (py2_pickle({b"data": py2_array(flatten(PIXELS[:1])), b"fine_labels": py2_list([1])}), "no 'labels'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_batch_is_named(cifar10: Path, kind: str) -> None:
    content, words = MALFORMED[kind]
    (cifar10 / "data_batch_4").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        build(cifar10)
    assert "data_batch_4" in str(caught.value)


@pytest.mark.parametrize("cut", [0, 1, 3072, 3074, 3 * 3073 - 1])
def test_a_malformed_binary_batch_is_named(tmp_path: Path, cut: int) -> None:
    write_binary(tmp_path / "bin", ["data_batch_1.bin"], lambda row: bytes([LABELS[row]]))
    whole = (tmp_path / "bin/data_batch_1.bin").read_bytes()
    (tmp_path / "bin/data_batch_1.bin").write_bytes(whole[:cut])
    with pytest.raises(
        DataError, match=rf"data_batch_1.bin.*has {cut:,} bytes, which is no whole number of records"
    ):
        build(tmp_path)


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (py2_pickle({b"other": py2_list([b"a"])}), "holds no list of names 'label_names'"),
        (py2_pickle({b"label_names": py2_list([1, 2])}), "holds no list of names"),
        (py2_pickle({b"label_names": py2_list([b"\xff\xfe", b"b", b"c"])}), "that are no UTF-8 text"),
        (
            py2_pickle({b"label_names": py2_list([b"a", b"a", b"c"])}),
            "'a' is the name of class 0 and of class 1",
        ),
    ],
)
def test_a_malformed_meta_file_is_named(cifar10: Path, meta: bytes, words: str) -> None:
    (cifar10 / "batches.meta").write_bytes(meta)
    with pytest.raises(DataError, match=words) as caught:
        build(cifar10)
    assert "batches.meta" in str(caught.value)


def test_a_pickle_too_large_is_refused(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from praxiscope.data.containers import cifar

    monkeypatch.setattr(cifar, "MAX_PICKLE_BYTES", 1000)
    with pytest.raises(DataError, match="too many for a CIFAR batch"):
        build(cifar10)
