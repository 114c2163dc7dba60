"""Subjects whose maps are known, and small networks with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import timm
import torch
from torch import nn

from praxiscope.explaining.subject import Subject, build_subject
from praxiscope.models.build import build_model
from praxiscope.models.catalog import Family
from praxiscope.models.runtime import Normalizer, Precision, Runtime, choose_runtime
from praxiscope.recipe.schema import ModelSection

CPU = torch.device("cpu")
NAMES = ("clap", "jump", "run", "wave")


def build_runtime(precision: Precision = "fp32", *, channels_last: bool = False) -> Runtime:
    return Runtime(device=CPU, precision=precision, reason="test", channels_last=channels_last)


def wrap(
    module: nn.Module, *, family: Family = "cnn", img_size: int = 8, precision: Precision = "fp32"
) -> Subject:
    """A subject around any network; pixels 0..255 become 0..1."""
    runtime = build_runtime(precision)
    return Subject(
        module=module.eval(),
        family=family,
        names=NAMES,
        img_size=img_size,
        normalize=Normalizer((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), runtime),
        runtime=runtime,
        label="a network",
    )


def open_network(name: str, *, precision: Precision = "fp32", **section: Any) -> Subject:
    """A network of the catalogue with random weights, as runs are opened."""
    with torch.random.fork_rng():
        built = build_model(ModelSection(name=name, **section), num_classes=len(NAMES), seed=0)
    runtime = choose_runtime(CPU, precision=precision, channels_last="auto", family=built.card.family)
    return build_subject(built, runtime, NAMES, name)


def open_timm_vit(**arguments: Any) -> Subject:
    """timm's smallest Vision Transformer, built with arguments that recipes don't know."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model("test_vit", num_classes=len(NAMES), **arguments)
    return wrap(module, family="vit", img_size=arguments.get("img_size", 160))


def draw_images(count: int, size: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


class Pooled(nn.Module):
    """A convolution, an activation that is used twice, the mean over the map, a linear layer."""

    def __init__(self, *, inplace: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
            self.conv2 = nn.Conv2d(5, 6, 3, padding=1)
            self.fc = nn.Linear(6, len(NAMES))
        self.act = nn.ReLU(inplace=inplace)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.act(self.conv2(self.act(self.conv1(images)))).mean(dim=(2, 3)))
