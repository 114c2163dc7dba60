"""Kernels as pictures: colour filters of the first layer, signed grids of deeper ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from praxiscope.explaining.kernels import LayerKernels
from praxiscope.reporting.explanations.maps import SIGNED, ColourScale, choose_scale, clear_axes, draw_scale
from praxiscope.reporting.figures import INK, MUTED, drawable

_WIDTH, _SIDE, _HEADING, _CELL_TABLE, _CELL_SINGLE, _GAP = 8.2, 0.7, 0.62, 0.36, 0.5, 0.35  # inches
_SINGLE_COLUMNS = 16
_CELL_PIXELS, _GAP_PIXELS = 28, 3
_BETWEEN = 0.86  # grey


def plot_kernels(kernels: Sequence[LayerKernels]) -> Figure:
    """Draw the filters of each layer on one scale.

    Filters of the image are colour pictures: grey is no weight, a channel that is brighter than grey has a
    positive weight. Deeper ones are signed: orange positive, white zero, blue negative, on a symmetric scale;
    a table has a row for each filter and a column for each input channel.

    Args:
        kernels: As ``collect_kernels`` gives them, at least one.

    Returns:
        The figure; ``save_figure`` writes it.

    Raises:
        ValueError: There are none.
    """
    if not kernels:
        raise ValueError("there are no kernels to draw; collect those of at least one layer")
    heights = [_HEADING + _measure(each)[0] * _measure(each)[2] + _GAP for each in kernels]
    figure = Figure(figsize=(_WIDTH + _SIDE, sum(heights)))
    top = sum(heights)
    for each, height in zip(kernels, heights, strict=True):
        _draw_layer(figure, each, top=top)
        top -= height
    return figure


def _measure(kernels: LayerKernels) -> tuple[int, int, float]:
    """Return rows and columns of a layer's grid, and the side of a cell in inches."""
    if _is_table(kernels):
        return len(kernels.filters), len(kernels.inputs), min(_CELL_TABLE, _WIDTH / len(kernels.inputs))
    return math.ceil(len(kernels.filters) / _SINGLE_COLUMNS), _SINGLE_COLUMNS, _CELL_SINGLE


def _is_table(kernels: LayerKernels) -> bool:
    return not kernels.is_rgb and len(kernels.inputs) > 1


def _draw_layer(figure: Figure, kernels: LayerKernels, *, top: float) -> None:
    width, height = (float(side) for side in figure.get_size_inches())
    rows, columns, cell = _measure(kernels)
    left = 0.35 if _is_table(kernels) else 0.1
    scale = choose_scale(np.concatenate([kernels.weights.ravel(), -kernels.weights.ravel()]))
    figure.text(
        0.1 / width, (top - 0.2) / height, drawable(kernels.layer), fontsize=11, fontweight="bold",
        color=INK, va="center", parse_math=False,
    )  # fmt: skip
    figure.text(0.1 / width, (top - 0.42) / height, _describe(kernels), fontsize=8, color=MUTED, va="center")
    box = (
        left / width,
        (top - _HEADING - rows * cell) / height,
        columns * cell / width,
        rows * cell / height,
    )
    axes = figure.add_axes(box)
    axes.imshow(_tile(kernels, scale, rows, columns), interpolation="nearest", aspect="auto")
    clear_axes(axes)
    if _is_table(kernels):
        size = 6.0
        centres = (np.arange(max(rows, columns)) + 0.5) * _cell_pixels(kernels)[0] - 0.5
        axes.set_yticks(centres[:rows], [str(each) for each in kernels.filters], fontsize=size)
        axes.set_xticks(centres[:columns], [str(each) for each in kernels.inputs], fontsize=size)
        axes.tick_params(length=0, pad=1.5, colors=MUTED)
    tall = min(rows * cell, 1.6)
    bar = figure.add_axes(
        (
            (left + columns * cell + 0.12) / width,
            (top - _HEADING - tall) / height,
            0.12 / width,
            tall / height,
        )
    )
    if kernels.is_rgb:
        bar.remove()
        return
    draw_scale(figure, bar, scale)


def _describe(kernels: LayerKernels) -> str:
    out, inputs, height, width = kernels.shape
    size = f"{height} x {width}"
    if kernels.is_rgb:
        return (
            f"{len(kernels.filters)} of {out} filters of {size} on the image, in colour; grey is no weight, "
            "one scale for all"
        )
    if not _is_table(kernels):
        return f"{len(kernels.filters)} of {out} filters of {size}, each on a channel of its own"
    return (
        f"rows: {len(kernels.filters)} of {out} filters of {size}; columns: {len(kernels.inputs)} of "
        f"{inputs} input channels (the strongest, or those asked for)"
    )


def _cell_pixels(kernels: LayerKernels) -> tuple[int, int]:
    """Return the pixels of a cell with its gap, and of one weight."""
    side = max(kernels.shape[2:])
    times = max(1, _CELL_PIXELS // side)
    return side * times + _GAP_PIXELS, times


def _tile(kernels: LayerKernels, scale: ColourScale, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Return one RGB picture of all kernels, light grey between them: white is a weight of zero."""
    step, times = _cell_pixels(kernels)
    picture = np.full((rows * step, columns * step, 3), 1.0 if kernels.is_rgb else _BETWEEN)
    for row in range(rows):
        for column in range(columns):
            colors = _color(kernels, scale, row, column, columns)
            if colors is None:
                continue
            large = colors.repeat(times, axis=0).repeat(times, axis=1)
            top = row * step + (step - large.shape[0]) // 2
            left = column * step + (step - large.shape[1]) // 2
            picture[top : top + large.shape[0], left : left + large.shape[1]] = large
    return picture


def _color(
    kernels: LayerKernels, scale: ColourScale, row: int, column: int, columns: int
) -> npt.NDArray[np.float64] | None:
    """Return the (kh, kw, 3) colours of a cell, or None where the grid has no kernel left."""
    if _is_table(kernels):
        return _paint(kernels.weights[row, column], scale)
    place = row * columns + column
    if place >= len(kernels.filters):
        return None
    if kernels.is_rgb:
        colors: npt.NDArray[np.float64] = np.clip(
            0.5 + kernels.weights[place].astype(np.float64).transpose(1, 2, 0) / (2 * scale.high), 0, 1
        )
        return colors
    return _paint(kernels.weights[place, 0], scale)


def _paint(values: npt.NDArray[np.float32], scale: ColourScale) -> npt.NDArray[np.float64]:
    colors: npt.NDArray[np.float64] = np.asarray(SIGNED(scale.norm(values)))[..., :3]
    return colors
