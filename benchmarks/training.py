"""Training speed beside timm's own loader and step, on the same JPEGs, model, batch and augmentation.

    python benchmarks/training.py [--data DIR] [--alternations 5] [--steps 8] [--batch-size 16]

One process; the contestants take turns, so that a machine whose speed drifts drifts for both. Two pairs:

default     Praxiscope as it comes (precision and memory format chosen for this machine, allocator tuned,
            threads that read) against what timm's train script does by default (float32, contiguous, four
            reading processes).
same        both in float32, channels-last and with the tuned allocator: what is left is the loop and the
            loader.

Model: ResNet-18 at 224 px from scratch, AdamW. Augmentation: random resized crop, flip, colour jitter 0.4.
Each turn starts its reading anew, and its first two steps are not counted. Without --data, 400 generated
JPEGs of 500 x 375 are used.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import timm
import timm.data
import timm.optim
import torch
from PIL import Image
from torch import nn

from measuring import format_summary, summarize, write_result
from praxiscope.data.build import build_manifest
from praxiscope.errors import Preempted
from praxiscope.models.build import build_model
from praxiscope.models.runtime import choose_runtime, tune_allocator
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.loop import fit
from praxiscope.training.session import Setting, open_job
from praxiscope.training.signals import StopFlag
from praxiscope.training.state import TrainState
from praxiscope.training.watch import Progress, Silent

WARMUP_STEPS = 2
IMG_SIZE = 224


class _Stopwatch(Silent):
    """Takes the time after each step and stops the loop after enough of them."""

    def __init__(self, stop: StopFlag, steps: int) -> None:
        self.times: list[float] = []
        self._stop, self._steps = stop, steps

    def step(self, progress: Progress) -> None:  # noqa: ARG002 - the loop's signature
        self.times.append(time.perf_counter())
        if len(self.times) >= WARMUP_STEPS + self._steps:
            self._stop.request()


class Praxiscope:
    """The real loop, with checkpoints switched off."""

    def __init__(self, recipe: Recipe, data: Path, folder: Path, *, precision: str) -> None:
        manifest = build_manifest(data, recipe.data, seed=0)
        built = build_model(recipe.model, num_classes=len(manifest.heads["action"]), seed=0)
        self.runtime = choose_runtime(
            torch.device("cpu"), precision=precision, channels_last="auto", family=built.card.family
        )
        self._setting = Setting(
            recipe=recipe, manifest=manifest, run=RunDir.create(folder, "bench"), built=built,
            runtime=self.runtime, log=lambda _row: None, phase=lambda _text, _done, _total: None,
        )  # fmt: skip

    def run(self, steps: int, batch_size: int) -> float:
        """Return images per second over ``steps`` steps."""
        stop = StopFlag()
        watch = _Stopwatch(stop, steps)
        with open_job(self._setting) as job, contextlib.suppress(Preempted):
            unsaved = dataclasses.replace(job, save=lambda _state, _best, _ended: None)
            fit(unsaved, TrainState.start(*job.heads.sizes), stop=stop, watch=watch)
        return steps * batch_size / (watch.times[-1] - watch.times[WARMUP_STEPS - 1])


class Timm:
    """timm's loader and training step, as its train script puts them together."""

    def __init__(self, data: Path, batch_size: int, *, channels_last: bool) -> None:
        dataset = timm.data.create_dataset(
            "", root=str(data), split="train", is_training=True, batch_size=batch_size
        )
        self._model = timm.create_model("resnet18", num_classes=len(dataset.reader.class_to_idx)).train()
        self._channels_last = channels_last
        if channels_last:
            self._model.to(memory_format=torch.channels_last)
        self._optimizer = timm.optim.create_optimizer_v2(self._model, opt="adamw", lr=1e-3, weight_decay=0.05)
        self._loss = nn.CrossEntropyLoss()
        self._loader = timm.data.create_loader(
            dataset, input_size=(3, IMG_SIZE, IMG_SIZE), batch_size=batch_size, is_training=True,
            scale=(0.08, 1.0), hflip=0.5, color_jitter=0.4, interpolation="bilinear",
            num_workers=4, device=torch.device("cpu"), persistent_workers=True,
        )  # fmt: skip

    def run(self, steps: int, batch_size: int) -> float:
        """Return images per second over ``steps`` steps."""
        times: list[float] = []
        for images, targets in self._endless():
            if self._channels_last:
                images = images.contiguous(memory_format=torch.channels_last)  # noqa: PLW2901
            loss = self._loss(self._model(images), targets)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            times.append(time.perf_counter())
            if len(times) >= WARMUP_STEPS + steps:
                break
        return steps * batch_size / (times[-1] - times[WARMUP_STEPS - 1])

    def _endless(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from self._loader


def set_default_allocator() -> None:
    """Give glibc back the thresholds that a fresh process has (mallopt's manual page)."""
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(-4, 65536)  # M_MMAP_MAX
    mallopt(-1, 128 * 1024)  # M_TRIM_THRESHOLD
    mallopt(-3, 128 * 1024)  # M_MMAP_THRESHOLD


def write_photographs(folder: Path, count: int = 400) -> Path:
    """Write JPEGs of 500 x 375 with the detail of a photograph, in four classes."""
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        pixels += rng.normal(0, 6, pixels.shape)
        path = folder / "train" / f"class{index % 4}" / f"{index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def measure(
    ours: Praxiscope, theirs: Timm, arguments: argparse.Namespace, *, same: bool
) -> Mapping[str, object]:
    """Alternate the two; return images per second of each and the ratios, turn by turn."""
    speeds: list[tuple[float, float]] = []
    for number in range(arguments.alternations):
        tune_allocator()
        mine = ours.run(arguments.steps, arguments.batch_size)
        if not same:
            set_default_allocator()
        speeds.append((mine, theirs.run(arguments.steps, arguments.batch_size)))
        print(f"  turn {number + 1}: {mine:.1f} against {speeds[-1][1]:.1f} images/s", flush=True)
    return {
        "praxiscope_images_per_s": summarize([mine for mine, _ in speeds]),
        "timm_images_per_s": summarize([other for _, other in speeds]),
        "ratio": summarize([mine / other for mine, other in speeds]),
        "praxiscope_runtime": ours.runtime.describe(),
    }


def main() -> None:
    """Measure both pairs and write ``results/training.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with train/<class>/*.jpg")
    parser.add_argument("--alternations", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    recipe = load_recipe(
        {"name": "bench", "model": {"name": "resnet18", "img_size": IMG_SIZE}},
        {
            "train.batch_size": arguments.batch_size,
            "augment.color_jitter": 0.4,
            "train.checkpoint_every_minutes": None,
        },
    )
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or write_photographs(Path(scratch) / "photographs")
        for name, precision, same in (("default", "auto", False), ("same", "fp32", True)):
            print(name)
            tune_allocator()
            ours = Praxiscope(recipe, data, Path(scratch) / name, precision=precision)
            theirs = Timm(data, arguments.batch_size, channels_last=same)
            pair = measure(ours, theirs, arguments, same=same)
            figures[name] = pair
            for key in ("praxiscope_images_per_s", "timm_images_per_s"):
                print(format_summary(f"{name}: {key}", pair[key], "images/s"))  # type: ignore[arg-type]
            print(format_summary(f"{name}: ratio", pair["ratio"], "x"))  # type: ignore[arg-type]
    figures["data"] = "generated JPEGs, 500 x 375" if arguments.data is None else arguments.data.name
    write_result("training", figures)


if __name__ == "__main__":
    main()
