"""The trackers of one session: opened before training, told about each epoch, closed whatever happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from praxiscope.errors import Interrupted, Preempted
from praxiscope.offline import is_offline
from praxiscope.recipe.schema import Recipe, TrackSection
from praxiscope.runs.rundir import RunDir
from praxiscope.training.trackers.base import (
    Outcome,
    TrackedRun,
    Tracker,
    TrackerCard,
    Value,
    describe_problem,
    mask_text,
)
from praxiscope.training.trackers.catalog import find_tracker

_STOPPED = (Preempted, Interrupted, KeyboardInterrupt)


def require_trackers(section: TrackSection) -> None:
    """Check that every tracker that is asked for is installed and can do what is asked.

    Raises:
        EnvironmentProblem: one can't; says what to do.
    """
    for name in section.trackers:
        find_tracker(name).require(offline=_is_offline(section))


class Followers:
    """Trackers that follow a run; as a context manager it closes them.

    A tracker that fails while training goes on is given up for the session: training is worth more. It is
    noted once, with what it lacks; the next session of the run sends that.

    Args:
        run: whose ``run.json`` keeps the trackers' ids, and whose log has what a tracker lacks.
        recipe: says which.
    """

    def __init__(self, run: RunDir, recipe: Recipe) -> None:
        self._run = run
        self._recipe = recipe
        self._open: list[_Follower] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        outcome: Outcome = "done"
        if kind is not None:
            outcome = "stopped" if issubclass(kind, _STOPPED) else "failed"
        self._close(outcome)

    def open(self, note: Callable[[str], None]) -> None:
        """Open all of them, and send each the epochs that it lacks.

        Args:
            note: told where to look, and later what was lost.

        Raises:
            EnvironmentProblem: one can't be opened.
        """
        section = self._recipe.track
        if not section.trackers:
            return
        self._run.trackers.mkdir(exist_ok=True)
        rows = self._run.read_metrics()
        for card in map(find_tracker, section.trackers):
            follower = _Follower(card, card.open(self._describe(card)), note)
            self._open.append(follower)  # before anything else can fail: it has to be closed
            self._store(follower)
            note(f"{card.title}: {follower.tracker.place}, run {follower.tracker.ids['id']}")
            for row in rows:
                follower.send(row)

    def row(self, row: Mapping[str, float | int]) -> None:
        """Send an epoch's figures."""
        for follower in self._open:
            follower.send(row)

    def _close(self, outcome: Outcome) -> None:
        while self._open:  # the next is closed even if a second Ctrl-C ends this one
            follower = self._open.pop()
            try:
                if follower.close(outcome):
                    self._store(follower, step=follower.last_step)
            except BaseException:
                self._close("stopped")
                raise

    def _describe(self, card: TrackerCard) -> TrackedRun:
        section = self._recipe.track
        described = self._run.read_run_json()
        return TrackedRun(
            folder=self._run.trackers,
            project=section.project,
            name=section.run_name or self._run.run_id,
            run_id=self._run.run_id,
            offline=_is_offline(section),
            config=build_config(self._recipe, described),
            stored=described.get("trackers", {}).get(card.name, {}),
        )

    def _store(self, follower: _Follower, *, step: int | None = None) -> None:
        known = self._run.read_run_json().get("trackers", {})
        entry = {**known.get(follower.card.name, {}), **follower.tracker.ids}
        if step is not None:
            entry["step"] = step
        self._run.update_run_json({"trackers": {**known, follower.card.name: entry}})


class _Follower:
    """A tracker, what it has, and whether it still answers."""

    def __init__(self, card: TrackerCard, tracker: Tracker, note: Callable[[str], None]) -> None:
        self.card = card
        self.tracker = tracker
        self.last_step = tracker.last_step
        self._note = note
        self._failed = False

    def send(self, row: Mapping[str, Any]) -> None:
        """Send a row that the tracker has not; a tracker that has failed is left alone."""
        step = int(row["step"])
        if self._failed or step <= self.last_step:
            return
        try:
            self.tracker.log(_pick_figures(row), step=step)
        except self.tracker.errors as problem:
            self._give_up(problem, f"epoch {row['epoch']} and those after it are not there")
        else:
            self.last_step = step

    def close(self, outcome: Outcome) -> bool:
        """Close the tracker; return whether everything that was sent is known to have arrived."""
        try:
            self.tracker.close(outcome)
        except self.tracker.errors as problem:
            if not self._failed:
                self._give_up(problem, "what this session sent may not have arrived")
        return not self._failed

    def _give_up(self, problem: Exception, lost: str) -> None:
        self._failed = True
        self._note(
            f"WARNING: {self.card.title} has failed ({describe_problem(problem)}): {lost}. Training goes on; "
            "metrics.jsonl and TensorBoard have everything, and --resume sends what is missing."
        )


def build_config(recipe: Recipe, described: Mapping[str, Any]) -> dict[str, Value]:
    """Return what a tracker shows as the run's configuration, under flat keys.

    Args:
        recipe: in full, as ``train.lr``; what is not given is None.
        described: ``run.json``: hardware as ``environment.cpu``, fingerprints as ``fingerprint.data``.

    Returns:
        Plain values; lists are written out; passwords in addresses are masked.
    """
    data, model = described.get("data", {}), described.get("model", {})
    tree = {
        **recipe.model_dump(mode="json"),
        "environment": described.get("environment", {}),
        "fingerprint": {
            "recipe": described.get("recipe_fingerprint"),
            "data": data.get("manifest_fingerprint"),
            "first_weights": model.get("weights_sha256"),
        },
        "run_id": described.get("run_id"),
        "praxiscope_version": described.get("praxiscope_version"),
        "git_commit": described.get("git_commit"),
    }
    return dict(_walk(tree, ""))


def _walk(tree: Mapping[str, Any], prefix: str) -> Sequence[tuple[str, Value]]:
    flat: list[tuple[str, Value]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat += _walk(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, bool | int | float):
            flat.append((f"{prefix}{key}", value))
        else:
            flat.append((f"{prefix}{key}", mask_text(str(value))))
    return flat


def _pick_figures(row: Mapping[str, Any]) -> dict[str, float | int]:
    """Return a row without its step, which is told apart, and without what metrics.jsonl has as null."""
    return {
        key: value
        for key, value in row.items()
        if key != "step" and value is not None and math.isfinite(value)
    }


def _is_offline(section: TrackSection) -> bool:
    return section.offline or is_offline()
