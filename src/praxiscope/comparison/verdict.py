"""The answer in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from praxiscope.stats.paired import ALPHA

_ROUNDING = 1e-12
"""Means over different numbers of seeds may differ by so much where they are equal."""
_SHORT_NAMES = {
    "exact McNemar test": "McNemar",
    "exact sign-flip test over groups": "sign-flip test over groups",
    "t test over samples and seeds": "t test over samples and seeds",
    "Fisher's exact test, unpaired": "Fisher",
}


def decide_pair(pair: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Return whether a pair can be told apart, and the label of the better one.

    Args:
        pair: With ``test`` (its ``p_holm``) and ``differences``.
    """
    difference = pair["differences"]["all"]["top1"]["value"]
    told_apart = bool(pair["test"]["p_holm"] < ALPHA and difference != 0)
    if not told_apart:
        return False, None
    return True, pair["second"] if difference > 0 else pair["first"]


def tell_pair(pair: Mapping[str, Any], samples: str) -> str:
    """Return a pair's verdict.

    Args:
        pair: With ``told_apart`` and ``better`` too.
        samples: How many were compared, as in ``n = 1,890``.
    """
    figure = pair["differences"]["all"]["top1"]
    value, low, high = figure["value"], figure["low"], figure["high"]
    first, second = pair["first"], pair["second"]
    if pair["told_apart"]:
        if pair["better"] == first:
            first, second, value, low, high = second, first, -value, -high, -low
        return (
            f"{second} is better than {first} by {format_points(value)} of top-1 accuracy "
            f"({_tell_range(low, high)}{_tell_test(pair)}, {samples})."
        )
    leader = f"{second if value > 0 else first} is ahead by {format_points(abs(value))} of top-1 accuracy"
    if abs(value) < _ROUNDING:
        leader = "their top-1 accuracy is the same"
    return (
        f"{first} and {second} can't be told apart with {samples}: {leader} "
        f"({second} minus {first}: {_tell_range(low, high)}{_tell_test(pair)}), and "
        f"{_tell_smallest(pair['smallest_difference']['value'])}."
    )


def tell_all(
    pairs: Sequence[Mapping[str, Any]], contestants: Sequence[Mapping[str, Any]], samples: str
) -> str:
    """Return the verdict over all contestants: that of the pair, or the best against each of the others."""
    if len(pairs) == 1:
        return str(pairs[0]["verdict"])
    best = max(contestants, key=lambda one: one["all"]["top1"]["value"])
    label, value = best["label"], best["all"]["top1"]["value"]
    own = [pair for pair in pairs if label in {pair["first"], pair["second"]}]
    beaten = [_tell_rival(pair, label) for pair in own if pair["told_apart"]]
    equal = [_rival(pair, label) for pair in own if not pair["told_apart"]]
    parts = []
    if beaten:
        parts.append(f"better than {join_words(beaten)}")
    if equal:
        parts.append(f"not to be told apart from {join_words(equal)}")
    return (
        f"{label} has the highest top-1 accuracy, {format_share(value)}: {'; '.join(parts)} ({samples}; "
        f"p-values after Holm over {len(pairs)} pairs)."
    )


def format_points(value: float) -> str:
    """Return a difference of shares in percentage points.

    >>> format_points(0.0312), format_points(0.0003)
    ('3.1 points', '0.03 points')
    """
    points = 100 * value
    return f"{points:.1f} points" if abs(points) >= 0.095 or points == 0 else f"{points:.2f} points"


def format_share(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f} %"


def format_p(value: float) -> str:
    """Return a p-value as ``p = 0.012``, or ``p < 0.0001``."""
    if value < 1e-4:
        return "p < 0.0001"
    return f"p = {value:.2g}" if value < 0.1 else f"p = {value:.2f}"


def join_words(words: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _tell_range(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"95 % {100 * low:.1f} to {100 * high:.1f}, "


def _tell_test(pair: Mapping[str, Any]) -> str:
    test = pair["test"]
    holm = " after Holm" if test["p_holm"] != test["p_value"] else ""
    return f"{_SHORT_NAMES[test['name']]} {format_p(test['p_holm'])}{holm}"


def _tell_smallest(value: float) -> str:
    if math.isnan(value):
        return "no difference could be told with so few samples"
    return f"the smallest difference that could be told is {format_points(value)}"


def _rival(pair: Mapping[str, Any], label: str) -> str:
    return str(pair["second"] if pair["first"] == label else pair["first"])


def _tell_rival(pair: Mapping[str, Any], label: str) -> str:
    figure = pair["differences"]["all"]["top1"]
    value, low, high = figure["value"], figure["low"], figure["high"]
    if pair["first"] == label:
        value, low, high = -value, -high, -low
    return (
        f"{_rival(pair, label)} by {format_points(value)} ({_tell_range(low, high)}"
        f"{format_p(pair['test']['p_holm'])})"
    )
