"""Train: data and recipe become a run folder that can be checked, resumed and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from praxiscope.data.build import build_recipe_manifest
from praxiscope.data.clips.flow import require_flow_settings
from praxiscope.data.manifest import Manifest, write_manifest
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.inputs import build_input_spec
from praxiscope.models.build import BuiltModel, build_model
from praxiscope.models.catalog import find_card
from praxiscope.models.runtime import Runtime, choose_device, choose_runtime, tune_allocator
from praxiscope.models.world import World, open_world
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs import atomic
from praxiscope.runs.checkpoint_files import read_manifests
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.tensors import Heads
from praxiscope.training.features import require_cacheable
from praxiscope.training.optim import require_optimizer
from praxiscope.training.parallel import require_parallel
from praxiscope.training.trackers.follow import require_trackers
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.packed import open_recipe_pack
from praxiscope.workflows.record import describe_resume, describe_start
from praxiscope.workflows.resume import find_run_to_resume, refuse_changes, settle_epochs
from praxiscope.workflows.session import hold_run, join_session, run_session

DEFAULT_FRAMES = 8
"""Frames of a clip that a network takes where the recipe does not say."""


class _Parts(NamedTuple):
    """What a session needs besides its folder."""

    recipe: Recipe
    manifest: Manifest
    built: BuiltModel
    runtime: Runtime


class _Start(NamedTuple):
    """What a training is asked to begin or go on with.

    Attributes:
        recipe: with its number of frames.
        manifest: the samples.
        where: this rank's device.
        world: the ranks that train together.
        watch: follows progress; silent on all but the first.
        output: folder of all runs.
    """

    recipe: Recipe
    manifest: Manifest
    where: torch.device
    world: World
    watch: Watcher
    output: Path


def train(  # noqa: PLR0913 - the flags of a command, all but one with a default
    recipe: Recipe | str | None = None,
    *,
    data: Path | str | None = None,
    epochs: int | None = None,
    output: Path | str = "runs",
    resume: bool | str | Path = False,
    folder: Path | str | None = None,
    allow_changes: bool = False,
    device: str | None = None,
    watch: Watcher | None = None,
    command: Sequence[str] = (),
) -> RunDir:
    """Train a model, or go on with a run.

    Args:
        recipe: a recipe or a built-in one's name; may be left out when ``resume`` names a run.
        data: the user's folder; nothing is written to it. May be left out likewise.
        epochs: instead of the recipe's; with ``resume``, more than before continue a run beyond its end.
        output: folder of all runs.
        resume: True for the newest run of this recipe and data, or a run's folder or name.
        folder: of this very run: made where there is none yet, gone on with where there is. For a job that is
            started again and again by the same command.
        allow_changes: go on although recipe or data differ from the run's; it is noted in the run.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, a GPU's number; the best there is by default.
        watch: follows progress.
        command: the command line, for the record; secrets in it are masked.

    Returns:
        The run's folder.

    Raises:
        UsageError: something asked for doesn't exist, or the run to resume is another one.
        DataError: the data can't be used as asked.
        EnvironmentProblem: weights, disk space or a device are missing.
        Diverged: a loss is not finite.
        Preempted, Interrupted: stopped by a signal after saving.
    """
    watch = watch or Silent()
    if folder is not None:
        resume = _settle_start(Path(folder), resume)
    recipe, data = _complete(recipe, data, resume, Path(output))
    if epochs is not None:
        recipe = load_recipe(recipe.model_dump(mode="json"), {"train.epochs": epochs})
    require_trackers(recipe.track)
    with open_world(recipe.train.distributed_timeout_s) as world:
        watch = watch if world.is_first else Silent()
        where = world.choose_own(choose_device(device), device)
        require_parallel(recipe, world, device_type=where.type)
        manifest = world.from_first(partial(_build_data, data, recipe, watch))
        start = _Start(settle_frames(recipe, manifest), manifest, where, world, watch, Path(output))
        if resume:
            return _go_on(start, resume, asked=epochs, allow=allow_changes)
        return _begin(start, folder=None if folder is None else Path(folder), command=command)


def _begin(start: _Start, *, folder: Path | None, command: Sequence[str]) -> RunDir:
    """Make a run folder, and train in it."""
    recipe, manifest, world = start.recipe, start.manifest, start.world
    allocator = tune_allocator()
    # Model, weights and optimiser before the folder: a misspelt name leaves no run behind.
    parts = _build_parts(start)
    run = world.from_first(
        lambda: (
            RunDir.create(start.output, recipe.name)
            if folder is None
            else RunDir.create_at(folder, recipe.name)
        )
    )
    with hold_run(run, world) as lock:
        with world.together():
            if world.is_first:
                atomic.write_text(run.recipe, dump_recipe(recipe))
                write_manifest(manifest, run.manifest)
                described = describe_start(
                    run, recipe, manifest, parts.built, parts.runtime, command=command, allocator=allocator
                )
                run.update_run_json(described | {"ranks": world.size})
        if lock is None:
            return join_session(run, *parts, world=world)
        return run_session(run, *parts, lock=lock, watch=start.watch, world=world)


def _go_on(start: _Start, resume: bool | str | Path, *, asked: int | None, allow: bool) -> RunDir:
    """Train on in the folder of a run."""
    given, manifest, world, watch = start.recipe, start.manifest, start.world, start.watch
    tune_allocator()
    run = world.from_first(lambda: find_run_to_resume(resume, given.name, manifest, start.output))
    with hold_run(run, world) as lock:

        def settle() -> tuple[Recipe, list[str]]:
            recipe = settle_epochs(run, given, asked=asked, allow=allow)
            if recipe.train.epochs != given.train.epochs:
                watch.note(
                    f"The recipe says {given.train.epochs} epochs; {run.path} was continued to "
                    f"{recipe.train.epochs}."
                )
            return recipe, refuse_changes(run, recipe, manifest, allow=allow, ranks=world.size)

        recipe, changes = world.from_first(settle)
        parts = _build_parts(start._replace(recipe=recipe), run=run)

        def adopt() -> None:
            # The notes first: a kill in between must not lose them.
            described = describe_resume(run, parts.recipe, manifest, changes)
            run.update_run_json(described | {"ranks": world.size})
            atomic.write_text(run.recipe, dump_recipe(parts.recipe))
            write_manifest(manifest, run.manifest)

        if lock is None:
            return join_session(run, *parts, world=world)
        return run_session(run, *parts, lock=lock, watch=watch, adopt=adopt, world=world)


def _settle_start(folder: Path, resume: bool | str | Path) -> bool | Path:
    """Return what to resume for a run of this folder: the folder itself once training has begun there."""
    if resume:
        raise UsageError(
            "--run makes its folder or goes on with it, whichever it finds; leave --resume out, or --run."
        )
    begun = (folder / "run.json").is_file() and "data" in RunDir.open(folder).read_run_json()
    return folder if begun else False


def settle_frames(recipe: Recipe, manifest: Manifest) -> Recipe:
    """Give a recipe for clips its number of frames.

    Raises:
        UsageError: The recipe asks for frames or for a video network, but the samples are images.
    """
    require_flow_settings(recipe, clips=manifest.holds_clips)
    asked, card = recipe.model.num_frames, find_card(recipe.model.name)
    if not manifest.holds_clips:
        if asked is not None:
            raise UsageError(
                f"model.num_frames is {asked}, but {manifest.root} holds images; leave it out, or give clips."
            )
        if card.num_frames is not None:
            raise UsageError(
                f"{card.name} is a video network, but {manifest.root} holds images; choose another "
                "model.name, or give clips."
            )
        return recipe
    if card.library == "torchvision" and recipe.train.channels_last is True:
        raise UsageError(
            f"train.channels_last is true, which is for images; {card.name} takes clips as they are (on a "
            "CPU 3D convolutions are slower that way). Leave it out."
        )
    if asked is not None:
        return recipe
    settled = {"model.num_frames": card.num_frames or DEFAULT_FRAMES}
    return load_recipe(recipe.model_dump(mode="json"), settled)


def _complete(
    recipe: Recipe | str | None, data: Path | str | None, resume: bool | str | Path, output: Path
) -> tuple[Recipe, Path]:
    """Fill in what a named run knows already."""
    if isinstance(resume, (str, Path)):
        run = find_run(str(resume), root=output)
        stored = run.read_run_json()
        if "data" not in stored:
            raise UsageError(f"{run.path} was stopped before it began; start a new run without --resume.")
        recipe = recipe or load_recipe(run.recipe)
        data = data or stored["data"]["root"]
    if recipe is None:
        raise UsageError(
            "Which recipe? Name one (praxiscope recipes), or --model, or --resume a run's folder."
        )
    if data is None:
        raise UsageError("Which data? Pass --data DIR: a folder of class folders, or with a CSV of labels.")
    return (load_recipe(recipe) if isinstance(recipe, str) else recipe), Path(data)


def _build_data(data: Path, recipe: Recipe, watch: Watcher) -> Manifest:
    manifest = build_recipe_manifest(data, recipe, progress=watch.phase)
    for finding in manifest.findings:
        if finding.severity == "warning":
            watch.note(f"data: {finding.message}")
    manifest.require_usable()
    for split in ("train", "val"):
        if manifest.usable(split).num_rows == 0:
            raise DataError(
                f"{manifest.root} gives no sample for '{split}'; give it a folder '{split}', or set "
                "data.val_fraction above 0 to have validation cut from train."
            )
    return manifest


def _build_parts(start: _Start, *, run: RunDir | None = None) -> _Parts:
    """Build the network and settle how it computes; a resumed run keeps the precision that it had."""
    recipe, manifest, world = start.recipe, start.manifest, start.world
    section, train = recipe.model, recipe.train
    precision, channels_last = train.precision, train.channels_last
    if run is not None:
        before = run.read_run_json()["environment"]
        precision, channels_last = before["precision"], before["memory_format"] == "channels_last"
        if read_manifests(run.checkpoints)[0]:  # weights come from there; the published ones may be gone
            section = section.model_copy(update={"pretrained": False, "weights": None})
    if section.head == "text":
        raise UsageError(
            "model.head is 'text', which `praxiscope zeroshot` makes of class names and nothing trains. "
            "Use head: linear, mlp or conv."
        )
    require_optimizer(train.opt)
    num_classes = Heads(names=manifest.heads).total
    built = world.first_before_others(lambda: build_model(section, num_classes=num_classes, seed=recipe.seed))
    build_input_spec(built, recipe, evaluation=True)
    world.from_first(lambda: _prepare_pack(start, built))
    require_cacheable(
        recipe, built, num_train=manifest.usable("train").num_rows, num_val=manifest.usable("val").num_rows
    )
    # What a rank measures may differ from what another measures; they compute alike.
    runtime = world.from_first(
        lambda: choose_runtime(
            start.where, precision=precision, channels_last=channels_last, family=built.card.family
        )
    )
    return _Parts(recipe, manifest, built, replace(runtime, device=start.where))


def _prepare_pack(start: _Start, built: BuiltModel) -> None:
    """Have a pack made before there is a run folder: a full disk leaves none behind."""
    with open_recipe_pack(start.recipe, start.manifest, built, splits=(), watch=start.watch):
        pass
