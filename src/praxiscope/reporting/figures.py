"""PNG figures for papers and slides: numbers in, picture out. ``plot_x`` draws, ``write_x`` saves.

The HTML report draws its own vector charts (`report/charts.py`), which follow the reader's theme; these
files lie beside the numbers in the run folder. Everything goes through matplotlib's ``Figure`` object: no
pyplot, no global state, so that figures can be drawn in a thread and never open a window.

Colours: blue for validation and for "right", orange for training and for "wrong" (Okabe and Ito's
colour-blind-safe set, https://jfly.uni-koeln.de/color/); a dash or a marker says the same as the colour.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator

from praxiscope.reporting.wording import describe_joints, shorten

BLUE, ORANGE, INK, MUTED, GRID = "#0072b2", "#d55e00", "#1d2126", "#646b73", "#e6e4df"
DPI = 150
MAX_COUNTED_CLASSES = 30
"""Up to this many classes the confusion matrix prints a count in each cell that isn't empty."""
MAX_MATRIX_CLASSES = 110
"""Up to this many classes a confusion matrix can be read; beyond, the most frequent confusions are drawn."""
MAX_LISTED_CLASSES = 120
"""Up to this many classes each one is drawn."""

_BLUES = LinearSegmentedColormap.from_list("praxiscope", ["#ffffff", "#cfe3f2", "#6aaed6", BLUE, "#003f66"])


def plot_curves(rows: Sequence[Mapping[str, Any]], *, extensions: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Draw loss, top-1 and learning rate over the epochs.

    Args:
        rows: One mapping per epoch, as in ``metrics.jsonl``. A missing or non-finite value leaves a gap.
        extensions: Where the run was continued to another number of epochs, as in ``run.json``.

    Returns:
        The figure; `save_figure` writes it.

    Raises:
        ValueError: ``rows`` is empty.
    """
    if not rows:
        raise ValueError("there are no epochs to draw: 'rows' is empty; train for at least one epoch first")
    figure = Figure(figsize=(13.2, 3.9), layout="constrained")
    loss, top1, lr = figure.subplots(1, 3)
    _draw_pair(loss, rows, "loss", "Loss")
    _draw_pair(top1, rows, "top1", "Top-1 accuracy", scale=100.0)
    top1.set_ylabel("%", color=MUTED)
    epochs = [row["epoch"] for row in rows]
    lr.plot(epochs, _column(rows, "lr"), color=INK, linewidth=1.8)
    dress_axes(lr, "Learning rate")
    lr.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    for axes in (loss, top1, lr):
        axes.set_xlabel("epoch", color=MUTED)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _mark_joints(axes, extensions)
    return figure


def plot_confusion(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Draw a confusion matrix, coloured by the share of each true class.

    From 2 to some 100 classes stay readable: the figure grows with K, and counts are printed up to
    `MAX_COUNTED_CLASSES`.

    Args:
        confusion: (K, K) counts, rows true, columns predicted, K >= 1.
        names: K class names, drawn literally (never as mathematical text).

    Returns:
        The figure; `save_figure` writes it.

    Raises:
        ValueError: ``confusion`` isn't K x K for the K names.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    classes = len(names)
    if classes == 0 or counts.shape != (classes, classes):
        raise ValueError(
            f"confusion has shape {counts.shape}; allowed is {(classes, classes)}, one row per name, K >= 1"
        )
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    side = min(22.0, max(5.0, 2.2 + classes * (0.46 if classes <= MAX_COUNTED_CLASSES else 0.19)))
    font_size = 8.5 if classes <= MAX_COUNTED_CLASSES else 6.0
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap=_BLUES, vmin=0.0, vmax=1.0, interpolation="nearest")
    labels = [shorten(drawable(name)) for name in names]
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=font_size, parse_math=False)
    axes.set_yticks(range(classes), labels, fontsize=font_size, parse_math=False)
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true", color=MUTED)
    if classes <= MAX_COUNTED_CLASSES:
        _print_counts(axes, counts, share, font_size)
    axes.spines[:].set_color(GRID)
    axes.tick_params(length=0)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.03, shrink=0.4, aspect=16, pad=0.02, ticks=[0.0, 0.5, 1.0]
    )
    bar.ax.set_yticklabels(["0", "50 %", "100 % of the true class"], fontsize=font_size)
    bar.outline.set_visible(False)
    return figure


def plot_reliability(bins: Sequence[Mapping[str, Any]], ece: float | None) -> Figure:
    """Draw accuracy against confidence with the number of samples in each bin.

    Args:
        bins: ``low``, ``high``, ``count``, ``confidence``, ``accuracy`` per bin, fractions in [0, 1]; the
            last two may be None where ``count`` is 0.
        ece: Expected calibration error in [0, 1] (Guo et al. 2017, https://arxiv.org/abs/1706.04599), for the
            title.

    Returns:
        The figure; `save_figure` writes it.
    """
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    filled = [one for one in bins if one["count"]]
    middles = [(one["low"] + one["high"]) / 2 for one in bins]
    widths = [(one["high"] - one["low"]) * 0.9 for one in bins]
    top.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="perfectly calibrated")
    top.plot(
        [one["confidence"] for one in filled],
        [one["accuracy"] for one in filled],
        color=BLUE,
        marker="o",
        linewidth=1.8,
        clip_on=False,
        label="this model",
    )
    title = "Calibration" if ece is None else f"Calibration: ECE {100 * ece:.1f} %"
    dress_axes(top, title)
    top.set(xlim=(0, 1), ylim=(0, 1.02))
    top.set_ylabel("accuracy", color=MUTED)
    top.legend(frameon=False, loc="upper left")
    bottom.bar(middles, [one["count"] for one in bins], width=widths, color=BLUE, alpha=0.35)
    dress_axes(bottom, "")
    bottom.set_xlabel("confidence", color=MUTED)
    bottom.set_ylabel("samples", color=MUTED)
    return figure


def plot_per_class(per_class: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw each class's recall with its interval and its F1, worst F1 on top.

    Of more than `MAX_LISTED_CLASSES` classes, those with the most samples.

    Args:
        per_class: The ``per_class`` rows of ``metrics.json``; a value that is None isn't drawn.

    Returns:
        The figure; `save_figure` writes it.
    """
    shown = sorted(per_class, key=lambda row: (-row["support"], row["name"]))
    title = "Per class (number of samples)"
    if len(per_class) > MAX_LISTED_CLASSES:
        shown = shown[:MAX_LISTED_CLASSES]
        title = f"The {len(shown)} classes with the most samples, of {len(per_class)}"
    rows = sorted(shown, key=lambda row: (_number(row["f1"], missing=-1.0), row["name"]))
    figure = Figure(figsize=(8.0, min(40.0, 1.5 + 0.27 * len(rows))), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        low, high = (_number(row[key]) for key in ("recall_low", "recall_high"))
        axes.plot(
            [100 * low, 100 * high],
            [place, place],
            color=BLUE,
            alpha=0.45,
            linewidth=4,
            solid_capstyle="butt",
        )
    places = range(len(rows))
    axes.plot(
        [100 * _number(row["recall"]) for row in rows],
        places,
        "o",
        color=BLUE,
        label="recall and its interval",
    )
    axes.plot([100 * _number(row["f1"]) for row in rows], places, "D", color=ORANGE, markersize=5, label="F1")
    labels = [f"{shorten(drawable(row['name']))}  ({row['support']})" for row in rows]
    axes.set_yticks(list(places), labels, fontsize=8.5, parse_math=False)
    axes.set(xlim=(-1, 101), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("%", color=MUTED)
    dress_axes(axes, title)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    return figure


def plot_top_confusions(confusions: Sequence[Mapping[str, Any]], num_classes: int) -> Figure:
    """Draw the most frequent confusions as bars, where a matrix would have too many rows to be read.

    Args:
        confusions: The ``top_confusions`` of ``metrics.json``, most frequent first; may be empty.
        num_classes: K.

    Returns:
        The figure; `save_figure` writes it.
    """
    figure = Figure(figsize=(9.0, 1.5 + 0.3 * max(1, len(confusions))), layout="constrained")
    axes = figure.subplots()
    places = range(len(confusions))
    axes.barh(places, [one["count"] for one in confusions], color=ORANGE, height=0.7)
    labels = [
        " \u2192 ".join(shorten(drawable(one[key])) for key in ("target", "preds")) for one in confusions
    ]
    axes.set_yticks(places, labels, fontsize=8.5, parse_math=False)
    for place, one in enumerate(confusions):
        share = f" {100 * one['share']:.0f} % of {shorten(drawable(one['target']), 20)}"
        axes.annotate(
            share, (one["count"], place), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=7.5, color=MUTED, parse_math=False,
        )  # fmt: skip
    axes.set_ylim(len(confusions) - 0.5, -0.5)
    axes.margins(x=0.35)
    axes.set_xlim(left=0)
    axes.set_xlabel("samples", color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress_axes(axes, f"Most frequent confusions of {num_classes} classes (true \u2192 predicted)")
    return figure


def plot_temporal(orders: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw top-1 of each order of frames with its interval; the frames in order are the line to compare with.

    Args:
        orders: Of ``temporal_reliance`` in ``metrics.json``, the true order first.

    Returns:
        The figure; `save_figure` writes it.
    """
    figure = Figure(figsize=(6.4, 1.4 + 0.45 * len(orders)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(100 * orders[0]["top1"]["value"], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    for place, one in enumerate(orders):
        value, low, high = (100 * _number(one["top1"][key]) for key in ("value", "low", "high"))
        color, marker = (BLUE, "o") if place == 0 else (ORANGE, "D")
        axes.plot([low, high], [place, place], color=color, alpha=0.45, linewidth=5, solid_capstyle="butt")
        axes.plot([value], [place], marker, color=color)
        axes.annotate(
            f"{value:.1f} %", (value, place), xytext=(0, 8), textcoords="offset points",
            ha="center", fontsize=8, color=INK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
    axes.set_yticks(range(len(orders)), [one["order"] for one in orders], fontsize=9)
    axes.set_ylim(len(orders) - 0.4, -0.7)
    axes.set_xlabel("top-1, %, with its interval", color=MUTED)
    dress_axes(axes, "Accuracy by the order of the frames")
    return figure


def write_curves(
    rows: Sequence[Mapping[str, Any]], path: Path, *, extensions: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Write the `plot_curves` figure (``curves.png`` of a run) and return ``path``."""
    return save_figure(plot_curves(rows, extensions=extensions), path)


def write_evaluation_figures(metrics: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write the figures of one evaluation beside its ``metrics.json``.

    Args:
        metrics: The content of ``metrics.json``.
        folder: Existing folder of the evaluation.

    Returns:
        The paths written: ``confusion.png``, ``reliability.png``, ``per_class.png``; of several heads each
        with ``_<head>`` before the ending; ``temporal_reliance.png`` where it was measured.
    """
    written = []
    several = metrics.get("heads") or {"": metrics}
    for head, own in several.items():
        ending = f"_{head}.png" if head else ".png"
        ece = (own["all"].get("ece") or {}).get("value")
        figures = {
            "confusion": plot_confusion(own["confusion"], own["names"])
            if own["num_classes"] <= MAX_MATRIX_CLASSES
            else plot_top_confusions(own["top_confusions"], own["num_classes"]),
            "reliability": plot_reliability(own["reliability"], ece),
            "per_class": plot_per_class(own["per_class"]),
        }
        written += [save_figure(figure, folder / f"{name}{ending}") for name, figure in figures.items()]
    if metrics.get("temporal_reliance"):
        figure = plot_temporal(metrics["temporal_reliance"]["orders"])
        written.append(save_figure(figure, folder / "temporal_reliance.png"))
    return tuple(written)


def save_figure(figure: Figure, path: Path) -> Path:
    """Save as PNG, the same bytes for the same numbers, and return ``path``."""
    # Without the Software entry the file doesn't depend on matplotlib's version string.
    figure.savefig(path, dpi=DPI, format="png", facecolor="white", metadata={"Software": None})
    return path


def drawable(name: str) -> str:
    """Return ``name`` with everything replaced that the figure font can't draw.

    Control and formatting characters (a newline, a right-to-left override) would break the layout, and a
    missing glyph makes matplotlib warn; both become a hollow square.
    """
    known = _known_glyphs()
    kept = (c if ord(c) in known and unicodedata.category(c)[0] != "C" else "\u25a1" for c in name)
    return "".join(kept)


def dress_axes(axes: Axes, title: str) -> None:
    """Give axes the look of all figures, and a title at the left."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", parse_math=False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=MUTED, length=0)


@functools.lru_cache(maxsize=1)
def _known_glyphs() -> frozenset[int]:
    return frozenset(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())


def _number(value: Any, *, missing: float = math.nan) -> float:
    return missing if value is None else float(value)


def _column(rows: Sequence[Mapping[str, Any]], key: str, scale: float = 1.0) -> list[float]:
    values = (_number(row.get(key)) for row in rows)
    return [scale * value if math.isfinite(value) else math.nan for value in values]


def _draw_pair(
    axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, title: str, scale: float = 1.0
) -> None:
    epochs = [row["epoch"] for row in rows]
    # One epoch is a point, not a line: the marker keeps it visible.
    train, val = (_column(rows, f"{split}/{key}", scale) for split in ("train", "val"))
    axes.plot(epochs, train, color=ORANGE, linestyle="--", marker=".", linewidth=1.6, label="train")
    axes.plot(epochs, val, color=BLUE, marker="o", markersize=3.5, linewidth=1.8, label="val")
    dress_axes(axes, title)
    axes.legend(frameon=False)


def _mark_joints(axes: Axes, extensions: Sequence[Mapping[str, Any]]) -> None:
    for epoch, label in describe_joints(extensions):
        axes.axvline(epoch, color=INK, linewidth=0.9, linestyle=(0, (6, 3)))
        axes.annotate(
            label, (epoch, 1.0), xycoords=("data", "axes fraction"),
            xytext=(3, -3), textcoords="offset points",
            rotation=90, ha="left", va="top", fontsize=7.5, color=MUTED,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def _print_counts(
    axes: Axes, counts: np.ndarray[Any, Any], share: np.ndarray[Any, Any], font_size: float
) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if share[row, column] > 0.5 else INK
        count = int(counts[row, column])
        size = font_size if count < 1000 else font_size - 2
        axes.text(column, row, str(count), ha="center", va="center", fontsize=size, color=color)
