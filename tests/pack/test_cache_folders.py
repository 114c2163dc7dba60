"""Entries of the cache: listed, trimmed and cleared, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from praxiscope.cli.main import main
from praxiscope.data.cache_folders import (
    building,
    building_lock,
    hold,
    is_in_use,
    kind_folder,
    list_entries,
    read_header,
    remove,
    touch,
    trim,
    write_header,
)
from praxiscope.errors import EnvironmentProblem, IntegrityError, UsageError
from praxiscope.workflows.cache import clear_cache, list_cache, trim_cache

DAY = 86400


def make_entry(kind, name, *, size=1000, days=0.0):
    path = kind_folder(kind) / name
    with building_lock(path), building(path) as aside:
        (aside / "content.bin").write_bytes(bytes(size))
        write_header(aside, kind, {"version": 1})
    touch(path)
    os.utime(path / "last_used", (time.time() - days * DAY,) * 2)
    return path


def names(entries):
    return [entry.path.name for entry in entries]


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["cache", *arguments])
    return ended.value.code


def test_entries_are_listed_the_longest_unused_first(cache):
    assert list_entries() == ()
    make_entry("packs", "new", days=1)
    make_entry("features", "old", days=9)
    make_entry("packs", "older", days=20)
    assert names(list_entries()) == ["older", "old", "new"]
    assert names(list_entries("packs")) == ["older", "new"]
    entry = list_entries("features")[0]
    assert 1000 < entry.size_bytes < 1200
    assert entry.header == {"format": "praxiscope.features", "version": 1}


def test_an_entry_is_absent_until_it_is_whole(cache):
    path = kind_folder("packs") / "entry"

    def build_and_stop():
        with building_lock(path), building(path) as aside:
            write_header(aside, "packs", {})
            assert list_entries() == ()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build_and_stop()
    assert list_entries() == ()
    assert not path.exists()
    assert not list(path.parent.glob("*.tmp"))


def test_a_new_entry_takes_the_old_ones_place(cache):
    make_entry("packs", "entry", size=10)
    make_entry("packs", "entry", size=20)
    assert [each.path.joinpath("content.bin").stat().st_size for each in list_entries()] == [20]
    path = list_entries()[0].path
    with (
        hold(path),
        pytest.raises(EnvironmentProblem, match="has to be made again and another process reads"),
    ):
        make_entry("packs", "entry")


def test_foreign_folders_and_links_are_never_entries(cache, tmp_path):
    packs = make_entry("packs", "ours").parent
    (packs / "holiday").mkdir()
    (packs / "holiday" / "photo.jpg").write_bytes(b"x")
    (packs / "damaged").mkdir()
    (packs / "damaged" / "header.json").write_text("{")
    outside = tmp_path / "outside"
    make_entry("packs", "moved").rename(outside)
    (packs / "link").symlink_to(outside, target_is_directory=True)
    assert names(list_entries()) == ["ours"]
    assert names([*clear_cache()]) == ["ours"]
    assert (packs / "holiday" / "photo.jpg").exists()
    assert (outside / "content.bin").exists()
    with pytest.raises(IntegrityError, match="no valid JSON"):
        read_header(packs / "damaged", "packs")
    with pytest.raises(IntegrityError, match="is no header of praxiscope's features"):
        read_header(outside, "features")


def test_a_linked_kind_folder_is_not_followed_out_of_the_cache(cache, tmp_path):
    make_entry("packs", "entry")
    outside = tmp_path / "elsewhere"
    (cache / "packs").rename(outside)
    (cache / "packs").symlink_to(outside, target_is_directory=True)
    assert names(list_entries()) == ["entry"]
    for action in (clear_cache, lambda: trim_cache(0)):
        with pytest.raises(EnvironmentProblem, match="a symbolic link leads out of the cache folder"):
            action()
    assert (outside / "entry" / "content.bin").exists()


def test_a_link_inside_an_entry_is_removed_and_not_followed(cache, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    entry = make_entry("packs", "entry")
    (entry / "link").symlink_to(tmp_path / "mine", target_is_directory=True)
    assert remove(list_entries()[0])
    assert not entry.exists()
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_what_is_in_use_stays(cache):
    path = make_entry("packs", "used", days=50)
    make_entry("packs", "unused", days=1)
    with hold(path):
        assert is_in_use(path)
        assert names(trim("packs", 0)) == ["unused"]
        assert clear_cache() == ()
    assert not is_in_use(path)
    assert names(clear_cache()) == ["used"]


def test_what_is_being_built_stays(cache):
    path = make_entry("packs", "entry")
    with building_lock(path), building(path) as aside:
        assert is_in_use(path)
        assert clear_cache("packs") == ()
        assert aside.is_dir()
        write_header(aside, "packs", {"version": 2})
    assert read_header(path, "packs")["version"] == 2


HOLDER = """
import sys, time
from pathlib import Path
from praxiscope.data.cache_folders import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_reader_holds_nothing(cache):
    path = make_entry("features", "entry")
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    assert clear_cache() == ()
    child.kill()
    child.wait()
    child.stdout.close()
    assert names(clear_cache("features")) == ["entry"]
    assert not list((cache / "features").glob("*.use"))


def test_looking_takes_no_mark_away(cache):
    """It may just be about to be locked; only what removes entries does so, behind the gate."""
    path = make_entry("packs", "entry")
    mark = path.parent / ".entry.0123456789ab.use"
    mark.touch()
    assert not list_cache()[0].in_use
    assert mark.exists()
    assert names(clear_cache()) == ["entry"]
    assert not mark.exists()


def test_trim_removes_the_longest_unused_until_the_rest_fits(cache):
    for days, name in enumerate("abcd"):
        make_entry("packs" if days % 2 else "features", name, size=2**20, days=days)
    assert names(trim(None, 5 * 2**20)) == []
    assert names(trim_cache(2.5 / 1024)) == ["d", "c"]
    assert names(trim("packs", 0)) == ["b"]
    assert names(list_entries()) == ["a"]
    with pytest.raises(UsageError, match="--max-gib -1: give 0 or more GiB"):
        trim_cache(-1)


def test_clear_takes_what_is_named_and_old_enough(cache):
    make_entry("packs", "new")
    make_entry("packs", "old", days=40)
    make_entry("features", "ancient", days=400)
    (cache / "audit-v1.sqlite").write_bytes(b"x")
    assert names(clear_cache("packs", older_than_days=30)) == ["old"]
    assert names(clear_cache("audit", older_than_days=1)) == []
    assert names(clear_cache("audit")) == ["audit-v1.sqlite"]
    assert names(list_cache()) == ["ancient", "new"]
    with pytest.raises(
        UsageError, match="'models' is nothing that the cache holds; choose packs, features, audit"
    ):
        clear_cache("models")


def test_leftovers_of_killed_builders_are_swept(cache):
    make_entry("packs", "entry")
    left = cache / "packs" / ".gone.0123456789ab.tmp"
    left.mkdir()
    (left / "images.bin").write_bytes(b"x")
    trim_cache(1)
    assert not left.exists()
    assert names(list_entries()) == ["entry"]


def test_the_command_lists_clears_and_trims(cache, capsys):
    assert run() == 0
    assert capsys.readouterr().out == f"{cache}: nothing is cached\n"
    path = make_entry("packs", "entry", size=2**20, days=3)
    used = make_entry("features", "other")
    with hold(used):
        assert run("list") == 0
        lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{cache}: 1.0 MiB")
    assert lines[1].split() == ["packs", "1.0", "MiB", "3", "days", "ago", str(path)]
    assert lines[2].startswith("features ")
    assert "in use" in lines[2]
    assert run("trim", "--max-gib", "0.5") == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert run("clear", "packs", "--older-than", "2") == 0
    assert capsys.readouterr().out == f"removed: {path} (1.0 MiB)\n1.0 MiB freed\n"
    assert run("clear", "nonsense") == 2
