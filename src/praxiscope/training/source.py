"""Where a job's batches come from: decoded images, or cached features (``training.features``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from praxiscope.data.clips.reader import SampleReader
from praxiscope.data.loader import Loader, build_loader
from praxiscope.evaluation.inputs import choose_batch_size
from praxiscope.evaluation.predict import compute_logits
from praxiscope.models.build import BuiltModel
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.models.world import ALONE, World
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.environment import count_cores
from praxiscope.training.signals import StopFlag
from praxiscope.training.state import TrainState

Phase = Callable[[str, int, int], None]
"""Told about what is under way: text, done, total."""


@dataclass(frozen=True, kw_only=True)
class SourceParts:
    """What a source is built from.

    Attributes:
        recipe: what was asked for.
        built: the network, placed on its device.
        runtime: where and how it computes.
        train: reads training batches.
        val: reads validation batches.
        phase: told about validation.
        world: the ranks that share the samples.
    """

    recipe: Recipe
    built: BuiltModel
    runtime: Runtime
    train: SampleReader
    val: SampleReader
    phase: Phase
    world: World = ALONE


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the loop is fed.

    Attributes:
        loader: training batches.
        normalize: what a batch holds -> the input of what trains, on the device.
        head: that input -> logits (B, K); the whole network where None. In the mode that the network is in.
        prepare: called once before the first step, at the state to go on from.
        predict: a network -> float32 (N, K), logits of the validation split.
    """

    loader: Loader
    normalize: Callable[[Tensor], Tensor]
    head: nn.Module | None
    prepare: Callable[[TrainState, StopFlag], None]
    predict: Callable[[nn.Module], npt.NDArray[np.float32]]


def be_ready(state: TrainState, stop: StopFlag) -> None:
    """Prepare nothing: images are read as they are needed."""


@contextlib.contextmanager
def open_images(parts: SourceParts) -> Iterator[Source]:
    """Read images anew in every epoch; leaving the context ends the workers."""
    recipe, runtime = parts.recipe, parts.runtime
    normalize = Normalizer(parts.built.mean, parts.built.std, runtime)
    cores = parts.world.share_cores(count_cores())
    with (
        build_loader(parts.train, recipe.loader, device_type=runtime.device.type, cores=cores) as loader,
        build_loader(parts.val, recipe.loader, device_type=runtime.device.type, cores=cores) as val_loader,
    ):

        def predict(network: nn.Module) -> npt.NDArray[np.float32]:
            return compute_logits(
                network,
                val_loader,
                num_samples=len(parts.val.samples),
                batch_size=choose_batch_size(recipe),
                normalize=normalize,
                runtime=runtime,
                flip=recipe.evaluate.flip,
                progress=lambda done, total: parts.phase("validating", done, total),
                world=parts.world,
            )

        yield Source(loader=loader, normalize=normalize, head=None, prepare=be_ready, predict=predict)
