"""A4: a run that was stopped anywhere ends as the run that was not, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from training_parts import build_recipe, digest, opened, read_data, read_latest, stopping_at, train_session

import praxiscope as px
from praxiscope.data.plan import plan_training_epoch
from praxiscope.errors import Interrupted, Preempted, UsageError
from praxiscope.runs.rundir import RunDir

STEPS = 6  # 36 images in batches of 12, two epochs
WORKERS = (0, 1, 2)

VARIANTS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd-momentum": {"train.opt": "sgd", "train.momentum": 0.9, "train.lr": 0.02},
    "ema": {"train.ema_decay": 0.9},
    "dropout": {"model.drop_rate": 0.4},
    "drop-path": {"model.name": "test_vit", "model.drop_path_rate": 0.3},
    "layer-decay": {"model.name": "test_vit", "train.layer_decay": 0.7},
    "accumulation": {"train.batch_size": 6, "train.accum_steps": 2},
    "plateau": {"train.schedule": "plateau", "train.patience_epochs": 0, "train.decay_rate": 0.3, "train.epochs": 3},
    "warm-up": {"train.warmup_epochs": 1, "train.schedule": "cosine", "train.min_lr": 1e-5},
    "lamb-clipped": {"train.opt": "lamb", "train.clip_grad": 1.0},
    "frozen": {"model.freeze": ["layer1", "layer2"]},
}  # fmt: skip


def combine(*names: str) -> dict[str, Any]:
    return {key: value for name in names for key, value in VARIANTS[name].items()}


# Whatever of these a checkpoint forgot would show in the hash; one by one they are the soak test's.
COMBINED = {
    "adamw-ema-dropout-warm-up": combine("adamw", "ema", "dropout", "warm-up"),
    "sgd-plateau-accumulation": combine("sgd-momentum", "plateau", "accumulation"),
    "lamb-drop-path-layer-decay": combine("lamb-clipped", "drop-path", "layer-decay"),
    "frozen-ema": combine("frozen", "ema"),
}


@pytest.mark.parametrize(
    "variant", [*COMBINED, *(pytest.param(name, marks=pytest.mark.soak) for name in VARIANTS)]
)
def test_stopped_after_every_step_with_changing_workers(variant, noise_folder, tmp_path):
    """One run, taken up again after each of its steps by 0, 1 or 2 workers in turn."""
    recipe = build_recipe({**VARIANTS, **COMBINED}[variant])
    manifest = read_data(noise_folder, recipe)
    whole, pieces = (RunDir.create(tmp_path, name) for name in ("whole", "pieces"))
    assert train_session(recipe, manifest, whole) is None
    steps = read_latest(whole).step
    assert steps == 3 * recipe.train.epochs
    for step in range(1, steps):
        stopped = train_session(recipe, manifest, pieces, stop_at=step, workers=WORKERS[step % 3])
        assert isinstance(stopped, Preempted)
        assert read_latest(pieces).step == step
    assert train_session(recipe, manifest, pieces, workers=2) is None
    assert digest(pieces) == digest(whole)
    assert len(digest(whole)["rows"]) == recipe.train.epochs


@pytest.mark.parametrize(
    ("step", "workers"),
    [(2, 0), (3, 1), (4, 2)]
    + [pytest.param(s, w, marks=pytest.mark.soak) for s in range(1, STEPS) for w in WORKERS],
)
def test_a_single_stop_around_the_boundary_of_epochs(step, workers, noise_folder, tmp_path, whole_run):
    recipe = build_recipe({"train.ema_decay": 0.9})
    manifest = read_data(noise_folder, recipe)
    run = RunDir.create(tmp_path, "stopped")
    stopped = train_session(recipe, manifest, run, stop_at=step, workers=workers)
    assert f"at step {step}" in str(stopped) or f"after epoch {step // 3}" in str(stopped)
    assert len(run.read_metrics()) == step // 3
    assert train_session(recipe, manifest, run, workers=WORKERS[(workers + 1) % 3]) is None
    assert digest(run) == whole_run


@pytest.fixture(scope="module")
def whole_run(noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    recipe = build_recipe({"train.ema_decay": 0.9})
    run = RunDir.create(tmp_path_factory.mktemp("whole"), "whole")
    assert train_session(recipe, read_data(noise_folder, recipe), run) is None
    return digest(run)


def test_another_seed_is_another_run(noise_folder, tmp_path, whole_run):
    recipe = build_recipe({"train.ema_decay": 0.9, "seed": 4})
    run = RunDir.create(tmp_path, "other")
    train_session(recipe, read_data(noise_folder, recipe), run)
    for group, sha256 in digest(run)["tensors"].items():
        assert sha256 != whole_run["tensors"][group]


def test_a_stop_at_the_last_step_is_the_end(noise_folder, tmp_path, whole_run):
    recipe = build_recipe({"train.ema_decay": 0.9})
    run = RunDir.create(tmp_path, "last")
    assert train_session(recipe, read_data(noise_folder, recipe), run, stop_at=STEPS) is None
    assert digest(run) == whole_run


def test_a_stop_in_the_epoch_that_ends_the_run_early_is_the_end(noise_folder, tmp_path):
    recipe = build_recipe({"train.early_stopping_epochs": 1, "train.epochs": 9, "train.lr": 1e-9})
    run = RunDir.create(tmp_path, "early")
    # At this learning rate no epoch is better than the first, so the second is the last.
    assert train_session(recipe, read_data(noise_folder, recipe), run, stop_at=6) is None
    assert read_latest(run).state["train"]["stopped_early"]
    assert len(run.read_metrics()) == 2


@pytest.mark.parametrize(("number", "kind"), [("SIGTERM", Preempted), ("SIGINT", Interrupted)])
def test_through_the_api_with_a_real_signal(number, kind, noise_folder, tmp_path):
    recipe = build_recipe()
    whole = px.train(recipe, data=noise_folder, output=tmp_path / "whole")
    watch = stopping_at(4, getattr(signal, number))
    with pytest.raises(kind, match=r"Stopped and saved at step 4, in epoch 2\. Add --resume"):
        px.train(recipe, data=noise_folder, output=tmp_path / "runs", watch=watch)
    run = px.find_run("tiny@latest", root=tmp_path / "runs")
    assert run.read_status()["state"] == kind.__name__.lower()
    assert run.read_status()["step"] == 4
    resumed = px.train(recipe, data=noise_folder, output=tmp_path / "runs", resume=True)
    assert resumed == run
    assert run.read_status()["state"] == "done"
    assert digest(run) == digest(whole)
    sessions = run.read_run_json()["time"]["sessions"]
    assert [session["state"] for session in sessions] == [kind.__name__.lower(), "done"]
    assert run.read_run_json()["best"] == whole.read_run_json()["best"]


def test_an_epoch_cut_from_other_samples_begins_again(noise_folder, tmp_path):
    """What is left of the old order would show some samples twice and others never."""
    recipe = build_recipe()
    manifest = read_data(noise_folder, recipe)
    run = RunDir.create(tmp_path, "run")
    train_session(recipe, manifest, run, stop_at=2)
    larger = build_recipe({"train.batch_size": 18})
    with opened(larger, manifest, run) as (_job, state, notes):
        assert (state.epoch, state.batch, state.step, state.tally.num_samples) == (0, 0, 2, 0)
        assert any("it restarts" in note for note in notes)
    with opened(recipe, manifest, run) as (_job, state, notes):
        assert (state.epoch, state.batch, state.step, state.tally.num_samples) == (0, 2, 2, 24)
        assert not any("it restarts" in note for note in notes)


def test_allowed_changes_of_the_optimiser_take_effect(noise_folder, tmp_path):
    recipe = build_recipe()
    manifest = read_data(noise_folder, recipe)
    run = RunDir.create(tmp_path, "run")
    train_session(recipe, manifest, run, stop_at=2)
    with opened(build_recipe({"train.weight_decay": 0.3}), manifest, run) as (job, _state, _notes):
        assert {group["weight_decay"] for group in job.optimizer.param_groups} == {0.0, 0.3}
        moments = [job.optimizer.state[p]["exp_avg"] for p in job.module.parameters()]
        assert all(bool(moment.any()) for moment in moments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train.opt": "sgd"}, "of another optimiser than 'sgd'"),
        ({"train.layer_decay": 0.5}, "of other parameter groups"),
        ({"model.name": "test_efficientnet"}, "of another network"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change, words, noise_folder, tmp_path):
    recipe = build_recipe()
    manifest = read_data(noise_folder, recipe)
    run = RunDir.create(tmp_path, "run")
    train_session(recipe, manifest, run, stop_at=1)
    with (
        pytest.raises(UsageError, match=words),
        opened(build_recipe(change), manifest, run),
    ):
        pass


def test_an_average_that_was_not_saved_starts_from_the_weights(noise_folder, tmp_path):
    recipe = build_recipe()
    manifest = read_data(noise_folder, recipe)
    run = RunDir.create(tmp_path, "run")
    train_session(recipe, manifest, run, stop_at=2)
    with opened(build_recipe({"train.ema_decay": 0.9}), manifest, run) as (job, _state, notes):
        assert any("moving average" in note for note in notes)
        theirs = job.module.state_dict()
        assert job.ema is not None
        assert all(bool((value == theirs[name]).all()) for name, value in job.ema.module.state_dict().items())


def test_plans_cover_the_run():
    """The tests above count on three steps an epoch."""
    assert [len(plan_training_epoch(36, size, seed=3, epoch=0)) for size in (12, 6)] == [3, 6]
