"""Training the head of a frozen backbone from cached features, beside the same training from images.

    python benchmarks/features.py --data DIR [--heads linear mlp conv] [--turns 5] [--seconds 12]
                                  [--epochs 3] [--img-size 160] [--batch-size 64] [--cache DIR]

EfficientNet-Lite0 with ImageNet weights, its backbone frozen, batches of 64. Both sides run the real loop
in one process and take turns. A turn lasts ``--seconds`` or one epoch, whichever is less; its first two steps
are not counted; seconds per epoch are seconds per step times the steps of an epoch. Validation and
checkpoints are on neither side. Then the head is trained for ``--epochs`` from the cache, for the validation
accuracy. ``--train-per-class`` takes less data for a quick look.

``share_of_head`` is the bound: where the head alone takes the share s of an uncached step, no cache can be
more than 1 / s times as fast.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from measuring import format_summary, summarize, write_result
from praxiscope.data.build import build_manifest
from praxiscope.data.manifest import Manifest
from praxiscope.errors import Preempted
from praxiscope.models.build import build_model
from praxiscope.models.runtime import Runtime, choose_device, choose_runtime, tune_allocator
from praxiscope.models.split import split_frozen
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.feature_report import FeaturesReport
from praxiscope.training.job import Job
from praxiscope.training.loop import fit
from praxiscope.training.optim import build_optimizer
from praxiscope.training.session import Setting, open_job
from praxiscope.training.signals import StopFlag
from praxiscope.training.state import TrainState
from praxiscope.training.watch import Progress, Silent

WARMUP_STEPS = 2
PUBLISHED = 0.638  # frozen ResNet-50 with the same conv head, validation accuracy


class _Stopwatch(Silent):
    """Takes the time after each step and stops the loop after some seconds or an epoch."""

    def __init__(self, stop: StopFlag, seconds: float) -> None:
        self.times: list[float] = []
        self._stop, self._seconds = stop, seconds

    def step(self, progress: Progress) -> None:
        self.times.append(time.perf_counter())
        enough = len(self.times) > WARMUP_STEPS + 1 and self.times[-1] - self.times[0] > self._seconds
        if enough or progress.batch >= progress.batches - 1:
            self._stop.request()

    @property
    def seconds_per_step(self) -> float:
        """Mean after the warm-up."""
        return (self.times[-1] - self.times[WARMUP_STEPS - 1]) / (len(self.times) - WARMUP_STEPS)


class Side:
    """One recipe's training, in turns of some seconds."""

    def __init__(self, recipe: Recipe, manifest: Manifest, folder: Path, runtime: Runtime) -> None:
        self._built = build_model(recipe.model, num_classes=len(manifest.heads["action"]), seed=0)
        self.reports: list[FeaturesReport] = []
        self.rows: list[Mapping[str, float]] = []
        self.steps_timed: list[int] = []
        self._setting = Setting(
            recipe=recipe, manifest=manifest, run=RunDir.create(folder, recipe.name), built=self._built,
            runtime=runtime, log=self.rows.append, phase=lambda _text, _done, _total: None,
            announce=self.reports.append,
        )  # fmt: skip

    def time_epoch(self, seconds: float) -> float:
        """Return seconds per epoch."""
        stop = StopFlag()
        watch = _Stopwatch(stop, seconds)
        with open_job(self._setting) as job, contextlib.suppress(Preempted):
            fit(_without_saving(job), TrainState.start(*job.heads.sizes), stop=stop, watch=watch)
        self.steps_timed.append(len(watch.times) - WARMUP_STEPS)
        return watch.seconds_per_step * len(job.plan_epoch(0))

    def train(self) -> float:
        """Train to the recipe's end; return the best validation accuracy."""
        with open_job(self._setting) as job:
            fit(_without_saving(job), TrainState.start(*job.heads.sizes), stop=StopFlag(), watch=Silent())
        return max(row["val/top1"] for row in self.rows)


def _without_saving(job: Job) -> Job:
    return dataclasses.replace(job, save=lambda _state, _best, _ended: None)


def time_parts(recipe: Recipe, num_classes: int, runtime: Runtime, *, repeats: int = 5) -> dict[str, float]:
    """Return milliseconds of a training step's parts on random numbers: backbone, head, optimiser."""
    built = build_model(recipe.model, num_classes=num_classes, seed=0)
    module = runtime.place(built.module)
    module.train()
    split, size = split_frozen(module), recipe.train.batch_size
    optimizer = build_optimizer(recipe.train, module)
    images = torch.rand(size, 3, built.img_size, built.img_size).to(memory_format=runtime.memory_format)
    features = split.features(images)
    targets = torch.arange(size) % num_classes

    def learn() -> None:
        nn.functional.cross_entropy(split.head(features), targets).backward()

    parts = {"backbone": lambda: split.features(images), "head": learn, "optimizer": optimizer.step}
    timed: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(repeats + 1):
        for name, part in parts.items():
            started = time.perf_counter()
            part()
            if number:
                timed[name].append(1e3 * (time.perf_counter() - started))
    return {name: summarize(values)["median"] for name, values in timed.items()}


def build_recipe(arguments: argparse.Namespace, head: str, *, views: int, epochs: int) -> Recipe:
    """Return the recipe of one side: the same but for the views."""
    return load_recipe(
        {
            "name": f"bench-{head}-{views}",
            "model": {
                "name": "efficientnet-lite0", "pretrained": True, "img_size": arguments.img_size,
                "head": head, "freeze": ["backbone"],
            },
            "data": {"val_fraction": arguments.val_fraction, "train_per_class": arguments.train_per_class},
            "augment": {"crop_scale": [0.35, 1.0]},
            "train": {
                "epochs": epochs, "batch_size": arguments.batch_size, "opt": "adamw",
                "lr": 3e-4 if head == "conv" else 2e-3, "checkpoint_every_minutes": None,
            },
            "features": {"views": views, "precision": arguments.precision, "max_gib": 50},
        }
    )  # fmt: skip


def measure(
    head: str, arguments: argparse.Namespace, manifest: Manifest, folder: Path, runtime: Runtime
) -> dict[str, Any]:
    """Alternate the two sides of one head, then train it."""
    recipe = build_recipe(arguments, head, views=1, epochs=max(1, arguments.epochs))
    cached = Side(recipe, manifest, folder, runtime)
    images = Side(build_recipe(arguments, head, views=0, epochs=1), manifest, folder, runtime)
    pairs = []
    for number in range(arguments.turns):
        pairs.append((images.time_epoch(arguments.seconds), cached.time_epoch(arguments.seconds)))
        print(
            f"  turn {number + 1}: {pairs[-1][0]:.2f} s from images, {pairs[-1][1]:.3f} s cached", flush=True
        )
    best = cached.train() if arguments.epochs else None
    parts = time_parts(recipe, len(manifest.heads["action"]), runtime)
    mean_images = summarize([one for one, _ in pairs])["median"]
    steps = -(-cached.reports[0].num_train // arguments.batch_size)
    return {
        "epoch_s_from_images": summarize([one for one, _ in pairs]),
        "epoch_s_cached": summarize([other for _, other in pairs]),
        "ratio": summarize([one / other for one, other in pairs]),
        "steps_timed": {"images": images.steps_timed, "cached": cached.steps_timed, "epoch": steps},
        "features": cached.reports[0].describe(),
        "val_top1": best,
        "epochs_trained": arguments.epochs,
        "above_published": None if best is None else best > PUBLISHED,
        "step_parts_ms": parts,
        "share_of_head": (parts["head"] + parts["optimizer"]) * steps / (1e3 * mean_images),
    }


def main() -> None:
    """Measure each head and write ``results/features.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heads", nargs="+", default=["linear", "mlp", "conv"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--img-size", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp16")
    parser.add_argument("--train-per-class", type=int)
    parser.add_argument("--val-fraction", type=float, default=0.2)
    parser.add_argument("--cache", type=Path, help="keep features there; a new folder where not given")
    parser.add_argument("--device")
    arguments = parser.parse_args()
    allocator = tune_allocator()
    figures: dict[str, Any] = {
        "data": arguments.data.name,
        "img_size": arguments.img_size,
        "malloc": allocator,
    }
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PRAXISCOPE_CACHE"] = str(arguments.cache or Path(scratch) / "cache")
        recipe = build_recipe(arguments, "linear", views=1, epochs=1)
        manifest = build_manifest(arguments.data, recipe.data, seed=0)
        runtime = choose_runtime(
            choose_device(arguments.device), precision="auto", channels_last="auto", family="cnn"
        )
        figures["runtime"] = runtime.describe()
        for head in arguments.heads:
            print(head, flush=True)
            figures[head] = measure(head, arguments, manifest, Path(scratch) / "runs", runtime)
            for key in ("epoch_s_from_images", "epoch_s_cached", "ratio"):
                print(format_summary(f"{head}: {key}", figures[head][key], "x" if key == "ratio" else "s"))
            print({key: figures[head][key] for key in ("val_top1", "step_parts_ms", "share_of_head")})
    write_result("features", figures)


if __name__ == "__main__":
    main()
