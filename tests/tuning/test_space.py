"""``--space``: what may be written, what is refused, and what becomes of it."""

from __future__ import annotations

import itertools

import pytest

from praxiscope.errors import UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.stats.selection import expected_maximum, standard_error
from praxiscope.tuning.plan import StudyPlan, check_pruner, check_sampler, settle_trials
from praxiscope.tuning.space import Dimension, apply_proposal, list_combinations, parse_space


@pytest.fixture
def recipe():
    return load_recipe("demo-cnn")


def test_ranges_and_lists_are_read(recipe):
    lr, depth, width, opt = parse_space(
        ["lr=loguniform(1e-5, 1e-3)", "freeze_depth=int(0,3)", "batch_size=logint(8,64)", "train.opt=adamw,sgd"],
        recipe,
    )  # fmt: skip
    assert (lr.key, lr.kind, lr.low, lr.high, lr.log) == ("train.lr", "float", 1e-5, 1e-3, True)
    assert (depth.key, depth.kind, depth.size) == ("model.freeze_depth", "int", 4)
    assert (width.key, width.log) == ("train.batch_size", True)
    assert opt.choices == ("adamw", "sgd")


def test_names_are_those_of_trains_flags(recipe):
    words = [
        "drop-path=0,0.1",
        "ema=0.9,0.99",
        "augmentation=none,standard",
        "num_frames=4,8",
        "amp=fp32,bf16",
    ]
    keys = [dimension.key for dimension in parse_space(words, recipe)]
    assert keys == [
        "model.drop_path_rate", "train.ema_decay", "augment.preset", "model.num_frames", "train.precision",
    ]  # fmt: skip


def test_lists_in_a_list_stay_whole(recipe):
    (freeze,) = parse_space(["freeze=[backbone],[],[layer1,layer2]"], recipe)
    assert [freeze.read(choice) for choice in freeze.choices] == [["backbone"], [], ["layer1", "layer2"]]
    changed = apply_proposal(recipe, (freeze,), {"model.freeze": "[backbone]"})
    assert changed.model.freeze == ("backbone",)


def test_combinations_are_the_product(recipe):
    space = parse_space(["opt=adamw,sgd", "freeze_depth=int(1,3)"], recipe)
    combinations = list_combinations(space)
    assert [tuple(each.values()) for each in combinations] == list(
        itertools.product(["adamw", "sgd"], [1, 2, 3])
    )


def test_values_that_go_together_are_allowed_though_not_alone(recipe):
    """Five epochs of warm-up don't fit the recipe's own few epochs, but they fit others that are searched."""
    few = load_recipe(recipe.model_dump(mode="json"), {"train.epochs": 3, "train.warmup_epochs": 0})
    space = parse_space(["epochs=3,10", "warmup_epochs=0,5"], few)
    with pytest.raises(
        UsageError, match=r"train.epochs=3 train.warmup_epochs=5 can't be trained: .*must be below"
    ):
        apply_proposal(few, space, {"train.epochs": "3", "train.warmup_epochs": "5"})


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lr", r"--space 'lr': write key=values"),
        ("lr=loguniform(0,1)", r"a logarithm needs numbers above 0; the lower one is 0"),
        ("lr=loguniform(1e-3,1e-5)", r"the first number must be below the second"),
        ("lr=loguniform(1e-3)", r"give the smallest and the largest value"),
        ("lr=loguniform(a,b)", r"give the smallest and the largest value"),
        ("lr=logunifrm(1,2)", r"there is no 'logunifrm'. Did you mean 'loguniform'\?"),
        ("batch_size=int(1.5,3)", r"int and logint take whole numbers"),
        ("opt=adamw", r"that is one value, or one is empty.*--set train.opt"),
        ("opt=adamw,,sgd", r"that is one value, or one is empty"),
        ("opt=sgd,sgd", r"'sgd' is listed twice"),
        ("lrr=1,2", r"no recipe key 'lrr'. Did you mean 'lr'\?"),
        ("train.lrr=1,2", r"no recipe key 'train.lrr'. Did you mean 'train.lr'\?"),
        ("seed=1,2,3", r"can't search seed: the best of several seeds is luck"),
        ("data.val_fraction=0.1,0.2", r"trials must be compared on the same samples"),
        ("train.monitor=val/top1,val/loss", r"--metric"),
        ("lr=uniform(-1,1)", r"train.lr=uniform\(-1,1\): -1.0 can't be trained: train.lr is -1.0"),
        ("batch_size=16,many", r"batch_size=16,many: many can't be trained: train.batch_size is 'many'"),
        ("temporal=mean,gruu", r"Did you mean 'gru'"),
    ],
)
def test_every_slip_is_told(recipe, word, message):
    with pytest.raises(UsageError, match=message):
        parse_space([word], recipe)


def test_a_space_is_needed_and_a_key_once(recipe):
    with pytest.raises(UsageError, match=r"which keys, and which values"):
        parse_space([], recipe)
    with pytest.raises(UsageError, match=r"gives train.lr twice"):
        parse_space(["lr=1e-3,1e-4", "train.lr=uniform(0.1,0.2)"], recipe)


def test_a_grid_needs_lists_and_no_more_trials_than_it_has(recipe):
    endless = parse_space(["lr=uniform(0.1,0.2)"], recipe)
    with pytest.raises(UsageError, match=r"endlessly many values. Write a list, such as lr=0.1,0.2"):
        check_sampler("grid", endless, None)
    finite = parse_space(["opt=adamw,sgd", "lr=1e-3,1e-4"], recipe)
    assert settle_trials(None, check_sampler("grid", finite, None), finite) == 4
    assert settle_trials(99, "grid", finite) == 4
    assert settle_trials(None, "tpe", finite) == 20
    assert check_sampler("tpe", finite, None) == "grid"  # nothing twice
    assert check_sampler("random", finite, 3) == "random"
    assert check_sampler("tpe", endless, None) == "tpe"
    large = parse_space(["lr=1e-3,1e-4", "img_size=int(16,1024)"], recipe)
    with pytest.raises(UsageError, match=r"there are 2,018 combinations. Say how many with --trials"):
        settle_trials(None, "grid", large)


def test_unknown_words_are_refused(recipe):
    with pytest.raises(UsageError, match=r"--sampler is 'tpr'; choose tpe, random, grid. Did you mean 'tpe'"):
        check_sampler("tpr", (), None)
    with pytest.raises(UsageError, match=r"--pruner is 'mean'; choose median, hyperband, none"):
        check_pruner("mean")
    with pytest.raises(UsageError, match="--trials is 0"):
        settle_trials(0, "tpe", ())


def test_a_plan_comes_back_from_its_file(recipe):
    plan = StudyPlan(
        name="s", recipe=recipe, space=parse_space(["lr=1e-3,1e-4", "epochs=3,7"], recipe), data="/d",
        metric="val/top1", mode="max", trials=3, sampler="grid", pruner="none", seed=4,
    )  # fmt: skip
    assert StudyPlan.from_dict(plan.to_dict()) == plan
    assert plan.epochs == 7
    assert isinstance(plan.space[0], Dimension)


def test_the_largest_of_normal_numbers():
    """Order statistics as tabled by Harter (1961), table 1."""
    assert expected_maximum(1) == 0
    for count, tabled in ((2, 0.56419), (5, 1.16296), (10, 1.53875), (20, 1.86748), (100, 2.50759)):
        assert expected_maximum(count) == pytest.approx(tabled, abs=1e-5)
    with pytest.raises(ValueError, match="count is 0"):
        expected_maximum(0)
    assert standard_error(0.5, 96) == 0.05
