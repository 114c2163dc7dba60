"""What an annotation says about a clip's place, and which frames of its source these are.

An annotation counts in frames or in seconds, and the source may be a video, extracted frames, or a clip that
was cut out already. The rules, in the order in which they are tried:

1. A **cut** clip begins with the annotated start: its frames are its first `stop - start`.
2. Frames of a **folder** are those whose file names carry the annotated numbers; a file that is missing
   shifts no other.
3. Frames of a **video** are those of the annotated numbers, where the video's rate is the one that the
   annotations count in, or where they don't say.
4. Otherwise, and where the annotation is in seconds, a clip goes from the frame whose time is nearest to the
   start up to the one before the frame whose time is nearest to the stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from praxiscope.data.clips.spans import Span, resolve_span
from praxiscope.data.clips.timeline import Timeline
from praxiscope.errors import DataError
from praxiscope.recipe.schema import ClipSection

CUT_SLACK = 2
"""Frames by which a clip that was cut out may differ from its annotation: encoders add or lose one or two."""
_RATE_SLACK = 1e-4
"""Relative; 59.94 and 60 frames a second differ by ten times as much."""
_END_SLACK_S = 0.5
"""Seconds by which an annotated stop may lie behind the end of its video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """Where an annotation places a clip.

    Attributes:
        start: as annotated: a frame number, or seconds since the video's first frame.
        stop: likewise; None of both for the whole source.
        unit: what `start` and `stop` count.
        rate: frames a second of the count, or of a folder's frames; None where nothing says.
        cut: whether the source holds this clip alone, and begins with it.
    """

    start: float | None = None
    stop: float | None = None
    unit: Literal["frames", "seconds"] = "frames"
    rate: float | None = None
    cut: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Placing:
    """Where a clip lies in its source.

    Attributes:
        span: places in the source's order, from 0.
        start_frame: the annotation's number of the clip's first frame, as far as its frames go by number.
        lacking: frames of the annotation that a folder of frames doesn't have.
        odd: of a cut clip whose length differs from its annotation's: the frames that it has.
    """

    span: Span
    start_frame: int | None = None
    lacking: int = 0
    odd: int | None = None


def place_clip(cue: Cue | None, timeline: Timeline, section: ClipSection) -> Placing:
    """Find a clip in its source; see the module for the rules.

    Args:
        cue: What the annotation says; None for the whole source.
        timeline: What the source holds.
        section: ``frame_base`` and ``stop`` say how frame numbers are read, ``fps`` the rate of frames that
            come without one.

    Raises:
        DataError: The source doesn't hold the annotated frames; one line.
    """
    if cue is None or cue.start is None or cue.stop is None:
        return Placing(span=Span(first=0, count=timeline.count))
    if cue.unit == "seconds":
        return _place_by_time(cue.start, cue.stop, timeline, cue.rate or section.fps)
    start, stop = int(cue.start), int(cue.stop)
    span = resolve_span(start, stop, section)
    if cue.cut:
        return _place_cut(span, start, timeline)
    if timeline.numbers is not None:
        return _place_by_number(span, timeline, section)
    if timeline.times is not None and cue.rate and timeline.fps and not _same_rate(cue.rate, timeline.fps):
        return _place_by_time(span.first / cue.rate, (span.first + span.count) / cue.rate, timeline, None)
    if (last := span.first + span.count) > timeline.count:
        raise DataError(
            f"has {timeline.count:,} frames, but its label asks for those up to number "
            f"{last - 1 + section.frame_base:,} (the first is {section.frame_base})"
        )
    return Placing(span=span, start_frame=start)


def _same_rate(one: float, other: float) -> bool:
    return abs(one - other) <= _RATE_SLACK * other


def _place_cut(span: Span, start: int, timeline: Timeline) -> Placing:
    if abs(timeline.count - span.count) <= CUT_SLACK:
        count = min(span.count, timeline.count)
        return Placing(span=Span(first=0, count=count), start_frame=start)
    return Placing(span=Span(first=0, count=timeline.count), start_frame=None, odd=timeline.count)


def _place_by_number(span: Span, timeline: Timeline, section: ClipSection) -> Placing:
    """Find the files whose numbers lie in the span; numbers count from ``frame_base``."""
    numbers = np.asarray(timeline.numbers)
    start = span.first + section.frame_base
    first, behind = np.searchsorted(numbers, [start, start + span.count]).tolist()
    if (count := behind - first) == 0 or numbers[-1] < start + span.count - 1:
        raise DataError(
            f"has frames {numbers[0]:,} to {numbers[-1]:,}, but its label asks for "
            f"{start:,} to {start + span.count - 1:,}"
        )
    return Placing(
        span=Span(first=first, count=count), start_frame=int(numbers[first]), lacking=span.count - count
    )


def _place_by_time(start_s: float, stop_s: float, timeline: Timeline, rate: float | None) -> Placing:
    times = timeline.times
    if times is None:
        if not rate:
            raise DataError(
                "holds frames without times, and its label is in seconds: give their rate with a column fps "
                "or clip.fps"
            )
        base = 0 if timeline.numbers is None else timeline.numbers[0]
        numbers = np.arange(timeline.count) if timeline.numbers is None else np.asarray(timeline.numbers)
        times = (numbers - base) / rate
    end_s = float(times[-1]) + 1 / (timeline.fps or rate or 25.0)
    if not 0 <= start_s < end_s or stop_s > end_s + _END_SLACK_S:
        raise DataError(f"is {end_s:.2f} s long, but its label asks for {start_s:.2f} to {stop_s:.2f} s")
    if stop_s <= start_s:
        raise DataError(f"its label stops at {stop_s:.2f} s and starts at {start_s:.2f} s")
    first = _find_nearest(times, start_s)
    behind = len(times) if stop_s >= end_s else _find_nearest(times, stop_s)
    # Shorter than a frame: the one that is shown at that time.
    return Placing(span=Span(first=first, count=max(1, behind - first)))


def _find_nearest(times: np.ndarray[tuple[int], np.dtype[np.float64]], moment: float) -> int:
    """Return the place of the nearest time; of two equally near the earlier."""
    place = int(np.searchsorted(times, moment))
    if place == 0:
        return 0
    if place == len(times):
        # Behind the last frame's start: nearer to its end, it is the frame behind the last.
        step = float(times[-1] - times[-2]) if len(times) > 1 else 0.0
        return len(times) if step and moment - times[-1] > step / 2 else len(times) - 1
    return place if times[place] - moment < moment - times[place - 1] - 1e-9 else place - 1
