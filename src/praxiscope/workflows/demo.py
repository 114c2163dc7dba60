"""Demo: the main job on the embedded data, from nothing to two reports and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from praxiscope.comparison.result import ComparisonResult
from praxiscope.data.stage.dataset import StageSpec, write_stage_images
from praxiscope.recipe.load import load_recipe
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.compare import compare
from praxiscope.workflows.evaluate import EvaluationResult, evaluate
from praxiscope.workflows.report import report
from praxiscope.workflows.train import train

RECIPES = ("demo-cnn", "demo-vit")
# Half of what the stage can play: so a thousand images are enough of each for a small network.
ACTIONS = ("hold_umbrella", "jump", "kick", "pick_up", "run", "sit_down", "sleep", "sweep")


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo found."""

    evaluations: dict[str, EvaluationResult]
    """Each recipe's evaluation."""
    comparison: ComparisonResult
    """The second recipe against the first."""


def run_demo(
    output: Path, *, images: int = 1200, quick: bool = False, watch: Watcher | None = None
) -> DemoResult:
    """Render stage images, train a CNN and a ViT, evaluate both on unseen performers, report, compare.

    Args:
        output: gets ``stage-<images>/``, ``runs/``, ``comparison/``; data that are there are used again.
        images: training images, shared evenly among the classes.
        quick: two epochs each.
        watch: follows progress.
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
    watch.note("--- comparison")
    comparison = compare([result.run.path for result in results.values()], output=output / "comparison")
    return DemoResult(evaluations=results, comparison=comparison)
