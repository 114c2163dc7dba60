"""Heads other than timm's: the layers that were asked for, where timm's classifier was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from praxiscope.errors import UsageError
from praxiscope.models.build import build_model, rebuild_model
from praxiscope.models.heads import ConvHead
from praxiscope.recipe.schema import ModelSection

SLIM = {"channels": (8, 8, 8, 16), "stem_width": 8}


def _conv_head_as_described(channels: int, num_classes: int) -> nn.Sequential:
    """Requirement VIS-1, word for word."""
    return nn.Sequential(
        nn.Conv2d(channels, 512, kernel_size=3, padding=1),
        nn.BatchNorm2d(512),
        nn.ReLU(),
        nn.Conv2d(512, 256, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(256, num_classes),
    )


def test_conv_head_is_the_described_one_on_a_resnet50s_last_map() -> None:
    built = build_model(
        ModelSection(name="resnet50", head="conv", freeze=("backbone",)), num_classes=15, seed=0
    )
    described = _conv_head_as_described(2048, 15)
    own = built.module.fc.state_dict()
    assert [tuple(t.shape) for t in own.values()] == [tuple(t.shape) for t in described.state_dict().values()]
    described.load_state_dict(dict(zip(described.state_dict(), own.values(), strict=True)))
    maps: list[torch.Tensor] = []
    built.module.layer4.register_forward_hook(lambda module, given, output: maps.append(output))
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        logits = built.module.eval()(images)
        assert maps[0].shape == (2, 2048, 7, 7)
        assert torch.equal(logits, described.eval()(maps[0]))
    assert built.frozen is not None
    assert built.frozen.num_trainable == sum(p.numel() for p in described.parameters())
    assert not built.module.layer4.training


def test_conv_head_draws_weights_as_torch_does() -> None:
    torch.manual_seed(3)
    ours = ConvHead(8, 4)
    torch.manual_seed(3)
    described = _conv_head_as_described(8, 4)
    pairs = zip(ours.state_dict().values(), described.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize(
    "name", ["demo-cnn", "tf_efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto", "regnety_002",
             "densenet121", "resnetv2_50", "dla34", "rexnet_100", "ghostnet_100"],
)  # fmt: skip
def test_conv_head_serves_cnns_of_all_kinds(name: str) -> None:
    built = build_model(ModelSection(name=name, head="conv"), num_classes=3, seed=0)
    images = torch.randn(2, 3, 64, 64)
    logits = built.module(images)
    assert logits.shape == (2, 3)
    assert built.module.num_classes == 3
    head = built.module.get_submodule(built.classifier_prefixes[-1])
    assert isinstance(head, ConvHead)
    assert built.module.forward_features(images).ndim == 4


def test_conv_head_of_a_vgg_takes_the_map_and_not_the_hidden_layers() -> None:
    built = build_model(
        ModelSection(name="vgg11", head="conv", kwargs={"mlp_ratio": 0.01}), num_classes=3, seed=0
    )
    assert built.module.head.fc.conv1.in_channels == 512
    assert not list(built.module.pre_logits.parameters())
    assert built.module(torch.randn(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("name", ["vit-ti16", "swin_tiny_patch4_window7_224", "mixer_s32_224"])
def test_conv_head_without_a_feature_map_is_refused(name: str) -> None:
    section = ModelSection(
        name=name,
        head="conv",
        kwargs={"depths": (1, 1)} if "swin" in name else {"depth": 1} if "vit" in name else {},
    )
    with pytest.raises(
        UsageError, match=r"model\.head is 'conv'.*gives none. Use head: mlp or linear, or a CNN"
    ):
        build_model(section, num_classes=3, seed=0)


def test_mlp_of_a_classifier_that_is_not_linear_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"the classifier of DLA \(fc\) isn't one linear layer.*head: linear"
    ):
        build_model(ModelSection(name="dla34", head="mlp"), num_classes=3, seed=0)


@pytest.mark.parametrize(("name", "width"), [("demo-cnn", 16), ("demo-vit", 96), ("convnext_atto", 320)])
def test_mlp_head_has_one_hidden_layer_over_pooled_features(name: str, width: int) -> None:
    kwargs = SLIM if name == "demo-cnn" else {}
    section = ModelSection(name=name, head="mlp", head_hidden=7, drop_rate=0.25, kwargs=kwargs)
    built = build_model(section, num_classes=3, seed=0)
    module = built.module.eval()
    first, act, drop, last = module.get_submodule(built.classifier_prefixes[0])
    assert (first.in_features, first.out_features, last.in_features, last.out_features) == (width, 7, 7, 3)
    assert drop.p == 0.25
    images = torch.randn(2, 3, built.img_size, built.img_size)
    with torch.no_grad():
        pooled = module.forward_head(module.forward_features(images), pre_logits=True)
        assert torch.equal(module(images), last(torch.relu(first(pooled))))
    assert isinstance(act, nn.ReLU)


def test_distilled_network_gets_an_mlp_for_each_of_its_heads() -> None:
    kwargs = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    section = ModelSection(
        name="deit_tiny_distilled_patch16_224", img_size=32, head="mlp", head_hidden=7, kwargs=kwargs
    )
    built = build_model(section, num_classes=3, seed=0)
    assert built.classifier_prefixes == ("head", "head_dist")
    assert [len(built.module.get_submodule(name)) for name in built.classifier_prefixes] == [4, 4]
    assert built.module(torch.randn(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("head", ["conv", "mlp"])
def test_dropout_acts_once_before_the_last_layer(head: str) -> None:
    section = ModelSection(name="demo-cnn", head=head, drop_rate=0.5, kwargs=SLIM)  # type: ignore[arg-type]
    module = build_model(section, num_classes=3, seed=0).module
    dropped = [
        (name, part.p) for name, part in module.named_modules() if isinstance(part, nn.Dropout) and part.p
    ]
    assert dropped == [("fc.drop", 0.5)]
    assert not module.drop_rate


@pytest.mark.parametrize("head", ["conv", "mlp"])
def test_only_the_last_layer_of_a_head_starts_near_zero_on_pretrained_features(
    head: str, tmp_path: Path
) -> None:
    plain = build_model(ModelSection(name="demo-cnn", kwargs=SLIM), num_classes=9, seed=1).module.state_dict()
    save_file(plain, tmp_path / "w.safetensors")
    section = ModelSection(name="demo-cnn", head=head, kwargs=SLIM)  # type: ignore[arg-type]
    scratch = build_model(section, num_classes=3, seed=0).module
    section = section.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    tuned = build_model(section, num_classes=3, seed=0)
    assert torch.equal(tuned.module.layer1[0].conv1.weight, plain["layer1.0.conv1.weight"])
    assert torch.equal(tuned.module.fc[0].weight, scratch.fc[0].weight)
    assert tuned.module.fc[-1].weight.std() < 0.02 < scratch.fc[-1].weight.std()
    assert not tuned.module.fc[-1].bias.any()
    assert tuned.loaded is not None
    assert set(tuned.loaded.head_ignored) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("head", ["conv", "mlp"])
def test_rebuilt_run_has_its_head_and_refuses_another(head: str, tmp_path: Path) -> None:
    section = ModelSection(name="demo-cnn", head=head, head_hidden=9, kwargs=SLIM)  # type: ignore[arg-type]
    built = build_model(section, num_classes=3, seed=0)
    save_file(built.module.state_dict(), tmp_path / "w.safetensors")
    again = rebuild_model(section, num_classes=3, weights=tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.module.eval()(images), built.module.eval()(images))
    with pytest.raises(Exception, match=r"2 of the network's .* missing \(fc\.bias, fc\.weight\)"):
        rebuild_model(
            ModelSection(name="demo-cnn", kwargs=SLIM), num_classes=3, weights=tmp_path / "w.safetensors"
        )


def test_seed_decides_a_heads_weights_too() -> None:
    section = ModelSection(name="demo-cnn", head="conv", kwargs=SLIM)
    first, again, other = (build_model(section, num_classes=3, seed=s).module.fc for s in (1, 1, 2))
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
