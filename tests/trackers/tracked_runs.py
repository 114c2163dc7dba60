"""Tiny tracked trainings, and what wandb's offline files hold."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Progress, Silent

BASE: dict[str, Any] = {
    "name": "tracked",
    "seed": 3,
    "model": {"name": "test_resnet", "img_size": 32},
    "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "lr": 3e-3},
    "loader": {"workers": 0},
    "evaluate": {"resamples": 100},
}

SECRETS = {
    "WANDB_API_KEY": "canary0wandb" + "0" * 28,
    "MLFLOW_TRACKING_USERNAME": "canary1user",
    "MLFLOW_TRACKING_PASSWORD": "canary2password",
    "MLFLOW_TRACKING_TOKEN": "canary3token",
    "TRACKIO_WRITE_TOKEN": "canary4write",
    "HF_TOKEN": "hf_canary5" + "x" * 24,
}


def build_recipe(*trackers: str, **overrides: Any) -> Recipe:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe(BASE, {"track.trackers": list(trackers), "track.offline": True, **changes})


class Following(Silent):
    """Keeps the notes, and does something after a step or an epoch."""

    def __init__(
        self,
        on_step: Callable[[Progress], None] = lambda _progress: None,
        on_epoch: Callable[[Mapping[str, float | int]], None] = lambda _row: None,
    ) -> None:
        self.notes: list[str] = []
        self._on_step = on_step
        self._on_epoch = on_epoch

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: Progress) -> None:
        self._on_step(progress)

    def epoch(self, row: Mapping[str, float | int]) -> None:
        self._on_epoch(row)


def read_expected(run: RunDir) -> list[tuple[int, dict[str, float]]]:
    """Return (step, figures) of each epoch as metrics.jsonl has them."""
    return [
        (int(row["step"]), {k: v for k, v in row.items() if k != "step" and v is not None})
        for row in run.read_metrics()
    ]


def read_wandb(run: RunDir) -> list[dict[str, Any]]:
    """Return id, config, exit code and history [(step, figures)] of each offline folder, oldest first."""
    files = sorted((run.trackers / "wandb").glob("offline-run-*/*.wandb"))
    return [_read_wandb_file(path) for path in files]


def _read_wandb_file(path: Path) -> dict[str, Any]:
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {
        "id": None,
        "project": None,
        "name": None,
        "config": {},
        "exit": None,
        "history": [],
    }
    for data in _read_leveldb_log(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.update(id=record.run.run_id, project=record.run.project, name=record.run.display_name)
            _update(found["config"], record.run.config.update)
        elif kind == "config":
            _update(found["config"], record.config.update)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
        elif kind == "history":
            figures: dict[str, Any] = {}
            _update(figures, record.history.item)
            step = figures.pop("_step")
            found["history"].append((step, {k: v for k, v in figures.items() if not k.startswith("_")}))
    return found


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        target[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)


def _read_leveldb_log(content: bytes) -> Iterator[bytes]:
    """Yield a file's records: blocks of 32 KiB, each part with checksum, length and kind (1 whole, 2..4 parts)."""
    place, parts, header = 7, [], 7
    while place + header <= len(content):
        room = 32768 - place % 32768
        if room < header:
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts.append(content[place + header : place + header + length])
        place += header + length
        if kind in {1, 4}:
            yield b"".join(parts)
            parts = []


def merge_histories(files: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Return what a server has after 'wandb sync' of all files in order."""
    return sorted({step: figures for file in files for step, figures in file["history"]}.items())


def read_mlflow(run: RunDir) -> Any:
    """Return the MLflow client's run in the run folder's own store, and its figures by step."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=find_store(run))
    run_id = run.read_run_json()["trackers"]["mlflow"]["id"]
    stored = client.get_run(run_id)
    figures: dict[int, dict[str, float]] = {}
    for key in stored.data.metrics:
        for metric in client.get_metric_history(run_id, key):
            assert key not in figures.setdefault(metric.step, {}), f"{key} stands twice at step {metric.step}"
            figures[metric.step][key] = metric.value
    return stored, sorted(figures.items())


def find_store(run: RunDir) -> str:
    database = run.trackers / "mlflow.db"
    return f"sqlite:///{database.as_posix()}" if database.exists() else (run.trackers / "mlruns").as_uri()


def read_trackio(run: RunDir) -> list[tuple[int, dict[str, float]]]:
    from trackio.sqlite_storage import SQLiteStorage

    ids = run.read_run_json()["trackers"]["trackio"]
    logs = SQLiteStorage.get_logs(ids["project"], ids["id"])
    return [(row["step"], {k: v for k, v in row.items() if k not in {"step", "timestamp"}}) for row in logs]


def list_children() -> list[str]:
    """Return the commands of this process's children.

    Left out are zombies, and what other tests keep alive: multiprocessing behind loaders, servers of ranks.
    """
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "ppid=,pid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    own = [row for row in rows if int(row[0]) == os.getpid() and "Z" not in row[2]]
    others = ("ps -A", "from multiprocessing.", "rank_server.py", "command_server.py")
    return [row[3] for row in own if not any(other in row[3] for other in others)]


def read_all(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
