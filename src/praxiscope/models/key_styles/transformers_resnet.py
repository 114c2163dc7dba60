"""ResNet of ``transformers``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, rename_by_patterns

_NET = r"(?:resnet\.)?"
# Stages and convolutions count from 0 there, from 1 in timm.
_CONVOLUTIONS = tuple(
    (
        rf"{_NET}encoder\.stages\.{stage}\.layers\.(\d+)\.layer\.{index}\.{word}\.(\w+)",
        rf"layer{stage + 1}.\1.{letter}{index + 1}.\2",
    )
    for stage in range(4)
    for index in range(3)
    for word, letter in (("convolution", "conv"), ("normalization", "bn"))
)
_SHORTCUTS = tuple(
    (
        rf"{_NET}encoder\.stages\.{stage}\.layers\.(\d+)\.shortcut\.{word}\.(\w+)",
        rf"layer{stage + 1}.\1.downsample.{index}.\2",
    )
    for stage in range(4)
    for index, word in enumerate(("convolution", "normalization"))
)
_PATTERNS = (
    (rf"{_NET}embedder\.embedder\.convolution\.(\w+)", r"conv1.\1"),
    (rf"{_NET}embedder\.embedder\.normalization\.(\w+)", r"bn1.\1"),
    *_CONVOLUTIONS,
    *_SHORTCUTS,
    (r"classifier\.1\.(\w+)", r"fc.\1"),
)


def _matches(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith("embedder.embedder.convolution.weight") for name in state)


def _rename(state: Mapping[str, Tensor]) -> State:
    return rename_by_patterns(state, _PATTERNS)


TRANSFORMERS_RESNET = KeyStyle(
    name="transformers' ResNet",
    matches=_matches,
    rename=_rename,
    note="strides are taken to stand in the 3x3 convolutions (downsample_in_bottleneck: false)",
)
