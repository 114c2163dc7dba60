"""BCE, CutMix, LAMB and repeated augmentation on one device: "ResNet strikes back" without a cluster.

The first batch is made again by hand, from the files to the loss, and LAMB's first step from its paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_parts import (
    Acting,
    build_recipe,
    digest,
    opened,
    read_data,
    read_latest,
    stopping_at,
    train_session,
)

import praxiscope as px
from praxiscope.data.transforms import InputSpec, TrainTransform
from praxiscope.errors import Preempted
from praxiscope.models.build import BuiltModel, build_model
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir

REPEATS, BATCH, SIDE, CLASSES = 3, 12, 32, 3
SETTINGS: dict[str, Any] = {
    "train.loss": "BCE",
    "train.opt": "LAMB",
    "train.lr": 0.01,
    "train.weight_decay": 0.02,
    "train.batch_size": BATCH,
    "train.smoothing": 0.1,
    "augment.preset": "cutmix",
    "augment.repeats": REPEATS,
    "augment.color_jitter": 0.2,
}


def make_batch_by_hand(folder: Path, recipe: Recipe, built: BuiltModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the first batch, float32 (B, C, H, W), and its soft targets, (B, K)."""
    names = sorted(path.name for path in (folder / "train").iterdir())
    files = sorted((folder / "train").rglob("*.jpg"), key=lambda path: path.relative_to(folder).as_posix())
    order = np.random.default_rng([recipe.seed, 0, 1]).permutation(len(files))
    spec = InputSpec(
        img_size=SIDE, interpolation=built.interpolation, crop_pct=built.crop_pct, mean=built.mean
    )
    transform = TrainTransform(spec=spec, augment=recipe.augment)
    images, targets = [], []
    for row in order[: BATCH // REPEATS]:
        for draw in range(REPEATS):
            seed = [recipe.seed, 0, 2, int(row)] + ([draw] if draw else [])
            with Image.open(files[row]) as picture:
                pixels = transform(picture.convert("RGB"), np.random.default_rng(seed))
            images.append((pixels / 255 - np.array(built.mean)) / np.array(built.std))
            targets.append(np.eye(CLASSES)[names.index(files[row].parent.name)])
    batch, goals = np.stack(images).transpose(0, 3, 1, 2), np.stack(targets)
    rng = np.random.default_rng([recipe.seed, 0, 0, 3])
    assert rng.random() < recipe.augment.mix_prob
    rng.integers(1)  # of one kind of mixing
    share = np.sqrt(1 - rng.beta(1.0, 1.0))
    half = round(SIDE * share) // 2
    row, column = int(rng.integers(SIDE)), int(rng.integers(SIDE))
    rows = slice(max(0, row - half), min(SIDE, row + half))
    columns = slice(max(0, column - half), min(SIDE, column + half))
    others = batch[::-1].copy()
    batch[:, :, rows, columns] = others[:, :, rows, columns]
    weight = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / SIDE**2
    assert 0 < weight < 1
    goals = weight * goals + (1 - weight) * goals[::-1]
    return batch.astype(np.float32), goals * 0.9 + 0.1 / CLASSES


def compute_bce(logits: np.ndarray, goals: np.ndarray) -> float:
    probs = 1 / (1 + np.exp(-logits))
    return float(-(goals * np.log(probs) + (1 - goals) * np.log(1 - probs)).mean())


@pytest.fixture(scope="module")
def first_step(noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A real training through the API, stopped after its first step, and the same by hand."""
    recipe = build_recipe(SETTINGS)
    losses: list[float] = []
    output = tmp_path_factory.mktemp("strikes-back")
    stopper = stopping_at(1)
    watch = Acting(lambda progress: (losses.append(progress.loss), stopper.step(progress))[0])
    with pytest.raises(Preempted):
        px.train(recipe, data=noise_folder, output=output, device="cpu", watch=watch)
    run = px.find_run("tiny@latest", root=output)
    built = build_model(recipe.model, num_classes=CLASSES, seed=recipe.seed)
    batch, goals = make_batch_by_hand(noise_folder, recipe, built)
    module = built.module.to(memory_format=torch.channels_last).train()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    logits = module(torch.from_numpy(batch).to(memory_format=torch.channels_last))
    return {
        "recipe": recipe, "run": run, "loss": losses[0], "module": module, "before": before, "logits": logits,
        "goals": goals, "output": output,
    }  # fmt: skip


def test_the_first_batchs_loss_is_the_one_computed_by_hand(first_step):
    expected = compute_bce(first_step["logits"].detach().double().numpy(), first_step["goals"])
    assert first_step["loss"] == pytest.approx(expected, rel=2e-6)


def test_the_first_update_is_that_of_the_lamb_paper(first_step):
    """You et al. 2020, algorithm 2, with the gradient's norm clipped to 1 before, as NVIDIA's and timm's."""
    logits, goals = first_step["logits"], torch.from_numpy(first_step["goals"]).float()
    probs = logits.sigmoid()
    loss = -(goals * probs.log() + (1 - goals) * (1 - probs).log()).mean()
    loss.backward(retain_graph=True)
    grads = {name: value.grad.double().numpy() for name, value in first_step["module"].named_parameters()}
    norm = np.sqrt(sum((grad**2).sum() for grad in grads.values()))
    after = read_latest(first_step["run"]).groups["model"]
    adapted = 0
    for name, weight in first_step["before"].items():
        w, g = weight.double().numpy(), grads[name] / max(norm, 1.0)
        # Bias-corrected moments after one step: m = (1 - b1) g / (1 - b1), v = (1 - b2) g^2 / (1 - b2).
        update = g / (np.sqrt(g**2) + 1e-6)
        ratio = 1.0
        if w.ndim > 1:  # what weight decay leaves out isn't rescaled either
            update = update + 0.02 * w
            ratio = np.linalg.norm(w) / np.linalg.norm(update)
            adapted += 1
        expected = w - 0.01 * ratio * update
        step = after[name].double().numpy() - w
        error = np.linalg.norm(after[name].double().numpy() - expected)
        # A block that ends with a scale of zero passes no gradient on to its norms in the first step.
        assert error < 2e-3 * np.linalg.norm(step) if grads[name].any() or w.ndim > 1 else not step.any(), (
            name
        )
    assert adapted > 5
    for value in first_step["module"].parameters():
        value.grad = None


def test_the_run_goes_on_to_its_end_and_equals_one_that_was_not_stopped(first_step, noise_folder, tmp_path):
    recipe = first_step["recipe"]
    whole = px.train(recipe, data=noise_folder, output=tmp_path, device="cpu")
    run = px.train(recipe, data=noise_folder, output=first_step["output"], resume=True, device="cpu")
    assert digest(run) == digest(whole)
    row = run.read_metrics()[-1]
    assert row["step"] == 6  # 36 samples an epoch: 12 images, three draws of each
    assert np.isfinite(row["train/loss"])


VARIANTS: dict[str, dict[str, Any]] = {
    "bce-cutmix-lamb-repeats": {**SETTINGS, "train.batch_size": 13},
    "balanced-muon-focal": {
        "train.sampling": "balanced", "train.opt": "muon", "train.loss": "focal", "train.class_weights": "balanced",
    },
    "balanced-repeats-sgd": {
        "train.sampling": "balanced", "augment.preset": "rsb", "augment.repeats": 2, "train.opt": "sgd",
        "train.loss": "bce", "train.bce_threshold": 0.2,
    },
    "adam-padded": {"train.opt": "adam", "augment.preset": "cifar-cutmix", "augment.policy": "trivialaugment"},
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_in_mid_epoch_it_ends_with_the_same_bits(variant, noise_folder, tmp_path):
    """Stopped in both epochs, each part with another number of workers."""
    recipe = build_recipe(VARIANTS[variant])
    manifest = read_data(noise_folder, recipe)
    whole, pieces = (RunDir.create(tmp_path, name) for name in ("whole", "pieces"))
    assert train_session(recipe, manifest, whole) is None
    for step, workers in ((2, 0), (4, 1)):
        stopped = train_session(recipe, manifest, pieces, stop_at=step, workers=workers)
        assert isinstance(stopped, Preempted)
    assert train_session(recipe, manifest, pieces, workers=2) is None
    assert digest(pieces) == digest(whole)


@pytest.mark.parametrize("change", [{"augment.repeats": 2}, {"train.sampling": "balanced"}])
def test_an_epoch_of_another_order_begins_again(change, noise_folder, tmp_path):
    recipe = build_recipe()
    manifest = read_data(noise_folder, recipe)
    run = RunDir.create(tmp_path, "run")
    train_session(recipe, manifest, run, stop_at=2)
    with opened(build_recipe(change), manifest, run) as (_job, state, notes):
        assert (state.batch, state.step) == (0, 2)
        assert any("it restarts" in note for note in notes)


def test_repeats_are_counted_each_and_augmented_each_in_their_own_way(noise_folder, tmp_path):
    recipe = build_recipe({"augment.repeats": 4, "train.epochs": 1})
    manifest = read_data(noise_folder, recipe)
    with opened(recipe, manifest, RunDir.create(tmp_path, "run")) as (job, _state, _notes):
        (first, *rest) = job.loader.batches(job.plan_epoch(0))
        assert len(rest) == 2
        for start in range(0, 12, 4):
            group = first.images[start : start + 4]
            assert len(set(first.rows[start : start + 4])) == 1
            assert all((group[i] != group[j]).any() for i in range(4) for j in range(i))
    run = RunDir.create(tmp_path, "counted")
    assert train_session(recipe, manifest, run) is None
    tally = read_latest(run).state["train"]["tally"]
    assert np.sum(tally["confusions"]) in {0, 36}  # closed, or open with each draw counted
