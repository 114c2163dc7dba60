"""Annotated pictures, frames and videos in the output folder."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from praxiscope.prediction.annotate import Layout, annotate, format_caption, plan_layout
from praxiscope.prediction.sources import Item, OutputNames
from praxiscope.prediction.stream import Prediction
from praxiscope.prediction.video_writer import VideoWriter

_JPEG_LARGEST = 65_500  # pixels of a side that the format can say
_MOST_PLANNED = 200
"""Class names that the layout of a video is planned for; of more, the longest."""


class Drawings:
    """Writes what was predicted onto the pictures.

    Args:
        folder: gets the files, below it the paths of the items.
        names: K label names.
        images: write pictures, and frames of videos that don't become a video.
        video: write one MP4 for each video instead of its frames.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], *, images: bool, video: bool) -> None:
        self._folder = folder
        self._names = names
        self._images = images
        self._video = video
        self._paths = OutputNames()
        self._film: VideoWriter | None = None
        self._filmed: Item | None = None
        self._layout: Layout | None = None
        self.written = 0

    def write(self, prediction: Prediction) -> None:
        """Draw one prediction; predictions of one video come one after the other."""
        picture = prediction.picture
        best = prediction.top(1)[0]
        caption = format_caption(self._names[best], float(prediction.probabilities[best]))
        if picture.frame is not None and self._video:
            self._add_to_film(prediction, caption)
        elif self._images:
            name = picture.item.name
            if picture.frame is not None:
                name = f"{name}/frame-{picture.frame.index:06d}.jpg"
            self._save(annotate(picture.decode(), caption), name)

    def close(self) -> None:
        """Finish the video that is open."""
        if self._film is not None:
            self._film.close()
            self.written += 1
            self._film = None

    def _add_to_film(self, prediction: Prediction, caption: str) -> None:
        frame = prediction.picture.frame
        assert frame is not None
        if self._filmed is not prediction.picture.item or self._film is None or self._layout is None:
            self.close()
            self._filmed = prediction.picture.item
            longest = sorted(self._names, key=len)[-_MOST_PLANNED:]
            self._layout = plan_layout(frame.image.size, [format_caption(name, 1.0) for name in longest])
            path = self._folder / self._paths.choose(self._filmed.name, ".mp4")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._film = VideoWriter(path, self._layout.canvas)
        image = annotate(frame.image, caption, self._layout if _fits(frame.image, self._layout) else None)
        self._film.write(image, frame.time_s)

    def _save(self, image: Image.Image, name: str) -> None:
        large = max(image.size) > _JPEG_LARGEST
        path = self._folder / self._paths.choose(name, ".png" if large else ".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        if large:
            image.save(path, format="PNG")
        else:
            image.save(path, format="JPEG", quality=92, subsampling=0)  # letters stay sharp
        self.written += 1


def _fits(image: Image.Image, layout: Layout) -> bool:
    """Whether a frame has the size that the layout was planned for; some videos change it on the way."""
    return image.size == layout.canvas or (layout.below and image.height < layout.canvas[1])
