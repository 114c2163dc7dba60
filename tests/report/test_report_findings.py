"""What training shows, classes at the extremes, groups: the page says what the numbers carry."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from report_runs import ACTIONS, Plan, make_run

from html_reader import Page, read_page
from payloads import PAYLOADS
from praxiscope.evaluation.groups import read_class_groups
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.evaluation.scores import compute_metrics
from praxiscope.recipe.load import load_recipe
from praxiscope.reporting.build import build_report
from praxiscope.reporting.learning import read_conditions
from praxiscope.reporting.wording import NARROW
from praxiscope.runs.atomic import write_json
from praxiscope.runs.rundir import RunDir
from praxiscope.training.log import format_latest


def add_groups(run: RunDir, table: str) -> None:
    """Evaluate the test split again with groups."""
    path = run.path / "groups.csv"
    path.write_text(table, encoding="utf-8")
    predictions = read_predictions(run.predictions("test"))
    grouping = read_class_groups(path, predictions.names())
    metrics = compute_metrics(predictions, resamples=100, grouping=grouping)
    write_json(run.new_evaluation_dir("test") / "metrics.json", metrics)


def text_of(page: Page, section: str) -> str:
    return page.section(section).replace(NARROW, " ")


@pytest.fixture
def copied(run: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(run.path, tmp_path / "run")
    return RunDir.open(tmp_path / "run")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Page:
    run = make_run(tmp_path_factory.mktemp("grouped"), Plan(per_class=4, skill=4.0, epochs=20))
    rows = "".join(
        f"{name},{'still' if index % 2 else 'moving'}\n" for index, name in enumerate(ACTIONS[:-1])
    )
    add_groups(run, "class,kind\n" + rows)
    return read_page(build_report(run))


def test_the_page_tells_what_training_shows(grouped: Page) -> None:
    text = text_of(grouped, "learning")
    assert "What training shows" in text
    assert "its standard error on 1,260 validation samples is" in text
    assert "Overfitting set in at epoch" in text
    assert "under augmentation; validation figures are measured after it, without it" in text


def test_mixed_training_images_are_known_from_the_recipe(copied: RunDir) -> None:
    recipe = yaml.safe_load(copied.recipe.read_text(encoding="utf-8")) | {"augment": {"cutmix": 1.0}}
    copied.recipe.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    text = text_of(read_page(build_report(copied)), "learning")
    assert "Training accuracy is that of mixed images" in text
    assert "Train minus validation" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "recipe.yaml is not in this run folder: whether training images were mixed"),
        (lambda path: path.write_text("a: ["), "recipe.yaml can't be read as a recipe: whether training images"),
        (lambda path: path.write_text("name: x\nodd: 1\n"), "recipe.yaml can't be read as a recipe"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_read_is_said(copied: RunDir, change, words: str) -> None:
    change(copied.recipe)
    assert words in text_of(read_page(build_report(copied)), "learning")


def test_an_extension_is_told(copied: RunDir) -> None:
    joint = {"at_epoch": 6, "from_epochs": 6, "to_epochs": 12, "at_step": 600, "lr_before": 1e-4}
    copied.update_run_json({"extensions": [joint | {"rule": "rejoin", "time": "2026-01-05T10:00:00+00:00"}]})
    text = text_of(read_page(build_report(copied)), "learning")
    assert "The run was continued after epoch 6: best val/top1" in text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"mixed": False, "augmented": True, "dropout": False, "same_loss": True}),
        ({"augment.mixup": 0.2}, {"mixed": True}),
        ({"augment.cutmix": 1.0, "augment.mix_prob": 0.0}, {"mixed": False}),
        ({"model.drop_path_rate": 0.1}, {"dropout": True}),
        ({"train.loss": "bce"}, {"same_loss": False}),
        ({"train.smoothing": 0.1}, {"same_loss": False}),
        ({"train.class_weights": "balanced"}, {"same_loss": False}),
        ({"augment.crop_scale": [1.0, 1.0], "augment.hflip": 0.0}, {"augmented": False}),
        ({"augment.preset": "none", "augment.crop_padding": 4}, {"augmented": True}),
    ],
)
def test_conditions_follow_from_the_recipe(settings, expected) -> None:
    recipe = load_recipe({"name": "x"}, settings)
    run = {"data": {"num_train": 900, "num_val": 100}, "extensions": [{"at_epoch": 50}]}
    found = read_conditions(recipe, run)
    assert {key: getattr(found, key) for key in expected} == expected
    assert (found.num_train, found.num_val, found.extensions) == (900, 100, (50,))


def test_classes_at_the_extremes_are_named_with_what_chance_gives(tmp_path: Path) -> None:
    run = make_run(tmp_path, Plan(per_class=4, skill=4.0))
    metrics = json.loads((run.evaluations("test")[-1] / "metrics.json").read_text(encoding="utf-8"))
    text = text_of(read_page(build_report(run)), "extremes")
    assert metrics["extremes"]["perfect"]["classes"], "the test needs a perfect class"
    assert all(sentence in text for sentence in metrics["extremes"]["sentences"])
    assert all(one["name"] in text for one in metrics["extremes"]["perfect"]["classes"])
    assert "each: 4 samples, recall interval 51.0\u2013100.0 %" in text
    assert "chance alone gives" in text


def test_groups_are_shown_with_their_comparison(grouped: Page) -> None:
    text = text_of(grouped, "groups")
    assert re.search(r"moving\s+7\s+28\s+[\d.]+ %", text)
    assert re.search(r"still\s+7\s+28\s+[\d.]+ %", text)
    assert "mean class recall" in text
    assert "1 class has no group in kind and is left out: using_laptop." in text
    assert "Groups from groups.csv; bars span 0 to 100 % and show the 95 % interval (Wilson)." in text


def test_a_run_without_groups_has_no_such_section(page: Path) -> None:
    read = read_page(page)
    assert "groups" not in read.inside
    assert "extremes" in read.inside


def test_an_evaluation_from_before_these_findings_still_makes_a_page(copied: RunDir) -> None:
    path = copied.evaluations("test")[-1] / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    del metrics["extremes"], metrics["groups"]
    write_json(path, metrics)
    assert "extremes" not in read_page(build_report(copied)).inside


def test_names_of_groups_are_text_and_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path, Plan(per_class=3))
    quoted = ['"' + text.replace('"', '""') + '"' for text in PAYLOADS]
    header = f"class,{quoted[0]},{quoted[4]}\n"
    rows = "".join(f"{name},{quoted[index]},{quoted[-index - 1]}\n" for index, name in enumerate(ACTIONS))
    add_groups(run, header + rows)
    page = read_page(build_report(run))
    assert not page.unclosed
    source = build_report(run).read_text(encoding="utf-8")
    assert source.count("<script") == 2
    assert "<img src=x" not in source


def test_the_last_epochs_loss_and_accuracy_are_printed_side_by_side() -> None:
    def row(epoch: int) -> dict[str, float]:
        figures = {"loss": 8.0 / epoch, "top1": epoch / 10, "macro_f1": epoch / 20}
        split = {f"{name}/{key}": value for name in ("train", "val") for key, value in figures.items()}
        return {"epoch": epoch, "step": epoch, "lr": 1e-3, "images_per_s": 1.0, "epoch_s": 1.0, **split}

    recipe = load_recipe({"name": "x"}, {"train.epochs": 4})
    last = format_latest([row(epoch) for epoch in (1, 2, 3, 4)], recipe).splitlines()[-1]
    # The mean of the losses would be 4.1667.
    assert "train loss 2.0000 top1 40.0 %" in last
    assert "val loss 2.0000 top1 40.0 %" in last
    assert "4.1667" not in last
