"""Grad-CAM of many images in batches, beside pytorch-grad-cam as its README shows it, one image at a time.

    python benchmarks/gradcam.py [--models resnet18 tf_efficientnet_lite0 vit_tiny_patch16_224]
                                 [--images 100] [--rounds 3] [--precisions fp32] [--img-size 224]

Sides, in one process and in turns, the order turning with the rounds; each once before without a stopwatch:

- ``ours``: ``compute_maps`` on uint8 images at batch 32, normalisation included.
- ``theirs``: pytorch-grad-cam, one image at a time, from tensors that are already normalised.
- ``theirs_batched``: the same at batch 32.

Random weights, random images: time depends on neither. All sides have glibc's malloc tuned, the same number
of threads, and give a map from 0 to 1 at the image's resolution. The largest difference between ours and
theirs is in the results; above 1e-4 in float32 the benchmark fails. With ``bf16`` our side alone changes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from measuring import format_summary, summarize, write_result
from praxiscope.explaining.saliency.compute import compute_maps, scale_maps
from praxiscope.explaining.saliency.target import choose_target_layer
from praxiscope.explaining.subject import Subject, build_subject
from praxiscope.models.build import build_model
from praxiscope.models.runtime import Precision, choose_runtime, tune_allocator
from praxiscope.recipe.schema import ModelSection

NUM_CLASSES = 15
BATCH_SIZE = 32
TOLERANCE = 1e-4
PREDICTED = {"resnet18": 5.0, "tf_efficientnet_lite0": 5.0, "vit_tiny_patch16_224": 3.5}
"""Times as fast as one by one in float32, written down before the first measurement."""

Maps = npt.NDArray[np.float32]


def open_subject(name: str, img_size: int, precision: Precision) -> Subject:
    """Build a network with random weights as runs are opened to be explained."""
    built = build_model(ModelSection(name=name, img_size=img_size), num_classes=NUM_CLASSES, seed=0)
    runtime = choose_runtime(
        torch.device("cpu"), precision=precision, channels_last="auto", family=built.card.family
    )
    return build_subject(built, runtime, tuple(f"class {place}" for place in range(NUM_CLASSES)), name)


def build_theirs(name: str, img_size: int, layer: str) -> GradCAM:
    """Return pytorch-grad-cam on the same weights, in torch's own memory format as its README leaves it."""
    module = build_model(ModelSection(name=name, img_size=img_size), num_classes=NUM_CLASSES, seed=0).module
    module.eval()
    reshape = _reshape_tokens if name.startswith("vit") else None
    return GradCAM(model=module, target_layers=[module.get_submodule(layer)], reshape_transform=reshape)


def _reshape_tokens(tokens: torch.Tensor) -> torch.Tensor:
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)


def measure(
    name: str, precision: Precision, arguments: argparse.Namespace, generator: np.random.Generator
) -> dict[str, Any]:
    """Time the sides in turns; return seconds per 100 images and ratios."""
    size, count = arguments.img_size, arguments.images
    images = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    targets = generator.integers(0, NUM_CLASSES, count)
    subject = open_subject(name, size, precision)
    layer = choose_target_layer(subject)
    cam = build_theirs(name, size, layer)
    ready = subject.prepare(images).contiguous()

    def ours() -> Maps:
        return scale_maps(compute_maps(subject, "gradcam", images, targets, batch_size=BATCH_SIZE).maps)

    def theirs(batch_size: int) -> Maps:
        parts = [
            cam(
                input_tensor=ready[start : start + batch_size],
                targets=[ClassifierOutputTarget(int(each)) for each in targets[start : start + batch_size]],
            )
            for start in range(0, count, batch_size)
        ]
        return np.concatenate(parts)

    sides: dict[str, Callable[[], Maps]] = {
        "ours": ours, "theirs": lambda: theirs(1), "theirs_batched": lambda: theirs(BATCH_SIZE)
    }  # fmt: skip
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    maps = {side: work() for side, work in sides.items()}
    for number in range(arguments.rounds):
        order = list(sides)[number % 3 :] + list(sides)[: number % 3]
        for side in order:
            started = time.perf_counter()
            sides[side]()
            seconds[side].append(100 / count * (time.perf_counter() - started))
        print(f"  round {number + 1}: " + ", ".join(f"{s} {seconds[s][-1]:.2f} s" for s in sides), flush=True)
    difference = float(np.abs(maps["ours"] - maps["theirs"]).max())
    if precision == "fp32" and difference > TOLERANCE:
        raise SystemExit(f"{name}: maps differ by {difference:.2g}, more than {TOLERANCE:g}.")
    return {
        "layer": layer,
        "runtime": subject.runtime.describe(),
        "largest_difference": difference,
        "predicted_ratio": PREDICTED.get(name) if precision == "fp32" else None,
        **{f"{side}_s_per_100": summarize(values) for side, values in seconds.items()},
        **{
            f"ratio_to_{side}": summarize(
                [b / a for a, b in zip(seconds["ours"], seconds[side], strict=True)]
            )
            for side in ("theirs", "theirs_batched")
        },
    }


def main() -> None:
    """Measure each network and write ``results/gradcam.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(PREDICTED))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32"])
    arguments = parser.parse_args()
    figures: dict[str, Any] = {
        "malloc": tune_allocator(),
        "threads": torch.get_num_threads(),
        "images": arguments.images,
        "img_size": arguments.img_size,
        "batch_size": BATCH_SIZE,
    }
    for name in arguments.models:
        for precision in cast("list[Precision]", arguments.precisions):
            print(name, precision, flush=True)
            found = measure(name, precision, arguments, np.random.default_rng(0))
            figures[f"{name} {precision}"] = found
            for key in ("ours_s_per_100", "theirs_s_per_100", "ratio_to_theirs", "ratio_to_theirs_batched"):
                print(format_summary(f"{name}: {key}", found[key], "x" if "ratio" in key else "s"))
            print(f"largest difference {found['largest_difference']:.2g}")
    write_result("gradcam", figures)


if __name__ == "__main__":
    main()
