"""Evaluate: a run's best weights on one split become a predictions table, and everything else from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.data.clips.crops import describe_coinciding
from praxiscope.data.loader import Loader, SampleSet, build_sample_set
from praxiscope.data.manifest import Manifest, quantify, read_manifest
from praxiscope.data.transforms import EvalTransform
from praxiscope.errors import IntegrityError, UsageError, did_you_mean
from praxiscope.evaluation.baseline import read_training_targets
from praxiscope.evaluation.epic import find_class_ids, find_epic_labels, score_epic
from praxiscope.evaluation.groups import ClassGroups, read_class_groups
from praxiscope.evaluation.inputs import build_evaluation_loader, build_input_spec, choose_batch_size
from praxiscope.evaluation.predict import compute_logits
from praxiscope.evaluation.predictions import (
    HeadOutputs,
    Predictions,
    PredictionsInfo,
    build_predictions,
    write_predictions,
)
from praxiscope.evaluation.scores import compute_metrics, without_nan
from praxiscope.evaluation.submission import SupervisionLevels, require_zip, write_submission
from praxiscope.evaluation.temporal import compute_ordered_logits, require_order, score_temporal
from praxiscope.evaluation.text import format_test_report, write_per_class_csvs, write_test_report
from praxiscope.models.build import BuiltModel, rebuild_model
from praxiscope.models.runtime import Normalizer, Runtime, choose_device, choose_runtime, tune_allocator
from praxiscope.models.state import compute_weights_sha256
from praxiscope.models.world import ALONE, World, open_world
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.reporting.figures import write_evaluation_figures
from praxiscope.runs import atomic
from praxiscope.runs.checkpoint import best_checkpoint
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.tensors import Heads
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.packed import compare_pack, open_recipe_pack

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What an evaluation left behind.

    Attributes:
        run: the run.
        folder: of this evaluation's files.
        predictions: the table that every figure came from.
        metrics: the content of ``metrics.json``.
    """

    run: RunDir
    folder: Path
    predictions: Predictions
    metrics: Mapping[str, Any]


def evaluate(  # noqa: PLR0913 - one parameter a flag
    run: RunDir | Path | str,
    *,
    split: str = "test",
    out: Path | str | None = None,
    data: Path | str | None = None,
    output: Path | str = "runs",
    device: str | None = None,
    groups: Path | str | None = None,
    head: str | None = None,
    temporal: bool = False,
    submission: Path | str | None = None,
    levels: SupervisionLevels | None = None,
    watch: Watcher | None = None,
) -> EvaluationResult:
    """Evaluate a run's best weights on a split.

    Args:
        run: a run, its folder, or ``recipe@latest``.
        split: ``test``, ``val`` or ``train``.
        out: also write ``metrics.json`` there.
        data: where the data folder is now, if it has moved; the files must be the same.
        output: folder of all runs, for names.
        device: as for ``train``.
        groups: a CSV with the columns ``class,group``, or ``class`` and several groupings: groups of classes
            to compare.
        head: whose classes ``groups`` holds, of several heads.
        temporal: of clips: also measure accuracy on shuffled, reversed, frozen and halved frames.
        submission: also write the answers as a zip for EPIC-KITCHENS-100's server.
        levels: what a submission says about supervision.
        watch: follows progress.

    Raises:
        UsageError: no such run, split, head or CSV; ``temporal`` for a network that takes images.
        DataError: a sample can't be read.
        IntegrityError: no sound checkpoint.
    """
    watch = watch or Silent()
    if split not in SPLITS:
        raise UsageError(f"--split '{split}': choose one of {', '.join(SPLITS)}.")
    found = run if isinstance(run, RunDir) else find_run(str(run), root=Path(output))
    recipe, manifest = load_recipe(found.recipe), read_manifest(found.manifest)
    moved = _moved(manifest, data)
    # Before anything slow: a slip costs no evaluation.
    if temporal:
        require_order(recipe.model.num_frames if manifest.holds_clips else None)
    grouping = None if groups is None else _read_grouping(Path(groups), manifest, head)
    if submission is not None:
        require_zip(Path(submission))
    class_ids = None if submission is None else find_class_ids(moved)
    tune_allocator()
    with open_world(recipe.train.distributed_timeout_s) as world:
        watch = watch if world.is_first else Silent()
        built = load_best(found, recipe, manifest, watch)
        job = _Job(
            run=found, recipe=recipe, manifest=moved, built=built, split=split, device=device, watch=watch,
            world=world,
        )  # fmt: skip
        predictions = _predict(job)

        def finish() -> EvaluationResult:
            write_predictions(predictions, found.predictions(split))
            watch.phase("computing intervals", 0, 1)
            plan = {"seed": recipe.seed, "resamples": recipe.evaluate.resamples, "level": 0.95}
            metrics = compute_metrics(
                predictions, grouping=grouping, training=read_training_targets(manifest), seed=recipe.seed,
                resamples=recipe.evaluate.resamples,
            )  # fmt: skip
            if (labels := find_epic_labels(moved)) is not None:
                metrics["epic"] = without_nan(score_epic(predictions, labels, plan))
            if temporal:
                reliance = _measure_order(job, predictions, plan)
                metrics["temporal_reliance"] = without_nan(reliance)
            if submission is not None and class_ids is not None:
                write_submission(predictions, Path(submission), class_ids=class_ids, levels=levels)
            folder = found.new_evaluation_dir(split)
            atomic.write_json(folder / "metrics.json", metrics)
            title = f"{recipe.name} ({found.run_id}) on {split}"
            write_test_report(metrics, folder / "test_report.txt", title=title)
            write_per_class_csvs(metrics, folder)
            write_evaluation_figures(metrics, folder)
            found.write_latest_results(format_test_report(metrics, title=title))
            if out is not None:
                _write_out(Path(out), metrics)
            return EvaluationResult(run=found, folder=folder, predictions=predictions, metrics=metrics)

        return world.from_first(finish)


def load_best(run: RunDir, recipe: Recipe, manifest: Manifest, watch: Watcher) -> BuiltModel:
    """Build a run's network with its best weights (the averaged ones where there are), verified first.

    Raises:
        IntegrityError: no checkpoint, or none sound.
    """
    return load_best_epoch(run, recipe, manifest, watch)[0]


def load_best_epoch(
    run: RunDir, recipe: Recipe, manifest: Manifest, watch: Watcher
) -> tuple[BuiltModel, int]:
    """Return what `load_best` does, and the epoch that its weights are from.

    Raises:
        IntegrityError: no checkpoint, or none sound.
        UsageError: it is a late fusion, which has no network.
    """
    checkpoint, rejected = best_checkpoint(run.checkpoints, only=())
    for each in rejected:
        watch.note(f"Checkpoint {each.name} is passed over: {each.reason}")
    if checkpoint is None and "fusion" in run.read_run_json():
        raise UsageError(
            f"{run.path} is a late fusion: it holds averaged predictions and no network. Fuse other splits "
            "with praxiscope fuse, or name one of its members."
        )
    if checkpoint is None:
        raise IntegrityError(f"{run.path} holds no checkpoint yet; train it first (--resume goes on).")
    group = "ema" if "ema" in checkpoint.sha256 else "model"
    built = rebuild_model(
        recipe.model,
        num_classes=Heads(names=manifest.heads).total,
        weights=checkpoint.path / f"{group}.safetensors",
    )
    watch.note(f"Weights: {checkpoint.path.name}/{group}, epoch {checkpoint.epoch}.")
    return built, checkpoint.epoch


def choose_stored_runtime(environment: Mapping[str, Any], built: BuiltModel, device: str | None) -> Runtime:
    """Return how a run computes: as its validation did; on another kind of device as suits that.

    Args:
        environment: of the run's ``run.json``.
        built: the run's network.
        device: as for ``train``.
    """
    where = choose_device(device)
    same = where.type == str(environment["device"]).partition(":")[0]
    return choose_runtime(
        where,
        precision=environment["precision"] if same else "auto",
        channels_last=environment["memory_format"] == "channels_last",
        family=built.card.family,
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is evaluated, and how."""

    run: RunDir
    recipe: Recipe
    manifest: Manifest
    built: BuiltModel
    split: str
    device: str | None
    watch: Watcher
    world: World = ALONE


def _read_grouping(path: Path, manifest: Manifest, head: str | None) -> ClassGroups:
    heads = ", ".join(manifest.heads)
    if head is None and len(manifest.heads) > 1:
        raise UsageError(f"--groups {path}: whose classes are they? Add --head, one of {heads}.")
    chosen = head or next(iter(manifest.heads))
    if chosen not in manifest.heads:
        raise UsageError(f"--head {chosen}: the heads are {heads}.{did_you_mean(chosen, manifest.heads)}")
    return replace(read_class_groups(path, manifest.heads[chosen]), head=chosen)


@contextmanager
def _open_loader(job: _Job, runtime: Runtime, without: frozenset[str]) -> Iterator[Loader]:
    """Open what reads the split's samples as the run's validation did."""
    spec = build_input_spec(job.built, job.recipe, evaluation=True)
    with (
        open_recipe_pack(job.recipe, job.manifest, job.built, splits=(job.split,), watch=job.watch) as pack,
        build_evaluation_loader(
            build_sample_set(job.manifest, job.split, without=without, pack=pack), spec, job.recipe, runtime
        ) as loader,
    ):
        if pack is not None:
            compare_pack(job.run, pack, job.manifest, job.watch.note)
        yield loader


def _measure_order(job: _Job, predictions: Predictions, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Score the split with its frames in other orders."""
    run_json = job.run.read_run_json()
    without = frozenset(run_json.get("quarantined", []))
    stored = choose_stored_runtime(run_json["environment"], job.built, job.device)
    runtime = choose_runtime(
        stored.device, precision="fp32", channels_last=stored.channels_last, family=job.built.card.family
    )
    heads = Heads(names=predictions.heads)
    with _open_loader(job, runtime, without) as loader:
        logits = compute_ordered_logits(
            runtime.place(job.built.module),
            loader,
            num_samples=len(predictions),
            batch_size=choose_batch_size(job.recipe),
            normalize=Normalizer(job.built.mean, job.built.std, runtime),
            runtime=runtime,
            seed=job.recipe.seed,
            flip=job.recipe.evaluate.flip,
            progress=lambda done, total: job.watch.phase("reordering frames", done, total),
        )
    targets = np.stack([predictions.targets(head) for head in predictions.heads], axis=1)
    return score_temporal(
        logits,
        targets if len(predictions.heads) > 1 else targets[:, 0],
        heads,
        groups=predictions.groups,
        plan=plan,
    )


def _predict(job: _Job) -> Predictions:
    run, recipe, manifest, split, watch = job.run, job.recipe, job.manifest, job.split, job.watch
    run_json = run.read_run_json()
    without = frozenset(run_json.get("quarantined", []))
    samples = build_sample_set(manifest, split, without=without)
    left_out = manifest.usable(split).num_rows - len(samples)
    if left_out:
        watch.note(f"{quantify(left_out, 'sample')} of {split} left out: unreadable in training (run.json).")
    world = job.world
    runtime = world.from_first(lambda: choose_stored_runtime(run_json["environment"], job.built, job.device))
    runtime = replace(runtime, device=world.choose_own(runtime.device, job.device))
    weights_sha256 = compute_weights_sha256(job.built.module.state_dict())
    if recipe.model.num_frames is not None:
        transform = EvalTransform(spec=build_input_spec(job.built, recipe, evaluation=True))
        if text := describe_coinciding(manifest, split, recipe.model.num_frames, recipe.clip, transform):
            watch.note(text)
    with _open_loader(job, runtime, without) as loader:
        logits = compute_logits(
            runtime.place(job.built.module),
            loader,
            num_samples=len(samples),
            batch_size=choose_batch_size(recipe),
            normalize=Normalizer(job.built.mean, job.built.std, runtime),
            runtime=runtime,
            flip=recipe.evaluate.flip,
            progress=lambda done, total: watch.phase(f"evaluating {split}", done, total),
            world=world,
        )
    rows = [row for row in manifest.usable(split).to_pylist() if row["sample_id"] not in without]
    return build_predictions(
        PredictionsInfo(
            heads=dict(samples.heads.names),
            weights_sha256=weights_sha256,
            manifest_fingerprint=manifest.fingerprint,
            recipe_name=recipe.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        sample_ids=samples.sample_ids,
        splits=split,
        outputs=_split_outputs(samples, logits),
        groups=[row["group"] for row in rows],
        clean=[row["twin_of"] is None for row in rows],
    )


def _split_outputs(samples: SampleSet, logits: npt.NDArray[np.float32]) -> dict[str, HeadOutputs]:
    targets = samples.heads.split_targets(samples.targets)
    own = samples.heads.split_logits(logits)
    return {head: HeadOutputs(targets=targets[head], logits=own[head]) for head in own}


def _moved(manifest: Manifest, data: Path | str | None) -> Manifest:
    return manifest.with_root(Path(data).expanduser() if data is not None else manifest.root)


def _write_out(path: Path, metrics: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, metrics)
