"""Evaluation of two views: the mean of an image's and its mirror image's logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from class_folders import write_class_folders
from praxiscope.data.build import build_manifest
from praxiscope.data.loader import build_sample_set
from praxiscope.data.transforms import InputSpec
from praxiscope.evaluation.inputs import build_evaluation_loader
from praxiscope.evaluation.predict import compute_logits
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.recipe.load import load_recipe


class _LeftAndRight(nn.Module):
    """Logits that tell the halves of an image apart."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        half = images_BCHW.shape[3] // 2
        halves = images_BCHW[..., :half], images_BCHW[..., half:]
        return torch.stack([side.mean((1, 2, 3)) for side in halves], 1)


def test_flip_averages_an_image_and_its_mirror_image(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "data", splits={"train": 6, "test": 3}, names=("a", "b"))
    recipe = load_recipe({"name": "views"}, ["loader.workers=0"])
    samples = build_sample_set(build_manifest(root, recipe.data, seed=0), "test")
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", reason="", channels_last=True)
    normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), runtime)
    found = {}
    with build_evaluation_loader(samples, InputSpec(img_size=16), recipe, runtime) as loader:
        for flip in (False, True):
            found[flip] = compute_logits(
                _LeftAndRight(), loader, num_samples=len(samples), batch_size=4, normalize=normalize,
                runtime=runtime, flip=flip,
            )  # fmt: skip
    assert np.abs(found[False][:, 0] - found[False][:, 1]).max() > 0.01
    np.testing.assert_allclose(found[True][:, 0], found[True][:, 1], atol=1e-6)
    np.testing.assert_allclose(found[True].mean(axis=1), found[False].mean(axis=1), atol=1e-6)
