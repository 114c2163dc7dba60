"""Activation maps: for each layer a grid of its most active channels on one colour scale."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from praxiscope.explaining.activations import ACTIVITY, ImageActivations, LayerMaps
from praxiscope.reporting.explanations.maps import choose_scale, clear_axes, draw_map, draw_scale
from praxiscope.reporting.figures import INK, MUTED, drawable

_COLUMNS = 8
_CELL, _HEADING, _FOOT, _SIDE = 1.05, 0.5, 0.35, 0.9  # inches


def plot_activations(activations: ImageActivations) -> Figure:
    """Draw the maps of every layer: a block of small maps for each, with its colour scale beside it.

    Colours compare channels of one layer, not layers: each layer has a scale of its own. Orange is positive,
    blue negative; layers without negative values run from dark (zero) to yellow.

    Args:
        activations: Of one image, as ``collect_activations`` gives them.

    Returns:
        The figure; ``save_figure`` writes it.
    """
    rows = [math.ceil(len(each.channels) / _COLUMNS) for each in activations.layers]
    heights = [_HEADING + count * _CELL for count in rows]
    picture = 2.2
    width = picture + 0.3 + _COLUMNS * _CELL + _SIDE
    height = max(sum(heights), picture + _HEADING) + _FOOT
    figure = Figure(figsize=(width, height))
    _draw_picture(figure, activations, side=picture)
    top = height
    for layer, count, used in zip(activations.layers, rows, heights, strict=True):
        _draw_layer(figure, layer, rows=count, left=picture + 0.3, top=top)
        top -= used
    figure.text(
        (picture + 0.3) / width, 0.1 / height,
        f"Most active first ({ACTIVITY}); the number is the channel's. One colour scale for each layer.",
        fontsize=8, color=MUTED, va="bottom",
    )  # fmt: skip
    return figure


def _draw_picture(figure: Figure, activations: ImageActivations, *, side: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        0.1 / width, 1 - 0.3 / height, "Input", fontsize=11, fontweight="bold", color=INK, va="center"
    )
    box = (0.1 / width, 1 - (_HEADING + side - 0.15) / height, (side - 0.15) / width, (side - 0.15) / height)
    axes = figure.add_axes(box)
    axes.imshow(activations.image, interpolation="nearest")
    clear_axes(axes)


def _draw_layer(figure: Figure, layer: LayerMaps, *, rows: int, left: float, top: float) -> None:
    """Draw a block whose upper left corner lies ``left`` and ``top`` inches from the figure's lower left."""
    width, height = figure.get_size_inches()
    use, scale = layer.layer, choose_scale(layer.maps)
    shown = (
        f"{len(layer.channels)} of {use.channels} channels, {use.grid[0]} x {use.grid[1]}" if use.grid else ""
    )
    y = (top - 0.3) / height
    name = figure.text(
        left / width,
        y,
        drawable(use.name),
        fontsize=11,
        fontweight="bold",
        color=INK,
        va="center",
        parse_math=False,
    )
    name.set_gid(f"layer {use.name}")
    figure.text(
        (left + _COLUMNS * _CELL) / width, y, shown, fontsize=8.5, color=MUTED, va="center", ha="right"
    )
    for place, (channel, values) in enumerate(zip(layer.channels, layer.maps, strict=True)):
        row, column = divmod(place, _COLUMNS)
        x0, y0 = left + column * _CELL, top - _HEADING - (row + 1) * _CELL
        axes = figure.add_axes((x0 / width, (y0 + 0.17) / height, 0.86 / width, 0.86 / height))
        draw_map(axes, values, scale)
        figure.text(
            (x0 + 0.43) / width,
            (y0 + 0.15) / height,
            str(channel),
            fontsize=6.5,
            color=MUTED,
            ha="center",
            va="top",
        )
    tall = rows * _CELL - 0.25
    bar = figure.add_axes(
        (
            (left + _COLUMNS * _CELL + 0.1) / width,
            (top - _HEADING - tall) / height,
            0.12 / width,
            tall / height,
        )
    )
    draw_scale(figure, bar, scale)
