"""Frozen means frozen: no gradient, no moving BatchNorm statistics, no dropout, and a proof afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from praxiscope.errors import IntegrityError, UsageError, did_you_mean
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


def freeze(module: nn.Module, patterns: tuple[str, ...]) -> FreezeReport:
    """Freeze parts of a network, for good.

    Parameters lose ``requires_grad``, so that autograd keeps nothing for frozen first stages. Modules that
    are frozen as a whole stay in evaluation mode, whatever ``train()`` is called on them or on what wraps
    them, so BatchNorm statistics don't move and dropout and stochastic depth inside are off.

    Args:
        module: A network built by timm; freeze before it is wrapped.
        patterns: Names of submodules or parameters, whole up to a dot (``blocks.0``, ``conv_stem``,
            ``pos_embed``), or ``backbone`` for all but the head.

    Returns:
        The counts.

    Raises:
        UsageError: A pattern matches nothing, or nothing is left to train.
    """
    prefixes = _check_patterns(module, patterns)
    frozen = _select_state(module, prefixes, whole_backbone=BACKBONE in patterns)
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


def _find_frozen_modules(module: nn.Module, prefixes: tuple[str, ...], frozen: set[str]) -> list[nn.Module]:
    """Return modules that were named or whose whole state is frozen, with all below them."""
    roots: set[str] = set(prefixes)
    for name, submodule in module.named_modules():
        below = {f"{name}.{entry}" for entry in _state_names(submodule)}
        if name and below and below <= frozen:
            roots.add(name)
    roots |= _stateless_between(module, roots)
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


def _stateless_between(module: nn.Module, roots: set[str]) -> set[str]:
    """Return top-level modules without state (dropout of position embeddings ...) within the frozen part.

    Children are registered in forward order, so what precedes a frozen child is frozen with it, unless
    something that trains comes before.
    """
    found: set[str] = set()
    pending: list[str] = []
    for name, child in module.named_children():
        if name in roots:
            found.update(pending)
            pending.clear()
        elif _state_names(child):
            break
        else:
            pending.append(name)
    return found


def _frozen_state(module: nn.Module) -> dict[str, Tensor]:
    core = unwrap_module(module)
    state: dict[str, Tensor] = {
        name: parameter for name, parameter in core.named_parameters() if not parameter.requires_grad
    }
    for prefix, submodule in core.named_modules():
        if "train" in submodule.__dict__:
            for name, buffer in submodule.named_buffers(recurse=False):
                state[f"{prefix}.{name}"] = buffer
    return state
