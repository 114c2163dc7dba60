"""Every use of a layer is a layer; the chosen ones are those that a person would choose."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from praxiscope.errors import UsageError
from praxiscope.explaining.layers import choose_layers, find_backbone_end, find_layer, list_layers
from praxiscope.models.build import build_model
from praxiscope.models.layer_uses import LayerUse, watch_layers
from praxiscope.recipe.schema import ModelSection


class SharedRelu(nn.Module):
    """One in-place ReLU behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(6, 2)

    def forward(self, images):
        maps = self.relu(self.conv2(self.relu(self.conv1(images))))
        return self.fc(self.drop(maps.mean((2, 3))))


def names_of(uses):
    return [use.name for use in uses]


def chosen(module, family, side=64, **more):
    uses = list_layers(module, torch.zeros(1, 3, side, side))
    return names_of(choose_layers(uses, family, **more)), uses


def test_two_uses_of_one_relu_are_two_layers_with_their_own_outputs():
    network = SharedRelu().eval()
    images = torch.randn(2, 3, 8, 8)
    uses = list_layers(network, images)
    assert names_of(uses) == ["conv1", "relu", "conv2", "relu#2", "fc"]
    found = {}
    with watch_layers(network, uses, lambda use, out: found.__setitem__(use.name, out.detach().clone())):
        network(images)
    first = torch.relu(network.conv1(images))
    assert torch.equal(found["relu"], first)
    assert torch.equal(found["relu#2"], torch.relu(network.conv2(first)))
    assert [find_layer(uses, name).shape for name in ("relu", "relu#2")] == [(4, 8, 8), (6, 4, 4)]
    # The convolution's tensor, overwritten in place, isn't mistaken for the ReLU's.
    assert find_layer(uses, "relu").same_as is None


def test_listing_leaves_the_network_as_it_was():
    network = SharedRelu().train()
    list_layers(network, torch.zeros(1, 3, 8, 8))
    assert all(part.training for part in network.modules())
    assert not any(part._forward_hooks for part in network.modules())


def test_hooks_go_even_when_the_forward_pass_fails():
    network = SharedRelu()
    with pytest.raises(RuntimeError):
        list_layers(network, torch.zeros(1, 5, 8, 8))
    assert not any(part._forward_hooks for part in network.modules())


@pytest.mark.parametrize(
    ("name", "expected", "end"),
    [
        ("resnet18", ["act1", "layer1", "layer2", "layer3", "layer4"], "layer4"),
        (
            "tf_efficientnet_lite0",
            ["bn1.act", "blocks.0", "blocks.1", "blocks.4", "blocks.6", "bn2.act"],
            "bn2.act",
        ),
        ("convnext_atto", ["stem", "stages.0", "stages.1", "stages.2", "stages.3"], "stages.3"),
    ],
)
def test_well_chosen_layers_of_cnns(name, expected, end):
    names, uses = chosen(timm.create_model(name, num_classes=3), "cnn")
    assert names == expected
    assert find_backbone_end(uses).name == end


def test_well_chosen_layers_of_torchvision():
    names, _ = chosen(torchvision.models.resnet18(num_classes=3), "cnn")
    assert names == ["relu", "layer1", "layer2", "layer3", "layer4"]
    names, uses = chosen(
        torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=3), "vit", side=32
    )
    assert names[:3] == ["conv_proj", "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"]
    block = find_layer(uses, "encoder.layers.encoder_layer_1")
    assert (block.layout, block.grid, block.prefix_tokens, block.channels) == ("tokens", (4, 4), 1, 16)
    assert not find_layer(uses, "heads.head").is_backbone


def test_well_chosen_layers_of_a_vit_stand_at_even_distances():
    module = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=3, embed_dim=48)
    names, uses = chosen(module, "vit")
    assert names == ["patch_embed.proj", "blocks.2", "blocks.5", "blocks.8", "blocks.11", "norm"]
    assert find_layer(uses, "norm").grid == (4, 4)
    assert chosen(module, "vit", count=2)[0] == ["patch_embed.proj", "norm"]


def test_the_conv_head_is_shown_behind_the_end_of_the_backbone():
    section = ModelSection(name="tf_efficientnet_lite0", head="conv")
    module = build_model(section, num_classes=3, seed=0).module
    names, uses = chosen(module, "cnn")
    assert names[-3:] == ["bn2.act", "classifier.act1", "classifier.act2"]
    assert len(names) == 6
    assert [find_layer(uses, name).is_backbone for name in names[-3:]] == [True, False, False]


def test_a_network_without_blocks_shows_its_activations():
    layers = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
    ]
    network = nn.Sequential(nn.Sequential(*layers, nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(16, 2))
    names, _ = chosen(network, "cnn", side=8)
    assert names[:2] == ["0.1", "0.4"]


def test_token_maps_keep_the_place_of_patches():
    module = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=3, embed_dim=48)
    uses = list_layers(module, torch.zeros(1, 3, 64, 64))
    tokens = torch.zeros(1, 17, 48)
    tokens[0, 1 + 2 * 4 + 3, 7] = 1.0  # row 2, column 3
    maps = find_layer(uses, "blocks.0").to_maps(tokens)
    assert maps.shape == (1, 48, 4, 4)
    assert maps.nonzero().tolist() == [[0, 7, 2, 3]]


def test_swin_maps_have_their_channels_last():
    module = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=3,
        img_size=64,
        window_size=2,
        depths=(1, 1, 1, 1),
        embed_dim=24,
    )
    uses = list_layers(module, torch.zeros(1, 3, 64, 64))
    last = find_backbone_end(uses)
    assert (last.layout, last.grid, last.channels) == ("map-last", (2, 2), 192)
    assert last.to_maps(torch.zeros(5, 2, 2, 192)).shape == (5, 192, 2, 2)


def test_unknown_layers_are_refused_with_the_nearest():
    uses = list_layers(SharedRelu(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(UsageError, match=r"no layer 'conv3'\. Did you mean 'conv\d'\? Among its 5 layers"):
        find_layer(uses, "conv3")
    with pytest.raises(UsageError, match=r"'relu#3': that layer is used 2 times; choose of relu, relu#2\."):
        find_layer(uses, "relu#3")


def test_a_network_without_maps_is_refused():
    uses = list_layers(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), torch.zeros(1, 3, 2, 2))
    assert find_backbone_end(uses) is None
    with pytest.raises(UsageError, match="No layer of this network puts out a map"):
        choose_layers(uses, "other")


def test_a_vector_has_no_map():
    use = list_layers(SharedRelu(), torch.zeros(1, 3, 8, 8))[-1]
    with pytest.raises(ValueError, match="'fc' puts out"):
        use.to_maps(torch.zeros(1, 2))


def test_units_of_an_output_without_a_known_layout_are_on_its_last_axis():
    """Windows x tokens x features: as many units as ``channels`` says, or dead ones would be miscounted."""
    use = LayerUse(
        name="act", module_name="act", call=1, kind="act", function="ReLU", shape=(2, 3, 4, 5), layout="other",
        grid=None, volume=None, prefix_tokens=0, is_backbone=True, same_as=None,
    )  # fmt: skip
    output = torch.rand(6, 2, 3, 4, 5)
    units = use.to_units(output)
    assert units.shape == (6, use.channels, 24)
    torch.testing.assert_close(units[:, 3].flatten(), output[..., 3].flatten())
