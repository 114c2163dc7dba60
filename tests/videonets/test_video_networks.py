"""torchvision's video networks: built, loaded strictly, frozen, grouped and counted like all others."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torchvision.models import get_model, get_model_weights

from praxiscope.data.manifest import Manifest
from praxiscope.errors import IntegrityError, UsageError, WeightsMissing
from praxiscope.models.build import build_model, rebuild_model
from praxiscope.models.catalog import find_card, list_names
from praxiscope.models.cost import count_compute
from praxiscope.models.freeze import fingerprint_frozen
from praxiscope.models.groups import list_layer_groups
from praxiscope.models.layer_uses import list_layers, watch_layers
from praxiscope.models.split import split_frozen
from praxiscope.models.temporal import find_num_frames
from praxiscope.models.video_cards import VIDEO_CARDS
from praxiscope.models.weights import WeightsMismatch
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import ModelSection, TrainSection
from praxiscope.training.optim import build_optimizer
from praxiscope.workflows.train import settle_frames

NAMES = [card.name for card in VIDEO_CARDS]
QUICK = ("mc3_18", "s3d", "mvit_v2_s", "swin3d_t")
"""One of each kind of names, the smallest."""
SMALL = {"name": "mc3_18", "img_size": 32, "num_frames": 4}
EACH = pytest.mark.parametrize("card", VIDEO_CARDS, ids=NAMES)


@EACH
def test_cards_say_what_the_published_weights_say(card):
    weights = get_model_weights(card.name).DEFAULT
    preset = weights.transforms()
    assert card.mean == tuple(preset.mean)
    assert card.std == tuple(preset.std)
    assert [card.img_size] * 2 == list(preset.crop_size)
    assert card.interpolation == preset.interpolation.value
    assert card.img_size / card.crop_pct == min(preset.resize_size)
    assert card.params_m == pytest.approx(weights.meta["num_params"] / 1e6, abs=0.006)


@pytest.mark.parametrize(
    ("name", "frames", "side"), [("mc3_18", 4, 32), ("s3d", 13, 209), ("swin3d_t", 4, 32)]
)
def test_a_clip_gives_logits(name, frames, side):
    module = build_model(
        ModelSection(name=name, num_frames=frames, img_size=side), num_classes=3, seed=0
    ).module
    assert find_num_frames(module) == frames
    clips = torch.rand(1, frames, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert module.eval()(clips).shape == (1, 3)


@pytest.mark.parametrize("name", ["mc3_18", "swin3d_t"])
def test_the_order_of_frames_is_seen(name):
    module = build_model(
        ModelSection(name=name, num_frames=4, img_size=32), num_classes=3, seed=0
    ).module.eval()
    clips = torch.rand(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (module(clips) - module(clips.flip(1))).abs().max() > 1e-4


def test_the_axes_are_put_as_torchvision_wants_them():
    built = build_model(ModelSection(**SMALL), num_classes=5, seed=0)
    theirs = get_model("mc3_18", weights=None, num_classes=5)
    theirs.load_state_dict(built.module.state_dict(), strict=True)
    clips = torch.rand(2, 4, 3, 32, 32)
    with torch.no_grad():
        ours, expected = built.module.eval()(clips), theirs.eval()(clips.permute(0, 2, 1, 3, 4))
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("mc3_18", 43.343),
        pytest.param("r3d_18", 40.697, marks=pytest.mark.soak),
        pytest.param("r2plus1d_18", 40.519, marks=pytest.mark.soak),
    ],
)
def test_counted_arithmetic_is_the_published(name, gmacs):
    module = build_model(ModelSection(name=name), num_classes=400, seed=0).module
    assert count_compute(module, img_size=find_card(name).img_size).gmacs == pytest.approx(gmacs, abs=0.001)


@pytest.mark.parametrize(
    "card", [card for card in VIDEO_CARDS if card.name in QUICK], ids=lambda card: card.name
)
def test_every_published_name_loads_and_the_head_stays_new(card, tmp_path):
    published = get_model(card.name, weights=None, num_classes=400).state_dict()
    torch.save(published, tmp_path / "published.pth")
    built = build_model(
        ModelSection(name=card.name, weights=str(tmp_path / "published.pth")), num_classes=3, seed=0
    )
    head = [name for name in published if name.startswith(built.classifier_prefixes[0])]
    assert built.loaded.num_loaded == len(published) - len(head)
    assert set(built.loaded.head_ignored) == set(head)
    assert built.loaded.sha256 == hashlib.sha256((tmp_path / "published.pth").read_bytes()).hexdigest()
    own = built.module.state_dict()
    assert all(torch.equal(own[name], published[name]) for name in published if name not in head)


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in NAMES if name not in QUICK])
def test_every_published_name_of_the_others_loads(name, tmp_path):
    test_every_published_name_loads_and_the_head_stays_new(find_card(name), tmp_path)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(get_model("s3d", weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsMismatch, match="don't belong to this network"):
        build_model(ModelSection(**SMALL, weights=str(tmp_path / "other.pth")), num_classes=3, seed=0)


def test_missing_weights_are_named_with_their_address(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        WeightsMissing, match=r"Fetch https://\S+/mc3_18-a90a0ba3.pth and put it into .*checkpoints"
    ):
        build_model(ModelSection(**SMALL, pretrained=True), num_classes=3, seed=0)


def test_a_file_under_the_published_name_is_held_to_its_sha256(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(get_model("mc3_18", weights=None).state_dict(), folder / "mc3_18-a90a0ba3.pth")
    with pytest.raises(IntegrityError, match="its publisher says a90a0ba3"):
        build_model(ModelSection(**SMALL, pretrained=True), num_classes=3, seed=0)


def test_a_checkpoint_rebuilds_the_network(tmp_path):
    asked = ModelSection(**SMALL, drop_rate=0.3)
    built = build_model(asked, num_classes=3, seed=0)
    torch.save(built.module.state_dict(), tmp_path / "own.pth")
    again = rebuild_model(asked, num_classes=3, weights=tmp_path / "own.pth").module.eval()
    clips = torch.rand(1, 4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(clips), built.module.eval()(clips))


@pytest.mark.parametrize("name", ["mc3_18", "swin3d_t", "s3d", "mvit_v2_s"])
def test_dropout_stands_before_the_classifier(name):
    module = build_model(ModelSection(name=name, drop_rate=0.3), num_classes=3, seed=0).module
    dropouts = [part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)]
    assert dropouts[-1] == 0.3
    plain = build_model(ModelSection(name=name), num_classes=3, seed=0).module
    assert {part.p for part in plain.modules() if isinstance(part, torch.nn.Dropout)} <= {0.0}


def test_stochastic_depth_rises_to_its_rate():
    module = build_model(ModelSection(name="swin3d_t", drop_path_rate=0.2), num_classes=3, seed=0).module
    rates = [part.p for part in module.modules() if type(part).__name__ == "StochasticDepth"]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.2)
    assert rates == sorted(rates)


@pytest.mark.parametrize(
    ("name", "groups"), [("r3d_18", 10), ("s3d", 13), ("mvit_v1_b", 18), ("swin3d_t", 17)]
)
def test_layers_are_grouped_from_input_to_head(name, groups):
    module = build_model(ModelSection(name=name, freeze_depth=2), num_classes=3, seed=0).module
    listed = list_layer_groups(module)
    assert len(listed) == groups
    assert sum(len(group.parameters) for group in listed) == len(list(module.parameters()))
    assert listed[-1].name in {"fc", "classifier", "head"}
    assert fingerprint_frozen(module)
    optimizer = build_optimizer(TrainSection(layer_decay=0.5), module)
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert max(scales) == 1.0
    assert len(scales) > 2


@pytest.mark.parametrize(
    ("asked", "spared"),
    [
        ({"name": "mvit_v2_s"}, {"rel_pos_h", "rel_pos_w", "rel_pos_t"}),
        ({"name": "swin3d_t", "num_frames": 4, "img_size": 32}, {"relative_position_bias_table"}),
        ({"name": "resnet18-small-half", "num_frames": 4, "temporal": "transformer"}, {"place", "token"}),
        ({"name": "vit_tiny_patch16_224", "num_frames": 4, "temporal": "attention"},
         {"place", "pos_embed", "cls_token"}),
        ({"name": "mc3_18"}, set()),
    ],
    ids=["mvit", "swin3d", "transformer", "attention", "mc3"],
)  # fmt: skip
def test_learned_places_are_not_decayed(asked, spared):
    module = build_model(ModelSection(**asked), num_classes=3, seed=0).module
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for layer_decay in (1.0, 0.7):
        optimizer = build_optimizer(TrainSection(weight_decay=0.05, layer_decay=layer_decay), module)
        free = {
            names[id(parameter)].rpartition(".")[2]
            for group in optimizer.param_groups if group["weight_decay"] == 0
            for parameter in group["params"] if parameter.ndim > 1
        }  # fmt: skip
        assert free == spared


@pytest.mark.parametrize(("name", "last"), [("mc3_18", "layer4.1"), ("swin3d_t", "norm")])
def test_a_unit_of_a_3d_layer_is_a_channel(name, last):
    module = build_model(ModelSection(name=name, num_frames=4, img_size=64), num_classes=3, seed=0).module
    clips = torch.rand(1, 4, 3, 64, 64)
    uses = {use.name: use for use in list_layers(module, clips)}
    width = module.get_submodule("fc" if name == "mc3_18" else "head").in_features
    assert uses[last].channels == width
    found = {}
    with torch.no_grad(), watch_layers(module, [uses[last]], lambda use, out: found.update({use: out})):
        module(clips)
    units = uses[last].to_units(found[uses[last]])
    assert units.shape[:2] == (1, width)
    axis = 1 if name == "mc3_18" else -1
    assert torch.equal(units[0, 7].sort().values, found[uses[last]].select(axis, 7).flatten().sort().values)


def test_a_frozen_backbone_leaves_the_head():
    built = build_model(ModelSection(**SMALL, freeze=("backbone",)), num_classes=3, seed=0)
    assert [name for name, p in built.module.named_parameters() if p.requires_grad] == [
        "fc.weight",
        "fc.bias",
    ]
    with pytest.raises(UsageError, match="a video network has no features of single frames"):
        split_frozen(built.module)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal": "gru"}, "model.temporal is 'gru', which joins the frames of a network of images"),
        ({"shift_div": 8}, "model.shift_div is 8"),
        ({"head": "mlp"}, "model.head is 'mlp'"),
        ({"kwargs": {"depth": 3}}, "model.kwargs are arguments of timm.create_model"),
        ({"drop_path_rate": 0.1}, "mc3_18 has no stochastic depth"),
        ({"name": "mvit_v2_s", "num_frames": 8}, "takes 16 frames of 224 px only; model.num_frames is 8"),
        ({"name": "mvit_v2_s", "num_frames": 16, "img_size": 112}, "takes 16 frames of 224 px only"),
        ({"name": "s3d", "num_frames": 8, "img_size": 224}, "num_frames is 8; s3d needs at least 13"),
        ({"name": "s3d", "num_frames": 16, "img_size": 112}, "img_size is 112; s3d needs at least 209"),
    ],
)
def test_what_a_video_network_has_no_place_for_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        build_model(ModelSection(**{**SMALL, **changes}), num_classes=3, seed=0)


def test_a_misspelt_name_finds_a_video_network():
    assert {"r3d_18", "swin3d_b"} <= set(list_names())
    with pytest.raises(UsageError, match="r2plus1d_18"):
        find_card("r2plus1d18")


class _Held:
    """As much of a manifest as settling the frames looks at."""

    def __init__(self, *, clips: bool) -> None:
        self.holds_clips, self.root = clips, "data"


def settle(model, *, clips=True, **train) -> int:
    manifest: Manifest = _Held(clips=clips)  # type: ignore[assignment]
    return settle_frames(
        load_recipe({"name": "x", "model": model, "train": train}), manifest
    ).model.num_frames


def test_frames_default_to_the_networks_own():
    assert settle({"name": "r3d_18"}) == 16
    assert settle({"name": "swin3d_t"}) == 32
    assert settle({"name": "resnet18"}) == 8
    assert settle({"name": "r3d_18", "num_frames": 4}) == 4


def test_a_video_network_on_images_is_refused():
    with pytest.raises(UsageError, match="r3d_18 is a video network, but data holds images"):
        settle({"name": "r3d_18"}, clips=False)


def test_channels_last_of_a_video_network_is_refused():
    with pytest.raises(UsageError, match=r"train.channels_last is true, which is for images"):
        settle({"name": "r3d_18"}, channels_last=True)
