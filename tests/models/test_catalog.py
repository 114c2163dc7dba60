"""The catalogue: names that users type, and the truth of what the cards say."""

import subprocess
import sys

import pytest
import torch

from praxiscope.errors import UsageError
from praxiscope.models.build import build_model
from praxiscope.models.catalog import CARDS, ModelCard, find_card, find_timm_config, list_names
from praxiscope.recipe.schema import ModelSection

BY_NAME = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


@pytest.mark.parametrize(
    ("given", "timm_name"),
    [
        ("resnet18", "resnet18"),
        ("vit-b16", "vit_base_patch16_224"),
        ("efficientnet-lite0", "tf_efficientnet_lite0"),
        ("demo-vit", "vit_tiny_patch16_224"),
        ("vgg16", "vgg16"),
        ("resnet50", "resnet50"),
        ("vit_b_16", "vit_base_patch16_224"),
        ("vit_scratch", "vit_small_patch16_224"),
        ("mobilenetv3_small_050", "mobilenetv3_small_050"),
        ("vit_small_patch16_224.augreg_in21k", "vit_small_patch16_224.augreg_in21k"),
    ],
)
def test_names_aliases_and_any_timm_name_are_found(given: str, timm_name: str) -> None:
    assert find_card(given).timm_name == timm_name


def test_no_two_cards_share_a_name() -> None:
    assert len(set(list_names())) == len(list_names())


@pytest.mark.parametrize(
    ("given", "suggested"),
    [("resnet81", "resnet18"), ("vit-b61", "vit-b16"), ("efficientnet-lite9", "efficientnet-lite0")],
)
def test_unknown_name_suggests_the_closest(given: str, suggested: str) -> None:
    with pytest.raises(UsageError, match=f"No model is called '{given}'. Did you mean '{suggested}'?"):
        find_card(given)


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp/model", "timm/resnet18", ""]
)
def test_names_that_would_fetch_or_read_files_are_no_models(name: str) -> None:
    with pytest.raises(UsageError, match="No model is called"):
        find_card(name)


def test_unknown_tag_lists_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"no weights tag 'resnet18\.a1_in2k'.*Did you mean 'resnet18\.a1_in1k'"
    ):
        find_card("resnet18.a1_in2k")


@pytest.mark.parametrize(
    ("name", "family"),
    [("convnext_tiny", "cnn"), ("deit_tiny_patch16_224", "vit"), ("swin_tiny_patch4_window7_224", "other")],
)
def test_family_of_a_name_without_a_card(name: str, family: str) -> None:
    assert find_card(name).family == family


@BY_NAME
def test_card_states_the_networks_parameters(card: ModelCard) -> None:
    with torch.device("meta"):  # shapes only
        built = build_model(
            ModelSection(name=card.name), num_classes=15 if card.name.startswith("demo") else 1000, seed=0
        )
    assert card.params_m == pytest.approx(built.num_parameters / 1e6, abs=0.005)


@pytest.mark.parametrize("card", [c for c in CARDS if c.pretrained], ids=lambda card: card.name)
def test_card_states_the_input_that_the_published_weights_expect(card: ModelCard) -> None:
    config = find_timm_config(card.timm_name)
    assert card.img_size == config.input_size[1]
    assert (card.interpolation, card.crop_pct) == (config.interpolation, config.crop_pct)
    # Lite0's own (x - 127) / 128 differs from timm's rounding by half a grey level.
    assert card.mean == pytest.approx(config.mean, abs=0.51 / 255)
    assert card.std == pytest.approx(config.std, abs=0.51 / 255)


def test_lite0_normalises_as_it_was_trained() -> None:
    card = find_card("efficientnet-lite0")
    grey = torch.arange(256.0)
    assert torch.allclose((grey / 255 - card.mean[0]) / card.std[0], (grey - 127) / 128, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["vit_base_patch32_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai", "resnet50_clip"],
)
def test_clip_towers_get_the_input_that_clip_was_trained_with(name: str) -> None:
    """Radford et al. 2021: mean and deviation of its own 400 million images."""
    card = find_card(name)
    assert card.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert card.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))
    assert (card.img_size, card.interpolation) == (224, "bicubic")


def test_catalogue_lists_without_importing_torch() -> None:
    code = (
        "import sys; from praxiscope.models.catalog import find_card, list_names; list_names(); "
        "find_card('vit-b16'); sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
