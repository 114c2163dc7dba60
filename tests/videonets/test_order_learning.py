"""What the order of frames alone tells apart, trained end to end: some ways to join frames can, 'mean' can't."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import praxiscope as px
from praxiscope.data.loader import build_sample_set
from praxiscope.data.manifest import read_manifest
from praxiscope.data.plan import BatchPlan
from praxiscope.evaluation.inputs import build_evaluation_reader, build_input_spec
from praxiscope.models.runtime import Normalizer, choose_device, choose_runtime
from praxiscope.training.watch import Silent
from praxiscope.workflows.evaluate import load_best

T, SIDE = 4, 16


@pytest.fixture(scope="module")
def crossing(tmp_path_factory):
    """Clips of a bright square that crosses the picture; 'left' is 'right' run backwards, to the last bit."""
    root = tmp_path_factory.mktemp("crossing")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 8), ("test", 12)):
        for number in range(count):
            top, colour = int(rng.integers(0, SIDE - 4)), rng.integers(120, 256, 3)
            frames = []
            for step in range(T):
                frame = np.full((SIDE, SIDE, 3), 30, np.uint8) + rng.integers(
                    0, 20, (SIDE, SIDE, 3), np.uint8
                )
                frame[top : top + 4, 4 * step : 4 * step + 4] = colour
                frames.append(Image.fromarray(frame))
            for name, order in (("right", frames), ("left", frames[::-1])):
                folder = root / split / name / f"c{number:02d}"
                folder.mkdir(parents=True)
                for place, frame in enumerate(order):
                    frame.save(folder / f"{place:02d}.png")
    return root


def train_and_evaluate(data, runs, **changes):
    recipe = px.load_recipe(
        "demo-cnn",
        {
            "model.name": "resnet18-small-half", "model.img_size": SIDE, "model.num_frames": T,
            "augment.hflip": 0.0, "augment.crop_scale": [1.0, 1.0], "augment.crop_ratio": [1.0, 1.0],
            "train.epochs": 8, "train.batch_size": 8, "train.lr": 2e-3, "train.precision": "fp32",
            "train.smoothing": 0.0, "loader.workers": 0, "evaluate.resamples": 100, "data.source": "clips",
            "model.kwargs": {"channels": [8, 16, 32, 32], "layers": [1, 1, 1, 1], "zero_init_last": False},
            **changes,
        },
    )  # fmt: skip
    run = px.train(recipe, data=data, output=runs)
    return run, px.evaluate(run)


def test_the_mean_answers_a_clip_and_its_reversal_alike(crossing, tmp_path):
    run, result = train_and_evaluate(crossing, tmp_path, **{"train.epochs": 1, "train.warmup_epochs": 0})
    assert result.metrics["all"]["top1"]["value"] == 0.5
    recipe, manifest = px.load_recipe(run.recipe), read_manifest(run.manifest)
    built = load_best(run, recipe, manifest, Silent())
    reader = build_evaluation_reader(
        build_sample_set(manifest, "test"), build_input_spec(built, recipe, evaluation=True), recipe
    )
    clips = reader(BatchPlan(epoch=0, rows=tuple(range(8))), [-1], 0).images
    runtime = choose_runtime(choose_device("cpu"), precision="fp32", channels_last=False, family="cnn")
    frames = Normalizer(built.mean, built.std, runtime)(clips)
    with torch.no_grad():
        module = built.module.eval()
        assert (module(frames) - module(frames[:, [2, 0, 3, 1]])).abs().max() < 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model.temporal": "gru", "train.epochs": 5}, id="gru"),
        pytest.param({"model.shift_div": 4}, id="tsm", marks=pytest.mark.soak),
    ],
)
def test_order_is_learned(crossing, tmp_path, changes):
    _, result = train_and_evaluate(crossing, tmp_path, **changes)
    assert result.metrics["all"]["top1"]["value"] >= 0.95
