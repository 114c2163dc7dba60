"""Networks whose tensors lie in parts on several ranks (FSDP2, ``torch.distributed.fsdp.fully_shard``).

Zhao et al. 2023, "PyTorch FSDP"; its second version keeps each tensor as a ``DTensor`` cut along its first
axis, so that names, shapes and optimisers are those of the whole network.

torch's parts for this take a second to import: nothing here does so before a network is sharded.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

_SMALLEST_BLOCK = 10_000  # numbers; below this a block's own exchange costs more than its memory is worth


def is_sharded(module: nn.Module) -> bool:
    """Whether a network's parameters are spread over ranks; then all of them must call it, equally often."""
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)


def shard(module: nn.Module) -> None:
    """Spread a network's parameters over all ranks, block by block; done in place.

    A block is what repeats: an entry of a list of layers (a transformer's blocks, a stage's units). It is put
    together for its own forward and backward pass only.
    """
    from torch.distributed.fsdp import fully_shard

    lists = (nn.ModuleList, nn.Sequential)
    for submodule in list(module.modules()):
        if submodule is not module and isinstance(submodule, lists):
            for block in submodule:
                size = sum(parameter.numel() for parameter in block.parameters())
                if size >= _SMALLEST_BLOCK and not isinstance(block, lists):
                    fully_shard(block)
    fully_shard(module)


def part_again(module: nn.Module) -> None:
    """Give each rank its parts back alone after forward passes that no backward pass followed.

    torch leaves the outermost parameters whole until then, so the module would hold other tensors than its
    optimiser does. Does nothing to a network that isn't sharded.
    """
    for submodule in module.modules():
        if is_sharded(submodule):
            submodule.reshard()  # type: ignore[operator]


def take_own(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor; all of it where it isn't sharded."""
    own: Tensor = tensor.to_local() if _is_spread(tensor) else tensor  # type: ignore[attr-defined]
    return own


def take_full(tensor: Tensor) -> Tensor:
    """Put a tensor together from all ranks' parts; all of them must call this, in the same order."""
    full: Tensor = tensor.full_tensor() if _is_spread(tensor) else tensor  # type: ignore[attr-defined]
    return full


def collect_full(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return named tensors whole, on the CPU where they were sharded; all ranks must call this."""
    return {
        name: take_full(tensor).cpu() if _is_spread(tensor) else tensor for name, tensor in tensors.items()
    }


def spread_like(full: Tensor, own: Tensor) -> Tensor:
    """Cut a whole tensor, the same on all ranks, as ``own`` is cut; return it as it is where that isn't."""
    if not _is_spread(own) or full.shape != own.shape:
        return full
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(own, DTensor)
    # Every rank has read the same file: nothing need be sent.
    return distribute_tensor(full.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def _is_spread(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")
