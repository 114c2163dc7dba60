"""What a network is fed in evaluation, and in what portions."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from praxiscope.data.clips.flow import FlowReader, FlowTransform
from praxiscope.data.clips.reader import ClipReader, SampleReader
from praxiscope.data.loader import BatchReader, Loader, SampleSet, build_loader
from praxiscope.data.transforms import EvalTransform, InputSpec, Interpolation, TrainTransform
from praxiscope.errors import UsageError
from praxiscope.models.build import BuiltModel
from praxiscope.models.runtime import Runtime
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.environment import count_cores


def build_input_spec(built: BuiltModel, recipe: Recipe, *, evaluation: bool) -> InputSpec:
    """Return what the network is fed, in training or in evaluation.

    Raises:
        UsageError: another evaluation size for a network that has one size only.
    """
    img_size = built.img_size
    if evaluation and recipe.evaluate.img_size not in {None, img_size}:
        if built.card.family != "cnn":
            raise UsageError(
                f"evaluate.img_size is {recipe.evaluate.img_size}, but {built.card.name} takes {img_size} px "
                "only; leave it out, or set model.img_size."
            )
        img_size = recipe.evaluate.img_size or img_size
    return InputSpec(
        img_size=img_size,
        interpolation=cast("Interpolation", built.interpolation),
        crop_pct=recipe.evaluate.crop_pct or built.crop_pct,
        mean=built.mean,
    )


def build_reader(
    samples: SampleSet, transform: TrainTransform | EvalTransform, recipe: Recipe
) -> SampleReader:
    """Return what reads a split's batches: of clips where its samples have spans, else of images."""
    max_pixels = recipe.loader.max_pixels
    if not samples.spans:
        return BatchReader(samples=samples, transform=transform, seed=recipe.seed, max_pixels=max_pixels)
    assert recipe.model.num_frames is not None  # set where training begins
    if recipe.model.input == "flow":
        return _build_flow_reader(samples, transform, recipe)
    return ClipReader(
        samples=samples,
        transform=transform,
        section=recipe.clip,
        num_frames=recipe.model.num_frames,
        seed=recipe.seed,
        max_pixels=max_pixels,
    )


def _build_flow_reader(
    samples: SampleSet, transform: TrainTransform | EvalTransform, recipe: Recipe
) -> FlowReader:
    """Return what reads clips as optical flow."""
    if isinstance(transform, TrainTransform):
        transform = FlowTransform(spec=transform.spec, augment=transform.augment)
    assert recipe.model.num_frames is not None
    stored = recipe.clip.flow_folder
    return FlowReader(
        samples=samples,
        transform=transform,
        section=recipe.clip,
        num_frames=recipe.model.num_frames,
        seed=recipe.seed,
        max_pixels=recipe.loader.max_pixels,
        stored=None if stored is None else samples.root / Path(stored).expanduser(),
    )


def build_evaluation_reader(samples: SampleSet, spec: InputSpec, recipe: Recipe) -> SampleReader:
    """Return what reads evaluation batches of a split."""
    return build_reader(samples, EvalTransform(spec=spec), recipe)


def build_evaluation_loader(samples: SampleSet, spec: InputSpec, recipe: Recipe, runtime: Runtime) -> Loader:
    """Return a loader of evaluation batches of a split."""
    reader = build_evaluation_reader(samples, spec, recipe)
    return build_loader(reader, recipe.loader, device_type=runtime.device.type, cores=count_cores())


def choose_batch_size(recipe: Recipe) -> int:
    """Return the samples of an evaluation's forward pass: no gradients, so twice the training batch fits."""
    return recipe.evaluate.batch_size or 2 * recipe.train.batch_size
