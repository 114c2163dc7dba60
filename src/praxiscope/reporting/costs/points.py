"""What a cost picture is made of: one point a model and runtime, with its accuracy and its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from praxiscope.stats.pareto import find_pareto

RUNTIMES = (
    "eager-fp32",
    "channels-last",
    "bf16",
    "compiled",
    "onnxruntime",
    "openvino",
    "openvino-bf16",
    "openvino-int8",
    "onnxruntime-int8-dynamic",
    "onnxruntime-int8-static",
)
"""Known runtimes; the place of one is the number of its colour, the same on every page."""
SPARE_COLOURS = 2
"""Further colours for runtimes that aren't in `RUNTIMES`."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval; ``low`` and ``high`` are ``value`` where none was computed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """One model in one runtime."""

    model: str
    runtime: str
    accuracy: Estimate
    """Fraction in [0, 1]."""
    cost: Estimate
    """Milliseconds or mebibytes, > 0."""
    dominated: bool
    """True where another point is at least as accurate and as cheap, and better in one of the two."""
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class CostKind:
    """A cost that accuracy is drawn against."""

    key: str
    title: str
    axis: str
    unit: str
    limit: str
    """Name of the user's limit in ``constraints``."""


LATENCY = CostKind(
    key="latency_ms",
    title="Accuracy against latency",
    axis="latency of one image or clip, median (ms, log scale)",
    unit="ms",
    limit="max_latency_ms",
)
MEMORY = CostKind(
    key="peak_memory_mib",
    title="Accuracy against memory",
    axis="peak memory of a fresh process (MiB, log scale)",
    unit="MiB",
    limit="max_memory_mib",
)


def collect_points(profile: Mapping[str, Any], kind: CostKind) -> tuple[CostPoint, ...]:
    """Return the points that can be drawn, in the profile's order.

    A runtime whose own accuracy wasn't measured stands at its model's; int8 does not, as it changes answers.

    Args:
        profile: The content of ``profile.json``.
        kind: `LATENCY` or `MEMORY`.
    """
    chosen = profile.get("choice") or {}
    found = []
    for entry in profile["entries"]:
        for runtime in entry["runtimes"]:
            accuracy, cost = read_accuracy(entry, runtime), _read_cost(runtime, kind)
            if runtime["status"] == "ok" and accuracy is not None and cost is not None:
                pair = (entry["model"], runtime["runtime"])
                found.append((pair, accuracy, cost))
    best = find_pareto([cost.value for _, _, cost in found], [accuracy.value for _, accuracy, _ in found])
    return tuple(
        CostPoint(
            model=pair[0],
            runtime=pair[1],
            accuracy=accuracy,
            cost=cost,
            dominated=not is_best,
            chosen=pair == (chosen.get("model"), chosen.get("runtime")),
        )
        for (pair, accuracy, cost), is_best in zip(found, best.tolist(), strict=True)
    )


def read_accuracy(entry: Mapping[str, Any], runtime: Mapping[str, Any]) -> Estimate | None:
    """Return the accuracy of a model in a runtime, or None where it isn't known.

    Outputs of a runtime were compared with eager's before it was timed, so the model's accuracy stands for
    those that weren't measured themselves; int8 changes answers, so it needs its own.
    """
    measured = runtime.get("accuracy")
    if measured is None and "int8" not in runtime["runtime"]:
        measured = entry.get("accuracy")
    return read_estimate(measured)


def read_estimate(figure: Mapping[str, Any] | None) -> Estimate | None:
    """Return a figure of a JSON file, or None where it is null."""
    if figure is None or figure.get("value") is None:
        return None
    value = float(figure["value"])
    low, high = (value if figure.get(end) is None else float(figure[end]) for end in ("low", "high"))
    return Estimate(value=value, low=low, high=high) if math.isfinite(value) else None


def number_runtimes(names: Sequence[str]) -> dict[str, int]:
    """Return the colour number of each runtime."""
    spare: dict[str, int] = {}
    for name in names:
        if name not in RUNTIMES and name not in spare:
            spare[name] = len(RUNTIMES) + len(spare) % SPARE_COLOURS
    return {name: RUNTIMES.index(name) if name in RUNTIMES else spare[name] for name in names}


def _read_cost(runtime: Mapping[str, Any], kind: CostKind) -> Estimate | None:
    found = runtime.get(kind.key)
    if kind is LATENCY:
        cost = read_estimate((found or {}).get("p50"))
    else:
        cost = read_estimate(found if isinstance(found, Mapping) else {"value": found})
    return cost if cost is not None and cost.value > 0 else None
