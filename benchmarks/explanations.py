"""Explanations measured where the truth is known: the stage, with and without a planted shortcut.

    python benchmarks/explanations.py [--work DIR] [--samples 125] [--epochs 15] [--images 150]
                                      [--methods NAME ...] [--layer layer2]

Two demo-cnn networks are trained on generated stage images: ``honest``, and ``shortcut``, where each class
has a background of its own in training. Both are then measured on images of performers that neither has
seen:

* ``tied``: class and background go together, as in the shortcut's training data;
* ``free``: they don't.

What is to be seen: background scores near 1 for ``shortcut`` and near 0 for ``honest``; maps of the honest
network that point at the actor far more often than chance; maps that a random network doesn't keep; and a
plain edge map, which knows no network, caught by the sanity check.

At 64 px the last layer has 2 x 2 cells, too coarse to point with, so the CAMs look at ``layer2``; Grad-CAM
at the last layer stands beside them. Finished trainings in ``--work`` are used again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from measuring import write_result
from praxiscope.data.build import build_manifest
from praxiscope.data.loader import build_sample_set
from praxiscope.data.stage.dataset import StageSpec, write_stage_images
from praxiscope.explaining.measure.draw import add_masks, draw_samples
from praxiscope.explaining.measure.methods import Explainer, MeasurePlan, build_explainers, measure_methods
from praxiscope.explaining.measure.reliance import measure_reliance
from praxiscope.explaining.measure.result import Measured, Reliance
from praxiscope.explaining.measure.samples import MeasuredSamples
from praxiscope.explaining.subject import Subject
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.find import find_run
from praxiscope.training.watch import Silent
from praxiscope.workflows.explain_subjects import Explained, open_explained
from praxiscope.workflows.train import train

# No furniture: a bed is no part of the actor's mask, and a network that knows sleeping by the bed goes by the
# background in earnest.
ACTIONS = ("hold_umbrella", "jump", "kick", "run", "sweep")


def main() -> None:
    """Train where needed, measure, print, write the results file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path)
    parser.add_argument("--samples", type=int, default=125)
    parser.add_argument("--images", type=int, default=150, help="training images of each class")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--layer", default="layer2", help="of methods that look at one; 8 x 8 cells")
    parser.add_argument(
        "--methods",
        nargs="*",
        default=["gradcam", "gradcam++", "eigencam", "integrated-gradients"],
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        found = {name: measure_network(name, work, options) for name in ("honest", "shortcut")}
    write_result(
        "explanations-stage",
        {"actions": list(ACTIONS), "images_per_class": options.images, "epochs": options.epochs, **found},
    )


def measure_network(name: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train one network and measure it on both kinds of images."""
    spec = StageSpec(
        actions=ACTIONS,
        train_per_action=options.images,
        val_per_action=10,
        test_per_action=25,
        shortcut=name == "shortcut",
    )
    data = write_stage_images(work / f"data-{name}-{options.images}", spec)
    explained, train_s = open_network(
        name, data, work / f"runs-{options.images}-{options.epochs}", options.epochs
    )
    held_out = write_stage_images(
        work / "data-tied",
        replace(spec, seed=1, shortcut=True, train_per_action=25, val_per_action=0, test_per_action=1),
    )
    tied = draw(explained, held_out, "train", options.samples)
    free = draw(explained, data, "test", options.samples)
    entry: dict[str, Any] = {"train_s": train_s}
    for where, samples in (("tied", tied), ("free", free)):
        entry[where] = {}
        for fill in ("scene", "colour"):
            began = time.perf_counter()
            reliance = measure_reliance(explained.subject, samples, fill=fill)
            tell_reliance(f"{name} on {where} images, fill {fill}", reliance, time.perf_counter() - began)
            entry[where][f"reliance_{fill}"] = reliance.to_dict()
    began = time.perf_counter()
    explainers = [
        *build_explainers(explained.subject, options.methods, layer=options.layer),
        replace(build_explainers(explained.subject, ["gradcam"])[0], name="gradcam, last layer"),
        Explainer(name="edges", explain=draw_edges),
    ]
    measured = measure_methods(
        explained.subject, free if name == "honest" else tied, explainers, plan=MeasurePlan()
    )
    tell_methods(f"{name}: methods", measured, time.perf_counter() - began)
    return {**entry, "methods": measured.to_dict()}


def open_network(name: str, data: Path, runs: Path, epochs: int) -> tuple[Explained, float]:
    """Return the network trained on the data, and the seconds that its training took."""
    folder = runs / name
    if not (folder / "demo-cnn").is_dir():
        recipe = load_recipe("demo-cnn", {"train.epochs": epochs, "train.precision": "fp32"})
        train(recipe, data=data, output=folder)
    run = find_run("demo-cnn@latest", root=folder)
    explained = open_explained(run, device="cpu", data=data, split="test", watch=Silent())
    return explained, run.read_run_json()["time"]["train_s"]


def draw(explained: Explained, data: Path, split: str, count: int) -> MeasuredSamples:
    """Draw samples of a stage as the network sees them."""
    manifest = build_manifest(data, explained.recipe.data, seed=0)
    drawn = draw_samples(
        manifest, build_sample_set(manifest, split), explained.transform, split=split, count=count
    )
    return add_masks(drawn.samples, manifest, explained.transform)[0]


def draw_edges(_subject: Subject, images: np.ndarray, _targets: np.ndarray) -> np.ndarray:
    """Return how much the brightness changes from pixel to pixel: a map that knows no network."""
    grey = images.mean(axis=3)
    down, right = np.gradient(grey, axis=(1, 2))
    return np.hypot(down, right).astype(np.float32)


def tell_reliance(title: str, found: Reliance, seconds: float) -> None:
    """Print one measurement."""
    print(f"\n{title} (n={found.n}, {seconds:.1f} s)\n  {found.sentence}")
    for each in found.conditions:
        print(
            f"  {each.title:<52} accuracy {each.accuracy.value:.2f} ({each.accuracy.low:.2f} to "
            f"{each.accuracy.high:.2f}), "
            f"same answer {each.kept.value:.2f}"
        )
    for label, score in (("labels", found.background), ("own answers", found.answers)):
        if score.score and score.survives and score.lost:
            print(
                f"  {label}: score {score.score.value:.2f} ({score.score.low:.2f} to "
                f"{score.score.high:.2f}), "
                f"survives {score.survives.value:.2f}, lost {score.lost.value:.2f}"
            )


def tell_methods(title: str, found: Measured, seconds: float) -> None:
    """Print the table."""
    print(f"\n{title} (n={found.n}, {seconds:.1f} s)")
    if found.mask_reference:
        print(
            "  "
            + ", ".join(
                f"{name} {getattr(found.mask_reference, name).value:.2f}"
                for name in ("mask_area", "pointing_chance", "centre")
            )
        )
    for each in (*found.methods, found.random):
        line = (
            f"  {each.rank} {each.method:<22} deletion {each.deletion.value:.3f} insertion "
            f"{each.insertion.value:.3f} "
            f"gain {each.score_gain.value:+.3f} ({each.score_gain.low:+.3f} to "
            f"{each.score_gain.high:+.3f}) {each.ms_per_image:.2f} ms"
        )
        if each.masks:
            line += f" pointing {each.masks.pointing.value:.2f} energy {each.masks.energy.value:.2f}"
        if each.sanity:
            line += (
                f" sanity {' '.join(f'{value:.2f}' for value in each.sanity.correlation)} "
                f"{each.sanity.verdict}"
            )
        print(line)
    print("  " + "\n  ".join(found.ranking))


if __name__ == "__main__":
    main()
