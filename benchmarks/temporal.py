"""Which ways to join frames tell an action from the same action run backwards?

    python benchmarks/temporal.py [--models mean gru tsm transformer attention max] [--train-per-action 300]
                                  [--epochs N] [--folder DIR]

Renders stage clips of ``sit_down`` and ``stand_up``: the same motions, one of them backwards to the last bit,
with backgrounds, cameras and clothes that say nothing about the class. Performers of the test are in no other
split. Each network is ``stage-clips-gru`` with another way to join frames, trained from scratch on the same
clips. ``tsm`` is the recipe ``stage-clips-tsm``, which has other settings (each row says its own): batches of
8, a learning rate of 1e-3, 10 epochs, residual branches that don't start at zero. So its row shows that shift
can learn order, not that it does so better or worse than another way. Accuracy is within the reversed pair,
with the bootstrap's interval by performer; 50 % is chance.
"""

from __future__ import annotations

import argparse
import csv
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

MODELS = ("mean", "gru", "tsm", "transformer", "attention", "max")
PAIR = ("sit_down", "stand_up")
CHANCE = 0.5
BLIND_BELOW = 1e-5
"""Largest change of a logit of 'mean' under shuffling."""
WANTED = 0.95
"""Top-1 on unseen performers that some way to join frames is to reach."""


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
    recipe = build_recipe(model, epochs)
    run = train(recipe, data=data, output=runs)
    train_s = time.perf_counter() - start
    metrics = evaluate(run, temporal=True).metrics
    reliance = metrics["temporal_reliance"]
    orders = {entry["order"]: entry for entry in reliance["orders"]}
    return {
        "model": model,
        "top1": metrics["all"]["top1"],
        "n": metrics["num_samples"],
        "chance": CHANCE,
        "train_top1": run.read_metrics()[-1]["train/top1"],
        "shuffled_top1": orders["shuffled"]["top1"]["value"],
        "reversed_top1": orders["reversed"]["top1"]["value"],
        "largest_change_shuffled": orders["shuffled"]["largest_change"],
        "largest_change_reversed": orders["reversed"]["largest_change"],
        "order_blind": reliance["order_blind"],
        "parameters": run.read_run_json()["model"]["parameters"],
        "settings": {
            "epochs": recipe.train.epochs,
            "batch_size": recipe.train.batch_size,
            "lr": recipe.train.lr,
            "shift_div": recipe.model.shift_div,
            "kwargs": dict(recipe.model.kwargs),
        },
        "train_s": round(train_s, 1),
    }


def list_performers(data: Path) -> dict[str, set[str]]:
    """Return the performers of each split."""
    found: dict[str, set[str]] = {}
    with (data / "stage.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["split"], set()).add(row["performer"])
    return found


def summarize(rows: list[dict[str, Any]], performers: dict[str, set[str]]) -> dict[str, Any]:
    """Return what the benchmark is to show, each figure with what it is held against."""
    told: dict[str, Any] = {
        "test_performers": len(performers["test"]),
        "test_performers_seen_in_training": len(
            performers["test"] & (performers["train"] | performers["val"])
        ),
    }
    mean = next((row for row in rows if row["model"] == "mean"), None)
    if mean is not None:
        top1 = mean["top1"]
        told["mean"] = {
            "top1": top1["value"],
            "chance": CHANCE,
            "interval_holds_chance": top1["low"] <= CHANCE <= top1["high"],
            "largest_change_shuffled": mean["largest_change_shuffled"],
            "below": BLIND_BELOW,
            "is_below": mean["largest_change_shuffled"] < BLIND_BELOW,
        }
    if temporal := [row for row in rows if not row["order_blind"]]:
        best = max(temporal, key=lambda row: row["top1"]["value"])
        told["best_temporal"] = {
            "model": best["model"],
            "top1": best["top1"],
            "wanted": WANTED,
            "reached": best["top1"]["value"] >= WANTED,
        }
    return told


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
        rows: list[dict[str, Any]] = []
        performers = list_performers(data)
        for model in asked.models:
            rows.append(measure(model, data, folder / "runs", asked.epochs))
            print(tell(rows[-1]), flush=True)
            shown = summarize(rows, performers)
            content = {
                "pair": PAIR,
                "train_clips": 2 * asked.train_per_action,
                "shows": shown,
                "models": rows,
            }
            write_result("temporal", content)  # after each, so that what is measured stays


if __name__ == "__main__":
    main()
