"""Vision Transformers as the original JAX code publishes them, in ``.npz`` files.

Dosovitskiy et al. 2021; Steiner et al. 2022, "How to train your ViT?". Flax stores matrices as (in, out),
convolutions as (H, W, in, out), and each head of an attention apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from praxiscope.models.key_styles.style import KeyStyle, State, fuse_qkv, rename_by_patterns

_BLOCK = r"Transformer/encoderblock_(\d+)"
_ATTENTION = rf"{_BLOCK}/MultiHeadDotProductAttention_\d+"
_QUERY_KEY_VALUE = tuple(
    (rf"{_ATTENTION}/{word}/(\w+)", rf"blocks.\1.attn.qkv.{word[0]}.\2") for word in ("query", "key", "value")
)
_PATTERNS = (
    (r"cls", "cls_token"),
    (r"Transformer/posembed_input/pos_embedding", "pos_embed"),
    (r"embedding/(\w+)", r"patch_embed.proj.\1"),
    (rf"{_BLOCK}/LayerNorm_0/(\w+)", r"blocks.\1.norm1.\2"),
    (rf"{_BLOCK}/LayerNorm_[12]/(\w+)", r"blocks.\1.norm2.\2"),
    *_QUERY_KEY_VALUE,
    (rf"{_ATTENTION}/out/(\w+)", r"blocks.\1.attn.proj.\2"),
    (rf"{_BLOCK}/MlpBlock_\d+/Dense_0/(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (rf"{_BLOCK}/MlpBlock_\d+/Dense_1/(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"Transformer/encoder_norm/(\w+)", r"norm.\1"),
    (r"(?:pre_logits)/(\w+)", r"head.pre_logits.\1"),
    (r"head/(\w+)", r"head.\1"),
)
_IMAGE_KERNEL_NDIM = 4


def _matches(state: Mapping[str, Tensor]) -> bool:
    return "embedding/kernel" in state and "Transformer/encoder_norm/scale" in state


def _rename(state: Mapping[str, Tensor]) -> State:
    shaped = {name: _to_torch_layout(name, tensor) for name, tensor in state.items()}
    renamed = rename_by_patterns(shaped, _PATTERNS)
    return fuse_qkv({_rename_parameter(name): tensor for name, tensor in renamed.items()})


def _to_torch_layout(name: str, tensor: Tensor) -> Tensor:
    parent, _, parameter = name.rpartition("/")
    if parameter == "bias":
        return tensor.reshape(-1)  # (heads, width of a head) in an attention
    if parameter != "kernel":
        return tensor
    if tensor.ndim == _IMAGE_KERNEL_NDIM:
        return tensor.permute(3, 2, 0, 1).contiguous()
    if parent.endswith("/out"):  # (heads, width of a head, D)
        return tensor.reshape(-1, tensor.shape[-1]).T.contiguous()
    return tensor.reshape(tensor.shape[0], -1).T.contiguous()


def _rename_parameter(name: str) -> str:
    head, _, parameter = name.rpartition(".")
    return f"{head}.weight" if parameter in ("kernel", "scale") else name


JAX_VIT = KeyStyle(name="the JAX ViT", matches=_matches, rename=_rename)
