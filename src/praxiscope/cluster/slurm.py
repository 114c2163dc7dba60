"""Slurm's own commands: submit a script, ask how jobs stand, cancel one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from praxiscope.errors import EnvironmentProblem

_TIMEOUT_S = 60
_FIELDS = ("JobArrayID", "State", "Reason", "RestartCnt", "TimeUsed", "TimeLimit", "NodeList", "Name")
_WIDTH = 256  # of a field: a job name may be as long


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How Slurm says that a job, or one of an array, stands."""

    job: str
    """``<id>`` or ``<id>_<index>``."""
    state: str
    """Slurm's word: ``PENDING``, ``RUNNING``, ``COMPLETED``, ``FAILED``, ``TIMEOUT``, ``CANCELLED`` ..."""
    reason: str = ""
    """Why it waits, or why it ended as it did; empty where Slurm names nothing."""
    restarts: int | None = None
    """How often it was queued again; None where only the accounting still knows the job."""
    elapsed: str = ""
    """Time of the session in progress."""
    nodes: str = ""
    """Where it runs."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in _ALIVE


_ALIVE = frozenset({
    "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
    "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT", "RESV_DEL_HOLD",
})  # fmt: skip


def submit_script(
    path: Path, *, dependency: str | None = None, arguments: Sequence[str] = (), hold: bool = False
) -> int:
    """Hand an sbatch file to Slurm.

    Args:
        path: the file.
        dependency: as ``sbatch --dependency`` takes it: ``afterok:123``.
        arguments: of the script.
        hold: keep it waiting until somebody releases it.

    Returns:
        The job's id; of an array, the id that all its jobs share.

    Raises:
        EnvironmentProblem: There is no sbatch here, or Slurm refuses the job; says why and where the file is.
    """
    words = ["sbatch", "--parsable", *(["--hold"] if hold else [])]
    if dependency is not None:
        words += [f"--dependency={dependency}", "--kill-on-invalid-dep=yes"]
    ended = _run(
        [*words, str(path), *arguments], f"The script is written: {path}. Submit it on a login node."
    )
    if ended.returncode != 0:
        raise EnvironmentProblem(
            f"sbatch refused {path}:\n{ended.stderr.strip() or ended.stdout.strip()}\n"
            f"Change what it names and submit again, or change the file and type: sbatch {path}"
        )
    found = re.match(
        r"(\d+)", ended.stdout.strip()
    )  # behind ; stands the cluster's name, if there are several
    if found is None:
        raise EnvironmentProblem(f"sbatch took {path}, but printed no job id: {ended.stdout.strip()!r}.")
    return int(found[1])


def read_jobs(jobs: Iterable[int]) -> dict[str, JobState]:
    """Ask Slurm how jobs stand.

    The queue is asked first, which also knows jobs that ended some minutes ago; then, for those that it
    doesn't know, the accounting, where the cluster has it.

    Args:
        jobs: ids, of an array the shared one.

    Returns:
        ``<id>`` or ``<id>_<index>`` -> its state; without those that Slurm has forgotten.

    Raises:
        EnvironmentProblem: There is no squeue here, or it can't reach Slurm.
    """
    wanted = {str(job) for job in jobs}
    if not wanted:
        return {}
    found = {state.job: state for state in _ask_queue() if state.job.partition("_")[0] in wanted}
    unknown = wanted - {job.partition("_")[0] for job in found}
    return found | ({} if not unknown else {state.job: state for state in _ask_accounting(unknown)})


def cancel_job(job: str) -> None:
    """Cancel a job, ``<id>``, or one of an array, ``<id>_<index>``.

    Raises:
        EnvironmentProblem: There is no scancel here, or Slurm refuses.
    """
    ended = _run(["scancel", job], "Cancel it on a login node.")
    if ended.returncode != 0:
        raise EnvironmentProblem(f"scancel {job}: {ended.stderr.strip()}")


def _ask_queue() -> list[JobState]:
    columns = ",".join(f"{name}:{_WIDTH}" for name in _FIELDS)
    ended = _run(
        ["squeue", "--noheader", "--array", "--states=all", "--me", f"--Format={columns}"],
        "Look on a login node.",
    )
    if ended.returncode != 0:
        raise EnvironmentProblem(f"squeue can't reach Slurm: {ended.stderr.strip()}")
    return [_parse_row(line) for line in ended.stdout.splitlines() if line.strip()]


def _parse_row(line: str) -> JobState:
    cells = [line[start : start + _WIDTH].strip() for start in range(0, _WIDTH * len(_FIELDS), _WIDTH)]
    row = dict(zip(_FIELDS, cells, strict=True))
    return JobState(
        job=row["JobArrayID"],
        state=row["State"],
        reason="" if row["Reason"] == "None" else row["Reason"],
        restarts=int(row["RestartCnt"]) if row["RestartCnt"].isdigit() else None,
        elapsed=row["TimeUsed"],
        nodes=row["NodeList"],
    )


def _ask_accounting(jobs: Iterable[str]) -> list[JobState]:
    """Ask sacct; an empty answer where the cluster keeps no accounts."""
    if shutil.which("sacct") is None:
        return []
    ended = _run(
        ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,Elapsed,NodeList",
         f"--jobs={','.join(sorted(jobs))}"],
        "",
    )  # fmt: skip
    if ended.returncode != 0:
        return []
    rows = [line.split("|") for line in ended.stdout.splitlines()]
    return [
        # "CANCELLED by 1000": who did it is no state.
        JobState(job=row[0], state=row[1].split()[0], elapsed=row[2], nodes=row[3])
        for row in rows
        if len(row) == 4 and row[1]
    ]


def _run(words: Sequence[str], hint: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(words[0]) is None:
        raise EnvironmentProblem(
            f"There is no '{words[0]}' here: Slurm is not installed on this machine. {hint}"
        )
    try:
        return subprocess.run(  # noqa: S603 - a list of words, no shell
            list(words), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, encoding="utf-8"
        )
    except subprocess.TimeoutExpired as problem:
        raise EnvironmentProblem(
            f"'{words[0]}' gave no answer for {_TIMEOUT_S} s: Slurm is overloaded or out of reach. {hint}"
        ) from problem
