"""A study's worker: claims trials, trains each as an ordinary run, and ends it as the study says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from praxiscope.errors import (
    DataError,
    Diverged,
    Interrupted,
    RunLocked,
    UsageError,
    WeightsMissing,
)
from praxiscope.models.weights import WeightsMismatch, WeightsUnreadable
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.find import list_runs
from praxiscope.runs.lock import RunLock
from praxiscope.runs.rundir import RunDir
from praxiscope.training.signals import StopFlag
from praxiscope.training.watch import Progress, Silent, Watcher
from praxiscope.tuning.plan import StudyPlan
from praxiscope.tuning.space import apply_proposal
from praxiscope.tuning.study import Outcome, Study
from praxiscope.workflows.train import train

_MAX_FAILURES = 3  # in a row before anything has been trained: then it is not the values
# What is about one proposal; the others may still do. A full disk or an unreadable image is about all.
_OF_A_TRIAL = (Diverged, UsageError, WeightsMissing, WeightsMismatch, WeightsUnreadable)
# What a network that doesn't suit its input, or is too large, raises from torch and timm.
_OF_A_NETWORK = (RuntimeError, AssertionError, MemoryError)


class TrialPruned(Interrupted):
    """A trial was ended early; its run is saved and could be gone on with."""


class OutOfTime(Interrupted):
    """``--timeout`` is over."""


def run_trials(
    folder: Path, plan: StudyPlan, study: Study, *, deadline: float | None, watch: Watcher
) -> None:
    """Train until the study has all its trials, or time is up.

    Args:
        folder: of the study.
        plan: what was asked for.
        study: its journal.
        deadline: by ``time.monotonic``; a training is stopped at the end of the epoch in which it passes.
        watch: follows progress.

    Raises:
        UsageError: the first trials all failed.
        DataError: the data can't be used.
        Preempted, Interrupted: stopped by a signal after saving.
    """
    with StopFlag() as stop:  # between trainings, which listen themselves
        _work(_Worker(folder, plan, study, deadline=deadline, watch=watch, stop=stop), watch)


def _work(worker: _Worker, watch: Watcher) -> None:
    while not worker.is_over():
        worker.stop_if_asked("between two trials")
        claimed = worker.claim()
        if claimed is None:
            return
        number, lock = claimed
        try:
            worker.train(number)
        except OutOfTime:
            watch.note(f"Time is up in trial {number}; --resume goes on with it.")
            return
        finally:
            lock.__exit__(None, None, None)


class _Worker:
    def __init__(
        self,
        folder: Path,
        plan: StudyPlan,
        study: Study,
        *,
        deadline: float | None,
        watch: Watcher,
        stop: StopFlag,
    ) -> None:
        self._root = folder / "trials"
        self._stop = stop
        self._plan = plan
        self._study = study
        self._deadline = deadline
        self._watch = watch

    def is_over(self) -> bool:
        """Whether ``--timeout`` has passed."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def stop_if_asked(self, where: str) -> None:
        """Stop if a signal came when no training listened to it.

        Raises:
            Preempted, Interrupted: it did.
        """
        if self._stop.requested:
            raise self._stop.as_error(where)

    def claim(self) -> tuple[int, RunLock] | None:
        """Return a trial that is this process's now, with its lock: one that was left, or a new one."""
        with self._study.claiming():
            self._study.enqueue_grid()
            for number in self._study.list_running():
                lock = self._take(number)
                if lock is not None:
                    self._watch.note(f"Trial {number} was stopped before its end; it goes on.")
                    return number, lock
            if self._study.count_begun() >= self._plan.trials:
                return None
            number = self._study.begin()
            new = self._take(number)
            assert new is not None  # nobody else knows its number
            return number, new

    def _take(self, number: int) -> RunLock | None:
        place = self._root / self._name(number)
        place.mkdir(parents=True, exist_ok=True)
        lock = RunLock(place)
        try:
            lock.__enter__()
        except RunLocked:
            return None
        return lock

    def _name(self, number: int) -> str:
        return f"{self._plan.recipe.name[:57]}-t{number:04d}"

    def train(self, number: int) -> None:
        """Train a trial to an end, its own or an early one."""
        started = time.monotonic()
        proposal = self._study.read_proposal(number)
        self._watch.note(f"Trial {number}: {' '.join(f'{key}={_show(v)}' for key, v in proposal.items())}")
        outcome, reason = self._run(number, proposal)
        run = self._find_run(number)
        curve = [] if run is None else [row.get(self._plan.metric) for row in run.read_metrics()]
        value = _choose_best(curve, self._plan.mode)
        if outcome == "complete" and value is None:
            outcome, reason = "failed", f"{self._plan.metric} was never a finite number"
        facts = {
            "run": "" if run is None else run.path.relative_to(self._root.parent.absolute()).as_posix(),
            "reason": reason,
            "seconds": self._count_seconds(run, started),
            "curve": curve,
            "best_epoch": 0 if value is None else curve.index(value) + 1,
        }
        self._study.finish(number, outcome, value=value, facts=facts)
        shown = "" if value is None else f", {self._plan.metric} {value:.4f}"
        self._watch.note(f"Trial {number} {outcome}{shown}{f': {reason}' if reason else ''}")
        self._stop_if_hopeless()

    def _run(self, number: int, proposal: Mapping[str, Any]) -> tuple[Outcome, str]:
        """Train, or go on; return how it ended and why."""
        try:
            recipe = self._build_recipe(number, proposal)
            found = self._find_run(number)
            follower = _Follower(self._study, number, self._plan, recipe.train.epochs, self)
            if found is not None:
                follower.catch_up(found.read_metrics())
            run = train(
                recipe,
                data=self._plan.data,
                output=self._root,
                resume=False if found is None else found.path,
                device=self._plan.device,
                watch=follower,
            )
        except TrialPruned as ended:
            return "pruned", str(ended)
        except _OF_A_TRIAL as problem:
            return "failed", " ".join(str(problem).split())
        except _OF_A_NETWORK as problem:
            return "failed", f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        self._require_same_data(run)
        return "complete", ""

    def _build_recipe(self, number: int, proposal: Mapping[str, Any]) -> Recipe:
        recipe = apply_proposal(self._plan.recipe, self._plan.space, proposal)
        changes = {"name": self._name(number), "train.monitor": self._plan.metric}
        return load_recipe({**recipe.model_dump(mode="json"), "name": changes.pop("name")}, changes)

    def _find_run(self, number: int) -> RunDir | None:
        for run in list_runs(self._root, self._name(number)):
            if "data" in run.read_run_json():  # otherwise killed before it began
                return run
        return None

    @staticmethod
    def _count_seconds(run: RunDir | None, started: float) -> float:
        time_spent = {} if run is None else run.read_run_json().get("time") or {}
        seconds: float = time_spent.get("train_s", time.monotonic() - started)
        return seconds

    def _require_same_data(self, run: RunDir) -> None:
        """Refuse to compare trials of different samples."""
        ours = run.read_run_json()["data"]["manifest_fingerprint"]
        for trial in self._study.trials:
            path = trial.user_attrs.get("run")
            if not path:
                continue
            data = RunDir.open(self._root.parent / path).read_run_json()["data"]
            if data["manifest_fingerprint"] != ours:
                raise DataError(
                    f"{data['root']} has changed since trial {trial.number}: samples, labels or splits are "
                    "others, so its trials can't be compared with new ones. Bring the data back, or start a "
                    "new study with another --name."
                )
            return

    def _stop_if_hopeless(self) -> None:
        ended = [trial for trial in self._study.trials if trial.state.is_finished()]
        reasons = [trial.user_attrs.get("reason", "") for trial in ended]
        if len(ended) >= min(_MAX_FAILURES, self._plan.trials) and all(
            trial.state.name == "FAIL" for trial in ended
        ):
            raise UsageError(
                f"The first {len(ended)} trials all failed, the last one because: {reasons[-1]} "
                "Try `praxiscope debug` on the recipe, then start a new study."
            )


class _Follower(Silent):
    """Passes progress on, reports each epoch's figure, and ends a training as the study says."""

    def __init__(self, study: Study, number: int, plan: StudyPlan, epochs: int, worker: _Worker) -> None:
        self._study = study
        self._number = number
        self._plan = plan
        self._epochs = epochs
        self._worker = worker
        self._watch = worker._watch  # noqa: SLF001 - in this file

    def step(self, progress: Progress) -> None:
        """Pass on."""
        self._watch.step(progress)

    def phase(self, text: str, done: int, total: int) -> None:
        """Pass on."""
        self._watch.phase(text, done, total)

    def epoch(self, row: Mapping[str, float | int]) -> None:
        """Report; an epoch is saved before this is called, so the run can be gone on with.

        Raises:
            TrialPruned: the study has seen enough of this trial.
            OutOfTime: ``--timeout`` is over.
            Preempted, Interrupted: a signal came while the training was being made ready.
        """
        epoch = int(row["epoch"])
        should_end = self._report(row)
        if epoch >= self._epochs:
            return
        self._worker.stop_if_asked(f"after epoch {epoch}")
        if should_end:
            raise TrialPruned(f"ended early after epoch {epoch} of {self._epochs} ({self._plan.pruner})")
        if self._worker.is_over():
            raise OutOfTime(f"Stopped after epoch {epoch}: the time of --timeout is over.")

    def catch_up(self, rows: list[dict[str, Any]]) -> None:
        """Report what a killed process had logged but not reported."""
        for row in rows:
            self._report(row)

    def _report(self, row: Mapping[str, Any]) -> bool:
        value = row.get(self._plan.metric)
        if value is None or value != value:  # noqa: PLR0124 - NaN
            return False
        return self._study.report(self._number, epoch=int(row["epoch"]), value=float(value))


def _choose_best(curve: list[float | None], mode: str) -> float | None:
    known = [value for value in curve if value is not None and value == value]  # noqa: PLR0124 - NaN
    if not known:
        return None
    return max(known) if mode == "max" else min(known)


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
