"""Everything Praxiscope raises on purpose, and the exit code each kind ends a command with.

::

    PraxiscopeError
    |-- UsageError            2    a flag, a recipe key or an argument is wrong
    |-- EnvironmentProblem    3    the machine lacks something: disk, memory, weights, an optional part
    |   |-- WeightsMissing         no pretrained weights where they were looked for
    |   |-- RunLocked              another process trains in this run folder
    |   `-- RankLost               another process of the same job died or doesn't answer
    |-- DataError             4    the data can't be used as asked
    |-- IntegrityError        4    a stored artefact is not what its fingerprint says
    |-- Diverged              5    a loss or gradient is no longer finite
    |-- Preempted            75    stopped by SIGTERM/SIGUSR1 after saving; ``--resume`` continues
    `-- Interrupted         130    stopped by Ctrl-C after saving; ``--resume`` continues

A message says what was given, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PraxiscopeError(Exception):
    """Base of every error that a user can act on; shown without a traceback by the CLI."""

    exit_code: int = 1
    is_told: bool = False
    """Whether another process of the same job shows the same message."""


class UsageError(PraxiscopeError):
    """A flag, recipe key or argument is wrong."""

    exit_code = 2


class EnvironmentProblem(PraxiscopeError):
    """The machine lacks something: disk, memory, weights, an optional part."""

    exit_code = 3


class WeightsMissing(EnvironmentProblem):
    """No pretrained weights where they were looked for."""


class RunLocked(EnvironmentProblem):
    """Another process trains in this run folder."""


class RankLost(EnvironmentProblem):
    """Another process of the same job (torchrun) died, ended or doesn't answer."""


class DataError(PraxiscopeError):
    """The data can't be used as asked."""

    exit_code = 4


class IntegrityError(PraxiscopeError):
    """A stored artefact is not what its fingerprint says."""

    exit_code = 4


class Diverged(PraxiscopeError):
    """A loss or gradient is no longer finite."""

    exit_code = 5


class Preempted(PraxiscopeError):
    """Training was stopped by a signal, after its state was saved."""

    exit_code = 75


class Interrupted(PraxiscopeError):
    """Training was stopped by Ctrl-C, after its state was saved."""

    exit_code = 130


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest allowed word, or an empty string."""
    close = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
