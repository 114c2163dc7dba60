"""A bake-off's work through the ordinary workflows: every training of it is a run like any other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from praxiscope.data.manifest import Manifest
from praxiscope.errors import Diverged, UsageError, WeightsMissing
from praxiscope.models.weights import WeightsMismatch, WeightsUnreadable
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs import atomic
from praxiscope.runs.find import list_runs
from praxiscope.runs.rundir import RunDir
from praxiscope.tournament.actions import ContestantFailed, OutOfTime, Stage, Trained
from praxiscope.tournament.contestants import Contestant
from praxiscope.tournament.ledger import Ledger
from praxiscope.tournament.plan import Costs
from praxiscope.training.watch import Progress, Silent, Watcher
from praxiscope.workflows.compare import compare
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.train import train

_CALIBRATION_BATCHES = 6
# What is about one network: the others may still do. A full disk or an unreadable image is about all.
_OF_A_CONTESTANT = (Diverged, UsageError, WeightsMissing, WeightsMismatch, WeightsUnreadable)
# What a network that doesn't suit its input, or is too large, raises from torch and timm.
_OF_A_NETWORK = (RuntimeError, AssertionError, MemoryError)


class Trainings:
    """Does a bake-off's work in its folder; see :class:`~praxiscope.tournament.actions.Actions`.

    Args:
        folder: the bake-off's.
        ledger: read for plan and device.
        contestants: with their recipes.
        manifest: of the data.
        watch: follows progress.
    """

    def __init__(
        self,
        *,
        folder: Path,
        ledger: Ledger,
        contestants: Sequence[Contestant],
        manifest: Manifest,
        watch: Watcher,
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._recipes = {each.name: each.recipe for each in contestants}
        self._manifest = manifest
        self._watch = watch

    def calibrate(self, contestant: str, *, must_stop: Callable[[], bool]) -> Costs:
        """Train two short epochs and evaluate on validation, as it will be done later; time the parts."""
        scratch = self._folder / "calibration"
        atomic.remove_tree(scratch)
        recipe = self._build_calibration(self._recipes[contestant])
        follower = _Timing(self._watch, must_stop)
        with _naming_failures():
            run = train(recipe, data=self._manifest.root, output=scratch, device=self._device, watch=follower)
            follower.mark("trained")
            evaluate(run, split="val", device=self._device, watch=_Following(self._watch, must_stop))
            follower.mark("evaluated")
        atomic.remove_tree(scratch)
        return self._count_costs(self._recipes[contestant], follower)

    def _build_calibration(self, recipe: Recipe) -> Recipe:
        classes = max(map(len, self._manifest.heads.values()))
        per_class = math.ceil(_CALIBRATION_BATCHES * recipe.train.batch_size / classes)
        asked = recipe.data.train_per_class
        return _change(
            recipe,
            {
                "data.train_per_class": per_class if asked is None else min(per_class, asked),
                "train.epochs": 2,
                "train.warmup_epochs": 0,
                "train.early_stopping_epochs": None,
                "train.checkpoint_every_minutes": None,
                "track.trackers": [],
            },
        )

    def _count_costs(self, recipe: Recipe, timing: _Timing) -> Costs:
        """Scale what was timed to whole splits."""
        num_train, num_val, num_test = (
            self._manifest.usable(split).num_rows for split in ("train", "val", "test")
        )
        # The second epoch: the first one has what a process does only once.
        train_s = timing.between("epoch 1", "validating 2")
        val_s = timing.between("validating 2", "epoch 2")
        batches = math.ceil(num_train / recipe.train.batch_size)
        session_s = timing.between("start", "step 1") - train_s / timing.batches
        session_s += timing.between("epoch 2", "trained")
        overhead_s = max(0.0, timing.between("trained", "evaluated") - val_s)
        return Costs(
            session_s=max(0.0, session_s),
            epoch_s=train_s * batches / timing.batches + val_s,
            test_s=overhead_s + val_s * num_test / num_val,
        )

    def train(
        self, contestant: str, *, stage: Stage, seed: int, epochs: int, must_stop: Callable[[], bool]
    ) -> Trained:
        """Train, or go on with the run that there is."""
        recipe = self._build_recipe(contestant, stage=stage, seed=seed, epochs=epochs)
        root = self._folder / "runs" / (stage if stage == "rungs" else f"{stage}-seed-{seed}")
        run = self._find_run(root, contestant, stage=stage, epochs=epochs)
        with _naming_failures():
            run = train(
                recipe,
                data=self._manifest.root,
                epochs=epochs,
                output=root,
                resume=False if run is None else run.path,
                device=self._device,
                watch=_Following(self._watch, must_stop),
            )
        return self._describe(run, recipe)

    def _build_recipe(self, contestant: str, *, stage: Stage, seed: int, epochs: int) -> Recipe:
        """Return the contestant's recipe for so many epochs, with a warm-up that fits into the first rung."""
        recipe = self._recipes[contestant]
        shortest = epochs
        if stage == "rungs":
            shortest = self._ledger.require("plan")["plan"]["rungs"][0]["epochs"]
        warmup_epochs = min(recipe.train.warmup_epochs, shortest / 2)
        return _change(recipe, {"seed": seed, "train.epochs": epochs, "train.warmup_epochs": warmup_epochs})

    @staticmethod
    def _find_run(root: Path, contestant: str, *, stage: Stage, epochs: int) -> RunDir | None:
        """Return the run to go on with; one of the finals must have been planned for these epochs."""
        for run in list_runs(root, contestant):
            if "data" not in run.read_run_json():  # killed before it began
                continue
            planned = load_recipe(run.recipe).train.epochs
            if planned == epochs or (stage == "rungs" and planned < epochs):
                return run
        return None

    def _describe(self, run: RunDir, recipe: Recipe) -> Trained:
        rows = [row for row in run.read_metrics() if row["epoch"] <= recipe.train.epochs]
        monitor = recipe.train.monitor
        known = [row for row in rows if row.get(monitor) is not None]
        choose = max if recipe.train.monitor_mode == "max" else min
        best = choose(known, key=lambda row: row[monitor]) if known else None  # the earliest of equals
        return Trained(
            run=run.path.relative_to(self._folder.absolute()).as_posix(),
            value=None if best is None else best[monitor],
            best_epoch=0 if best is None else int(best["epoch"]),
            val_loss=None if best is None else best.get("val/loss"),
            curve=tuple(row.get(monitor) for row in rows),
        )

    def test(self, run: str) -> Mapping[str, Any]:
        """Evaluate on the test split; a process that was killed behind it has left the figures."""
        found = RunDir.open(self._folder / run)
        done = [folder / "metrics.json" for folder in found.evaluations("test")]
        whole = next((path for path in done if path.is_file()), None)
        if whole is not None:
            metrics: Mapping[str, Any] = atomic.read_json(whole)
        else:
            metrics = evaluate(found, split="test", device=self._device, watch=self._watch).metrics
        clean = metrics["clean"]
        return {
            "n": metrics["all"]["n"],
            "top1": metrics["all"]["top1"],
            "macro_f1": metrics["all"]["macro_f1"],
            "clean_top1": None if clean is None else clean["top1"],
        }

    def compare(self, runs: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
        """Compare the finalists; their predictions on test are there."""
        output = self._folder / "comparison"
        atomic.remove_tree(output)
        sources = [self._folder / run for paths in runs.values() for run in paths]
        result = compare(sources, output=output, split="test")
        return {"verdict": result.verdict, "folder": output.name}

    @property
    def _device(self) -> str | None:
        device: str | None = self._ledger.require("begin")["asked"]["device"]
        return device


class _Following(Silent):
    """Passes progress on, not the notes of each training (they are in its log); ends it when time is up."""

    def __init__(self, watch: Watcher, must_stop: Callable[[], bool]) -> None:
        self._watch = watch
        self._must_stop = must_stop

    def step(self, progress: Progress) -> None:
        """Pass on, unless time is up."""
        self._check()
        self._watch.step(progress)

    def phase(self, text: str, done: int, total: int) -> None:
        """Pass on, unless time is up."""
        self._check()
        self._watch.phase(text, done, total)

    def _check(self) -> None:
        if self._must_stop():
            raise OutOfTime("the time box is full")


class _Timing(_Following):
    """Notes when the parts of a calibration begin and end."""

    def __init__(self, watch: Watcher, must_stop: Callable[[], bool]) -> None:
        super().__init__(watch, must_stop)
        self.batches = 0
        """Of an epoch."""
        self._epoch = 1
        self._times = {"start": time.perf_counter()}

    def mark(self, name: str) -> None:
        """Note that something has just happened; the first time counts."""
        self._times.setdefault(name, time.perf_counter())

    def between(self, first: str, second: str) -> float:
        """Return seconds."""
        return self._times[second] - self._times[first]

    def step(self, progress: Progress) -> None:
        """Note the first step."""
        self.batches = progress.batches
        self.mark("step 1")
        super().step(progress)

    def phase(self, text: str, done: int, total: int) -> None:
        """Note where validation begins."""
        if text == "validating":
            self.mark(f"validating {self._epoch}")
        super().phase(text, done, total)

    def epoch(self, row: Mapping[str, float | int]) -> None:
        """Note that an epoch is validated and saved."""
        self.mark(f"epoch {row['epoch']}")
        self._epoch += 1


@contextmanager
def _naming_failures() -> Iterator[None]:
    """Turn what is wrong with one contestant into :class:`ContestantFailed`."""
    try:
        yield
    except _OF_A_CONTESTANT as problem:
        raise ContestantFailed(" ".join(str(problem).split())) from problem
    except _OF_A_NETWORK as problem:
        raise ContestantFailed(
            f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        ) from problem


def _change(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    return load_recipe(recipe.model_dump(mode="json"), changes)
