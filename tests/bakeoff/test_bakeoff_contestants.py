"""What can be typed: budgets, models, recipes; each slip has its message."""

from __future__ import annotations

import pytest

from praxiscope.errors import UsageError
from praxiscope.recipe.load import compute_recipe_differences, dump_recipe, load_recipe
from praxiscope.tournament.budget import BudgetClock, format_time, parse_budget
from praxiscope.tournament.contestants import choose_contestants

TINY = ("test_resnet", "test_vit", "test_efficientnet")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60m", 3600),
        ("2h", 7200),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("0.5h", 1800),
        ("3MIN", 180),
    ],
)
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize(
    "text", ["60", "", "0m", "m", "1h30", "30m1h", "-5m", "1d", "an hour", "1e3s", "nan"]
)
def test_what_is_no_budget(text):
    with pytest.raises(UsageError, match=r"write hours, minutes and seconds .* 60m, 2h, 90s or 1h30m"):
        parse_budget(text)


def test_the_clock_counts_what_was_spent_before():
    now = iter([100.0, 130.0, 160.0])
    clock = BudgetClock(spent_s=50.0, now=lambda: next(now))
    assert (clock.spent_s, clock.spent_s) == (80.0, 110.0)
    assert format_time(clock_s := 3725.0) == "1 h 02 min"
    assert format_time(-clock_s) == "0 s"


def test_the_same_recipe_is_the_same_but_for_the_model():
    first, *others = choose_contestants(TINY, overrides={"model.img_size": 32, "train.lr": 0.01})
    assert [first.name, *(each.name for each in others)] == list(TINY)
    for other in others:
        differences = compute_recipe_differences(first.recipe, other.recipe)
        assert {line.partition(":")[0] for line in differences} == {"name", "model.name"}
        assert other.recipe.train.lr == 0.01
    assert first.recipe.data.seed == first.recipe.seed == 0, "splits don't follow the finalists' seeds"


def test_the_same_recipe_can_be_a_built_in_one():
    chosen = choose_contestants(["resnet18", "vit-b16"], recipe="demo-cnn", overrides={"seed": 7})
    assert [each.recipe.model.name for each in chosen] == ["resnet18", "vit-b16"]
    assert [each.name for each in chosen] == ["resnet18", "vit_base_patch16_224"]
    base = load_recipe("demo-cnn")
    for each in chosen:
        assert each.recipe.train == base.train
        assert each.recipe.data.seed == 7


def test_the_best_recipe_of_a_model_by_its_name_or_the_recipes(tmp_path):
    mine = tmp_path / "mine.yaml"
    recipe = load_recipe({"name": "mine", "model": {"name": "test_vit"}, "data": {"val_fraction": 0.3}})
    mine.write_text(dump_recipe(recipe), encoding="utf-8")
    chosen = choose_contestants(
        ["resnet18-small-half", "demo-vit", str(mine)], mode="best-recipe", overrides={"seed": 3}
    )
    assert [each.name for each in chosen] == ["fashion-mnist-resnet18", "demo-vit", "mine"]
    assert chosen[0].recipe.train.lr == load_recipe("fashion-mnist-resnet18").train.lr
    assert all(each.recipe.data == chosen[0].recipe.data for each in chosen), "the same samples for all"
    assert {each.recipe.data.val_fraction for each in chosen} == {0.1}
    assert {each.recipe.seed for each in chosen} == {3}


def test_recipes_that_monitor_different_figures_are_judged_by_one(tmp_path):
    names = []
    for monitor in ("val/loss", "val/macro_f1"):
        name = monitor.replace("/", "-").replace("_", "-")
        path = tmp_path / f"{name}.yaml"
        content = {"name": name, "model": {"name": "test_vit"}, "train": {"monitor": monitor}}
        path.write_text(dump_recipe(load_recipe(content)), encoding="utf-8")
        names.append(str(path))
    chosen = choose_contestants(names, mode="best-recipe")
    assert {(each.recipe.train.monitor, each.recipe.train.monitor_mode) for each in chosen} == {
        ("val/top1", "max")
    }


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (["resnet18", "resnet81"], {}, r"No model is called 'resnet81'. Did you mean 'resnet18'\?"),
        (["resnet18"], {}, "at least two models, --models gives only resnet18"),
        ([], {}, "at least two models, --models gives none"),
        (["vit-b16", "vit_base_patch16_224"], {}, "names vit_base_patch16_224 more than once"),
        (TINY, {"mode": "same"}, r"--mode 'same': choose one of same-recipe, best-recipe. Did you mean 'same-recipe'"),
        (TINY, {"recipe": "har-resnet81"}, r"No recipe is called 'har-resnet81'.*Did you mean 'har-resnet18'"),
        (TINY, {"recipe": "demo-cnn", "mode": "best-recipe"}, "is for --mode same-recipe; with best-recipe, name"),
        (TINY, {"overrides": {"model.name": "resnet18"}}, "named with --models"),
        (TINY, {"overrides": {"train.leaning": 1}}, "There is no recipe key 'train.leaning'"),
        (TINY, {"mode": "best-recipe"}, "--models test_resnet: no built-in recipe trains it"),
        (["vit-b16", "demo-cnn"], {"mode": "best-recipe"}, "built-in recipes train it. Name the one .* har-vit-b16"),
        (["demo-cnm", "demo-vit"], {"mode": "best-recipe"}, r"Nor is there a recipe 'demo-cnm'. Did you mean 'demo-cnn'"),
        (["har-clip-probe", "demo-cnn"], {"mode": "best-recipe"}, "har-clip-probe: the recipe caches features"),
    ],
)  # fmt: skip
def test_every_slip_has_its_message(models, options, message):
    with pytest.raises(UsageError, match=message):
        choose_contestants(models, **options)
