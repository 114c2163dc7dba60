"""What ``profile`` is given, turned into models with images: a run, or a model by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from praxiscope.data.clips.flow import refuse_flow
from praxiscope.data.clips.spans import Span
from praxiscope.data.clips.views import ClipRule
from praxiscope.data.images import DEFAULT_MAX_PIXELS, IMAGE_SUFFIXES
from praxiscope.data.loader import SampleSet, build_sample_set
from praxiscope.data.manifest import Manifest, read_manifest
from praxiscope.data.transforms import EvalTransform, InputSpec, Interpolation
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.inputs import build_input_spec
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.models.build import BuiltModel, build_model
from praxiscope.models.catalog import find_card
from praxiscope.models.state import compute_weights_sha256
from praxiscope.profiling.accuracy import measure_accuracy
from praxiscope.profiling.clip_stages import ClipPipeline
from praxiscope.profiling.pictures import GENERATED_SIZE, write_pictures
from praxiscope.profiling.plan import Labelled, Plan, Subject
from praxiscope.profiling.result import Accuracy
from praxiscope.profiling.stages import Pipeline
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import ModelSection
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Watcher
from praxiscope.workflows.evaluate import load_best
from praxiscope.workflows.networks import build_clip_rule

NUM_CLASSES = 1000
"""Classes of a model by name."""
_NUM_SAMPLES, _NUM_CALIBRATION = 32, 64


def find_sources(sources: Sequence[str | Path], runs: Path) -> list[RunDir | str]:
    """Return what each source is: a run, or the name of a model.

    Raises:
        UsageError: One is neither; no source at all.
    """
    if not sources:
        raise UsageError("profile needs a model's name or a run: praxiscope profile resnet18.")
    for place, source in enumerate(sources):
        if source in sources[:place]:
            raise UsageError(f"'{source}' is given twice.")
    return [_find_source(str(source), runs) for source in sources]


def _find_source(text: str, runs: Path) -> RunDir | str:
    if Path(text).exists() or "@" in text:
        return find_run(text, root=runs)
    try:
        find_card(text)
    except UsageError as no_model:
        try:
            return find_run(text, root=runs)
        except UsageError as no_run:
            raise UsageError(f"'{text}' is neither a model nor a run. {no_model} {no_run}") from no_run
    return text


def open_named(name: str, plan: Plan, *, data: Path | None, img_size: int | None, folder: Path) -> Subject:
    """Build a model by name with random weights: its costs don't depend on them.

    Args:
        name: as ``model.name``.
        plan: whether accuracies are asked for.
        data: a folder of images; None to generate some.
        img_size: side of the input in pixels; None for the model's own.
        folder: gets generated images.

    Raises:
        UsageError: accuracies are asked for, or the size is impossible.
        DataError: the data folder holds no images.
    """
    if plan.accuracy:
        raise UsageError(f"--accuracy: '{name}' has random weights; give a run instead.")
    section = ModelSection(name=name, img_size=img_size)
    built = build_model(section, num_classes=NUM_CLASSES, seed=0)
    spec = InputSpec(
        img_size=built.img_size,
        interpolation=cast("Interpolation", built.interpolation),
        crop_pct=built.crop_pct,
        mean=built.mean,
    )
    if data is None:
        width, height = GENERATED_SIZE
        folder.mkdir(exist_ok=True)
        root, paths = folder, write_pictures(folder, _NUM_SAMPLES)
        words = f"{len(paths)} generated JPEGs of {width} x {height} px"
    else:
        root, paths = data, _list_images(data)
        words = f"images of {data}"
    return Subject(
        label=name,
        run=None,
        built=built,
        section=section,
        num_classes=NUM_CLASSES,
        names=(),
        pipeline=_build_pipeline(root, spec, built, DEFAULT_MAX_PIXELS),
        sample_paths=_spread(paths, _NUM_SAMPLES),
        calibration_paths=_spread(paths, _NUM_CALIBRATION),
        images=words,
        notes=(f"{name} has random weights: int8 is calibrated for its speed only.",),
    )


def open_run(run: RunDir, plan: Plan, *, label: str, data: Path | None, watch: Watcher) -> Subject:
    """Open a run's best weights with images of its data.

    Args:
        run: the run.
        plan: the split, and whether accuracies are asked for.
        label: what it is called in tables.
        data: where the data folder is now, if it has moved.
        watch: follows progress.

    Raises:
        IntegrityError: no sound checkpoint.
        UsageError: the data folder isn't there.
        DataError: the split is empty.
    """
    recipe, manifest = load_recipe(run.recipe), read_manifest(run.manifest)
    manifest = manifest.with_root(data if data is not None else manifest.root)
    refuse_flow(recipe, "profile")
    built = load_best(run, recipe, manifest, watch)
    without = run.read_run_json().get("quarantined", [])
    samples = build_sample_set(manifest, plan.split, without=without)
    training = _find_training(manifest, without)
    accuracy, correct, notes = _read_accuracy(run, built, plan)
    if recipe.evaluate.flip:
        notes = (*notes, "evaluate.flip is on: the accuracy is that of two passes, the times are of one.")
    rule = build_clip_rule(recipe, manifest)
    if rule is not None and (views := rule.section.num_clips * rule.section.num_crops) > 1:
        notes = (*notes, f"Evaluation averages {views} views of a clip; the times are of one.")
    if plan.accuracy and len(manifest.heads) > 1:
        raise UsageError(
            f"--accuracy and --int8 compare one answer a sample; {label} has the heads "
            f"{' and '.join(manifest.heads)}. Leave them out."
        )
    pipeline = _build_pipeline(
        manifest.root, build_input_spec(built, recipe, evaluation=True), built, recipe.loader.max_pixels
    )
    material = "images" if rule is None else f"clips of {rule.num_frames} frames"
    if rule is not None:
        pipeline = _build_clip_pipeline(pipeline, rule, manifest, without)
    return Subject(
        label=label,
        run=str(run.path),
        built=built,
        section=recipe.model,
        num_classes=samples.heads.total,
        names=tuple(name for names in samples.heads.names.values() for name in names),
        heads=samples.heads,
        pipeline=pipeline,
        sample_paths=_spread(_list_keys(samples), _NUM_SAMPLES),
        calibration_paths=_spread(training, _NUM_CALIBRATION),
        images=f"{material} of {manifest.root}: {plan.split} to compare and time"
        + (", train to calibrate" if training else ""),
        accuracy=accuracy,
        correct=correct,
        labelled=_choose_labelled(samples, plan) if plan.accuracy else None,
        notes=notes,
    )


def name_runs(runs: Sequence[RunDir | str]) -> list[str]:
    """Return a label for each source: the recipe's name, with the run's id where names repeat."""
    names = [source if isinstance(source, str) else source.path.parent.name for source in runs]
    return [
        name if isinstance(source, str) or names.count(name) == 1 else f"{name}@{source.run_id}"
        for name, source in zip(names, runs, strict=True)
    ]


def _find_training(manifest: Manifest, without: Sequence[str]) -> tuple[str, ...]:
    """Return paths of training images; none of a run without them (zero-shot)."""
    if not manifest.usable("train").num_rows:
        return ()
    return _list_keys(build_sample_set(manifest, "train", without=without))


def _list_keys(samples: SampleSet) -> tuple[str, ...]:
    """Return what a pipeline reads: paths of images, ids of clips, several of which may lie in a video."""
    return samples.sample_ids if samples.spans else samples.paths


def _build_clip_pipeline(
    pipeline: Pipeline, rule: ClipRule, manifest: Manifest, without: Sequence[str]
) -> ClipPipeline:
    rows = [row for row in manifest.usable(None).to_pylist() if row["sample_id"] not in set(without)]
    return ClipPipeline(
        root=pipeline.root,
        transform=pipeline.transform,
        mean=pipeline.mean,
        std=pipeline.std,
        max_pixels=pipeline.max_pixels,
        rule=rule,
        places={
            row["sample_id"]: (
                manifest.root / row["path"],
                Span(first=row["first_frame"], count=row["num_frames"]),
            )
            for row in rows
        },
    )


def _read_accuracy(
    run: RunDir, built: BuiltModel, plan: Plan
) -> tuple[Accuracy | None, Mapping[str, bool], tuple[str, ...]]:
    """Read the accuracy on the split from the run's predictions, if they are of these weights."""
    path = run.predictions(plan.split)
    advice = f"praxiscope evaluate {run.path} --split {plan.split}"
    if not path.is_file():
        return None, {}, (f"No accuracy: there are no predictions on {plan.split}. First: {advice}",)
    predictions = read_predictions(path)
    if predictions.info.weights_sha256 != compute_weights_sha256(built.module.state_dict()):
        return None, {}, (f"No accuracy: {path.name} is of other weights. First: {advice}",)
    # Of several heads, an answer is right where each head's is.
    right = np.all(
        [predictions.preds(head) == predictions.targets(head) for head in predictions.heads], axis=0
    )
    correct = dict(zip(predictions.sample_ids, right.tolist(), strict=True))
    return measure_accuracy(right, plan.split), correct, ()


def _choose_labelled(samples: SampleSet, plan: Plan) -> Labelled:
    """Draw the samples that accuracies are computed on; the same ones whatever the model."""
    count = len(samples) if plan.samples is None else min(plan.samples, len(samples))
    rows = np.sort(np.random.default_rng(0).permutation(len(samples))[:count])
    return Labelled(
        sample_ids=tuple(samples.sample_ids[row] for row in rows),
        paths=tuple(_list_keys(samples)[row] for row in rows),
        targets=samples.targets[rows],
        split=plan.split,
    )


def _build_pipeline(root: Path, spec: InputSpec, built: BuiltModel, max_pixels: int) -> Pipeline:
    return Pipeline(
        root=root,
        transform=EvalTransform(spec=spec),
        mean=built.mean,
        std=built.std,
        max_pixels=max_pixels,
    )


def _list_images(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UsageError(f"--data '{folder}' is no folder.")
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not found:
        raise DataError(f"--data '{folder}' holds no images.")
    return tuple(found)


def _spread(paths: Sequence[str], count: int) -> tuple[str, ...]:
    """Return so many paths at even distances."""
    if len(paths) <= count:
        return tuple(paths)
    return tuple(paths[index] for index in np.linspace(0, len(paths) - 1, count).astype(int))
