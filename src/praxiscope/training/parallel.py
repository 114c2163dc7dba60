"""What several ranks do with one network: a whole copy each (DDP), or a part of it each (FSDP2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from praxiscope.errors import UsageError
from praxiscope.models.freeze import is_held_in_eval
from praxiscope.models.runtime import Runtime
from praxiscope.models.shards import is_sharded
from praxiscope.models.world import World
from praxiscope.recipe.schema import Recipe

_SHARDABLE = ("adam", "adamw", "momentum", "sgd")
"""Optimisers that treat each number by itself, so that a part of a tensor is as good as the whole."""


def require_parallel(recipe: Recipe, world: World, *, device_type: str) -> None:
    """Refuse what several ranks can't do.

    Raises:
        UsageError: Names the recipe's key.
    """
    train = recipe.train
    if train.parallel == "fsdp":
        _require_fsdp(recipe, world)
    if train.sync_bn and world.size > 1 and device_type != "cuda":
        raise UsageError(
            "train.sync_bn needs GPUs: torch joins BatchNorm statistics of several ranks there only. Leave "
            "it out, or take a network without BatchNorm (vit_*, convnext_*)."
        )


def _require_fsdp(recipe: Recipe, world: World) -> None:
    train = recipe.train
    if world.size == 1:
        raise UsageError(
            "train.parallel is fsdp, which spreads a network over ranks, and there is one: start it with "
            "torchrun --nproc-per-node 2 -m praxiscope train ..., or set train.parallel=auto."
        )
    if train.opt not in _SHARDABLE:
        raise UsageError(
            f"train.parallel is fsdp and train.opt is '{train.opt}', which looks at whole tensors; each rank "
            f"has a part. Use one of {', '.join(_SHARDABLE)}, or train.parallel=ddp."
        )
    blockers = {
        "train.precision": "fp16" if train.precision == "fp16" else None,
        "train.sync_bn": "true" if train.sync_bn else None,
        "train.histogram_every_epochs": train.histogram_every_epochs,
        "features.views": recipe.features.views or None,
    }
    for key, value in blockers.items():
        if value is not None:
            raise UsageError(
                f"train.parallel is fsdp and {key} is {value}, which needs the whole network on each rank: "
                "leave it out, or set train.parallel=ddp."
            )


def join_batch_norm(module: nn.Module) -> None:
    """Have every BatchNorm that trains take its statistics over the samples of all ranks; done in place.

    Those that ``freeze`` holds in evaluation mode stay what they are.
    """
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not is_held_in_eval(layer):  # noqa: SLF001
            module.set_submodule(name, convert_sync_batchnorm(layer))  # type: ignore[no-untyped-call]


def copy_on_ranks(trained: nn.Module, world: World, runtime: Runtime) -> nn.Module:
    """Return a network whose backward pass averages gradients over all ranks; alone, the network itself.

    Args:
        trained: Shares its parameters with what is returned; gets rank 0's.
        world: The ranks.
        runtime: Gives the device.
    """
    if world.size == 1:
        return trained
    with world.naming_lost_ranks():
        return DistributedDataParallel(
            _WithSpare(trained, runtime.device),
            device_ids=[runtime.device] if runtime.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            # Otherwise DDP lays its buckets out anew after the first step. Three ranks or more then add in
            # another order, and a resumed run is no longer the same bit for bit.
            find_unused_parameters=True,
        )


class _WithSpare(nn.Module):
    """A network, and beside it a number that nothing uses.

    DDP complains on the terminal of each rank when it looks for unused parameters and finds none.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.spare = nn.Parameter(torch.zeros((), device=device))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.network(inputs)
        return logits


def choose_sync(network: nn.Module) -> Callable[[bool], contextlib.AbstractContextManager[Any]]:
    """Return what keeps a network from exchanging gradients before the last batch of a step.

    Args:
        network: As :func:`copy_on_ranks` or ``models.shards.shard`` left it.
    """

    @contextlib.contextmanager
    def sync(last: bool) -> Iterator[None]:
        if is_sharded(network):
            network.set_requires_gradient_sync(last)  # type: ignore[operator]
        elif isinstance(network, DistributedDataParallel) and not last:
            with network.no_sync():
                yield
            return
        yield

    return sync
