"""Keep a finished and evaluated run's figures, never its data.

    python benchmarks/record_run.py RUN [RUN ...] NAME

Writes ``results/NAME.json``: command, commit, machine, time, the course of training, and the test scores with
their intervals.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from measuring import RESULTS
from praxiscope.runs.atomic import read_json
from praxiscope.runs.rundir import RunDir

_COURSE = (
    "epoch",
    "lr",
    "train/loss",
    "train/top1",
    "val/loss",
    "val/top1",
    "val/macro_f1",
    "images_per_s",
    "epoch_s",
)
_MACHINE = ("cpu", "cpu_flags", "cores", "memory_mib", "os", "python", "torch", "timm", "device", "precision",
            "precision_reason", "memory_format", "threads", "malloc")  # fmt: skip


def summarize_run(run: RunDir) -> dict[str, Any]:
    """Return what a reader needs to judge a run."""
    stored = run.read_run_json()
    metrics = read_json(run.evaluations("test")[-1] / "metrics.json")
    data = stored["data"]
    return {
        "recipe": stored["recipe_name"],
        "command": _shorten(stored["command"]),
        "praxiscope_version": stored["praxiscope_version"],
        "git_commit": stored["git_commit"],
        "machine": {key: stored["environment"].get(key) for key in _MACHINE},
        "data": {key: data[key] for key in ("num_train", "num_val", "num_test", "manifest_fingerprint")},
        "findings": [finding["message"] for finding in data["findings"] if finding["severity"] != "note"],
        "model": {
            key: stored["model"][key] for key in ("name", "parameters", "trainable_parameters", "frozen")
        },
        "train_s": round(stored["time"]["train_s"], 1),
        "sessions": stored["time"]["sessions"],
        "best": stored["best"],
        "extensions": stored.get("extensions", []),
        "epochs": [{key: row[key] for key in _COURSE if key in row} for row in run.read_metrics()],
        "test": {
            key: metrics[key] for key in ("num_samples", "num_clean", "all", "clean", "interval", "per_class")
        },
        "notes": stored["notes"],
        "weights_sha256": metrics["weights_sha256"],
    }


def _shorten(command: list[str]) -> str:
    """Leave out where runs and data lie: these are nobody else's folders."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in command]
    while flag := next((word for word in words if word in {"-o", "--output"}), None):
        place = words.index(flag)
        del words[place : place + 2]
    return " ".join(words)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("name", metavar="NAME")
    arguments = parser.parse_args()
    content = [summarize_run(RunDir.open(path)) for path in arguments.runs]
    path = RESULTS / f"{arguments.name}.json"
    text = json.dumps(content[0] if len(content) == 1 else content, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
