"""What to profile, how, and on which images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from praxiscope.models.build import BuiltModel
from praxiscope.profiling.result import Accuracy
from praxiscope.profiling.stages import Pipeline
from praxiscope.recipe.schema import ModelSection
from praxiscope.tensors import Heads


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to profile."""

    runtimes: tuple[str, ...] | None = None
    """Names; None for all."""
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    """Of the throughput."""
    threads: int = 1
    """Of every runtime."""
    budget_s: float = 60.0
    """Seconds for one model; computing accuracies is not counted in."""
    split: str = "test"
    """Whose accuracy is told."""
    accuracy: bool = False
    """Whether to compute the accuracy of each runtime."""
    samples: int | None = None
    """Samples of the split at most, for that; None for all."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Samples with known labels, to compute accuracies on."""

    sample_ids: tuple[str, ...]
    """(N,)."""
    paths: tuple[str, ...]
    """(N,) relative to the data folder."""
    targets: npt.NDArray[np.int64]
    """(N,) class indices."""
    split: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model, and the images that it is profiled on."""

    label: str
    """What it is called in tables."""
    run: str | None
    """The run's folder; None for a model by name."""
    built: BuiltModel
    section: ModelSection
    """What it was built from."""
    num_classes: int
    names: tuple[str, ...]
    """Label of each class; empty for a model by name."""
    pipeline: Pipeline
    """From files to its input."""
    sample_paths: tuple[str, ...]
    """Images that runtimes are compared on and stages are timed on."""
    calibration_paths: tuple[str, ...]
    """Images that int8 is calibrated on: of a run its training split, never the test split; none
    where it has no training images."""
    images: str
    """Which images these are, in words."""
    accuracy: Accuracy | None = None
    """On the split, where known."""
    correct: Mapping[str, bool] = field(default_factory=dict)
    """Sample id -> whether it is right, of the same samples."""
    labelled: Labelled | None = None
    """Samples to compute the runtimes' accuracies on, where asked for."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    heads: Heads | None = None
    """What the logits stand for; None for a model by name."""

    @property
    def trained(self) -> bool:
        """Whether its weights are more than a random start."""
        return self.run is not None or self.built.loaded is not None
