"""Where each frame of a video lies among its packets, found without decoding.

Frame i is the i-th picture that decoding the file from its start gives, counted from 0. Decoders give
pictures in the order of their times of presentation, so the i-th smallest time is that of frame i. What would
make that untrue is looked for (:func:`build_index`); such a file has no index and is read from its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.data.video import INDEX_TIMED, decode_errors, open_video

_TRIED_PACKETS = 8
_KEPT = 512
_REORDERING_KNOWN = frozenset({"mpeg4", "mjpeg", "msmpeg4v3", "msmpeg4v2", "dvvideo", "huffyuv", "ffv1"})
"""Codecs whose headers tell FFmpeg, before anything is decoded, whether frames are reordered."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """Frames in the order in which they are shown, and packets in the order in which they lie.

    Attributes:
        shown: time of each frame, ticks of the stream, ascending, (N,).
        packet: number of each frame's packet, (N,).
        start: number of the key frame's packet that decoding begins at for each frame, (N,).
        times: time of each packet, (P,); P > N where some are decoded and never shown.
        starts_at: time by which a packet is found when seeking (that of decoding where known), (P,).
    """

    shown: Numbers
    packet: Numbers
    start: Numbers
    times: Numbers
    starts_at: Numbers

    def __len__(self) -> int:
        return len(self.shown)


def find_index(path: Path) -> VideoIndex | None:
    """Return a video's index, made once in each process, or None where it must be read from its start.

    Raises:
        OSError: The file can't be looked at.
    """
    status = path.stat()
    return _find_index(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=_KEPT)
def _find_index(path: Path, _changed_ns: int, _size: int) -> VideoIndex | None:
    try:
        with open_video(path) as container:
            return build_index(container)
    except decode_errors():  # whoever reads it from its start will say what is wrong
        return None


def build_index(container: Any) -> VideoIndex | None:
    """Read the packets of an open container, which is at its end afterwards.

    There is no index where

    - the format stores no times of presentation and frames may be reordered (AVI with B-frames),
    - times are missing, or two packets have the same,
    - a packet is marked as damaged,
    - the first packet is no key frame, or frames before it in time would follow it,
    - decoding the first packets doesn't give the frames that their times promise (two fields in two packets).
    """
    if not container.streams.video or container.streams.video[0].codec_context is None:
        return None
    stream = container.streams.video[0]
    codec = stream.codec_context
    if container.format.name in INDEX_TIMED and (codec.has_b_frames or codec.name not in _REORDERING_KNOWN):
        return None
    rows: list[tuple[int, int, bool, bool]] = []
    first: list[Any] = []
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.pts is None or packet.is_corrupt:
            return None
        if len(first) < _TRIED_PACKETS:
            first.append(packet)
        at = packet.pts if packet.dts is None else packet.dts
        rows.append((packet.pts, at, packet.is_keyframe, packet.is_discard))
    index = _arrange(rows)
    return index if index is not None and _promises_hold(index, codec, first) else None


def _arrange(rows: list[tuple[int, int, bool, bool]]) -> VideoIndex | None:
    if not rows:
        return None
    table = np.array(rows, np.int64)
    times, starts_at, is_key, is_dropped = table.T
    if len(np.unique(times)) < len(times) or not is_key[0] or times.min() < times[0]:
        return None
    order = np.argsort(times)
    order = order[is_dropped[order] == 0]
    keys = np.flatnonzero(is_key)
    shown = times[order]
    # The last key frame that is shown no later: what is shown after it needs nothing from before it.
    by_time = keys[np.argsort(times[keys])]
    start = by_time[np.searchsorted(times[by_time], shown, side="right") - 1]
    if (start > order).any():
        return None
    return VideoIndex(shown=shown, packet=order, start=start, times=times, starts_at=starts_at)


def _promises_hold(index: VideoIndex, codec: Any, packets: list[Any]) -> bool:
    frames = [frame for packet in packets for frame in codec.decode(packet)]
    frames += codec.decode(None)
    # Reordering may hold back what the last of these packets is needed for; it may not leave out any.
    given = np.array([-1 if frame.pts is None else frame.pts for frame in frames], np.int64)
    promised = np.sort(index.times[: len(packets)])
    promised = promised[np.isin(promised, index.shown)]
    return bool(np.array_equal(given, promised))
