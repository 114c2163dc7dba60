"""EPIC-KITCHENS-100: its annotation tables beside videos, extracted frames or cut clips.

Damen et al. 2022, "Rescaling Egocentric Vision"; https://github.com/epic-kitchens/epic-kitchens-100-annotations.

Frame numbers of the tables count 60 a second in the videos of the first collection (``P01_01``, two digits)
and 50 in those of the second (``P01_101``): in all 38,875 rows of the training (16 participants), validation
and test tables they agree with the timestamps so, within 2 frames. Most videos of the first collection have
59.94 frames a second, and their numbers drift from the tables' by a frame in 17 seconds. So in a video file a
segment is found by its time; extracted frames are found by their number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from praxiscope.data.clips.cues import Cue
from praxiscope.data.manifest import MAX_EXAMPLES, Finding, Severity, quantify
from praxiscope.data.sources.epic_media import Media, MediaFinder
from praxiscope.data.sources.listing import MISSING_VIDEO, Listing, Sample, find_group, normalise_label
from praxiscope.data.sources.table import Table, read_table
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.schema import DataSection

HEADS = ("verb", "noun")
_TABLES = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
_UNLABELLED = "EPIC_100_test_timestamps.csv"
_INFO = "EPIC_100_video_info.csv"
_COLUMNS = ("narration_id", "participant_id", "video_id", "start_frame", "stop_frame")
_MARK = ("narration_id", "video_id", "start_frame")
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
    """Class name by head."""
    problem: str | None

    @property
    def rate(self) -> float | None:
        """Frames a second that its frame numbers count."""
        return _RATES.get(len(self.video_id.partition("_")[2]))


def find_epic(root: Path) -> Path | None:
    """Return the folder of EPIC-KITCHENS' tables: `root`, or ``annotations`` in it; None without any."""
    for folder in (root, root / "annotations"):
        if any((folder / name).is_file() for name in _TABLES.values()):
            return folder
    return None


def is_epic_table(path: Path) -> bool:
    """Whether a table has the columns of EPIC-KITCHENS' annotations."""
    if not path.is_file():
        return False
    try:
        header = read_table(path).header
    except DataError:
        return False
    return set(_MARK) <= set(header)


def list_epic(root: Path, section: DataSection) -> Listing:
    """List the segments of EPIC-KITCHENS-100.

    The heads are ``verb`` and ``noun``, with all published classes by their key in the order of their ids. A
    sample is called by its ``narration_id``, its group is its participant (or what ``section.group`` finds in
    the id). The tables for training and validation are the splits; a table that ``section.csv`` names is
    undivided.

    Args:
        root: Absolute data folder, which holds the media.
        section: ``csv``, ``group`` and ``missing`` are used.

    Raises:
        UsageError: ``section`` names columns or heads, or a table that isn't there.
        DataError: A table is missing or lacks a column.
    """
    if section.columns or section.heads:
        raise UsageError(
            "data.columns and data.heads say what another table means; EPIC-KITCHENS' own columns are known. "
            "Leave them out, or set data.source=csv."
        )
    folder, tables = _choose_tables(root, section)
    classes = {head: _read_classes(folder, head) for head in HEADS}
    info = _read_info(folder)
    finder, findings, samples = MediaFinder(root=root), [], []
    missing: dict[str, Counter[str]] = defaultdict(Counter)
    for split, path in tables.items():
        segments = _read_segments(path, classes)
        findings += _check_segments(path, segments, info)
        for segment in segments:
            sample = _make_sample(segment, split or None, finder, section)
            samples.append(sample)
            if sample.problem == MISSING_VIDEO:
                missing[segment.video_id][split] += 1
    unique = {sample.sample_id: sample for sample in reversed(samples)}
    findings += _find_repeats(samples) + _find_missing(missing, section)
    return Listing(
        source="epic",
        samples=tuple(unique[name] for name in sorted(unique)),
        findings=tuple(findings),
        clips=True,
        heads={head: tuple(classes[head]) for head in HEADS},
    )


def _choose_tables(root: Path, section: DataSection) -> tuple[Path, dict[str, Path]]:
    """Return the folder of the class tables, and {split, or "" where undivided: table}."""
    if section.csv is not None:
        path = root / Path(section.csv).expanduser()
        if not path.is_file() and (root / "annotations" / section.csv).is_file():
            path = root / "annotations" / section.csv
        if not path.is_file():
            raise UsageError(f"data.csv is {section.csv!r}, but {path} is no file.")
        if path.name == _UNLABELLED:
            raise DataError(
                f"{path.name} has no labels: nothing can be trained or scored on it. Name a labelled table."
            )
        return path.parent, {"": path}
    folder = find_epic(root)
    if folder is None:
        raise DataError(
            f"{root} has no {' or '.join(_TABLES.values())}, nor has its folder annotations. Put the tables "
            "of epic-kitchens-100-annotations there, or name one with data.csv."
        )
    return folder, {split: folder / name for split, name in _TABLES.items() if (folder / name).is_file()}


def _read_classes(folder: Path, head: str) -> tuple[str, ...]:
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


def _read_info(folder: Path) -> dict[str, tuple[float, float]]:
    """Return {video: (seconds, frames a second)}; nothing where the table isn't there."""
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


def _read_segments(path: Path, classes: Mapping[str, tuple[str, ...]]) -> list[Segment]:
    table = read_table(path)
    places = _find_places(table, (*_COLUMNS, *(f"{head}_class" for head in HEADS)))
    return [_read_segment(dict(zip(places, row, strict=False)), classes) for row in table.rows]


def _read_segment(row: Mapping[str, str], classes: Mapping[str, tuple[str, ...]]) -> Segment:
    problem, labels = None, {}
    start, stop = (_read_whole(row.get(name, "")) for name in ("start_frame", "stop_frame"))
    if start is None or stop is None:
        problem = "start_frame or stop_frame is no whole number"
    elif start >= stop:
        problem = f"stops at frame {stop} and starts at frame {start}"
    for head in HEADS:
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


def _make_sample(segment: Segment, split: str | None, finder: MediaFinder, section: DataSection) -> Sample:
    media, problem = None, segment.problem
    if problem is None:
        try:
            media = finder.find(segment.narration_id, segment.video_id)
        except LookupError as several:
            problem = str(several)
        else:
            problem = MISSING_VIDEO if media is None else None
    group = find_group(segment.narration_id, section.group) if section.group else segment.participant_id
    return Sample(
        sample_id=segment.narration_id,
        split=split,
        label=" ".join(segment.labels.values()),
        labels=dict(segment.labels),
        group=group or None,
        cue=_make_cue(segment, media),
        path=None if media is None else media.path,
        problem=problem,
    )


def _make_cue(segment: Segment, media: Media | None) -> Cue | None:
    if media is None:
        return None
    return Cue(start=segment.start_frame, stop=segment.stop_frame, rate=segment.rate, cut=media.cut)


def _check_segments(
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


def _find_repeats(samples: Sequence[Sample]) -> list[Finding]:
    counts = Counter(sample.sample_id for sample in samples)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if not repeated:
        return []
    message = (
        f"{quantify(len(repeated), 'narration_id')} in more than one row: a segment is called by it, so the "
        "tables are damaged or mixed. Fetch them again."
    )
    return [Finding.of("EPIC.repeated-id", "error", message, repeated)]


def _find_missing(missing: Mapping[str, Counter[str]], section: DataSection) -> list[Finding]:
    """Say which videos aren't there, how many segments each of them holds, and where they were looked for."""
    if not missing:
        return []
    count = sum(sum(each.values()) for each in missing.values())
    worst = sorted(missing, key=lambda video: (-sum(missing[video].values()), video))
    shown = ", ".join(worst[:MAX_EXAMPLES])
    more = f" and {len(worst) - MAX_EXAMPLES:,} more" if len(worst) > MAX_EXAMPLES else ""
    message = (
        f"{quantify(len(missing), 'video')} with {quantify(count, 'segment')} missing, left out by name: "
        f"{shown}{more}. {worst[0]} was looked for as {MediaFinder.describe_places(worst[0])}. Put or link "
        "them there; "
        "data.missing=refuse stops where any is missing."
    )
    names = [f"{video}: {quantify(sum(missing[video].values()), 'segment')}" for video in worst]
    severity: Severity = "error" if section.missing == "refuse" else "warning"
    return [Finding.of("D2.missing-video", severity, message, names)]
