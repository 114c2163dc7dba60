"""Late fusion: the mean of probabilities, held against a loop; its weights; its folder; what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from praxiscope.cli.main import _load_commands, app
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.fusion import Member, fit_weights, fuse_predictions
from praxiscope.evaluation.predictions import (
    HeadOutputs,
    PredictionsInfo,
    build_predictions,
    read_predictions,
)
from praxiscope.workflows.compare import compare
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.fuse import fuse
from praxiscope.workflows.report import report
from praxiscope.workflows.verify import verify
from trained_pair import train_pair

HEADS = {"verb": ("cut", "open", "wash"), "noun": ("cup", "tap")}
N = 40


def make_member(label, *, seed=0, heads=HEADS, ids=None, skill=2.0, targets=None, clean=None):
    rng = np.random.default_rng(seed)
    answers = np.random.default_rng(9)
    outputs = {}
    for head, names in HEADS.items():
        truth = answers.integers(len(names), size=N)
        logits = rng.normal(size=(N, len(names)))
        logits[np.arange(N), truth] += skill * (rng.random(N) < 0.7)
        order = [names.index(each) for each in heads.get(head, names) if each in names]
        outputs[head] = HeadOutputs(targets=np.argsort(order)[truth], logits=logits[:, order])
    if targets is not None:
        outputs["noun"] = HeadOutputs(targets=targets, logits=outputs["noun"].logits)
    info = PredictionsInfo(
        heads=dict(heads),
        weights_sha256=f"{seed:064x}",
        manifest_fingerprint="m",
        recipe_name=label,
        created="now",
    )
    return Member(
        label=label,
        predictions=build_predictions(
            info, sample_ids=ids or [f"s{row:02d}" for row in range(N)], splits="test",
            outputs={head: outputs[head] for head in heads}, groups=["g"] * N, clean=clean,
        ),
    )  # fmt: skip


def softmax(row):
    powers = [np.exp(float(value)) for value in row]
    return [power / sum(powers) for power in powers]


def test_the_mean_is_that_of_a_loop():
    members = [make_member("a", seed=1), make_member("b", seed=2), make_member("c", seed=3)]
    fused = fuse_predictions(members, [2, 1, 1], name="abc")
    for head in HEADS:
        logits = fused.logits(head)
        for row in range(N):
            each = [softmax(member.predictions.logits(head)[row]) for member in members]
            mean = [0.5 * a + 0.25 * b + 0.25 * c for a, b, c in zip(*each, strict=True)]
            np.testing.assert_allclose(np.exp(logits[row]), mean, rtol=1e-5)
    assert fused.info.recipe_name == "abc"
    assert fused.groups == ["g"] * N
    np.testing.assert_array_equal(fused.targets("verb"), members[0].predictions.targets("verb"))


def test_one_models_weight_alone_gives_its_answers():
    members = [make_member("a", seed=1), make_member("b", seed=2)]
    fused = fuse_predictions(members, [0, 1], name="b")
    np.testing.assert_array_equal(fused.preds("verb"), members[1].predictions.preds("verb"))


def test_labels_are_matched_by_name():
    other = {"verb": ("wash", "cut", "open"), "noun": ("tap", "cup")}
    straight = fuse_predictions([make_member("a", seed=1), make_member("b", seed=2)], [1, 1], name="x")
    turned = fuse_predictions(
        [make_member("a", seed=1), make_member("b", seed=2, heads=other)], [1, 1], name="x"
    )
    np.testing.assert_allclose(turned.logits("verb"), straight.logits("verb"), rtol=1e-6)
    np.testing.assert_array_equal(turned.targets("noun"), straight.targets("noun"))


def test_a_sample_is_clean_where_it_is_for_all():
    marks = np.arange(N) % 2 == 0
    fused = fuse_predictions([make_member("a", clean=marks), make_member("b", seed=1)], [1, 1], name="x")
    np.testing.assert_array_equal(fused.clean, marks)


def test_fitted_weights_are_the_best_of_a_grid():
    members = [make_member("a", seed=1, skill=3.0), make_member("b", seed=2, skill=1.0)]

    def loss(first):
        fused = fuse_predictions(members, [first, 1 - first], name="x")
        return -sum(fused.logits(head)[np.arange(N), fused.targets(head)].mean() for head in HEADS)

    grid = np.linspace(0, 1, 201)
    best = grid[np.argmin([loss(first) for first in grid])]
    assert fit_weights(members) == pytest.approx((best, 1 - best), abs=0.006)
    assert sum(fit_weights(members)) == pytest.approx(1)


def test_a_useless_model_gets_no_weight():
    good = make_member("a", seed=1, skill=8.0)
    truth = {head: good.predictions.targets(head) for head in HEADS}
    wrong = {
        head: HeadOutputs(targets=truth[head], logits=-9.0 * np.eye(len(HEADS[head]))[truth[head]])
        for head in HEADS
    }
    bad = Member(
        label="b",
        predictions=build_predictions(
            good.predictions.info, sample_ids=good.predictions.sample_ids, splits="test", outputs=wrong
        ),
    )
    right = {head: HeadOutputs(targets=w.targets, logits=-w.logits) for head, w in wrong.items()}
    perfect = build_predictions(
        good.predictions.info, sample_ids=good.predictions.sample_ids, splits="test", outputs=right
    )
    assert fit_weights([Member(label="p", predictions=perfect), bad]) == pytest.approx((1, 0), abs=1e-4)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"ids": [f"t{row:02d}" for row in range(N)]},
            "b and a were evaluated on other samples: 80 are only in one",
        ),
        (
            {"heads": {"verb": HEADS["verb"]}},
            "b and a answer other questions: heads verb .3. and verb .3., noun .2.",
        ),
        (
            {"targets": np.zeros(N, np.int64)},
            r"b and a disagree about the label \(noun\) of \d+ samples, such as s",
        ),
    ],
)
def test_models_of_other_data_are_refused(other, message):
    with pytest.raises(DataError, match=message):
        fuse_predictions([make_member("a"), make_member("b", **other)], [1, 1], name="x")


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(UsageError, match="give 2 numbers, one for each model in order"):
        fuse_predictions([make_member("a"), make_member("b")], weights, name="x")


def test_one_model_is_no_fusion():
    with pytest.raises(UsageError, match="needs at least two models; 1 was given"):
        fit_weights([make_member("a")])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return train_pair(tmp_path_factory.mktemp("pair"))


def test_a_fused_folder_is_compared_and_reported_like_a_run(pair, tmp_path):
    _load_commands()
    told = CliRunner().invoke(
        app,
        ["fuse", str(pair.small.path), str(pair.large.path), "--fit", "--name", "both", "-o", str(tmp_path)],
    )
    assert told.exit_code == 0, told.output
    assert "Weights (fitted on validation):" in told.output
    (folder,) = (tmp_path / "both").iterdir()
    fused = read_predictions(folder / "predictions" / "test.parquet")
    assert len(fused) == 36
    fusion = json.loads((folder / "run.json").read_text(encoding="utf-8"))["fusion"]
    assert sum(member["weight"] for member in fusion["members"]) == pytest.approx(1)
    page = report(folder).read_text(encoding="utf-8")
    assert "Late fusion, weights fitted on validation" in page
    result = compare([pair.small.path, folder], output=tmp_path / "compared", resamples=100, page=False)
    assert len(result.to_dict()["contestants"]) == 2
    assert all(check.passed for check in verify(folder))
    with pytest.raises(UsageError, match="is a late fusion: it holds averaged predictions and no network"):
        evaluate(folder)


def test_given_weights_stand_in_the_result(pair, tmp_path):
    result = fuse([pair.small, pair.large], weights=[3, 1], output=tmp_path)
    assert result.weights == (0.75, 0.25)
    assert result.chosen_by == "given"
    assert result.metrics["num_samples"] == 36


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fit": True, "weights": [1, 1]}, "--fit and --weights exclude each other"),
        ({"fit": True, "split": "val"}, "--fit chooses the weights on val, so figures on val would flatter"),
        ({"split": "all"}, "--split 'all': choose one of test, val, train"),
        ({"name": "No good"}, "--name 'No good' can't name a folder"),
    ],
)
def test_what_makes_no_sense_is_refused(pair, tmp_path, asked, message):
    with pytest.raises(UsageError, match=message):
        fuse([pair.small, pair.large], output=tmp_path, **asked)


def test_missing_predictions_are_named_with_the_command(pair, tmp_path):
    with pytest.raises(DataError, match=r"has no predictions on train. Make them: praxiscope evaluate"):
        fuse([pair.small, pair.large], split="train", output=tmp_path)


def test_weights_that_are_no_numbers_are_refused(pair):
    _load_commands()
    told = CliRunner().invoke(app, ["fuse", str(pair.small.path), str(pair.large.path), "--weights", "a,b"])
    assert isinstance(told.exception, UsageError)
    assert "give numbers with commas between" in str(told.exception)
