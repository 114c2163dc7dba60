"""What one training run is made of: what ``session`` builds, ``loop`` runs and ``steps`` updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.data.loader import Loader
from praxiscope.data.plan import BatchPlan, plan_training_epoch
from praxiscope.models.runtime import Runtime
from praxiscope.models.world import ALONE, World
from praxiscope.recipe.schema import Recipe
from praxiscope.stats.joint import index_joint
from praxiscope.tensors import Heads
from praxiscope.training.ema import Ema
from praxiscope.training.losses import Loss
from praxiscope.training.signals import StopFlag
from praxiscope.training.source import be_ready
from praxiscope.training.state import TrainState

Row = dict[str, float | int]
"""An epoch's figures by name, as ``metrics.jsonl`` has them."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one training run is made of.

    Attributes:
        recipe: what was asked for.
        module: the network in training mode, on its device.
        ema: its moving average, when the recipe has one; then that is what is validated.
        optimizer: over the parameters that train.
        scaler: scales gradients in fp16; does nothing otherwise.
        runtime: device, precision, memory format.
        normalize: what a batch holds -> the input of what trains.
        loader: training batches.
        loss: sum of a batch's losses.
        targets: int64, of the training split, (N,), or (N, M) of several heads.
        heads: what the logits are of.
        sample_ids: by row, to name the files of a bad batch.
        validate: the network -> ``val/...`` scores.
        save: writes a checkpoint; told whether it is the best so far and whether an epoch has just ended.
        log: writes an epoch's row.
        forward: that input -> logits; the whole network where None, its head where features are cached.
        prepare: called before the first step, at the state that training goes on from.
        world: the ranks that train together.
        sync: told whether the next backward pass ends a step: only then gradients are exchanged.
    """

    recipe: Recipe
    module: nn.Module
    ema: Ema | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    runtime: Runtime
    normalize: Callable[[Tensor], Tensor]
    loader: Loader
    loss: Loss
    targets: npt.NDArray[np.int64]
    heads: Heads
    sample_ids: Sequence[str]
    validate: Callable[[nn.Module], dict[str, float]]
    save: Callable[[TrainState, bool, bool], None]
    log: Callable[[Row], None]
    forward: Callable[[Tensor], Tensor] | None = None
    prepare: Callable[[TrainState, StopFlag], None] = be_ready
    world: World = ALONE
    sync: Callable[[bool], AbstractContextManager[object]] = lambda _last: nullcontext()

    @property
    def num_samples(self) -> int:
        """N, of the training split and of an epoch."""
        return len(self.targets)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) what balanced sampling balances: classes, or combinations of several heads' classes."""
        return self.targets if self.targets.ndim == 1 else index_joint(self.targets)

    def plan_epoch(self, epoch: int) -> list[BatchPlan]:
        """Return the batches of an epoch (0-based), of all ranks together, in their order."""
        train = self.recipe.train
        return plan_training_epoch(
            self.num_samples,
            train.batch_size * self.world.size,
            seed=self.recipe.seed,
            epoch=epoch,
            repeats=self.recipe.augment.repeats,
            labels=self.labels if train.sampling == "balanced" else None,
        )
