"""A recipe's model section becomes the network that it names, the same one for the same seed."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from praxiscope.errors import UsageError
from praxiscope.models.build import build_model, rebuild_model
from praxiscope.models.state import compute_weights_sha256
from praxiscope.recipe.schema import ModelSection

TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def _sha256(section: ModelSection, seed: int, num_classes: int = 4) -> str:
    return compute_weights_sha256(
        build_model(section, num_classes=num_classes, seed=seed).module.state_dict()
    )


@pytest.mark.parametrize("name", ["demo-cnn", "demo-vit", "tf_efficientnet_lite0"])
def test_seed_decides_every_weight(name: str) -> None:
    section = ModelSection(name=name)
    torch.manual_seed(1)
    first = _sha256(section, seed=5)
    torch.manual_seed(2)
    assert _sha256(section, seed=5) == first
    assert _sha256(section, seed=6) != first


def test_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    build_model(ModelSection(name="demo-vit"), num_classes=4, seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_dropout_and_stochastic_depth_reach_the_network() -> None:
    built = build_model(
        ModelSection(name="demo-vit", drop_rate=0.3, drop_path_rate=0.2), num_classes=4, seed=0
    )
    assert built.module.head_drop.p == 0.3
    assert built.module.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)


def test_input_of_a_fixed_size_network_follows_the_recipe() -> None:
    built = build_model(ModelSection(name="vit-ti16", img_size=48, kwargs=TINY_VIT), num_classes=4, seed=0)
    assert built.img_size == 48
    assert built.module.pos_embed.shape == (1, 10, 24)
    assert built.module(torch.zeros(1, 3, 48, 48)).shape == (1, 4)
    assert (built.mean, built.std, built.crop_pct) == ((0.5,) * 3, (0.5,) * 3, 0.9)


def test_recipe_without_a_size_gets_the_networks_own() -> None:
    assert build_model(ModelSection(name="demo-cnn"), num_classes=4, seed=0).img_size == 64
    assert build_model(ModelSection(name="demo-vit"), num_classes=4, seed=0).module.pos_embed.shape[1] == 65


@pytest.mark.parametrize("name", ["demo-cnn", "demo-vit"])
def test_timm_alone_can_build_the_same_network(name: str) -> None:
    """What an exported folder needs: its configuration, read by timm without this package."""
    built = build_model(ModelSection(name=name), num_classes=4, seed=0)
    alone = timm.create_model(built.card.timm_name, num_classes=4, **built.timm_kwargs)
    alone.load_state_dict(built.module.state_dict(), strict=True)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"name": "resnet99"}, "No model is called 'resnet99'"),
        (
            {"name": "vit-ti16", "img_size": 50},
            "model.img_size 50 isn't a multiple of the 16-px patches of 'vit-ti16'. Give 48 or 64",
        ),
        ({"name": "vgg11", "drop_path_rate": 0.1}, "'vgg11' can't be built with .*drop_path_rate"),
        ({"name": "demo-cnn", "kwargs": {"no_such": 1}}, "'demo-cnn' can't be built with .*no_such"),
        (
            {"name": "demo-cnn", "kwargs": {"checkpoint_path": "x.pth"}},
            "model.kwargs can't hold checkpoint_path",
        ),
        ({"name": "demo-cnn", "kwargs": {"pretrained": True}}, "model.kwargs can't hold pretrained"),
        ({"name": "demo-cnn", "kwargs": {"num_classes": 3}}, "model.kwargs can't hold num_classes"),
        ({"name": "demo-cnn", "weights": "absent.pth"}, "There is no weights file 'absent.pth'"),
        ({"name": "demo-cnn", "freeze": ("blocks",)}, "freeze: the network has no part 'blocks'"),
    ],
    ids=lambda value: None if isinstance(value, str) else value["name"],
)
def test_impossible_sections_say_what_is_wrong(section: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        build_model(ModelSection(**section), num_classes=4, seed=0)


def test_no_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="num_classes is 0"):
        build_model(ModelSection(name="demo-cnn"), num_classes=0, seed=0)


def test_weights_path_wins_over_pretrained_and_the_head_is_new(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    donor = build_model(ModelSection(name="demo-cnn"), num_classes=4, seed=1).module.state_dict()
    save_file(donor, path)
    section = ModelSection(name="demo-cnn", weights=str(path), pretrained=True)
    built = build_model(section, num_classes=4, seed=0)
    assert built.loaded is not None
    assert (built.loaded.source, built.loaded.path) == ("file", path)
    state = built.module.state_dict()
    assert torch.equal(state["layer1.0.conv1.weight"], donor["layer1.0.conv1.weight"])
    assert not torch.equal(state["fc.weight"], donor["fc.weight"])


def test_a_run_is_rebuilt_without_the_weights_it_started_from(tmp_path: Path) -> None:
    """Its checkpoint holds everything; neither the published file nor the user's may be needed again."""
    own = build_model(ModelSection(name="demo-cnn"), num_classes=4, seed=1).module.state_dict()
    save_file(own, tmp_path / "last.safetensors")
    section = ModelSection(name="demo-cnn", pretrained=True, weights="gone.pth", freeze=("backbone",))
    again = rebuild_model(section, num_classes=4, weights=tmp_path / "last.safetensors")
    assert compute_weights_sha256(again.module.state_dict()) == compute_weights_sha256(own)
    assert again.frozen is not None
    assert again.frozen.num_trainable == 4 * 256 + 4
