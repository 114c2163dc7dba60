"""E3: archives of unknown origin."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hostile_archives import HOSTILE, write_tar, write_zip

from praxiscope.data import archives
from praxiscope.data.archives import ArchiveLimits, unpack_archive
from praxiscope.data.member_names import check_member_name
from praxiscope.errors import DataError, EnvironmentProblem, UsageError

FILES = {"train/run/a.png": b"a" * 3000, "train/r\u00fan/b.png": bytes(range(256)) * 9, "empty.csv": b""}


def write_good(path: Path, kind: str) -> Path:
    if kind == "zip":
        write_zip(path, *FILES.items())
    else:
        write_tar(path, *FILES.items(), mode=f"w:{kind}".rstrip(":"))
    return path


def list_all(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_unpacks_what_was_packed_whatever_the_name(kind, tmp_path):
    target = unpack_archive(write_good(tmp_path / "download.bin", kind), tmp_path / "new" / "data")
    unpacked = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert unpacked == FILES
    assert list_all(tmp_path / "new") == {"data"} | {f"data/{name}" for name in list_all(target)}


def test_leading_dot_and_explicit_folders_and_modes(tmp_path):
    info = tarfile.TarInfo("./train/a.sh")
    info.mode, info.size = 0o6777, 1
    folder = tarfile.TarInfo("./train/")
    folder.type = tarfile.DIRTYPE
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        root = tarfile.TarInfo("./")
        root.type = tarfile.DIRTYPE
        tar.addfile(root)
        tar.addfile(folder)
        tar.addfile(info, io.BytesIO(b"x"))
    target = unpack_archive(tmp_path / "a.tar", tmp_path / "out")
    assert (target / "train" / "a.sh").read_bytes() == b"x"
    assert not (target / "train" / "a.sh").stat().st_mode & 0o6111


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_archive_is_refused_by_name_and_writes_nothing(name, tmp_path):
    make, message = HOSTILE[name]
    area = tmp_path / "one" / "two" / "three"
    area.mkdir(parents=True)
    make(area / "archive")
    before = list_all(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        unpack_archive(area / "archive", area / "target")
    assert "Nothing of it was kept" in str(caught.value)
    assert list_all(tmp_path) == before
    assert not Path("/tmp/escaped.png").exists()


def test_there_are_many_hostile_archives():
    assert len(HOSTILE) >= 25


@pytest.mark.parametrize("kind", ["zip", "", "gz", "bz2", "xz"])
def test_each_truncation_is_named(kind, tmp_path):
    whole = write_good(tmp_path / "whole", kind).read_bytes()
    for cut in sorted({*range(300, len(whole), max(1, len(whole) // 25)), len(whole) - 1}):
        if kind == "" and not any(whole[cut:]) and cut % 512 == 0 and not any(whole[cut - 512 : cut]):
            continue  # an end mark still stands
        (tmp_path / "cut").write_bytes(whole[:cut])
        if kind == "" and not any(whole[cut:]):
            continue  # only padding is gone
        with pytest.raises(DataError, match=r"damaged or incomplete|neither a zip nor a tar"):
            unpack_archive(tmp_path / "cut", tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("times", [15, pytest.param(1000, marks=pytest.mark.soak)])
def test_a_changed_byte_is_found_or_harmless_and_never_crashes(times, tmp_path):
    rng = random.Random(1)
    for kind in ("zip", "", "gz", "bz2", "xz"):
        whole = write_good(tmp_path / "whole", kind).read_bytes()
        for _ in range(times):
            changed = bytearray(whole)
            for _ in range(rng.choice([1, 1, 4])):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            area = tmp_path / "area"
            area.mkdir()
            (area / "archive").write_bytes(changed)
            try:
                unpack_archive(area / "archive", area / "out")
            except (DataError, EnvironmentProblem):
                assert list_all(area) == {"archive"}
            shutil.rmtree(area)


def test_a_zip_that_points_before_its_start_is_damaged(tmp_path):
    """Its directory is said to stand further on than it does: so the first member lies before byte 0."""
    content = bytearray(write_good(tmp_path / "good.zip", "zip").read_bytes())
    end = content.rindex(b"PK\5\6")
    said = int.from_bytes(content[end + 16 : end + 20], "little")
    content[end + 16 : end + 20] = (said + 2**20).to_bytes(4, "little")
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(DataError, match="damaged or incomplete"):
        unpack_archive(tmp_path / "bad.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path):
    write_good(tmp_path / "a.tar", "")
    content = bytearray((tmp_path / "a.tar").read_bytes())
    second = content.index(b"empty.csv")
    content[second : second + 5] = b"dummy"
    (tmp_path / "a.tar").write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged or incomplete"):
        unpack_archive(tmp_path / "a.tar", tmp_path / "out")


def test_checksum_behind_the_last_member_is_verified(tmp_path):
    content = bytearray(write_good(tmp_path / "a.tar.gz", "gz").read_bytes())
    content[-5] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged or incomplete"):
        unpack_archive(tmp_path / "a.tar.gz", tmp_path / "out")


def test_a_packed_file_that_is_no_tar(tmp_path):
    (tmp_path / "images.gz").write_bytes(gzip.compress(b"idx" * 500))
    with pytest.raises(DataError, match="damaged or incomplete"):
        unpack_archive(tmp_path / "images.gz", tmp_path / "out")
    (tmp_path / "page.zip").write_text("<html>please log in</html>")
    with pytest.raises(DataError, match=r"neither a zip nor a tar file .* Nothing of it was kept"):
        unpack_archive(tmp_path / "page.zip", tmp_path / "out")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (ArchiveLimits(total_bytes=4000), "more than 4,000 bytes"),
        (ArchiveLimits(file_bytes=2500), "is larger than 2,500 bytes"),
        (ArchiveLimits(count=2), "more than 2 members"),
    ],
)
def test_limits(limits, message, tmp_path):
    with pytest.raises(DataError, match=message):
        unpack_archive(write_good(tmp_path / "a", "zip"), tmp_path / "out", limits=limits)


def test_the_target_must_be_new_or_empty(tmp_path):
    archive = write_good(tmp_path / "a.zip", "zip")
    (tmp_path / "empty").mkdir()
    assert unpack_archive(archive, tmp_path / "empty") == tmp_path / "empty"
    with pytest.raises(UsageError, match="exists and is no empty folder"):
        unpack_archive(archive, tmp_path / "empty")
    with pytest.raises(UsageError, match="exists and is no empty folder"):
        unpack_archive(archive, archive)
    with pytest.raises(UsageError, match="There is no archive"):
        unpack_archive(tmp_path / "no.zip", tmp_path / "out")


def test_a_full_disk_is_named_before_and_while(tmp_path, monkeypatch):
    archive = write_good(tmp_path / "a.zip", "zip")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _path: SimpleNamespace(free=5000))
    with pytest.raises(EnvironmentProblem, match="needs 0 MiB to be unpacked, and 0 MiB are free"):
        unpack_archive(archive, tmp_path / "out")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _path: SimpleNamespace(free=1 << 40))

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives._Writer, "write", full)
    with pytest.raises(EnvironmentProblem, match="The disk is full"):
        unpack_archive(archive, tmp_path / "out")
    assert list_all(tmp_path) == {"a.zip"}


def test_an_interruption_leaves_nothing_half(tmp_path):
    archive = write_good(tmp_path / "a.zip", "zip")

    def interrupt(_text: str, done: int, total: int) -> None:
        assert 0 < done <= total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack_archive(archive, tmp_path / "out", progress=interrupt)
    assert list_all(tmp_path) == {"a.zip"}


def test_what_a_kill_left_long_ago_is_swept(tmp_path):
    import os

    archive = write_good(tmp_path / "a.zip", "zip")
    for name, age in (("old", 7200), ("new", 60)):
        left = tmp_path / f".out.{name}.unpacking"
        left.mkdir()
        (left / "half.png").write_bytes(b"x")
        then = left.stat().st_mtime - age
        os.utime(left, (then, then))
    unpack_archive(archive, tmp_path / "out")
    assert {path.name for path in tmp_path.glob(".out*")} == {".out.new.unpacking"}


def test_many_unpack_at_once(tmp_path):
    archive = write_good(tmp_path / "a.tar", "")
    threads = [
        threading.Thread(target=unpack_archive, args=(archive, tmp_path / f"out{n}")) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / f"out{n}" / "empty.csv").exists() for n in range(4))


@pytest.mark.parametrize("name", ["a\udcff.png", "", "./", "con", "LPT1.txt", "com\u00b9.a", "a ", "a/.. /b"])
def test_names_that_are_refused(name):
    with pytest.raises(ValueError, match=r"name|device|dot or space"):
        check_member_name(name)


def test_names_that_are_fine():
    for name in ("console.png", "a..b/c", "...a", "com10", "\u8d70\u308b/1.jpg", "what? *.png", ".hidden"):
        assert str(check_member_name(name)) == name
    assert str(check_member_name("./a//b/./c/")) == "a/b/c"
