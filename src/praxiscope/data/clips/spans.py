"""Where a clip lies in its video: first frame and number of frames, by a rule that is always stated."""

from __future__ import annotations

from dataclasses import dataclass

from praxiscope.errors import DataError
from praxiscope.recipe.schema import ClipSection


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A stretch of a video or of a folder of frames.

    Attributes:
        first: Its first frame, counted from 0 in the video.
        count: Its frames, at least 1.
    """

    first: int
    count: int


def resolve_span(start: int, stop: int, section: ClipSection) -> Span:
    """Turn an annotation's start and stop frame into a span.

    EPIC-KITCHENS-100 counts frames from 1, and its stop frame is read as one behind the last: ``frame_base``
    1, ``stop`` exclusive. Frames 1 to 3 are then the span of 2 frames from 0.

    Args:
        start: As annotated.
        stop: As annotated.
        section: ``frame_base`` and ``stop`` say how to read them.

    Raises:
        DataError: The start lies before the first frame, or the span holds no frame.
    """
    first = start - section.frame_base
    count = stop - start + (section.stop == "inclusive")
    if first < 0:
        raise DataError(
            f"start frame {start} lies before the first, which is {section.frame_base} (clip.frame_base)"
        )
    if count < 1:
        raise DataError(f"from frame {start} to {stop} ({section.stop}, clip.stop) there is no frame")
    return Span(first=first, count=count)
