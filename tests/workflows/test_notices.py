"""What a user hears before the first step."""

from __future__ import annotations

import pytest

from class_folders import write_class_folders
from praxiscope.data.build import build_manifest
from praxiscope.models.build import build_model
from praxiscope.recipe.load import load_recipe
from praxiscope.workflows.notices import describe_surprises


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Images of 32 px, as CIFAR's, and of 240 px."""
    made = {}
    for side in (32, 240):
        root = write_class_folders(
            tmp_path_factory.mktemp(f"px{side}"), splits={"train": 4, "val": 2, "test": 2}, names=("a", "b"),
            size=side,
        )  # fmt: skip
        made[side] = build_manifest(root, load_recipe({"name": "x"}).data, seed=0)
    return made


def hear(manifest, name, **overrides):
    recipe = load_recipe({"name": "x", "model": {"name": name}}, overrides)
    section = recipe.model.model_copy(update={"pretrained": False, "weights": None})
    built = build_model(section, num_classes=2, seed=0)
    return "\n".join(describe_surprises(recipe, manifest, built))


@pytest.mark.parametrize(
    ("name", "small"),
    [("resnet18", "resnet18-small"), ("resnet50", "resnet50-small"), ("vit_tiny", "vit-scratch")],
)
def test_small_images_in_a_large_network_are_said_with_what_fits(name, small, manifests):
    said = hear(manifests[32], name)
    assert "a short side of at most 32 px" in said
    assert f"'{name}' gets 224, at 49 x the cost" in said
    assert f"--model {small} --img-size 32" in said


def test_vgg_of_either_kind_has_the_same_small_form(manifests):
    from praxiscope.models.catalog import find_card
    from praxiscope.workflows.notices import _find_small

    assert {_find_small(find_card(name)) for name in ("vgg16", "vgg16_bn")} == {"vgg16-small"}


def test_a_network_without_a_small_form_may_take_another_size(manifests):
    assert "--img-size sets another size" in hear(manifests[32], "efficientnet-lite0")


@pytest.mark.parametrize(("side", "name"), [(240, "resnet18"), (32, "resnet18-small")])
def test_images_that_fit_are_no_news(side, name, manifests):
    assert "enlarged" not in hear(manifests[side], name)


def test_published_weights_want_their_size(manifests):
    assert hear(manifests[32], "resnet18", **{"model.pretrained": True}) == ""


def test_starting_from_nothing_is_said(manifests):
    said = hear(manifests[240], "vit_tiny")
    assert "'vit_tiny' starts from random weights" in said
    assert "--pretrained, or --weights FILE" in said
    assert "Vision Transformer" in said
    assert "Vision Transformer" not in hear(manifests[240], "resnet18")
    assert hear(manifests[32], "vit-scratch", **{"model.img_size": 32}) == ""  # nobody published any


def test_a_batch_that_repeats_do_not_divide_is_said(manifests):
    said = hear(manifests[32], "resnet18-small", **{"augment.repeats": 3, "train.batch_size": 128})
    assert "a batch holds 126 samples, 42 images drawn 3 times each" in said
    assert "train.batch_size 128 is no multiple of augment.repeats" in said
    assert hear(manifests[32], "resnet18-small", **{"augment.repeats": 4, "train.batch_size": 128}) == ""


def test_classes_balanced_twice_over_are_said(manifests):
    both = {"train.sampling": "balanced", "train.class_weights": "balanced"}
    assert "they count twice over" in hear(manifests[32], "resnet18-small", **both)
    for key in both:
        assert hear(manifests[32], "resnet18-small", **{key: "balanced"}) == ""
