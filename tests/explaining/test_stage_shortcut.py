"""A planted shortcut is found: on networks built by hand in seconds, on trained ones in minutes (soak)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from praxiscope.data.build import build_manifest
from praxiscope.data.loader import build_sample_set
from praxiscope.data.stage.dataset import StageSpec, write_stage_images
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.explaining.measure.draw import add_masks, draw_samples
from praxiscope.explaining.measure.reliance import measure_reliance
from praxiscope.recipe.schema import DataSection

ROOT = Path(__file__).parents[2]
ACTIONS = ("jump", "sleep", "sweep")
TRANSFORM = EvalTransform(spec=InputSpec(img_size=48, crop_pct=1.0, interpolation="bilinear"))


class NearestScene:
    """Answers with the class of the most similar training scene, seen through its rim alone."""

    def __init__(self, samples, names):
        self.names = names
        self._known, self._targets = self._look(samples.images), samples.targets

    def _look(self, images):
        sides = [images[:, :5], images[:, -5:]]
        return np.concatenate(
            [np.stack([part.mean(axis=(1, 2)), part.std(axis=(1, 2))], axis=1) for part in sides], axis=1
        ).reshape(len(images), -1)

    def compute_logits(self, images):
        gaps = ((self._look(images)[:, None] - self._known) ** 2).mean(axis=2)
        logits = np.full((len(images), len(self.names)), -1e9, dtype=np.float32)
        for place in range(len(self.names)):
            logits[:, place] = -gaps[:, self._targets == place].min(axis=1)
        return logits


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """Training and unseen scenes in which each class has a background of its own."""
    drawn = []
    for seed, count in ((0, 12), (1, 8)):
        spec = StageSpec(
            size=48, seed=seed, actions=ACTIONS, train_per_action=count, val_per_action=1, test_per_action=1,
            shortcut=True,
        )  # fmt: skip
        root = write_stage_images(tmp_path_factory.mktemp("stage") / str(seed), spec)
        manifest = build_manifest(root, DataSection(), seed=0)
        samples = build_sample_set(manifest, "train")
        found = draw_samples(manifest, samples, TRANSFORM, split="train", count=999)
        drawn.append(add_masks(found.samples, manifest, TRANSFORM)[0])
    return drawn


def test_a_network_that_knows_the_rim_of_the_scene_is_found(tied):
    known, unseen = tied
    found = measure_reliance(NearestScene(known, ACTIONS), unseen)
    assert found.conditions[0].accuracy.value > 0.6
    assert found.background.score.low > 0.5
    assert found.background.score.value > 0.8


@pytest.mark.soak
def test_the_benchmark_finds_the_shortcut_in_trained_networks(tmp_path):
    """About ten minutes on one core: two trainings, all measures; its figures go to a copy, not to the results."""
    code = (
        "import sys, measuring, pathlib; measuring.RESULTS = pathlib.Path(sys.argv.pop(1)); "
        "import explanations; explanations.main()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), "--work", str(tmp_path / "work")]
    subprocess.run(command, cwd=ROOT / "benchmarks", check=True)
    content = json.loads((tmp_path / "explanations-stage.json").read_text(encoding="utf-8"))
    shortcut, honest = content["shortcut"], content["honest"]
    assert shortcut["tied"]["reliance_scene"]["background"]["score"]["value"] > 0.8
    assert shortcut["free"]["reliance_scene"]["answers"]["score"]["value"] > 0.8
    assert honest["free"]["reliance_scene"]["background"]["score"]["value"] < 0.2
    table = {each["method"]: each for each in honest["methods"]["methods"]}
    best = table[honest["methods"]["best"][0]]
    assert best["pointing_gain"]["low"] > 0.2
    assert best["energy_gain"]["low"] > 0.05
    assert table["gradcam"]["sanity"]["verdict"] == "passes"
    assert table["gradcam"]["sanity"]["correlation"][-1] < 0.3
    assert best["sanity"]["correlation"][-1] < 0.6
    assert table["edges"]["sanity"]["verdict"] == "fails"
