"""EPIC-KITCHENS-100's annotation tables: their rows, classes and videos, and whether they agree.

What their frame numbers count is said in :mod:`.epic`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.sources.listing import normalise_label
from praxiscope.data.sources.table import Table, read_table
from praxiscope.errors import DataError

_COLUMNS = ("narration_id", "participant_id", "video_id", "start_frame", "stop_frame")
_INFO = "EPIC_100_video_info.csv"
_SLACK_FRAMES = 2
_SLACK_S = 0.1
_RATES = {2: 60.0, 3: 50.0}
"""Frames a second that the tables count, by the digits behind the participant in a video's name."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One row of a table."""

    narration_id: str
    participant_id: str
    video_id: str
    start_frame: int
    stop_frame: int
    seconds: tuple[float, float] | None
    """Start and stop timestamp."""
    labels: Mapping[str, str]
    """Class name by head; empty where none were read."""
    problem: str | None

    @property
    def rate(self) -> float | None:
        """Frames a second that its frame numbers count."""
        return _RATES.get(len(self.video_id.partition("_")[2]))


def read_classes(folder: Path, head: str) -> tuple[str, ...]:
    """Return the keys of a head's classes in the order of their ids.

    Raises:
        DataError: The table is missing, or doesn't number its keys from 0, each once.
    """
    path = folder / f"EPIC_100_{head}_classes.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing: it names the {head}s. It comes with the annotations.")
    table = read_table(path)
    places = _find_places(table, ("id", "key"))
    rows = {row[places["id"]]: normalise_label(row[places["key"]]) for row in table.rows}
    ids = [str(number) for number in range(len(rows))]
    if len(rows) != len(table.rows) or sorted(rows) != sorted(ids) or len(set(rows.values())) != len(rows):
        raise DataError(
            f"{path} doesn't number its {len(table.rows)} keys from 0, each once; fetch it again."
        )
    return tuple(rows[number] for number in ids)


def _find_places(table: Table, columns: Sequence[str]) -> dict[str, int]:
    if absent := [name for name in columns if name not in table.header]:
        raise DataError(f"{table.path} lacks the columns {', '.join(absent)}; is it EPIC-KITCHENS' table?")
    return {name: table.header.index(name) for name in table.header}


def read_info(folder: Path) -> dict[str, tuple[float, float]]:
    """Return {video: (seconds, frames a second)}; nothing where the table isn't there.

    Raises:
        DataError: It lacks a column, or a cell is no number.
    """
    path = folder / _INFO
    if not path.is_file():
        return {}
    table = read_table(path)
    places = _find_places(table, ("video_id", "duration", "fps"))
    try:
        return {
            row[places["video_id"]]: (float(row[places["duration"]]), float(row[places["fps"]]))
            for row in table.rows
        }
    except ValueError as problem:
        raise DataError(f"{path} holds a duration or fps that is no number: {problem}.") from problem


def read_segments(path: Path, classes: Mapping[str, tuple[str, ...]]) -> list[Segment]:
    """Read a table's rows.

    Args:
        path: The table.
        classes: Label names by head, whose columns are read; empty for a table without labels.

    Raises:
        DataError: It can't be read, or lacks a column. What is wrong with a row is its ``problem``.
    """
    table = read_table(path)
    places = _find_places(table, (*_COLUMNS, *(f"{head}_class" for head in classes)))
    return [_read_segment(dict(zip(places, row, strict=False)), classes) for row in table.rows]


def _read_segment(row: Mapping[str, str], classes: Mapping[str, tuple[str, ...]]) -> Segment:
    problem, labels = None, {}
    start, stop = (_read_whole(row.get(name, "")) for name in ("start_frame", "stop_frame"))
    if start is None or stop is None:
        problem = "start_frame or stop_frame is no whole number"
    elif start >= stop:
        problem = f"stops at frame {stop} and starts at frame {start}"
    for head in classes:
        given = row.get(f"{head}_class", "")
        number = _read_whole(given)
        known = number is not None and number < len(classes[head])
        labels[head] = classes[head][number] if known and number is not None else f"(no {head})"
        if not known:
            problem = problem or f"{head}_class {given!r} is none of 0 to {len(classes[head]) - 1}"
    if not all(row.get(name, "").strip() for name in _COLUMNS):
        problem = "a column is empty"
    times = [_read_seconds(row.get(f"{name}_timestamp", "")) for name in ("start", "stop")]
    return Segment(
        narration_id=row["narration_id"].strip() or "(no narration_id)",
        participant_id=row.get("participant_id", "").strip(),
        video_id=row.get("video_id", "").strip(),
        start_frame=start or 0,
        stop_frame=stop or 0,
        seconds=(times[0], times[1]) if times[0] is not None and times[1] is not None else None,
        labels=labels,
        problem=problem,
    )


def _read_whole(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _read_seconds(text: str) -> float | None:
    """Return seconds of ``HH:MM:SS.ss``; None where it is none."""
    parts = text.strip().split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def check_segments(
    path: Path, segments: Sequence[Segment], info: Mapping[str, tuple[float, float]]
) -> list[Finding]:
    """Compare frame numbers with timestamps, and both with what is known of the videos."""
    torn, beyond, unknown = [], [], []
    for segment in segments:
        rate = segment.rate
        if segment.problem is not None or rate is None:
            continue
        if segment.seconds is not None:
            off = max(
                abs(frame - time * rate)
                for frame, time in zip(
                    (segment.start_frame, segment.stop_frame), segment.seconds, strict=True
                )
            )
            if off > _SLACK_FRAMES:
                torn.append(f"{segment.narration_id}: {off:.0f} frames apart")
        if info and segment.video_id not in info:
            unknown.append(segment.narration_id)
        elif info and segment.stop_frame / rate > info[segment.video_id][0] + _SLACK_S:
            beyond.append(
                f"{segment.narration_id}: up to {segment.stop_frame / rate:.2f} s of "
                f"{info[segment.video_id][0]:.2f} s"
            )
    rules = (
        ("EPIC.timestamps", torn, f"whose frames and timestamps differ by more than {_SLACK_FRAMES} frames"),
        ("EPIC.bounds", beyond, f"that end behind their video ({_INFO})"),
        ("EPIC.unknown-video", unknown, f"of videos that {_INFO} doesn't know"),
    )
    checked = f"{path.name}: {quantify(len(segments), 'segment')} of {_count_videos(segments)} checked"
    findings = [Finding(code="EPIC.table", severity="note", message=f"{checked}.", count=len(segments))]
    for code, names, words in rules:
        if names:
            message = f"{path.name}: {quantify(len(names), 'segment')} {words}; look at these rows."
            findings.append(Finding.of(code, "warning", message, names))
    return findings


def _count_videos(segments: Sequence[Segment]) -> str:
    return quantify(len({segment.video_id for segment in segments}), "video")
