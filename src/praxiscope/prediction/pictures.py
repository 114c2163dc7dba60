"""Pictures to be predicted: files, decoded when somebody needs them, and frames, held until then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from praxiscope.data.images import DEFAULT_MAX_PIXELS, decode_image, open_image, read_orientation
from praxiscope.data.video import Frame, Sampling, read_frames
from praxiscope.prediction.camera import read_camera
from praxiscope.prediction.sources import Item

_TURNED = range(5, 9)
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image file, or one frame of a video.

    Attributes:
        item: where it comes from.
        frame: of a video; None for an image file.
        max_pixels: cap on width x height of a file.
    """

    item: Item
    frame: Frame | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS

    def decode(self, target_size: int | None = None) -> Image.Image:
        """Return it upright, as mode RGB.

        Args:
            target_size: short side in pixels that is enough; see :func:`praxiscope.data.images.read_image`.

        Raises:
            ImageUnreadable: the file can't be decoded whole.
        """
        if self.frame is not None:
            return self.frame.image
        return decode_image(self.item.path, target_size=target_size, max_pixels=self.max_pixels)

    def read_size(self) -> tuple[int, int]:
        """Return (width, height) in pixels, upright, without decoding.

        Raises:
            ImageUnreadable: the file is no image.
        """
        if self.frame is not None:
            return self.frame.image.size
        with open_image(self.item.path, max_pixels=self.max_pixels) as image:
            width, height = image.size
            return (height, width) if read_orientation(image) in _TURNED else (width, height)

    @property
    def held_bytes(self) -> int:
        """Memory that its pixels hold."""
        if self.frame is None:
            return 0
        width, height = self.frame.image.size
        return 3 * width * height


def iterate_pictures(
    item: Item, sampling: Sampling, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Iterator[Picture]:
    """Yield an item's pictures: itself, or a video's or camera's chosen frames.

    Raises:
        VideoUnreadable: A video can't be read, or not to its end.
        EnvironmentProblem: There is no such camera.
    """
    if item.kind == "image":
        yield Picture(item=item, max_pixels=max_pixels)
        return
    if item.kind == "video":
        frames = read_frames(item.path, sampling, max_pixels=max_pixels)
    else:
        frames = read_camera(int(str(item.path)), sampling, max_pixels=max_pixels)
    for frame in frames:
        yield Picture(item=item, frame=frame)
