"""Jobs: how what was submitted stands, from Slurm and from the run folders."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from praxiscope.cluster.slurm import JobState, cancel_job, read_jobs
from praxiscope.cluster.submissions import Submission, list_submissions
from praxiscope.errors import EnvironmentProblem, IntegrityError, UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.rundir import RunDir

_OVER = frozenset({"done", "failed", "diverged", "interrupted"})


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """How far the run of a job has come."""

    path: Path
    """The run folder."""
    state: str = ""
    """What its ``status.json`` says; empty before training begins."""
    epoch: int = 0
    """Epochs completed."""
    epochs: int | None = None
    """Epochs planned."""
    best: str = ""
    """Monitored figure and its best value: ``val/top1 0.8125``."""
    left_s: float | None = None
    """Seconds that the epochs to come will take, by the last three; validation not counted."""
    last_line: str = ""
    """Of ``latest_results.txt``."""


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job, or one of an array."""

    number: str
    """``<id>`` or ``<id>_<index>``."""
    kind: str
    """``train`` or ``validate``."""
    name: str
    """Job name."""
    element: str
    """Of an array: what is special about it, ``seed=1``."""
    slurm: JobState | None
    """What Slurm says; None where it has forgotten the job or can't be asked."""
    training: TrainingState
    """The run that the job trains or evaluates."""
    restarts: int
    """How often it was queued again."""
    folder: Path
    """Where its script and its log lie."""

    @property
    def log(self) -> Path:
        """What the job prints."""
        return self.folder / f"{'job' if self.kind == 'train' else self.kind}-{self.number}.log"

    @property
    def state(self) -> str:
        """Slurm's word, or the run's own in brackets where Slurm knows nothing."""
        if self.slurm is not None:
            return self.slurm.state
        if self.kind == "validate":
            return "(evaluated)" if any((self.training.path / "evaluations").glob("*")) else "(unknown)"
        return f"({self.training.state or 'unknown'})"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        if self.slurm is not None:
            return self.slurm.is_over
        return self.kind == "validate" or self.training.state in _OVER


@dataclass(frozen=True, kw_only=True)
class JobList:
    """All jobs that were asked for."""

    rows: tuple[JobRow, ...]
    """Oldest first."""
    notes: tuple[str, ...] = ()
    """Why Slurm could not be asked."""


def list_jobs(output: Path | str = "runs", only: Sequence[str] = ()) -> JobList:
    """Describe the jobs that were submitted with runs in a folder.

    Args:
        output: folder of all runs.
        only: job ids, of an array the shared one or ``<id>_<index>``, or job names; all jobs when empty.

    Returns:
        A row for each job, and for each of an array.

    Raises:
        UsageError: One of ``only`` was never submitted from here; lists what was.
    """
    submissions = list(list_submissions(Path(output)))
    notes: list[str] = []
    states: dict[str, JobState] = {}
    try:
        states = read_jobs(job for each in submissions for job in each.jobs.values())
    except EnvironmentProblem as problem:
        notes.append(str(problem))
    rows = [
        _describe(each, kind, number, states.get(number))
        for each in submissions
        for kind in each.jobs
        for number in each.list_numbers(kind)
    ]
    if only:
        rows = _choose(rows, only, Path(output))
    return JobList(rows=tuple(rows), notes=tuple(notes))


def cancel(number: str, output: Path | str = "runs") -> None:
    """Cancel a job that was submitted from here: training saves, and is not queued again.

    Args:
        number: ``<id>``, of an array all of it, or ``<id>_<index>``.
        output: folder of all runs.

    Raises:
        UsageError: It was not submitted from here.
        EnvironmentProblem: Slurm refuses.
    """
    known = [
        text
        for each in list_submissions(Path(output))
        for kind, job in each.jobs.items()
        for text in (str(job), *each.list_numbers(kind))
    ]
    if number not in known:
        raise UsageError(
            f"Job '{number}' was not submitted with runs in {output}, so it is left alone. "
            f"`praxiscope jobs` lists those that were; `scancel {number}` cancels any other."
        )
    cancel_job(number)


def _choose(rows: Sequence[JobRow], only: Sequence[str], output: Path) -> list[JobRow]:
    def is_meant(row: JobRow, text: str) -> bool:
        return text in {row.number, row.number.partition("_")[0], row.name}

    for text in only:
        if not any(is_meant(row, text) for row in rows):
            known = ", ".join(dict.fromkeys(row.number.partition("_")[0] for row in rows)) or "none"
            raise UsageError(f"No job '{text}' was submitted with runs in {output}; these were: {known}.")
    return [row for row in rows if any(is_meant(row, text) for text in only)]


def _describe(submission: Submission, kind: str, number: str, slurm: JobState | None) -> JobRow:
    _, under, index = number.partition("_")
    counted = submission.count_restarts(number) if kind == "train" else 0
    return JobRow(
        number=number,
        kind=kind,
        name=submission.name if kind == "train" else f"{submission.name} ({kind})",
        element=submission.elements[int(index)] if under else "",
        slurm=slurm,
        training=_read_training(submission.find_run(number)),
        restarts=counted if slurm is None or slurm.restarts is None else slurm.restarts,
        folder=submission.folder,
    )


def _read_training(path: Path) -> TrainingState:
    """Read a run as far as it is there: the job may not have started, or be writing just now."""
    if not (path / "run.json").is_file():
        return TrainingState(path=path)
    run = RunDir(path=path)
    try:
        status, rows = run.read_status() or {}, run.read_metrics()
    except IntegrityError as problem:
        return TrainingState(path=path, state="damaged", last_line=str(problem))
    found = TrainingState(path=path, state=str(status.get("state", "")))
    with contextlib.suppress(FileNotFoundError, UsageError):
        recipe = load_recipe(run.recipe)
        monitor = recipe.train.monitor
        values = [row[monitor] for row in rows if row.get(monitor) is not None]
        best = (max if recipe.train.monitor_mode == "max" else min)(values) if values else None
        epoch = int(rows[-1]["epoch"]) if rows else 0
        seconds = [row["epoch_s"] for row in rows[-3:] if row.get("epoch_s") is not None]
        found = TrainingState(
            path=path,
            state=found.state,
            epoch=epoch,
            epochs=recipe.train.epochs,
            best="" if best is None else f"{monitor} {best:.4f}",
            left_s=(recipe.train.epochs - epoch) * median(seconds) if seconds else None,
            last_line=_read_last_line(run.latest_results),
        )
    return found


def _read_last_line(path: Path) -> str:
    if not path.is_file():
        return ""
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[-1] if lines else ""
