"""Chosen frames of a video, without decoding all that lies before them.

From the key frame before a wanted frame on, packets are decoded; those that nothing refers to and nobody
wants are passed over; only wanted frames are converted. The pixels are those of reading from the start, bit
for bit: where that can't be had (:mod:`praxiscope.data.video_index`), reading from the start is what happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.video import (
    Converter,
    FrameChoice,
    VideoUnreadable,
    check_video_size,
    decode_errors,
    open_video,
    read_frames,
)
from praxiscope.data.video_index import VideoIndex, find_index

_NEAR_PACKETS = 64
"""So many packets are read past rather than sought past: a seek empties the file's buffer."""
_INTRA = 1  # AV_PICTURE_TYPE_I
_PASSES_OVER = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video"})
"""Codecs of which FFmpeg passes over frames that none refers to without a trace in the others."""


class _SeekFailed(Exception):
    """The file does not do what its index promises: it is read from its start instead."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Packets that are decoded behind one another.

    Attributes:
        first: number of the key frame's packet.
        last: number of the last packet that a wanted frame needs.
        wanted: index of each wanted frame by its time.
    """

    first: int
    last: int
    wanted: dict[int, int]


def read_chosen(
    path: Path, indices: Sequence[int], *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[int, Image.Image]:
    """Return a video's frames by number, upright, RGB.

    Args:
        path: The file.
        indices: From 0, in the order in which decoding the file from its start gives frames.
        max_pixels: Cap on width x height.

    Raises:
        VideoUnreadable: It can't be opened, breaks off before the last of them, or has fewer frames.
    """
    if not indices:
        return {}
    try:
        index = find_index(path)
    except OSError:
        index = None  # reading says what is wrong
    if index is not None and max(indices) < len(index):
        try:
            return _read_by_index(path, index, sorted(set(indices)), max_pixels)
        except _SeekFailed:
            pass
        except decode_errors():
            pass
    return read_from_start(path, indices, max_pixels=max_pixels)


def read_from_start(
    path: Path, indices: Sequence[int], *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[int, Image.Image]:
    """Return the same as :func:`read_chosen`, decoding every frame up to the last wanted one."""
    found: dict[int, Image.Image] = {}
    wanted = FrameChoice(indices=frozenset(indices))
    try:
        for frame in read_frames(path, wanted, max_pixels=max_pixels):
            found[frame.index] = frame.image
    except VideoUnreadable as problem:
        if wanted.indices - found.keys():
            after = f", after {problem.decoded} frames" if problem.decoded else ""
            raise VideoUnreadable(f"{problem.reason}{after}", decoded=problem.decoded) from problem
    if missing := sorted(wanted.indices - found.keys()):
        raise VideoUnreadable(f"ends before frame {missing[0]} (from 0)")
    return found


def plan_runs(index: VideoIndex, indices: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """Return which packets to decode for some frames.

    Args:
        index: Of the video.
        indices: Ascending.

    Returns:
        For each stretch: the number of its first and of its last packet, and the frames that it is for.
    """
    runs: list[tuple[int, int, list[int]]] = []
    for frame in indices:
        first, last = int(index.start[frame]), int(index.packet[frame])
        # A key frame that follows at once needs no second beginning.
        if runs and first <= runs[-1][1] + 1:
            before = runs.pop()
            runs.append((before[0], max(before[1], last), [*before[2], frame]))
        else:
            runs.append((first, last, [frame]))
    return runs


def _read_by_index(
    path: Path, index: VideoIndex, indices: Sequence[int], max_pixels: int
) -> dict[int, Image.Image]:
    found: dict[int, Image.Image] = {}
    with open_video(path) as container:
        stream = container.streams.video[0]
        check_video_size(stream, max_pixels)
        reader = _PacketReader(container, stream, index)
        for first, last, frames in plan_runs(index, indices):
            wanted = {int(index.shown[frame]): frame for frame in frames}
            found |= reader.decode(_Run(first=first, last=last, wanted=wanted))
    return found


class _PacketReader:
    """Reads packets of an open container by their numbers, mostly forwards."""

    def __init__(self, container: Any, stream: Any, index: VideoIndex) -> None:
        self._container = container
        self._stream = stream
        self._codec = stream.codec_context
        self._index = index
        self._numbers = {int(time): number for number, time in enumerate(index.times)}
        self._packets = container.demux(stream)
        self._next = 0
        self._begun = False
        self._converter = Converter()

    def decode(self, run: _Run) -> dict[int, Image.Image]:
        """Decode a run, from an empty decoder to an empty decoder; return the wanted frames."""
        found: dict[int, Image.Image] = {}
        passes_over = self._codec.name in _PASSES_OVER
        self._begun = run.first == 0  # as reading from the start begins
        begins = int(self._index.times[run.first])
        for packet in self._read(run.first, run.last):
            if passes_over:
                self._codec.skip_frame = "DEFAULT" if packet.pts in run.wanted else "NONREF"
            self._take(self._codec.decode(packet), run, begins, found)
        self._take(self._codec.decode(None), run, begins, found)
        self._codec.flush_buffers()
        if len(found) < len(run.wanted) or not self._begun:
            raise _SeekFailed
        return found

    def _take(self, frames: Sequence[Any], run: _Run, begins: int, found: dict[int, Image.Image]) -> None:
        for frame in frames:
            # Decoding can begin at an intra picture only. Streams that are refreshed bit by bit mark others.
            self._begun |= frame.pts == begins and frame.key_frame and frame.pict_type == _INTRA
            if frame.pts in run.wanted:
                found[run.wanted[frame.pts]] = self._converter.convert(frame)

    def _read(self, first: int, last: int) -> Iterator[Any]:
        if first - self._next > _NEAR_PACKETS:
            self._seek(first)
        for packet in self._packets:
            if not packet.size:
                raise _SeekFailed
            number = self._numbers.get(packet.pts, -1)
            if number != self._next:
                raise _SeekFailed
            self._next += 1
            if number >= first:
                yield packet
            if number >= last:
                return
        raise _SeekFailed

    def _seek(self, number: int) -> None:
        """Go to a key frame's packet, or to one before it."""
        for time in (self._index.times[number], self._index.starts_at[number]):
            self._container.seek(int(time), stream=self._stream)
            self._packets = self._container.demux(self._stream)
            packet = next(self._packets)
            landed = self._numbers.get(packet.pts, len(self._numbers)) if packet.size else len(self._numbers)
            if landed <= number:
                self._packets = _chain(packet, self._packets)
                self._next = landed
                return
        raise _SeekFailed


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
