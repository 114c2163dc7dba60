"""Each runtime against eager fp32 on this CPU, one image and a batch at a time, side by side.

    python benchmarks/runtimes.py [--models resnet18 vit_base_patch16_224] [--batch-sizes 1 32]
                                  [--runtimes NAMES...] [--seconds 60] [--rounds 7] [--threads N]

Random weights, 224 px, generated JPEGs. Each runtime is opened first, its logits compared with eager; what
lies outside the tolerance is refused and not timed. Then all take turns in rounds, each block warmed up,
for ``--seconds`` a batch size and at least ``--rounds`` rounds. ``speedup`` is the median over rounds of
eager's median over this one's in the same round, with its 95 % interval. All runtimes have the same
threads; the C library's allocator keeps large blocks in all of them.
"""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring import format_summary, summarize, write_result
from praxiscope.models.runtime import tune_allocator
from praxiscope.profiling.budget import Budget
from praxiscope.profiling.measure import Bench, open_runtimes, set_up_bench
from praxiscope.profiling.plan import Plan
from praxiscope.profiling.runtimes.catalog import BASELINE, RUNTIMES
from praxiscope.profiling.timing import time_rounds
from praxiscope.runs.environment import count_cores
from praxiscope.stats.intervals import Interval
from praxiscope.workflows.profile_subjects import open_named


def main() -> None:
    """Measure and write ``results/runtimes.json``."""
    arguments = parse_arguments()
    allocator = tune_allocator()
    torch.set_num_threads(arguments.threads)
    models = {name: measure_network(name, arguments) for name in arguments.models}
    write_result(
        arguments.name,
        {"threads": arguments.threads, "malloc": allocator, "img_size": arguments.img_size, "models": models},
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["resnet18", "vit_base_patch16_224"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--runtimes", nargs="+", default=[runtime.name for runtime in RUNTIMES])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=count_cores())
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--name", default="runtimes", help="of the results file")
    return parser.parse_args()


def measure_network(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Open a network in every runtime, then time them in turns with each batch size."""
    # The budget only decides how many images are compared and calibrated on: enough of them.
    plan = Plan(runtimes=tuple(arguments.runtimes), threads=arguments.threads, budget_s=1000.0)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        subject = open_named(name, plan, data=None, img_size=arguments.img_size, folder=folder / "pictures")
        bench = set_up_bench(
            subject, plan, folder, Budget(plan.budget_s), lambda text, _done, _total: print(text)
        )
        open_runtimes(bench)
        rows = {each: describe_check(bench, each) for each in bench.profiles}
        for size in arguments.batch_sizes:
            time_batches(bench, size, arguments, rows)
        bench.sessions.clear()
    for each, row in rows.items():
        print(f"{name:<24} {each:<26} {row['status']} {row['reason'] or ''}")
    return rows


def describe_check(bench: Bench, name: str) -> dict[str, Any]:
    """Return how a runtime's outputs compare with eager's."""
    profile = bench.profiles[name]
    return {
        "status": profile.status,
        "reason": profile.reason,
        "max_abs_diff": profile.max_abs_diff,
        "relative_diff": profile.relative_diff,
        "agreement": profile.agreement,
        "checked_on": profile.checked_on,
    }


def time_batches(bench: Bench, size: int, arguments: argparse.Namespace, rows: dict[str, Any]) -> None:
    """Time all open runtimes in turns with one batch size."""
    images = np.resize(bench.samples, (size, *bench.samples.shape[1:]))
    work = {name: functools.partial(session, images) for name, session in bench.sessions.items()}
    timings = time_rounds(work, seconds=arguments.seconds, min_rounds=arguments.rounds)
    for name in work:
        summary = summarize((1000 * timings.round_medians(name)).tolist())
        rows[name][f"batch_{size}"] = {
            "ms_of_a_call": summary,
            "images_per_s": float(f"{1000 * size / summary['median']:.4g}"),
            "speedup": describe_interval(timings.speedup(name, BASELINE)),
        }
        print(format_summary(f"{bench.subject.label} {name} batch {size}", summary, "ms"))


def describe_interval(interval: Interval) -> dict[str, float | None]:
    """Return an interval as JSON values: null for an end that too few rounds can't give."""
    ends = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: None if math.isnan(end) else float(f"{end:.4g}") for name, end in ends.items()}


if __name__ == "__main__":
    main()
