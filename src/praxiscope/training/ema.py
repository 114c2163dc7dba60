"""Exponential moving average of the weights (Polyak & Juditsky 1992), a function of the step."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A second network that follows the first.

    Args:
        module: the network to follow.
        decay: share of the average that stays at a step; early steps use (1 + step) / (10 + step), so that
            a short run doesn't average its random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module)
        self.module.eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Move towards ``module`` after its ``step``-th optimiser step (1-based).

        Floating-point buffers (BatchNorm statistics) are averaged with the weights; counters are copied.
        """
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        ours, theirs = self.module.state_dict(), module.state_dict()
        moving = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[n] for n in moving], [theirs[n] for n in moving], weight)
        for name, value in ours.items():
            if not value.is_floating_point():
                value.copy_(theirs[name])
