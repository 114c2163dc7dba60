"""The image tower of CLIP as OpenAI and ``open_clip`` name it, in a whole CLIP or saved by itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, rename_by_patterns
from praxiscope.models.key_styles.transformers_clip import ACTIVATION_NOTE, shape_clip_tokens

_TOWER = "visual."
_BLOCK = r"transformer\.resblocks\.(\d+)"
_PATTERNS = (
    (r"class_embedding", "cls_token"),
    (r"positional_embedding", "pos_embed"),
    (r"conv1\.(\w+)", r"patch_embed.proj.\1"),
    (r"ln_pre\.(\w+)", r"norm_pre.\1"),
    (rf"{_BLOCK}\.attn\.in_proj_(\w+)", r"blocks.\1.attn.qkv.\2"),
    (rf"{_BLOCK}\.attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (rf"{_BLOCK}\.ln_(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (rf"{_BLOCK}\.mlp\.c_fc\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (rf"{_BLOCK}\.mlp\.c_proj\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"ln_post\.(\w+)", r"norm.\1"),
    (r"proj", "head.weight"),
)


def _matches_whole(state: Mapping[str, Tensor]) -> bool:
    return f"{_TOWER}class_embedding" in state and f"{_TOWER}conv1.weight" in state


def _matches_tower(state: Mapping[str, Tensor]) -> bool:
    return "class_embedding" in state and "conv1.weight" in state and "ln_pre.weight" in state


def _rename(state: Mapping[str, Tensor]) -> State:
    renamed = rename_by_patterns(
        {name.removeprefix(_TOWER): tensor for name, tensor in state.items()}, _PATTERNS
    )
    if "head.weight" in renamed:  # there a matrix (width, embedding) that features are multiplied by
        renamed["head.weight"] = renamed["head.weight"].T.contiguous()
    return shape_clip_tokens(renamed)


def _belongs(name: str) -> bool:
    return name.startswith(_TOWER)


OPEN_CLIP = KeyStyle(
    name="open_clip", matches=_matches_whole, rename=_rename, belongs=_belongs, note=ACTIVATION_NOTE
)
OPEN_CLIP_TOWER = KeyStyle(
    name="open_clip's image tower", matches=_matches_tower, rename=_rename, note=ACTIVATION_NOTE
)
