"""What a key style is, and the two ways that most of them translate names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class KeyStyle:
    """A way to name the tensors of a network, and how to turn it into timm's."""

    name: str
    """Whose names they are, for reports."""
    matches: Callable[[Mapping[str, Tensor]], bool]
    """Whether a state has these names."""
    rename: Callable[[Mapping[str, Tensor]], State]
    """Returns the tensors under timm's names, in timm's layout. A name without counterpart stays as it is,
    so that the strict load that follows refuses it by name."""
    belongs: Callable[[str], bool] | None = None
    """Whether a tensor is the network's; others (a text tower) are left out and counted. None: all are."""
    note: str = ""
    """What the weights can't say and the user must know."""


def rename_by_patterns(state: Mapping[str, Tensor], patterns: tuple[tuple[str, str], ...]) -> State:
    """Return the tensors under new names.

    Args:
        state: Tensors by name.
        patterns: Pairs of a regular expression over a whole name and what it becomes; the first that matches
            is used, and a name that none matches stays as it is.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in patterns]
    renamed: State = {}
    for name, tensor in state.items():
        found = next(((match, new) for rule, new in compiled if (match := rule.fullmatch(name))), None)
        renamed[found[0].expand(found[1]) if found else name] = tensor
    return renamed


def fuse_qkv(state: Mapping[str, Tensor]) -> State:
    """Stack query, key and value of each attention into the one layer ``qkv`` that timm has.

    Args:
        state: Tensors by name; those to be stacked end in ``qkv.q.weight``, ``qkv.k.weight``,
            ``qkv.v.weight`` (or ``bias``), each (D, D) or (D,). Where one of three is absent, the
            others stay as they are.

    Returns:
        Tensors by name, with ``qkv.weight`` (3 D, D) and ``qkv.bias`` (3 D,).
    """
    fused = dict(state)
    for name in state:
        match = re.fullmatch(r"(.*\bqkv\.)q\.(weight|bias)", name)
        if match is None:
            continue
        parts = [f"{match[1]}{letter}.{match[2]}" for letter in "qkv"]
        if all(part in fused for part in parts):
            fused[f"{match[1]}{match[2]}"] = torch.cat([fused.pop(part) for part in parts])
    return fused
