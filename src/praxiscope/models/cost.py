"""What one image costs: arithmetic and activations counted on the network itself, never looked up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from praxiscope.models.temporal import find_num_frames


@dataclass(frozen=True, kw_only=True)
class ComputeCost:
    """Arithmetic of one forward pass of one image."""

    gmacs: float
    """Multiply-accumulates, in 10^9. What is often printed as "FLOPs" (1.8 for ResNet-18) is this."""

    @property
    def gflops(self) -> float:
        """Floating-point operations in 10^9: two for each multiply-accumulate."""
        return 2 * self.gmacs


def count_compute(module: nn.Module, *, img_size: int, in_chans: int = 3) -> ComputeCost:
    """Count convolutions, matrix products and attention of one forward pass.

    Norms, activations and pooling are left out, as is usual; they are below 1 % of the networks here.

    Args:
        module: The network; its mode is kept, its weights are not touched.
        img_size: Side of the square input in pixels.
        in_chans: Channels of the input.
    """
    counter = FlopCounterMode(display=False)
    return ComputeCost(gmacs=_count(module, img_size, in_chans, counter) / 2e9)


def count_activations(module: nn.Module, *, img_size: int, in_chans: int = 3) -> int:
    """Count the numbers that convolutions, linear layers and attention put out for one image.

    On many devices time follows them more closely than arithmetic (Radosavovic et al. 2020, Designing Network
    Design Spaces, section 3.3, who count convolutions only). Fused attention counts its output alone;
    attention that is written out as products also puts out its weights, and they count.

    Args:
        module: The network; its mode is kept, its weights are not touched.
        img_size: Side of the square input in pixels.
        in_chans: Channels of the input.
    """
    mapping = dict.fromkeys(flop_registry, _count_output)
    return _count(module, img_size, in_chans, FlopCounterMode(display=False, custom_mapping=mapping))


def _count_output(*_inputs: Any, out_shape: Any = None, **_more: Any) -> int:
    """Return the elements of an operation's (first) output."""
    first = out_shape[0] if isinstance(out_shape[0], Sequence) else out_shape
    return math.prod(first)


def _count(module: nn.Module, img_size: int, in_chans: int, counter: FlopCounterMode) -> int:
    """Return what a counter counts in one forward pass of one image or clip."""
    parameter = next(module.parameters())
    frames = find_num_frames(module)
    shape = (1, *(() if frames is None else (frames,)), in_chans, img_size, img_size)
    image = torch.zeros(shape, device=parameter.device, dtype=parameter.dtype)
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), counter:
            module(image)
    finally:
        module.train(training)
    return int(counter.get_total_flops())
