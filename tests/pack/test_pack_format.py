"""What is in a pack, when it is made, and what is done about damage."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import PIL
import pytest
from packed_data import draw, read_folder
from PIL import Image

from praxiscope.data import cache_folders, pack_writer
from praxiscope.data.cache_folders import hold, list_entries
from praxiscope.data.images import read_image
from praxiscope.data.pack import (
    PackLog,
    count_reduced,
    describe_training_loss,
    list_hashes,
    open_pack,
    refuse_enlarging,
)
from praxiscope.data.pack_reader import close_packs, read_pack
from praxiscope.data.pack_writer import compute_packed_size
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError

SIDE = 64


def read_pixels(manifest, side=SIDE, **more):
    """Return {path: packed pixels}, copied out of the pack, and what was said."""
    log = PackLog()
    with open_pack(manifest, side, log=log, **more) as pack:
        rows = pack.select(list_hashes(manifest))
        paths = manifest.usable(None)["path"].to_pylist()
        return {path: rows.read(row).copy() for row, path in enumerate(paths)}, log


def folder_of(manifest, side=SIDE):
    with open_pack(manifest, side) as pack:
        return pack.folder


def test_packed_sizes_keep_scale_and_parity():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        width, height, side = (int(each) for each in rng.integers(16, 900, 3))
        new = compute_packed_size(width, height, side)
        if min(width, height) <= side:
            assert new == (width, height)
            continue
        assert min(new) == side
        exact = max(width, height) * side / min(width, height)
        assert exact - 2 < max(new) <= exact
        assert (max(new) - side) % 2 == 0
        assert (new[0] < new[1]) == (width < height) or new[0] == new[1]


def test_what_is_small_enough_is_packed_as_it_is_read(mixed, cache):
    manifest = read_folder(mixed)
    pixels, log = read_pixels(manifest, 1000)
    assert log.made
    assert len(pixels) == 10
    for path, packed in pixels.items():
        np.testing.assert_array_equal(packed, read_image(mixed / path), err_msg=path)


def test_what_is_larger_is_reduced_by_pillows_filter(mixed, cache):
    manifest = read_folder(mixed)
    pixels, _ = read_pixels(manifest)
    assert pixels["train/run/small.jpg"].shape == (55, 40, 3)
    for path, packed in pixels.items():
        whole = Image.fromarray(read_image(mixed / path, target_size=SIDE))
        if min(whole.size) <= SIDE:
            continue
        assert min(packed.shape[:2]) == SIDE
        scale = min(whole.size) / SIDE
        width, height = packed.shape[1] * scale, packed.shape[0] * scale
        left, top = max(whole.width - width, 0) / 2, max(whole.height - height, 0) / 2
        box = (left, top, min(left + width, whole.width), min(top + height, whole.height))
        size = (packed.shape[1], packed.shape[0])
        expected = whole.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
        np.testing.assert_array_equal(packed, np.asarray(expected), err_msg=path)


def test_modes_and_orientation_are_those_of_the_reader(mixed, cache):
    pixels, _ = read_pixels(read_folder(mixed), 1000)
    assert pixels["train/walk/turned.jpg"].shape == (120, 80, 3)  # stored as 120 x 80, lying on its side
    grey = pixels["train/walk/grey.jpg"]
    assert (grey[..., 0] == grey[..., 1]).all()
    deep = np.asarray(draw(7, (90, 130)).convert("L"))
    np.testing.assert_array_equal(pixels["test/run/deep.png"][..., 0], deep)


def test_equal_content_is_packed_once(mixed, cache):
    with open_pack(read_folder(mixed), SIDE) as pack:
        assert len(pack.index) == 9
        assert pack.header["num_images"] == 9
        assert pack.num_bytes == (pack.folder / "images.bin").stat().st_size


def test_a_pack_is_found_again_whatever_splits_and_labels(mixed, cache):
    folder = folder_of(read_folder(mixed))
    (mixed / "test").rename(mixed / "val")
    (mixed / "val/walk").rename(mixed / "val/run2")
    manifest = read_folder(mixed)
    _, log = read_pixels(manifest)
    assert not log.made
    assert folder_of(manifest) == folder
    assert len(list_entries("packs")) == 1


def test_fewer_images_use_the_larger_pack(mixed, cache):
    folder = folder_of(read_folder(mixed))
    (mixed / "train/run/large.jpg").unlink()
    assert folder_of(read_folder(mixed)) == folder


def test_further_images_make_a_new_pack_that_takes_over_the_old_ones(mixed, cache, monkeypatch):
    before, _ = read_pixels(read_folder(mixed))
    draw(20, (111, 99)).save(mixed / "train/run/new.jpg", quality=92)
    packed = []
    pack_image = pack_writer.pack_image
    monkeypatch.setattr(
        pack_writer, "pack_image", lambda *a, **k: packed.append(a[1].path) or pack_image(*a, **k)
    )
    after, log = read_pixels(read_folder(mixed))
    assert packed == ["train/run/new.jpg"]
    assert log.num_taken_over == 9
    for path, pixels in before.items():
        np.testing.assert_array_equal(after[path], pixels)
    assert len(list_entries("packs")) == 2


def test_images_of_another_pillow_are_not_taken_over(mixed, cache, monkeypatch):
    folder_of(read_folder(mixed))
    draw(20, (111, 99)).save(mixed / "train/run/new.jpg", quality=92)
    monkeypatch.setattr(PIL, "__version__", "99.0")
    _, log = read_pixels(read_folder(mixed))
    assert log.made
    assert log.num_taken_over == 0


def test_the_fingerprint_is_of_the_pixels_not_of_the_pack(mixed, cache):
    manifest = read_folder(mixed)
    hashes = list_hashes(manifest)
    with open_pack(manifest, SIDE) as pack:
        first, header = pack.compute_fingerprint(hashes), pack.header_sha256
        assert pack.compute_fingerprint(hashes[::-1]) == first
        assert pack.compute_fingerprint(hashes[1:]) != first
    shutil.rmtree(cache)
    with open_pack(manifest, SIDE) as pack:
        assert pack.compute_fingerprint(hashes) == first
        assert pack.header_sha256 != header
    with open_pack(manifest, SIDE - 2) as pack:
        assert pack.compute_fingerprint(hashes) != first


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(bytes(content))


DAMAGES = {
    "a pixel": (lambda f: flip(f / "images.bin", 1000), "pixels of 1 image are not"),
    "the last pixel": (lambda f: flip(f / "images.bin", -1), "pixels of 1 image are not"),
    "truncated": (lambda f: os.truncate(f / "images.bin", 1000), "holds 1,000 bytes instead of"),
    "no pixels": (lambda f: (f / "images.bin").unlink(), "is no intact pack"),
    "the index": (lambda f: flip(f / "index.npy", -20), "not what the header says"),
    "no index": (lambda f: (f / "index.npy").unlink(), "is no intact pack"),
    "the header": (lambda f: (f / "header.json").write_text("{"), "no valid JSON"),
    "no header": (lambda f: (f / "header.json").unlink(), "is no intact pack"),
    "another header": (lambda f: (f / "header.json").write_text("{}"), "is no header of praxiscope's packs"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pack_is_made_again_and_said(damage, mixed, cache):
    manifest = read_folder(mixed)
    before, _ = read_pixels(manifest)
    change, words = DAMAGES[damage]
    change(folder_of(manifest))
    after, log = read_pixels(manifest)
    assert log.made
    assert any(words in note for note in log.notes), log.notes
    for path, pixels in before.items():
        np.testing.assert_array_equal(after[path], pixels)
    assert not read_pixels(manifest)[1].notes


def test_only_the_splits_that_are_read_are_checked(mixed, cache):
    manifest = read_folder(mixed)
    folder = folder_of(manifest)
    with open_pack(manifest, SIDE) as pack:
        test = pack.select(list_hashes(manifest, "test"))
        offset = int(pack.index["offset"][test.places[0]])
    flip(folder / "images.bin", offset)
    log = PackLog()
    with open_pack(manifest, SIDE, splits=("train",), log=log):
        assert not log.made
    with open_pack(manifest, SIDE, splits=("test",), log=log):
        assert log.made


def test_a_damaged_image_is_not_taken_over(mixed, cache):
    manifest = read_folder(mixed)
    before, _ = read_pixels(manifest)
    flip(folder_of(manifest) / "images.bin", 500)
    draw(20, (111, 99)).save(mixed / "train/run/new.jpg", quality=92)
    after, log = read_pixels(read_folder(mixed))
    assert log.num_taken_over == 8
    for path, pixels in before.items():
        np.testing.assert_array_equal(after[path], pixels)


def test_another_version_is_not_read(mixed, cache):
    folder = folder_of(read_folder(mixed))
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps({**header, "version": 0}))
    with pytest.raises(IntegrityError, match="is a pack of version 0; this is 1"):
        read_pack(folder)


def test_a_pack_that_was_replaced_is_not_mixed_with_the_old_one(mixed, cache):
    manifest = read_folder(mixed)
    with open_pack(manifest, SIDE) as pack:
        rows = pack.select(list_hashes(manifest))
    shutil.rmtree(cache)
    with open_pack(manifest, SIDE):
        close_packs()
        with pytest.raises(IntegrityError, match="was replaced by another pack while it was in use"):
            rows.read(0)
    with pytest.raises(KeyError, match="holds no image with sha256 0000"):
        pack.select(["0" * 64])


def test_a_damaged_pack_that_is_being_read_is_left_alone(mixed, cache):
    manifest = read_folder(mixed)
    folder = folder_of(manifest)
    os.truncate(folder / "images.bin", 10)
    with hold(folder), pytest.raises(EnvironmentProblem, match="another process reads it now"):
        read_pixels(manifest)
    assert read_pixels(manifest)[1].made


def test_a_file_that_changed_since_the_check_is_refused(mixed, cache):
    manifest = read_folder(mixed)
    draw(99, (150, 90)).save(mixed / "train/run/large.jpg")
    with pytest.raises(DataError, match=r"large\.jpg' was sound .* and can't be packed now: its content"):
        read_pixels(manifest)
    (mixed / "train/run/large.jpg").unlink()
    with pytest.raises(DataError, match=r"large\.jpg' was sound .* can't be packed now"):
        read_pixels(manifest)
    assert not list_entries("packs")
    assert not list((cache / "packs").glob("*.tmp"))


def test_a_full_disk_is_said_before_anything_is_written(mixed, cache, monkeypatch):
    manifest = read_folder(mixed)
    monkeypatch.setattr(pack_writer.shutil, "disk_usage", lambda _path: SimpleNamespace(free=4096))
    with pytest.raises(
        EnvironmentProblem, match=r"needs 0\.1 MiB in .*packs, and 0\.0 MiB are free"
    ) as caught:
        read_pixels(manifest)
    assert "cache trim" in str(caught.value)
    assert not list((cache / "packs").glob("*/images.bin"))


def test_a_disk_that_fills_up_leaves_nothing_behind(mixed, cache, monkeypatch):
    def fail(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack_writer, "_append", fail)
    with pytest.raises(EnvironmentProblem, match="MiB are free"):
        read_pixels(read_folder(mixed))
    assert [p.name for p in (cache / "packs").iterdir() if not p.name.startswith(".")] == []
    assert not list((cache / "packs").glob("*.tmp"))


def test_nothing_is_written_to_the_users_data(mixed, monkeypatch):
    monkeypatch.setenv("PRAXISCOPE_CACHE", str(mixed / "cache"))
    manifest = read_folder(mixed)
    shutil.rmtree(mixed / "cache")
    with pytest.raises(UsageError, match="which lies in the data folder"):
        read_pixels(manifest)
    assert not (mixed / "cache").exists()


def test_evaluation_that_would_enlarge_what_was_reduced_is_refused(mixed, cache):
    manifest = read_folder(mixed)
    assert count_reduced(manifest, SIDE) == 7
    refuse_enlarging(manifest, 64, 64)
    refuse_enlarging(manifest, 500, 600)  # every image is there as it is
    with pytest.raises(UsageError, match=r"data\.pack is 64, .* to 73 px: 7 images .* Set data\.pack to 73"):
        refuse_enlarging(manifest, 64, 73)


def test_training_crops_that_lose_detail_are_named(mixed, cache):
    manifest = read_folder(mixed)
    assert describe_training_loss(manifest, 100, 100) is None
    assert describe_training_loss(manifest, 500, 900) is None
    text = describe_training_loss(manifest, 64, 90)
    assert text is not None
    assert "7 images are cut from a short side of 64 px instead of up to 90 px" in text
    assert "data.pack=500 loses nothing" in str(describe_training_loss(manifest, 64, 900))


CHILD = """
import sys, time
from praxiscope.data import pack, pack_writer
from praxiscope.data.build import build_manifest
from praxiscope.recipe.schema import DataSection
manifest = build_manifest(sys.argv[1], DataSection(val_fraction=0.0), seed=0)
slow = pack_writer._append
def append(*args):
    print("packing", flush=True)
    time.sleep(float(sys.argv[2]))
    return slow(*args)
pack_writer._append = append
log = pack.PackLog()
with pack.open_pack(manifest, 64, log=log) as opened:
    print(log.made, opened.compute_fingerprint(pack.list_hashes(manifest)), flush=True)
"""


def start_child(root, pause):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(pause)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX's")
def test_a_kill_while_packing_leaves_nothing_that_could_be_taken_for_a_pack(mixed, cache):
    child = start_child(mixed, 0.05)
    for _ in range(4):
        assert child.stdout.readline() == "packing\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert list((cache / "packs").glob(".*.tmp"))
    assert list_entries("packs") == ()
    _, log = read_pixels(read_folder(mixed))
    assert log.made
    assert not log.notes
    assert not list((cache / "packs").glob(".*.tmp"))


def test_two_processes_that_want_the_same_pack_make_it_once(mixed, cache):
    children = [start_child(mixed, 0.02) for _ in range(2)]
    results = [child.communicate(timeout=60)[0].splitlines()[-1].split() for child in children]
    assert sorted(made for made, _ in results) == ["False", "True"]
    assert results[0][1] == results[1][1]
    assert len(list_entries("packs")) == 1


def test_opening_touches(mixed, cache):
    manifest = read_folder(mixed)
    folder = folder_of(manifest)
    os.utime(folder / "last_used", (1, 1))
    read_pixels(manifest)
    assert time.time() - (folder / "last_used").stat().st_mtime < 60


def test_a_pack_in_a_cache_that_cant_be_written_to_is_read(mixed, cache, monkeypatch):
    manifest = read_folder(mixed)
    folder_of(manifest)

    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cache_folders.filelock.FileLock, "acquire", refuse)
    _, log = read_pixels(manifest)
    assert not log.made
    with pytest.raises(EnvironmentProblem, match="Nothing can be removed from"):
        cache_folders.remove(list_entries("packs")[0])


def test_a_lock_that_nobody_lets_go_of_is_named(mixed, cache, monkeypatch):
    folder = folder_of(read_folder(mixed))
    monkeypatch.setattr(cache_folders, "_GATE_S", 0.05)
    with (
        cache_folders.filelock.FileLock(folder.parent / ".lock"),
        pytest.raises(EnvironmentProblem, match="has been locked for"),
        hold(folder),
    ):
        pass
