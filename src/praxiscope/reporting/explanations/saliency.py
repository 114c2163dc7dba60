"""Saliency maps as pictures: the evaluated crop, the map over it, the map alone, and its colour scale.

Drawn with Pillow: an explanation makes dozens of these, and matplotlib takes a third of a second for each.
"""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image, ImageDraw

from praxiscope.prediction.annotate import break_lines, load_font
from praxiscope.reporting.explanations.maps import MAGNITUDE, SIGNED

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

OPACITY = 0.55
"""Of a map over the picture, where nobody chooses another."""
EMBEDDED_SIDE = 112
"""Side in pixels of a map inside a page: coarse maps have 5 to 14 cells, so that nothing is lost."""
_LEVELS = 64
_SIDE, _GAP, _BAR = 288, 14, 18
_INK, _MUTED, _PAPER = (29, 33, 38), (100, 107, 115), (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Which value has which colour.

    Attributes:
        low: value of the first colour.
        high: value of the last colour.
        signed: blue below zero, white at zero, orange above; else viridis.
    """

    low: float
    high: float
    signed: bool

    @property
    def is_flat(self) -> bool:
        """Whether there is nothing to show: all values are the same."""
        return not self.high > self.low


def choose_scale(low: float, high: float, *, signed: bool) -> Scale:
    """Return the scale of maps with these extreme values: symmetric about zero where maps have signs."""
    if not signed:
        return Scale(low=low, high=high, signed=False)
    reach = max(abs(low), abs(high))
    return Scale(low=-reach, high=reach, signed=True)


def colour_map(values: Values, scale: Scale) -> Pixels:
    """Return the colours of a map.

    Args:
        values: float (H, W).
        scale: Which value has which colour; a flat one gives the first colour, or white where maps have
            signs.

    Returns:
        uint8 (H, W, 3).
    """
    return _list_colours(scale.signed)[_to_levels(values, scale)]


def blend(image: Pixels, values: Values, scale: Scale, *, opacity: float = OPACITY) -> Pixels:
    """Lay a map's colours over the picture that it belongs to.

    Args:
        image: uint8 (H, W, 3).
        values: float (H, W).
        scale: Of the map.
        opacity: 0 shows the picture alone, 1 the map alone. Where maps have signs, values near zero let the
            picture through.

    Returns:
        uint8 (H, W, 3).
    """
    share = np.full(values.shape, opacity, np.float32)
    if scale.signed:
        share = opacity * _weigh(values, scale)
    mixed = image * (1 - share[..., None]) + colour_map(values, scale) * share[..., None]
    return np.rint(mixed).astype(np.uint8)


def draw_saliency(image: Pixels, values: Values, scale: Scale, *, title: str, note: str) -> Image.Image:
    """Draw the crop, the map over it and the map alone side by side, with the colour scale.

    Args:
        image: uint8 (S, S, 3), the crop that the network saw.
        values: float (S, S).
        scale: Of the map.
        title: One line, broken where it doesn't fit.
        note: Smaller, below it.

    Returns:
        An RGB picture, 920 px wide.
    """
    panels = [image, blend(image, values, scale), colour_map(values, scale)]
    width = 3 * _SIDE + 4 * _GAP
    words = [(line, 19, _INK) for line in _break(title, 19, width)]
    words += [(line, 14, _MUTED) for line in _break(note, 14, width)]
    top = _GAP + sum(_line_px(size) for _, size, _ in words) + 8
    canvas = Image.new("RGB", (width, top + _SIDE + _BAR + 58), _PAPER)
    pen = ImageDraw.Draw(canvas)
    y = _GAP
    for line, size, colour in words:
        pen.text((_GAP, y), line, fill=colour, font=load_font(line, size))
        y += _line_px(size)
    captions = ("what the network saw", "map over it", "map alone")
    for place, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        left = _GAP + place * (_SIDE + _GAP)
        picture = Image.fromarray(panel).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        canvas.paste(picture, (left, top))
        pen.text((left, top + _SIDE + 5), caption, fill=_MUTED, font=load_font(caption, 14))
    _draw_scale(canvas, scale, left=_GAP + _SIDE + _GAP, top=top + _SIDE + 30, width=2 * _SIDE + _GAP)
    return canvas


def encode_map(values: Values, scale: Scale) -> str:
    """Return a map as a small PNG inside a ``data:`` URI, to be laid over a picture by a page.

    Values near zero of a map with signs are transparent.
    """
    small = Image.fromarray(values.astype(np.float32)).resize(
        (EMBEDDED_SIDE, EMBEDDED_SIDE), Image.Resampling.BILINEAR
    )
    picture = Image.fromarray(_to_levels(np.asarray(small), scale).astype(np.uint8))
    picture.putpalette(_list_colours(scale.signed).tobytes())
    buffer = io.BytesIO()
    if scale.signed:
        middle = (_LEVELS - 1) / 2
        alphas = [round(255 * abs(level - middle) / middle) for level in range(_LEVELS)]
        picture.save(buffer, format="PNG", optimize=True, transparency=bytes(alphas))
    else:
        picture.save(buffer, format="PNG", optimize=True)
    return _to_uri(buffer.getvalue(), "png")


def encode_ramp(*, signed: bool) -> str:
    """Return the colours of a scale from low to high as a ``data:`` URI, one pixel high."""
    buffer = io.BytesIO()
    Image.fromarray(_list_colours(signed)[None]).save(buffer, format="PNG", optimize=True)
    return _to_uri(buffer.getvalue(), "png")


def encode_picture(image: Pixels | Image.Image, *, side: int, quality: int = 82) -> str:
    """Return a picture, reduced to a longest side in pixels, as a JPEG inside a ``data:`` URI."""
    small = image.copy() if isinstance(image, Image.Image) else Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, format="JPEG", quality=quality, optimize=True)
    return _to_uri(buffer.getvalue(), "jpeg")


def overlap(first: Values, second: Values) -> float | None:
    """Return how far two maps show the same places, in [0, 1].

    The sum over pixels of the smaller of both shares, each map being divided by its own sum after its values
    below zero are set to zero: 1 where both are proportional, 0 where they touch nowhere.

    Args:
        first: float (H, W).
        second: float (H, W).

    Returns:
        None where a map has no value above zero.
    """
    shares = [np.clip(values.astype(np.float64), 0, None) for values in (first, second)]
    if not all(values.sum() > 0 for values in shares):
        return None
    one, other = (values / values.sum() for values in shares)
    return float(np.minimum(one, other).sum())


def format_value(value: float) -> str:
    """Return a value of a map in three digits.

    >>> format_value(0.012345), format_value(0.0)
    ('0.0123', '0')
    """
    return f"{value:.3g}".replace("-", "\u2212")


def _to_levels(values: Values, scale: Scale) -> npt.NDArray[np.intp]:
    if scale.is_flat:
        level = _LEVELS // 2 if scale.signed else 0
        return np.full(values.shape, level, np.intp)
    share = (np.clip(values, scale.low, scale.high) - scale.low) / (scale.high - scale.low)
    levels: npt.NDArray[np.intp] = np.minimum(share * _LEVELS, _LEVELS - 1).astype(np.intp)
    return levels


def _weigh(values: Values, scale: Scale) -> Values:
    if scale.is_flat:
        return np.zeros(values.shape, np.float32)
    return np.clip(np.abs(values) / scale.high, 0, 1).astype(np.float32)


@functools.lru_cache(maxsize=2)
def _list_colours(signed: bool) -> Pixels:
    """Return uint8 (64, 3), from low to high."""
    table = SIGNED if signed else colormaps[MAGNITUDE]
    colours: Pixels = np.rint(255 * table(np.linspace(0, 1, _LEVELS))[:, :3]).astype(np.uint8)
    return colours


def _draw_scale(canvas: Image.Image, scale: Scale, *, left: int, top: int, width: int) -> None:
    pen = ImageDraw.Draw(canvas)
    if scale.is_flat:
        text = f"The map is the same everywhere ({format_value(scale.low)}): it shows nothing."
        pen.text((left, top), text, fill=_INK, font=load_font(text, 14))
        return
    ramp = Image.fromarray(_list_colours(scale.signed)[None]).resize((width, _BAR), Image.Resampling.BILINEAR)
    canvas.paste(ramp, (left, top))
    ends = [(scale.low, 0.0), (scale.high, 1.0)] + ([(0.0, 0.5)] if scale.signed else [])
    for value, share in ends:
        text = format_value(value)
        font = load_font(text, 14)
        x = left + share * (width - font.getlength(text))
        pen.text((x, top + _BAR + 3), text, fill=_MUTED, font=font)


def _break(text: str, size: int, width: int) -> list[str]:
    return break_lines(text, load_font(text, size), width - 2 * _GAP) if text else []


def _line_px(size: int) -> int:
    return round(1.35 * size)


def _to_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
