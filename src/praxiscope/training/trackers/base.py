"""What a tracker is told, and what it has to do."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from praxiscope.errors import EnvironmentProblem, PraxiscopeError
from praxiscope.runs.environment import mask_command

Outcome = Literal["done", "stopped", "failed"]
"""How a session ended: to its last epoch, by a signal, by an error."""

Value = str | int | float | bool | None
"""What a setting of the run can be."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A run as a tracker sees it.

    Attributes:
        folder: the run's own folder for trackers; exists. Whatever a tracker keeps on this machine goes there
            or to the tracker's home, nowhere else.
        project: what the run is filed under.
        name: what the run is shown by.
        run_id: the run folder's name, unique.
        offline: nothing may leave this machine.
        config: recipe, hardware and fingerprints under flat keys.
        stored: what an earlier session of this run kept: the ids to go on with, and the last ``step`` that
            arrived for certain. Empty for a new run.
    """

    folder: Path
    project: str
    name: str
    run_id: str
    offline: bool
    config: Mapping[str, Value]
    stored: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def stored_step(self) -> int:
        """Last step that an earlier session delivered for certain; 0 where there is none."""
        return int(self.stored.get("step", 0))


class Tracker(Protocol):
    """A tracker's run, open for writing."""

    @property
    def ids(self) -> Mapping[str, str]:
        """What a resume needs to go on with the same run: ``id``, ``project`` and the like; no secret."""

    @property
    def place(self) -> str:
        """Where the run is to be seen, for a person; no secret."""

    @property
    def last_step(self) -> int:
        """Last step that the tracker has already; 0 where it has none."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What ``log`` and ``close`` raise when the network, the disk or the service fails."""

    def log(self, row: Mapping[str, float | int], *, step: int) -> None:
        """Send an epoch's figures; all are finite."""

    def close(self, outcome: Outcome) -> None:
        """Deliver what is on its way, and end threads and processes."""


class OpenTracker(Protocol):
    """Opens a tracker's run."""

    def __call__(self, run: TrackedRun) -> Tracker:
        """Open ``run``, or go on with the one that ``run.stored`` names.

        Raises:
            EnvironmentProblem: the tracker can't be reached, has no such run, or nobody is logged in.
        """


@dataclass(frozen=True, kw_only=True)
class TrackerCard:
    """A tracker that recipes can name.

    Attributes:
        name: in ``track.trackers``.
        title: for people.
        module: what must be importable.
        open: opens a run; imports the package only then.
        check: refuses what can't work before anything is built; told whether the machine is offline.
    """

    name: str
    title: str
    module: str
    open: OpenTracker
    check: Check | None = None

    def require(self, *, offline: bool) -> None:
        """Check that the package is there and that what was asked for can work.

        Raises:
            EnvironmentProblem: it isn't or can't; says what to do.
        """
        if importlib.util.find_spec(self.module) is None:
            raise EnvironmentProblem(
                f"track.trackers names '{self.name}', but {self.title} is not installed: "
                f"pip install 'praxiscope[{self.name}]', or leave it out of track.trackers."
            )
        if self.check is not None:
            self.check(offline=offline)


class Check(Protocol):
    """Looks at the environment before anything is built."""

    def __call__(self, *, offline: bool) -> None:
        """Raise ``EnvironmentProblem`` where the tracker can't do what is asked."""


def explain_failure(title: str, problem: Exception, hint: str) -> PraxiscopeError:
    """Return the error for a tracker that did not open, with secrets in its words masked."""
    return EnvironmentProblem(
        f"{title} did not start ({mask_text(describe_problem(problem))}), so training has not begun. {hint}"
    )


def describe_problem(problem: Exception) -> str:
    """Return an exception's kind and first line, masked."""
    words = str(problem).strip().splitlines()
    return mask_text(f"{type(problem).__name__}: {words[0][:300]}" if words else type(problem).__name__)


def mask_text(text: str) -> str:
    """Return a text with passwords in addresses and tokens of known shapes replaced."""
    return mask_command([text])[0]
