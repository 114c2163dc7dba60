"""Annotated pictures, frames, strips of clips, and videos in the output folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.prediction.annotate import annotate, format_caption
from praxiscope.prediction.clips import Clip
from praxiscope.prediction.films import Film, film_windows
from praxiscope.prediction.pictures import Picture
from praxiscope.prediction.ranking import Guess, find_best
from praxiscope.prediction.segments import Spoken
from praxiscope.prediction.sources import Item, OutputNames
from praxiscope.prediction.stream import Prediction
from praxiscope.tensors import Heads

_JPEG_LARGEST = 65_500  # pixels of a side that the format can say
_STRIP_FRAMES = 8
"""Frames of a strip at most; of more, these are evenly spread."""


class Drawings:
    """Writes what was predicted onto the pictures.

    Args:
        folder: gets the files, below it the paths of the items.
        heads: what the logits stand for.
        images: write pictures, and frames of videos that don't become a video; of clips a strip of the frames
            that the network saw.
        video: write one MP4 for each video instead of its frames.
        max_pixels: cap on width x height of a video's frames.
    """

    def __init__(
        self,
        folder: Path,
        heads: Heads,
        *,
        images: bool,
        video: bool,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self._folder = folder
        self._heads = heads
        self._images = images
        self._video = video
        self._max_pixels = max_pixels
        self._paths = OutputNames()
        self._film: Film | None = None
        self._filmed: Item | None = None
        self._spoken: list[Spoken] = []
        self._last: Guess | None = None
        self.written = 0

    def write(self, prediction: Prediction) -> None:
        """Draw one prediction; predictions of one video come one after the other."""
        sample = prediction.picture
        if isinstance(sample, Clip):
            self._draw_clip(sample, find_best(prediction, self._heads))
        else:
            self._draw_picture(sample, find_best(prediction, self._heads))

    def close(self) -> None:
        """Finish the video that is open."""
        if self._spoken and self._filmed is not None:
            spoken, self._spoken = self._spoken, []
            path = self._choose_film(self._filmed)
            film_windows(self._filmed.path, spoken, path, self._list_answers(), max_pixels=self._max_pixels)
            self.written += path.is_file()
        if self._film is not None:
            self._film.close()
            self.written += 1
        self._film, self._filmed, self._last = None, None, None

    def _draw_picture(self, picture: Picture, guess: Guess) -> None:
        frame = picture.frame
        if frame is not None and self._video:
            if self._filmed is not picture.item or self._film is None:
                self.close()
                self._filmed = picture.item
                path = self._choose_film(picture.item)
                self._film = Film(path, frame.image.size, self._list_answers())
            self._film.add(frame, guess)
        elif self._images:
            name = picture.item.name
            if frame is not None:
                name = f"{name}/frame-{frame.index:06d}.jpg"
            self._save(annotate(picture.decode(), format_caption(guess.label, guess.probability)), name)

    def _draw_clip(self, clip: Clip, guess: Guess) -> None:
        if clip.item is not self._filmed:
            self.close()
            self._filmed = clip.item
        if self._video and clip.item.kind == "camera":
            self._film_camera(clip, guess)
        elif self._video and clip.start_s is not None and clip.end_s is not None:
            self._spoken.append(Spoken(start_s=clip.start_s, end_s=clip.end_s, guess=guess))
        elif self._images:
            name = clip.item.name
            if not clip.whole:
                name = f"{name}/from-{clip.start_s:09.2f}s.jpg"
            self._save(draw_strip(clip, guess), name)

    def _film_camera(self, clip: Clip, guess: Guess) -> None:
        """Add a camera's frames with the answer that was the newest when they came."""
        for frame in clip.shown:
            if self._film is None:
                path = self._choose_film(clip.item)
                self._film = Film(path, frame.image.size, self._list_answers())
            self._film.add(frame, self._last)
        self._last = guess

    def _choose_film(self, item: Item) -> Path:
        return self._folder / self._paths.choose(item.name, ".mp4")

    def _list_answers(self) -> list[str]:
        """Return labels of which the longest is as long as any that may be drawn."""
        if len(self._heads.names) == 1:
            return list(next(iter(self._heads.names.values())))
        return [" + ".join(max(names, key=len) for names in self._heads.names.values())]

    def _save(self, image: Image.Image, name: str) -> None:
        large = max(image.size) > _JPEG_LARGEST
        path = self._folder / self._paths.choose(name, ".png" if large else ".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        if large:
            image.save(path, format="PNG")
        else:
            image.save(path, format="JPEG", quality=92, subsampling=0)  # letters stay sharp
        self.written += 1


def draw_strip(clip: Clip, guess: Guess) -> Image.Image:
    """Return the frames that the network saw, as it saw them, side by side with its answer.

    Args:
        clip: That was read; of several views the first is drawn.
        guess: The answer.
    """
    assert clip.views is not None
    frames = clip.views[0]
    shown = np.unique(np.linspace(0, len(frames) - 1, min(_STRIP_FRAMES, len(frames))).astype(int))
    strip = Image.fromarray(np.concatenate(list(frames[shown]), axis=1))
    return annotate(strip, format_caption(guess.label, guess.probability))
