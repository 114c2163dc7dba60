"""Demo: the main job on the embedded data, from nothing to two reports."""

from __future__ import annotations

from pathlib import Path

from praxiscope.data.stage.dataset import StageSpec, write_stage_images
from praxiscope.recipe.load import load_recipe
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.evaluate import EvaluationResult, evaluate
from praxiscope.workflows.report import report
from praxiscope.workflows.train import train

RECIPES = ("demo-cnn", "demo-vit")
# Half of what the stage can play: so a thousand images are enough of each for a small network.
ACTIONS = ("hold_umbrella", "jump", "kick", "pick_up", "run", "sit_down", "sleep", "sweep")


def run_demo(
    output: Path, *, images: int = 1200, quick: bool = False, watch: Watcher | None = None
) -> dict[str, EvaluationResult]:
    """Render stage images, train a CNN and a ViT on them, evaluate both on unseen performers, report.

    Args:
        output: gets ``stage-<images>/`` and ``runs/``; data that are there already are used again.
        images: training images, shared evenly among the classes.
        quick: two epochs each.
        watch: follows progress.

    Returns:
        Each recipe's evaluation.
    """
    watch = watch or Silent()
    spec = StageSpec(
        actions=ACTIONS,
        train_per_action=max(4, images // len(ACTIONS)),
        val_per_action=30,
        test_per_action=50,
    )
    watch.note(f"Rendering {len(ACTIONS)} actions, {spec.train_per_action} training images of each ...")
    data = write_stage_images(output / f"stage-{images}", spec, progress=watch.phase)
    overrides = {"train.epochs": 2, "train.warmup_epochs": 0} if quick else {}
    results = {}
    for name in RECIPES:
        watch.note(f"--- {name}")
        run = train(load_recipe(name, overrides), data=data, output=output / "runs", watch=watch)
        results[name] = evaluate(run, watch=watch)
        report(run)
    return results
