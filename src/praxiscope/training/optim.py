"""The optimiser by name, and its state by parameter name."""

from __future__ import annotations

import torch
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from torch import nn

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.recipe.schema import TrainSection


def require_optimizer(name: str) -> None:
    """Refuse a name that timm has no optimiser for.

    Raises:
        UsageError: no such optimiser.
    """
    known = [str(each) for each in list_optimizers()]
    if name.lower() not in known:
        raise UsageError(
            f"train.opt is '{name}'; usual: adamw, sgd, momentum, adam, lamb, rmsprop."
            f"{did_you_mean(name, known)} All that timm has are allowed ({len(known)})."
        )


def build_optimizer(section: TrainSection, module: nn.Module) -> torch.optim.Optimizer:
    """Build timm's optimiser of that name over the parameters that train.

    Weight decay leaves biases and norms out. Each group keeps a ``lr_scale`` (layer-wise decay), which
    the loop multiplies the schedule's learning rate by.

    Raises:
        UsageError: no such optimiser.
    """
    require_optimizer(section.opt)
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        module,
        opt=section.opt.lower(),
        lr=section.lr,
        weight_decay=section.weight_decay,
        momentum=section.momentum,
        layer_decay=section.layer_decay if section.layer_decay < 1 else None,
    )
    return optimizer


def list_parameter_names(optimizer: torch.optim.Optimizer, module: nn.Module) -> list[str]:
    """Return the name of each of the optimiser's parameters, in its order."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set each group's learning rate to ``lr`` times its layer's scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
