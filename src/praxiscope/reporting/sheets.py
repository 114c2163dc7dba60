"""Sheets of what a network is fed: the sampled frames of a clip in their order, or an image and its crops."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from praxiscope.reporting.figures import INK, MUTED, drawable

_COLUMNS = (8, 4, 2)
_WIDEST_INCHES = 15.0
_CELL_INCHES = 1.7
_CAPTION_INCHES = 0.52
_LINE_INCHES = 0.2
_TITLE_CHARS_PER_INCH = 11


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        pixels: uint8 (H, W, 3).
        caption: below it; lines apart by a line break.
    """

    pixels: npt.NDArray[np.uint8]
    caption: str


def plot_sheet(rows: Sequence[Sequence[Cell]], title: str, lines: Sequence[str]) -> Figure:
    """Draw rows of pictures with what stands below each.

    Args:
        rows: One or more rows; a row is broken after 8 pictures, of wide ones after 4.
        title: Bold, the first line.
        lines: Further lines above the pictures.

    Returns:
        The figure; :func:`praxiscope.reporting.figures.save_figure` writes it.

    Raises:
        ValueError: There is no picture.
    """
    if not any(rows):
        raise ValueError("a sheet needs a picture: 'rows' is empty")
    height, width, _ = next(row for row in rows if row)[0].pixels.shape
    cell = _CELL_INCHES * min(2.0, max(1.0, width / height))
    fitting = next((n for n in _COLUMNS if n * cell * 1.04 <= _WIDEST_INCHES), _COLUMNS[-1])
    broken = [row[start : start + fitting] for row in rows for start in range(0, len(row), fitting)]
    columns = max(len(row) for row in broken)
    tall = cell * height / width
    sheet_width = max(6.0, columns * cell * 1.04 + 0.2)
    shown = _wrap([title, *lines], sheet_width)
    head = 0.15 + _LINE_INCHES * len(shown)
    captions = _CAPTION_INCHES * (1 + max(c.caption.count("\n") for row in broken for c in row)) / 2
    sheet_height = head + len(broken) * (tall + captions)
    figure = Figure(figsize=(sheet_width, sheet_height))
    for place, text in enumerate(shown):
        figure.text(
            0.1 / sheet_width, 1 - (0.08 + _LINE_INCHES * place) / sheet_height, text, va="top",
            fontsize=10 if place == 0 else 8.5, color=INK if place == 0 else MUTED,
            fontweight="bold" if place == 0 else "normal", parse_math=False,
        )  # fmt: skip
    for row, cells in enumerate(broken):
        top = head + row * (tall + captions)
        for column, each in enumerate(cells):
            left = 0.1 + column * cell * 1.04
            axes = figure.add_axes(
                (left / sheet_width, 1 - (top + tall) / sheet_height, cell / sheet_width, tall / sheet_height)
            )
            axes.imshow(each.pixels, interpolation="antialiased", aspect="equal")
            axes.set_axis_off()
            axes.text(
                0.5, -0.03, drawable_lines(each.caption), transform=axes.transAxes, ha="center", va="top",
                fontsize=8, color=INK, linespacing=1.25, parse_math=False,
            )  # fmt: skip
    return figure


def drawable_lines(text: str) -> str:
    """Return text with its line breaks, and everything else replaced that the figure font can't draw."""
    return "\n".join(drawable(line) for line in text.split("\n"))


def _wrap(lines: Sequence[str], inches: float) -> list[str]:
    chars = math.floor(inches * _TITLE_CHARS_PER_INCH)
    return [part for line in lines for part in textwrap.wrap(drawable(line), chars) or [""]]
