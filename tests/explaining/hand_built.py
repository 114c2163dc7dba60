"""Networks whose reasons are known exactly, and pictures for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from praxiscope.explaining.measure.samples import MeasuredSamples
from praxiscope.explaining.subject import Subject
from praxiscope.models.runtime import Normalizer, Runtime

SIDE = 32
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], dtype=np.uint8)
PLACES = np.array([[40, 180, 180], [180, 40, 180], [180, 180, 40]], dtype=np.uint8)
"""Colours of backgrounds, none of them an actor's."""
NAMES = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class ColourReader:
    """Answers with the colour that it sees most of inside its window."""

    weights: np.ndarray
    palette: np.ndarray
    names: tuple[str, ...] = NAMES
    sharpness: float = 40.0

    def compute_logits(self, images: np.ndarray) -> np.ndarray:
        distance = np.abs(images[:, :, :, None, :].astype(np.float32) - self.palette).sum(axis=-1)
        seen = (distance < 60) * self.weights[None, :, :, None]
        return (self.sharpness * seen.sum(axis=(1, 2)) / self.weights.sum()).astype(np.float32)


def read_background(side: int = SIDE) -> ColourReader:
    """Sees only a rim of the picture, where no actor stands."""
    window = np.ones((side, side), dtype=np.float32)
    window[3:-3, 3:-3] = 0
    return ColourReader(weights=window, palette=PLACES)


def read_actor(side: int = SIDE) -> ColourReader:
    """Sees only the middle of the picture, where the actor stands."""
    window = np.zeros((side, side), dtype=np.float32)
    window[side // 2 - 2 : side // 2 + 2, side // 2 - 2 : side // 2 + 2] = 1
    return ColourReader(weights=window, palette=COLOURS)


def draw_pictures(
    count: int, *, tied: bool, side: int = SIDE, seed: int = 0, groups: int | None = None
) -> MeasuredSamples:
    """Draw actors of the class's colour before the class's background (tied), or before any."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    behind = targets if tied else rng.integers(3, size=count)
    images = np.repeat(np.repeat(PLACES[behind][:, None, None], side, axis=1), side, axis=2).copy()
    masks = np.zeros((count, side, side), dtype=bool)
    for place in range(count):
        half = int(rng.integers(side // 6, side // 4))
        middle = slice(side // 2 - half, side // 2 + half)
        masks[place, middle, middle] = True
    images[masks] = np.repeat(COLOURS[targets], masks.sum(axis=(1, 2)), axis=0)
    images = np.clip(images.astype(int) + rng.integers(-8, 9, images.shape), 0, 255).astype(np.uint8)
    return MeasuredSamples(
        images=images,
        targets=targets.astype(np.int64),
        sample_ids=tuple(f"{place:04d}" for place in range(count)),
        groups=tuple(None if groups is None else str(place % groups) for place in range(count)),
        split="test",
        masks=masks,
    )


class ColourNet(nn.Module):
    """A small real network: colour filters, a ReLU, a mean over the picture, a linear head."""

    def __init__(self, *, learned: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.act2 = nn.ReLU()
        self.fc = nn.Linear(6, 3)
        self.learned = learned

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.act2(self.conv(self.act(self.norm(self.stem(images)))))
        return self.fc(found.mean(dim=(2, 3)))


def build_net(seed: int = 0) -> Subject:
    """Return a random network as a subject, on the CPU in float32."""
    runtime = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ColourNet()
    return Subject(
        module=module.eval(),
        family="cnn",
        names=NAMES,
        img_size=SIDE,
        normalize=Normalizer((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), runtime),
        runtime=runtime,
        label="hand-built",
    )
