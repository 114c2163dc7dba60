"""Report: a run's artefacts become one HTML page."""

from __future__ import annotations

from pathlib import Path

from praxiscope.reporting.build import build_report
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir


def report(
    run: RunDir | Path | str,
    *,
    data: Path | str | None = None,
    output: Path | str = "runs",
    max_failures: int = 200,
) -> Path:
    """Write a run's ``report.html``; no torch, no network.

    Args:
        run: a run, its folder, or ``recipe@latest``.
        data: where the data folder is now, if it has moved; for the thumbnails.
        output: folder of all runs, for names.
        max_failures: thumbnails at most.

    Returns:
        The page.

    Raises:
        UsageError: no such run.
        IntegrityError: an artefact is damaged.
    """
    found = run if isinstance(run, RunDir) else find_run(str(run), root=Path(output))
    root = Path(data).expanduser().resolve() if data is not None else None
    return build_report(found, data_root=root, max_failures=max_failures)
