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

from praxiscope.data.clips.pack_reader import ClipPack
from praxiscope.data.loader import SampleSet, build_sample_set
from praxiscope.data.manifest import Manifest
from praxiscope.data.pack_reader import Pack
from praxiscope.data.transforms import TrainTransform
from praxiscope.errors import Diverged, UsageError
from praxiscope.evaluation.inputs import build_evaluation_reader, build_input_spec, build_reader
from praxiscope.evaluation.predict import compute_epoch_scores
from praxiscope.models.build import BuiltModel
from praxiscope.models.layer_statistics import LayerReport
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.models.shards import collect_full, is_sharded, shard, spread_like
from praxiscope.models.state import unwrap_module
from praxiscope.models.world import ALONE, World
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.checkpoint import (
    Checkpoint,
    flatten_optimizer,
    latest_checkpoint,
    unflatten_optimizer,
    write_checkpoint,
)
from praxiscope.runs.checkpoint_files import BEST, PERMANENT
from praxiscope.runs.rundir import RunDir
from praxiscope.training.ema import Ema
from praxiscope.training.feature_report import FeaturesReport
from praxiscope.training.features import open_features
from praxiscope.training.heads import build_heads_loss, check_monitor, weigh_heads
from praxiscope.training.histograms import log_with_layers
from praxiscope.training.job import Job, Row
from praxiscope.training.optim import build_optimizer, list_parameter_names
from praxiscope.training.parallel import choose_sync, copy_on_ranks, join_batch_norm, require_parallel
from praxiscope.training.source import Source, SourceParts, open_images
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
        note: told about damaged features.
        announce: told which features were cached.
        pack: a packed copy of the images, read instead of them.
        log_layers: writes what the layers do, with the step, where the recipe asks for histograms.
        world: the ranks that train together.
    """

    recipe: Recipe
    manifest: Manifest
    run: RunDir
    built: BuiltModel
    runtime: Runtime
    log: Callable[[Row], None]
    phase: Callable[[str, int, int], None]
    without: frozenset[str] = frozenset()
    note: Callable[[str], None] = lambda _text: None
    announce: Callable[[FeaturesReport], None] = lambda _report: None
    pack: Pack | ClipPack | None = None
    log_layers: Callable[[LayerReport, int], None] = lambda _report, _step: None
    world: World = ALONE


@contextlib.contextmanager
def open_job(setting: Setting) -> Iterator[Job]:
    """Build a job; leaving the context ends its loader's workers."""
    recipe, runtime, world = setting.recipe, setting.runtime, setting.world
    require_parallel(recipe, world, device_type=runtime.device.type)
    train = build_sample_set(setting.manifest, "train", without=setting.without, pack=setting.pack)
    val = build_sample_set(setting.manifest, "val", without=setting.without, pack=setting.pack)
    weights = weigh_heads(recipe, train.heads)
    check_monitor(recipe, train.heads)
    module = runtime.place(setting.built.module)
    ema = Ema(module, recipe.train.ema_decay) if recipe.train.ema_decay is not None else None
    if recipe.train.parallel == "fsdp":  # before the optimiser, which then holds the parts alone
        for network in (module, *([ema.module] if ema else [])):
            shard(network)
    elif recipe.train.sync_bn and world.size > 1:
        join_batch_norm(module)
    optimizer = build_optimizer(recipe.train, module)
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
    with _open_source(setting, train, val) as source:

        def validate(network: torch.nn.Module) -> dict[str, float]:
            logits = source.predict(network)
            _check_logits(logits, val, runtime, lr=max(group["lr"] for group in optimizer.param_groups))
            return compute_epoch_scores(logits, val.targets, val.heads, "val", weights=weights)

        trained = source.head or module
        network = trained if is_sharded(module) else copy_on_ranks(trained, world, runtime)
        job: Job
        job = Job(
            recipe=recipe,
            module=module,
            ema=ema,
            optimizer=optimizer,
            scaler=scaler,
            runtime=runtime,
            normalize=source.normalize,
            loader=source.loader,
            forward=network,
            world=world,
            sync=choose_sync(network),
            prepare=source.prepare,
            loss=build_heads_loss(recipe, train, weights),
            targets=train.targets,
            heads=train.heads,
            sample_ids=train.sample_ids,
            validate=validate,
            save=lambda state, is_best, epoch_ended: save_job(
                job, state, setting.run.checkpoints, is_best=is_best, epoch_ended=epoch_ended
            ),
            log=_choose_log(setting, module, val),
        )
        yield job


def _choose_log(setting: Setting, module: torch.nn.Module, val: SampleSet) -> Callable[[Row], None]:
    """Return what writes an epoch's row, and every so often what the layers do."""
    recipe, built = setting.recipe, setting.built
    every = recipe.train.histogram_every_epochs
    if every is None:
        return setting.log
    return log_with_layers(
        setting.log,
        setting.log_layers,
        module,
        build_evaluation_reader(val, build_input_spec(built, recipe, evaluation=True), recipe),
        normalize=Normalizer(built.mean, built.std, setting.runtime),
        runtime=setting.runtime,
        every=every,
    )


def _open_source(
    setting: Setting, train: SampleSet, val: SampleSet
) -> contextlib.AbstractContextManager[Source]:
    """Open what the loop is fed: images, or the features of a frozen backbone."""
    recipe, built = setting.recipe, setting.built
    parts = SourceParts(
        recipe=recipe,
        built=built,
        runtime=setting.runtime,
        train=build_reader(
            train,
            TrainTransform(spec=build_input_spec(built, recipe, evaluation=False), augment=recipe.augment),
            recipe,
        ),
        val=build_evaluation_reader(val, build_input_spec(built, recipe, evaluation=True), recipe),
        phase=setting.phase,
        world=setting.world,
    )
    if recipe.features.views == 0:
        return open_images(parts)
    rows = setting.manifest.usable(None).select(["sample_id", "sha256"]).to_pylist()
    digests = {row["sample_id"]: row["sha256"] for row in rows}
    return open_features(parts, digests, note=setting.note, announce=setting.announce)


def save_job(job: Job, state: TrainState, folder: Path, *, is_best: bool, epoch_ended: bool) -> None:
    """Write a checkpoint of everything that a resume needs; of several ranks, the first writes.

    Raises:
        EnvironmentProblem: the disk is full; earlier checkpoints are intact.
    """
    state.scaler, state.plan = job.scaler.state_dict(), _fingerprint_plan(job)
    names = list_parameter_names(job.optimizer, job.module)
    tensors, plain = flatten_optimizer(job.optimizer.state_dict(), names)
    groups = {"model": unwrap_module(job.module).state_dict(), "optimizer": tensors}
    if job.ema is not None:
        groups["ema"] = job.ema.module.state_dict()
    with job.world.naming_lost_ranks():
        groups = {name: collect_full(group) for name, group in groups.items()}
    every = job.recipe.train.checkpoint_every_epochs
    tags = {BEST} if is_best else set()
    if epoch_ended and every is not None and state.epoch % every == 0:
        tags.add(PERMANENT)
    with job.world.together():  # a full disk stops all ranks
        if job.world.is_first:
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
        state = TrainState.start(*job.heads.sizes)
        state.adopt_plan(job.recipe.train)
        return state
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
        note("Samples, order or batches are not those that the epoch in progress began with: it restarts.")
        state.restart_epoch()
    where = (
        f"in epoch {state.epoch + 1} after batch {state.batch}"
        if state.batch
        else f"after epoch {state.epoch}"
    )
    note(f"Resumed from {checkpoint.path.name}, {where}.")
    if joint := state.adopt_plan(job.recipe.train):
        note(
            f"Planned for {joint.from_epochs} epochs, continued to {joint.to_epochs} from step {joint.step}; "
            f"the learning rate was {joint.lr:.2e} and goes on by the rule '{joint.rule}'."
        )
    return state


def _load_network(module: torch.nn.Module, checkpoint: Checkpoint, group: str) -> None:
    own, stored = module.state_dict(), checkpoint.groups[group]
    parts = {name: spread_like(full, own[name]) if name in own else full for name, full in stored.items()}
    try:
        module.load_state_dict(parts, strict=True)
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
    own = [parameter for group in job.optimizer.param_groups for parameter in group["params"]]
    for place, values in stored["state"].items():
        if isinstance(place, int):
            for key, value in values.items():
                if isinstance(value, torch.Tensor):
                    values[key] = spread_like(value, own[place])
    job.optimizer.load_state_dict(stored)
    for group, before in zip(job.optimizer.param_groups, ours, strict=True):
        group.update({key: before[key] for key in _SETTINGS if key in before})


def _fingerprint_plan(job: Job) -> str:
    recipe = job.recipe
    words = [str(recipe.seed), str(recipe.train.batch_size * job.world.size), *job.sample_ids]
    if recipe.augment.repeats > 1:
        words.append(f"repeats {recipe.augment.repeats}")
    if recipe.train.sampling == "balanced":  # the order then follows from the labels as well
        words.append(f"balanced {job.labels.tolist()}")
    text = "\n".join(words)
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
