"""Train: data and recipe become a run folder that can be checked, resumed and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from praxiscope.data.build import build_manifest
from praxiscope.data.manifest import Manifest, write_manifest
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.inputs import build_input_spec
from praxiscope.models.build import BuiltModel, build_model
from praxiscope.models.runtime import Runtime, choose_device, choose_runtime, tune_allocator
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs import atomic
from praxiscope.runs.checkpoint_files import read_manifests
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.tensors import Heads
from praxiscope.training.features import require_cacheable
from praxiscope.training.optim import require_optimizer
from praxiscope.training.trackers.follow import require_trackers
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.packed import open_recipe_pack
from praxiscope.workflows.record import describe_resume, describe_start
from praxiscope.workflows.resume import find_run_to_resume, refuse_changes, settle_epochs
from praxiscope.workflows.session import run_session

DEFAULT_FRAMES = 8
"""Frames of a clip that a network takes where the recipe does not say."""


class _Parts(NamedTuple):
    """What a session needs besides its folder."""

    recipe: Recipe
    manifest: Manifest
    built: BuiltModel
    runtime: Runtime


def train(  # noqa: PLR0913 - the flags of a command, all but one with a default
    recipe: Recipe | str | None = None,
    *,
    data: Path | str | None = None,
    epochs: int | None = None,
    output: Path | str = "runs",
    resume: bool | str | Path = False,
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
    recipe, data = _complete(recipe, data, resume, Path(output))
    if epochs is not None:
        recipe = load_recipe(recipe.model_dump(mode="json"), {"train.epochs": epochs})
    require_trackers(recipe.track)
    where = choose_device(device)
    allocator = tune_allocator()
    manifest = _build_data(data, recipe, watch)
    recipe = settle_frames(recipe, manifest)
    if not resume:
        # Model, weights and optimiser before the folder: a misspelt name leaves no run behind.
        parts = _build_parts(recipe, manifest, where=where, watch=watch)
        run = RunDir.create(Path(output), recipe.name)
        with run.lock() as lock:
            atomic.write_text(run.recipe, dump_recipe(recipe))
            write_manifest(manifest, run.manifest)
            start = describe_start(
                run, recipe, manifest, parts.built, parts.runtime, command=command, allocator=allocator
            )
            run.update_run_json(start)
            return run_session(run, *parts, lock=lock, watch=watch)
    run = find_run_to_resume(resume, recipe.name, manifest, Path(output))
    with run.lock() as lock:
        given = recipe.train.epochs
        recipe = settle_epochs(run, recipe, asked=epochs, allow=allow_changes)
        if recipe.train.epochs != given:
            watch.note(f"The recipe says {given} epochs; {run.path} was continued to {recipe.train.epochs}.")
        changes = refuse_changes(run, recipe, manifest, allow=allow_changes)
        parts = _build_parts(recipe, manifest, where=where, watch=watch, run=run)

        def adopt() -> None:
            # The notes first: a kill in between must not lose them.
            run.update_run_json(describe_resume(run, parts.recipe, manifest, changes))
            atomic.write_text(run.recipe, dump_recipe(parts.recipe))
            write_manifest(manifest, run.manifest)

        return run_session(run, *parts, lock=lock, watch=watch, adopt=adopt)


def settle_frames(recipe: Recipe, manifest: Manifest) -> Recipe:
    """Give a recipe for clips its number of frames.

    Raises:
        UsageError: The recipe asks for frames, but the samples are images.
    """
    asked = recipe.model.num_frames
    if not manifest.holds_clips:
        if asked is not None:
            raise UsageError(
                f"model.num_frames is {asked}, but {manifest.root} holds images; leave it out, or give clips."
            )
        return recipe
    if asked is not None:
        return recipe
    return load_recipe(recipe.model_dump(mode="json"), {"model.num_frames": DEFAULT_FRAMES})


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
    manifest = build_manifest(
        data, recipe.data, seed=recipe.seed, progress=watch.phase, max_pixels=recipe.loader.max_pixels
    )
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


def _build_parts(
    recipe: Recipe, manifest: Manifest, *, where: torch.device, watch: Watcher, run: RunDir | None = None
) -> _Parts:
    """Build the network and settle how it computes; a resumed run keeps the precision that it had."""
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
    built = build_model(section, num_classes=Heads(names=manifest.heads).total, seed=recipe.seed)
    build_input_spec(built, recipe, evaluation=True)
    with open_recipe_pack(recipe, manifest, built, splits=(), watch=watch):
        pass  # made before there is a run folder: a full disk leaves none behind
    require_cacheable(
        recipe, built, num_train=manifest.usable("train").num_rows, num_val=manifest.usable("val").num_rows
    )
    runtime = choose_runtime(
        where, precision=precision, channels_last=channels_last, family=built.card.family
    )
    return _Parts(recipe, manifest, built, runtime)
