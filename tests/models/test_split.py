"""A frozen network cut in two computes what it computed whole, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from praxiscope.errors import IntegrityError, UsageError
from praxiscope.models.build import build_model
from praxiscope.models.split import split_frozen
from praxiscope.recipe.schema import ModelSection

SLIM = {"channels": (8, 8, 8, 16), "stem_width": 8}


def _frozen(name: str = "demo-cnn", **fields: object) -> nn.Module:
    kwargs = {"demo-cnn": SLIM, "vit-ti16": {"depth": 2, "embed_dim": 24, "num_heads": 2}}.get(name, {})
    section = {"name": name, "freeze": ("backbone",), "head_hidden": 8, "kwargs": kwargs, **fields}
    return build_model(ModelSection.model_validate(section), num_classes=5, seed=0).module


ARCHITECTURES = [
    ("demo-cnn", "linear"), ("demo-cnn", "mlp"), ("demo-cnn", "conv"),
    ("tf_efficientnet_lite0", "linear"), ("tf_efficientnet_lite0", "conv"),
    ("vit-ti16", "linear"), ("vit-ti16", "mlp"),
    ("convnext_atto", "linear"), ("convnext_atto", "conv"), ("mobilenetv3_small_050", "linear"),
    ("regnety_002", "linear"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "head"), ARCHITECTURES)
def test_two_parts_equal_the_whole_in_both_modes(name: str, head: str) -> None:
    module = _frozen(
        name, head=head, img_size=64, drop_rate=0.4, drop_path_rate=0.2 if "vit" in name else 0.0
    )
    split = split_frozen(module)
    images = torch.randn(3, 3, 64, 64)
    module.train()
    split.head.train()
    features = split.features(images)
    assert split.kind == ("map" if head == "conv" else "vector")
    assert features.ndim == (4 if head == "conv" else 2)
    torch.manual_seed(3)
    whole = module(images)
    torch.manual_seed(3)
    assert torch.equal(split.head(features), whole)
    assert not torch.equal(split.head(features), whole)  # another draw of dropout
    split.check(images)
    module.eval()
    assert torch.equal(split.head.eval()(features), module(images))


def test_features_leave_modes_as_they_were_and_keep_no_graph() -> None:
    module = _frozen(head="conv")
    split = split_frozen(module.train())
    before = {name: part.training for name, part in module.named_modules()}
    statistics = module.fc.bn1.running_mean.clone()
    features = split.features(torch.randn(2, 3, 64, 64))
    split.check(torch.randn(2, 3, 64, 64))
    assert {name: part.training for name, part in module.named_modules()} == before
    assert split.head.training
    assert not features.requires_grad
    assert torch.equal(module.fc.bn1.running_mean, statistics)


def test_training_the_head_alone_trains_the_networks_head() -> None:
    """The same gradients as through the whole network, and the layers are shared."""
    module = _frozen(head="conv").train()
    split = split_frozen(module)
    images, targets = torch.randn(4, 3, 64, 64), torch.arange(4)
    cross_entropy(module(images), targets).backward()
    expected = {name: p.grad.clone() for name, p in module.fc.named_parameters() if p.grad is not None}
    module.zero_grad()
    cross_entropy(split.head(split.features(images)), targets).backward()
    assert all(torch.equal(p.grad, expected[name]) for name, p in module.fc.named_parameters())  # type: ignore[arg-type]
    assert split.head.classifier is module.fc
    assert split.classifier_prefix == "fc"


def test_a_wrapped_network_is_cut_inside() -> None:
    module = _frozen()
    split = split_frozen(torch.nn.DataParallel(module))
    assert split.module is module


def test_all_layers_before_the_head_frozen_by_depth_will_do() -> None:
    module = _frozen(freeze=(), freeze_depth=5)
    split_frozen(module).check(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"freeze": ()}, r"all before the head is frozen; \d+ parts train \(conv1\.0\.weight, .* \.\.\.\)"),
        ({"freeze": (), "freeze_depth": 4}, r"parts train \(layer4\.0\.conv1\.weight"),
        ({"freeze": ("layer1",)}, r"Set model\.freeze to \[backbone\], or features\.views to 0"),
    ],
)
def test_parts_that_train_before_the_head_are_named(fields: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        split_frozen(_frozen(**fields))


def test_batch_statistics_that_would_move_are_named() -> None:
    module = _frozen(freeze=())
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))
    with pytest.raises(UsageError, match=r"\.running_mean, "):
        split_frozen(module)


def test_a_network_with_two_heads_is_refused() -> None:
    kwargs = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    module = _frozen("deit_tiny_distilled_patch16_224", img_size=32, kwargs=kwargs)
    with pytest.raises(UsageError, match=r"has no single linear, mlp or conv head \(head, head_dist\)"):
        split_frozen(module)


@pytest.mark.parametrize("fault", ["dropout", "shift"])
def test_a_cut_that_loses_something_is_caught(fault: str) -> None:
    module = _frozen(drop_rate=0.3)
    split = split_frozen(module)
    if fault == "dropout":
        split.head.drop.p = 0.2
    else:
        module.fc.register_forward_pre_hook(lambda layer, given: (given[0] + 1,))
        plain = module.forward
        module.forward = lambda images: plain(images) + 1  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="ResNet does more between its features and its head"):
        split.check(torch.randn(2, 3, 64, 64))
