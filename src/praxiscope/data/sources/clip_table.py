"""A table of clips: a video, a folder of frames or a tar of frames a row, whole or from start to stop.

Start and stop are frame numbers, or seconds where both columns' names say so (``start_s``, ``stop_seconds``,
``end_time``). Several rows may lie in one video: a clip is then called ``<path>#<start>-<stop>``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from praxiscope.data.clips.cues import Cue
from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.sources.listing import CLIP_SUFFIXES, Sample, walk_images
from praxiscope.errors import DataError

FRAME_SUFFIXES = frozenset({*CLIP_SUFFIXES, ".tar"})
"""Files that hold a clip's frames."""

Unit = Literal["frames", "seconds"]
_SECONDS = ("_s", "_sec", "_secs", "_seconds", "_time", "_timestamp", " s", "(s)", "seconds")


def find_unit(header: Sequence[str], columns: Mapping[str, int]) -> Unit | None:
    """Return what the columns ``start`` and ``stop`` count; None where a table has neither.

    Raises:
        DataError: There is one without the other, or one counts frames and the other seconds.
    """
    names = {role: header[columns[role]] for role in ("start", "stop") if role in columns}
    if not names:
        return None
    if len(names) == 1:
        (role, name), other = next(iter(names.items())), "stop" if "start" in names else "start"
        raise DataError(
            f"The column {name!r} holds each clip's {role}, but no column is known to hold its {other}. "
            f"Say which with --set data.columns.{other}=NAME, or rename {name!r} if it is something else."
        )
    timed = {role: name.casefold().endswith(_SECONDS) for role, name in names.items()}
    if timed["start"] != timed["stop"]:
        raise DataError(
            f"The columns {names['start']!r} and {names['stop']!r} seem to count different things; call them "
            "alike: start_frame and stop_frame for frames, start_s and stop_s for seconds."
        )
    return "seconds" if timed["start"] else "frames"


def names_clips(root: Path, folder: Path, paths: Sequence[str]) -> bool:
    """Whether a table's paths are folders or tars of frames; looks no further than the first there."""
    for path in paths:
        for base in (folder, root):
            place = base / path
            if path and place.exists():
                return place.is_dir() or place.suffix.lower() == ".tar"
    return False


class ClipIndex:
    """Finds what a table's rows mean: by the path as it stands, or a file by the end of its path.

    Args:
        root: Absolute data folder.
        folder: Of the table; paths may be relative to it.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._bases = [base for base in (folder, root) if base.is_relative_to(root)]
        self._found: dict[str, tuple[str, bool]] = {}
        self._by_name: dict[str, list[PurePosixPath]] | None = None

    def find(self, given: str, missing: str) -> tuple[str, str | None]:
        """Return (posix path relative to the data folder, problem or None)."""
        path = PurePosixPath(given.replace("\\", "/"))
        if not given:
            return "(no path)", "the table gives no path"
        if Path(given).is_absolute() and Path(given).is_relative_to(self._root):
            path = PurePosixPath(Path(given).relative_to(self._root).as_posix())
        if path.is_absolute() or ".." in path.parts:
            return given, "lies outside the data folder"
        for base in self._bases:
            if (base / path).exists():
                return (base / path).relative_to(self._root).as_posix(), None
        named = self._index().get(path.name, [])
        above = path.parts[:-1]
        fitting = [file for file in named if not above or file.parts[:-1][-len(above) :] == above]
        if len(fitting) > 1:
            return str(path), f"{len(fitting)} files fit: {fitting[0]}, {fitting[1]}"
        return (str(fitting[0]), None) if fitting else (str(path), missing)

    def _index(self) -> dict[str, list[PurePosixPath]]:
        if self._by_name is None:
            self._by_name = defaultdict(list)
            walk = walk_images(self._root)
            tars = [PurePosixPath(name) for name in walk.strays if name.lower().endswith(".tar")]
            for file in sorted([*walk.clips, *tars]):
                self._by_name[file.name].append(file)
                self._by_name[file.stem].append(file)  # tables of ids leave the suffix out
        return self._by_name


def read_cue(entry: Mapping[str, str], unit: Unit | None) -> tuple[Cue | None, str | None]:
    """Return what a row says about its clip's place, and what is wrong with it or None.

    Args:
        entry: Cell by role.
        unit: What start and stop count; None without them.
    """
    rate = _read_number(entry.get("fps", ""))
    if entry.get("fps") and not (rate and rate > 0):
        return None, f"fps {entry['fps']!r} is no number above 0"
    if unit is None:
        return (None if rate is None else Cue(rate=rate)), None
    start, stop = (_read_time(entry[role]) if unit == "seconds" else _read_number(entry[role])
                   for role in ("start", "stop"))  # fmt: skip
    for role, value in (("start", start), ("stop", stop)):
        if value is None or (unit == "frames" and not value.is_integer()):
            return None, f"its {role} {entry[role]!r} is no {'frame number' if unit == 'frames' else 'time'}"
    return Cue(start=start, stop=stop, unit=unit, rate=rate), None


def _read_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_time(text: str) -> float | None:
    """Return seconds of ``12.5`` or ``00:00:12.5``."""
    total = 0.0
    for part in text.split(":"):
        value = _read_number(part)
        if value is None:
            return None
        total = 60 * total + value
    return total


def name_clip(path: str, entry: Mapping[str, str], unit: Unit | None) -> str:
    """Return a clip's sample id: its path, and where it lies in it."""
    return path if unit is None else f"{path}#{entry['start']}-{entry['stop']}"


def describe_unit(
    samples: Sequence[Sample], header: Sequence[str], columns: Mapping[str, int], unit: Unit
) -> Finding:
    """Say how start and stop were read."""
    names = f"{header[columns['start']]!r} and {header[columns['stop']]!r}"
    message = f"{quantify(len(samples), 'clip')} from {names}, read as {unit}."
    return Finding(code="D10.unit", severity="note", message=message, count=len(samples))
