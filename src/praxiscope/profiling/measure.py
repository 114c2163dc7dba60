"""Profile one model within its time: costs, stages, each runtime checked, then timed side by side."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from praxiscope.errors import PraxiscopeError
from praxiscope.models.cost import count_activations, count_compute
from praxiscope.profiling.budget import Budget
from praxiscope.profiling.material import Images, Logits, Material
from praxiscope.profiling.memory import measure_peak_memory
from praxiscope.profiling.parity import compare_logits
from praxiscope.profiling.plan import Plan, Subject
from praxiscope.profiling.result import Latency, ModelProfile, RuntimeProfile, Throughput
from praxiscope.profiling.runtimes.catalog import BASELINE, SLOW_TO_OPEN, find_runtimes
from praxiscope.profiling.runtimes.session import Runtime, Session
from praxiscope.profiling.stages import time_stages
from praxiscope.profiling.timing import QUANTILES, Timings, has_enough, time_rounds
from praxiscope.stats.intervals import Interval
from praxiscope.stats.latency import quantile_interval, smallest_sample
from praxiscope.tensors import Heads

Progress = Callable[[str, int, int], None]

# Shares of the budget at which a part ends; what it leaves over goes to the next.
_STAGES, _OPEN_END, _MEMORY_END, _LATENCY_END = 0.05, 0.5, 0.65, 0.85
# A part that comes late still gets this share: a figure from few calls beats none, and its interval says so.
_LEAST = 0.05
# Batches of a size are left out if a round of them is expected to take longer than what is left and this.
_LATE = 0.15
_CALLS_OF_A_ROUND = 4  # two to choose how many, one that isn't counted, one that is
# How much of the budget one runtime's check may take, and calibration's images in eager; and their numbers.
_CHECK_SHARE, _NUM_CHECKED = 0.02, (8, 32)
_CALIBRATION_SHARE, _NUM_CALIBRATION = 0.1, (16, 64)
_CHECK_BATCHES = (1, 3, 8)
# What a runtime may fail with: a kernel that it lacks, a graph that it can't read, no room on the disk.
_FAILURES = (PraxiscopeError, RuntimeError, ValueError, TypeError, OSError, ImportError)


@dataclass(kw_only=True)
class Bench:
    """A model on the bench: its open runtimes and what is known about each so far."""

    subject: Subject
    plan: Plan
    material: Material
    samples: Images
    budget: Budget
    progress: Progress
    profiles: dict[str, RuntimeProfile] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def update(self, name: str, **changes: object) -> None:
        """Add to what is known about a runtime."""
        self.profiles[name] = replace(self.profiles[name], **changes)  # type: ignore[arg-type]

    def is_late(self, name: str) -> bool:
        """Whether too little time remains to open a runtime that wasn't asked for by name."""
        if self.plan.runtimes is not None or name == BASELINE:
            return False
        return self.budget.left(_OPEN_END) <= SLOW_TO_OPEN.get(name, 0.0)

    def say(self, text: str) -> None:
        """Tell what is going on."""
        self.progress(f"{self.subject.label}: {text}", 0, 1)


def measure_model(
    subject: Subject, plan: Plan, folder: Path, progress: Progress
) -> tuple[ModelProfile, Bench]:
    """Profile a model.

    Args:
        subject: the model and its images.
        plan: how.
        folder: an empty folder for files of the runtimes; the open sessions use them.
        progress: told what is going on.

    Returns:
        Its profile, and the bench with the sessions that passed.
    """
    budget = Budget(plan.budget_s)
    bench = set_up_bench(subject, plan, folder, budget, progress)
    open_runtimes(bench)
    bench.say("decode, preprocess, model, postprocess")
    stages = time_stages(
        subject.pipeline, subject.sample_paths, bench.sessions[BASELINE], seconds=_STAGES * plan.budget_s
    )
    _measure_memory(bench)
    _time_latency(bench)
    _time_throughput(bench)
    cost = count_compute(subject.built.module, img_size=bench.material.img_size)
    profile = ModelProfile(
        model=subject.label,
        run=subject.run,
        img_size=bench.material.img_size,
        params=subject.built.num_parameters,
        gmacs=cost.gmacs,
        gflops=cost.gflops,
        activations_m=count_activations(subject.built.module, img_size=bench.material.img_size) / 1e6,
        accuracy=subject.accuracy,
        runtimes=tuple(bench.profiles.values()),
        stages_ms=stages,
        images=subject.images,
        notes=(*subject.notes, *bench.notes),
        num_frames=subject.section.num_frames,
    )
    return profile, bench


def run_in_batches(session: Session, images: Images, sizes: tuple[int, ...] = _CHECK_BATCHES) -> Logits:
    """Return logits (N, K) of N images or clips, computed in batches of these sizes, the last one repeated.

    Sizes that differ show a runtime that is right for one size only.
    """
    parts: list[Logits] = []
    start = 0
    for size in _repeat_last(sizes):
        if start >= len(images):
            break
        parts.append(session(np.ascontiguousarray(images[start : start + size])))
        start += size
    return np.concatenate(parts)


def _repeat_last(sizes: tuple[int, ...]) -> Iterator[int]:
    yield from sizes
    while True:
        yield sizes[-1]


# ------------------------------------------------------------------------------------ files and sessions


def set_up_bench(subject: Subject, plan: Plan, folder: Path, budget: Budget, progress: Progress) -> Bench:
    """Write the model and its images where runtimes find them; arguments as of `measure_model`."""
    material = Material(
        folder=folder,
        section=subject.section.model_dump(mode="json"),
        num_classes=subject.num_classes,
        img_size=subject.pipeline.transform.spec.img_size,
        transformer=subject.built.card.family == "vit",
        threads=plan.threads,
    )
    state = subject.built.module.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, material.weights)
    image_s = _time_one_image(subject, plan)
    checked = _limit(_NUM_CHECKED, _CHECK_SHARE * plan.budget_s, image_s)
    samples = subject.pipeline.read(subject.sample_paths[:checked])
    np.save(material.samples, samples)
    if subject.calibration_paths:
        calibrated = _limit(_NUM_CALIBRATION, _CALIBRATION_SHARE * plan.budget_s, image_s)
        np.save(material.calibration, subject.pipeline.read(subject.calibration_paths[:calibrated]))
    return Bench(
        subject=subject, plan=plan, material=material, samples=samples, budget=budget, progress=progress
    )


def _time_one_image(subject: Subject, plan: Plan) -> float:
    """Return about how many seconds eager takes for an image."""
    import torch

    torch.set_num_threads(plan.threads)
    image = torch.from_numpy(subject.pipeline.read(subject.sample_paths[:1]))
    module = subject.built.module.eval()
    with torch.inference_mode():
        module(image)
        start = time.perf_counter()
        module(image)
    return time.perf_counter() - start


def _limit(bounds: tuple[int, int], seconds: float, image_s: float) -> int:
    """Return how many images fit into some seconds, within bounds."""
    least, most = bounds
    return max(least, min(most, int(seconds / max(image_s, 1e-9))))


def open_runtimes(bench: Bench) -> None:
    """Open each runtime and compare its outputs with eager's; fills ``profiles`` and ``sessions``."""
    expected: Logits | None = None
    for runtime in find_runtimes(bench.plan.runtimes):
        name = runtime.name
        reason = runtime.explain_absence()
        if reason is None and bench.is_late(name):
            reason = "left out: too little of the time remained when its turn came; raise --budget"
            bench.notes.append(f"{name} was {reason}, or name it with --runtimes.")
        if reason is not None:
            bench.profiles[name] = RuntimeProfile(runtime=name, status="absent", reason=reason)
            continue
        bench.say(f"opening {name}")
        try:
            session, logits = _open_one(runtime, bench)
        except _FAILURES as problem:
            if expected is None:
                raise
            text = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
            bench.profiles[name] = RuntimeProfile(runtime=name, status="refused", reason=f"it failed: {text}")
            continue
        expected = logits if expected is None else expected
        bench.profiles[name] = _check(
            runtime, expected, logits, trained=bench.subject.trained, heads=bench.subject.heads
        )
        if bench.profiles[name].status == "ok":
            bench.sessions[name] = session


def _open_one(runtime: Runtime, bench: Bench) -> tuple[Session, Logits]:
    runtime.prepare(bench.material)
    session = runtime.open(bench.material)
    return session, run_in_batches(session, bench.samples)


def _check(
    runtime: Runtime, expected: Logits, logits: Logits, *, trained: bool, heads: Heads | None
) -> RuntimeProfile:
    parity = compare_logits(expected, logits, runtime.precision, trained=trained, heads=heads)
    return RuntimeProfile(
        runtime=runtime.name,
        status="ok" if parity.refusal is None else "refused",
        reason=parity.refusal,
        max_abs_diff=parity.max_abs_diff,
        relative_diff=parity.relative_diff,
        agreement=parity.agreement,
        checked_on=len(expected),
    )


# ------------------------------------------------------------------------------------ memory and time


def _measure_memory(bench: Bench) -> None:
    """Measure peak memory in fresh processes, as long as there is time."""
    without = []
    # Those without torch first: a second each.
    for name in sorted(bench.sessions, key=lambda each: not each.startswith(("onnxruntime", "openvino"))):
        if name != BASELINE and not bench.budget.left(_MEMORY_END):
            without.append(name)
            continue
        bench.say(f"memory of {name} in a fresh process")
        bench.update(name, peak_memory_mib=measure_peak_memory(bench.material, name))
        if bench.profiles[name].peak_memory_mib is None:
            bench.notes.append(f"Memory of {name}: the fresh process gave no figure.")
    if without:
        bench.notes.append(f"Memory was left out for {', '.join(without)}: no time; raise --budget.")


def _time_latency(bench: Bench) -> None:
    """Time one image at a time, all runtimes in turns."""
    bench.say("latency of one sample")
    image = bench.samples[:1]
    work = {name: functools.partial(session, image) for name, session in bench.sessions.items()}
    timings = time_rounds(work, seconds=_seconds(bench, _LATENCY_END), patience_s=_seconds(bench, 1.0, _LATE))
    for name in work:
        speedup = None if name == BASELINE else timings.speedup(name, BASELINE)
        bench.update(name, latency_ms=_describe_latency(timings, name), speedup=speedup)
    few = [name for name in work if not has_enough(len(timings.seconds(name)), "p99")]
    if few:
        bench.notes.append(
            f"p99 has no upper end for {', '.join(few)}: it needs {smallest_sample(QUANTILES['p99'])} calls; "
            "raise --budget."
        )


def _describe_latency(timings: Timings[str], name: str) -> Latency:
    taken, medians = 1000 * timings.seconds(name), 1000 * timings.round_medians(name)
    found = {key: quantile_interval(taken, share) for key, share in QUANTILES.items()}
    return Latency(
        p50=found["p50"],
        p90=found["p90"],
        p99=found["p99"],
        repeats=len(taken),
        rounds=len(medians),
        round_low=float(medians.min()),
        round_high=float(medians.max()),
    )


def _time_throughput(bench: Bench) -> None:
    """Time whole batches, all runtimes in turns."""
    sizes = bench.plan.batch_sizes
    found: dict[str, list[Throughput]] = {name: [] for name in bench.sessions}
    for place, size in enumerate(sizes):
        if place and (needed := _expect_round(bench, size)) > _seconds(bench, 1.0, _LATE):
            bench.notes.append(
                f"Batches of {size} were left out: a round takes about {needed:.0f} s; raise --budget."
            )
            continue
        bench.say(f"throughput in batches of {size}")
        images = np.resize(bench.samples, (size, *bench.samples.shape[1:]))
        work = {name: functools.partial(session, images) for name, session in bench.sessions.items()}
        share = _LATENCY_END + (1 - _LATENCY_END) * (place + 1) / len(sizes)
        timings = time_rounds(
            work,
            seconds=_seconds(bench, share, _LEAST / len(sizes)),
            patience_s=_seconds(bench, 1.0, _LATE),
        )
        for name in work:
            found[name].append(_describe_throughput(timings, name, size))
    for name, rows in found.items():
        bench.update(name, throughput=tuple(rows))
    if bench.budget.used() > 1.2 * bench.plan.budget_s:
        bench.notes.append(
            f"It took {bench.budget.used():.0f} s instead of {bench.plan.budget_s:g}: each part makes a few "
            "calls, however long they take."
        )


def _expect_round(bench: Bench, size: int) -> float:
    """Return about how many seconds a round of batches takes at the pace of single images."""
    found = (bench.profiles[name].latency_ms for name in bench.sessions)
    return _CALLS_OF_A_ROUND * size * sum(each.p50.value for each in found if each is not None) / 1000


def _describe_throughput(timings: Timings[str], name: str, size: int) -> Throughput:
    """Turn seconds of a batch into images per second; the slow end of one is the fast end of the other."""
    seconds = quantile_interval(timings.seconds(name), QUANTILES["p50"])
    return Throughput(
        batch_size=size,
        images_per_s=Interval(value=size / seconds.value, low=size / seconds.high, high=size / seconds.low),
    )


def _seconds(bench: Bench, share: float, least: float = _LEAST) -> float:
    return max(bench.budget.left(share), least * bench.plan.budget_s)
