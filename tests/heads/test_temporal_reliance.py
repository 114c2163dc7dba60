"""Frames in another order: the orders themselves, what they do to networks, and the verdicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import praxiscope as px
from praxiscope.data.stage.dataset import StageSpec, write_stage_images
from praxiscope.errors import UsageError
from praxiscope.evaluation.temporal import IN_ORDER, ORDERS, arrange_frames, require_order, score_temporal
from praxiscope.models.build import build_model
from praxiscope.recipe.schema import ModelSection
from praxiscope.tensors import Heads

PLAN = {"seed": 0, "resamples": 200, "level": 0.95}
HEADS = Heads(names={"action": ("sit", "stand")})


def number_frames(batch, count):
    """Return clips whose pixels are the number of their frame."""
    return torch.arange(count).view(1, count, 1, 1, 1).expand(batch, count, 3, 2, 2).clone()


def read_numbers(clips):
    return clips[..., 0, 0, 0].tolist()


def test_orders_of_frames():
    clips = number_frames(3, 6)
    arranged = {order: read_numbers(arrange_frames(clips, order, rows=(0, 1, 2), seed=0)) for order in ORDERS}
    assert arranged[IN_ORDER] == [[0, 1, 2, 3, 4, 5]] * 3
    assert arranged["reversed"] == [[5, 4, 3, 2, 1, 0]] * 3
    assert arranged["frozen"] == [[2] * 6] * 3
    assert arranged["halved"] == [[0, 0, 2, 2, 4, 4]] * 3
    assert all(sorted(one) == [0, 1, 2, 3, 4, 5] != one for one in arranged["shuffled"])
    with pytest.raises(ValueError, match="there is no order 'sorted'; choose one of in order, shuffled"):
        arrange_frames(clips, "sorted", rows=(0, 1, 2), seed=0)


def test_a_clips_shuffle_depends_on_its_row_alone_and_is_that_of_all_views():
    together = read_numbers(arrange_frames(number_frames(3, 8), "shuffled", rows=(4, 5, 6), seed=1))
    alone = read_numbers(arrange_frames(number_frames(1, 8), "shuffled", rows=(5,), seed=1))
    assert together[1] == alone[0]
    assert together[0] != together[1]
    views = number_frames(2, 8)[None].expand(1, 2, 8, 3, 2, 2)
    assert read_numbers(arrange_frames(views, "shuffled", rows=(5,), seed=1)) == [[alone[0], alone[0]]]
    two = [
        read_numbers(arrange_frames(number_frames(1, 2), "shuffled", rows=(row,), seed=0)) for row in range(9)
    ]
    assert two == [[[1, 0]]] * 9


@pytest.mark.parametrize(("kind", "blind"), [("mean", True), ("gru", False)])
def test_only_a_mean_of_frames_ignores_a_shuffle(kind, blind):
    section = ModelSection(name="resnet18-small-half", img_size=16, num_frames=4, temporal=kind)
    module = build_model(section, num_classes=3, seed=0).module.eval()
    clips = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shuffled = arrange_frames(clips, "shuffled", rows=(0, 1), seed=0)
        change = float((module(clips) - module(shuffled)).abs().max())
    assert (change < 1e-5) == blind


def score(changed, groups=None, count=80):
    """Score a network that is right in order and, in `changed` orders, wrong on every second sample."""
    rng = np.random.default_rng(0)
    targets = rng.integers(2, size=count)
    right = np.eye(2, dtype=np.float32)[targets]
    wrong = right.copy()
    wrong[::2] = 1 - wrong[::2]
    logits = {order: wrong if order in changed else right for order in ORDERS}
    return score_temporal(logits, targets, HEADS, groups=groups or [None] * count, plan=PLAN)


def test_the_cost_of_reversing_is_paired_and_told():
    found = score({"reversed"})
    row = {one["order"]: one for one in found["orders"]}["reversed"]
    assert row["top1"]["value"] == 0.5
    assert row["difference"]["value"] == -0.5
    assert row["difference"]["low"] < -0.5 < row["difference"]["high"] < 0
    assert row["changed_answers"] == 0.5
    assert row["largest_change"] == 1.0
    assert found["verdict"].startswith("Uses order: reversing the frames costs 50.0 points of top-1 (")
    assert not found["order_blind"]


def test_figures_on_which_all_resamples_agree_have_a_width():
    """Right on everything in order, wrong on everything reversed: 80 samples don't make that a certainty."""
    targets = np.arange(80) % 2
    right = np.eye(2, dtype=np.float32)[targets]
    logits = dict.fromkeys(ORDERS, right * 2) | {IN_ORDER: right, "reversed": 1 - right}
    found = score_temporal(logits, targets, HEADS, groups=[None] * 80, plan=PLAN)
    rows = {one["order"]: one for one in found["orders"]}
    assert rows[IN_ORDER]["top1"]["low"] == pytest.approx(0.954, abs=1e-3)  # Wilson's, 80 of 80
    assert rows["reversed"]["difference"]["low"] == -1 < rows["reversed"]["difference"]["high"] < -0.9
    assert rows["shuffled"]["difference"]["low"] < 0 < rows["shuffled"]["difference"]["high"] < 0.06
    assert found["verdict"].startswith("Uses order: reversing the frames costs 100.0 points of top-1 (9")
    blind = score_temporal(dict.fromkeys(ORDERS, right), targets, HEADS, groups=[None] * 80, plan=PLAN)
    assert {one["difference"]["high"] for one in blind["orders"][1:]} == {0.0}


def test_verdicts():
    assert score(set())["verdict"].startswith(
        "Order-blind: shuffling or reversing the frames changes no logit"
    )
    assert "One frame alone (frozen) costs 50.0 points" in score({"frozen"})["verdict"]
    alone = score({"reversed"}, groups=["one"] * 80)
    assert "without an interval, as all samples are of one group" in alone["verdict"]


def test_seen_but_of_no_use():
    targets = np.arange(40) % 2
    right = np.eye(2, dtype=np.float32)[targets]
    logits = {order: right * (1.0 if order == IN_ORDER else 0.9) for order in ORDERS}
    found = score_temporal(logits, targets, HEADS, groups=[None] * 40, plan=PLAN)
    assert found["verdict"].startswith("Sees order, but accuracy doesn't show a use of it: ")


def test_several_heads_are_judged_together_and_each():
    heads = Heads(names={"verb": ("a", "b"), "noun": ("x", "y")})
    targets = np.array([[0, 1], [1, 0]])
    logits = {order: np.array([[1, 0, 0, 1], [1, 0, 1, 0]], np.float32) for order in ORDERS}
    first = score_temporal(logits, targets, heads, groups=[None, None], plan=PLAN)["orders"][0]
    assert first["top1"]["value"] == 0.5
    assert first["heads"] == {"verb": 0.5, "noun": 1.0}


def test_networks_without_an_order_are_refused(tmp_path):
    for frames, told in ((None, "images"), (1, "one frame of a clip")):
        with pytest.raises(UsageError, match=f"this network takes {told}"):
            require_order(frames)


def test_evaluate_refuses_images_before_anything_slow(tmp_path):
    spec = StageSpec(
        size=24, actions=("clap", "wave"), train_per_action=4, val_per_action=2, test_per_action=2
    )
    root = write_stage_images(tmp_path / "stage", spec)
    recipe = px.load_recipe(
        "demo-cnn",
        {
            "train.epochs": 1,
            "train.warmup_epochs": 0,
            "model.img_size": 16,
            "model.name": "resnet18-small-half",
            "loader.workers": 0,
        },
    )
    run = px.train(recipe, data=root, output=tmp_path / "runs")
    with pytest.raises(UsageError, match="--temporal compares orders of frames; this network takes images"):
        px.evaluate(run, temporal=True)
    assert not run.predictions("test").is_file()
