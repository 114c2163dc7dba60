"""Presets: one word in YAML and on the flag, explicit keys win, and a saved recipe stays what it is."""

from __future__ import annotations

import pytest
import yaml

from praxiscope.errors import UsageError
from praxiscope.recipe.load import (
    compute_recipe_fingerprint,
    compute_saved_fingerprint,
    dump_recipe,
    load_recipe,
)
from praxiscope.recipe.presets import PRESETS
from praxiscope.recipe.schema import AugmentSection

NAMES = [preset.name for preset in PRESETS]
PUBLISHED = {  # (paper's) settings that a user of the word expects, listed independently
    "standard": {"crop_scale": (0.08, 1.0), "hflip": 0.5, "cutmix": 0, "policy": "none", "repeats": 1},
    "cutmix": {"crop_scale": (0.08, 1.0), "hflip": 0.5, "cutmix": 1.0, "mixup": 0, "mix_prob": 1.0},
    "mixup": {"mixup": 0.2, "cutmix": 0},
    "cutmix-mixup": {"mixup": 0.8, "cutmix": 1.0},
    "autoaugment": {"policy": "autoaugment", "hflip": 0.5},
    "randaugment": {"policy": "randaugment", "num_ops": 2, "magnitude": 9},
    "trivialaugment": {"policy": "trivialaugment"},
    "rsb": {"policy": "randaugment", "magnitude": 21, "op_prob": 0.5, "mixup": 0.1, "cutmix": 1.0, "repeats": 3},
    "cifar": {"crop_padding": 4, "hflip": 0.5, "cutmix": 0},
    "cifar-cutmix": {"crop_padding": 4, "hflip": 0.5, "cutmix": 1.0, "mix_prob": 0.5},
    "none": {"crop_scale": (1, 1), "crop_ratio": (1, 1), "hflip": 0},
    "light": {"crop_scale": (0.7, 1.0), "hflip": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_preset_is_what_was_published(name):
    section = load_recipe({"name": "a", "augment": name}).augment
    assert section.preset == name
    assert {key: getattr(section, key) for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_word_means_the_same_everywhere(name, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: a\naugment: {name}\n", encoding="utf-8")
    expected = load_recipe({"name": "a", "augment": {"preset": name}})
    assert load_recipe(path) == expected
    assert load_recipe({"name": "a"}, {"augment.preset": name}) == expected
    assert load_recipe({"name": "a"}, [f"augment={name}"]) == expected
    assert load_recipe({"name": "a"}, [f"augment.preset={name.upper().replace('-', '_')}"]) == expected
    assert AugmentSection(preset=name) == expected.augment


def test_keys_beside_a_preset_win():
    recipe = load_recipe({"name": "a", "augment": {"preset": "cutmix", "hflip": 0, "mixup": 0.1}})
    assert (recipe.augment.cutmix, recipe.augment.hflip, recipe.augment.mixup) == (1.0, 0, 0.1)
    recipe = load_recipe({"name": "a", "augment": "cutmix"}, {"augment.cutmix": 0.3})
    assert (recipe.augment.preset, recipe.augment.cutmix) == ("cutmix", 0.3)


@pytest.mark.parametrize("order", [1, -1])
def test_a_preset_on_the_command_line_takes_the_recipes_augmentation_away(order):
    """Whatever the order of the words: the preset first, then what stands beside it."""
    overrides = ["augment.preset=cutmix", "augment.color_jitter=0.2"][::order]
    recipe = load_recipe({"name": "a", "augment": {"policy": "autoaugment", "hflip": 0}}, overrides)
    assert recipe.augment == AugmentSection(cutmix=1.0, color_jitter=0.2, preset="cutmix")
    assert load_recipe("har-resnet18", ["augment=none"]).augment.policy == "none"


def test_a_preset_of_an_extending_recipe_takes_the_bases_augmentation_away(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: har-resnet18\nname: mine\naugment: cutmix\n", encoding="utf-8")
    assert load_recipe(path).augment == AugmentSection(preset="cutmix")
    path.write_text(
        "extends: har-resnet18\nname: mine\naugment: {preset: light, mixup: 0.1}\n", encoding="utf-8"
    )
    assert load_recipe(path).augment == AugmentSection(preset="light", mixup=0.1)


def test_other_keys_of_an_extending_recipe_stand_beside_the_bases(tmp_path):
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    base.write_text("name: base\naugment: cutmix\n", encoding="utf-8")
    child.write_text(f"extends: {base.as_posix()}\nname: b\naugment: {{hflip: 0}}\n", encoding="utf-8")
    assert load_recipe(child).augment == AugmentSection(preset="cutmix", hflip=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_recipe_is_read_back_as_it_was(name, tmp_path):
    recipe = load_recipe({"name": "a", "augment": {"preset": name, "color_jitter": 0.1}})
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert compute_saved_fingerprint(path) == compute_recipe_fingerprint(recipe)
    assert dump_recipe(load_recipe(path)) == dump_recipe(recipe)


def test_a_saved_recipe_keeps_its_settings_whatever_a_preset_becomes():
    """Every key is spelled out, so the preset has nothing left to fill in."""
    content = load_recipe({"name": "a", "augment": "rsb"}).model_dump(mode="json")
    content["augment"]["preset"] = "none"
    again = load_recipe({**content, "augment": content["augment"]}).augment
    assert again.model_copy(update={"preset": "rsb"}) == AugmentSection(preset="rsb")


def test_a_recipe_saved_before_there_were_presets_loads_to_the_same_settings(tmp_path):
    saved = load_recipe("har-efficientnet-lite0").model_dump(mode="json")
    for key in ("preset", "repeats", "crop_padding", "magnitude_std", "op_prob"):
        del saved["augment"][key]
    for key in ("loss", "focal_gamma", "bce_threshold", "class_weights", "sampling", "extend"):
        del saved["train"][key]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(saved), encoding="utf-8")
    assert load_recipe(path) == load_recipe("har-efficientnet-lite0")
    before = compute_saved_fingerprint(path)
    assert before == compute_saved_fingerprint(path)
    assert before != compute_recipe_fingerprint(load_recipe(path))  # of the text as it was saved


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cutmx", "preset is 'cutmx'; choose one of standard, none, light, cutmix,"),
        ("cutmx", "Did you mean 'cutmix'?"),
        ("auto-augment", "Did you mean 'autoaugment'?"),
        (3, "preset is 3; choose one of"),
    ],
)
def test_an_unknown_preset_is_refused(given, words):
    with pytest.raises(UsageError) as caught:
        load_recipe({"name": "a", "augment": {"preset": given}})
    assert words in str(caught.value)
    with pytest.raises(UsageError, match="choose one of"):
        load_recipe("har-resnet18", {"augment.preset": given})


def test_every_preset_says_where_it_comes_from():
    assert len(set(NAMES)) == len(NAMES)
    for preset in PRESETS:
        assert preset.source.endswith(".")
        assert set(preset.settings) <= set(AugmentSection.model_fields)
