"""Evaluate: a run's best weights on one split become a predictions table, and everything else from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.data.loader import SampleSet, build_sample_set
from praxiscope.data.manifest import Manifest, quantify, read_manifest
from praxiscope.errors import IntegrityError, UsageError
from praxiscope.evaluation.groups import read_class_groups
from praxiscope.evaluation.inputs import build_evaluation_loader, build_input_spec, choose_batch_size
from praxiscope.evaluation.predict import compute_logits
from praxiscope.evaluation.predictions import (
    HeadOutputs,
    Predictions,
    PredictionsInfo,
    build_predictions,
    write_predictions,
)
from praxiscope.evaluation.scores import compute_metrics
from praxiscope.evaluation.text import format_test_report, write_per_class_csv, write_test_report
from praxiscope.models.build import BuiltModel, rebuild_model
from praxiscope.models.runtime import Normalizer, Runtime, choose_device, choose_runtime, tune_allocator
from praxiscope.models.state import compute_weights_sha256
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
        watch: follows progress.

    Raises:
        UsageError: no such run, split or CSV.
        DataError: a sample can't be read.
        IntegrityError: no sound checkpoint.
    """
    watch = watch or Silent()
    if split not in SPLITS:
        raise UsageError(f"--split '{split}': choose one of {', '.join(SPLITS)}.")
    found = run if isinstance(run, RunDir) else find_run(str(run), root=Path(output))
    recipe, manifest = load_recipe(found.recipe), read_manifest(found.manifest)
    # Before anything slow: a slip in the table costs no evaluation.
    grouping = None if groups is None else read_class_groups(Path(groups), manifest.heads["action"])
    tune_allocator()
    built = load_best(found, recipe, manifest, watch)
    predictions = _predict(found, recipe, _moved(manifest, data), built, split, device=device, watch=watch)
    write_predictions(predictions, found.predictions(split))
    watch.phase("computing intervals", 0, 1)
    metrics = compute_metrics(
        predictions, seed=recipe.seed, resamples=recipe.evaluate.resamples, grouping=grouping
    )
    folder = found.new_evaluation_dir(split)
    atomic.write_json(folder / "metrics.json", metrics)
    title = f"{recipe.name} ({found.run_id}) on {split}"
    write_test_report(metrics, folder / "test_report.txt", title=title)
    write_per_class_csv(metrics, folder / "per_class.csv")
    write_evaluation_figures(metrics, folder)
    found.write_latest_results(format_test_report(metrics, title=title))
    if out is not None:
        _write_out(Path(out), metrics)
    return EvaluationResult(run=found, folder=folder, predictions=predictions, metrics=metrics)


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
    """
    checkpoint, rejected = best_checkpoint(run.checkpoints, only=())
    for each in rejected:
        watch.note(f"Checkpoint {each.name} is passed over: {each.reason}")
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


def _predict(
    run: RunDir,
    recipe: Recipe,
    manifest: Manifest,
    built: BuiltModel,
    split: str,
    *,
    device: str | None,
    watch: Watcher,
) -> Predictions:
    run_json = run.read_run_json()
    without = frozenset(run_json.get("quarantined", []))
    samples = build_sample_set(manifest, split, without=without)
    left_out = manifest.usable(split).num_rows - len(samples)
    if left_out:
        watch.note(f"{quantify(left_out, 'sample')} of {split} left out: unreadable in training (run.json).")
    runtime = choose_stored_runtime(run_json["environment"], built, device)
    weights_sha256 = compute_weights_sha256(built.module.state_dict())
    spec = build_input_spec(built, recipe, evaluation=True)
    with (
        open_recipe_pack(recipe, manifest, built, splits=(split,), watch=watch) as pack,
        build_evaluation_loader(
            build_sample_set(manifest, split, without=without, pack=pack), spec, recipe, runtime
        ) as loader,
    ):
        if pack is not None:
            compare_pack(run, pack, manifest, watch.note)
        logits = compute_logits(
            runtime.place(built.module),
            loader,
            num_samples=len(samples),
            batch_size=choose_batch_size(recipe),
            normalize=Normalizer(built.mean, built.std, runtime),
            runtime=runtime,
            flip=recipe.evaluate.flip,
            progress=lambda done, total: watch.phase(f"evaluating {split}", done, total),
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
