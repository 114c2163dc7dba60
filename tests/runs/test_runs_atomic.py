import errno
import json
import os
import time

import pytest

from praxiscope.errors import EnvironmentProblem, IntegrityError
from praxiscope.runs import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "run.json"
    atomic.write_json(path, {"name": "första", "value": 1})
    atomic.write_json(path, {"name": "andra", "value": None})
    assert atomic.read_json(path) == {"name": "andra", "value": None}
    assert names(tmp_path) == ["run.json"]


def test_text_keeps_its_line_ends(tmp_path):
    atomic.write_text(tmp_path / "a.txt", "one\r\ntwo\n")
    assert (tmp_path / "a.txt").read_bytes() == b"one\r\ntwo\n"


def test_a_writer_that_fails_leaves_the_old_content(tmp_path):
    path = tmp_path / "table"
    path.write_text("old", encoding="utf-8")

    def fail_half_way():
        with atomic.replacing(path) as aside:
            aside.write_text("ne", encoding="utf-8")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["table"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_others_may_read_what_the_umask_lets_them(tmp_path):
    old = os.umask(0o022)
    try:
        atomic.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_path_and_free_space_and_keeps_the_old_file(tmp_path, monkeypatch, number):
    path = tmp_path / "run.json"
    atomic.write_json(path, {"a": 1})

    def full(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match=r"run\.json.*free: .*iB.*--resume") as caught:
        atomic.write_json(path, {"a": 2})
    assert caught.value.exit_code == 3
    assert atomic.read_json(path) == {"a": 1}
    assert names(tmp_path) == ["run.json"]


def test_another_failure_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic.write_text(tmp_path / "absent" / "a.txt", "x")


def test_a_number_json_lacks_is_refused_by_place(tmp_path):
    with pytest.raises(ValueError, match=r"value\['val'\]\[1\] is nan.*None"):
        atomic.write_json(tmp_path / "a.json", {"val": [1.0, float("nan")]})
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[1]", b"\xff\xfe", b"\x00" * 20])
def test_a_damaged_json_file_is_named(tmp_path, content):
    path = tmp_path / "status.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"status\.json is damaged"):
        atomic.read_json(path)


def test_the_sweep_takes_old_temporaries_only(tmp_path):
    old, young = atomic.temporary_name(tmp_path / "a"), atomic.temporary_name(tmp_path / "a")
    old.mkdir()
    (old / "part").write_text("x", encoding="utf-8")
    young.write_text("x", encoding="utf-8")
    (tmp_path / "user.tmp").write_text("mine", encoding="utf-8")
    before = time.time() - 7200
    os.utime(old, (before, before))
    assert atomic.sweep_stale(tmp_path) == [old.name]
    assert names(tmp_path) == sorted([young.name, "user.tmp"])
    assert atomic.sweep_stale(tmp_path, older_than_s=0) == [young.name]
    assert atomic.sweep_stale(tmp_path / "absent") == []


def test_space_is_compared_with_what_is_free(tmp_path):
    atomic.require_free_space(tmp_path, 1)
    with pytest.raises(EnvironmentProblem, match=r"needed: 1024\.0 TiB.*free"):
        atomic.require_free_space(tmp_path, 2**50)


def test_written_json_is_strict(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"x": [0.1, True, "é<script>"]})

    def refuse(word):
        raise AssertionError(word)

    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == {"x": [0.1, True, "é<script>"]}
