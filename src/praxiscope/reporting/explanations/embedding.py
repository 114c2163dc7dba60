"""The map of a split's features in two dimensions: a point a sample, errors marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from praxiscope.reporting.figures import GRID, INK, MUTED, drawable, dress_axes
from praxiscope.reporting.wording import shorten

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1d2126")
"""Okabe & Ito's colour-blind-safe set without yellow, which is hard to see on white."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "p")
MAX_NAMED = len(COLOURS) * 6
"""Up to this many classes each has a colour and a marker of its own and stands in the legend."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Points of a split.

    Attributes:
        points: float (N, 2).
        targets: int (N,), indices into ``names``.
        preds: int (N,).
        names: K class names.
        title: what was mapped, and how.
        axes: labels of both axes.
    """

    points: npt.NDArray[np.floating]
    targets: npt.NDArray[np.integer]
    preds: npt.NDArray[np.integer]
    names: tuple[str, ...]
    title: str
    axes: tuple[str, str]


def plot_embedding(embedding: Embedding) -> Figure:
    """Draw the points in the colour and marker of their true class; wrong ones larger, with a dark edge.

    Above `MAX_NAMED` classes colours would repeat: points are then grey, and only errors are marked.

    Args:
        embedding: What to draw.

    Returns:
        The figure; ``save_figure`` writes it.
    """
    classes = len(embedding.names)
    columns = 1 if classes <= 22 else 2
    figure = Figure(figsize=(8.4 + 1.9 * columns, 7.4), layout="constrained")
    axes = figure.subplots()
    wrong = embedding.preds != embedding.targets
    _draw_points(axes, embedding, ~wrong, size=17, alpha=0.6, edge=False)
    _draw_points(axes, embedding, wrong, size=26, alpha=0.9, edge=True)
    dress_axes(axes, drawable(embedding.title))
    axes.set_xlabel(embedding.axes[0], color=MUTED)
    axes.set_ylabel(embedding.axes[1], color=MUTED)
    axes.set_aspect("equal", adjustable="datalim")
    handles = _list_handles(embedding, int(wrong.sum()))
    legend = figure.legend(
        handles=handles,
        loc="outside right upper",
        frameon=False,
        ncols=columns,
        fontsize=8.5,
        title="true class",
    )
    legend.get_title().set_color(MUTED)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def find_style(place: int) -> tuple[str, str]:
    """Return (colour, marker) of a class; no two of the first 56 classes have both alike.

    7 colours and 8 markers have no divisor in common, so that neighbours in the legend differ in both.

    >>> find_style(0), find_style(7)
    (('#0072b2', 'o'), ('#0072b2', 'p'))
    """
    return COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]


def _draw_points(
    axes: Axes, embedding: Embedding, chosen: npt.NDArray[np.bool_], *, size: float, alpha: float, edge: bool
) -> None:
    classes = len(embedding.names)
    for place in range(classes) if classes <= MAX_NAMED else [-1]:
        rows = chosen & (embedding.targets == place) if place >= 0 else chosen
        colour, mark = find_style(place) if place >= 0 else ("#8a9097", "o")
        axes.scatter(
            embedding.points[rows, 0], embedding.points[rows, 1],
            s=size, c=colour, marker=mark, alpha=alpha,
            edgecolors=INK if edge else "none", linewidths=1.0 if edge else 0, zorder=3 if edge else 2,
        )  # fmt: skip


def _list_handles(embedding: Embedding, wrong: int) -> list[Line2D]:
    def show(colour: str, mark: str, label: str, *, edge: bool = False) -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker=mark, color=colour, label=label, markersize=8 if edge else 6,
            markeredgecolor=INK if edge else colour, markeredgewidth=1.3 if edge else 0,
        )  # fmt: skip

    handles = []
    if len(embedding.names) <= MAX_NAMED:
        counts = np.bincount(embedding.targets, minlength=len(embedding.names))
        for place, name in enumerate(embedding.names):
            handles.append(show(*find_style(place), f"{shorten(drawable(name), 24)} ({counts[place]})"))
    handles.append(show(GRID, "o", f"wrong prediction ({wrong:,} of {len(embedding.preds):,})", edge=True))
    return handles


def list_columns(embedding: Embedding, sample_ids: Sequence[str]) -> list[tuple[str, str, str, str, str]]:
    """Return the rows of the map as a table: sample, true class, predicted class, x, y."""
    return [
        (sample_id, embedding.names[target], embedding.names[pred], f"{x:.6g}", f"{y:.6g}")
        for sample_id, target, pred, (x, y) in zip(
            sample_ids,
            embedding.targets.tolist(),
            embedding.preds.tolist(),
            embedding.points.tolist(),
            strict=True,
        )
    ]
