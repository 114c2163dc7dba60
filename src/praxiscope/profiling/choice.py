"""Which model in which runtime: limits first, then accuracy as far as it can be told apart, then cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from praxiscope.profiling.result import Accuracy, Choice, Constraints, ModelProfile, RuntimeProfile
from praxiscope.stats.paired import mcnemar_p_values

ALPHA = 0.05
"""Two models whose exact McNemar test gives a p-value above this are not told apart."""
Correct = Mapping[str, bool]
"""Sample id -> whether its top-1 is right."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model in a runtime that was measured, and whose accuracy is known where any is."""

    model: str
    runtime: str
    p50_ms: float
    p90_ms: float
    """The upper end of its interval, where there is one."""
    p90_bounded: bool = True
    """Whether it is the upper end."""
    images_per_s: float
    """Of the batch size with which it is largest."""
    batch_size: int
    """That batch size."""
    num_frames: int | None = None
    """Frames of a clip; None of a model of images."""
    peak_memory_mib: float | None
    accuracy: Accuracy | None
    """The runtime's own where it was computed; else the model's."""
    correct: Correct = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"{self.model} in {self.runtime}"

    @property
    def unit(self) -> str:
        """What a call with one sample is of."""
        return "image" if self.num_frames is None else f"clip of {self.num_frames} frames"

    @property
    def rate(self) -> str:
        """How many samples a second it does, in words."""
        if self.num_frames is None:
            return f"{_round(self.images_per_s)} images/s"
        frames = _round(self.images_per_s * self.num_frames)
        return f"{_round(self.images_per_s)} clips/s ({frames} frames/s)"

    @property
    def cost(self) -> tuple[float, float]:
        """What makes it cheap: median latency, then memory."""
        return self.p50_ms, math.inf if self.peak_memory_mib is None else self.peak_memory_mib


def list_candidates(
    entries: Sequence[ModelProfile], correct: Mapping[tuple[str, str | None], Correct]
) -> list[Candidate]:
    """Return every model in every runtime that was timed.

    int8 changes predictions, so it is a candidate only where its own accuracy was computed.

    Args:
        entries: the profiles.
        correct: (model, runtime) -> which samples are right; (model, None) of the model itself.
    """
    found = []
    for entry in entries:
        for runtime in entry.runtimes:
            if runtime.latency_ms is None or ("int8" in runtime.runtime and runtime.accuracy is None):
                continue
            own = correct.get((entry.model, runtime.runtime), correct.get((entry.model, None), {}))
            found.append(_build_candidate(entry, runtime, own))
    return found


def _build_candidate(entry: ModelProfile, runtime: RuntimeProfile, correct: Correct) -> Candidate:
    assert runtime.latency_ms is not None
    p90 = runtime.latency_ms.p90
    fastest = max(runtime.throughput, key=lambda each: each.images_per_s.value, default=None)
    return Candidate(
        model=entry.model,
        runtime=runtime.runtime,
        p50_ms=runtime.latency_ms.p50.value,
        p90_ms=p90.value if math.isnan(p90.high) else p90.high,
        p90_bounded=not math.isnan(p90.high),
        images_per_s=1000 / runtime.latency_ms.p50.value if fastest is None else fastest.images_per_s.value,
        batch_size=1 if fastest is None else fastest.batch_size,
        peak_memory_mib=runtime.peak_memory_mib,
        accuracy=runtime.accuracy or entry.accuracy,
        correct=correct,
        num_frames=entry.num_frames,
    )


def choose(candidates: Sequence[Candidate], constraints: Constraints) -> Choice:
    """Pick the most accurate candidate that keeps the limits, or a cheaper one that can't be told from it.

    A latency limit is kept when the upper end of p90's interval keeps it; a memory limit when the peak of a
    fresh process does. What wasn't measured keeps no limit.

    Args:
        candidates: from `list_candidates`.
        constraints: the limits.
    """
    allowed = [each for each in candidates if constraints.runtime in {"any", each.runtime}]
    if not allowed:
        there = ", ".join(sorted({each.runtime for each in candidates})) or "none"
        hint = " An int8 runtime needs its own accuracy: --accuracy." if "int8" in constraints.runtime else ""
        return _refuse(
            f"No model can be chosen in the runtime '{constraints.runtime}'; those to choose from: {there}."
            f"{hint}"
        )
    fitting = [each for each in allowed if _excess(each, constraints) <= 1]
    if not fitting:
        nearest = min(allowed, key=lambda each: _excess(each, constraints))
        return _refuse(
            f"Nothing keeps the limits. Nearest is {nearest.name}: {_explain_excess(nearest, constraints)}."
        )
    picked, reason = pick(fitting)
    return Choice(
        model=picked.model,
        runtime=picked.runtime,
        reason=f"{len(fitting)} of {len(allowed)} keep the limits. {reason}",
    )


def pick(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """Return the cheapest of those that can't be told from the most accurate, and why.

    Args:
        candidates: at least one.
    """
    known = [each for each in candidates if each.accuracy is not None]
    if not known:
        cheapest = min(candidates, key=lambda each: each.cost)
        return cheapest, f"No accuracy is known, so the quickest is taken: {describe_cost(cheapest)}."
    best = max(known, key=_rank)
    equals = [each for each in known if each is best or not is_worse(each, best)]
    picked = min(equals, key=lambda each: each.cost)
    if picked is best:
        others = "nothing cheaper comes within what these samples can tell"
        return best, f"It is the most accurate ({_percent(best)}), and {others}: {describe_cost(best)}."
    if picked.model == best.model:
        return picked, (
            f"{best.model} is the most accurate ({_percent(best)}), and so it is quickest: "
            f"{describe_cost(picked)}."
        )
    return picked, (
        f"Its accuracy ({_percent(picked)}) can't be told from that of the most accurate, {best.name} "
        f"({_percent(best)}), and it is the cheapest of which that holds: {describe_cost(picked)}."
    )


def is_worse(candidate: Candidate, best: Candidate) -> bool:
    """Whether a candidate is less accurate than the best, as far as the samples can tell.

    By the exact McNemar test where both predicted the same samples; else when their intervals don't overlap.
    """
    shared = candidate.correct.keys() & best.correct.keys()
    if shared:
        only_best = sum(best.correct[key] and not candidate.correct[key] for key in shared)
        only_candidate = sum(candidate.correct[key] and not best.correct[key] for key in shared)
        return only_best > only_candidate and float(mcnemar_p_values(only_best, only_candidate)) < ALPHA
    assert candidate.accuracy is not None
    assert best.accuracy is not None
    return candidate.accuracy.high < best.accuracy.low


def describe_cost(candidate: Candidate) -> str:
    """Return latency and memory in words."""
    memory = candidate.peak_memory_mib
    peak = "memory not measured" if memory is None else f"peak memory {memory:.0f} MiB"
    p90 = "p90 at most" if candidate.p90_bounded else "too few calls to bound p90, about"
    return f"one {candidate.unit} takes {candidate.p50_ms:.3g} ms (p50; {p90} {candidate.p90_ms:.3g}), {peak}"


def _rank(candidate: Candidate) -> tuple[float, float]:
    assert candidate.accuracy is not None
    return candidate.accuracy.value, -candidate.p50_ms


def _percent(candidate: Candidate) -> str:
    found = candidate.accuracy
    assert found is not None
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.value:.1f} %, {low:.1f} to {high:.1f}, on {found.n} {found.split} samples"


def _excess(candidate: Candidate, constraints: Constraints) -> float:
    """Return the largest ratio of a cost to its limit; at most 1 keeps all limits."""
    ratios = [0.0]
    if constraints.max_latency_ms is not None:
        ratios.append(candidate.p90_ms / constraints.max_latency_ms)
    if constraints.max_memory_mib is not None:
        known = candidate.peak_memory_mib
        ratios.append(math.inf if known is None else known / constraints.max_memory_mib)
    return max(ratios)


def _explain_excess(candidate: Candidate, constraints: Constraints) -> str:
    parts = []
    latency, memory = constraints.max_latency_ms, constraints.max_memory_mib
    if latency is not None and candidate.p90_ms > latency:
        parts.append(f"its p90 latency is {candidate.p90_ms:.3g} ms, {latency:g} are allowed")
    if memory is not None and candidate.peak_memory_mib is None:
        parts.append("its memory was not measured")
    elif memory is not None and candidate.peak_memory_mib is not None and candidate.peak_memory_mib > memory:
        parts.append(f"its peak memory is {candidate.peak_memory_mib:.0f} MiB, {memory:g} are allowed")
    return "; ".join(parts)


def _refuse(reason: str) -> Choice:
    return Choice(model=None, runtime=None, reason=reason)


def _round(value: float) -> str:
    """Write a rate with three digits, without an exponent."""
    return f"{value:.3g}" if value < 100 else f"{float(f'{value:.3g}'):,.0f}"


# ------------------------------------------------------------------------------------ recommendation


def recommend(candidates: Sequence[Candidate], *, cpu: str, threads: int) -> tuple[str, ...]:
    """Say what the measured numbers say about a device that sees one image at a time, and about a server.

    Args:
        candidates: from `list_candidates`.
        cpu: what they were measured on.
        threads: that each runtime had.
    """
    if not candidates:
        return ("Nothing was timed, so nothing can be recommended.",)
    equals = _list_equals(candidates)
    known = equals[0].accuracy is not None
    basis = (
        "among those whose accuracy can't be told from the best"
        if known
        else "by cost alone, as no accuracy is known"
    )
    edge = min(equals, key=lambda each: each.cost)
    server = max(equals, key=lambda each: each.images_per_s)
    rate = f"{server.rate} in batches of {server.batch_size}"
    many = "images" if server.num_frames is None else "clips"
    sentences = [
        f"One {edge.unit} at a time (an edge device): {edge.name}, {basis}: {describe_cost(edge)}.",
        f"Many {many} at once (a server): {server.name}, {basis}: {rate}.",
    ]
    measured = [each for each in equals if each.peak_memory_mib is not None]
    if edge in measured:
        small = min(measured, key=lambda each: each.cost[1])
        if small is not edge:
            sentences.append(f"Where memory is short: {small.name}, {basis}: {describe_cost(small)}.")
    if known:
        sentences.append(f"Accuracy: {edge.name} {_percent(edge)}.")
    sentences.append(
        f"Measured on {cpu} with {threads} {'thread' if threads == 1 else 'threads'}; another device must be "
        "measured itself."
    )
    return tuple(sentences)


def _list_equals(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that can't be told from the most accurate; all where no accuracy is known."""
    known = [each for each in candidates if each.accuracy is not None]
    if not known:
        return list(candidates)
    best = max(known, key=_rank)
    return [each for each in known if each is best or not is_worse(each, best)]
