"""Resampling of packed pixels, several times as fast as Pillow's.

torch's antialiased filters are Pillow's (the same kernels and supports, in the same fixed-point numbers) in
vector instructions, and read the memory-mapped pixels as they lie. What differs from Pillow:

- single levels, from another rounding between the two passes;
- the edge of a training crop: the pixels outside it are not looked at (as torchvision's RandomResizedCrop has
  it, where Pillow's ``box`` does look);
- the place of an evaluation crop, by at most 1/12 of a source pixel: torch has no ``box``, so a start on a
  whole source pixel is sought that comes close (and Pillow is asked where there is none).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    import torch  # imported where it resizes: predicting with an ONNX file does without

ImageHWC = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
Interpolation = Literal["bilinear", "bicubic"]

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TRIED = 40  # starts that are looked at for one that falls on a whole pixel
_CLOSE, _GOOD = 0.08, 0.01  # source pixels from its place that a crop may be; that need no further search


def resize_crop(pixels: ImageHWC, box: tuple[int, int, int, int], size: int, mode: Interpolation) -> ImageHWC:
    """Cut a box of whole pixels out and resize it to a square.

    Args:
        pixels: uint8, (H, W, 3).
        box: (left, top, right, bottom) inside the image, pixels.
        size: S, pixels.
        mode: filter, antialiased where it reduces.

    Returns:
        uint8, (S, S, 3), contiguous.
    """
    import torch

    left, top, right, bottom = box
    if (right - left, bottom - top) == (size, size):
        return np.array(pixels[top:bottom, left:right], order="C")  # never a view of the mapped file
    source = _to_tensor(pixels[top:bottom, left:right])
    resized = torch.nn.functional.interpolate(source, size=(size, size), mode=mode, antialias=True)
    return _to_array(resized)


def resize_region(pixels: ImageHWC, box: Box, size: int, mode: Interpolation) -> ImageHWC:
    """Resize a box with fractional edges to a square, as Pillow does with the pixels around it in view.

    Args:
        pixels: uint8, (H, W, 3).
        box: (left, top, right, bottom) inside the image, pixels.
        size: S, pixels.
        mode: filter, antialiased where it reduces.

    Returns:
        uint8, (S, S, 3), contiguous.
    """
    import torch

    left, top, right, bottom = box
    height, width, _ = pixels.shape
    x = _plan_axis(left, (right - left) / size, width, size, _SUPPORT[mode])
    y = _plan_axis(top, (bottom - top) / size, height, size, _SUPPORT[mode])
    if max(x.error, y.error) > _CLOSE:
        picture = Image.fromarray(pixels).resize((size, size), _FILTERS[mode], box=box)
        return np.array(picture)
    if x.scale == y.scale == 1.0:
        return np.array(pixels[y.start + y.skip :, x.start + x.skip :][:size, :size], order="C")
    source = _to_tensor(_cut(pixels, x, y))
    resized = torch.nn.functional.interpolate(
        source,
        scale_factor=(1 / y.scale, 1 / x.scale),
        mode=mode,
        antialias=True,
        recompute_scale_factor=False,
    )
    return np.ascontiguousarray(_to_array(resized)[y.skip : y.skip + size, x.skip : x.skip + size])


def mirror(pixels: ImageHWC) -> ImageHWC:
    """Return the image turned left to right, contiguous; numpy takes ten times as long for it."""
    return _to_array(_to_tensor(pixels).flip(3))


class _Axis(NamedTuple):
    """Which source pixels to resize along an axis, and which of the result to leave out before the crop."""

    start: int
    """First source pixel; below 0, what lies before the image is black and none of the crop sees it."""
    stop: int
    """Source pixel behind the last."""
    skip: int
    """Output pixels before the crop."""
    scale: float
    """Source pixels an output pixel."""
    error: float
    """How far from its place the crop is, source pixels."""


@functools.lru_cache(maxsize=4096)  # images of a data set have few sizes
def _plan_axis(begin: float, scale: float, length: int, size: int, support: float) -> _Axis:
    """Find a whole source pixel and a whole number of output pixels that lead to ``begin``.

    Args:
        begin: Edge of the box, source pixels.
        scale: Source pixels an output pixel.
        length: Source pixels there are.
        size: Output pixels wanted.
        support: Of the filter, output pixels where it reduces, source pixels where it enlarges.
    """
    margin = support * max(scale, 1.0)
    nearest = math.ceil(min(margin, begin) / scale - 1e-9)  # steps back that keep the margin in view
    lowest = -math.inf if begin >= margin else 0  # the image's edge is in view: it must stay the edge
    offers = [
        (abs(begin - (start + skip * scale)), skip, start)
        for skip in range(nearest, nearest + _TRIED)
        if (start := round(begin - skip * scale)) >= lowest
    ]
    good = (offer for offer in offers if offer[0] <= _GOOD)  # the first is the cheapest
    error, skip, start = next(good, None) or min(offers, default=(math.inf, 0, 0))
    # One output pixel more than wanted, so that rounding down can't lose the last.
    stop = min(length, math.ceil(start + (skip + size + 1) * scale + margin))
    made = math.floor((stop - start) * (1 / scale))  # torch's own count of output pixels
    # As many as there are source pixels: torch would take that for nothing to do, whatever the scale.
    if made < skip + size or (made == stop - start and scale != 1.0):
        error = math.inf
    return _Axis(start, stop, skip, scale, error)


def _cut(pixels: ImageHWC, x: _Axis, y: _Axis) -> ImageHWC:
    if x.start >= 0 and y.start >= 0:
        return pixels[y.start : y.stop, x.start : x.stop]
    left, top = max(-x.start, 0), max(-y.start, 0)
    padded = np.zeros((y.stop - y.start, x.stop - x.start, 3), np.uint8)
    padded[top:, left:] = pixels[y.start + top : y.stop, x.start + left : x.stop]
    return padded


def _to_tensor(pixels: ImageHWC) -> torch.Tensor:
    """Return (1, 3, H, W) in channels-last order: the one that the fast path takes and gives."""
    import torch

    return torch.from_numpy(np.array(pixels, order="C")).unsqueeze(0).permute(0, 3, 1, 2)


def _to_array(images: torch.Tensor) -> ImageHWC:
    return np.ascontiguousarray(images.permute(0, 2, 3, 1)[0].numpy())
