"""Puts a job together from a recipe, a manifest and a run folder; saves it and brings it back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from praxiscope.data.loader import BatchReader, SampleSet, build_loader, build_sample_set
from praxiscope.data.manifest import Manifest
from praxiscope.data.transforms import TrainTransform
from praxiscope.errors import Diverged, UsageError
from praxiscope.evaluation.inputs import build_evaluation_loader, build_input_spec, choose_batch_size
from praxiscope.evaluation.predict import compute_epoch_scores, compute_logits
from praxiscope.models.build import BuiltModel
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.models.state import unwrap_module
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.checkpoint import (
    Checkpoint,
    flatten_optimizer,
    latest_checkpoint,
    unflatten_optimizer,
    write_checkpoint,
)
from praxiscope.runs.checkpoint_files import BEST, PERMANENT
from praxiscope.runs.environment import count_cores
from praxiscope.runs.rundir import RunDir
from praxiscope.training.ema import Ema
from praxiscope.training.loop import Job, Row
from praxiscope.training.optim import build_optimizer, list_parameter_names
from praxiscope.training.state import TrainState

_SETTINGS = ("weight_decay", "momentum", "lr_scale")  # of a parameter group, from the recipe


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything a job is built from.

    Attributes:
        recipe: what was asked for.
        manifest: the samples.
        run: where checkpoints go.
        built: the network.
        runtime: where and how it computes.
        without: samples left out (the run's quarantine).
        log: writes an epoch's row.
        phase: told about validation: text, done, total.
    """

    recipe: Recipe
    manifest: Manifest
    run: RunDir
    built: BuiltModel
    runtime: Runtime
    log: Callable[[Row], None]
    phase: Callable[[str, int, int], None]
    without: frozenset[str] = frozenset()


@contextlib.contextmanager
def open_job(setting: Setting) -> Iterator[Job]:
    """Build a job; leaving the context ends its loader's workers."""
    recipe, runtime = setting.recipe, setting.runtime
    train = build_sample_set(setting.manifest, "train", without=setting.without)
    val = build_sample_set(setting.manifest, "val", without=setting.without)
    spec = build_input_spec(setting.built, recipe, evaluation=False)
    val_spec = build_input_spec(setting.built, recipe, evaluation=True)
    reader = BatchReader(
        samples=train,
        transform=TrainTransform(spec=spec, augment=recipe.augment),
        seed=recipe.seed,
        max_pixels=recipe.loader.max_pixels,
    )
    module = runtime.place(setting.built.module)
    optimizer = build_optimizer(recipe.train, module)
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
    normalize = Normalizer(setting.built.mean, setting.built.std, runtime)
    ema = Ema(module, recipe.train.ema_decay) if recipe.train.ema_decay is not None else None
    loader = build_loader(reader, recipe.loader, device_type=runtime.device.type, cores=count_cores())
    with loader, build_evaluation_loader(val, val_spec, recipe, runtime) as val_loader:

        def validate(network: torch.nn.Module) -> dict[str, float]:
            logits = compute_logits(
                network,
                val_loader,
                num_samples=len(val),
                batch_size=choose_batch_size(recipe),
                normalize=normalize,
                runtime=runtime,
                flip=recipe.evaluate.flip,
                progress=lambda done, total: setting.phase("validating", done, total),
            )
            _check_logits(logits, val, runtime, lr=max(group["lr"] for group in optimizer.param_groups))
            return compute_epoch_scores(logits, val.targets, "val")

        job: Job
        job = Job(
            recipe=recipe,
            module=module,
            ema=ema,
            optimizer=optimizer,
            scaler=scaler,
            runtime=runtime,
            normalize=normalize,
            loader=loader,
            num_samples=len(train),
            num_classes=len(train.names),
            sample_ids=train.sample_ids,
            validate=validate,
            save=lambda state, is_best, epoch_ended: save_job(
                job, state, setting.run.checkpoints, is_best=is_best, epoch_ended=epoch_ended
            ),
            log=setting.log,
        )
        yield job


def save_job(job: Job, state: TrainState, folder: Path, *, is_best: bool, epoch_ended: bool) -> None:
    """Write a checkpoint of everything that a resume needs.

    Raises:
        EnvironmentProblem: the disk is full; earlier checkpoints are intact.
    """
    state.scaler, state.plan = job.scaler.state_dict(), _fingerprint_plan(job)
    names = list_parameter_names(job.optimizer, job.module)
    tensors, plain = flatten_optimizer(job.optimizer.state_dict(), names)
    groups = {"model": unwrap_module(job.module).state_dict(), "optimizer": tensors}
    if job.ema is not None:
        groups["ema"] = job.ema.module.state_dict()
    every = job.recipe.train.checkpoint_every_epochs
    tags = {BEST} if is_best else set()
    if epoch_ended and every is not None and state.epoch % every == 0:
        tags.add(PERMANENT)
    write_checkpoint(
        folder,
        groups=groups,
        state={"train": state.to_json(), "optimizer": plain},
        step=state.step,
        epoch=state.epoch,
        tags=tags,
    )


def restore_job(job: Job, folder: Path, note: Callable[[str], None]) -> TrainState:
    """Bring a job to its latest sound checkpoint; without one, to the start.

    Args:
        job: freshly built.
        folder: of checkpoints.
        note: told about damaged checkpoints that were passed over, and what follows from allowed changes.

    Raises:
        IntegrityError: there are checkpoints and none is sound.
        UsageError: the checkpoint is of another network or another optimiser.
    """
    checkpoint, rejected = latest_checkpoint(folder)
    for each in rejected:
        note(f"Checkpoint {each.name} is passed over: {each.reason}")
    if checkpoint is None:
        return TrainState.start(job.num_classes)
    _load_network(unwrap_module(job.module), checkpoint, "model")
    if job.ema is not None:
        if "ema" not in checkpoint.groups:
            note("The checkpoint holds no moving average; it starts from the weights.")
        _load_network(job.ema.module, checkpoint, "ema" if "ema" in checkpoint.groups else "model")
    _load_optimizer(job, checkpoint)
    state = TrainState.from_json(checkpoint.state["train"])
    if state.scaler:
        job.scaler.load_state_dict(state.scaler)
    if state.batch and state.plan != _fingerprint_plan(job):
        # What is left of the old order would show some samples twice and others never.
        note("Samples, batch size or seed are not those that the epoch in progress began with: it restarts.")
        state.restart_epoch()
    note(f"Resumed from {checkpoint.path.name}, in epoch {state.epoch + 1} after batch {state.batch}.")
    return state


def _load_network(module: torch.nn.Module, checkpoint: Checkpoint, group: str) -> None:
    try:
        module.load_state_dict(checkpoint.groups[group], strict=True)
    except RuntimeError as problem:
        raise UsageError(
            f"{checkpoint.path} is of another network ({' '.join(str(problem).split())[:200]}). "
            "Another model or other labels need a new run: start one without --resume."
        ) from problem


def _load_optimizer(job: Job, checkpoint: Checkpoint) -> None:
    """Load the optimiser's state; what the recipe says about it stays as the recipe says now."""
    names = list_parameter_names(job.optimizer, job.module)
    stored = unflatten_optimizer(checkpoint.groups["optimizer"], checkpoint.state["optimizer"], names)
    ours = [dict(group) for group in job.optimizer.param_groups]
    # Some optimisers add settings to their groups as they go; none takes one away.
    fits = [group.keys() for group in stored["param_groups"]]
    if len(fits) != len(ours) or any(group.keys() - keys for group, keys in zip(ours, fits, strict=True)):
        raise UsageError(
            f"{checkpoint.path} is of another optimiser than '{job.recipe.train.opt}', or of other parameter "
            "groups. Another train.opt or train.layer_decay needs a new run: start one without --resume."
        )
    job.optimizer.load_state_dict(stored)
    for group, before in zip(job.optimizer.param_groups, ours, strict=True):
        group.update({key: before[key] for key in _SETTINGS if key in before})


def _fingerprint_plan(job: Job) -> str:
    text = "\n".join([str(job.recipe.seed), str(job.recipe.train.batch_size), *job.sample_ids])
    return hashlib.sha256(text.encode()).hexdigest()


def _check_logits(
    logits: npt.NDArray[np.float32], samples: SampleSet, runtime: Runtime, *, lr: float
) -> None:
    """Never let a validation that isn't finite be scored, logged and chosen (C6)."""
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        raise Diverged(
            f"Validation gave logits that are not finite for {broken.size} of {len(samples)} samples "
            f"(first {samples.sample_ids[broken[0]]}) after training at learning rate {lr:.3g}, precision "
            f"{runtime.precision}. The last checkpoint is from before this. Try a lower --lr, a warm-up "
            "(--warmup-epochs), or --amp fp32."
        )
