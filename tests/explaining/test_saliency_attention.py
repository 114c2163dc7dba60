"""Rollout and attention x gradient beside plain matrix products of attention that is computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from saliency_subjects import NAMES, Pooled, draw_images, open_timm_vit, wrap
from torchvision.models import VisionTransformer

from praxiscope.errors import UsageError
from praxiscope.explaining.saliency.attention import expose_attention
from praxiscope.explaining.saliency.compute import compute_maps


def run_by_hand(module, batch):
    """A plain ViT's forward pass with its attention written out: logits, and each layer's attention."""
    layers = []
    tokens = module.norm_pre(module.patch_drop(module._pos_embed(module.patch_embed(batch))))
    for block in module.blocks:
        attn = block.attn
        read = block.norm1(tokens)
        shape = (*read.shape[:2], 3, attn.num_heads, -1)
        query, key, value = attn.qkv(read).reshape(shape).permute(2, 0, 3, 1, 4)
        scores = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-1)
        layers.append(scores)
        mixed = attn.proj((scores @ value).transpose(1, 2).reshape(read.shape))
        tokens = tokens + block.ls1(mixed)
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
    return module.forward_head(module.norm(tokens)), layers


def test_rollout_is_the_product_of_the_attention_matrices():
    subject = open_timm_vit()
    images = draw_images(3, 160)
    with torch.no_grad():
        logits, layers = run_by_hand(subject.module, subject.prepare(images))
    np.testing.assert_allclose(logits.numpy(), subject.compute_logits(images), atol=1e-5)
    expected = torch.eye(101)
    for attention in layers:
        expected = (0.5 * attention.mean(dim=1) + 0.5 * torch.eye(101)) @ expected
    found = compute_maps(subject, "rollout", images, np.zeros(3, int))
    np.testing.assert_allclose(found.coarse, expected[:, 0, 1:].reshape(3, 10, 10), rtol=1e-5)
    assert found.layer is None
    assert found.maps.shape == (3, 160, 160)


def test_attention_gradient_is_the_matrix_recursion_of_the_paper():
    subject = open_timm_vit()
    images, targets = draw_images(2, 160), np.array([1, 3])
    logits, layers = run_by_hand(subject.module, subject.prepare(images))
    score = logits[torch.arange(2), torch.from_numpy(targets)].sum()
    relevance = torch.eye(101).repeat(2, 1, 1)
    for attention, gradient in zip(layers, torch.autograd.grad(score, layers), strict=True):
        relevance = relevance + (attention * gradient).clamp(min=0).mean(dim=1) @ relevance
    found = compute_maps(subject, "attention-gradient", images, targets)
    expected = relevance[:, 0, 1:].detach().reshape(2, 10, 10)
    np.testing.assert_allclose(found.coarse, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
    other = compute_maps(subject, "attention-gradient", images, np.array([2, 0]))
    assert not np.allclose(found.coarse, other.coarse, rtol=0.1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"reg_tokens": 4},
        {"global_pool": "avg"},
        {"global_pool": "avg", "class_token": False},
        {"init_values": 1e-5, "global_pool": "avg", "class_token": False},
    ],
)
def test_class_tokens_registers_and_pooled_tokens_are_left_out(arguments):
    subject = open_timm_vit(**arguments)
    images, targets = draw_images(2, 160), np.array([0, 1])
    for method in ("gradcam", "rollout", "attention-gradient"):
        found = compute_maps(subject, method, images, targets)
        assert found.coarse.shape == (2, 10, 10)
        assert found.coarse.max() > 0
    assert compute_maps(subject, "gradcam", images, targets).layer == "blocks.5.norm1"


def test_of_pooled_tokens_each_patch_is_read_alike():
    subject = open_timm_vit(global_pool="avg", class_token=False)
    images = draw_images(1, 160)
    with torch.no_grad():
        _, layers = run_by_hand(subject.module, subject.prepare(images))
    product = torch.eye(100)
    for attention in layers:
        product = (0.5 * attention.mean(dim=1) + 0.5 * torch.eye(100)) @ product
    found = compute_maps(subject, "rollout", images, np.zeros(1, int))
    np.testing.assert_allclose(found.coarse, product.mean(dim=1).reshape(1, 10, 10), rtol=1e-5)


def build_torchvision_vit():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VisionTransformer(
            image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
            num_classes=len(NAMES),
        ).eval()  # fmt: skip


@pytest.mark.parametrize(
    "build",
    [lambda: timm.create_model("test_vit").eval(), lambda: timm.create_model("eva02_tiny_patch14_224", img_size=56).eval(), build_torchvision_vit],
    ids=["timm", "eva", "torchvision"],
)  # fmt: skip
def test_exposed_attention_gives_what_fused_attention_gives(build):
    module = build()
    if any(hasattr(part, "fused_attn") for part in module.modules()):
        assert any(getattr(part, "fused_attn", False) for part in module.modules())
    size = {"Eva": 56, "VisionTransformer": 160}[type(module).__name__]
    batch = torch.randn(2, 3, 32 if "torchvision" in type(module).__module__ else size, size)
    batch = batch[..., : batch.shape[2]]
    layers = []
    with torch.no_grad():
        fused = module(batch)
        with expose_attention(module, layers.append):
            exposed = module(batch)
    assert (fused - exposed).abs().max() < 1e-5
    assert len(layers) in {3, 6, 12}
    for attention in layers:
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(attention.shape[:-1]))


def test_torchvisions_transformer_is_explained_by_all_methods():
    subject = wrap(build_torchvision_vit(), family="vit", img_size=32)
    images, targets = draw_images(2, 32), np.array([0, 1])
    # torchvision starts its head at zero: no class would depend on anything.
    torch.nn.init.normal_(subject.module.heads.head.weight, generator=torch.Generator().manual_seed(0))
    for method in ("gradcam", "rollout", "attention-gradient"):
        found = compute_maps(subject, method, images, targets)
        assert found.coarse.shape == (2, 4, 4)
        assert found.coarse.max() > 0
    assert compute_maps(subject, "gradcam", images, targets).layer == "encoder.layers.encoder_layer_2.ln_1"


def test_fused_attention_is_on_again_after_an_exception():
    subject = open_timm_vit()
    before = [part.fused_attn for part in subject.module.modules() if hasattr(part, "fused_attn")]
    assert all(before)

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = subject.module.blocks[3].register_forward_hook(interrupt)
    for method in ("rollout", "attention-gradient"):
        with pytest.raises(KeyboardInterrupt):
            compute_maps(subject, method, draw_images(1, 160), np.array([0]))
    handle.remove()
    assert [part.fused_attn for part in subject.module.modules() if hasattr(part, "fused_attn")] == before
    assert not any(part._forward_hooks for part in subject.module.modules())
    compute_maps(subject, "rollout", draw_images(1, 160), np.array([0]))


def test_a_network_without_attention_has_no_rollout():
    subject = wrap(Pooled(), family="vit")
    for method in ("rollout", "attention-gradient"):
        with pytest.raises(UsageError, match=r"attention from all tokens to all tokens; Pooled has none"):
            compute_maps(subject, method, draw_images(1, 8), np.array([0]))


def test_behind_the_last_attention_a_map_would_be_empty_and_is_refused():
    subject = open_timm_vit()
    with pytest.raises(UsageError, match="Behind 'norm' only the class token decides"):
        compute_maps(subject, "gradcam", draw_images(1, 160), np.array([0]), layer="norm")
