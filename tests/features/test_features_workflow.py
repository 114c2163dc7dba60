"""A run that was trained from cached features is a run like any other, and says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from feature_runs import build_recipe

from praxiscope.data.loader import SampleFailed
from praxiscope.errors import UsageError
from praxiscope.models.build import build_model
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.checkpoint import best_checkpoint
from praxiscope.training.watch import Silent
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.train import train

RECIPE = {
    "train.epochs": 3, "train.lr": 0.3, "features.views": 2, "augment.hflip": 0.5, "evaluate.flip": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(few, tmp_path_factory):
    """Train through the public function with an own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRAXISCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield train(build_recipe(RECIPE), data=few, output=tmp_path_factory.mktemp("runs"), device="cpu")


def test_run_and_log_say_what_was_cached(finished):
    stored = finished.read_run_json()
    features = stored["features"]
    assert (features["num_train"], features["num_val"], features["num_views"]) == (25, 5, 2)
    assert features["num_computed"] == 2 * 25 + 2 * 5
    assert len(features["entries"]) == 4
    log = finished.train_log.read_text(encoding="utf-8")
    for text in (
        "Features of 25 training images x 2 views and 5 validation images, ",
        " MiB, computed in ",
        "Each training image was seen in 2 views only, not in a new one in each of 3 epochs",
    ):
        assert sum(text in note for note in stored["notes"]) == 1
        assert text in log


def test_rows_are_as_always(finished):
    rows = finished.read_metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"train/loss", "train/macro_f1", "val/loss", "val/top1", "val/ece", "images_per_s"} <= rows[
        0
    ].keys()


def test_evaluation_of_images_gives_the_figures_of_cached_validation(finished):
    metrics = evaluate(finished, split="val", device="cpu").metrics["all"]
    best = int(finished.read_run_json()["best"]["epoch"])
    row = finished.read_metrics()[best - 1]
    assert metrics["top1"]["value"] == row["val/top1"]
    assert metrics["macro_f1"]["value"] == pytest.approx(row["val/macro_f1"], abs=1e-12)
    assert metrics["nll"]["value"] == pytest.approx(row["val/loss"], abs=1e-6)


def test_the_checkpoint_holds_the_whole_network(finished):
    checkpoint, _ = best_checkpoint(finished.checkpoints, only=("model",))
    assert checkpoint is not None
    names = checkpoint.groups["model"].keys()
    assert {"conv1.0.weight", "fc.weight", "fc.bias"} <= names


def test_an_extended_run_reads_what_is_there(finished):
    before = finished.read_run_json()["notes"]
    recipe = load_recipe(finished.recipe, {"features.max_gib": 3})  # that may change
    train(recipe, data=finished.read_run_json()["data"]["root"], epochs=5, resume=finished.path, device="cpu")
    stored = finished.read_run_json()
    assert [row["epoch"] for row in finished.read_metrics()] == [1, 2, 3, 4, 5]
    assert stored["features"]["num_computed"] == 0
    assert stored["notes"][: len(before)] == before
    assert any("from the cache" in note for note in stored["notes"])


def test_a_picture_that_cannot_be_read_is_named_and_left_out_on_resume(few, cache, tmp_path):
    folder = Path(shutil.copytree(few, tmp_path / "data"))
    recipe = build_recipe({"features.views": 1})
    victim = folder / "train" / "run" / "003.jpg"

    class Breaking(Silent):
        """Breaks the file once the data has been checked."""

        def note(self, text):
            if text.startswith("test_resnet"):  # said just before features are computed
                victim.write_bytes(b"no picture")

    with pytest.raises(SampleFailed, match=r"003\.jpg"):
        train(recipe, data=folder, output=tmp_path / "runs", device="cpu", watch=Breaking())
    (run,) = (path.parent for path in (tmp_path / "runs").rglob("run.json"))
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["quarantined"] == ["train/run/003.jpg"]
    assert json.loads((run / "status.json").read_text(encoding="utf-8"))["state"] == "failed"
    resumed = train(
        recipe, data=folder, output=tmp_path / "runs", resume=run, allow_changes=True, device="cpu"
    )
    assert resumed.read_run_json()["features"]["num_train"] == 24


def test_what_cannot_be_cached_leaves_no_run_behind(few, cache, tmp_path):
    recipe = build_recipe({"features.views": 2, "augment.mixup": 0.2})
    with pytest.raises(UsageError, match="mixup"):
        train(recipe, data=few, output=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_frozen_weights_are_those_that_the_run_began_with(finished):
    recipe = load_recipe(finished.recipe)
    assert recipe.features.views == 2
    checkpoint, _ = best_checkpoint(finished.checkpoints, only=("model",))
    start = build_model(recipe.model, num_classes=2, seed=recipe.seed).module.state_dict()
    same = {name for name, value in start.items() if np.array_equal(value, checkpoint.groups["model"][name])}
    assert {name for name in start if not name.startswith("fc.")} == same
