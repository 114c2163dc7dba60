"""Temporal shift: a frame network whose convolutions look at the neighbouring frames, for no arithmetic.

Lin, Gan & Han 2019, TSM (arXiv:1811.08383): before the first convolution of each residual block, an eighth of
the channels comes from the next frame and an eighth from the frame before; the block's shortcut keeps the
frame's own.

A forward pre-hook moves the channels, so that every weight keeps timm's name: files, freezing, layer-wise
decay and checkpoints see the same network as without shift.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from praxiscope.errors import UsageError

_FIRST_CONVS = {
    "BasicBlock": "conv1",  # ResNet
    "Bottleneck": "conv1",  # ResNet, ResNeXt, RegNet
    "InvertedResidual": "conv_pw",  # EfficientNet, MobileNetV2 and V3
    "EdgeResidual": "conv_exp",  # EfficientNetV2
    "ConvNeXtBlock": "conv_dw",
}
"""Class of a residual block in timm: its layer that sees the frame first, beside the shortcut."""


def shift_frames(features: Tensor, *, num_frames: int, shift_div: int) -> Tensor:
    """Move channels to neighbouring frames; what would come from outside of the clip is zero.

    Args:
        features: (B x T, C, H, W), the frames of a clip one after the other.
        num_frames: T.
        shift_div: Of C channels the first C // shift_div come from the next frame, the following
            C // shift_div from the frame before; the rest stay.

    Returns:
        (B x T, C, H, W), in the memory format of ``features``.
    """
    fold = features.shape[1] // shift_div
    clips = (-1, num_frames, *features.shape[1:])
    given = features.view(clips)
    shifted = torch.zeros_like(features)  # keeps channels-last, which padding and joining would not
    out = shifted.view(clips)
    out[:, :-1, :fold] = given[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = given[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = given[:, :, 2 * fold :]
    return shifted


def add_temporal_shift(module: nn.Module, *, num_frames: int, shift_div: int) -> tuple[str, ...]:
    """Let a frame network's residual blocks look at the neighbouring frames.

    Blocks without a shortcut are left alone: they would lose the frame's own channels (Lin et al. 2019,
    section 4.1). ResNet blocks have one always.

    Args:
        module: A network built by timm; changed in place, its state dict isn't.
        num_frames: T.
        shift_div: 8 as published: an eighth of the channels in each direction.

    Returns:
        Names of the layers whose input is shifted.

    Raises:
        UsageError: ``shift_div`` is 1, or the network has no residual blocks of convolutions.
    """
    if shift_div < 2:
        raise UsageError(
            f"model.shift_div is {shift_div}: every channel would come from another frame. Give 8 as "
            "published, or any number from 2 on; 0 for no shift."
        )
    shift = partial(_shift_input, num_frames=num_frames, shift_div=shift_div)
    shifted = []
    for name, block in module.named_modules():
        first = _FIRST_CONVS.get(type(block).__name__)
        if first is None or not hasattr(block, first) or not getattr(block, "has_skip", True):
            continue
        block.get_submodule(first).register_forward_pre_hook(shift)
        shifted.append(f"{name}.{first}")
    if not shifted:
        raise UsageError(
            f"model.shift_div is {shift_div}, but {type(module).__name__} has no residual blocks of "
            "convolutions to shift channels in. Use a ResNet, RegNet, EfficientNet, MobileNet or ConvNeXt, "
            "or shift_div: 0 with model.temporal: gru, attention or transformer."
        )
    return tuple(shifted)


def _shift_input(
    _layer: nn.Module, inputs: tuple[Tensor, ...], *, num_frames: int, shift_div: int
) -> tuple[Tensor, ...]:
    return (shift_frames(inputs[0], num_frames=num_frames, shift_div=shift_div), *inputs[1:])
