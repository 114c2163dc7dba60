"""What figures of maps share: one colour scale for a layer, and names that fit their column.

Magnitudes are drawn in viridis, signed values from blue through white to orange; both keep their order for
colour-blind readers and in grey (viridis: van der Walt & Smith 2015; blue and orange: Okabe & Ito).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from praxiscope.reporting.figures import BLUE, MUTED, ORANGE

SIGNED = LinearSegmentedColormap.from_list(
    "praxiscope-signed", ["#00304d", BLUE, "#9ecae1", "#ffffff", "#fdbe85", ORANGE, "#662c00"]
)
"""Blue for negative, white for zero, orange for positive."""
MAGNITUDE = "viridis"
_OUTLIERS = 0.005  # share of values that may lie outside of a scale: one outlier would leave all else flat


@dataclass(frozen=True, kw_only=True)
class ColourScale:
    """Which colour stands for which value in one layer's maps."""

    low: float
    high: float
    signed: bool
    extend: str
    """``max``, ``both`` or ``neither``: whether values lie beyond the ends."""

    @property
    def cmap(self) -> Colormap | str:
        """The colours."""
        return SIGNED if self.signed else MAGNITUDE

    @property
    def norm(self) -> Normalize:
        """Value -> [0, 1]."""
        return Normalize(self.low, self.high, clip=True)


def choose_scale(values: npt.NDArray[Any]) -> ColourScale:
    """Return one scale for all values: from zero where none is negative, else symmetric about zero.

    The ends leave out the largest 0.5 % of magnitudes if they are far above the others.
    """
    finite = values[np.isfinite(values)]
    sizes = np.abs(finite) if finite.size else np.zeros(1)
    largest = float(sizes.max())
    usual = float(np.quantile(sizes, 1 - _OUTLIERS))
    high = usual if 0 < usual < largest / 1.5 else largest
    high = high or 1.0  # nothing but zeros
    signed = bool((finite < 0).any())
    cut = "neither" if high >= largest else ("both" if signed else "max")
    return ColourScale(low=-high if signed else 0.0, high=high, signed=signed, extend=cut)


def draw_map(axes: Axes, values: npt.NDArray[Any], scale: ColourScale) -> None:
    """Draw one (h, w) map without resampling, row 0 at the top as in the image."""
    axes.imshow(values, cmap=scale.cmap, norm=scale.norm, interpolation="nearest", aspect="equal")
    clear_axes(axes)


def draw_scale(figure: Figure, axes: Axes, scale: ColourScale, *, horizontal: bool = False) -> None:
    """Fill axes with the colour bar of a scale."""
    bar = figure.colorbar(
        ScalarMappable(norm=scale.norm, cmap=scale.cmap), cax=axes, extend=scale.extend,
        orientation="horizontal" if horizontal else "vertical",
    )  # fmt: skip
    ticks = [scale.low, 0.0 if scale.signed else scale.high / 2, scale.high]
    bar.set_ticks(ticks, labels=[format_value(tick) for tick in ticks])
    bar.ax.tick_params(labelsize=7, colors=MUTED, length=2)
    bar.outline.set_visible(False)


def clear_axes(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def format_value(value: float) -> str:
    """Return a number in at most seven characters.

    >>> format_value(0.0), format_value(-12.345), format_value(1234567.0), format_value(0.00012)
    ('0', '-12.3', '1.2e+06', '1.2e-04')
    """
    if value == 0:
        return "0"
    return f"{value:.3g}" if 0.001 <= abs(value) < 10_000 else f"{value:.1e}"


def break_name(name: str, width: int) -> str:
    """Return a layer's name in lines of at most ``width`` characters, broken behind dots where possible.

    >>> break_name("blocks.5.2.conv_pwl", 12).splitlines()
    ['blocks.5.2.', 'conv_pwl']
    """
    lines = [""]
    for part in name.replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    pieces = [line[at : at + width] for line in lines for at in range(0, max(len(line), 1), width)]
    return "\n".join(pieces)
