"""Which ways to join frames tell an action from the same action run backwards?

    python benchmarks/temporal.py [--models mean max attention transformer gru tsm] [--train-per-action 300]
                                  [--epochs N] [--folder DIR]

Renders stage clips of ``sit_down`` and ``stand_up``: the same motions, one of them backwards to the last bit,
with backgrounds, cameras and clothes that say nothing about the class. Performers of the test are in no other
split. Each network is ``stage-clips-gru`` with another way to join frames, or ``stage-clips-tsm``, trained
from scratch on the same clips. Accuracy is within the reversed pair, with the bootstrap's interval by
performer; 50 % is chance.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import write_result
from praxiscope.data.stage.dataset import StageSpec, write_stage_clips
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.train import train

MODELS = ("mean", "max", "attention", "transformer", "gru", "tsm")
PAIR = ("sit_down", "stand_up")


def build_spec(train_per_action: int) -> StageSpec:
    """Return clips of the pair; 8 frames each, all of which the networks see."""
    return StageSpec(
        size=64,
        actions=PAIR,
        train_per_action=train_per_action,
        val_per_action=30,
        test_per_action=100,
        train_performers=100,
        val_performers=15,
        test_performers=50,
        num_frames=8,
    )


def build_recipe(model: str, epochs: int | None) -> Recipe:
    """Return the built-in recipe with this way to join frames."""
    changes: dict[str, Any] = {"name": f"stage-clips-{model}", "train.precision": "fp32"}
    if model != "tsm":
        changes["model.temporal"] = model
    if epochs is not None:
        changes["train.epochs"] = epochs
    return load_recipe("stage-clips-tsm" if model == "tsm" else "stage-clips-gru", changes)


def measure(model: str, data: Path, runs: Path, epochs: int | None) -> dict[str, Any]:
    """Train and evaluate one network."""
    start = time.perf_counter()
    run = train(build_recipe(model, epochs), data=data, output=runs)
    train_s = time.perf_counter() - start
    metrics = evaluate(run, temporal=True).metrics
    reliance = metrics["temporal_reliance"]
    orders = {entry["order"]: entry for entry in reliance["orders"]}
    return {
        "model": model,
        "top1": metrics["all"]["top1"],
        "n": metrics["num_samples"],
        "train_top1": run.read_metrics()[-1]["train/top1"],
        "shuffled_top1": orders["shuffled"]["top1"]["value"],
        "reversed_top1": orders["reversed"]["top1"]["value"],
        "largest_change_shuffled": orders["shuffled"]["largest_change"],
        "order_blind": reliance["order_blind"],
        "train_s": round(train_s, 1),
    }


def tell(row: dict[str, Any]) -> str:
    """Return a line for a person."""
    top1 = row["top1"]
    accuracy = f"{100 * top1['value']:5.1f} % ({100 * top1['low']:.1f} to {100 * top1['high']:.1f})"
    return (
        f"{row['model']:<12} {accuracy:<26} shuffled {100 * row['shuffled_top1']:5.1f} %  reversed "
        f"{100 * row['reversed_top1']:5.1f} %  largest change {row['largest_change_shuffled']:.1e}  "
        f"{row['train_s']:.0f} s"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--train-per-action", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="keep clips and runs here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        start = time.perf_counter()
        data = write_stage_clips(folder / "clips", build_spec(asked.train_per_action))
        print(f"clips rendered in {time.perf_counter() - start:.0f} s")
        rows = []
        for model in asked.models:
            rows.append(measure(model, data, folder / "runs", asked.epochs))
            print(tell(rows[-1]), flush=True)
    write_result("temporal", {"pair": PAIR, "train_clips": 2 * asked.train_per_action, "models": rows})


if __name__ == "__main__":
    main()
