"""Debug: the checklist of a careful practitioner, on a recipe and its data, before the long training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from praxiscope.data.build import build_recipe_manifest
from praxiscope.data.loader import Loader, build_sample_set
from praxiscope.data.manifest import read_manifest
from praxiscope.data.transforms import TrainTransform
from praxiscope.debugging.against import compare_trainings
from praxiscope.debugging.checklist import CHECKS, choose_checks
from praxiscope.debugging.result import Check
from praxiscope.debugging.subject import Subject
from praxiscope.errors import DataError
from praxiscope.evaluation.inputs import build_evaluation_reader, build_input_spec, build_reader
from praxiscope.models.build import BuiltModel, build_model
from praxiscope.models.runtime import Normalizer, Runtime, choose_device, choose_runtime, tune_allocator
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.reporting.debugging import write_checks
from praxiscope.runs.find import find_run
from praxiscope.tensors import Batch
from praxiscope.training.heads import build_heads_loss, check_monitor, weigh_heads
from praxiscope.training.job import Job
from praxiscope.training.losses import Loss
from praxiscope.training.optim import build_optimizer, require_optimizer
from praxiscope.training.schedule import compute_lr
from praxiscope.training.state import TrainState
from praxiscope.training.steps import take_step
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.train import settle_frames

# What regularises: a batch is learnt by heart without it.
_PLAIN = {
    "augment.preset": "none", "augment.mixup": 0.0, "augment.cutmix": 0.0, "train.smoothing": 0.0,
    "train.weight_decay": 0.0, "train.clip_grad": None, "train.class_weights": "none",
    "train.ema_decay": None,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DebugResult:
    """What the checks found.

    Attributes:
        folder: ``debug.json``, pictures, ``index.html``.
        checks: in the order in which they ran.
    """

    folder: Path
    checks: tuple[Check, ...]

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / "index.html"

    @property
    def faults(self) -> tuple[Check, ...]:
        """Checks that found a fault."""
        return tuple(check for check in self.checks if check.status == "fault")


def debug(  # noqa: PLR0913 - the flags of a command, all but two with a default
    recipe: Recipe | str,
    *,
    data: Path | str,
    only: Sequence[str] = (),
    against: str | None = None,
    output: Path | str = "runs",
    device: str | None = None,
    watch: Watcher | None = None,
    tell: Callable[[Check], None] = lambda _check: None,
) -> DebugResult:
    """Check a recipe on its data before training.

    Args:
        recipe: as it would be trained.
        data: the user's folder; nothing is written to it.
        only: names of checks; all where empty.
        against: a run to compare data, split and recipe with.
        output: folder of all runs; the evidence lies in ``debug/<recipe>-<UTC>`` there.
        device: as for ``train``.
        watch: follows progress.
        tell: told each check as it is done.

    Returns:
        What was found; a fault is not an exception.

    Raises:
        UsageError: something asked for doesn't exist.
        DataError: the data can't be used at all.
    """
    watch = watch or Silent()
    other = None if against is None else find_run(against, root=Path(output))
    subject = build_subject(load_recipe(recipe) if isinstance(recipe, str) else recipe, data, device, watch)
    names = choose_checks(only, clips=subject.holds_clips)
    started = time.perf_counter()
    checks: list[Check] = []
    for place, name in enumerate(names):
        watch.phase(f"checking {name}", place, len(names))
        checks.append(CHECKS[name](subject))
        tell(checks[-1])
    if other is not None:
        theirs, asked = read_manifest(other.manifest), load_recipe(other.recipe)
        checks.append(compare_trainings(subject.manifest, theirs, subject.recipe, asked, name=other.run_id))
        tell(checks[-1])
    folder = Path(output) / "debug" / f"{subject.recipe.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    facts = _describe(subject, time.perf_counter() - started)
    write_checks(checks, folder, facts=facts)
    return DebugResult(folder=folder, checks=tuple(checks))


def build_subject(recipe: Recipe, data: Path | str, device: str | None, watch: Watcher) -> Subject:
    """Put together what is looked at.

    Raises:
        UsageError, DataError: as :func:`debug`.
    """
    where = choose_device(device)
    tune_allocator()
    require_optimizer(recipe.train.opt)
    manifest = build_recipe_manifest(Path(data), recipe, progress=watch.phase)
    if manifest.usable("train").num_rows == 0:
        raise DataError(f"{manifest.root} has no usable training sample; `praxiscope data check` says why.")
    recipe = settle_frames(recipe, manifest)
    train = build_sample_set(manifest, "train")
    weights = weigh_heads(recipe, train.heads)
    check_monitor(recipe, train.heads)
    built = build_model(recipe.model, num_classes=train.heads.total, seed=recipe.seed)
    runtime = choose_runtime(
        where,
        precision=recipe.train.precision,
        channels_last=recipe.train.channels_last,
        family=built.card.family,
    )
    spec = build_input_spec(built, recipe, evaluation=False)
    reader = build_reader(train, TrainTransform(spec=spec, augment=recipe.augment), recipe)
    steps_per_epoch = _count_steps(recipe, len(train))

    def build() -> BuiltModel:
        fresh = build_model(recipe.model, num_classes=train.heads.total, seed=recipe.seed)
        runtime.place(fresh.module)
        fresh.module.train()
        return fresh

    plain_recipe = load_recipe(recipe.model_dump(mode="json"), _PLAIN)
    losses = {
        False: build_heads_loss(recipe, train, weights),
        True: build_heads_loss(plain_recipe, train, weights),
    }

    def start(fresh: BuiltModel, plain: bool) -> TrainingSteps:
        asked = plain_recipe if plain else recipe
        if plain:
            _switch_dropout_off(fresh.module)
        return TrainingSteps(asked, fresh, runtime, losses[plain], reader=reader)

    return Subject(
        recipe=recipe,
        manifest=manifest,
        runtime=runtime,
        train=reader,
        plain=build_evaluation_reader(train, spec, recipe),
        build=build,
        normalize=Normalizer(built.mean, built.std, runtime),
        loss=losses[True],
        start=start,
        compute_lr=lambda step: compute_lr(recipe.train, step=step, steps_per_epoch=steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
    )


def _count_steps(recipe: Recipe, num_train: int) -> int:
    batches = math.ceil(num_train / recipe.train.batch_size)
    return math.ceil(batches / recipe.train.accum_steps)


def _switch_dropout_off(module: nn.Module) -> None:
    for each in module.modules():
        if isinstance(each, nn.modules.dropout._DropoutNd):  # noqa: SLF001 - the common base has no public name
            each.p = 0.0
        elif hasattr(each, "drop_prob"):  # timm's stochastic depth
            setattr(each, "drop_prob", 0.0)  # noqa: B010 - of no common class


class TrainingSteps:
    """Makes the loop's own optimiser steps; see :class:`praxiscope.debugging.subject.Steps`.

    Args:
        recipe: optimiser, mixing, clipping.
        built: the network.
        runtime: where and how it computes.
        loss: sum of a batch's losses.
        reader: of training batches, for their samples.
    """

    def __init__(
        self, recipe: Recipe, built: BuiltModel, runtime: Runtime, loss: Loss, *, reader: Any
    ) -> None:
        self.module = built.module
        samples = reader.samples
        self._job = Job(
            recipe=recipe,
            module=built.module,
            ema=None,
            optimizer=build_optimizer(recipe.train, built.module),
            scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16"),
            runtime=runtime,
            normalize=Normalizer(built.mean, built.std, runtime),
            loader=Loader(reader, recipe.loader, workers=0, process=False),
            loss=loss,
            targets=samples.targets,
            heads=samples.heads,
            sample_ids=samples.sample_ids,
            validate=_nothing_to_validate,
            save=lambda _state, _is_best, _ended: None,
            log=lambda _row: None,
        )
        self._state = TrainState.start(*samples.heads.sizes)

    def step(self, batch: Batch, *, lr: float) -> float:
        """Make one step; return the mean loss before it."""
        self.module.train()
        before = self._state.tally.loss_sum
        take_step(self._job, [batch], self._state, lr=lr)
        return (self._state.tally.loss_sum - before) / len(batch.rows)


def _nothing_to_validate(_network: nn.Module) -> dict[str, float]:
    return {}


def _describe(subject: Subject, seconds: float) -> dict[str, Any]:
    recipe, manifest = subject.recipe, subject.manifest
    return {
        "recipe": recipe.model_dump(mode="json"),
        "model": recipe.model.name,
        "data": str(manifest.root),
        "manifest_fingerprint": manifest.fingerprint,
        "num_train": manifest.usable("train").num_rows,
        "batch": len(subject.plans[0].rows),
        "device": str(subject.runtime.device),
        "precision": subject.runtime.precision,
        "seconds": seconds,
    }
