"""Annotated videos: each frame with what was said about it, and when."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from praxiscope.data.video import Frame, Sampling, VideoUnreadable, read_frames
from praxiscope.prediction.annotate import Layout, annotate, format_caption, plan_layout
from praxiscope.prediction.ranking import Guess
from praxiscope.prediction.segments import Spoken, find_stretch, list_stretches
from praxiscope.prediction.video_writer import VideoWriter

_MOST_PLANNED = 200
"""Class names that the layout of a video is planned for; of more, the longest."""


class Film:
    """One annotated MP4.

    Args:
        path: Its place; its folder is made.
        size: (width, height) of the frames in pixels.
        names: All labels that may be drawn, so that every frame has the same layout.
    """

    def __init__(self, path: Path, size: tuple[int, int], names: Iterable[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        longest = sorted(names, key=len)[-_MOST_PLANNED:]
        self._layout = plan_layout(size, [format_caption(name, 1.0) for name in longest])
        self._writer = VideoWriter(path, self._layout.canvas)

    def add(self, frame: Frame, guess: Guess | None) -> None:
        """Add a frame with an answer, or as it is where there is none yet."""
        if guess is None:
            self._writer.write(_pad(frame.image, self._layout), frame.time_s)
            return
        caption = format_caption(guess.label, guess.probability)
        layout = self._layout if _fits(frame.image, self._layout) else None
        self._writer.write(annotate(frame.image, caption, layout), frame.time_s)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def film_windows(
    source: Path, spoken: list[Spoken], path: Path, names: Iterable[str], *, max_pixels: int
) -> None:
    """Read a video once more and write it with the answer of each moment.

    The answer of a window is known when its last frame was seen, and speaks for the time around its middle:
    holding all frames until then would take gigabytes, so they are decoded again.

    Args:
        source: The video.
        spoken: What was said about its windows, by their start; at least one.
        path: Of the MP4.
        names: As for :class:`Film`.
        max_pixels: Cap on width x height.
    """
    stretches = list_stretches(spoken)
    film: Film | None = None
    try:
        for frame in read_frames(source, Sampling(), max_pixels=max_pixels):
            if frame.time_s > spoken[-1].end_s:
                break
            film = film or Film(path, frame.image.size, names)
            film.add(frame, find_stretch(stretches, frame.time_s).guess)
    except VideoUnreadable:
        pass  # it broke off where it did before: that is among the failures already
    finally:
        if film is not None:
            film.close()


def _pad(image: Image.Image, layout: Layout) -> Image.Image:
    if not _fits(image, layout):
        return image
    canvas = Image.new("RGB", layout.canvas)
    canvas.paste(image, (0, 0))
    return canvas


def _fits(image: Image.Image, layout: Layout) -> bool:
    """Whether a frame has the size that the layout was planned for; some videos change it on the way."""
    return image.size == layout.canvas or (layout.below and image.height < layout.canvas[1])
