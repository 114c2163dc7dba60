"""EPIC-KITCHENS-100: its annotation tables beside videos, extracted frames or cut clips.

Damen et al. 2022, "Rescaling Egocentric Vision"; https://github.com/epic-kitchens/epic-kitchens-100-annotations.

Frame numbers of the tables count 60 a second in the videos of the first collection (``P01_01``, two digits)
and 50 in those of the second (``P01_101``): in all 38,875 rows of the training (16 participants), validation
and test tables they agree with the timestamps so, within 2 frames. Most videos of the first collection have
59.94 frames a second, and their numbers drift from the tables' by a frame in 17 seconds. So in a video file a
segment is found by its time; extracted frames are found by their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from praxiscope.data.clips.cues import Cue
from praxiscope.data.manifest import MAX_EXAMPLES, Finding, Severity, quantify
from praxiscope.data.sources.epic_media import Media, MediaFinder
from praxiscope.data.sources.epic_tables import (
    Segment,
    check_segments,
    read_classes,
    read_info,
    read_segments,
)
from praxiscope.data.sources.listing import MISSING_VIDEO, Listing, Sample, find_group
from praxiscope.data.sources.table import read_table
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.schema import DataSection

HEADS = ("verb", "noun")
_TABLES = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
_UNLABELLED = "EPIC_100_test_timestamps.csv"
_MARK = ("narration_id", "video_id", "start_frame")


def find_epic(root: Path) -> Path | None:
    """Return the folder of EPIC-KITCHENS' tables: `root`, or ``annotations`` in it; None without any."""
    for folder in (root, root / "annotations"):
        if any((folder / name).is_file() for name in _TABLES.values()):
            return folder
    return None


def find_epic_table(root: Path, name: str | Path) -> Path:
    """Return where a named table lies: in `root`, or in its folder ``annotations``; it may be in neither."""
    path = root / Path(name).expanduser()
    other = root / "annotations" / name
    return other if other.is_file() and not path.is_file() else path


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
    classes = {head: read_classes(folder, head) for head in HEADS}
    info = read_info(folder)
    finder, findings, samples = MediaFinder(root=root), [], []
    missing: Counter[str] = Counter()
    for split, path in tables.items():
        segments = read_segments(path, classes)
        findings += check_segments(path, segments, info)
        for segment in segments:
            sample = _make_sample(segment, split or None, finder, section)
            samples.append(sample)
            if sample.problem == MISSING_VIDEO:
                missing[segment.video_id] += 1
    unique = {sample.sample_id: sample for sample in reversed(samples)}
    findings += _find_repeats(samples) + _find_missing(missing, section)
    return Listing(
        source="epic",
        samples=tuple(unique[name] for name in sorted(unique)),
        findings=tuple(findings),
        clips=True,
        heads={head: tuple(classes[head]) for head in HEADS},
    )


def list_unlabelled(root: Path, table: Path) -> tuple[Sample, ...]:
    """List every segment of a table whose labels aren't read: what a run's answers are asked for.

    Args:
        root: Absolute data folder, which holds the media.
        table: ``EPIC_100_test_timestamps.csv``, or any other of the benchmark's.

    Returns:
        By narration id, ascending, without labels; none is missing its media.

    Raises:
        DataError: The table can't be read or has damaged rows, or media are missing.
    """
    segments, finder = read_segments(table, {}), MediaFinder(root=root)
    samples = [_make_sample(segment, None, finder, DataSection()) for segment in segments]
    if not samples:
        raise DataError(f"{table} has no rows.")
    pairs = list(zip(segments, samples, strict=True))
    damaged = [f"{s.sample_id}: {s.problem}" for s in samples if s.problem not in {None, MISSING_VIDEO}]
    damaged += [f"{name} stands in several rows" for name in _list_repeated(samples)]
    if damaged:
        raise DataError(f"{table} has rows that can't be answered: {shorten(damaged)}. Fetch it again.")
    if missing := Counter(segment.video_id for segment, sample in pairs if sample.problem):
        raise DataError(
            f"{_describe_missing(missing)} A submission must answer all "
            f"{quantify(len(samples), 'segment')} of {table.name}: put or link the videos there."
        )
    return tuple(sorted(samples, key=lambda sample: sample.sample_id))


def shorten(names: Sequence[str]) -> str:
    """Return names for a sentence, the first 20 of many."""
    more = f" and {len(names) - MAX_EXAMPLES:,} more" if len(names) > MAX_EXAMPLES else ""
    return ", ".join(names[:MAX_EXAMPLES]) + more


def _choose_tables(root: Path, section: DataSection) -> tuple[Path, dict[str, Path]]:
    """Return the folder of the class tables, and {split, or "" where undivided: table}."""
    if section.csv is not None:
        path = find_epic_table(root, section.csv)
        if not path.is_file():
            raise UsageError(f"data.csv is {section.csv!r}, but {path} is no file.")
        if path.name == _UNLABELLED:
            raise DataError(
                f"{path.name} has no labels: nothing can be trained or scored on it. Name a labelled table; "
                f"a run's answers are `praxiscope evaluate RUN --submission FILE.zip --segments {path.name}`."
            )
        return path.parent, {"": path}
    folder = find_epic(root)
    if folder is None:
        raise DataError(
            f"{root} has no {' or '.join(_TABLES.values())}, nor has its folder annotations. Put the tables "
            "of epic-kitchens-100-annotations there, or name one with data.csv."
        )
    return folder, {split: folder / name for split, name in _TABLES.items() if (folder / name).is_file()}


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


def _find_repeats(samples: Sequence[Sample]) -> list[Finding]:
    if not (repeated := _list_repeated(samples)):
        return []
    message = (
        f"{quantify(len(repeated), 'narration_id')} in more than one row: a segment is called by it, so the "
        "tables are damaged or mixed. Fetch them again."
    )
    return [Finding.of("EPIC.repeated-id", "error", message, repeated)]


def _list_repeated(samples: Sequence[Sample]) -> list[str]:
    counts = Counter(sample.sample_id for sample in samples)
    return sorted(name for name, count in counts.items() if count > 1)


def _find_missing(missing: Counter[str], section: DataSection) -> list[Finding]:
    """Say which videos aren't there, how many segments each of them holds, and where they were looked for."""
    if not missing:
        return []
    message = (
        f"{_describe_missing(missing)} They are left out; put or link them there. data.missing=refuse stops "
        "where any is missing."
    )
    names = [f"{video}: {quantify(missing[video], 'segment')}" for video in _order_missing(missing)]
    severity: Severity = "error" if section.missing == "refuse" else "warning"
    return [Finding.of("D2.missing-video", severity, message, names)]


def _order_missing(missing: Counter[str]) -> list[str]:
    """Return videos, those of most segments first."""
    return sorted(missing, key=lambda video: (-missing[video], video))


def _describe_missing(missing: Counter[str]) -> str:
    videos = _order_missing(missing)
    return (
        f"{quantify(len(videos), 'video')} with {quantify(missing.total(), 'segment')} missing: "
        f"{shorten(videos)}. {videos[0]} was looked for as {MediaFinder.describe_places(videos[0])}."
    )
