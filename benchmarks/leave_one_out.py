"""Leave one person out: each person is the test split once, and the figure is over all clips.

    python benchmarks/leave_one_out.py DATA [--recipe NAME] [--temporal gru mean] [--set KEY=VALUE ...]

DATA is a folder with clips and ``labels.csv`` (``file,label,subject,trial``), such as 27 clips of 3 actions
by 3 people. Of the two people who remain, the last trial of each action chooses the epoch. A person's clips
are alike, so the interval that takes clips as independent (Wilson) is too narrow to speak about new people:
the figure of each person stands beside it.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from measuring import write_result
from praxiscope.recipe.load import load_recipe
from praxiscope.stats.intervals import wilson_interval
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.train import train


def main() -> None:
    """Train and evaluate every fold of every temporal head, print, write the results file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="clips-lite0-gru")
    parser.add_argument("--temporal", nargs="*", default=["mean", "attention", "transformer", "gru"])
    parser.add_argument("--set", nargs="*", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--name", default="mhi27")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        table, people = write_table(options.data, Path(scratch))
        found = {
            temporal: measure(options, temporal, table=table, people=people, scratch=Path(scratch))
            for temporal in options.temporal
        }
    content = {"recipe": options.recipe, "settings": options.settings, "people": people, "heads": found}
    write_result(f"leave-one-out-{options.name}", content)


def write_table(data: Path, scratch: Path) -> tuple[Path, list[str]]:
    """Write a table that gives the last trial of each person to validation; return it and the people."""
    with (data / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last = max(row["trial"] for row in rows)
    table = scratch / "folds.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "subject", "split"])
        for row in rows:
            split = "val" if row["trial"] == last else "train"
            writer.writerow([row["file"], row["label"], row["subject"], split])
    return table, sorted({row["subject"] for row in rows})


def measure(
    options: argparse.Namespace, temporal: str, *, table: Path, people: list[str], scratch: Path
) -> dict[str, Any]:
    """Train one temporal head once for each person left out."""
    folds, right = {}, []
    for person in people:
        settings = [
            f"data.csv={table}",
            "data.columns.group=subject",
            f"data.test_groups=[{person}]",
            f"model.temporal={temporal}",
            *options.settings,
        ]
        run = train(load_recipe(options.recipe, settings), data=options.data, output=scratch / "runs")
        answers = evaluate(run).predictions
        correct = answers.preds() == answers.targets()
        right += correct.tolist()
        folds[person] = {"n": len(correct), "top1": round(float(correct.mean()), 4)}
    low, high = wilson_interval(int(np.sum(right)), len(right))
    figure = {
        "value": round(float(np.mean(right)), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }
    each = ", ".join(f"{person} {fold['top1']:.0%}" for person, fold in folds.items())
    print(f"{temporal:<12} {figure['value']:.1%} ({low:.1%} to {high:.1%}) of {len(right)} clips; {each}")
    return {"top1": figure, "n": len(right), "folds": folds}


if __name__ == "__main__":
    main()
