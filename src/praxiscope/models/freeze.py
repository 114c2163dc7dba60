"""Frozen means frozen: no gradient, no moving BatchNorm statistics, no dropout, and a proof afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from praxiscope.errors import IntegrityError, UsageError, did_you_mean
from praxiscope.models.groups import LayerGroup, select_first_groups
from praxiscope.models.state import (
    compute_tensor_sha256,
    count_parameters,
    find_classifier_prefixes,
    is_under,
    unwrap_module,
)

BACKBONE = "backbone"
"""The pattern that stands for everything but the head."""


@dataclass(frozen=True, kw_only=True)
class FreezeReport:
    """What was frozen."""

    patterns: tuple[str, ...]
    """As asked."""
    num_frozen: int
    """Parameters (numbers, not tensors) that don't train."""
    num_trainable: int
    """Parameters that do."""
    groups: tuple[str, ...] = ()
    """Layer groups that were frozen by depth, from the input on."""

    def __str__(self) -> str:
        parts = [*self.patterns, *(f"group {n} ({name})" for n, name in enumerate(self.groups, start=1))]
        return (
            f"{self.num_frozen:,} of {self.num_frozen + self.num_trainable:,} parameters are frozen: "
            f"{', '.join(parts)}"
        )


def freeze(module: nn.Module, patterns: tuple[str, ...] = (), *, depth: int = 0) -> FreezeReport:
    """Freeze parts of a network, for good.

    Parameters lose ``requires_grad``, so that autograd keeps nothing for frozen first stages. Modules that
    are frozen as a whole stay in evaluation mode, whatever ``train()`` is called on them or on what wraps
    them, so BatchNorm statistics don't move and dropout and stochastic depth inside are off.

    Args:
        module: A network built by timm; freeze before it is wrapped.
        patterns: Names of submodules or parameters, whole up to a dot (``blocks.0``, ``conv_stem``,
            ``pos_embed``), or ``backbone`` for all but the head.
        depth: How many layer groups are frozen besides, counted from the input as
            :func:`praxiscope.models.groups.list_layer_groups` counts.

    Returns:
        The counts.

    Raises:
        UsageError: A pattern matches nothing, there are fewer groups, or nothing is left to train.
    """
    prefixes = _check_patterns(module, patterns)
    groups = select_first_groups(module, depth) if depth else ()
    frozen = _select_state(module, prefixes, whole_backbone=BACKBONE in patterns)
    frozen |= _select_groups(module, groups)
    for name, parameter in module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    if count_parameters(module, trainable=True) == 0:
        raise UsageError(f"freeze={list(patterns)} leaves nothing to train. Leave out the head or a block.")
    for submodule in _find_frozen_modules(module, prefixes, frozen):
        # In the instance, so that the network stays of timm's classes; a partial copies and pickles.
        submodule.__dict__["train"] = partial(_stay_in_eval, submodule)
        submodule.eval()
    return FreezeReport(
        patterns=tuple(patterns),
        groups=tuple(group.name for group in groups),
        num_frozen=count_parameters(module) - count_parameters(module, trainable=True),
        num_trainable=count_parameters(module, trainable=True),
    )


def fingerprint_frozen(module: nn.Module) -> dict[str, str]:
    """Return the sha256 of every frozen parameter and of every buffer in a frozen module, by name.

    Args:
        module: A network that ``freeze`` was called on, possibly wrapped since.

    Returns:
        Digests by name; empty when nothing is frozen.
    """
    return {name: compute_tensor_sha256(tensor) for name, tensor in _frozen_state(module).items()}


def assert_frozen_unchanged(module: nn.Module, before: dict[str, str]) -> None:
    """Prove that training left frozen parts as they were.

    Args:
        module: The network after training.
        before: ``fingerprint_frozen`` of it before.

    Raises:
        IntegrityError: A frozen tensor changed, or is no longer frozen; the message names it.
    """
    after = fingerprint_frozen(module)
    moved = sorted(name for name, digest in before.items() if after.get(name) != digest)
    if moved:
        raise IntegrityError(
            f"{len(moved)} of {len(before)} frozen tensors changed during training ({', '.join(moved[:5])}). "
            "The result isn't that of a frozen backbone; don't use it, and report this."
        )


def is_held_in_eval(module: nn.Module) -> bool:
    """Whether ``freeze`` holds this very module in evaluation mode."""
    return "train" in module.__dict__


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 - as train
    return nn.Module.train(module, mode=False)


def _check_patterns(module: nn.Module, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns that name a part, after checking that each does."""
    known = {name for name, _ in (*module.named_modules(), *module.named_parameters()) if name}
    prefixes = tuple(pattern for pattern in patterns if pattern != BACKBONE)
    for pattern in prefixes:
        if pattern not in known:
            children = [name for name, _ in module.named_children()]
            raise UsageError(
                f"freeze: the network has no part '{pattern}'.{did_you_mean(pattern, known)} "
                f"Allowed: {BACKBONE}, {', '.join(children)}, or a name below one, such as 'blocks.0'."
            )
    return prefixes


def _state_names(module: nn.Module) -> list[str]:
    return [name for name, _ in (*module.named_parameters(), *module.named_buffers())]


def _select_state(module: nn.Module, prefixes: tuple[str, ...], *, whole_backbone: bool) -> set[str]:
    """Return the names of the parameters and buffers that are to stay as they are."""
    head = find_classifier_prefixes(module)
    return {
        name
        for name in _state_names(module)
        if is_under(name, prefixes) or (whole_backbone and not is_under(name, head))
    }


def _select_groups(module: nn.Module, groups: tuple[LayerGroup, ...]) -> set[str]:
    """Return the names of the groups' parameters, and of buffers of modules that are theirs as a whole."""
    selected = {name for group in groups for name in group.parameters}
    for prefix, submodule in module.named_modules():
        below = {f"{prefix}.{name}" for name, _ in submodule.named_parameters()}
        if below and below <= selected:
            selected |= {f"{prefix}.{name}" for name, _ in submodule.named_buffers()}
    return selected


def _find_frozen_modules(module: nn.Module, prefixes: tuple[str, ...], frozen: set[str]) -> list[nn.Module]:
    """Return modules that were named or whose whole state is frozen, with all below them."""
    roots: set[str] = set(prefixes)
    for name, submodule in module.named_modules():
        below = {f"{name}.{entry}" for entry in _state_names(submodule)}
        if name and below and below <= frozen:
            roots.add(name)
    roots |= _stateless_between(module, roots, frozen)
    return [
        submodule
        for name, submodule in module.named_modules()
        if any(ancestor in roots for ancestor in _with_ancestors(name))
    ]


def _with_ancestors(name: str) -> list[str]:
    """Return a dotted name and all names above it.

    >>> _with_ancestors("blocks.0.norm1")
    ['blocks', 'blocks.0', 'blocks.0.norm1']
    """
    parts = name.split(".")
    return [".".join(parts[: stop + 1]) for stop in range(len(parts))]


def _stateless_between(module: nn.Module, roots: set[str], frozen: set[str]) -> set[str]:
    """Return modules without state (dropout of position embeddings ...) within the frozen part.

    Modules are registered in forward order, so what precedes a frozen one is frozen with it, unless something
    that trains comes before.
    """
    found: set[str] = set()
    pending: list[str] = []
    for name, submodule in module.named_modules():
        if any(ancestor in roots for ancestor in _with_ancestors(name)):
            found.update(pending)
            pending.clear()
            continue
        own = [*submodule.named_parameters(recurse=False), *submodule.named_buffers(recurse=False)]
        if any((f"{name}.{entry}" if name else entry) not in frozen for entry, _ in own):
            break
        if next(submodule.children(), None) is None:
            pending.append(name)
    return found


def _frozen_state(module: nn.Module) -> dict[str, Tensor]:
    core = unwrap_module(module)
    state: dict[str, Tensor] = {
        name: parameter for name, parameter in core.named_parameters() if not parameter.requires_grad
    }
    for prefix, submodule in core.named_modules():
        if is_held_in_eval(submodule):
            for name, buffer in submodule.named_buffers(recurse=False):
                state[f"{prefix}.{name}"] = buffer
    return state
