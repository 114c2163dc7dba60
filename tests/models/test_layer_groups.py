"""Freezing by depth and layer-wise learning rates count the same groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from praxiscope.errors import UsageError
from praxiscope.models.build import build_model
from praxiscope.models.freeze import assert_frozen_unchanged, fingerprint_frozen, freeze
from praxiscope.models.groups import list_layer_groups
from praxiscope.models.state import is_under
from praxiscope.recipe.schema import ModelSection, TrainSection
from praxiscope.training.optim import build_optimizer, list_parameter_names

KWARGS = {
    "resnet50": {"layers": (1, 2, 1, 1)},
    "vit_small_patch16_224": {"depth": 3, "embed_dim": 48, "num_heads": 2},
    "vgg11_bn": {"mlp_ratio": 0.01},
}
# Groups from the input to the last before the head, as they should be; a stage of one block goes by its own name.
GROUPS = {
    "resnet50": ("conv1, bn1", "layer1", "layer2.0", "layer2.1", "layer3", "layer4"),
    "vit_small_patch16_224": ("cls_token, pos_embed, patch_embed", "blocks.0", "blocks.1", "blocks.2, norm"),
    "tf_efficientnet_lite0": (
        "conv_stem, bn1", "blocks.0", "blocks.1.0", "blocks.1.1", "blocks.2.0", "blocks.2.1", "blocks.3.0",
        "blocks.3.1", "blocks.3.2", "blocks.4.0", "blocks.4.1", "blocks.4.2", "blocks.5.0", "blocks.5.1",
        "blocks.5.2", "blocks.5.3", "blocks.6, conv_head, bn2",
    ),
    "vgg11_bn": tuple(
        f"features.{n}" for n in (0, 1, 4, 5, 8, 9, 11, 12, 15, 16, 18, 19, 22, 23, 25, 26)
    ),
}  # fmt: skip
WITH_HEAD = [
    (name, head)
    for name in GROUPS
    for head in ("linear", "mlp", "conv")
    if "vit" not in name or head != "conv"
]


def _build(name: str, **fields: object) -> nn.Module:
    section = {"name": name, "img_size": 32, "kwargs": KWARGS.get(name, {}), "head_hidden": 8, **fields}
    return build_model(ModelSection.model_validate(section), num_classes=4, seed=0).module


def _scales(module: nn.Module, layer_decay: float) -> dict[str, float]:
    optimizer = build_optimizer(TrainSection(layer_decay=layer_decay), module)
    scales = [group["lr_scale"] for group in optimizer.param_groups for _ in group["params"]]
    return dict(zip(list_parameter_names(optimizer, module), scales, strict=True))


@pytest.mark.parametrize(("name", "head"), WITH_HEAD)
def test_each_group_has_its_rate_and_the_head_the_full_one(name: str, head: str) -> None:
    module = _build(name, head=head)
    groups = list_layer_groups(module)
    assert tuple(group.name for group in groups[:-1]) == GROUPS[name]
    scales = _scales(module, 0.7)
    assert scales.keys() == dict(module.named_parameters()).keys()
    for height, group in enumerate(reversed(groups)):
        assert [scales[name] for name in group.parameters] == pytest.approx(
            [0.7**height] * len(group.parameters)
        )
    prefixes = ("pre_logits", "head") if "vgg" in name else ("fc", "head", "classifier")
    assert {scale for parameter, scale in scales.items() if is_under(parameter, prefixes)} == {1.0}


@pytest.mark.parametrize(("name", "head"), WITH_HEAD)
def test_frozen_groups_are_not_the_optimisers(name: str, head: str) -> None:
    module = _build(name, head=head, freeze_depth=3)
    frozen = {parameter for group in list_layer_groups(module)[:3] for parameter in group.parameters}
    for decay in (1.0, 0.7):
        optimizer = build_optimizer(TrainSection(layer_decay=decay), module)
        assert set(list_parameter_names(optimizer, module)) == dict(module.named_parameters()).keys() - frozen


@pytest.mark.parametrize("name", GROUPS)
def test_groups_frozen_by_depth_dont_move_and_the_next_does(name: str) -> None:
    module = _build(name, drop_rate=0.1)
    report = freeze(module, depth=2)
    assert report.groups == GROUPS[name][:2]
    assert report.patterns == ()
    assert f"group 1 ({GROUPS[name][0]}), group 2 ({GROUPS[name][1]})" in str(report)
    before = fingerprint_frozen(module)
    start = {key: value.clone() for key, value in module.state_dict().items()}
    images = torch.randn(4, 3, 32, 32) * 2 + 1
    for _ in range(2):
        module.train()
        cross_entropy(module(images), torch.arange(4)).backward()
        torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.05).step()
    assert_frozen_unchanged(module, before)
    moved = {key for key, value in module.state_dict().items() if not torch.equal(value, start[key])}
    groups = list_layer_groups(module)
    assert moved & set(groups[2].parameters)
    roots = tuple(part for name in report.groups for part in name.split(", "))
    assert not any(is_under(key, roots) for key in moved)  # BatchNorm statistics too
    assert report.num_frozen == sum(module.get_parameter(p).numel() for g in groups[:2] for p in g.parameters)


def test_dropout_before_a_frozen_block_is_off_and_behind_it_on() -> None:
    kwargs = {**KWARGS["vit_small_patch16_224"], "pos_drop_rate": 0.5, "proj_drop_rate": 0.5}
    module = _build("vit_small_patch16_224", kwargs=kwargs, freeze_depth=2).train()
    assert not module.pos_drop.training
    assert not module.blocks[0].mlp.drop1.training
    assert module.blocks[1].mlp.drop1.training


def test_depth_and_names_freeze_together() -> None:
    module = _build("resnet50")
    report = freeze(module, ("layer4",), depth=1)
    frozen = {name.split(".")[0] for name, p in module.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer4"}
    assert str(report).endswith("are frozen: layer4, group 1 (conv1, bn1)")


def test_more_groups_than_there_are_is_refused_with_their_number() -> None:
    assert _build("resnet50", freeze_depth=6).fc.weight.requires_grad
    with pytest.raises(
        UsageError,
        match=r"freeze_depth is 7; ResNet has 6 layer groups before its head \(conv1, bn1 \.\.\. layer4\)",
    ):
        _build("resnet50", freeze_depth=7)


def test_a_network_whose_order_nobody_knows_says_so() -> None:
    with pytest.raises(
        UsageError, match=r"timm knows no order of the layers of Linear.*model\.freeze instead"
    ):
        list_layer_groups(nn.Linear(2, 2))
