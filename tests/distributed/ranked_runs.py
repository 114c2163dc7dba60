"""Trainings on one rank or several, and what is compared of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rank_server import RankServer

from praxiscope.errors import IntegrityError
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.runs.checkpoint import Checkpoint, latest_checkpoint
from praxiscope.runs.checkpoint_files import read_manifests
from praxiscope.runs.find import list_runs
from praxiscope.runs.rundir import RunDir

TIMED = frozenset({"images_per_s", "epoch_s", "peak_memory_mib"})

BASE: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "model": {
        "name": "vit_tiny_patch16_224",
        "img_size": 32,
        "kwargs": {"patch_size": 16, "depth": 2, "embed_dim": 48},
    },
    "augment": {"crop_scale": [0.5, 1.0], "color_jitter": 0.2, "random_erasing": 0.3},
    "train": {
        "epochs": 2, "batch_size": 8, "precision": "fp32", "opt": "sgd", "lr": 0.05, "warmup_epochs": 1,
        "channels_last": False,
    },
    "loader": {"workers": 0},
    "evaluate": {"resamples": 100},
}  # fmt: skip


class Trainings:
    """Runs of one recipe on one folder of images."""

    def __init__(self, server: RankServer, data: Path, folder: Path) -> None:
        self._server = server
        self.data = data
        self._folder = folder
        self._count = 0

    def start(
        self, *more: str, ranks: int, output: str, overrides: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Start a training; return the ranks' process ids. ``log`` names what they print."""
        self._count += 1
        self.log = self._folder / f"log{self._count}"
        recipe = self._folder / f"recipe{self._count}.yaml"
        recipe.write_text(dump_recipe(load_recipe(BASE, dict(overrides or {}))), encoding="utf-8")
        arguments = ["train", str(recipe), "--data", str(self.data), "-o", str(self._folder / output), *more]
        return self._server.start_command(arguments, self.log, ranks=ranks)

    def run(self, *more: str, ranks: int, output: str, overrides: Mapping[str, Any] | None = None) -> RunDir:
        """Train to the end."""
        codes = self.wait(self.start(*more, ranks=ranks, output=output, overrides=overrides))
        assert codes == [0] * ranks, self.read_log()
        return self.find(output)

    def wait(self, pids: list[int]) -> list[int]:
        return [self._server.wait(pid) for pid in pids]

    def find(self, output: str) -> RunDir:
        (run,) = list_runs(self._folder / output)
        return run

    def wait_for_step(self, output: str, step: int) -> RunDir:
        """Return the run once it has saved a checkpoint of at least this step."""
        runs = wait_until(lambda: list_runs(self._folder / output))
        wait_until(lambda: read_step(runs[0]) >= step)
        return runs[0]

    def read_log(self, rank: int | None = None) -> str:
        logs = sorted(self._folder.glob(f"{self.log.name}.{'*' if rank is None else rank}"))
        return "\n".join(log.read_text(encoding="utf-8") for log in logs)


def wait_until(condition: Callable[[], Any], *, timeout_s: float = 300) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"nothing happened in {timeout_s} s")


def read_step(run: RunDir) -> int:
    try:
        manifests, _ = read_manifests(run.checkpoints)
    except (IntegrityError, OSError):  # pruned while it was looked at
        return -1
    return manifests[0].step if manifests else 0


def read_latest(run: RunDir) -> Checkpoint:
    checkpoint, rejected = latest_checkpoint(run.checkpoints)
    assert checkpoint is not None
    assert rejected == ()
    return checkpoint


def read_rows(run: RunDir) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key not in TIMED} for row in run.read_metrics()]


def read_status(run: RunDir) -> dict[str, Any]:
    return json.loads(run.status.read_text(encoding="utf-8"))


def digest(run: RunDir) -> dict[str, Any]:
    """Return what must be equal of two equal trainings: tensors by sha256, the state, every figure."""
    checkpoint = read_latest(run)
    state = dict(checkpoint.state["train"])
    state.pop("train_s")
    state["tally"] = {key: value for key, value in state["tally"].items() if key != "seconds"}
    plain = checkpoint.state["optimizer"]
    return {
        "tensors": checkpoint.sha256,
        "optimizer": plain,
        "state": state,
        "epoch": checkpoint.epoch,
        "rows": read_rows(run),
    }


def find_largest_difference(one: RunDir, other: RunDir) -> dict[str, float]:
    """Return how far two runs are apart: their weights, and every figure of every epoch."""
    ours, theirs = read_latest(one).groups, read_latest(other).groups
    assert {group: set(tensors) for group, tensors in ours.items()} == {
        group: set(tensors) for group, tensors in theirs.items()
    }
    apart = {
        group: max(float((tensor - theirs[group][name]).abs().max()) for name, tensor in tensors.items())
        for group, tensors in ours.items()
    }
    rows, others = read_rows(one), read_rows(other)
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    figures = [abs(row[key] - more[key]) for row, more in zip(rows, others, strict=True) for key in row]
    return {**apart, "figures": max(figures)}
