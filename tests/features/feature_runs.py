"""Trainings of frozen networks with and without cached features, and what is compared of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from praxiscope.data.build import build_manifest
from praxiscope.data.loader import build_sample_set
from praxiscope.data.manifest import Manifest
from praxiscope.evaluation.inputs import build_evaluation_loader, build_input_spec
from praxiscope.evaluation.predict import compute_logits
from praxiscope.models.build import build_model
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.feature_report import FeaturesReport
from praxiscope.training.job import Job
from praxiscope.training.loop import fit
from praxiscope.training.session import Setting, open_job, restore_job
from praxiscope.training.signals import StopFlag
from praxiscope.training.watch import Silent, Watcher

FP32 = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=True)
TIMED = frozenset({"images_per_s", "epoch_s", "peak_memory_mib"})

_BASE: dict[str, Any] = {
    "name": "frozen",
    "seed": 3,
    "model": {"name": "test_resnet", "img_size": 32, "freeze": ["backbone"], "drop_rate": 0.2},
    "augment": "none",
    # Adam takes full steps along gradients that are nothing but rounding (of a bias before BatchNorm).
    "train": {"epochs": 2, "batch_size": 12, "precision": "fp32", "opt": "sgd", "lr": 0.1},
    "loader": {"workers": 0},
    "evaluate": {"resamples": 100},
}


def build_recipe(overrides: Mapping[str, Any] | None = None) -> Recipe:
    return load_recipe(_BASE, dict(overrides or {}))


def read_data(folder: Path, recipe: Recipe) -> Manifest:
    return build_manifest(folder, recipe.data, seed=recipe.seed)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training left behind; ``logits`` are the whole network's on the validation images."""

    weights: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    rows: list[dict[str, float]]
    logits: npt.NDArray[np.float32]
    reports: list[FeaturesReport]
    notes: list[str]

    def distance(self, other: Trained) -> float:
        """Return the largest difference of any weight, averaged ones included."""
        pairs = [(self.weights, other.weights), (self.ema, other.ema)]
        assert all(ours.keys() == theirs.keys() for ours, theirs in pairs)
        return max(
            float((ours[n].double() - theirs[n].double()).abs().max()) for ours, theirs in pairs for n in ours
        )

    def compare_rows(self, other: Trained) -> float:
        """Return the largest difference of any figure that isn't a time."""
        pairs = zip(self.rows, other.rows, strict=True)
        return max(abs(a[key] - b[key]) for a, b in pairs for key in a if key not in TIMED)


@contextmanager
def opened(
    folder: Path,
    recipe: Recipe,
    run: RunDir,
    *,
    phase: Callable[[str, int, int], None] = lambda _text, _done, _total: None,
    note: Callable[[str], None] = lambda _text: None,
    announce: Callable[[FeaturesReport], None] = lambda _report: None,
) -> Iterator[tuple[Job, Setting]]:
    """Open a job before anything is restored or computed."""
    manifest = read_data(folder, recipe)
    built = build_model(recipe.model, num_classes=len(manifest.heads["action"]), seed=recipe.seed)
    setting = Setting(
        recipe=recipe, manifest=manifest, run=run, built=built, runtime=FP32, log=run.append_metrics,
        phase=phase, note=note, announce=announce,
    )  # fmt: skip
    with open_job(setting) as job:
        yield job, setting


def train_run(
    folder: Path,
    recipe: Recipe,
    run: RunDir,
    *,
    stop: StopFlag | None = None,
    watch: Watcher | None = None,
    phase: Callable[[str, int, int], None] = lambda _text, _done, _total: None,
    saving: bool = False,
) -> Trained:
    """Train in a run folder from its latest checkpoint to the end; checkpoints are written when asked for."""
    reports: list[FeaturesReport] = []
    notes: list[str] = []
    parts = opened(folder, recipe, run, phase=phase, note=notes.append, announce=reports.append)
    with parts as (job, setting):
        state = restore_job(job, run.checkpoints, notes.append)
        run.truncate_metrics(after_step=state.step)
        if not saving:
            job = replace(job, save=lambda _state, _best, _ended: None)  # noqa: PLW2901
        fit(job, state, stop=stop or StopFlag(), watch=watch or Silent())
        return Trained(
            weights={name: value.clone() for name, value in job.module.state_dict().items()},
            ema={name: value.clone() for name, value in job.ema.module.state_dict().items()}
            if job.ema
            else {},
            rows=run.read_metrics(),
            logits=predict_images(job.ema.module if job.ema else job.module, setting),
            reports=reports,
            notes=notes,
        )


def predict_images(network: torch.nn.Module, setting: Setting) -> npt.NDArray[np.float32]:
    """Return the whole network's logits on the validation images, in portions of another size."""
    built, recipe = setting.built, setting.recipe
    val = build_sample_set(setting.manifest, "val")
    spec = build_input_spec(built, recipe, evaluation=True)
    with build_evaluation_loader(val, spec, recipe, FP32) as loader:
        return compute_logits(
            network, loader, num_samples=len(val), batch_size=7, runtime=FP32,
            normalize=Normalizer(built.mean, built.std, FP32), flip=recipe.evaluate.flip,
        )  # fmt: skip
