"""Arithmetic and activations, against published figures and sums by hand."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from praxiscope.models.cost import count_activations, count_compute


def build_without_weights(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize(("name", "gmacs"), [("resnet18", 1.814), ("vit_base_patch16_224", 17.6)])
def test_published_figures_are_multiply_accumulates(name, gmacs):
    found = count_compute(build_without_weights(name), img_size=224)
    assert found.gmacs == pytest.approx(gmacs, rel=0.01)
    assert found.gflops == 2 * found.gmacs


def test_fused_attention_is_counted():
    fused = timm.create_model("vit_tiny_patch16_224")
    assert fused.blocks[0].attn.fused_attn
    found = count_compute(fused, img_size=224).gmacs
    for block in fused.blocks:
        block.attn.fused_attn = False
    assert found == pytest.approx(count_compute(fused, img_size=224).gmacs, rel=1e-9)


def test_activations_of_resnet18_are_the_published_2_48_million():
    assert count_activations(build_without_weights("resnet18"), img_size=224) / 1e6 == pytest.approx(
        2.48, rel=0.005
    )


def test_activations_of_a_vit_are_the_sum_over_its_layers():
    tokens, width, depth = 197, 192, 12
    patches = 196 * width
    block = tokens * (3 * width + width + width + 4 * width + width)  # qkv, attention, projection, MLP
    expected = patches + depth * block + 1000
    assert count_activations(timm.create_model("vit_tiny_patch16_224"), img_size=224) == expected


def test_counting_leaves_mode_and_weights_alone():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert count_activations(module, img_size=8) == 4 * 6 * 6
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
