"""A profile as its page shows it: the content of ``profile.json``, arranged and put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from praxiscope.reporting.costs.chart import ParetoChart, build_pareto
from praxiscope.reporting.costs.points import (
    LATENCY,
    MEMORY,
    Estimate,
    number_runtimes,
    read_accuracy,
    read_estimate,
)
from praxiscope.reporting.wording import (
    MISSING,
    NARROW,
    format_count,
    format_interval,
    format_millisecond_interval,
    format_milliseconds,
    format_parameters,
    format_percent,
    format_points,
    format_size,
)

STAGES = ("decode", "preprocess", "model", "postprocess")


@dataclass(frozen=True, kw_only=True)
class RuntimeRow:
    """One runtime of one model that ran."""

    name: str
    colour: int
    chosen: bool
    p50: str
    p50_interval: str
    p90: str
    p99: str
    speedup: str
    speedup_interval: str
    memory: str
    difference: str
    """Largest absolute difference of a logit from eager."""
    agreement: str
    accuracy: str
    accuracy_interval: str
    accuracy_note: str
    """How far the accuracy lies from eager's, where that was measured."""


@dataclass(frozen=True, kw_only=True)
class ThroughputRow:
    """Images per second of one runtime, by batch size."""

    name: str
    colour: int
    cells: tuple[tuple[str, str], ...]
    """(value, interval) in the order of `ModelCosts.batch_sizes`."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One stage of the stacked bar."""

    stage: str
    start: float
    width: float
    """On an axis from 0 to 100."""
    note: str


@dataclass(frozen=True, kw_only=True)
class StageBar:
    """Where the time of one image or clip goes."""

    model: str
    segments: tuple[Segment, ...]
    cells: tuple[tuple[str, str], ...]
    """(p50, p90) of each stage in the order of `STAGES`."""
    total: str


@dataclass(frozen=True, kw_only=True)
class ModelCosts:
    """One model's facts and runtimes."""

    name: str
    facts: tuple[tuple[str, str, str], ...]
    """(label, value, note)"""
    rows: tuple[RuntimeRow, ...]
    missing: tuple[tuple[str, str, str], ...]
    """(runtime, status, reason) of those that did not run."""
    batch_sizes: tuple[int, ...]
    throughput: tuple[ThroughputRow, ...]
    notes: tuple[str, ...]
    repeats: str


@dataclass(frozen=True, kw_only=True)
class CostView:
    """Everything that a page says about costs."""

    recommendation: tuple[str, ...]
    choice: Mapping[str, Any] | None
    limits: str
    charts: tuple[ParetoChart, ...]
    undrawn: str
    models: tuple[ModelCosts, ...]
    stages: tuple[StageBar, ...]
    stage_names: tuple[str, ...]
    machine: tuple[tuple[str, str], ...]


def build_cost_view(profile: Mapping[str, Any]) -> CostView:
    """Arrange a profile.

    Args:
        profile: The content of ``profile.json``.
    """
    entries = profile["entries"]
    names = [runtime["runtime"] for entry in entries for runtime in entry["runtimes"]]
    colours = number_runtimes(list(dict.fromkeys(names)))
    drawn = (build_pareto(profile, kind) for kind in (LATENCY, MEMORY))
    return CostView(
        recommendation=tuple(profile.get("recommendation") or ()),
        choice=profile.get("choice"),
        limits=_describe_limits(profile.get("constraints")),
        charts=tuple(chart for chart in drawn if chart is not None),
        undrawn=_describe_undrawn(entries),
        models=tuple(_build_model(entry, colours, profile.get("choice") or {}) for entry in entries),
        stages=_build_stages(entries),
        stage_names=STAGES,
        machine=tuple(_flatten(profile.get("machine") or {})),
    )


def _describe_limits(constraints: Mapping[str, Any] | None) -> str:
    given = constraints or {}
    parts = []
    if given.get("max_latency_ms"):
        parts.append(f"at most {given['max_latency_ms']:g}{NARROW}ms")
    if given.get("max_memory_mib"):
        parts.append(f"at most {given['max_memory_mib']:g}{NARROW}MiB")
    if given.get("runtime") not in (None, "any"):
        parts.append(f"runtime {given['runtime']}")
    return ", ".join(parts)


def _describe_undrawn(entries: Sequence[Mapping[str, Any]]) -> str:
    """Name what ran and has no accuracy, so that its absence from the picture isn't silent."""
    ran = [
        (entry, runtime) for entry in entries for runtime in entry["runtimes"] if runtime["status"] == "ok"
    ]
    absent = [
        f"{entry['model']} in {runtime['runtime']}"
        for entry, runtime in ran
        if read_accuracy(entry, runtime) is None
    ]
    if len(absent) in (0, len(ran)):
        return ""
    listed = ", ".join(absent[:6]) + (f" and {len(absent) - 6} more" if len(absent) > 6 else "")
    return f"Not drawn, as the accuracy wasn't measured: {listed}."


def _build_model(
    entry: Mapping[str, Any], colours: Mapping[str, int], choice: Mapping[str, Any]
) -> ModelCosts:
    ran = [runtime for runtime in entry["runtimes"] if runtime["status"] == "ok"]
    sizes = tuple(sorted({one["batch_size"] for runtime in ran for one in runtime.get("throughput") or ()}))
    repeats = sorted({one["latency_ms"]["repeats"] for one in ran if one.get("latency_ms")})
    return ModelCosts(
        name=entry["model"],
        facts=_list_facts(entry),
        rows=tuple(
            _build_row(
                entry,
                runtime,
                colours[runtime["runtime"]],
                chosen=(entry["model"], runtime["runtime"]) == (choice.get("model"), choice.get("runtime")),
            )
            for runtime in ran
        ),
        missing=tuple(
            (runtime["runtime"], runtime["status"], runtime["reason"] or "")
            for runtime in entry["runtimes"]
            if runtime["status"] != "ok"
        ),
        batch_sizes=sizes,
        throughput=tuple(_build_throughput(one, colours[one["runtime"]], sizes) for one in ran),
        notes=tuple(entry.get("notes") or ()),
        repeats=" to ".join(dict.fromkeys(format_count(count) for count in (*repeats[:1], *repeats[-1:]))),
    )


def _list_facts(entry: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    accuracy = entry.get("accuracy")
    score = (
        ("Accuracy", format_percent(accuracy["value"]), _describe_accuracy(accuracy))
        if accuracy
        else ("Accuracy", "not measured", "profile a run, not an architecture, to get it")
    )
    frames = entry.get("num_frames")
    unit = "image" if frames is None else f"clip of {frames} frames"
    gmacs, gflops, activations = (entry.get(key) for key in ("gmacs", "gflops", "activations_m"))
    return (
        score,
        ("Parameters", MISSING if entry.get("params") is None else format_parameters(entry["params"]), ""),
        (
            "Multiply-accumulates",
            MISSING if gmacs is None else f"{gmacs:.3g}{NARROW}GMACs",
            "" if gflops is None else f"of one {unit}, {gflops:.3g} GFLOPs",
        ),
        (
            "Activations",
            MISSING if activations is None else f"{activations:.3g}{NARROW}M",
            "values a forward pass makes",
        ),
        ("Image side", f"{entry['img_size']}{NARROW}px" if entry.get("img_size") else MISSING, ""),
    )


def _describe_accuracy(accuracy: Mapping[str, Any]) -> str:
    samples = f"{format_count(accuracy['n'])} {accuracy.get('split') or ''} samples".replace("  ", " ")
    interval = format_interval(accuracy)
    return f"{interval}, {samples}" if interval else samples


def _build_row(
    entry: Mapping[str, Any], runtime: Mapping[str, Any], colour: int, *, chosen: bool
) -> RuntimeRow:
    latency = runtime.get("latency_ms") or {}
    p50, p90, p99 = (latency.get(key) for key in ("p50", "p90", "p99"))
    accuracy = read_accuracy(entry, runtime)
    speedup = read_estimate(runtime.get("speedup_vs_eager"))
    return RuntimeRow(
        name=runtime["runtime"],
        colour=colour,
        chosen=chosen,
        p50=format_milliseconds(_read_value(p50)),
        p50_interval=format_millisecond_interval(p50),
        p90=format_milliseconds(_read_value(p90)),
        p99=format_milliseconds(_read_value(p99)),
        speedup=MISSING if speedup is None else f"{speedup.value:.2g}{NARROW}\u00d7",
        speedup_interval=_format_ratio_interval(speedup),
        memory=format_size(_read_value(runtime.get("peak_memory_mib"))),
        difference=_format_difference(runtime.get("max_abs_diff")),
        agreement=format_percent(runtime.get("agreement")),
        accuracy=MISSING if accuracy is None else format_percent(accuracy.value),
        accuracy_interval="" if accuracy is None else format_interval(vars(accuracy)),
        accuracy_note=_describe_accuracy_difference(runtime, is_known=accuracy is not None),
    )


def _describe_accuracy_difference(runtime: Mapping[str, Any], *, is_known: bool) -> str:
    difference = read_estimate(runtime.get("accuracy_difference"))
    if difference is not None:
        ends = f"{format_points(difference.low)} to {format_points(difference.high)}"
        return f"{format_points(difference.value)} points ({ends}) to eager"
    return "" if not is_known or runtime.get("accuracy") else "the model's, not measured here"


def _read_value(figure: Any) -> float | None:
    return figure.get("value") if isinstance(figure, Mapping) else figure


def _format_ratio_interval(ratio: Estimate | None) -> str:
    return "" if ratio is None or ratio.low == ratio.high else f"{ratio.low:.2f}\u2013{ratio.high:.2f}"


def _format_difference(value: float | None) -> str:
    return MISSING if value is None else ("0" if value == 0 else f"{value:.1e}")


def _build_throughput(runtime: Mapping[str, Any], colour: int, sizes: Sequence[int]) -> ThroughputRow:
    found = {one["batch_size"]: read_estimate(one["images_per_s"]) for one in runtime.get("throughput") or ()}
    return ThroughputRow(
        name=runtime["runtime"],
        colour=colour,
        cells=tuple(_format_speed(found.get(size)) for size in sizes),
    )


def _format_speed(speed: Estimate | None) -> tuple[str, str]:
    if speed is None:
        return MISSING, ""
    digits = 1 if speed.value < 100 else 0
    interval = "" if speed.low == speed.high else f"{speed.low:,.{digits}f}\u2013{speed.high:,.{digits}f}"
    return f"{speed.value:,.{digits}f}", interval


def _build_stages(entries: Sequence[Mapping[str, Any]]) -> tuple[StageBar, ...]:
    timed = {
        entry["model"]: {
            stage: found[stage]["p50"]["value"]
            for stage in STAGES
            if found.get(stage) and found[stage].get("p50")
        }
        for entry in entries
        if (found := entry.get("stages_ms"))
    }
    longest = max((sum(times.values()) for times in timed.values()), default=0.0)
    if longest <= 0:
        return ()
    stages = {entry["model"]: entry["stages_ms"] for entry in entries if entry["model"] in timed}
    return tuple(_build_stage_bar(model, times, stages[model], longest) for model, times in timed.items())


def _build_stage_bar(
    model: str, times: Mapping[str, float], stages: Mapping[str, Any], longest: float
) -> StageBar:
    segments, start = [], 0.0
    for stage, value in times.items():
        width = 100.0 * value / longest
        note = f"{stage}: {format_milliseconds(value)}"
        segments.append(Segment(stage=stage, start=round(start, 2), width=round(width, 2), note=note))
        start += width
    quantiles = [[(stages.get(stage) or {}).get(key) for key in ("p50", "p90")] for stage in STAGES]
    return StageBar(
        model=model,
        segments=tuple(segments),
        cells=tuple(
            (format_milliseconds(_read_value(p50)), format_milliseconds(_read_value(p90)))
            for p50, p90 in quantiles
        ),
        total=format_milliseconds(sum(times.values())),
    )


def _flatten(found: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in found.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            pairs += _flatten(value, f"{name}: ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            pairs.append((name, "none" if value is None else shown))
    return pairs
