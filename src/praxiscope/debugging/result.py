"""What a check found: a line for the terminal, figures for ``debug.json``, evidence to be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Status = Literal["ok", "warning", "fault"]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text or numbers.

    Attributes:
        title: above it.
        columns: their headings.
        rows: a cell a column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Montage:
    """Pictures in rows.

    Attributes:
        name: of its file, without ``.png``.
        title: above it.
        rows: uint8 (H, W, 3) pictures of one size, a label a row.
    """

    name: str
    title: str
    rows: tuple[tuple[str, tuple[Pixels, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lines over a common axis.

    Attributes:
        name: of its file.
        title: above it.
        x_label: of the axis.
        y_label: of the axis.
        series: label and numbers; the first number belongs to ``start``.
        start: x of the first number.
        marks: horizontal lines: label and height.
        log_y: whether the heights are drawn in their logarithm.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[tuple[str, tuple[float, ...]], ...]
    start: int = 1
    marks: tuple[tuple[str, float], ...] = ()
    log_y: bool = False


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A number for each of several names, on a logarithmic axis.

    Attributes:
        name: of its file.
        title: above it.
        x_label: of the axis.
        rows: label, number (0 or less is drawn at the left edge and said), and whether it is a finding.
        band: drawn behind: where numbers are usual.
    """

    name: str
    title: str
    x_label: str
    rows: tuple[tuple[str, float, bool], ...]
    band: tuple[float, float] | None = None


Picture = Montage | Curves | Dots


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check's outcome.

    Attributes:
        name: ``gradients``; what ``--only`` takes.
        status: ``ok``; ``warning``: look at it; ``fault``: training can't be right like this.
        line: what was found, with its number, in a sentence.
        rule: what is looked at, and what would be a fault.
        figures: plain values for ``debug.json``.
        tables: for the page.
        pictures: for the page.
    """

    name: str
    status: Status
    line: str
    rule: str
    figures: dict[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: numbers that are not finite become None, pictures their file's name."""
        content = {
            "name": self.name, "status": self.status, "line": self.line, "rule": self.rule,
            "figures": self.figures,
            "tables": [{"title": t.title, "columns": t.columns, "rows": t.rows} for t in self.tables],
            "pictures": [f"{picture.name}.png" for picture in self.pictures],
        }  # fmt: skip
        return {key: make_plain(value) for key, value in content.items()}


def make_plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): make_plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def name_some(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of several names, and how many more there are.

    >>> name_some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
