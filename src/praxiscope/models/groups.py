"""A network's layers in groups from the input to the head, as timm counts them for layer-wise decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from timm.models import group_parameters
from torch import nn

from praxiscope.errors import UsageError
from praxiscope.models.state import find_classifier_prefixes, is_under


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Layers that share one learning rate under ``train.layer_decay``."""

    name: str
    """Its modules: ``conv1, bn1`` or ``layer1.0``."""
    parameters: tuple[str, ...]
    """Names of its parameters."""


def list_layer_groups(module: nn.Module) -> tuple[LayerGroup, ...]:
    """Return a network's layer groups from input to head; the last holds the head.

    The groups are those of ``timm.optim.param_groups_layer_decay``: the stem, then one for each block, a
    last normalisation with the last block.

    Args:
        module: A network built by timm, not wrapped.

    Raises:
        UsageError: timm doesn't know the order of this network's layers.
    """
    network = cast("Any", module)
    if not hasattr(module, "group_matcher"):
        raise UsageError(
            f"timm knows no order of the layers of {type(module).__name__}, so model.freeze_depth can't be "
            "counted. Name the parts in model.freeze instead."
        )
    grouped: dict[int, list[str]] = group_parameters(module, network.group_matcher(coarse=False))
    return tuple(
        LayerGroup(name=_describe(module, set(names)), parameters=tuple(names))
        for _, names in sorted(grouped.items())
    )


def select_first_groups(module: nn.Module, depth: int) -> tuple[LayerGroup, ...]:
    """Return the first ``depth`` groups, none of which may hold the head.

    Raises:
        UsageError: There are fewer groups before the head's.
    """
    head = find_classifier_prefixes(module)
    groups = list_layer_groups(module)
    body = [g for g in groups if not any(is_under(name, head) for name in g.parameters)]
    if depth > len(body):
        raise UsageError(
            f"model.freeze_depth is {depth}; {type(module).__name__} has {len(body)} layer groups before its "
            f"head ({body[0].name} ... {body[-1].name}). Give 0 to {len(body)}, or model.freeze: [backbone]."
        )
    return tuple(body[:depth])


def _describe(module: nn.Module, parameters: set[str]) -> str:
    """Return the largest modules, and single parameters, that make up a group."""
    parts: list[str] = []
    for name, submodule in module.named_modules():
        if is_under(name, tuple(parts)):
            continue
        if {f"{name}.{entry}" for entry, _ in submodule.named_parameters()} <= parameters and name:
            parts += [name] if next(submodule.parameters(), None) is not None else []
            continue
        own = [f"{name}.{entry}".lstrip(".") for entry, _ in submodule.named_parameters(recurse=False)]
        parts += [entry for entry in own if entry in parameters]
    return ", ".join(parts)
