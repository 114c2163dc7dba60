"""What ranks share besides a step: a file that can't be read, cached features, an evaluation, wrappers (A8)."""

from __future__ import annotations

import csv
import itertools
import json

import pytest
import torch
from ranked_runs import Trainings, find_largest_difference, read_status
from torch import nn

from praxiscope.data.stage.dataset import StageSpec, write_stage_clips
from praxiscope.models.freeze import freeze
from praxiscope.models.state import unwrap_state_dict
from praxiscope.training.ema import Ema
from praxiscope.training.parallel import join_batch_norm


@pytest.fixture
def trainings(ranks, noise_folder, tmp_path) -> Trainings:
    return Trainings(ranks, noise_folder, tmp_path)


def test_an_evaluation_on_two_ranks_is_that_of_one(ranks, trainings, tmp_path):
    run = trainings.run(ranks=1, output="runs")
    found = []
    for size in (1, 2):
        log, out = tmp_path / f"evaluation{size}", tmp_path / f"metrics{size}.json"
        pids = ranks.start_command(["evaluate", str(run.path), "--out", str(out)], log, ranks=size)
        said = [log.with_name(f"{log.name}.{rank}") for rank in range(size)]
        assert [ranks.wait(pid) for pid in pids] == [0] * size, said[0].read_text(encoding="utf-8")
        assert [bool(each.read_text(encoding="utf-8")) for each in said] == [True] + [False] * (size - 1)
        found.append(json.loads(out.read_text(encoding="utf-8"))["all"])
    for key in ("top1", "macro_f1", "nll", "ece"):
        assert found[1][key]["value"] == pytest.approx(found[0][key]["value"], abs=1e-6)
    assert len(run.evaluations("test")) == 2


def test_cached_features_are_computed_once_and_train_as_one_process(trainings):
    overrides = {"features.views": 1, "model.freeze": ["backbone"], "augment.preset": "none"}
    two = trainings.run(ranks=2, output="two", overrides=overrides)
    assert trainings.read_log(1) == ""
    one = trainings.run(ranks=1, output="one", overrides=overrides | {"train.batch_size": 16})
    assert two.read_run_json()["features"] is not None
    assert find_largest_difference(one, two)["figures"] < 1e-6


@pytest.mark.parametrize("parallel", ["ddp", pytest.param("fsdp", marks=pytest.mark.soak)])
def test_clips_of_two_heads_train_on_two_ranks_as_in_one_process(parallel, ranks, tmp_path):
    stage = StageSpec(
        size=16, actions=("pick_up", "put_down"), train_per_action=7, val_per_action=3, test_per_action=1,
        num_frames=5, test_performers=1,
    )  # fmt: skip
    root = write_stage_clips(tmp_path / "stage", stage)
    rows = list(csv.DictReader((root / "stage.csv").read_text(encoding="utf-8").splitlines()))
    lines = [
        f"{row['path']},{row['split']},{row['verb']},{'ab'[place % 2]}" for place, row in enumerate(rows)
    ]
    (root / "clips.csv").write_text("\n".join(["path,split,verb,noun", *lines]) + "\n", encoding="utf-8")
    overrides = {
        "data.source": "csv", "data.csv": "clips.csv", "data.heads": {"verb": "verb", "noun": "noun"},
        "model.num_frames": 4, "model.temporal": "gru", "train.batch_size": 4,
    }  # fmt: skip
    trainings = Trainings(ranks, root, tmp_path)
    two = trainings.run(ranks=2, output="two", overrides=overrides | {"train.parallel": parallel})
    one = trainings.run(ranks=1, output="one", overrides=overrides | {"train.batch_size": 8})
    assert {"train/verb_top1", "val/noun_loss", "val/top1"} <= two.read_metrics()[0].keys()
    assert find_largest_difference(one, two)["figures"] < 1e-6


def test_a_file_that_one_rank_cannot_read_is_told_by_all_and_left_out(ranks, trainings, tmp_path):
    argument = {"data": str(trainings.data), "output": str(tmp_path / "runs")}
    codes = ranks.call("rank_jobs:train_with_a_broken_file", argument, tmp_path / "log", ranks=2)
    assert codes == [0, 0], (tmp_path / "log.0").read_text() + (tmp_path / "log.1").read_text()
    run = trainings.find("runs")
    assert read_status(run)["state"] == "failed"
    assert len(run.read_run_json()["quarantined"]) == 1


# ------------------------------------------------------------------------------------------ wrappers, A8


class _Ddp(nn.parallel.DistributedDataParallel):
    """DDP's names without a job: what is looked at is what is stored of a wrapped network."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = module


@pytest.mark.parametrize(
    ("compiled", "parallel", "averaged"), list(itertools.product([False, True], repeat=3))
)
def test_what_is_stored_of_a_wrapped_network_is_the_network(compiled, parallel, averaged):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    images = torch.randn(5, 3, 8, 8)
    wrapped: nn.Module = network
    if compiled:
        wrapped = torch.compile(wrapped, backend="eager")
    if parallel:
        wrapped = _Ddp(wrapped)
    if averaged:
        wrapped = Ema(network, 0.9).module
    stored = unwrap_state_dict(wrapped)
    assert set(stored) == set(network.state_dict())
    fresh = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    fresh.load_state_dict(stored, strict=True)
    torch.testing.assert_close(fresh.eval()(images), network.eval()(images), atol=0, rtol=0)


def test_batch_norm_is_joined_where_it_trains():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
            self.head = nn.Sequential(nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.stem(images))

    network = Net()
    freeze(network, ["stem"])
    images = torch.randn(2, 3, 8, 8)
    before, names = network.eval()(images), list(network.state_dict())
    join_batch_norm(network)
    assert type(network.stem[1]) is nn.BatchNorm2d
    assert isinstance(network.head[0], nn.SyncBatchNorm)
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network.eval()(images), before)
