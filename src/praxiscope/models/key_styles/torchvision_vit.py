"""Vision Transformers of ``torchvision.models`` (``vit_b_16``, ``vit_l_32`` ...).

torchvision packs query, key and value in the order that timm does, and has the same LayerNorm eps (1e-6), so
the two compute the same function.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, rename_by_patterns

_BLOCK = r"encoder\.layers\.encoder_layer_(\d+)"
_PATTERNS = (
    (r"class_token", "cls_token"),
    (r"conv_proj\.(\w+)", r"patch_embed.proj.\1"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (rf"{_BLOCK}\.ln_(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (rf"{_BLOCK}\.self_attention\.in_proj_(\w+)", r"blocks.\1.attn.qkv.\2"),
    (rf"{_BLOCK}\.self_attention\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (rf"{_BLOCK}\.mlp\.(?:0|linear_1)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (rf"{_BLOCK}\.mlp\.(?:3|linear_2)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.ln\.(\w+)", r"norm.\1"),
    (r"heads\.(?:head\.)?(.+)", r"head.\1"),
)


def _matches(state: Mapping[str, Tensor]) -> bool:
    return "class_token" in state and "conv_proj.weight" in state


def _rename(state: Mapping[str, Tensor]) -> State:
    return rename_by_patterns(state, _PATTERNS)


TORCHVISION_VIT = KeyStyle(name="torchvision's ViT", matches=_matches, rename=_rename)
