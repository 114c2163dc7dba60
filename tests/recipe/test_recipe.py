"""Recipes: what loads, what is refused, and whether the refusal says what to type."""

from __future__ import annotations

import pytest

from praxiscope.errors import UsageError
from praxiscope.recipe.load import (
    compute_recipe_differences,
    compute_recipe_fingerprint,
    compute_saved_fingerprint,
    dump_recipe,
    list_defaults,
    list_keys,
    list_recipes,
    load_recipe,
    parse_yaml,
    read_recipe_text,
)

BUILT_IN = ("demo-cnn", "demo-vit", "har-efficientnet-lite0", "har-resnet18", "har-vit-b16")


def test_the_promised_recipes_are_built_in():
    assert set(BUILT_IN) <= set(list_recipes())


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_built_in_recipe_says_where_it_comes_from_and_loads(name):
    text = read_recipe_text(name)
    for word in ("# Source", "# Command", "# Published", "# Here", "# Time"):
        assert word in text
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description


def test_har_recipes_are_as_published():
    resnet, vit = load_recipe("har-resnet18"), load_recipe("har-vit-b16")
    for recipe, batch_size, lr in ((resnet, 64, 1e-3), (vit, 32, 5e-5)):
        assert (recipe.train.batch_size, recipe.train.lr, recipe.train.epochs) == (batch_size, lr, 15)
        assert (recipe.train.opt, recipe.train.schedule, recipe.train.precision) == (
            "adamw",
            "cosine",
            "fp16",
        )
        assert (recipe.augment.policy, recipe.model.img_size, recipe.model.pretrained) == (
            "autoaugment",
            224,
            True,
        )
        assert recipe.train.monitor == "val/top1"


def test_set_wins_over_the_file_and_reads_exponents_without_a_dot():
    recipe = load_recipe(
        "har-vit-b16", ["train.lr=3e-5", "train.epochs=2", "model.freeze=[blocks.0, cls_token]"]
    )
    assert recipe.train.lr == 3e-5
    assert recipe.train.epochs == 2
    assert recipe.model.freeze == ("blocks.0", "cls_token")


def test_a_saved_recipe_loads_as_the_same_recipe(tmp_path):
    recipe = load_recipe("har-efficientnet-lite0", ["seed=7"])
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    again = load_recipe(path)
    assert again == recipe
    assert (
        compute_recipe_fingerprint(again)
        == compute_recipe_fingerprint(recipe)
        == compute_saved_fingerprint(path)
    )
    path.write_text(dump_recipe(recipe).replace("seed: 7", "seed: 8"), encoding="utf-8")
    assert compute_saved_fingerprint(path) != compute_recipe_fingerprint(recipe)
    assert compute_recipe_fingerprint(load_recipe("har-efficientnet-lite0")) != compute_recipe_fingerprint(
        recipe
    )


def test_extends_merges_one_level_and_refuses_two(tmp_path):
    child = tmp_path / "child.yaml"
    child.write_text("extends: har-resnet18\nname: mine\ntrain: {epochs: 3}\n", encoding="utf-8")
    recipe = load_recipe(child)
    assert (recipe.name, recipe.train.epochs, recipe.train.batch_size) == ("mine", 3, 64)
    grandchild = tmp_path / "grandchild.yaml"
    grandchild.write_text(f"extends: {child}\nname: deeper\n", encoding="utf-8")
    with pytest.raises(UsageError, match="one level is allowed"):
        load_recipe(grandchild)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("lr=1", "Did you mean 'train.lr'"),
        ("train.lrr=1", "Did you mean 'train.lr'"),
        ("train.schedule=cosin", "Did you mean 'cosine'"),
        ("train.lr=-1", "train.lr is -1: input should be greater than 0"),
        ("loader.workers=-4", "loader.workers is -4: input should be greater than or equal to 0, or 'auto'."),
        ("train.lr=.nan", "finite"),
        ("train.epochs=many", "train.epochs is 'many'"),
        ("train.epochs=0", "greater than or equal to 1"),
        ("train.monitor=val/acc", "choose one of val/loss"),
        ("train.warmup_epochs=15", "or shorten it: --warmup-epochs 0"),
        ("augment.crop_scale=[1, 0.5]", "0 < low <= high"),
        ("nonsense", "section.key=value"),
        ("train.lr=[1", "not valid YAML"),
        ("name=../../etc", "name is '../../etc'"),
        ("data.source=floder", "Did you mean 'folder'"),
    ],
)
def test_a_slip_is_refused_with_what_to_type(override, expected):
    with pytest.raises(UsageError) as caught:
        load_recipe("har-resnet18", [override])
    assert expected in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_unknown_sections_and_recipes_are_refused_by_name():
    with pytest.raises(UsageError, match="Did you mean 'model'"):
        load_recipe({"name": "a", "modle": {}})
    with pytest.raises(UsageError, match="Did you mean 'har-vit-b16'"):
        load_recipe("har-vit")
    with pytest.raises(UsageError, match="does not exist"):
        load_recipe("absent.yaml")
    with pytest.raises(UsageError, match="'name' is missing"):
        load_recipe({"train": {}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "given twice \\(line 2\\)"),
        ("train:\n  lr: 1\n  lr: 2\n", "given twice \\(line 3\\)"),
        ("a: !!python/object/apply:os.system ['echo']\n", "not valid YAML"),
        ("a: [1\n", "not valid YAML"),
        ("- just\n- a list\n", "a recipe is a mapping"),
    ],
)
def test_yaml_is_safe_and_strict(text, expected, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=expected):
        load_recipe(path)


def test_numbers_without_a_dot_are_numbers_and_words_stay_words():
    parsed = parse_yaml("{a: 1e-3, b: 5E2, c: 1e, d: 12, e: '1e-3'}", origin="here")
    assert parsed == {"a": 1e-3, "b": 500.0, "c": "1e", "d": 12, "e": "1e-3"}


def test_a_huge_recipe_file_is_refused(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_text("#" * 2_000_000, encoding="utf-8")
    with pytest.raises(UsageError, match="at most"):
        load_recipe(path)


def test_differences_name_each_key():
    old = load_recipe("har-resnet18")
    new = load_recipe("har-resnet18", ["train.lr=0.5", "augment.policy=none"])
    assert compute_recipe_differences(old, new) == [
        "augment.policy: autoaugment -> none",
        "train.lr: 0.001 -> 0.5",
    ]


def test_every_key_has_a_default_and_documentation():
    from praxiscope.recipe.schema import Recipe

    assert list_defaults().keys() == {key for key in list_keys() if key != "name"}
    for section in (field.annotation for field in Recipe.model_fields.values()):
        for name, field in getattr(section, "model_fields", {}).items():
            assert field.description, f"{section.__name__}.{name} has no docstring"


def test_a_recipe_is_frozen():
    recipe = load_recipe("demo-cnn")
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.lr = 1.0
