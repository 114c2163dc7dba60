"""From overlapping windows to stretches of time with one answer each."""

from __future__ import annotations

import bisect
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from praxiscope.prediction.ranking import Guess
from praxiscope.runs import atomic


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What was said about a window.

    Attributes:
        start_s: seconds since the video's first frame.
        end_s: its end.
        guess: the answer.
    """

    start_s: float
    end_s: float
    guess: Guess


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of time in which the answer stays the same.

    Attributes:
        start_s: seconds since the video's first frame.
        end_s: its end, where the next one starts.
        label: the answer.
        confidence: mean probability of the answer over its windows.
        windows: that it was made of.
    """

    start_s: float
    end_s: float
    label: str
    confidence: float
    windows: int


def list_stretches(spoken: Sequence[Spoken]) -> list[Spoken]:
    """Give each window the stretch of time that is nearest to its middle, so that nothing is said twice.

    The first window also speaks for what lies before its middle, the last for what lies behind.

    Args:
        spoken: The windows of one video by their start; at least one.
    """
    middles = [(window.start_s + window.end_s) / 2 for window in spoken]
    edges = [spoken[0].start_s, *((one + two) / 2 for one, two in pairwise(middles)), spoken[-1].end_s]
    return [
        Spoken(start_s=start, end_s=end, guess=window.guess)
        for window, (start, end) in zip(spoken, pairwise(edges), strict=True)
    ]


def merge_windows(spoken: Sequence[Spoken]) -> list[Segment]:
    """Merge neighbouring windows with the same answer.

    Args:
        spoken: As for :func:`list_stretches`.
    """
    segments = []
    for label, found in groupby(list_stretches(spoken), key=lambda stretch: stretch.guess.label):
        group = list(found)
        segments.append(
            Segment(
                start_s=group[0].start_s,
                end_s=group[-1].end_s,
                label=label,
                confidence=sum(each.guess.probability for each in group) / len(group),
                windows=len(group),
            )
        )
    return segments


def find_stretch(stretches: Sequence[Spoken], time_s: float) -> Spoken:
    """Return what is said about a moment: of the stretches, by their start, the one that holds it."""
    place = bisect.bisect_right(stretches, time_s, key=lambda stretch: stretch.start_s) - 1
    return stretches[max(0, place)]


class SegmentTable:
    """``segments.csv``: one row a stretch, written when it is closed; no file where there was no window.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spoken: dict[str, list[Spoken]] = {}

    def add(self, source: str, spoken: Spoken) -> None:
        """Add a window of a video."""
        self._spoken.setdefault(source, []).append(spoken)

    def close(self) -> None:
        """Write the file."""
        if not self._spoken:
            return
        aside = atomic.temporary_name(self._path)
        with atomic.naming_full_disk(self._path), aside.open("x", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["source", "start_s", "end_s", "label", "confidence", "windows"])
            for source, spoken in self._spoken.items():
                for segment in merge_windows(spoken):
                    writer.writerow(
                        [
                            source,
                            round(segment.start_s, 6),
                            round(segment.end_s, 6),
                            segment.label,
                            round(segment.confidence, 6),
                            segment.windows,
                        ]
                    )
        aside.replace(self._path)
