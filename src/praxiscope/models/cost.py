"""What one image costs: multiply-accumulates counted on the network itself, never looked up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


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
    parameter = next(module.parameters())
    image = torch.zeros(1, in_chans, img_size, img_size, device=parameter.device, dtype=parameter.dtype)
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(image)
    finally:
        module.train(training)
    return ComputeCost(gmacs=counter.get_total_flops() / 2e9)
