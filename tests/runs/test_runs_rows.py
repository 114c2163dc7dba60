import json

import pytest

from praxiscope.errors import IntegrityError
from praxiscope.runs.rows import append_row, read_rows, truncate_rows


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for epoch in range(1, 6):
        append_row(path, {"epoch": epoch, "step": epoch * 10, "val/top1": epoch / 7})
    return path


def test_rows_come_back_exactly(log):
    assert read_rows(log) == [{"epoch": e, "step": e * 10, "val/top1": e / 7} for e in range(1, 6)]
    assert read_rows(log.with_name("absent.jsonl")) == []


def test_whatever_a_kill_leaves_of_the_last_line_the_others_are_read_and_the_next_is_appended(log):
    whole = log.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(start, len(whole) + 1):
        log.write_bytes(whole[:cut])
        complete = cut >= len(whole) - 1
        assert [row["epoch"] for row in read_rows(log)] == ([1, 2, 3, 4, 5] if complete else [1, 2, 3, 4])
        append_row(log, {"epoch": 6, "step": 60})
        assert [row["epoch"] for row in read_rows(log)] == (
            [1, 2, 3, 4, 5, 6] if complete else [1, 2, 3, 4, 6]
        )


@pytest.mark.parametrize("tail", [b"\x00\x00\x00\x00", b"\x00\x00\x00\n", b"12\n", b"\xff\n"])
def test_garbage_after_a_power_cut_is_dropped_and_cut_off(log, tail):
    log.write_bytes(log.read_bytes() + tail)
    assert len(read_rows(log)) == 5
    append_row(log, {"epoch": 6, "step": 60})
    assert [row["epoch"] for row in read_rows(log)] == [1, 2, 3, 4, 5, 6]


def test_damage_in_the_middle_is_named_by_line(log):
    lines = log.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"epoch"', b'"epoch')
    log.write_bytes(b"".join(lines))
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl is damaged: line 3 of 5"):
        read_rows(log)


def test_rows_above_the_step_resumed_from_are_removed(log):
    before = log.read_bytes()
    assert truncate_rows(log, after_step=99) == 0
    assert log.read_bytes() == before
    assert truncate_rows(log, after_step=30) == 2
    assert [row["epoch"] for row in read_rows(log)] == [1, 2, 3]
    assert log.read_bytes() == b"".join(before.splitlines(keepends=True)[:3])
    assert truncate_rows(log.with_name("absent.jsonl"), after_step=0) == 0


def test_a_number_json_lacks_becomes_null_at_any_depth(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_row(path, {"train/loss": float("nan"), "deep": {"list": [1.0, float("-inf")]}, "name": "a\nb"})
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    assert text.count("\n") == 1
    assert json.loads(text) == {"train/loss": None, "deep": {"list": [1.0, None]}, "name": "a\nb"}
