"""``praxiscope jobs``: how what was submitted stands."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from praxiscope.workflows.jobs import JobList, JobRow


_WELL = frozenset({"COMPLETED", "(done)", "(evaluated)", "(unknown)"})
"""States that need no look into the log; of a job that Slurm has forgotten, nobody knows."""


def jobs(
    only: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB]...", help="Job ids or names; all by default.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on showing them until all have ended.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="S", min=1, help="Seconds between two looks, with --follow.")
    ] = 10,
    cancel: Annotated[
        str | None, typer.Option(metavar="JOB", help="Cancel this job; training saves first.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of all runs.")] = Path(
        "runs"
    ),
) -> None:
    """Show the jobs that were submitted: state, epoch, best figure, time left, restarts."""
    from praxiscope.workflows.jobs import cancel as cancel_job
    from praxiscope.workflows.jobs import list_jobs

    if cancel is not None:
        cancel_job(cancel, output)
        typer.echo(f"Cancelled: {cancel}. What was trained is saved; praxiscope train --resume RUN goes on.")
        return
    shown = ""
    while True:
        found = list_jobs(output, only or ())
        text = format_jobs(found, output)
        if text != shown:
            if follow and sys.stdout.isatty():
                typer.echo("\x1b[2J\x1b[H", nl=False)  # an empty screen
            typer.echo(text)
            shown = text
        if not follow or all(row.is_over for row in found.rows):
            return
        time.sleep(every)


def format_jobs(found: JobList, output: Path) -> str:
    """Return the jobs as a table; below each its run folder and the last line of its results."""
    notes = [f"note: {note}" for note in found.notes]
    if not found.rows:
        return "\n".join([f"No jobs were submitted with runs in {output}. `praxiscope submit` does.", *notes])
    head = ("job", "name", "state", "epoch", "best", "left", "restarts", "")
    rows = [head, *(_list_cells(row) for row in found.rows)]
    widths = [max(len(cells[place]) for cells in rows) for place in range(len(head))]
    lines = []
    for cells, row in zip(rows, [None, *found.rows], strict=True):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
        if row is not None and row.kind == "train":
            lines.append(f"  {row.training.path}")
            if row.training.last_line:
                lines.append(f"  {row.training.last_line}")
        if row is not None and row.is_over and row.state not in _WELL:
            lines.append(f"  ended otherwise: {row.log}")
    if any(row.slurm is None for row in found.rows):
        notes.append("in brackets: what the run folder says of a job that Slurm no longer knows")
    return "\n".join([*lines, *notes])


def _list_cells(row: JobRow) -> tuple[str, ...]:
    training = row.training
    is_training = row.kind == "train"
    running = row.slurm is not None and row.slurm.state == "RUNNING" and is_training
    epoch = f"{training.epoch}/{training.epochs}" if training.epochs is not None and is_training else "-"
    left = format_left(training.left_s) if running and training.left_s is not None else "-"
    waits = row.slurm is not None and row.slurm.state == "PENDING"
    reason = f"waits: {row.slurm.reason}" if waits and row.slurm is not None and row.slurm.reason else ""
    what = " ".join(part for part in (row.element, reason) if part)
    best = training.best if is_training and training.best else "-"
    return (row.number, row.name, row.state, epoch, best, left, str(row.restarts), what)


def format_left(seconds: float) -> str:
    """Return a time for a person.

    >>> format_left(50), format_left(4000)
    ('50s', '1h06m')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
