"""Frames of a video file or a camera, one at a time, upright, with the time at which they are shown.

One thread decodes (PyAV with several was seen to stall beside other thread pools), and a container is closed
however the reading ends. A truncated file often declares frames that can't be had, so frames are counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.errors import DataError, UsageError

if TYPE_CHECKING:
    import av.container

_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
INDEX_TIMED = frozenset({"avi"})
"""Formats that store no time of presentation: with B-frames PyAV gives the times in the order of decoding."""


class VideoUnreadable(DataError):
    """A video that can't be opened, or not decoded to its end.

    Attributes:
        reason: One line, without the file's name.
        decoded: Frames decoded before.
    """

    def __init__(self, reason: str, *, decoded: int = 0) -> None:
        self.reason = " ".join(reason.split())
        self.decoded = decoded
        super().__init__(self.reason)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames of a video are looked at.

    Attributes:
        every: each N-th frame, from the first; at least 1.
        fps: instead: for each 1/fps seconds from the first frame, the first frame at or after that time.
        limit: at most so many frames of each video or camera; None for all.
    """

    every: int = 1
    fps: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"--every {self.every}: must be 1 (each frame) or more.")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise UsageError(f"--fps {self.fps:g}: must be a number above 0.")
        if self.fps is not None and self.every != 1:
            raise UsageError("--every and --fps exclude each other: choose frames by number or by time.")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit}: must be 1 or more.")

    def start(self) -> Picker:
        """Return what chooses the frames of one video."""
        return Picker(self)


class Picker:
    """Chooses the frames of one video, in the order in which they are shown."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._ticks = 0
        self._taken = 0

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._sampling.limit is not None and self._taken >= self._sampling.limit

    def wants(self, index: int, time_s: float) -> bool:
        """Whether to look at a frame.

        Args:
            index: 0-based, of all frames decoded.
            time_s: seconds since the first frame.
        """
        if self.full:
            return False
        if self._sampling.fps is None:
            chosen = index % self._sampling.every == 0
        else:
            # Half a microsecond: times come as fractions of ticks.
            due = int((time_s + 5e-7) * self._sampling.fps) + 1
            chosen = due > self._ticks
            self._ticks = max(due, self._ticks)
        self._taken += chosen
        return chosen


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame of a video.

    Attributes:
        index: 0-based, in the order of presentation, of all decoded frames.
        time_s: seconds since the first frame.
        image: upright, RGB.
    """

    index: int
    time_s: float
    image: Image.Image


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """Frames of a video by their numbers, in place of a :class:`Sampling`.

    Attributes:
        indices: from 0.
    """

    indices: frozenset[int]

    def start(self) -> _Chooser:
        """Return what chooses them."""
        return _Chooser(self.indices)


class _Chooser:
    def __init__(self, indices: frozenset[int]) -> None:
        self._left = set(indices)

    @property
    def full(self) -> bool:
        return not self._left

    def wants(self, index: int, _time_s: float) -> bool:
        chosen = index in self._left
        self._left.discard(index)
        return chosen


def read_frames(
    path: Path, sampling: Sampling | FrameChoice, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Iterator[Frame]:
    """Yield a video file's chosen frames, decoded one at a time.

    Args:
        path: The file.
        sampling: Which frames.
        max_pixels: Cap on width x height.

    Raises:
        VideoUnreadable: It can't be opened, holds no picture, or breaks off: before, all frames up to there
            have been yielded.
    """
    try:
        container = open_video(path)
    except decode_errors() as problem:
        raise VideoUnreadable(_explain(problem)) from problem
    yield from decode_frames(container, sampling, max_pixels=max_pixels)


def open_video(path: Path) -> av.container.InputContainer:
    """Open a video file whose first video stream is decoded by one thread.

    Loaders have a thread or process for each core already, and FFmpeg's own threads were seen to stall
    beside other thread pools.
    """
    import av

    container = av.open(str(path), metadata_errors="replace")
    for stream in container.streams.video[:1]:
        if stream.codec_context is not None:
            stream.codec_context.thread_count = 1
            stream.codec_context.thread_type = "NONE"
    return container


def decode_frames(
    container: av.container.InputContainer, sampling: Sampling | FrameChoice, *, max_pixels: int
) -> Iterator[Frame]:
    """Yield the chosen frames of an open container, and close it; see :func:`read_frames`."""
    picker, converter, decoded = sampling.start(), Converter(), 0
    with container:
        if not container.streams.video:
            raise VideoUnreadable("holds no pictures, only sound or data")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoUnreadable("its pictures are coded in a way that FFmpeg doesn't know")
        check_video_size(stream, max_pixels)
        clock = _Clock(stream, by_index=container.format.name in INDEX_TIMED)
        try:
            for raw in container.decode(stream):
                time_s = clock.read(raw, decoded)
                if picker.wants(decoded, time_s):
                    yield Frame(index=decoded, time_s=time_s, image=converter.convert(raw))
                decoded += 1
                if picker.full:
                    return
        except decode_errors() as problem:
            raise VideoUnreadable(_explain(problem), decoded=decoded) from problem
        _refuse_missing(container, stream, decoded, clock)


def count_frames(path: Path, sampling: Sampling) -> int:
    """Estimate from a video's header how many frames will be looked at; 1 where it doesn't say."""
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                return 1
            stream = container.streams.video[0]
            seconds = _read_duration(container, stream)
            rate = float(stream.average_rate or 25)
    except decode_errors():
        return 1
    frames = stream.frames or round(seconds * rate)
    chosen = -(-frames // sampling.every) if sampling.fps is None else int(frames / rate * sampling.fps) + 1
    chosen = min(chosen, frames)
    return max(1, chosen if sampling.limit is None else min(chosen, sampling.limit))


def estimate_seconds(path: Path) -> float | None:
    """Return how long a video is by its header; None where it doesn't say or can't be read."""
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                return None
            return _read_duration(container, container.streams.video[0]) or None
    except decode_errors():
        return None


def count_pictures(path: Path) -> tuple[int, float | None]:
    """Count the frames that decoding gives, without converting them, and return the average rate.

    Raises:
        VideoUnreadable: It can't be opened, or no frame can be decoded.
    """
    return survey_pictures(path)[:2]


def survey_pictures(path: Path) -> tuple[int, float | None, str | None]:
    """Return what :func:`count_pictures` does, and why decoding ends early; None where the video is whole.

    Raises:
        VideoUnreadable: It can't be opened, or no frame can be decoded.
    """
    broken = None
    try:
        with open_video(path) as container:
            if not container.streams.video:
                raise VideoUnreadable("holds no pictures, only sound or data")
            stream = container.streams.video[0]
            rate = None if stream.average_rate is None else float(stream.average_rate)
            count, clock = 0, _Clock(stream, by_index=container.format.name in INDEX_TIMED)
            try:
                for raw in container.decode(stream):
                    clock.read(raw, count)
                    count += 1
            except decode_errors() as problem:
                broken = _explain(problem)
            if not count:
                raise VideoUnreadable(broken or "no frame could be decoded: the file is empty or truncated")
            broken = broken or find_missing(container, stream, count, clock.end_s)
    except decode_errors() as problem:
        raise VideoUnreadable(_explain(problem)) from problem
    return count, rate, broken


class _Clock:
    """Seconds since the first frame, never going back."""

    def __init__(self, stream: Any, *, by_index: bool) -> None:
        self._step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self._by_index = by_index
        self._first: float | None = None
        self._last = -self._step

    @property
    def end_s(self) -> float:
        """Time of the container at which the last frame ends, seconds."""
        return max(0.0, self._first or 0.0) + self._last + self._step

    def read(self, raw: Any, index: int) -> float:
        if self._by_index:
            self._last = index * self._step
            return self._last
        time = None if raw.pts is None or raw.time is None else float(raw.time)
        if time is not None and self._first is None:
            self._first = time - max(0.0, self._last + self._step)
        relative = None if time is None or self._first is None else time - self._first
        # Frames come in the order of presentation; a time that contradicts it is a fault of the file.
        self._last = self._last + self._step if relative is None or relative <= self._last else relative
        return self._last


class Converter:
    """Turns the decoded frames of one video into pictures."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        # One for all frames: each frame's own would work out the conversion anew.
        self._reformatter = VideoReformatter()

    def convert(self, raw: Any) -> Image.Image:
        """Convert a decoded frame to RGB, turned as its display matrix says."""
        # By way of NumPy: PyAV's own way to a picture copies line by line in Python.
        image = Image.fromarray(self._reformatter.reformat(raw, format="rgb24").to_ndarray())
        turn = _TURNS.get(round(getattr(raw, "rotation", 0) / 90) * 90 % 360)
        return image if turn is None else image.transpose(turn)


def check_video_size(stream: Any, max_pixels: int) -> None:
    """Refuse a video by the size that it declares.

    Raises:
        VideoUnreadable: Its frames have more pixels than `max_pixels`.
    """
    if stream.width * stream.height > max_pixels:
        raise VideoUnreadable(
            f"declares {stream.width} x {stream.height} pixels, above the cap of {max_pixels:,} (max_pixels)"
        )


def _refuse_missing(container: Any, stream: Any, decoded: int, clock: _Clock) -> None:
    if not decoded:
        raise VideoUnreadable("no frame could be decoded: the file is empty or truncated")
    reason = find_missing(container, stream, decoded, clock.end_s)
    if reason is not None:
        raise VideoUnreadable(reason, decoded=decoded)


def find_missing(container: Any, stream: Any, decoded: int, end_s: float) -> str | None:
    """Compare what there is with what the header declares: truncated files often end without an error.

    Args:
        container: open.
        stream: its first video stream.
        decoded: frames that there are.
        end_s: when the last of them ends, by the container's clock.
    """
    if decoded < 0.9 * stream.frames:
        return f"declares {stream.frames} frames; the rest is missing"
    declared_s = _estimate_alone(container, stream)
    if not stream.frames and end_s < 0.8 * declared_s - 0.2:
        return f"declares {declared_s:.1f} s and ends at {end_s:.1f} s; the rest is missing"
    return None


def _estimate_alone(container: Any, stream: Any) -> float:
    """Return the seconds that a header promises of the pictures; 0 where it may mean the sound."""
    alone = stream.duration is not None or len(container.streams) == 1
    return _read_duration(container, stream) if alone and container.duration is not None else 0.0


def _read_duration(container: Any, stream: Any) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return 0.0 if container.duration is None else container.duration / 1e6


def decode_errors() -> tuple[type[BaseException], ...]:
    """Return what PyAV was seen to raise on damaged files, beside its own errors."""
    import av

    return (
        av.FFmpegError, OSError, ValueError, LookupError, ArithmeticError, EOFError, MemoryError,
        NotImplementedError, UnicodeError,
    )  # fmt: skip


def _explain(problem: BaseException) -> str:
    if isinstance(problem, FileNotFoundError):
        return "no such file"
    if isinstance(problem, PermissionError):
        return "can't be read (permission denied)"
    words = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    return f"damaged or no video ({words})"
