"""EfficientNet-B0 to B7 of ``torchvision.models``.

They are timm's ``efficientnet_b0`` ... ``b7``, not ``tf_efficientnet_b0``, which pads otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, rename_by_patterns

# The first stage doesn't expand its channels and so has one convolution less. Stages count from 1 there.
_FIRST = r"features\.1\.(\d+)\.block"
_FIRST_PATTERNS = (
    (rf"{_FIRST}\.0\.0\.(\w+)", r"blocks.0.\1.conv_dw.\2"),
    (rf"{_FIRST}\.0\.1\.(\w+)", r"blocks.0.\1.bn1.\2"),
    (rf"{_FIRST}\.1\.fc1\.(\w+)", r"blocks.0.\1.se.conv_reduce.\2"),
    (rf"{_FIRST}\.1\.fc2\.(\w+)", r"blocks.0.\1.se.conv_expand.\2"),
    (rf"{_FIRST}\.2\.0\.(\w+)", r"blocks.0.\1.conv_pw.\2"),
    (rf"{_FIRST}\.2\.1\.(\w+)", r"blocks.0.\1.bn2.\2"),
)
_END_PATTERNS = (
    (r"features\.0\.0\.(\w+)", r"conv_stem.\1"),
    (r"features\.0\.1\.(\w+)", r"bn1.\1"),
    (r"features\.8\.0\.(\w+)", r"conv_head.\1"),
    (r"features\.8\.1\.(\w+)", r"bn2.\1"),
    (r"classifier\.1\.(\w+)", r"classifier.\1"),
)


def _list_stage_patterns(stage: int) -> tuple[tuple[str, str], ...]:
    there, here = rf"features\.{stage}\.(\d+)\.block", rf"blocks.{stage - 1}.\1"
    return (
        (rf"{there}\.0\.0\.(\w+)", rf"{here}.conv_pw.\2"),
        (rf"{there}\.0\.1\.(\w+)", rf"{here}.bn1.\2"),
        (rf"{there}\.1\.0\.(\w+)", rf"{here}.conv_dw.\2"),
        (rf"{there}\.1\.1\.(\w+)", rf"{here}.bn2.\2"),
        (rf"{there}\.2\.fc1\.(\w+)", rf"{here}.se.conv_reduce.\2"),
        (rf"{there}\.2\.fc2\.(\w+)", rf"{here}.se.conv_expand.\2"),
        (rf"{there}\.3\.0\.(\w+)", rf"{here}.conv_pwl.\2"),
        (rf"{there}\.3\.1\.(\w+)", rf"{here}.bn3.\2"),
    )


_PATTERNS = (
    *_END_PATTERNS,
    *_FIRST_PATTERNS,
    *(pattern for stage in range(2, 8) for pattern in _list_stage_patterns(stage)),
)


def _matches(state: Mapping[str, Tensor]) -> bool:
    return "features.0.0.weight" in state and "features.1.0.block.1.fc1.weight" in state


def _rename(state: Mapping[str, Tensor]) -> State:
    return rename_by_patterns(state, _PATTERNS)


TORCHVISION_EFFICIENTNET = KeyStyle(name="torchvision's EfficientNet", matches=_matches, rename=_rename)
