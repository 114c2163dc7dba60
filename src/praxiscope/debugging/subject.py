"""What is looked at: a recipe on its data, with what training would make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from praxiscope.data.clips.reader import SampleReader
from praxiscope.data.manifest import Manifest
from praxiscope.data.plan import BatchPlan, plan_training_epoch
from praxiscope.models.build import BuiltModel
from praxiscope.models.runtime import Runtime
from praxiscope.recipe.schema import Recipe
from praxiscope.tensors import NDIM_WITH_VIEWS, Batch, Heads

MAX_IMAGES, MAX_CLIPS = 32, 8
"""Samples of the batches that are looked at: enough to see, few enough for a laptop."""


class Steps(Protocol):
    """Makes optimiser steps exactly as training makes them."""

    module: nn.Module

    def step(self, batch: Batch, *, lr: float) -> float:
        """Make one step on a batch at a learning rate; return the mean loss before it.

        Raises:
            Diverged: the loss or the gradient is not finite.
        """


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A recipe on its data.

    Attributes:
        recipe: as it would be trained.
        manifest: the samples.
        runtime: device and precision of training.
        train: reads training batches, augmented.
        plain: reads the same training samples as evaluation does, without augmentation.
        build: the network as a run would start with it, anew at each call, on its device, in training mode.
        normalize: uint8 batch -> the network's input.
        loss: (logits (B, K), targets) -> sum of the batch's losses, as trained.
        start: a network -> training steps of the recipe; ``plain=True`` leaves out regularisation.
        compute_lr: step -> learning rate of the whole run.
        steps_per_epoch: optimiser steps of an epoch.
    """

    recipe: Recipe
    manifest: Manifest
    runtime: Runtime
    train: SampleReader
    plain: SampleReader
    build: Callable[[], BuiltModel]
    normalize: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    start: Callable[[BuiltModel, bool], Steps]
    compute_lr: Callable[[int], float]
    steps_per_epoch: int

    @property
    def heads(self) -> Heads:
        """What there is to answer."""
        return self.train.samples.heads

    @property
    def holds_clips(self) -> bool:
        """Whether samples are clips."""
        return bool(self.train.samples.spans)

    @cached_property
    def batch_size(self) -> int:
        """Samples of the batches looked at."""
        most = MAX_CLIPS if self.holds_clips else MAX_IMAGES
        return min(self.recipe.train.batch_size, most, len(self.train.samples))

    @cached_property
    def plans(self) -> list[BatchPlan]:
        """The first epoch's batches, cut to :attr:`batch_size`."""
        return plan_training_epoch(
            len(self.train.samples), max(2, self.batch_size), seed=self.recipe.seed, epoch=0
        )

    @cached_property
    def augmented(self) -> Batch:
        """The first training batch."""
        return self.read_augmented(self.plans[0])

    @cached_property
    def clean(self) -> Batch:
        """The same samples as evaluation sees them."""
        return self.read_plain(self.plans[0])

    def read_augmented(self, plan: BatchPlan) -> Batch:
        """Return a training batch; uint8 (B, C, H, W), of clips (B, T, C, H, W)."""
        return self.train(plan, [-1], 0)

    def read_plain(self, plan: BatchPlan) -> Batch:
        """Return the samples of a training batch as evaluation sees them, of several views the first."""
        batch = self.plain(plan, [-1], 0)
        if batch.images.ndim == NDIM_WITH_VIEWS:
            return Batch(images=batch.images[:, 0], targets=batch.targets, rows=batch.rows)
        return batch

    def feed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the network's input and the targets, on the device."""
        return self.normalize(batch.images), batch.targets.to(self.runtime.device)

    def compute_logits(self, module: nn.Module, images: Tensor) -> Tensor:
        """Return float32 logits (B, K) in the run's precision."""
        torch.manual_seed(self.recipe.seed)  # dropout
        with self.runtime.autocast():
            logits: Tensor = module(images)
        return logits.float()
