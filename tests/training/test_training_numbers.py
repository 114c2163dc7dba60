"""C2, C6, C7: losses weigh each sample once, nothing that isn't finite is stepped, saved or chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_parts import (
    FP32,
    Acting,
    build_recipe,
    digest,
    opened,
    read_data,
    read_latest,
    replace_job,
    train_session,
)

from praxiscope.data.plan import plan_training_epoch
from praxiscope.errors import Diverged
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.models.state import compute_weights_sha256
from praxiscope.runs.rundir import RunDir
from praxiscope.training import steps as steps_module
from praxiscope.training.ema import Ema
from praxiscope.training.job import Job
from praxiscope.training.loop import fit
from praxiscope.training.signals import StopFlag
from praxiscope.training.state import TrainState

PLAIN = {
    "augment.crop_scale": [1, 1],
    "augment.hflip": 0,
    "augment.color_jitter": 0,
    "augment.random_erasing": 0,
}


def run_epochs(job: Job, state: TrainState, watch: Acting | None = None) -> TrainState:
    return fit(job, state, stop=StopFlag(), watch=watch or Acting())


# ------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_epoch_loss_is_the_mean_over_samples(smoothing, noise_folder, tmp_path):
    """Batches of 14, 14 and 8: a mean over batches would weigh the last one's samples nearly double."""
    # At this learning rate the weights stay what they are, so the mean can be computed afterwards.
    recipe = build_recipe(
        {**PLAIN, "model.name": "test_vit", "train.batch_size": 14, "train.epochs": 1, "train.lr": 1e-30,
         "train.weight_decay": 0, "train.smoothing": smoothing}
    )  # fmt: skip
    manifest = read_data(noise_folder, recipe)
    with opened(recipe, manifest, RunDir.create(tmp_path, "run")) as (job, state, _notes):
        job.module.train()
        losses, right = [], 0
        with torch.no_grad():
            for batch in job.loader.batches(plan_training_epoch(36, 5, seed=3, epoch=0)):
                probs = job.module(job.normalize(batch.images)).double().softmax(dim=1).numpy()
                for row, target in zip(probs, batch.targets.tolist(), strict=True):
                    truth = np.full(3, smoothing / 3)
                    truth[target] += 1 - smoothing
                    losses.append(-(truth * np.log(row)).sum())
                    right += int(row.argmax() == target)
        run_epochs(job, state)
    (row,) = RunDir.open(next((tmp_path / "run").iterdir())).read_metrics()
    assert len(losses) == 36
    assert row["train/loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert row["train/top1"] == pytest.approx(right / 36)


def test_accumulating_two_batches_of_8_is_one_of_16(noise_folder, tmp_path):
    """Without BatchNorm (a Transformer): the same samples, the same gradient, the same weights."""
    weights = []
    for number, changes in enumerate(
        ({"train.batch_size": 16}, {"train.batch_size": 8, "train.accum_steps": 2})
    ):
        recipe = build_recipe(
            {"model.name": "test_vit", "train.epochs": 2, "train.opt": "sgd", "train.lr": 0.05, **changes}
        )
        run = RunDir.create(tmp_path, f"run{number}")
        assert train_session(recipe, read_data(noise_folder, recipe), run) is None
        # 36 = 16 + 16 + 4 either way: the last step has 4 samples, in one short batch.
        assert read_latest(run).step == 6
        weights.append(read_latest(run).groups["model"])
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-6, rtol=0), name


def test_dropout_differs_between_the_batches_of_a_step(noise_folder, tmp_path, monkeypatch):
    seeds: list[int] = []
    monkeypatch.setattr(steps_module.torch, "manual_seed", seeds.append)
    recipe = build_recipe({"train.batch_size": 6, "train.accum_steps": 3})
    with opened(recipe, read_data(noise_folder, recipe), RunDir.create(tmp_path, "run")) as (job, state, _):
        seeds.clear()
        run_epochs(job, state)
    assert len(seeds) == len(set(seeds)) == 12


# ------------------------------------------------------------------------------ not finite


def poison_inputs(value: float, step: int) -> Callable[[Job, pytest.MonkeyPatch], Job]:
    def change(job: Job, _patch: pytest.MonkeyPatch) -> Job:
        calls = iter(range(10**6))

        class Poisoned(Normalizer):
            def __call__(self, images_BCHW: Tensor) -> Tensor:
                images = super().__call__(images_BCHW)
                if next(calls) == step:
                    images[2, 1, 5, 5] = value
                return images

        return replace_job(job, normalize=Poisoned((0.5,) * 3, (0.5,) * 3, job.runtime))

    return change


def poison_weight(value: float, step: int) -> Callable[[Job, pytest.MonkeyPatch], Job]:
    """Before the forward pass of a step, as a bit flip in memory would."""

    def change(job: Job, _patch: pytest.MonkeyPatch) -> Job:
        calls = iter(range(10**6))

        def hook(module: nn.Module, _inputs: object) -> None:
            if module.training and next(calls) == step:
                next(iter(module.parameters())).data[0] = value

        job.module.register_forward_pre_hook(hook)
        return job

    return change


def poison_loss(value: float, step: int) -> Callable[[Job, pytest.MonkeyPatch], Job]:
    def change(job: Job, _patch: pytest.MonkeyPatch) -> Job:
        calls = iter(range(10**6))

        def poisoned(*arguments: Any) -> Tensor:
            loss = job.loss(*arguments)
            return loss * value if next(calls) == step else loss

        return replace_job(job, loss=poisoned)

    return change


def poison_gradient(value: float, step: int) -> Callable[[Job, pytest.MonkeyPatch], Job]:
    def change(job: Job, _patch: pytest.MonkeyPatch) -> Job:
        calls = iter(range(10**6))
        parameter = list(job.module.parameters())[-1]
        parameter.register_hook(lambda grad: grad * value if next(calls) == step else grad)
        return job

    return change


INJECTIONS = {
    "nan-in-first-input": (poison_inputs(math.nan, 0), 1),
    "inf-in-input": (poison_inputs(math.inf, 1), 2),
    "nan-in-input-of-epoch-2": (poison_inputs(math.nan, 4), 5),
    "nan-in-weight": (poison_weight(math.nan, 2), 3),
    "inf-in-weight": (poison_weight(math.inf, 3), 4),
    "nan-loss": (poison_loss(math.nan, 1), 2),
    "inf-loss": (poison_loss(math.inf, 5), 6),
    "nan-gradient": (poison_gradient(math.nan, 4), 5),
    "inf-gradient": (poison_gradient(math.inf, 1), 2),
}


@pytest.mark.parametrize("injection", INJECTIONS)
def test_what_is_not_finite_stops_before_the_step(injection, noise_folder, tmp_path, monkeypatch):
    change, step = INJECTIONS[injection]
    # Validation normalises too: without it the calls above count training batches only.
    recipe = build_recipe({"train.ema_decay": 0.9, "train.checkpoint_every_minutes": 1e-9})
    manifest = read_data(noise_folder, recipe)
    run = RunDir.create(tmp_path, "run")
    seen: dict[str, Any] = {}
    with opened(recipe, manifest, run, change=lambda job: change(job, monkeypatch)) as (job, state, _notes):

        def remember(_progress: object) -> None:
            seen["optimizer"] = compute_moments(job)
            seen["ema"] = compute_weights_sha256(job.ema.module.state_dict())

        with pytest.raises(Diverged) as caught:
            run_epochs(job, state, Acting(remember))
        assert state.step == step - 1
        assert seen.get("optimizer", []) == compute_moments(job)
        if seen:
            assert seen["ema"] == compute_weights_sha256(job.ema.module.state_dict())
        plan = plan_training_epoch(36, 12, seed=3, epoch=(step - 1) // 3)[(step - 1) % 3]
        names = [job.sample_ids[row] for row in plan.rows]
    message = str(caught.value)
    assert f"before step {step} (epoch {(step - 1) // 3 + 1})" in message
    assert f"at learning rate {state_lr(recipe, step):.3g}" in message
    assert all(name in message for name in names[:8])
    assert "and 4 more" in message
    assert caught.value.exit_code == 5
    if step == 1:
        return
    saved = read_latest(run)
    assert saved.step == step - 1
    for group in ("model", "ema"):
        assert all(bool(torch.isfinite(value).all()) for value in saved.groups[group].values())
    with opened(recipe, manifest, run) as (_job, restored, _notes):
        assert restored.step == step - 1


def compute_moments(job: Job) -> list[float]:
    return [float(s["exp_avg"].abs().double().sum()) for s in job.optimizer.state.values()]


def state_lr(recipe: Any, step: int) -> float:
    return 0.5 * recipe.train.lr * (1 + math.cos(math.pi * (step - 1) / 6))


def break_weights_after_a_step(job: Job) -> Job:
    def overflow(*_arguments: object) -> None:
        next(iter(job.module.parameters())).data[0] = math.inf

    job.optimizer.register_step_post_hook(overflow)
    return job


@pytest.mark.parametrize("broken", ["weights", "activations"])
@pytest.mark.parametrize(("batch_size", "every_minutes"), [(36, None), (12, 1e-9), (12, None)])
def test_what_a_step_has_broken_is_never_saved(broken, batch_size, every_minutes, noise_folder, tmp_path):
    """Finite gradients, then infinite weights, or such that overflow: at an epoch's end, a save, a step."""
    recipe = build_recipe(
        {"train.lr": 1e20, "train.opt": "sgd", "train.schedule": "constant", "train.batch_size": batch_size,
         "train.checkpoint_every_minutes": every_minutes, "train.epochs": 3}
    )  # fmt: skip
    run = RunDir.create(tmp_path, "run")
    manifest = read_data(noise_folder, recipe)
    change = break_weights_after_a_step if broken == "weights" else lambda job: job
    stopped = train_session(recipe, manifest, run, change=change)
    assert isinstance(stopped, Diverged)
    assert "at learning rate 1e+20" in str(stopped)
    assert run.read_metrics() == []
    if broken == "weights":
        assert not run.checkpoints.exists() or not list(run.checkpoints.iterdir())


def test_a_validation_that_is_not_finite_is_never_the_best(noise_folder, tmp_path):
    recipe = build_recipe({"train.epochs": 3})
    run = RunDir.create(tmp_path, "run")
    with opened(recipe, read_data(noise_folder, recipe), run) as (job, state, _notes):

        def hook(module: nn.Module, _inputs: object, logits: Tensor) -> Tensor:
            return logits if module.training or state.epoch == 0 else logits * math.inf

        job.module.register_forward_hook(hook)
        with pytest.raises(
            Diverged, match=r"Validation gave logits .* 12 of 12 samples \(first val/clap/000"
        ):
            run_epochs(job, state)
    assert [row["epoch"] for row in run.read_metrics()] == [1]
    assert (read_latest(run).epoch, read_latest(run).tags) == (1, {"best"})


def test_nan_is_never_better():
    state = TrainState.start(3)
    assert not state.is_better(math.nan, "max")
    state.best_value = 0.5
    assert not state.is_better(math.nan, "min")
    assert not state.is_better(0.5, "max")
    assert state.is_better(0.6, "max")
    assert state.is_better(0.4, "min")


# ------------------------------------------------------------------------------ gradient scaler


@pytest.fixture
def scale(monkeypatch):
    """Give every job a gradient scaler as fp16 on a GPU has one, with a first scale of the test's choice."""

    def use(init_scale: float) -> None:
        def build(device: str, *, enabled: bool) -> torch.amp.GradScaler:
            return scaler_class(device, init_scale=init_scale, growth_interval=4, enabled=True)

        scaler_class = torch.amp.GradScaler
        monkeypatch.setattr(torch.amp, "GradScaler", build)

    return use


def overflow_above_2_to_14(job: Job) -> Job:
    """Make gradients overflow as fp16's do: until the scale has been halved often enough."""
    next(iter(job.module.parameters())).register_hook(
        lambda grad: grad * math.inf if job.scaler.get_scale() > 2.0**14 else grad
    )
    return job


def test_a_step_that_the_scaler_leaves_out_advances_nothing(scale, noise_folder, tmp_path):
    """C7."""
    scale(2.0**17)
    recipe = build_recipe({"train.warmup_epochs": 1, "train.epochs": 12, "train.ema_decay": 0.9})
    rates: list[tuple[int, float]] = []
    run = RunDir.create(tmp_path, "run")
    manifest = read_data(noise_folder, recipe)
    with opened(recipe, manifest, run, change=overflow_above_2_to_14) as (job, state, _notes):
        start = compute_parameters_sha256(job.module)

        def look(progress: Any) -> None:
            rates.append((progress.step, progress.lr))
            if progress.step == 0:
                assert compute_parameters_sha256(job.module) == start
                assert compute_parameters_sha256(job.ema.module) == start

        run_epochs(job, state, Acting(look))
        assert compute_parameters_sha256(job.module) != start
    assert state.skipped_steps > 3, "three at the start, then whenever the scale has grown again"
    assert state.step == 36 - state.skipped_steps
    assert run.read_metrics()[-1]["skipped_steps"] == state.skipped_steps
    steps = [step for step, _rate in rates]
    first = steps.index(1)
    assert first == 3
    assert steps == sorted(steps)
    # What was left out is tried again at the rate that it would have had.
    assert len({rate for _step, rate in rates[: first + 1]}) == 1


def compute_parameters_sha256(module: nn.Module) -> str:
    return compute_weights_sha256(dict(module.named_parameters()))


def test_too_many_steps_left_out_in_a_row_is_divergence(scale, noise_folder, tmp_path):
    scale(2.0**16)
    recipe = build_recipe({"train.batch_size": 4, "train.epochs": 5})
    run = RunDir.create(tmp_path, "run")
    with opened(recipe, read_data(noise_folder, recipe), run) as (job, state, _notes):
        next(iter(job.module.parameters())).register_hook(lambda grad: grad * math.inf)
        with pytest.raises(Diverged, match=r"the gradient's norm is (nan|inf)"):
            run_epochs(job, state)
        assert state.step == 0
        assert state.skipped_steps == steps_module._MAX_SKIPS_IN_A_ROW


def test_an_infinite_norm_of_finite_gradients_is_left_out_too(scale, noise_folder, tmp_path):
    """The scaler alone would step: no gradient is infinite, only the sum of their squares is."""
    scale(1.0)
    recipe = build_recipe({"train.epochs": 1, "train.batch_size": 36})
    run = RunDir.create(tmp_path, "run")
    with opened(recipe, read_data(noise_folder, recipe), run) as (job, state, _notes):
        before = compute_parameters_sha256(job.module)
        for parameter in job.module.parameters():
            parameter.register_hook(lambda grad: torch.full_like(grad, 1e30))
        run_epochs(job, state)
        assert compute_parameters_sha256(job.module) == before
    assert (state.step, state.skipped_steps) == (0, 1)


def test_the_scaler_goes_on_where_it_was(scale, noise_folder, tmp_path):
    scale(2.0**16)
    recipe = build_recipe({"train.epochs": 4})
    manifest = read_data(noise_folder, recipe)
    whole, pieces = (RunDir.create(tmp_path, name) for name in ("whole", "pieces"))
    assert train_session(recipe, manifest, whole, change=overflow_above_2_to_14) is None
    for stop_at in (1, 4, 6):
        stopped = train_session(recipe, manifest, pieces, stop_at=stop_at, change=overflow_above_2_to_14)
        assert stopped is not None
    assert train_session(recipe, manifest, pieces, change=overflow_above_2_to_14) is None
    assert digest(pieces) == digest(whole)
    assert digest(whole)["state"]["scaler"]["scale"] <= 2.0**15
    assert digest(whole)["state"]["skipped_steps"] > 2


# ------------------------------------------------------------------------------ frozen, averaged


def test_frozen_means_frozen_from_the_first_checkpoint_to_the_last(noise_folder, tmp_path):
    recipe = build_recipe(
        {"model.freeze": ["backbone"], "train.ema_decay": 0.5, "train.lr": 0.1, "train.checkpoint_every_epochs": 1,
         "train.epochs": 3}
    )  # fmt: skip
    run = RunDir.create(tmp_path, "run")
    manifest = read_data(noise_folder, recipe)
    with opened(recipe, manifest, run) as (job, state, _notes):
        start = {name: value.clone() for name, value in job.module.state_dict().items()}
        run_epochs(job, state)
    saved = read_latest(run)
    head = {"fc.weight", "fc.bias"}
    assert head < set(start)
    assert any("running_mean" in name for name in start)
    for group in ("model", "ema"):
        for name, value in saved.groups[group].items():
            assert torch.equal(value, start[name]) == (name not in head), (group, name)
    assert {name.split("/")[1] for name in saved.groups["optimizer"]} == head


def test_without_freezing_batchnorm_statistics_move(noise_folder, tmp_path):
    """The test above could not fail otherwise."""
    recipe = build_recipe()
    with opened(recipe, read_data(noise_folder, recipe), RunDir.create(tmp_path, "run")) as (job, state, _):
        start = {name: value.clone() for name, value in job.module.state_dict().items()}
        run_epochs(job, state)
        moved = {
            name for name, value in job.module.state_dict().items() if not torch.equal(value, start[name])
        }
    assert moved == set(start)


def test_the_average_follows_the_formula():
    module = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1))
    ema = Ema(module, 0.99)
    expected = module[0].weight[0, 0].item()
    for step in range(1, 6):
        with torch.no_grad():
            module[0].weight.fill_(float(step))
            module[1].num_batches_tracked.fill_(step)
        ema.update(module, step=step)
        decay = min(0.99, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert ema.module[0].weight[0, 0].item() == pytest.approx(expected, rel=1e-6)
        assert int(ema.module[1].num_batches_tracked) == step
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())


def test_bf16_trains_and_keeps_weights_in_fp32(noise_folder, tmp_path):
    runtime = Runtime(device=torch.device("cpu"), precision="bf16", reason="test", channels_last=True)
    recipe = build_recipe({"train.epochs": 1})
    manifest = read_data(noise_folder, recipe)
    runs = [RunDir.create(tmp_path, name) for name in ("half", "full")]
    for run, how in zip(runs, (runtime, FP32), strict=True):
        assert train_session(recipe, manifest, run, runtime=how) is None
    half, full = (read_latest(run).groups["model"] for run in runs)
    assert {value.dtype for value in half.values()} == {torch.float32, torch.int64}
    assert any(not torch.equal(half[name], full[name]) for name in half)
    assert runs[0].read_metrics()[0]["train/loss"] == pytest.approx(
        runs[1].read_metrics()[0]["train/loss"], rel=0.05
    )
