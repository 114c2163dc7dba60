"""What a video file holds. Frames are counted, not believed: truncated files declare what they lack."""

from __future__ import annotations

from pathlib import Path

from praxiscope.data.images import ImageUnreadable
from praxiscope.data.video import VideoUnreadable, count_pictures


def probe_video(path: Path) -> tuple[int, float | None]:
    """Return the number of frames that can be had, and frames a second where the file says.

    Raises:
        ImageUnreadable: It can't be opened, or holds no picture.
    """
    try:
        return count_pictures(path)
    except VideoUnreadable as problem:
        raise ImageUnreadable(problem.reason) from problem
