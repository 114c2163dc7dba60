"""What the tests have every rank of a world do; called by ``rank_server`` in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranked_runs import BASE
from torch import nn

from praxiscope.data.loader import SampleFailed
from praxiscope.data.plan import plan_training_epoch
from praxiscope.errors import DataError
from praxiscope.evaluation.predict import compute_logits
from praxiscope.models import pulse
from praxiscope.models import world as world_module
from praxiscope.models.runtime import Runtime
from praxiscope.models.world import World, open_world
from praxiscope.recipe.load import load_recipe
from praxiscope.tensors import Batch
from praxiscope.training.watch import Progress, Silent
from praxiscope.workflows.train import train

FP32 = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=False)


class TableLoader:
    """Hands out rows of a table for images, and counts how often each was asked for."""

    def __init__(self, table: np.ndarray[Any, Any]) -> None:
        self.table = torch.from_numpy(table)
        self.asked: list[int] = []

    def batches(self, plans: Any) -> Any:
        for plan in plans:
            self.asked += [] if plan.spare else plan.rows
            rows = list(plan.rows)
            yield Batch(images=self.table[rows], targets=torch.zeros(len(rows)), rows=plan.rows)


def build_table(num_samples: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(num_samples).normal(size=(num_samples, 12)).astype(np.float32)


def build_network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 4))


def evaluate_table(num_samples: int, batch_size: int, world: World, network: nn.Module) -> Any:
    loader = TableLoader(build_table(num_samples))
    logits = compute_logits(
        network, loader, num_samples=num_samples, batch_size=batch_size, normalize=lambda x: x, runtime=FP32,
        world=world,
    )  # fmt: skip
    return logits, loader.asked


def evaluate_shards(argument: dict[str, Any]) -> None:
    """Evaluate every case; rank 0 writes logits, all ranks assert what they must have in common."""
    with open_world(60) as world:
        network = build_network()
        for num_samples, batch_size in argument["cases"]:
            logits, asked = evaluate_table(num_samples, batch_size, world, network)
            seen = world.gather_rows(torch.tensor(asked, dtype=torch.int64))
            assert seen.tolist() == list(range(num_samples)), "a sample twice, or not at all"
            alike = world.gather_rows(torch.from_numpy(logits)[None])
            assert all(torch.equal(alike[0], each) for each in alike), "ranks see different logits"
            if world.is_first:
                name = f"{world.size}-{num_samples}-{batch_size}.npy"
                np.save(Path(argument["folder"]) / name, logits)


def exchange(argument: dict[str, Any]) -> None:
    """Check every exchange of a world against what it must give."""
    with open_world(60) as world:
        size, rank = world.size, world.rank
        assert world.highest(rank, -rank, 7) == (size - 1, 0, 7)
        assert world.sum([1.0, rank]) == [size, sum(range(size))]
        rows = torch.full((rank, 2), float(rank))  # rank 0 has none, and no idea of its width
        own = rows if rank else torch.empty(0)
        whole = world.gather_rows(own)
        assert whole.tolist() == [[float(r), float(r)] for r in range(size) for _ in range(r)]
        known = world.gather_rows(torch.tensor([rank] * (rank + 1)), counts=[r + 1 for r in range(size)])
        assert known.tolist() == [r for r in range(size) for _ in range(r + 1)]
        assert world.from_first(lambda: {"rank": rank}) == {"rank": 0}
        assert world.first_before_others(lambda: rank) == rank
        norm = nn.BatchNorm1d(2)
        norm.running_mean.fill_(rank)
        norm.num_batches_tracked.fill_(rank)
        world.share_buffers(norm)
        assert norm.running_mean.tolist() == [0, 0]
        assert int(norm.num_batches_tracked) == 0
        _raise_in_turn(world)
        _cut_plans(world, argument["num_samples"])


def _raise_in_turn(world: World) -> None:
    for who in range(world.size):
        with pytest.raises(DataError, match=f"^rank {who} has no such file"), world.together():
            _refuse(f"rank {who} has no such file", really=world.rank == who)
    with world.together():
        pass
    with pytest.raises(DataError, match="nothing to read"):
        world.from_first(lambda: _refuse("nothing to read"))


def _refuse(text: str, *, really: bool = True) -> None:
    if really:
        raise DataError(text)


def _cut_plans(world: World, num_samples: int) -> None:
    """C8: no place of an epoch's plan on two ranks, none on no rank, and equally many batches."""
    plans = plan_training_epoch(num_samples, 4 * world.size, seed=1, epoch=2, repeats=2)
    own = [plan.cut(world.rank, world.size) for plan in plans]
    places = [[-1, -1] if plan.spare else list(place) for plan in own for place in plan.places]
    gathered = [tuple(each) for each in world.gather_rows(torch.tensor(places)).tolist() if each[0] >= 0]
    expected = [place for plan in plans for place in plan.places]
    assert sorted(gathered) == sorted(expected)
    assert len(set(gathered)) == len(gathered)


def die_at(argument: dict[str, Any]) -> None:
    """Work along until a rank kills itself, or ends with an error of its own.

    The ranks are less patient than in earnest, with beats as much faster.
    """
    pulse.BEAT_S, pulse.SILENCE_S, world_module._GRACE_S = 0.2, 2.0, 1.0
    with open_world(argument.get("timeout_s", 60)) as world:
        Path(f"{argument['folder']}/pid.{world.rank}").write_text(str(os.getpid()))
        for step in range(1000):
            if step == 3 and world.rank == argument["rank"]:
                _end(argument["how"])
            world.highest(step)


def _end(how: str) -> None:
    import signal

    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "error":
        raise DataError("a table that only this rank has lacks a column")
    if how == "late":
        time.sleep(9)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class _Breaking(Silent):
    """Overwrites a training image after the first step."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def step(self, progress: Progress) -> None:
        if progress.step == 1:
            for path in sorted((self._data / "train").rglob("*.*"))[-1:]:
                path.write_bytes(b"no image any more")


def train_with_a_broken_file(argument: dict[str, Any]) -> None:
    """Train on a copy of the data; all ranks must hear which file broke."""
    data = Path(argument["output"]).parent / "copy"
    if os.environ["RANK"] == "0":
        shutil.copytree(argument["data"], data)
    while not (data / "test").is_dir():
        time.sleep(0.05)
    recipe = load_recipe(BASE, {"train.batch_size": 2, "train.epochs": 3})
    with pytest.raises(SampleFailed, match="was sound when the data was checked") as caught:
        train(recipe, data=data, output=argument["output"], watch=_Breaking(data))
    assert len(caught.value.sample_ids) == 1
