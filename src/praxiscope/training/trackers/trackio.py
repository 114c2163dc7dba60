"""Trackio. Its store is its own: the folder ``TRACKIO_DIR``, or the Space or server that is set for it."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
from collections.abc import Mapping
from typing import Any

from praxiscope.errors import EnvironmentProblem
from praxiscope.training.trackers.base import Outcome, TrackedRun, explain_failure, mask_text

_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
_HINT = f"Look at TRACKIO_DIR, {' and '.join(_REMOTE)}."


class TrackioTracker:
    """A run in Trackio's local database, or on a Space or server.

    Trackio never raises while it logs: it keeps what it can't send, and warns.
    """

    def __init__(self, run: TrackedRun, opened: Any) -> None:
        self._run = opened
        self.ids = {"id": str(opened.name), "project": str(opened.project)}
        self.place = _describe_place()
        self.last_step = run.stored_step if _list_remote() else _read_last_step(self.ids)
        self.errors: tuple[type[Exception], ...] = (OSError, RuntimeError, sqlite3.Error)

    def log(self, row: Mapping[str, float | int], *, step: int) -> None:
        """Hand a row to Trackio's thread."""
        self._run.log(dict(row), step=step)

    def close(self, outcome: Outcome) -> None:  # noqa: ARG002 - Trackio keeps no outcome
        """Wait until the rows are stored."""
        from trackio.context_vars import current_run

        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()
        if current_run.get() is self._run:
            current_run.set(None)  # or it would be finished again at exit


def check_trackio(*, offline: bool) -> None:
    """Refuse a Space or server where nothing may leave this machine."""
    if offline and (names := _list_remote()):
        raise EnvironmentProblem(
            f"{' and '.join(names)} would send the run away, but track.offline or PRAXISCOPE_OFFLINE asks "
            f"that nothing leaves this machine. Unset {' and '.join(names)}, or allow the network."
        )


def open_trackio(run: TrackedRun) -> TrackioTracker:
    """Open a run, or go on with the stored one."""
    import trackio

    # Trackio knows runs by name, and takes the newest of a name.
    name = run.name if run.name == run.run_id else f"{run.name}-{run.run_id}"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # advice on its dashboard
            opened = trackio.init(
                project=str(run.stored.get("project", run.project)),
                name=str(run.stored.get("id", name)),
                resume="allow",
                config=dict(run.config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return TrackioTracker(run, opened)
    except (OSError, ValueError, RuntimeError, sqlite3.Error) as problem:
        raise explain_failure("Trackio", problem, _HINT) from problem


def _list_remote() -> list[str]:
    return [name for name in _REMOTE if os.environ.get(name)]


def _describe_place() -> str:
    import trackio.utils

    if names := _list_remote():
        return mask_text(os.environ[names[0]])
    return str(trackio.utils.TRACKIO_DIR)


def _read_last_step(ids: Mapping[str, str]) -> int:
    from trackio.sqlite_storage import SQLiteStorage

    return max((int(row["step"]) for row in SQLiteStorage.get_logs(ids["project"], ids["id"])), default=0)
