"""The optimiser by name, and its state by parameter name."""

from __future__ import annotations

import importlib.util

import torch
from timm.optim import (  # type: ignore[attr-defined]
    create_optimizer_v2,
    get_optimizer_info,
    list_optimizers,
)
from torch import nn

from praxiscope.errors import EnvironmentProblem, UsageError, did_you_mean
from praxiscope.recipe.schema import TrainSection


def require_optimizer(name: str) -> None:
    """Refuse a name that timm has no optimiser for, or one that can't run here.

    Raises:
        UsageError: no such optimiser, or one that needs second derivatives, which the loop doesn't compute.
        EnvironmentProblem: it needs a GPU or a package that isn't here.
    """
    known = [str(each) for each in list_optimizers()]
    if name.lower() not in known:
        raise UsageError(
            f"train.opt is '{name}'; usual: adamw, sgd, momentum, adam, lamb, muon, rmsprop."
            f"{did_you_mean(name, known)} All that timm has are allowed ({len(known)})."
        )
    info = get_optimizer_info(name.lower())
    if info.second_order:
        raise UsageError(f"train.opt '{name}' needs second derivatives, which training here doesn't compute.")
    if isinstance(info.opt_class, str):  # of a package that timm doesn't require
        package = info.opt_class.partition(".")[0]
        if not torch.cuda.is_available() or importlib.util.find_spec(package) is None:
            raise EnvironmentProblem(
                f"train.opt '{name}' needs an NVIDIA GPU and the package '{package}'. "
                "adamw, sgd, lamb and muon need neither."
            )


def build_optimizer(section: TrainSection, module: nn.Module) -> torch.optim.Optimizer:
    """Build timm's optimiser of that name over the parameters that train.

    Weight decay leaves biases and norms out. Each group keeps a ``lr_scale`` (layer-wise decay), which
    the loop multiplies the schedule's learning rate by.

    Raises:
        UsageError, EnvironmentProblem: as :func:`require_optimizer`.
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
