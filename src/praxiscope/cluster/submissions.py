"""What was submitted: ``<runs>/slurm/<job name>-<UTC>/submit.json``, beside the scripts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from praxiscope.cluster.script import STEPS_NAME
from praxiscope.errors import IntegrityError, UsageError
from praxiscope.runs import atomic

FOLDER = "slurm"
"""Folder of all submissions, below that of all runs."""

_LOGGER = logging.getLogger(__name__)
_FILE = "submit.json"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A training that was handed to Slurm, with the validation that depends on it."""

    name: str
    """Job name."""
    created: str
    """When, ISO 8601 in UTC."""
    recipe: str
    """The recipe's name."""
    data: str
    """Absolute data folder."""
    run: str
    """Start of the run folders' paths; the job's number follows (:meth:`find_run`)."""
    elements: tuple[str, ...] = ()
    """Of an array: what is special about each job, ``seed=1``; empty for a single job."""
    jobs: Mapping[str, int]
    """``train`` and ``validate`` -> job id; empty after a dry run."""
    arguments: tuple[str, ...] = ()
    """The command line."""
    folder: Path
    """Where the scripts and logs lie."""

    def write(self) -> None:
        """Write ``submit.json`` into :attr:`folder`.

        Raises:
            EnvironmentProblem: The disk is full.
        """
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        atomic.write_json(self.folder / _FILE, {"schema": 1, **content})

    def with_job(self, kind: str, job: int) -> Self:
        """Return a copy that knows one more job id."""
        return replace(self, jobs={**self.jobs, kind: job})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a submission.

        Raises:
            IntegrityError: Its file is damaged.
        """
        stored = atomic.read_json(folder / _FILE)
        try:
            return cls(
                folder=folder,
                elements=tuple(stored["elements"]),
                arguments=tuple(stored["arguments"]),
                jobs={str(kind): int(job) for kind, job in stored["jobs"].items()},
                **{key: str(stored[key]) for key in ("name", "created", "recipe", "data", "run")},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise IntegrityError(f"{folder / _FILE} is damaged: {problem!r}.") from problem

    def list_numbers(self, kind: str) -> list[str]:
        """Return the numbers of the jobs of a kind: ``<id>``, or ``<id>_<index>`` for each of an array."""
        if kind not in self.jobs:
            return []
        if not self.elements:
            return [str(self.jobs[kind])]
        return [f"{self.jobs[kind]}_{index}" for index in range(len(self.elements))]

    def find_run(self, number: str) -> Path:
        """Return the run folder of a job, of training or validation, by its number."""
        _, under, index = number.partition("_")
        return Path(f"{self.run}{self.jobs['train']}{under}{index}")

    def count_restarts(self, number: str) -> int:
        """Return how often a training was queued again, by the file that its script keeps."""
        path = self.folder / f"{STEPS_NAME}-{number}.txt"
        return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) if path.is_file() else 0


def make_folder(output: Path, name: str) -> tuple[Path, str]:
    """Make the folder of a new submission.

    Returns:
        The folder and the UTC time in its name, ``yyyymmdd-hhmmss``.

    Raises:
        UsageError: There is a file where a folder should be.
    """
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    number = 1
    while True:
        path = output.absolute() / FOLDER / (f"{name}-{stamp}" + ("" if number == 1 else f"-{number}"))
        try:
            path.mkdir(parents=True)
        except FileExistsError:  # another submission in the same second
            if number == 1 and not path.is_dir():
                raise UsageError(f"Can't make {path}: something there is no folder.") from None
            number += 1
        except NotADirectoryError as problem:
            raise UsageError(f"Can't make {path}: {output} is no folder.") from problem
        else:
            return path, stamp if number == 1 else f"{stamp}-{number}"


def list_submissions(output: Path) -> Iterator[Submission]:
    """Yield what was submitted below a folder of runs, oldest first.

    A damaged file is passed over, with a logged warning that names it. Dry runs are left out.
    """
    found = []
    for path in (output.absolute() / FOLDER).glob(f"*/{_FILE}"):
        try:
            submission = Submission.read(path.parent)
        except IntegrityError as problem:
            _LOGGER.warning("Passed over: %s", problem)
            continue
        if submission.jobs:
            found.append(submission)
    yield from sorted(found, key=lambda each: (each.created, each.folder.name))
