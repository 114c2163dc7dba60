"""Where a Vision Transformer's attention goes: rollout, and attention weighted by gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from praxiscope.errors import UsageError
from praxiscope.explaining.subject import Subject

OnAttention = Callable[[Tensor], Tensor | None]


def compute_rollout(subject: Subject, batch: Tensor) -> Tensor:
    """Follow attention through the layers (Abnar & Zuidema 2020).

    Heads are averaged, half of each layer is its shortcut (0.5 A + 0.5 I), layers are multiplied; the result
    is the row of the token that the head reads. It is the same for every class.

    Args:
        subject: Held still by the caller.
        batch: float32 (N, 3, H, W), prepared.

    Returns:
        float32 (N, h, w), >= 0: the share that each patch has.

    Raises:
        UsageError: The network has no attention over all of its tokens.
    """
    layers: list[Tensor] = []

    def keep(attention: Tensor) -> None:
        layers.append(attention.float().mean(dim=1))

    with expose_attention(subject.module, keep), torch.no_grad(), subject.runtime.autocast():
        subject.module(batch)
    _check_square(subject, layers)
    row = _build_readout(subject.module, layers[0])
    # One row of the product needs vectors only, multiplied from the last layer down.
    for attention in reversed(layers):
        row = 0.5 * (torch.einsum("nt,ntu->nu", row, attention) + row)
    return _to_grid(subject.module, row)


def compute_attention_gradient(subject: Subject, batch: Tensor, targets: Tensor) -> Tensor:
    """Follow attention weighted by its gradient through the layers (Chefer et al. 2021, ICCV).

    Each layer is the mean over heads of (gradient x attention), positive part, added to its shortcut
    (equations 5 and 6); the result is the row of the token that the head reads, without the token's own 1.

    Args:
        subject: Held still by the caller.
        batch: float32 (N, 3, H, W), prepared.
        targets: int64 (N,), the classes whose scores (logits) are differentiated.

    Returns:
        float32 (N, h, w), >= 0.

    Raises:
        UsageError: The network has no attention over all of its tokens.
    """
    layers: list[Tensor] = []

    def keep(attention: Tensor) -> Tensor:
        # Parameters need no gradient here, so the graph starts at the first layer's attention.
        kept = attention if layers else attention.detach().requires_grad_()
        layers.append(kept)
        return kept

    with expose_attention(subject.module, keep), torch.enable_grad():
        with subject.runtime.autocast():
            logits = subject.module(batch)
        _check_square(subject, layers)
        score = logits.float().gather(1, targets[:, None]).sum()
        gradients = torch.autograd.grad(score, layers)
    start = _build_readout(subject.module, layers[0])
    # What is added to the start is kept apart: beside it, small values would be lost to rounding.
    added = torch.zeros_like(start)
    for attention, gradient in zip(reversed(layers), reversed(gradients), strict=True):
        weighted = (gradient.float() * attention.detach().float()).relu().mean(dim=1)
        added = added + torch.einsum("nt,ntu->nu", start + added, weighted)
    return _to_grid(subject.module, added)


@contextlib.contextmanager
def expose_attention(module: nn.Module, keep: OnAttention) -> Iterator[None]:
    """Let each attention layer compute its matrix openly, and hand it over.

    Fused attention never forms the matrix. It is switched off inside the context (in timm's layers), or its
    result is computed a second time (``nn.MultiheadAttention``, which torchvision uses).

    Args:
        module: The network.
        keep: Called with (N, heads, T, T), rows adding up to 1, in the order of the layers; what it returns,
            if anything, takes the matrix's place.
    """
    fused = [each for each in module.modules() if getattr(each, "fused_attn", None) is True]
    handles: list[Any] = []
    try:
        for each in fused:
            each.fused_attn = False  # type: ignore[assignment]
        for each in module.modules():
            if isinstance(each, nn.MultiheadAttention):
                handles.append(each.register_forward_hook(_attend_openly(keep), with_kwargs=True))
            elif hasattr(each, "fused_attn") and isinstance(getattr(each, "attn_drop", None), nn.Module):
                drop = cast("nn.Module", each.attn_drop)
                handles.append(drop.register_forward_hook(lambda _drop, _inputs, output: keep(output)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for each in fused:
            each.fused_attn = True  # type: ignore[assignment]


def _attend_openly(keep: OnAttention) -> Callable[..., tuple[Tensor, None]]:
    """Return a hook that puts the same self-attention, its matrix exposed, in place of torch's."""

    def attend(
        layer: nn.MultiheadAttention, inputs: tuple[Tensor, ...], kwargs: dict[str, Any], _output: object
    ) -> tuple[Tensor, None]:
        tokens = inputs[0] if inputs else kwargs["query"]
        projected = nn.functional.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)
        split = projected.reshape(*tokens.shape[:2], 3, layer.num_heads, layer.head_dim)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attention = (query @ key.mT * layer.head_dim**-0.5).softmax(dim=-1)
        replaced = keep(attention)
        mixed = (attention if replaced is None else replaced) @ value
        return layer.out_proj(mixed.transpose(1, 2).flatten(2)), None

    return attend


def _check_square(subject: Subject, layers: list[Tensor]) -> None:
    shapes = {tuple(each.shape[-2:]) for each in layers}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or len(set(next(iter(shapes)))) != 1:
        found = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes)) or "none"
        raise UsageError(
            f"{subject.label}: rollout and attention-gradient need layers of attention from all tokens to "
            f"all tokens; {type(subject.module).__name__} has {found}. Use gradcam."
        )


def _build_readout(module: nn.Module, attention: Tensor) -> Tensor:
    """Return how much of each token the head reads, float32 (N, T), adding up to 1."""
    num_tokens = attention.shape[-1]
    before = _count_prefix(module, num_tokens)
    row = torch.zeros(attention.shape[0], num_tokens, device=attention.device)
    if before == 0 or getattr(module, "global_pool", "token") not in {"token", ""}:
        row[:, before:] = 1 / (num_tokens - before)
    else:
        heads = 2 if hasattr(module, "head_dist") else 1  # a distilled network averages two tokens' heads
        row[:, :heads] = 1 / heads
    return row


def _to_grid(module: nn.Module, row: Tensor) -> Tensor:
    before = _count_prefix(module, row.shape[-1])
    side = round((row.shape[-1] - before) ** 0.5)
    return row[:, before:].reshape(-1, side, side)


def _count_prefix(module: nn.Module, num_tokens: int) -> int:
    """Return how many tokens come before the patches', which fill a square."""
    known = getattr(module, "num_prefix_tokens", None)
    for before in [known] if known is not None else [0, 1]:
        if round((num_tokens - before) ** 0.5) ** 2 + before == num_tokens:
            return before
    raise UsageError(
        f"{type(module).__name__} has {num_tokens} tokens, which are no square of patches; use gradcam."
    )
