"""The test split has no say in what is trained: other test images, the same weights."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from training_parts import digest

import praxiscope as px
from praxiscope.runs.rundir import RunDir


def train_on(data: Path, output: Path) -> RunDir:
    recipe = px.load_recipe(
        {"name": "small", "model": {"name": "test_resnet", "img_size": 32}},
        {"train.epochs": 2, "train.batch_size": 8, "loader.workers": 0},
    )
    return px.train(recipe, data=data, output=output)


def test_other_test_images_give_the_same_weights_bit_for_bit(photos: Path, tmp_path: Path) -> None:
    first = train_on(photos, tmp_path / "first")
    for place, path in enumerate(sorted((photos / "test").rglob("*.jpg"))):
        Image.effect_noise((48, 48), 40 + place).convert("RGB").save(path)
    second = train_on(photos, tmp_path / "second")
    assert digest(first)["tensors"] == digest(second)["tensors"]
    fingerprints = [run.read_run_json()["data"]["manifest_fingerprint"] for run in (first, second)]
    assert fingerprints[0] != fingerprints[1]  # the test images really were others
