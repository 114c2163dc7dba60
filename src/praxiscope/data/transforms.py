"""From a decoded image to the uint8 square that the model sees.

Every random number comes from a generator that the caller seeds with (seed, epoch, sample), so that a
sample looks the same whatever thread or process makes it, and whenever training is resumed. Library
policies draw from a global generator, which threads share: that is why the drawing is done here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.augment import apply_policy, color_jitter
from praxiscope.data.resample import mirror, resize_crop, resize_region
from praxiscope.recipe.schema import AugmentSection

Interpolation = Literal["bilinear", "bicubic"]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
ImageHWC = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model wants to be fed.

    Attributes:
        img_size: side of the square input, pixels.
        interpolation: filter of every resize.
        crop_pct: share of the resized short side that the evaluation crop keeps.
        mean: RGB mean in units of [0, 1]; also fills what an augmentation leaves empty.
    """

    img_size: int
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 0.875
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def resize_size(self) -> int:
        """Short side in pixels before the evaluation crop."""
        return math.floor(self.img_size / self.crop_pct)

    @property
    def fill(self) -> tuple[int, int, int]:
        """Mean colour as uint8 RGB."""
        red, green, blue = (round(255 * channel) for channel in self.mean)
        return red, green, blue


@dataclass(frozen=True, kw_only=True)
class EvalTransform:
    """Resize the short side, then crop a square: no random number anywhere."""

    spec: InputSpec

    @property
    def decode_size(self) -> int:
        """Short side that the decoder must at least deliver."""
        return self.spec.resize_size

    def __call__(self, image: Image.Image | ImageHWC, place: float = 0.5) -> ImageHWC:
        """Return the (S, S, 3) uint8 crop of an RGB image, or of packed pixels (H, W, 3).

        The crop lies in the centre; along the longer side at ``place``, 0 for left or top, 1 for the other
        end.
        Cropping a source box while resizing touches only the pixels that are kept; it equals
        resize-then-crop to within rounding.
        """
        box = self.find_box(_measure(image), place)
        if isinstance(image, np.ndarray):
            return resize_region(image, box, self.spec.img_size, self.spec.interpolation)
        return np.asarray(_resize(image, box, self.spec))

    def find_box(self, size: tuple[int, int], place: float = 0.5) -> tuple[float, float, float, float]:
        """Return what is kept of an image of that (width, height): left, top, right, bottom, its pixels."""
        width, height = size
        side = min(height, width) * self.spec.img_size / self.spec.resize_size
        left, top = (width - side) / 2, (height - side) / 2
        if place != 0.5:
            left, top = ((width - side) * place, top) if width > height else (left, top)
            top = (height - side) * place if height > width else top
        return left, top, left + side, top + side


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """Random resized crop (or a crop out of padding), flip, policy, colour jitter, erasing: in this order."""

    spec: InputSpec
    augment: AugmentSection

    @property
    def decode_size(self) -> int:
        """Short side to decode: enough for a crop of the smallest area at little loss."""
        if self.augment.crop_padding:
            return self.spec.img_size
        low, high = self.augment.crop_scale
        typical = math.sqrt((low + high) / 2)
        return round(self.spec.img_size / typical)

    def __call__(self, image: Image.Image | ImageHWC, rng: np.random.Generator) -> ImageHWC:
        """Return the augmented (S, S, 3) uint8 crop of an RGB image, or of packed pixels (H, W, 3).

        Both draw the same random numbers; packed pixels go through a faster resampler.
        """
        square = self._cut(image, rng)
        if rng.random() < self.augment.hflip:
            square = self.mirror(square)
        if self.augment.policy != "none" or self.augment.color_jitter:
            square = self._repaint(_to_picture(square), rng)
        array = square if isinstance(square, np.ndarray) else np.array(square)
        if self.augment.random_erasing and rng.random() < self.augment.random_erasing:
            erase(array, rng, fill=self.spec.fill, area=self.augment.erasing_area)
        return array

    def mirror(self, square: Image.Image | ImageHWC) -> Image.Image | ImageHWC:
        """Return the mirror image, left to right."""
        return _mirror(square)

    def _cut(self, image: Image.Image | ImageHWC, rng: np.random.Generator) -> Image.Image | ImageHWC:
        """Draw a square out of the image: a picture out of a picture, pixels out of packed pixels."""
        if self.augment.crop_padding:
            return crop_padded(_to_picture(image), self.spec, self.augment.crop_padding, rng)
        box = draw_crop(_measure(image), self.augment.crop_scale, self.augment.crop_ratio, rng)
        if isinstance(image, np.ndarray):
            return resize_crop(image, box, self.spec.img_size, self.spec.interpolation)
        return _resize(image, box, self.spec)

    def _repaint(self, picture: Image.Image, rng: np.random.Generator) -> ImageHWC:
        picture = apply_policy(picture, self.augment, rng, fill=self.spec.fill)
        if self.augment.color_jitter:
            picture = color_jitter(picture, self.augment.color_jitter, rng)
        return np.array(picture)


def draw_crop(
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Draw the box of a random resized crop (Szegedy et al. 2015, as torchvision defines it).

    Args:
        size: (width, height) in pixels.
        scale: bounds of the box's area as a share of the image.
        ratio: bounds of width over height, drawn evenly in the logarithm.
        rng: source of every draw.

    Returns:
        (left, top, right, bottom) in pixels. After ten boxes that don't fit, and where area and ratio leave
        no choice, the largest centred box whose ratio is allowed.
    """
    width, height = size
    # A square of the whole area fits a nearly square image by rounding: nothing is to be drawn then.
    tries = 0 if scale[0] == 1 and ratio[0] == ratio[1] else 10
    for _ in range(tries):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    allowed = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * allowed)), min(height, round(width / allowed))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def crop_padded(image: Image.Image, spec: InputSpec, padding: int, rng: np.random.Generator) -> Image.Image:
    """Cut a square at a random place out of an image with a border of mean colour (He et al. 2016, sec. 4.2).

    Args:
        image: RGB; an image whose short side is not ``spec.img_size`` is resized so that it is.
        spec: the square's side and the border's colour.
        padding: width of the border in pixels of the result.
        rng: source of every draw.
    """
    side = spec.img_size
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), _FILTERS[spec.interpolation], reducing_gap=3.0)
    left = int(rng.integers(-padding, width + padding - side + 1))
    top = int(rng.integers(-padding, height + padding - side + 1))
    square = Image.new("RGB", (side, side), spec.fill)
    square.paste(image, (-left, -top))
    return square


def erase(
    array: ImageHWC,
    rng: np.random.Generator,
    *,
    fill: tuple[int, int, int],
    area: tuple[float, float] = (0.02, 1 / 3),
) -> None:
    """Paint a random rectangle of aspect 0.3 to 3.3 in place (Zhong et al. 2020).

    Args:
        array: uint8, (H, W, 3), changed in place.
        rng: source of every draw.
        fill: RGB of the rectangle.
        area: Bounds of its area as a share of the image.
    """
    height, width, _ = array.shape
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w < width and 0 < h < height:
            left, top = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            array[top : top + h, left : left + w] = np.array(fill, np.uint8)
            return


def _measure(image: Image.Image | ImageHWC) -> tuple[int, int]:
    """Return (width, height) in pixels."""
    if isinstance(image, np.ndarray):
        return image.shape[1], image.shape[0]
    return image.size


def _mirror(square: Image.Image | ImageHWC) -> Image.Image | ImageHWC:
    if isinstance(square, np.ndarray):
        return mirror(square)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _to_picture(image: Image.Image | ImageHWC) -> Image.Image:
    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def _resize(image: Image.Image, box: tuple[float, float, float, float], spec: InputSpec) -> Image.Image:
    size = (spec.img_size, spec.img_size)
    return image.resize(size, _FILTERS[spec.interpolation], box=box, reducing_gap=3.0)
