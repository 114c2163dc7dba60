"""The image tower of CLIP in ``transformers``, alone or in a whole CLIP."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, fuse_qkv, rename_by_patterns

_NET = r"(?:vision_model\.)?"
_BLOCK = rf"{_NET}encoder\.layers\.(\d+)"
_PATTERNS = (
    (rf"{_NET}embeddings\.class_embedding", "cls_token"),
    (rf"{_NET}embeddings\.position_embedding\.weight", "pos_embed"),
    (rf"{_NET}embeddings\.patch_embedding\.(\w+)", r"patch_embed.proj.\1"),
    (rf"{_NET}pre_layrnorm\.(\w+)", r"norm_pre.\1"),
    (rf"{_BLOCK}\.self_attn\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.qkv.\2.\3"),
    (rf"{_BLOCK}\.self_attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (rf"{_BLOCK}\.layer_norm(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (rf"{_BLOCK}\.mlp\.(fc\d)\.(\w+)", r"blocks.\1.mlp.\2.\3"),
    (rf"{_NET}post_layernorm\.(\w+)", r"norm.\1"),
    (r"visual_projection\.weight", "head.weight"),
)
_OTHERS = ("text_model.", "text_projection.", "logit_scale", "logit_bias")
ACTIVATION_NOTE = (
    "the file doesn't say its activation: weights of OpenAI need a timm name with 'quickgelu', "
    "LAION's one without"
)


def _matches(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith("pre_layrnorm.weight") for name in state)


def _rename(state: Mapping[str, Tensor]) -> State:
    return shape_clip_tokens(fuse_qkv(rename_by_patterns(state, _PATTERNS)))


def shape_clip_tokens(state: State) -> State:
    """Give CLIP's embeddings timm's shapes, (1, 1, D) and (1, N, D), and its projection the bias of 0."""
    shaped = dict(state)
    if "cls_token" in state:
        shaped["cls_token"] = state["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in state:
        shaped["pos_embed"] = state["pos_embed"].reshape(1, *state["pos_embed"].shape[-2:])
    if "head.weight" in state:
        shaped["head.bias"] = torch.zeros(len(state["head.weight"]), dtype=state["head.weight"].dtype)
    return shaped


def _belongs(name: str) -> bool:
    return not name.startswith(_OTHERS) and not name.endswith("position_ids")


TRANSFORMERS_CLIP = KeyStyle(
    name="transformers' CLIP", matches=_matches, rename=_rename, belongs=_belongs, note=ACTIVATION_NOTE
)
