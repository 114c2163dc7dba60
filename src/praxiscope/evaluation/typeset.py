"""Words and columns of fixed-width text: how figures are written, shortened, wrapped and aligned."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

WIDTH = 100
"""Columns of a text report at most, unless a label's name needs more."""
_NAME_WIDTH = 36


def escape_controls(text: str) -> str:
    r"""Show characters that would break a line or steer a terminal by their escapes.

    >>> escape_controls("two\nlines")
    'two\\nlines'
    """
    return "".join(
        char
        if char == " " or unicodedata.category(char)[0] not in "CZ"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def measure_width(text: str) -> int:
    """Count the columns that text takes in a terminal: wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def align(rows: Sequence[Sequence[str]], *, left: Iterable[int] = (0,)) -> list[str]:
    """Pad the cells of each column to one width, to the right but for the columns named."""
    widths = [max(map(measure_width, column)) for column in zip(*rows, strict=True)]
    ragged = set(left)
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - measure_width(cell))
            cells.append(cell + padding if index in ragged else padding + cell)
        lines.append("  ".join(cells))
    return lines


def wrap(sentences: Iterable[str], bullet: str = "") -> list[str]:
    """Break sentences into lines of at most `WIDTH`, each begun with a bullet."""
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_long_words=False
    )
    return [line for sentence in sentences for line in wrapper.wrap(sentence)]


def shorten(name: str) -> str:
    """Escape a name and cut it to a column's width."""
    shown = escape_controls(name)
    if measure_width(shown) <= _NAME_WIDTH:
        return shown
    while measure_width(shown) > _NAME_WIDTH - 3:
        shown = shown[:-1]
    return f"{shown}..."


def show_percent(value: float | None) -> str:
    """Return ``0.783`` as ``78.3 %``, None as a dash."""
    return "-" if value is None else f"{100 * value:.1f} %"


def show_number(value: float | None) -> str:
    """Return a number with four decimals, None as a dash."""
    return "-" if value is None else f"{value:.4f}"


def show_span(low: float | None, high: float | None, show: Callable[[float | None], str]) -> str:
    """Return an interval as ``[76.4, 80.2]``, ``[-]`` where there is none."""
    return (
        "[-]"
        if low is None or high is None
        else f"[{show(low).removesuffix(' %')}, {show(high).removesuffix(' %')}]"
    )


def with_interval(figure: Mapping[str, float | None], show: Callable[[float | None], str]) -> str:
    """Return a figure with its interval behind it."""
    return f"{show(figure['value']):>7} {show_span(figure['low'], figure['high'], show)}"
