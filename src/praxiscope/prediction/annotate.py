"""A label and its confidence drawn on a picture, to be read at any size.

The picture keeps every pixel at its place and scale. Text stands in a dark box with a light edge, so it shows
on black and on white. Its size follows the picture's short side; what is too long for a line is broken, never
cut. Where the text would hide most of a small picture, the canvas grows below it and the text stands there.
"""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

BOX, EDGE, INK = (24, 27, 31), (235, 235, 235), (255, 255, 255)
_SMALLEST, _SHARE = 11, 0.045
"""Height of the letters: at least so many pixels, else this share of the picture's short side."""
_MOST_HIDDEN = 0.34
"""A box that would hide a larger share of the picture's height goes below it."""
_LEAST_WIDTH = 120
"""Width in pixels that the canvas grows to, where text goes below a picture that is narrower."""
_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf", "msyh.ttc", "msgothic.ttc", "malgun.ttf", "Nirmala.ttf", "segoeui.ttf",
    "DroidSansFallbackFull.ttf", "unifont.otf",
)  # fmt: skip
_NO_CHARACTER = "\ufffe"  # Unicode promises never to assign it, so fonts draw their "missing" box
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where text goes on pictures of one size.

    Attributes:
        letter_px: height of the letters' line.
        below: the text stands below the picture.
        canvas: (width, height) in pixels of what is drawn.
    """

    letter_px: int
    below: bool
    canvas: tuple[int, int]


def plan_layout(size: tuple[int, int], captions: Iterable[str]) -> Layout:
    """Plan for pictures of one size such that each of the captions fits.

    Args:
        size: (width, height) of the pictures, pixels.
        captions: every text that may come; of a video those of all classes, so that its frames stay equal.
    """
    width, height = size
    letter_px = max(_SMALLEST, round(_SHARE * min(size)))
    texts = list(captions)
    tallest = max(_measure(text, letter_px, width)[1] for text in texts)
    narrow = any(_measure(text, letter_px, width)[0] > width for text in texts)
    if tallest <= _MOST_HIDDEN * height and not narrow:
        return Layout(letter_px=letter_px, below=False, canvas=size)
    canvas_width = max(width, _LEAST_WIDTH)
    strip = max(_measure(text, letter_px, canvas_width)[1] for text in texts)
    return Layout(letter_px=letter_px, below=True, canvas=(canvas_width, height + strip))


def format_caption(label: str, probability: float) -> str:
    """Return ``label 93.1 %`` in one line, control characters made visible."""
    plain = "".join("\u25a1" if unicodedata.category(letter)[0] == "C" else letter for letter in label)
    return f"{plain}  {100 * probability:.1f} %"


def annotate(image: Image.Image, caption: str, layout: Layout | None = None) -> Image.Image:
    """Return a copy of a picture with a caption.

    Args:
        image: RGB.
        caption: As of :func:`format_caption`.
        layout: Of :func:`plan_layout`; by default one for this picture alone.
    """
    layout = layout or plan_layout(image.size, [caption])
    canvas = Image.new("RGB", layout.canvas, BOX)
    canvas.paste(image, (0, 0))
    font = load_font(caption, layout.letter_px)
    padding = _padding(layout.letter_px)
    lines = break_lines(caption, font, layout.canvas[0] - 2 * padding)
    width, height = _measure_lines(lines, font, layout.letter_px)
    top = image.height if layout.below else 0
    pen = ImageDraw.Draw(canvas)
    if not layout.below:
        pen.rectangle((0, 0, width - 1, height - 1), fill=BOX, outline=EDGE, width=max(1, padding // 4))
    for row, line in enumerate(lines):
        pen.text(
            (padding, top + padding + row * _line_height(font, layout.letter_px)), line, fill=INK, font=font
        )
    return canvas


def break_lines(text: str, font: _Font, width: float) -> list[str]:
    """Break text at spaces and underscores, or inside a word that is longer than a line.

    Args:
        text: One line.
        font: To measure with.
        width: Pixels of a line; a single letter always fits.
    """
    lines: list[str] = []
    rest = text
    while rest:
        fits = _count_fitting(rest, font, width)
        if fits < len(rest):
            breaks = [place for place in range(1, fits + 1) if rest[place - 1] in " _-" or rest[place] == " "]
            fits = breaks[-1] if breaks else fits
        lines.append(rest[:fits].rstrip())
        rest = rest[fits:].lstrip(" ")
    return lines or [""]


@functools.lru_cache(maxsize=256)
def load_font(text: str, letter_px: int) -> _Font:
    """Return the first font that can draw every letter: Pillow's own, matplotlib's, one of the system's.

    Letters that none can draw show as boxes.
    """
    own = ImageFont.load_default(letter_px)
    if _can_draw(own, text):
        return own
    fallback: _Font = own
    for place in _list_fonts():
        try:
            font = ImageFont.truetype(place, letter_px)
        except OSError:  # this system hasn't got it
            continue
        if _can_draw(font, text):
            return font
        if fallback is own:  # matplotlib's knows more letters than Pillow's
            fallback = font
    return fallback


def _list_fonts() -> list[str]:
    # Found without importing matplotlib, which takes a third of a second.
    spec = importlib.util.find_spec("matplotlib")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf" for folder in folders]
    return [*map(str, found), *_SYSTEM_FONTS]


def _can_draw(font: _Font, text: str) -> bool:
    missing = bytes(font.getmask(_NO_CHARACTER))
    return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in set(text))


@functools.lru_cache(maxsize=4096)
def _measure(text: str, letter_px: int, width: int) -> tuple[int, int]:
    """Return (width, height) of the box that a caption needs on a picture of some width."""
    font = load_font(text, letter_px)
    return _measure_lines(break_lines(text, font, width - 2 * _padding(letter_px)), font, letter_px)


def _measure_lines(lines: Sequence[str], font: _Font, letter_px: int) -> tuple[int, int]:
    padding = _padding(letter_px)
    widest = max(font.getlength(line) for line in lines)
    return round(widest + 0.5) + 2 * padding, len(lines) * _line_height(font, letter_px) + 2 * padding


def _padding(letter_px: int) -> int:
    return max(2, letter_px // 3)


def _line_height(font: _Font, letter_px: int) -> int:
    if isinstance(font, ImageFont.FreeTypeFont):
        ascent, descent = font.getmetrics()
        return max(letter_px, ascent + descent)
    return letter_px


def _count_fitting(text: str, font: _Font, width: float) -> int:
    """Return how many letters from the start fit, at least one."""
    if font.getlength(text) <= width:
        return len(text)
    low, high = 1, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle
    return low
