"""ViT and DeiT of ``transformers``, as ``save_pretrained`` writes them and as they are named in memory.

``transformers`` keeps query, key and value apart. Its configurations say ``layer_norm_eps`` 1e-12 where the
published networks, and timm, have 1e-6; the difference is below float32 except for near-constant tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, fuse_qkv, rename_by_patterns

_NET = r"(?:vit\.|deit\.)?"
_BLOCK = rf"{_NET}(?:encoder\.layer|layers)\.(\d+)"
_QUERY_KEY_VALUE = tuple(
    (
        rf"{_BLOCK}\.attention\.(?:attention\.{word}|{word[0]}_proj)\.(\w+)",
        rf"blocks.\1.attn.qkv.{word[0]}.\2",
    )
    for word in ("query", "key", "value")
)
_PATTERNS = (
    (rf"{_NET}embeddings\.cls_token", "cls_token"),
    (rf"{_NET}embeddings\.distillation_token", "dist_token"),
    (rf"{_NET}embeddings\.position_embeddings", "pos_embed"),
    (rf"{_NET}embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    *_QUERY_KEY_VALUE,
    (rf"{_BLOCK}\.attention\.(?:output\.dense|o_proj)\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (rf"{_BLOCK}\.layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
    (rf"{_BLOCK}\.layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
    (rf"{_BLOCK}\.(?:intermediate\.dense|mlp\.fc1)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (rf"{_BLOCK}\.(?:output\.dense|mlp\.fc2)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (rf"{_NET}layernorm\.(\w+)", r"norm.\1"),
    (r"(?:cls_)?classifier\.(\w+)", r"head.\1"),
    (r"distillation_classifier\.(\w+)", r"head_dist.\1"),
)


def _matches(state: Mapping[str, Tensor]) -> bool:
    ends = ("embeddings.cls_token", "embeddings.patch_embeddings.projection.weight")
    return all(any(name.endswith(end) for name in state) for end in ends)


def _rename(state: Mapping[str, Tensor]) -> State:
    return fuse_qkv(rename_by_patterns(state, _PATTERNS))


def _belongs(name: str) -> bool:
    """The pooler and the mask token serve other tasks than classification; timm has neither."""
    return "pooler." not in name and not name.endswith("embeddings.mask_token")


TRANSFORMERS_VIT = KeyStyle(
    name="transformers' ViT",
    matches=_matches,
    rename=_rename,
    belongs=_belongs,
    note="LayerNorm eps is timm's (1e-6), whatever the file's configuration says",
)
