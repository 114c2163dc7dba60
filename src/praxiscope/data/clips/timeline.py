"""What a clip's source holds: how many frames, when they are shown, which numbers their files carry.

A video is looked at once, however many clips lie in it. Short ones are decoded to their end, since only
decoding shows a truncated file; of long ones, which hold many clips, the packets are counted and the middle
frame of every clip is decoded. Decoding each frame of EPIC-KITCHENS' hundred hours would take days.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from praxiscope.data.clips.frames import is_tar, list_frames
from praxiscope.data.clips.probe import survey_video
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.video import INDEX_TIMED, decode_errors, find_missing
from praxiscope.data.video_index import find_index

DECODED_FRAMES = 3_000
"""Videos of up to so many frames are decoded whole (a minute at 50 frames a second)."""

_NUMBER = re.compile(r"(\d+)(?=\D*$)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """The frames of a source, in their order.

    Attributes:
        count: how many there are.
        fps: on average, where the source says.
        times: float64 (count,), seconds since the first frame, ascending; None for pictures.
        numbers: int64 (count,), ascending, out of the file names; None for videos, and for pictures whose
            names don't number them.
        fault: why a video has fewer frames than its header promises; None for a whole one.
    """

    count: int
    fps: float | None = None
    times: npt.NDArray[np.float64] | None = None
    numbers: npt.NDArray[np.int64] | None = None
    fault: str | None = None

    @property
    def num_missing(self) -> int:
        """Numbers between the first and the last that no file has."""
        if self.numbers is None or not self.count:
            return 0
        return int(self.numbers[-1] - self.numbers[0]) + 1 - self.count


def read_timeline(source: Path) -> Timeline:
    """Look at a folder of frames, a tar of frames or a video.

    Raises:
        ImageUnreadable: It can't be read, or holds no frame.
        OSError: Likewise.
    """
    if source.is_dir() or is_tar(source):
        names = [file.name for file in list_frames(source)]
        if not names:
            raise ImageUnreadable("holds no frame")
        return Timeline(count=len(names), numbers=number_frames(names))
    times, fps = read_times(source)
    count = len(times)
    if count <= DECODED_FRAMES:
        count, fps, broken = survey_video(source)
    else:
        broken = _find_break(source, times, fps)
    if count == 0:
        raise ImageUnreadable("no frame could be decoded: the file is empty or truncated")
    fault = None if broken is None else f"{broken}, after {count:,} frames"
    return Timeline(count=count, fps=fps, times=_fit(times, count, fps), fault=fault)


def _find_break(source: Path, times: npt.NDArray[np.float64], fps: float | None) -> str | None:
    """Compare the packets of a video that isn't decoded with what its header promises."""
    import av

    try:
        with av.open(str(source), metadata_errors="replace") as container:
            end_s = float(times[-1]) + 1 / (fps or 25.0)
            return find_missing(container, container.streams.video[0], len(times), end_s)
    except decode_errors():
        return None  # it was read a moment ago; whoever reads it next says what is wrong


def number_frames(names: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """Return the last number in each file name, or None where they don't ascend.

    >>> number_frames(["frame_0000000003.jpg", "frame_0000000005.jpg"])
    array([3, 5])
    """
    found = [_NUMBER.search(name.rpartition(".")[0]) for name in names]
    if not all(found):
        return None
    numbers = np.array([int(match.group(1)) for match in found if match], dtype=np.int64)
    return numbers if (np.diff(numbers) > 0).all() else None


def read_times(source: Path) -> tuple[npt.NDArray[np.float64], float | None]:
    """Return when each frame is shown, seconds since the first one, and the average rate; nothing is decoded.

    Raises:
        ImageUnreadable: It can't be opened, or holds no picture.
    """
    import av

    try:
        with av.open(str(source), metadata_errors="replace") as container:
            if not container.streams.video:
                raise ImageUnreadable("holds no pictures, only sound or data")
            stream = container.streams.video[0]
            fps = None if stream.average_rate is None else float(stream.average_rate)
            step = 0.0 if stream.time_base is None else float(stream.time_base)
            index = find_index(source)
            if index is not None and container.format.name not in INDEX_TIMED:
                return (index.shown - index.shown[0]) * step, fps
            count = len(index) if index is not None else sum(bool(p.size) for p in container.demux(stream))
    except decode_errors() as problem:
        raise ImageUnreadable(_explain(problem)) from problem
    # Without an index the times can't be told from the packets: an even rate is all there is.
    return np.arange(count) / (fps or 25.0), fps


def _explain(problem: BaseException) -> str:
    if isinstance(problem, FileNotFoundError):
        return "no such file"
    return f"damaged or no video ({getattr(problem, 'strerror', None) or problem})"


def _fit(times: npt.NDArray[np.float64], count: int, fps: float | None) -> npt.NDArray[np.float64]:
    """Return the times of `count` frames: packets may hold no frame, or several."""
    if len(times) >= count:
        return times[:count]
    step = 1 / (fps or 25.0)
    start = float(times[-1]) + step if len(times) else 0.0
    return np.concatenate([times, start + step * np.arange(count - len(times))])
