"""What the figures of the layers mean, in sentences; none about a healthy network.

The thresholds stand well outside of what sound networks show. Over 64 test images each, a fine-tuned
EfficientNet-Lite0 with a linear and with a conv head, a ResNet-18 and a ViT trained from scratch had at most
14 % dead units in a layer, at most 8 % saturated numbers, and gradients of 0.04 to 5.2 times the logits' at
every layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from praxiscope.models.layer_statistics import LayerReport, LayerRow

MANY_DEAD = 0.2
"""Share of dead units in a layer from which on it is said."""
MANY_SATURATED = 0.5
"""Share of saturated numbers in a layer from which on it is said."""
VANISHING = 1e-4
"""Gradient norm of a layer over that of the logits below which it is said to vanish."""
EXPLODING = 1e4
"""... above which it is said to explode."""
FEW_IMAGES = 32
"""A unit that fires for one class in twenty is silent on so few."""
_NAMED = 5


def describe_findings(report: LayerReport) -> tuple[str, ...]:
    """Return what is wrong with the layers of a network, the gravest first.

    Args:
        report: As ``collect_histograms`` gives it.

    Returns:
        Sentences; none where nothing is out of the ordinary.
    """
    dead = _describe_dead(report)
    few = (
        f"Over {report.num_images} {report.thing}s, units that fire rarely look dead; take {FEW_IMAGES} or "
        "more to be sure."
    )
    return (
        *_describe_nonfinite(report.layers),
        *_describe_gradients(report.layers),
        *dead,
        *([few] if dead and report.num_images < FEW_IMAGES else []),
        *_describe_saturated(report.layers),
    )


def _describe_nonfinite(layers: Sequence[LayerRow]) -> list[str]:
    broken = [row for row in layers if row.activations.nonfinite]
    if not broken:
        return []
    first = broken[0].activations
    return [
        (
            f"{broken[0].name} is the first of {len(broken)} layers whose outputs are not all finite "
            f"({first.nonfinite} of {int(first.counts.sum())} numbers are infinite or NaN)."
        )
    ]


def _describe_gradients(layers: Sequence[LayerRow]) -> list[str]:
    """Compare the gradient at each layer with that at the last, where the loss begins."""
    end = layers[-1]
    if not end.gradient_norm or not math.isfinite(end.gradient_norm):
        return [
            (
                f"The gradient at {end.name} is {end.gradient_norm:g}: the loss of this sample says nothing "
                "about the layers before it."
            )
        ]
    found = []
    ratios = {row.name: row.gradient_norm / end.gradient_norm for row in layers}
    weak = [name for name, ratio in ratios.items() if ratio < VANISHING]
    strong = [name for name, ratio in ratios.items() if not ratio <= EXPLODING]
    for names, worst, word in ((weak, min, "vanishes"), (strong, max, "explodes")):
        if names:
            name = worst(names, key=lambda each: ratios[each])
            before = (
                "" if len(names) == 1 else f"; so it does at {len(names) - 1} more of {len(layers)} layers"
            )
            found.append(
                f"The gradient at {name} is {ratios[name]:.0e} of that at {end.name}: it {word}{before}."
            )
    return found


def _describe_dead(report: LayerReport) -> list[str]:
    rows = [row for row in report.layers if row.dead_share is not None and row.dead_share >= MANY_DEAD]
    rows.sort(key=lambda row: -(row.dead_share or 0.0))
    sentences = [
        f"{100 * (row.dead_share or 0):.0f} % of units in {row.name} never fire ({row.dead} of {row.units}, "
        f"over {report.num_images} {report.thing}s)."
        for row in rows[:_NAMED]
    ]
    return [*sentences, *_count_rest(len(rows) - _NAMED, f"{100 * MANY_DEAD:.0f} % or more dead units")]


def _describe_saturated(layers: Sequence[LayerRow]) -> list[str]:
    rows = [row for row in layers if (row.saturated_share or 0.0) >= MANY_SATURATED]
    rows.sort(key=lambda row: -(row.saturated_share or 0.0))
    sentences = [
        f"{100 * (row.saturated_share or 0):.0f} % of the outputs of {row.name} ({row.function}) are "
        "saturated: next to no gradient passes there."
        for row in rows[:_NAMED]
    ]
    return [*sentences, *_count_rest(len(rows) - _NAMED, f"{100 * MANY_SATURATED:.0f} % or more saturated")]


def _count_rest(count: int, what: str) -> list[str]:
    if count <= 0:
        return []
    return [f"{count} more layer{'s have' if count > 1 else ' has'} {what}."]
