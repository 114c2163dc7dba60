"""One wide figure: an image flows through the layers, past the end of the backbone, to its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from praxiscope.explaining.activations import ACTIVITY, ImageActivations, LayerMaps
from praxiscope.reporting.explanations.maps import break_name, choose_scale, clear_axes, draw_map, draw_scale
from praxiscope.reporting.figures import BLUE, INK, MUTED, ORANGE, drawable, dress_axes
from praxiscope.reporting.wording import shorten

_MAP_COLUMNS, _MAP_ROWS = 2, 3
_CELL, _LAYER, _ARROW, _MARK, _PICTURE, _BARS = 0.82, 1.66, 0.5, 0.75, 1.9, 3.4  # inches
_HEIGHT, _HEADING, _FOOT = 4.5, 0.95, 0.95
_NAME_WIDTH = 19  # characters of bold 9 pt in the width of a layer
_TOP = 5


@dataclass(frozen=True, kw_only=True)
class _Canvas:
    """A figure addressed in inches from its upper left corner."""

    figure: Figure

    def box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        full_width, full_height = self.figure.get_size_inches()
        return left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height

    def text(self, left: float, top: float, words: str, **style: Any) -> None:
        x, y, _, _ = self.box(left, top, 0, 0)
        self.figure.text(x, y, words, parse_math=False, **style)

    def arrow(self, left: float, right: float, top: float) -> None:
        x0, y, width, _ = self.box(left, top, right - left, 0)
        patch = FancyArrowPatch(
            (x0, y), (x0 + width, y), transform=self.figure.transFigure,
            arrowstyle="-|>", mutation_scale=14, linewidth=1.6, color=INK, shrinkA=0, shrinkB=0,
        )  # fmt: skip
        self.figure.add_artist(patch)


def plot_flow(activations: ImageActivations, names: Sequence[str], *, target: int | None = None) -> Figure:
    """Draw an image on its way through the layers to the class probabilities.

    Each layer shows its six most active channels on a colour scale of its own; arrows follow the network's
    order, and a dashed line marks where the backbone ends and the head begins.

    Args:
        activations: Of one image, as ``collect_activations`` gives them.
        names: K class names, in the order of the logits.
        target: Index of the true class, if it is known.

    Returns:
        The figure, as wide as its layers need; ``save_figure`` writes it.

    Raises:
        ValueError: There aren't as many names as logits.
    """
    if len(names) != len(activations.logits):
        raise ValueError(f"{len(names)} names for {len(activations.logits)} logits; give one for each class")
    layers = activations.layers
    width = 0.15 + _PICTURE + len(layers) * (_ARROW + _LAYER) + _ARROW + _MARK + _BARS
    canvas = _Canvas(figure=Figure(figsize=(width, _HEIGHT)))
    middle = _HEADING + _MAP_ROWS * _CELL / 2
    left = _draw_input(canvas, activations, middle)
    head = sum(layer.layer.is_backbone for layer in layers)
    for place, layer in enumerate(layers):
        left = _advance(canvas, activations, left, middle, is_end=place == head)
        _draw_layer(canvas, layer, left)
        left += _LAYER
    left = _advance(canvas, activations, left, middle, is_end=head == len(layers))
    _draw_bars(canvas, activations, names, left=left, target=target)
    canvas.text(
        0.15, _HEIGHT - 0.22,
        f"Each layer: its most active channels ({ACTIVITY}), on the colour scale below it.",
        fontsize=8, color=MUTED, va="center",
    )  # fmt: skip
    return canvas.figure


def _draw_input(canvas: _Canvas, activations: ImageActivations, middle: float) -> float:
    """Draw the image; return where it ends."""
    axes = canvas.figure.add_axes(canvas.box(0.15, middle - _PICTURE / 2, _PICTURE, _PICTURE))
    axes.imshow(activations.image, interpolation="nearest")
    clear_axes(axes)
    height, width, _ = activations.image.shape
    canvas.text(0.15, _HEADING - 0.28, "input", fontsize=9, fontweight="bold", color=INK, va="bottom")
    canvas.text(0.15, _HEADING - 0.16, f"{width} x {height} px", fontsize=7.5, color=MUTED, va="center")
    return 0.15 + _PICTURE


def _advance(
    canvas: _Canvas, activations: ImageActivations, left: float, middle: float, *, is_end: bool
) -> float:
    """Draw an arrow, and the mark of the backbone's end on its way; return where it points to."""
    right = left + _ARROW + (_MARK if is_end else 0)
    canvas.arrow(left + 0.06, right - 0.06, middle)
    if is_end:
        at = (left + right) / 2
        x, low, _, _ = canvas.box(at, _HEIGHT - 0.55, 0, 0)
        _, high, _, _ = canvas.box(at, 0.62, 0, 0)
        canvas.figure.add_artist(
            Line2D([x, x], [low, high], color=ORANGE, linewidth=1.6, linestyle=(0, (5, 3)))
        )
        end = break_name(drawable(activations.backbone_end or ""), 15)
        canvas.text(
            at, 0.58, f"end of the\nbackbone\n{end}".rstrip(), fontsize=7.5, color=ORANGE,
            fontweight="bold", ha="center", va="bottom", linespacing=1.1,
        )  # fmt: skip
    return right


def _draw_layer(canvas: _Canvas, layer: LayerMaps, left: float) -> None:
    use, scale = layer.layer, choose_scale(layer.maps)
    name = break_name(drawable(use.name), _NAME_WIDTH)
    canvas.text(left, _HEADING - 0.28, name, fontsize=9, fontweight="bold", color=INK, va="bottom")
    height, width = layer.maps.shape[1:]
    canvas.text(
        left, _HEADING - 0.16, f"{use.channels} channels, {height} x {width}",
        fontsize=7.5, color=MUTED, va="center",
    )  # fmt: skip
    for place, values in enumerate(layer.maps[: _MAP_COLUMNS * _MAP_ROWS]):
        row, column = divmod(place, _MAP_COLUMNS)
        box = canvas.box(left + column * _CELL, _HEADING + row * _CELL, _CELL - 0.06, _CELL - 0.06)
        draw_map(canvas.figure.add_axes(box), values, scale)
    bar = canvas.box(left + 0.12, _HEADING + _MAP_ROWS * _CELL + 0.06, _LAYER - 0.3, 0.09)
    draw_scale(canvas.figure, canvas.figure.add_axes(bar), scale, horizontal=True)


def _draw_bars(
    canvas: _Canvas, activations: ImageActivations, names: Sequence[str], *, left: float, target: int | None
) -> None:
    """Draw the probabilities of the likeliest classes, and of the true one if it isn't among them."""
    shares = activations.probabilities
    order = [int(place) for place in np.argsort(-shares, kind="stable")[:_TOP]]
    if target is not None and target not in order:
        order.append(target)
    # The likeliest class is blue where it is right, orange where it is wrong; the true one says so in words.
    colors = [BLUE if target in {None, order[0]} else ORANGE, *[MUTED] * (len(order) - 1)]
    labels = [
        f"{shorten(drawable(names[place]), 22)}{' (true)' if place == target else ''}" for place in order
    ]
    tall = _MAP_ROWS * _CELL
    axes = canvas.figure.add_axes(canvas.box(left + 0.12, _HEADING, _BARS - 0.75, tall))
    axes.barh(range(len(order)), [100 * shares[place] for place in order], height=0.34, color=colors)
    dress_axes(axes, "")
    axes.set(xlim=(0, 100), ylim=(len(order) - 0.5, -0.75), yticks=[])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("probability, %", fontsize=8, color=MUTED)
    axes.tick_params(labelsize=7.5)
    for row, (place, label) in enumerate(zip(order, labels, strict=True)):
        axes.text(0.8, row - 0.24, label, fontsize=8.5, color=INK, va="bottom", parse_math=False)
        axes.text(
            100 * shares[place] + 1.2,
            row,
            f"{100 * shares[place]:.1f}",
            fontsize=7.5,
            color=MUTED,
            va="center",
        )
    canvas.text(
        left + 0.12, _HEADING - 0.28, "class probabilities", fontsize=9, fontweight="bold", color=INK,
        va="bottom",
    )  # fmt: skip
