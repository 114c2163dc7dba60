"""A long video or a camera as overlapping windows of equal length, in memory that its length doesn't change.

A frame is resized and cropped as it comes, and held until no window to come needs it: of hours of video a
window's worth of small pictures is in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.video import Frame, VideoUnreadable
from praxiscope.errors import UsageError

_TOLERANCE_S = 1e-6  # times come as fractions of ticks


@dataclass(frozen=True, kw_only=True)
class Windowing:
    """How windows lie in time.

    Attributes:
        window_s: length of a window, seconds.
        stride_s: from the start of one to the start of the next, seconds.
    """

    window_s: float
    stride_s: float

    def __post_init__(self) -> None:
        if not 0 < self.window_s < float("inf"):
            raise UsageError(f"--window {self.window_s:g}: must be a number of seconds above 0.")
        if not 0 < self.stride_s < float("inf"):
            raise UsageError(f"--stride {self.stride_s:g}: must be a number of seconds above 0.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """The frames of one window.

    Attributes:
        start_s: its start, seconds since the first frame.
        end_s: its end.
        first: 0-based number of its first frame in the video.
        crops: what is held of each of its frames, in order; at least one.
        size: (width, height) in pixels of the newest frame.
    """

    start_s: float
    end_s: float
    first: int
    crops: tuple[npt.NDArray[np.uint8], ...]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Held:
    index: int
    time_s: float
    crop: npt.NDArray[np.uint8]
    size: tuple[int, int]


def cut_windows(
    frames: Iterable[Frame], windowing: Windowing, shrink: Callable[[Image.Image], npt.NDArray[np.uint8]]
) -> Iterator[Window]:
    """Yield the windows that begin at 0, stride, 2 x stride ... as soon as each is complete.

    What is left at the end becomes a last window of the same length that ends with the video; a video that is
    shorter than a window is one. A window in which no frame begins shows the frame that stands there.

    Args:
        frames: In the order of presentation.
        windowing: Length and stride.
        shrink: Makes of a frame what is held of it.

    Raises:
        VideoUnreadable: The frames break off; windows of what came before have been yielded.
    """
    ring: deque[_Held] = deque()
    start, step, problem = 0.0, 0.0, None
    covered = 0.0
    try:
        for frame in frames:
            while frame.time_s >= start + windowing.window_s - _TOLERANCE_S and ring:
                yield _close(ring, start, start + windowing.window_s)
                covered, start = start + windowing.window_s, start + windowing.stride_s
            step = frame.time_s - ring[-1].time_s if ring else step
            ring.append(_Held(frame.index, frame.time_s, shrink(frame.image), frame.image.size))
            _forget(ring, min(start, frame.time_s - windowing.window_s))
    except VideoUnreadable as broken:
        problem = broken
    if ring:
        yield from _close_rest(ring, start, covered, step, windowing)
    if problem is not None:
        raise problem


def _close_rest(
    ring: deque[_Held], start: float, covered: float, step: float, windowing: Windowing
) -> Iterator[Window]:
    """Yield the window that ends with the last frame, and one for what no window showed."""
    end = ring[-1].time_s + step
    if end >= start + windowing.window_s - _TOLERANCE_S:
        covered = start + windowing.window_s
        yield _close(ring, start, covered)
    sparse = windowing.stride_s > windowing.window_s and covered > 0  # gaps are what was asked for
    if (not covered or end > covered + max(step / 2, _TOLERANCE_S)) and not sparse:
        yield _close(ring, max(0.0, end - windowing.window_s), end)


def _close(ring: deque[_Held], start: float, end: float) -> Window:
    inside = [held for held in ring if start - _TOLERANCE_S <= held.time_s < end - _TOLERANCE_S]
    if not inside:
        inside = [next((held for held in reversed(ring) if held.time_s < end), ring[0])]
    return Window(
        start_s=start,
        end_s=end,
        first=inside[0].index,
        crops=tuple(held.crop for held in inside),
        size=inside[-1].size,
    )


def _forget(ring: deque[_Held], before: float) -> None:
    """Drop what no window to come shows; one older frame stays, which stands until the next."""
    while len(ring) > 1 and ring[1].time_s <= before - _TOLERANCE_S:
        ring.popleft()
