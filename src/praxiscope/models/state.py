"""State dicts without the prefixes of wrappers, their fingerprint, and what belongs to the head."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from praxiscope.models.shards import take_own

_COMPILED = "_orig_mod"
_WRAPPERS = (DistributedDataParallel, DataParallel, AveragedModel)
_TIMM_AVERAGES = "timm.utils.model_ema"  # by name: importing timm.utils imports wandb where it is installed
# Of DDP and torch.compile, and the names under which training frameworks and people keep their network.
_WRAPPER_PREFIXES = ("module.", f"{_COMPILED}.", "model.", "net.", "backbone.")


def unwrap_module(module: nn.Module) -> nn.Module:
    """Return the network inside ``torch.compile``, DDP and weight-averaging wrappers, in any nesting."""
    while True:
        if isinstance(module, _WRAPPERS) or type(module).__module__ == _TIMM_AVERAGES:
            inner = module.module
        elif _COMPILED in module._modules:  # noqa: SLF001 - torch._dynamo's OptimizedModule has no public mark
            inner = module.get_submodule(_COMPILED)
        else:
            return module
        assert isinstance(inner, nn.Module)
        module = inner


def unwrap_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network under the network's own names, whatever it is wrapped in.

    A checkpoint with ``module.`` or ``_orig_mod.`` in its names would miss every key when loaded loosely,
    and leave a network with random weights.

    Args:
        module: A network, or one inside ``torch.compile`` (as a whole or block by block), DDP, or a moving
            average, in any nesting.

    Returns:
        Tensors by name, on the devices where they are, sharing memory with the network.
    """
    state = unwrap_module(module).state_dict()
    return {name.replace(f"{_COMPILED}.", ""): tensor for name, tensor in state.items()}


def strip_wrapper_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a foreign state without the wrapper prefixes that every one of its names carries.

    Args:
        state: Tensors by name. The lone counter ``n_averaged`` of a moving average is dropped.

    Returns:
        Tensors by name.
    """
    cleaned = {name: tensor for name, tensor in state.items() if name != "n_averaged"}
    while cleaned:
        prefix = next((p for p in _WRAPPER_PREFIXES if all(name.startswith(p) for name in cleaned)), None)
        if prefix is None:
            break
        cleaned = {name.removeprefix(prefix): tensor for name, tensor in cleaned.items()}
    return {name.replace(f"{_COMPILED}.", ""): tensor for name, tensor in cleaned.items()}


def compute_weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a fingerprint of a state dict that doesn't depend on order, device, strides or file format.

    Args:
        state: Tensors by name.

    Returns:
        64 hexadecimal digits: sha256 over names in sorted order, each with its dtype, shape and bytes.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}\0".encode())
        update_with_tensor(digest, state[name])
    return digest.hexdigest()


def compute_tensor_sha256(tensor: Tensor) -> str:
    """Return sha256 over one tensor's dtype, shape and bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    update_with_tensor(digest, tensor)
    return digest.hexdigest()


def update_with_tensor(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Feed one tensor's dtype, shape and bytes to a digest."""
    digest.update(f"{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    # numpy knows no bfloat16; bytes are the same for all dtypes.
    flat = take_own(tensor.detach()).cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data)


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters, of those that train only if asked."""
    return sum(math.prod(p.shape) for p in module.parameters() if p.requires_grad or not trainable)


def find_classifier_prefixes(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers that map features to logits, as timm declares them.

    Args:
        module: A network built by timm.

    Returns:
        Module names such as ``("fc",)`` or, for distilled networks, ``("head", "head_dist")``.
    """
    declared = getattr(unwrap_module(module), "pretrained_cfg", {}).get("classifier") or ()
    return (declared,) if isinstance(declared, str) else tuple(declared)


def is_under(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or lies below one, whole up to a dot.

    >>> is_under("blocks.10.norm1", ("blocks.1",)), is_under("blocks.1.norm1", ("blocks.1",))
    (False, True)
    """
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
