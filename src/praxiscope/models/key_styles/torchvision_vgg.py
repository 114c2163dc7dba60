"""VGG of ``torchvision.models``: timm holds its two hidden layers as convolutions over the 7 x 7 map."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, rename_by_patterns

_MAP_SIDE = 7
_HIDDEN = ("pre_logits.fc1.weight", "pre_logits.fc2.weight")
_PATTERNS = (
    (r"classifier\.0\.(\w+)", r"pre_logits.fc1.\1"),
    (r"classifier\.3\.(\w+)", r"pre_logits.fc2.\1"),
    (r"classifier\.6\.(\w+)", r"head.fc.\1"),
)


def _matches(state: Mapping[str, Tensor]) -> bool:
    return "features.0.weight" in state and "classifier.0.weight" in state and "classifier.3.weight" in state


def _rename(state: Mapping[str, Tensor]) -> State:
    renamed = rename_by_patterns(state, _PATTERNS)
    for name, side in zip(_HIDDEN, (_MAP_SIDE, 1), strict=True):
        weight = renamed[name]
        if weight.ndim == 2 and weight.shape[1] % side**2 == 0:
            renamed[name] = weight.reshape(weight.shape[0], -1, side, side)
    return renamed


TORCHVISION_VGG = KeyStyle(name="torchvision's VGG", matches=_matches, rename=_rename)
