"""Training from cached features gives what training from images gives."""

from __future__ import annotations

import numpy as np
import pytest
from feature_runs import build_recipe, train_run

from praxiscope.errors import Preempted
from praxiscope.runs.rundir import RunDir
from praxiscope.training.signals import StopFlag
from praxiscope.training.watch import Progress, Silent

AUGMENTED = {
    "augment.preset": "randaugment",
    "augment.crop_scale": [0.4, 1.0],
    "augment.crop_ratio": [0.75, 1.33],
    "augment.hflip": 0.5,
    "augment.policy": "randaugment",
    "augment.random_erasing": 0.3,
}


def train_both(folder, tmp_path, overrides, *, views):
    plain = train_run(folder, build_recipe(overrides), RunDir.create(tmp_path, "plain"))
    cached = train_run(
        folder, build_recipe(overrides | {"features.views": views}), RunDir.create(tmp_path, "cached")
    )
    assert plain.reports == []
    assert len(cached.reports) == 1
    return plain, cached


@pytest.mark.parametrize(
    ("model", "head", "img_size"),
    [
        ("test_resnet", "linear", 32),
        ("test_resnet", "mlp", 32),
        ("test_efficientnet", "linear", 64),
        ("test_efficientnet", "conv", 64),
        ("test_vit", "linear", 64),
        ("test_vit", "mlp", 64),
    ],
)
def test_without_augmentation_one_view_gives_the_uncached_result(few, cache, tmp_path, model, head, img_size):
    overrides = {"model.name": model, "model.head": head, "model.img_size": img_size}
    plain, cached = train_both(few, tmp_path, overrides, views=1)
    assert plain.distance(cached) < 1e-5
    assert np.abs(plain.logits - cached.logits).max() < 1e-5
    assert plain.compare_rows(cached) < 1e-5
    assert np.ptp(plain.logits) > 1e-3  # there is something to compare


def test_with_batches_of_the_same_size_not_a_bit_differs(noise_folder, cache, tmp_path):
    overrides = {"model.head": "conv", "evaluate.batch_size": 12, "train.opt": "adamw", "train.lr": 3e-3}
    plain, cached = train_both(noise_folder, tmp_path, overrides, views=1)
    assert plain.distance(cached) == 0
    assert plain.compare_rows(cached) == 0


def test_with_as_many_views_as_epochs_each_epoch_sees_its_own_augmentation(few, cache, tmp_path):
    overrides = AUGMENTED | {
        "train.epochs": 3,
        "train.ema_decay": 0.9,
        "train.loss": "focal",
        "train.accum_steps": 2,
    }
    plain, cached = train_both(few, tmp_path, overrides, views=5)
    assert cached.reports[0].num_views == 3  # no more than epochs
    assert plain.distance(cached) < 1e-5
    assert plain.compare_rows(cached) < 1e-5
    assert len(cached.reports[0].sentences) == 1


def test_with_fewer_views_than_epochs_they_come_in_turn(few, cache, tmp_path):
    overrides = AUGMENTED | {"train.epochs": 3, "train.schedule": "constant"}
    two = train_run(few, build_recipe(overrides | {"features.views": 2}), RunDir.create(tmp_path, "two"))
    three = train_run(few, build_recipe(overrides | {"features.views": 3}), RunDir.create(tmp_path, "three"))
    shared = [key for key in two.rows[0] if key.startswith(("train/", "val/"))]
    assert all(two.rows[e][key] == three.rows[e][key] for e in (0, 1) for key in shared)
    assert any(two.rows[2][key] != three.rows[2][key] for key in shared)
    assert two.reports[0].entries[:2] == three.reports[0].entries[:2]
    assert "seen in 2 views only, not in a new one in each of 3 epochs" in two.reports[0].sentences[1]


def test_balanced_sampling_says_that_an_image_drawn_twice_is_one_view(few, cache, tmp_path):
    overrides = AUGMENTED | {"train.sampling": "balanced", "train.epochs": 1, "features.views": 1}
    trained = train_run(few, build_recipe(overrides), RunDir.create(tmp_path, "balanced"))
    assert "was the same view each time (train.sampling)" in trained.reports[0].sentences[-1]


def test_mirror_images_and_a_larger_evaluation_size_count_in_validation(few, cache, tmp_path):
    overrides = {"evaluate.flip": True, "evaluate.img_size": 64}
    plain, cached = train_both(few, tmp_path, overrides, views=1)
    assert plain.compare_rows(cached) < 1e-5
    unmirrored = train_run(
        few,
        build_recipe(overrides | {"features.views": 1, "evaluate.flip": False}),
        RunDir.create(tmp_path, "once"),
    )
    assert abs(unmirrored.rows[0]["val/loss"] - cached.rows[0]["val/loss"]) > 1e-7
    assert unmirrored.reports[0].num_computed == 0


def test_half_precision_is_close_and_half_as_large(few, cache, tmp_path):
    overrides = {"features.views": 1}
    whole = train_run(few, build_recipe(overrides), RunDir.create(tmp_path, "whole"))
    half = train_run(
        few, build_recipe(overrides | {"features.precision": "fp16"}), RunDir.create(tmp_path, "half")
    )
    assert half.reports[0].size_bytes * 2 == whole.reports[0].size_bytes
    assert 0 < np.abs(whole.logits - half.logits).max() < 2e-2


class StoppingAt(Silent):
    def __init__(self, stop: StopFlag, step: int) -> None:
        self._stop, self._step = stop, step

    def step(self, progress: Progress) -> None:
        if progress.step == self._step:
            self._stop.request()


@pytest.mark.parametrize("step", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_end(few, cache, tmp_path, step):
    recipe = build_recipe(AUGMENTED | {"features.views": 2, "train.ema_decay": 0.9})
    whole = train_run(few, recipe, RunDir.create(tmp_path, "whole"))
    run, stop = RunDir.create(tmp_path, "stopped"), StopFlag()
    with pytest.raises(Preempted):
        train_run(few, recipe, run, stop=stop, watch=StoppingAt(stop, step), saving=True)
    resumed = train_run(few, recipe, run)
    assert resumed.distance(whole) == 0
    assert resumed.compare_rows(whole) == 0
    assert resumed.reports[0].num_computed == 0  # its weights come from the checkpoint, and so does the key
