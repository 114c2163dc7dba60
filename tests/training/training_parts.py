"""Small trainings for the tests: through the loop alone, through the API, and what is compared of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from praxiscope.data.build import build_manifest
from praxiscope.data.manifest import Manifest
from praxiscope.errors import PraxiscopeError
from praxiscope.models.build import build_model
from praxiscope.models.runtime import Runtime
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.checkpoint import Checkpoint, latest_checkpoint
from praxiscope.runs.rundir import RunDir
from praxiscope.training.job import Job
from praxiscope.training.loop import fit
from praxiscope.training.session import Setting, open_job, restore_job
from praxiscope.training.signals import StopFlag
from praxiscope.training.state import TrainState
from praxiscope.training.watch import Progress, Silent

TIMED = frozenset({"images_per_s", "epoch_s", "peak_memory_mib"})
"""Figures of a row that two equal trainings don't share."""

FP32 = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=True)

_BASE: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "model": {"name": "test_resnet", "img_size": 32},
    "augment": {"crop_scale": [0.5, 1.0], "color_jitter": 0.2, "random_erasing": 0.3},
    "train": {"epochs": 2, "batch_size": 12, "precision": "fp32", "lr": 3e-3},
    "loader": {"workers": 0},
    "evaluate": {"resamples": 100},
}


def build_recipe(overrides: Mapping[str, Any] | None = None) -> Recipe:
    return load_recipe(_BASE, dict(overrides or {}))


def read_data(folder: Path, recipe: Recipe) -> Manifest:
    return build_manifest(folder, recipe.data, seed=recipe.seed)


class Acting(Silent):
    """Follows a run and does something at each step or epoch."""

    def __init__(
        self,
        on_step: Callable[[Progress], None] = lambda _progress: None,
        on_epoch: Callable[[Mapping[str, float | int]], None] = lambda _row: None,
    ) -> None:
        self._on_step = on_step
        self._on_epoch = on_epoch
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: Progress) -> None:
        self._on_step(progress)

    def epoch(self, row: Mapping[str, float | int]) -> None:
        self._on_epoch(row)


def stopping_at(step: int, number: int = signal.SIGTERM) -> Acting:
    """Send this process a signal after an optimiser step."""

    def act(progress: Progress) -> None:
        if progress.step == step:
            signal.raise_signal(number)

    return Acting(act)


@contextmanager
def opened(
    recipe: Recipe,
    manifest: Manifest,
    run: RunDir,
    *,
    runtime: Runtime = FP32,
    change: Callable[[Job], Job] = lambda job: job,
) -> Iterator[tuple[Job, TrainState, list[str]]]:
    """Open a job in a run folder at its latest checkpoint."""
    built = build_model(recipe.model, num_classes=len(manifest.heads["action"]), seed=recipe.seed)
    setting = Setting(
        recipe=recipe, manifest=manifest, run=run, built=built, runtime=runtime,
        log=run.append_metrics, phase=lambda _text, _done, _total: None,
    )  # fmt: skip
    notes: list[str] = []
    with open_job(setting) as job:
        state = restore_job(job, run.checkpoints, notes.append)
        run.truncate_metrics(after_step=state.step)
        yield change(job), state, notes


def train_session(
    recipe: Recipe,
    manifest: Manifest,
    run: RunDir,
    *,
    stop_at: int | None = None,
    workers: int | None = None,
    **more: Any,
) -> PraxiscopeError | None:
    """Train in a run folder from its latest checkpoint; return what it was stopped by."""
    if workers is not None:
        loader = recipe.loader.model_copy(update={"workers": workers})
        recipe = recipe.model_copy(update={"loader": loader})
    stop = StopFlag()

    def act(progress: Progress) -> None:
        if progress.step == stop_at:
            stop.request()

    with opened(recipe, manifest, run, **more) as (job, state, _notes):
        try:
            fit(job, state, stop=stop, watch=Acting(act))
        except PraxiscopeError as problem:
            return problem
    return None


def read_latest(run: RunDir) -> Checkpoint:
    checkpoint, rejected = latest_checkpoint(run.checkpoints)
    assert checkpoint is not None
    assert rejected == ()
    return checkpoint


def digest(run: RunDir) -> dict[str, Any]:
    """Return what must be equal of two equal trainings: tensors by sha256, the state, every figure."""
    checkpoint = read_latest(run)
    state = dict(checkpoint.state["train"])
    state.pop("train_s")
    state["tally"] = {key: value for key, value in state["tally"].items() if key != "seconds"}
    return {
        "tensors": checkpoint.sha256,
        "optimizer": checkpoint.state["optimizer"],
        "state": state,
        "epoch": checkpoint.epoch,
        "tags": checkpoint.tags,
        "rows": [{k: v for k, v in row.items() if k not in TIMED} for row in run.read_metrics()],
    }


def read_status(run: RunDir) -> dict[str, Any]:
    return json.loads(run.status.read_text(encoding="utf-8"))


def replace_job(job: Job, **changes: Any) -> Job:
    return replace(job, **changes)
