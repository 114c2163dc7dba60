"""The learning rate against formulas written out, and which epoch is the best one."""

from __future__ import annotations

import math

import pytest
from training_parts import Acting, build_recipe, opened, read_data, read_latest, replace_job

from praxiscope.recipe.schema import TrainSection
from praxiscope.runs.rundir import RunDir
from praxiscope.training.job import Job
from praxiscope.training.loop import fit
from praxiscope.training.schedule import compute_lr
from praxiscope.training.signals import StopFlag


def rates(*, steps_per_epoch: int = 4, factor: float = 1.0, **settings: object) -> list[float]:
    section = TrainSection(**settings)  # type: ignore[arg-type]
    total = section.epochs * steps_per_epoch
    return [
        compute_lr(section, step=step, steps_per_epoch=steps_per_epoch, plateau_factor=factor)
        for step in range(total + 1)
    ]


def test_cosine():
    found = rates(epochs=3, lr=0.8, min_lr=0.2, schedule="cosine")
    expected = [0.2 + 0.6 * (1 + math.cos(math.pi * step / 12)) / 2 for step in range(13)]
    assert found == pytest.approx(expected)
    assert found[0] == 0.8
    assert found[6] == pytest.approx(0.5)
    assert found[12] == pytest.approx(0.2)
    assert found[11] > 0.2, "the last step that is made still learns"


def test_warm_up_rises_in_equal_steps_from_a_hundredth_to_the_peak():
    found = rates(epochs=3, lr=1.0, warmup_epochs=1, schedule="cosine")
    assert found[:4] == pytest.approx([0.01 + 0.99 * share for share in (0.25, 0.5, 0.75, 1.0)])
    assert found[4:] == pytest.approx([(1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)])


def test_warm_up_of_half_an_epoch_and_beyond_the_end():
    found = rates(epochs=2, lr=1.0, warmup_epochs=0.5, schedule="constant")
    assert found == pytest.approx([0.505] + [1.0] * 8)
    section = TrainSection(epochs=2, lr=1.0, min_lr=0.1)
    assert compute_lr(section, step=50, steps_per_epoch=4) == pytest.approx(0.1)


def test_step_counts_from_the_end_of_warm_up():
    found = rates(epochs=5, lr=1.0, warmup_epochs=1, schedule="step", decay_epochs=2, decay_rate=0.1)
    assert found[4:12] == pytest.approx([1.0] * 8)
    assert found[12:20] == pytest.approx([0.1] * 8)
    assert found[20] == pytest.approx(0.01)


def test_plateau_and_constant():
    assert rates(epochs=1, lr=0.5, schedule="plateau", factor=0.1) == pytest.approx([0.05] * 5)
    assert rates(epochs=1, lr=0.5, schedule="plateau", factor=0.01, min_lr=0.02) == pytest.approx([0.02] * 5)
    assert rates(epochs=1, lr=0.5, schedule="constant") == [0.5] * 5


# ------------------------------------------------------------------------------ in a training


def train_scored(folder, tmp_path, values, **changes):
    """Train with validation scores given; return the run and its rates by step."""
    monitor = changes.get("train.monitor", "val/top1")
    recipe = build_recipe({"train.epochs": len(values), "train.batch_size": 18, **changes})
    run = RunDir.create(tmp_path, "run")
    lrs: list[float] = []
    scores = iter(values)

    def score(job: Job) -> Job:
        return replace_job(job, validate=lambda _module: {monitor: next(scores)})

    with opened(recipe, read_data(folder, recipe), run, change=score) as (job, state, _notes):
        watch = Acting(lambda progress: lrs.append(progress.lr))
        fit(job, state, stop=StopFlag(), watch=watch)
        used = {group["lr"] / group.get("lr_scale", 1.0) for group in job.optimizer.param_groups}
    assert used == {lrs[-1]}, "the optimiser steps at the rate that is shown"
    return run, lrs


def test_the_rate_in_the_log_is_the_epochs_last(noise_folder, tmp_path):
    run, lrs = train_scored(
        noise_folder, tmp_path, [0.1, 0.2, 0.3], **{"train.warmup_epochs": 1, "train.lr": 0.01}
    )
    assert lrs == pytest.approx(
        [0.01 * (0.01 + 0.99 / 2), 0.01, *(0.005 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]
    )
    assert [row["lr"] for row in run.read_metrics()] == lrs[1::2]


def test_plateau_reduces_after_patience_and_starts_counting_again(noise_folder, tmp_path):
    values = [0.5, 0.4, 0.4, 0.4, 0.6, 0.5, 0.5]
    run, lrs = train_scored(
        noise_folder, tmp_path, values,
        **{"train.schedule": "plateau", "train.patience_epochs": 1, "train.decay_rate": 0.1, "train.lr": 0.01},
    )  # fmt: skip
    # Epochs 2 and 3 are the second without a better one; so are 6 and 7, after the better fifth.
    assert lrs[::2] == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001])
    assert read_latest(run).state["train"]["plateau_factor"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("values", "settings", "best"),
    [
        ([0.3, 0.7, 0.7, 0.6], {}, 2),
        ([0.7, 0.3, 0.7, 0.7], {}, 1),
        ([0.9, 0.4, 0.4, 0.5], {"train.monitor": "val/loss"}, 2),
        ([0.9, 0.4, 0.3, 0.5], {"train.monitor": "val/top1", "train.mode": "min"}, 3),
        ([math.nan, 0.4, math.nan, 0.3], {"train.monitor": "val/macro_f1"}, 2),
        ([math.nan, 0.4, math.nan, 0.3], {"train.monitor": "val/loss"}, 4),
    ],
)
def test_the_best_is_the_earliest_of_equals(values, settings, best, noise_folder, tmp_path):
    run, _ = train_scored(noise_folder, tmp_path, values, **settings, **{"train.checkpoint_every_epochs": 1})
    state = read_latest(run).state["train"]
    assert (state["best_epoch"], state["best_value"]) == (best, values[best - 1])
    from praxiscope.runs.checkpoint import best_checkpoint

    checkpoint, rejected = best_checkpoint(run.checkpoints)
    assert checkpoint is not None
    assert (checkpoint.epoch, rejected) == (best, ())


def test_early_stopping_counts_epochs_since_the_best(noise_folder, tmp_path):
    values = [0.5, 0.4, 0.6, 0.6, 0.5, 0.9]
    run, _ = train_scored(noise_folder, tmp_path, values, **{"train.early_stopping_epochs": 2})
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 3, 4, 5]
    assert read_latest(run).state["train"]["stopped_early"]
