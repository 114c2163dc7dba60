"""Clips to be predicted: whole videos and frame folders, read in their turn, and windows of long videos."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from praxiscope.data.clips.probe import survey_video
from praxiscope.data.clips.spans import Span
from praxiscope.data.clips.views import ClipRule, Views, crop_frame, read_views, stack_views
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.transforms import EvalTransform
from praxiscope.data.video import Frame, Sampling, read_frames
from praxiscope.prediction.camera import read_camera
from praxiscope.prediction.sources import Item
from praxiscope.prediction.windows import Windowing, cut_windows


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A video, a folder of frames, or one window of a video or camera.

    Attributes:
        item: where it comes from.
        span: its frames in the video; None until a whole video is read.
        start_s: seconds since the video's first frame; None where frames have no times.
        end_s: its end.
        size: (width, height) in pixels, upright; of a whole video known once it is read.
        views: what the network is fed, of a window; None of a whole video until it is read.
        shown: a camera's frames since the window before, where a film is made of them.
        broken: why its video ends before its end, of a whole one; windows say so by themselves.
        windowing: how its video was cut into windows; None where it is all of it.
        max_pixels: cap on width x height.
    """

    item: Item
    span: Span | None = None
    start_s: float | None = None
    end_s: float | None = None
    size: tuple[int, int] = (0, 0)
    views: Views | None = None
    shown: tuple[Frame, ...] = ()
    broken: str | None = None
    windowing: Windowing | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS

    def read(self, rule: ClipRule, transform: EvalTransform) -> Clip:
        """Return it with its pixels.

        Raises:
            ImageUnreadable: It can't be read.
        """
        if self.views is not None:
            return self
        path = self.item.path
        count, rate, broken = survey_video(path)
        span = Span(first=0, count=count)
        views, size = read_views(path, span, rule, transform, max_pixels=self.max_pixels)
        end_s = count / rate if rate else None
        start_s = None if end_s is None else 0.0
        return replace(self, span=span, views=views, size=size, start_s=start_s, end_s=end_s, broken=broken)

    def read_again(self, rule: ClipRule, transform: EvalTransform) -> Views:
        """Return what another network is fed of the same clip, (V, T, S, S, 3); not of a camera's.

        Raises:
            ImageUnreadable: It can't be read any more.
        """
        assert self.span is not None
        views, _ = read_views(self.item.path, self.span, rule, transform, max_pixels=self.max_pixels)
        return views

    @property
    def whole(self) -> bool:
        """Whether it was read as one clip."""
        return self.windowing is None

    @property
    def held_bytes(self) -> int:
        """Memory that its pixels hold."""
        frames = sum(3 * frame.image.width * frame.image.height for frame in self.shown)
        return frames + (0 if self.views is None else self.views.nbytes)


def iterate_windows(
    item: Item,
    windowing: Windowing,
    sampling: Sampling,
    rule: ClipRule,
    transform: EvalTransform,
    *,
    keep_frames: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Clip]:
    """Yield a video's or camera's windows as clips.

    Args:
        item: A video or a camera.
        windowing: Length and stride.
        sampling: How many frames at most; all of them are decoded.
        rule: Which frames of a window the network sees.
        transform: Evaluation's.
        keep_frames: Hand a camera's own frames over with the window that they came for.
        max_pixels: Cap on width x height.

    Raises:
        VideoUnreadable: It can't be read, or not to its end: before, the windows up to there were yielded.
        EnvironmentProblem: There is no such camera.
    """
    seen: list[Frame] = []
    if item.kind == "camera":
        frames = read_camera(int(str(item.path)), sampling, max_pixels=max_pixels)
    else:
        frames = read_frames(item.path, sampling, max_pixels=max_pixels)
    shrink = functools.partial(crop_frame, rule=rule, transform=transform)
    for window in cut_windows(_watch(frames, seen) if keep_frames else frames, windowing, shrink):
        crops = dict(enumerate(window.crops))
        yield Clip(
            item=item,
            span=Span(first=window.first, count=len(window.crops)),
            start_s=window.start_s,
            end_s=window.end_s,
            size=window.size,
            views=stack_views(rule.list_views(len(crops)), crops),
            shown=tuple(seen),
            windowing=windowing,
            max_pixels=max_pixels,
        )
        seen.clear()


def _watch(frames: Iterable[Frame], seen: list[Frame]) -> Iterator[Frame]:
    for frame in frames:
        seen.append(frame)
        yield frame
