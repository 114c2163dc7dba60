"""What the layers do over a sample, one row a layer: values, gradients, dead units, how much weights move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from praxiscope.models.layer_statistics import LayerReport, LayerRow
from praxiscope.reporting.figures import BLUE, GRID, INK, MUTED, ORANGE, drawable

_MAX_ROWS = 28
_ROW, _HEAD, _FOOT = 0.3, 0.8, 1.0  # inches
_NAMES, _WIDE, _BAR, _GAP = 2.6, 3.3, 1.75, 0.4
_BINS = 90
_VALUE_QUANTILES = (0.002, 0.998)


def plot_histograms(report: LayerReport, findings: Sequence[str] = ()) -> Figure:
    """Draw one row for each layer, from the input at the top to the logits at the bottom.

    From left to right: the distribution of its outputs between their 0.2 % and 99.8 % quantile, on an axis of
    its own whose ends are printed; the distribution of the gradient's magnitudes, on one logarithmic axis for
    all layers, so that a gradient that vanishes wanders to the left; the share of dead units and of saturated
    outputs; the gradient's norm over that of the logits. Of more than 28 layers, those with the most dead and
    saturated units are drawn and the others thinned evenly.

    Args:
        report: As ``collect_histograms`` gives it.
        findings: Sentences of ``describe_findings``, printed below.

    Returns:
        The figure; ``save_figure`` writes it.
    """
    rows = _choose_rows(report.layers)
    lines = list(findings) or ["Nothing out of the ordinary was found."]
    height = _HEAD + len(rows) * _ROW + _FOOT + 0.2 * len(lines)
    width = _NAMES + 2 * _WIDE + 2 * _BAR + 3 * _GAP + 0.3
    figure = Figure(figsize=(width, height))
    lefts = np.cumsum([_NAMES, _WIDE + _GAP, _WIDE + _GAP, _BAR + _GAP])
    tall = len(rows) * _ROW
    columns = [
        figure.add_axes((left / width, 1 - (_HEAD + tall) / height, each / width, tall / height))
        for left, each in zip(lefts, (_WIDE, _WIDE, _BAR, _BAR), strict=True)
    ]
    values, gradients, shares, norms = columns
    for axes in columns:
        axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=MUTED, length=0, labelsize=7.5)
    names = [drawable(row.name) for row in rows]
    values.set_yticks(range(len(rows)), names, fontsize=8, color=INK, parse_math=False)
    _draw_values(values, rows)
    _draw_gradients(gradients, rows)
    _draw_shares(shares, rows)
    _draw_norms(norms, rows, report.layers[-1])
    words = [f"{len(rows)} of {len(report.layers)} layers over {report.num_images} {report.thing}s", *lines]
    for place, line in enumerate(words):
        figure.text(
            0.15 / width, (0.2 * (len(words) - place) - 0.02) / height, drawable(line),
            fontsize=8.5 if place else 8, color=INK if place else MUTED, parse_math=False,
        )  # fmt: skip
    return figure


def _choose_rows(layers: Sequence[LayerRow]) -> list[LayerRow]:
    if len(layers) <= _MAX_ROWS:
        return list(layers)
    worst = sorted(layers, key=lambda row: -max(row.dead_share or 0.0, row.saturated_share or 0.0))
    kept = {row.name for row in worst[: _MAX_ROWS // 4]} | {layers[0].name, layers[-1].name}
    rest = [row for row in layers if row.name not in kept]
    places = np.linspace(0, len(rest) - 1, _MAX_ROWS - len(kept)).round().astype(int)
    kept |= {rest[place].name for place in places}
    return [row for row in layers if row.name in kept]


def _head(axes: Axes, title: str, note: str) -> None:
    axes.text(
        0, 1, title, transform=axes.transAxes, fontsize=9.5, fontweight="bold", color=INK, va="bottom",
        bbox={"boxstyle": "square,pad=0", "facecolor": "none", "edgecolor": "none"},
    ).set_position((0, 1 + 0.3 * _ROW / (axes.get_ylim()[0] * _ROW)))  # fmt: skip
    axes.set_xlabel(note, fontsize=7.5, color=MUTED)


def _draw_values(axes: Axes, rows: Sequence[LayerRow]) -> None:
    """Draw each layer's outputs, from its own lower to its own upper quantile."""
    for place, row in enumerate(rows):
        low, high = (row.activations.quantile(share) for share in _VALUE_QUANTILES)
        if not low < high:
            axes.text(0.5, place, f"always {low:.3g}", fontsize=7, color=MUTED, ha="center", va="center")
            continue
        edges = np.linspace(low, high, _BINS + 1)
        counts = row.activations.rebin(edges)
        # Zeros of a ReLU would leave nothing else to see: bars are drawn by the root of their count.
        heights = np.sqrt(counts / max(counts.max(), 1.0)) * 0.72
        bins = np.linspace(0.12, 0.88, _BINS + 1)
        axes.fill_between(
            bins[:-1], place + 0.38, place + 0.38 - heights, step="post", color=BLUE, linewidth=0
        )
        if low < 0 < high:
            zero = 0.12 + 0.76 * (0 - low) / (high - low)
            axes.plot([zero, zero], [place - 0.34, place + 0.38], color=INK, linewidth=0.7)
        axes.text(0.1, place + 0.1, f"{low:.3g}", fontsize=6.5, color=MUTED, ha="right", va="center")
        axes.text(0.9, place + 0.1, f"{high:.3g}", fontsize=6.5, color=MUTED, ha="left", va="center")
    axes.set(xlim=(0, 1), xticks=[])
    _head(
        axes,
        "Outputs",
        "each layer from its 0.2 % to its 99.8 % quantile;\nheight: root of the count; line: zero",
    )


def _draw_gradients(axes: Axes, rows: Sequence[LayerRow]) -> None:
    """Draw magnitudes of gradients on one logarithmic axis."""
    sizes = [row.gradients.sizes(_DECADES) for row in rows]
    known = np.flatnonzero(np.max([each / max(each.sum(), 1.0) for each in sizes], axis=0) > _RARE)
    low, high = (known[0], known[-1] + 1) if known.size else (0, len(_DECADES) - 1)
    low = max(low, high - 16 * _PER_DECADE)
    for place, (row, counts) in enumerate(zip(rows, sizes, strict=True)):
        if not counts.sum():
            word = "no gradient arrives" if row.gradients.count == 0 else "zero throughout"
            axes.text(_LOGS[high], place, word, fontsize=7, color=ORANGE, ha="right", va="center")
            continue
        heights = counts / counts.max() * 0.72
        axes.fill_between(
            _LOGS[:-1], place + 0.38, place + 0.38 - heights, step="post", color=ORANGE, linewidth=0
        )
    axes.set_xlim(_LOGS[low], _LOGS[high])
    ticks = [at for at in range(int(np.ceil(_LOGS[low])), int(_LOGS[high]) + 1) if at % 2 == 0]
    axes.set_xticks(ticks, [f"1e{at}" for at in ticks])
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _head(
        axes,
        "Gradients",
        "magnitude of the loss's gradient, zeros left out;\nheight: share of the layer's largest bin",
    )


def _draw_shares(axes: Axes, rows: Sequence[LayerRow]) -> None:
    for place, row in enumerate(rows):
        for offset, share, color in ((-0.17, row.dead_share, INK), (0.17, row.saturated_share, ORANGE)):
            if share is not None:
                axes.barh(place + offset, 100 * share, height=0.28, color=color)
        label = " / ".join(
            "-" if share is None else f"{100 * share:.0f}" for share in (row.dead_share, row.saturated_share)
        )
        known = max(row.dead_share or 0.0, row.saturated_share or 0.0)
        if label != "- / -":
            axes.text(100 * known + 2, place, label, fontsize=6.5, color=MUTED, va="center")
    axes.set(xlim=(0, 122), xticks=[0, 50, 100])
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _head(axes, "Dead / saturated", "% of units (black) /\n% of outputs (orange)")


def _draw_norms(axes: Axes, rows: Sequence[LayerRow], end: LayerRow) -> None:
    """Draw each layer's gradient norm over the logits'."""
    ratios = np.array([row.gradient_norm / end.gradient_norm if end.gradient_norm else 0.0 for row in rows])
    logs = np.where(ratios > 0, np.log10(np.maximum(ratios, 1e-30)), np.nan)
    places = np.arange(len(rows))
    axes.plot(logs, places, color=BLUE, marker="o", markersize=3.5, linewidth=1.2)
    low = min(-2.0, float(np.nanmin(logs)) if np.isfinite(logs).any() else -2.0)
    high = max(2.0, float(np.nanmax(logs)) if np.isfinite(logs).any() else 2.0)
    low, high = np.floor(low), np.ceil(high)
    step = max(1, int(np.ceil((high - low) / 4)))
    ticks = np.arange(low, high + 1, step)
    axes.set_xlim(low - 0.2, high + 0.2)
    axes.set_xticks(ticks, [f"1e{int(tick)}" for tick in ticks])
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    _head(axes, "Gradient norm", f"over that at\n{drawable(end.name)}")


_PER_DECADE = 6
_RARE = 1e-4  # a bin with less of a layer's gradients than this doesn't widen the axis
_LOGS = np.arange(-30 * _PER_DECADE, 12 * _PER_DECADE + 1) / _PER_DECADE
_DECADES = 10.0**_LOGS
