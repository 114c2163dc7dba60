"""Profile: what models cost in each runtime, which one keeps the limits, and what the numbers recommend."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.models.runtime import tune_allocator
from praxiscope.profiling.accuracy import measure_accuracy, measure_difference, predict_all
from praxiscope.profiling.choice import Correct, choose, list_candidates, recommend
from praxiscope.profiling.measure import Bench, measure_model
from praxiscope.profiling.plan import Plan, Subject
from praxiscope.profiling.result import Constraints, ModelProfile, ProfileResult
from praxiscope.profiling.runtimes.catalog import BASELINE, find_runtimes
from praxiscope.reporting.costs.build import build_profile_page
from praxiscope.reporting.costs.figures import write_profile_figures
from praxiscope.runs import atomic
from praxiscope.runs.environment import count_cores, describe_environment
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.evaluate import SPLITS
from praxiscope.workflows.profile_subjects import find_sources, name_runs, open_named, open_run

_VERSIONS = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
_MACHINE = (
    "os",
    "cpu",
    "cpu_flags",
    "cores",
    "memory_mib",
    "python",
    "torch",
    "torchvision",
    "timm",
    "praxiscope",
)


@dataclass(frozen=True, kw_only=True)
class ProfileOutcome:
    """What a profile left behind.

    Attributes:
        result: every figure.
        folder: of ``profile.json``, ``profile.csv``, ``profile.html``.
    """

    result: ProfileResult
    folder: Path


def profile(  # noqa: PLR0913 - one parameter a flag
    sources: Sequence[str | Path],
    *,
    plan: Plan | None = None,
    constraints: Constraints | None = None,
    data: Path | str | None = None,
    img_size: int | None = None,
    output: Path | str | None = None,
    runs: Path | str = "runs",
    watch: Watcher | None = None,
) -> ProfileOutcome:
    """Measure what models cost.

    Args:
        sources: runs, their folders, ``recipe@latest``, or names of models.
        plan: how; by default every runtime, with as many threads as there are cores.
        constraints: limits; None picks nothing.
        data: of a run, where its data folder is now; of a model by name, a folder of images.
        img_size: of models by name; a run's is its own.
        output: folder of the results; ``runs/profile/<UTC time>/`` by default.
        runs: folder of all runs, for names.
        watch: follows progress.

    Raises:
        UsageError: no such model, run, runtime or split.
        DataError: the images aren't there.
        IntegrityError: a run's checkpoint is damaged.
    """
    watch = watch or Silent()
    plan = plan or Plan(threads=count_cores())
    _validate(plan, constraints)
    found = find_sources(sources, Path(runs))
    place = _make_folder(output, Path(runs))
    allocator = tune_allocator()
    where = None if data is None else Path(data).expanduser()
    entries: list[ModelProfile] = []
    correct: dict[tuple[str, str | None], Correct] = {}
    with _threads(plan.threads):
        for label, source in zip(name_runs(found), found, strict=True):
            with tempfile.TemporaryDirectory(
                prefix="praxiscope-profile-", ignore_cleanup_errors=True
            ) as temporary:
                folder = Path(temporary)
                subject = _open(source, label, plan, where, img_size, folder, watch)
                watch.note(f"{label}: {subject.images}.")
                entry, bench = measure_model(subject, plan, folder, watch.phase)
                correct[label, None] = subject.correct
                if subject.labelled is not None:
                    entry = _add_accuracy(entry, bench, correct, watch)
                entries.append(entry)
                # Runtimes map their files; on Windows a mapped file can't be removed.
                bench.sessions.clear()
    result = _conclude(entries, correct, plan, constraints, allocator)
    return ProfileOutcome(result=result, folder=_write(result, place))


def _validate(plan: Plan, constraints: Constraints | None) -> None:
    """Refuse what can't be measured, before anything slow."""
    find_runtimes(plan.runtimes)
    if constraints is not None and constraints.runtime != "any":
        find_runtimes((constraints.runtime,))
        if plan.runtimes is not None and constraints.runtime not in {BASELINE, *plan.runtimes}:
            raise UsageError(
                f"--runtime {constraints.runtime} is not among --runtimes {','.join(plan.runtimes)}: add it."
            )
    if constraints is not None:
        _require_positive("--max-latency-ms", constraints.max_latency_ms, "milliseconds")
        _require_positive("--max-memory-mib", constraints.max_memory_mib, "MiB")
    if plan.split not in SPLITS:
        raise UsageError(f"--split '{plan.split}': choose one of {', '.join(SPLITS)}.")
    if not plan.batch_sizes or min(plan.batch_sizes) < 1:
        raise UsageError(f"--batch-sizes {plan.batch_sizes}: give numbers of at least 1, such as 1,8,32.")
    if plan.threads < 1:
        raise UsageError(f"--threads {plan.threads}: give at least 1.")
    _require_positive("--budget", plan.budget_s, "seconds")


def _require_positive(flag: str, value: float | None, unit: str) -> None:
    if value is not None and not 0 < value < math.inf:
        raise UsageError(f"{flag} {value:g}: give {unit} above 0.")


def _open(
    source: RunDir | str,
    label: str,
    plan: Plan,
    data: Path | None,
    img_size: int | None,
    folder: Path,
    watch: Watcher,
) -> Subject:
    if isinstance(source, str):
        return open_named(source, plan, data=data, img_size=img_size, folder=folder / "pictures")
    if img_size is not None:
        raise UsageError(f"--img-size is for models by name; {label} is a run and has its own.")
    return open_run(source, plan, label=label, data=data, watch=watch)


def _add_accuracy(
    entry: ModelProfile, bench: Bench, correct: dict[tuple[str, str | None], Correct], watch: Watcher
) -> ModelProfile:
    """Compute the accuracy of each open runtime on the same samples, paired with eager's."""
    subject = bench.subject
    samples = subject.labelled
    assert samples is not None
    preds = predict_all(
        bench.sessions,
        subject.pipeline,
        samples,
        lambda done, total: watch.phase(f"{entry.model}: accuracy of each runtime", done, total),
    )
    for name, found in preds.items():
        right = found == samples.targets
        correct[entry.model, name] = dict(zip(samples.sample_ids, right.tolist(), strict=True))
        difference = (
            None
            if name == BASELINE
            else measure_difference(samples.targets, preds[BASELINE], found, subject.num_classes)
        )
        bench.update(name, accuracy=measure_accuracy(right, samples.split), accuracy_difference=difference)
    runtimes = tuple(bench.profiles[runtime.runtime] for runtime in entry.runtimes)
    own = entry.accuracy or bench.profiles[BASELINE].accuracy
    return replace(entry, runtimes=runtimes, accuracy=own)


def _conclude(
    entries: Sequence[ModelProfile],
    correct: Mapping[tuple[str, str | None], Correct],
    plan: Plan,
    constraints: Constraints | None,
    allocator: str,
) -> ProfileResult:
    candidates = list_candidates(entries, correct)
    machine = _describe_machine(plan, allocator)
    return ProfileResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine,
        entries=tuple(entries),
        constraints=constraints,
        choice=None if constraints is None else choose(candidates, constraints),
        recommendation=recommend(candidates, cpu=str(machine["cpu"]), threads=plan.threads),
    )


def _describe_machine(plan: Plan, allocator: str) -> dict[str, Any]:
    environment = describe_environment(Path.cwd())
    versions = {name: _find_version(name) for name in _VERSIONS}
    chosen = {name: environment.get(name) for name in _MACHINE}
    return {
        **chosen,
        **versions,
        "device": "cpu",
        "threads": plan.threads,
        "malloc": allocator,
        "git_commit": environment["git_commit"],
    }


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give torch so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------------------------------ files


def _make_folder(output: Path | str | None, runs: Path) -> Path:
    """Make the folder of the results: before measuring, which takes minutes."""
    now = datetime.now(UTC)
    folder = Path(output) if output is not None else runs / "profile" / f"{now:%Y%m%d-%H%M%S}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem(
            f"Can't make the folder {folder}: {problem.strerror}. Choose another place with --output."
        ) from problem
    return folder.absolute()


def _write(result: ProfileResult, folder: Path) -> Path:
    content = result.to_dict()
    atomic.write_json(folder / "profile.json", content)
    atomic.write_text(folder / "profile.csv", format_csv(result))
    write_profile_figures(content, folder)
    build_profile_page(content, folder)
    return folder


def format_csv(result: ProfileResult) -> str:
    """Return a table with a row for each model in each runtime; empty where a figure is unknown."""
    rows = [_describe_row(entry, place) for entry in result.entries for place in range(len(entry.runtimes))]
    stream = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _describe_row(entry: ModelProfile, place: int) -> dict[str, Any]:
    runtime = entry.runtimes[place]
    latency, accuracy, difference = runtime.latency_ms, runtime.accuracy, runtime.accuracy_difference
    row: dict[str, Any] = {
        "model": entry.model,
        "runtime": runtime.runtime,
        "status": runtime.status,
        "reason": runtime.reason,
        "img_size": entry.img_size,
        "params": entry.params,
        "gmacs": entry.gmacs,
        "gflops": entry.gflops,
        "activations_m": entry.activations_m,
        "max_abs_diff": runtime.max_abs_diff,
        "agreement": runtime.agreement,
        "peak_memory_mib": runtime.peak_memory_mib,
        "accuracy": accuracy.value if accuracy else None,
        "model_accuracy": entry.accuracy.value if entry.accuracy else None,
        "accuracy_difference": difference.value if difference else None,
    }
    for name in ("p50", "p90", "p99"):
        row[f"latency_ms_{name}"] = getattr(latency, name).value if latency else None
    for each in runtime.throughput:
        row[f"images_per_s_{each.batch_size}"] = each.images_per_s.value
    return row
