"""What a clip's source holds. Frames are counted, not believed: truncated videos declare what they lack."""

from __future__ import annotations

from pathlib import Path

from praxiscope.data.clips.frames import is_tar, list_frames
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.video import VideoUnreadable, survey_pictures


def probe_video(path: Path) -> tuple[int, float | None]:
    """Return the number of frames that can be had, and frames a second where the file says.

    Args:
        path: A video, or a folder or tar of pictures.

    Raises:
        ImageUnreadable: It can't be opened, or holds no picture.
        OSError: A folder or tar can't be read.
    """
    return survey_video(path)[:2]


def survey_video(path: Path) -> tuple[int, float | None, str | None]:
    """Return what :func:`probe_video` does, and why a video ends before its end; None where it is whole."""
    if path.is_dir() or is_tar(path):
        return len(list_frames(path)), None, None
    try:
        return survey_pictures(path)
    except VideoUnreadable as problem:
        raise ImageUnreadable(problem.reason) from problem
