"""The run folder: the only module that knows a path inside a run.

::

    runs/<recipe>/<UTC yyyymmdd-hhmmss>-<short id>/
        recipe.yaml  run.json  status.json  manifest.parquet  metrics.jsonl  results.csv  train.log
        latest_results.txt  checkpoints/  tb/  curves.png  predictions/<split>.parquet
        evaluations/<UTC time>-<split>/{metrics.json,per_class.csv,test_report.txt,*.png}  report.html
        run.lock  lock.json  trackers/  explain/
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, get_args

from praxiscope.errors import EnvironmentProblem, IntegrityError, UsageError
from praxiscope.runs import atomic, rows
from praxiscope.runs.lock import RunLock

RunState = Literal["running", "done", "preempted", "interrupted", "failed", "diverged"]
"""What ``status.json`` may say. ``running`` with nobody holding the lock means that it was killed."""

_RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EVALUATION_NAME = re.compile(r"(\d{8}-\d{6})-(.+?)(?:-(\d+))?")
_FOLDERS = ("checkpoints", "predictions", "evaluations")
# What lies in a run folder before training begins.
_BEGINNING = (*_FOLDERS, "run.json", "recipe.yaml", "manifest.parquet", "run.lock", "lock.json")
_WHAT_IT_HOLDS = (
    "A run folder holds run.json, recipe.yaml and checkpoints/, as 'praxiscope train' writes them"
)


@dataclass(frozen=True, kw_only=True)
class RunDir:
    """A run folder. Make one with :meth:`create`, open one with :meth:`open`.

    Attributes:
        path: The folder, absolute.
    """

    path: Path

    # ------------------------------------------------------------------------------ create and open

    @classmethod
    def create(cls, output_root: Path, recipe_name: str) -> Self:
        """Make a new run folder with a first ``run.json``.

        Args:
            output_root: The folder of all runs, made when absent.
            recipe_name: Becomes a folder name: letters, digits, dots, hyphens, underscores.

        Raises:
            UsageError: The name can't be a folder name, or `output_root` is no folder.
            EnvironmentProblem: The folder can't be written to.
        """
        if not _RECIPE_NAME.fullmatch(recipe_name):
            raise UsageError(
                f"The recipe name {recipe_name!r} can't be a folder name: use letters, digits, "
                "'.', '-' and '_', with a letter or digit first."
            )
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        return cls._make(output_root.absolute() / recipe_name / run_id, recipe_name, exist_ok=False)

    @classmethod
    def create_at(cls, path: Path, recipe_name: str) -> Self:
        """Make a run in this very folder; one that a kill left before its training began is made anew.

        Args:
            path: The folder: absent, empty, or with nothing in it but the beginning of a run.
            recipe_name: As for :meth:`create`.

        Raises:
            UsageError: The folder holds something else.
            EnvironmentProblem: The folder can't be written to.
        """
        path = path.absolute()
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
            if other := [name for name in names if name not in _BEGINNING]:
                raise UsageError(
                    f"{path} holds {', '.join(other[:3])}, so no new run is made there. "
                    "Name a folder that is absent or empty, or a run."
                )
        return cls._make(path, recipe_name, exist_ok=True)

    @classmethod
    def _make(cls, path: Path, recipe_name: str, *, exist_ok: bool) -> Self:
        try:
            path.mkdir(parents=True, exist_ok=exist_ok)
            for name in _FOLDERS:
                (path / name).mkdir(exist_ok=exist_ok)
        except (FileExistsError, NotADirectoryError) as problem:
            raise UsageError(f"Can't make the run folder {path}: something there is no folder.") from problem
        except OSError as problem:
            raise EnvironmentProblem(
                f"Can't make the run folder {path}: {problem.strerror}. Choose another place with --output."
            ) from problem
        run_dir = cls(path=path)
        created = datetime.now(UTC).isoformat()
        run_dir.write_run_json(
            {"schema": 1, "run_id": path.name, "recipe_name": recipe_name, "created": created}
        )
        return run_dir

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing run folder.

        Raises:
            UsageError: There is no such folder, or it is no run; names a run around it, if there is one.
            IntegrityError: Its ``run.json`` is damaged.
        """
        path = path.absolute()
        if not path.exists():
            raise UsageError(f"There is no run folder {path}. {_WHAT_IT_HOLDS}.")
        run_dir = cls(path=path)
        if not run_dir.run_json.is_file():
            around = next((parent for parent in path.parents if (parent / "run.json").is_file()), None)
            hint = f" Did you mean '{around}'?" if around else ""
            raise UsageError(f"{path} is no run folder: it has no run.json. {_WHAT_IT_HOLDS}.{hint}")
        stored = run_dir.read_run_json()
        if not isinstance(stored.get("created"), str) or not isinstance(stored.get("recipe_name"), str):
            raise IntegrityError(f"{run_dir.run_json} is damaged: it lacks 'created' or 'recipe_name'.")
        for name in _FOLDERS:  # git and some archives drop empty folders; a read-only run does without
            with contextlib.suppress(OSError):
                (path / name).mkdir(exist_ok=True)
        return run_dir

    def lock(self) -> RunLock:
        """Return the lock that a process holds while it trains here, to be entered with ``with``."""
        return RunLock(self.path)

    # ------------------------------------------------------------------------------ paths

    @property
    def run_id(self) -> str:
        """The folder's name: UTC time and a short random id."""
        return self.path.name

    @property
    def recipe(self) -> Path:
        """The recipe in full, after overrides."""
        return self.path / "recipe.yaml"

    @property
    def run_json(self) -> Path:
        """What was done, where, with what, for how long."""
        return self.path / "run.json"

    @property
    def status(self) -> Path:
        """How the run stands: see :meth:`write_status`."""
        return self.path / "status.json"

    @property
    def manifest(self) -> Path:
        """One row per sample."""
        return self.path / "manifest.parquet"

    @property
    def metrics(self) -> Path:
        """One JSON row per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The same rows as a table for spreadsheets."""
        return self.path / "results.csv"

    @property
    def train_log(self) -> Path:
        """What was printed during training."""
        return self.path / "train.log"

    @property
    def latest_results(self) -> Path:
        """The last evaluation's figures as text."""
        return self.path / "latest_results.txt"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tb"

    @property
    def trackers(self) -> Path:
        """Folder of what experiment trackers keep on this machine; made when one is asked for."""
        return self.path / "trackers"

    @property
    def curves(self) -> Path:
        """Figure of the training curves."""
        return self.path / "curves.png"

    @property
    def report(self) -> Path:
        """The one-page report."""
        return self.path / "report.html"

    @property
    def explain(self) -> Path:
        """Folder of explanations; made when something is explained."""
        return self.path / "explain"

    def predictions(self, split: str) -> Path:
        """The table of predictions on `split`."""
        return self.path / "predictions" / f"{split}.parquet"

    # ------------------------------------------------------------------------------ run.json, status.json

    def read_run_json(self) -> dict[str, Any]:
        """Read ``run.json``.

        Raises:
            IntegrityError: It is damaged.
        """
        return atomic.read_json(self.run_json)

    def write_run_json(self, content: Mapping[str, Any]) -> None:
        """Replace ``run.json``.

        Raises:
            EnvironmentProblem: The disk is full; the old content stays.
            ValueError: A number in `content` is NaN or infinite.
        """
        atomic.write_json(self.run_json, content)

    def update_run_json(self, changes: Mapping[str, Any]) -> None:
        """Replace the top-level entries of ``run.json`` that `changes` names and keep the others.

        Raises:
            EnvironmentProblem: The disk is full; the old content stays.
            ValueError: A number in `changes` is NaN or infinite.
        """
        self.write_run_json({**self.read_run_json(), **changes})

    def write_status(self, state: RunState, *, step: int, epoch: int, message: str = "") -> None:
        """Write ``status.json``, which tells a clean preemption from a crash where exit codes get lost.

        Args:
            state: One of :data:`RunState`.
            step: Optimiser updates done and saved.
            epoch: Epochs completed.
            message: A sentence for a person.

        Raises:
            ValueError: `state` is no such word.
        """
        if state not in get_args(RunState):
            raise ValueError(f"Unknown run state {state!r}: use one of {', '.join(get_args(RunState))}.")
        updated = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"schema": 1, "state": state, "step": step, "epoch": epoch, "updated": updated}
        atomic.write_json(self.status, {**content, "message": message})

    def read_status(self) -> dict[str, Any] | None:
        """Read ``status.json``; None before training has started.

        Raises:
            IntegrityError: It is damaged.
        """
        return atomic.read_json(self.status) if self.status.exists() else None

    # ------------------------------------------------------------------------------ logs

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append an epoch's figures; a NaN or infinite one is written as null.

        Raises:
            EnvironmentProblem: The disk is full.
        """
        rows.append_row(self.metrics, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read all epochs' figures; a last line torn by a kill is dropped.

        Raises:
            IntegrityError: Another line is damaged; named.
        """
        return rows.read_rows(self.metrics)

    def truncate_metrics(self, *, after_step: int) -> int:
        """Remove the rows of steps above `after_step` before resuming there; returns how many."""
        return rows.truncate_rows(self.metrics, after_step=after_step)

    def write_latest_results(self, text: str) -> None:
        """Replace ``latest_results.txt``."""
        atomic.write_text(self.latest_results, text)

    # ------------------------------------------------------------------------------ evaluations

    def new_evaluation_dir(self, split: str) -> Path:
        """Make a folder for an evaluation of `split`, named by the UTC time, and by a number if need be."""
        folder = self.path / "evaluations"
        folder.mkdir(exist_ok=True)
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{split}"
        number = 1
        while True:
            path = folder / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:  # another evaluation in the same second, perhaps of another process
                number += 1
            else:
                return path

    def evaluations(self, split: str | None = None) -> list[Path]:
        """List the folders of evaluations in the order they were made, of one split or of all."""
        found = []
        for path in (self.path / "evaluations").glob("*"):
            match = _EVALUATION_NAME.fullmatch(path.name)
            if match and path.is_dir() and split in {None, match[2]}:
                found.append((match[1], int(match[3] or 1), path))
        return [path for _, _, path in sorted(found)]
