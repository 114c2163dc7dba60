"""``praxiscope profile``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from praxiscope.cli.options import RunsFolder
from praxiscope.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from praxiscope.profiling.result import ModelProfile, ProfileResult, RuntimeProfile

_TABLE_WIDTH = 130


def profile(  # noqa: PLR0913, PLR0917 - one parameter a flag
    sources: Annotated[
        list[str], typer.Argument(metavar="MODEL|RUN...", help="Models by name, runs, or RECIPE@latest.")
    ],
    runtimes: Annotated[
        list[str] | None,
        typer.Option("--runtimes", metavar="NAMES", help="Only these, by commas; eager is always measured."),
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Pick the best whose p90 latency keeps this.")
    ] = None,
    max_memory_mib: Annotated[
        float | None, typer.Option(metavar="MIB", help="Pick the best whose peak memory keeps this.")
    ] = None,
    runtime: Annotated[str, typer.Option(metavar="NAME", help="Pick in this runtime only.")] = "any",
    batch_sizes: Annotated[str, typer.Option(metavar="N,N", help="Of the throughput.")] = "1,8,32",
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of every runtime; default: one a core.")
    ] = None,
    budget: Annotated[float, typer.Option(metavar="S", help="Seconds for one model, about.")] = 60.0,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Compute the accuracy of each runtime, int8 too (runs only).")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Samples for that at most; default: all.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Whose accuracy: test or val.")] = "test",
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Images for models by name; a run's data if moved."),
    ] = None,
    img_size: Annotated[
        int | None, typer.Option(metavar="PX", min=1, help="Side of the input of models by name.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Default: runs/profile/<time>/ below --runs."),
    ] = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Measure what models cost in each runtime, checked against eager fp32; pick one within limits."""
    from praxiscope.cli.arguments import split_names
    from praxiscope.cli.display import open_display
    from praxiscope.profiling.plan import Plan
    from praxiscope.profiling.result import Constraints
    from praxiscope.runs.environment import count_cores
    from praxiscope.workflows.profile import profile as run_profile

    names = split_names(runtimes)
    constraints = Constraints(max_latency_ms=max_latency_ms, max_memory_mib=max_memory_mib, runtime=runtime)
    with open_display() as display:
        outcome = run_profile(
            sources,
            plan=Plan(
                runtimes=None if names is None else tuple(names),
                batch_sizes=_parse_sizes(batch_sizes),
                threads=threads or count_cores(),
                budget_s=budget,
                split=split,
                accuracy=accuracy,
                samples=samples,
            ),
            constraints=constraints if constraints.given else None,
            data=data,
            img_size=img_size,
            output=output,
            runs=runs,
            watch=display,
        )
    _show(outcome.result)
    typer.echo(f"Files: {outcome.folder}")


def _parse_sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"--batch-sizes '{text}': give numbers by commas, such as 1,8,32.") from None


def _show(result: ProfileResult) -> None:
    """Print a table for each model, what was left out, the choice and the recommendation."""
    from rich.console import Console

    console = Console(highlight=False)
    # Narrow terminals and pipes wrap a table's lines rather than lose figures.
    console.width = max(console.width, _TABLE_WIDTH)
    for entry in result.entries:
        console.print(_describe_entry(entry), markup=False, soft_wrap=True)
        console.print(_build_table(entry))
        for line in _list_remarks(entry):
            console.print(line, markup=False, soft_wrap=True)
    if result.choice is not None:
        picked = (
            "nothing" if result.choice.model is None else f"{result.choice.model} in {result.choice.runtime}"
        )
        console.print(f"Choice: {picked}. {result.choice.reason}", markup=False, soft_wrap=True)
    for sentence in result.recommendation:
        console.print(sentence, markup=False, soft_wrap=True)


def _describe_entry(entry: ModelProfile) -> str:
    counts = (
        f"{entry.params / 1e6:.2f} M parameters, {entry.gmacs:.3g} GMACs, {entry.gflops:.3g} GFLOPs, "
        f"{entry.activations_m:.3g} M activations at {entry.img_size} px"
    )
    if entry.accuracy is None:
        return f"\n{entry.model}: {counts}"
    low, value, high = (
        100 * each for each in (entry.accuracy.low, entry.accuracy.value, entry.accuracy.high)
    )
    return f"\n{entry.model}: {counts}, {entry.accuracy.split} top-1 {value:.1f} % ({low:.1f} to {high:.1f})"


def _build_table(entry: ModelProfile) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    sizes = next((runtime.throughput for runtime in entry.runtimes if runtime.throughput), ())
    unit = "img" if entry.num_frames is None else "clips"
    heads = ["p50 ms (95 %)", "p90", "p99", "x eager", *(f"{unit}/s of {each.batch_size}" for each in sizes)]
    table.add_column("runtime", no_wrap=True)
    for head in [*heads, "MiB", "max diff"]:
        table.add_column(head, justify="right", no_wrap=True)
    for runtime in entry.runtimes:
        if runtime.latency_ms is not None:
            table.add_row(*_list_cells(runtime))
    return table


def _list_cells(runtime: RuntimeProfile) -> Iterable[str]:
    latency = runtime.latency_ms
    assert latency is not None
    yield runtime.runtime
    yield f"{_number(latency.p50.value)} ({_number(latency.p50.low)}-{_number(latency.p50.high)})"
    yield _number(latency.p90.value)
    yield _number(latency.p99.value)
    yield "" if runtime.speedup is None else f"{runtime.speedup.value:.2f}"
    for each in runtime.throughput:
        yield _number(each.images_per_s.value)
    yield "" if runtime.peak_memory_mib is None else _number(runtime.peak_memory_mib)
    yield "" if runtime.max_abs_diff is None else f"{runtime.max_abs_diff:.1g}"


def _number(value: float) -> str:
    """Return three digits, or the whole number; a question mark for an end that is not known."""
    if math.isnan(value):
        return "?"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _list_remarks(entry: ModelProfile) -> Iterable[str]:
    """Yield stages, accuracies, what is absent or refused, and notes, in words."""
    stages = ", ".join(f"{name} {_number(found['p50'].value)}" for name, found in entry.stages_ms.items())
    unit = "image" if entry.num_frames is None else f"clip of {entry.num_frames} frames"
    yield f"One {unit} in eager, p50 in ms: {stages} ({entry.images})"
    fastest = max(
        (each.images_per_s.value for runtime in entry.runtimes for each in runtime.throughput), default=None
    )
    if entry.num_frames is not None and fastest is not None:
        frames = fastest * entry.num_frames
        yield f"At most {_number(fastest)} clips/s, {_number(frames)} frames/s, in the model alone"
    for runtime in entry.runtimes:
        found = runtime.accuracy_difference
        if found is not None:
            low, value, high = (100 * each for each in (found.low, found.value, found.high))
            span = f"{low:+.1f} to {high:+.1f}, {found.n} samples"
            yield f"{runtime.runtime}: top-1 {value:+.1f} points from eager ({span})"
        if runtime.status != "ok":
            yield f"{runtime.runtime} {runtime.status}: {runtime.reason}"
    yield from (f"Note: {note}" for note in entry.notes)
