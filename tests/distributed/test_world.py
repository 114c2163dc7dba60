"""Ranks as processes: exchanges, evaluation by shards (C1), a rank that dies (B8), wrong environments."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rank_jobs import build_network, build_table, evaluate_table
from rank_server import RankServer

from praxiscope.cli.main import main
from praxiscope.data.plan import BatchPlan, plan_evaluation
from praxiscope.errors import EnvironmentProblem, RankLost, UsageError
from praxiscope.models import pulse
from praxiscope.models.place import Place, read_place
from praxiscope.models.world import ALONE, World

_NAMES = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def _read(log: Path, rank: int) -> str:
    path = Path(f"{log}.{rank}")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _call(ranks: RankServer, function: str, argument: object, log: Path, *, size: int) -> None:
    codes = ranks.call(f"rank_jobs:{function}", argument, log, ranks=size)
    assert codes == [0] * size, "\n".join(_read(log, rank) for rank in range(size))


# ------------------------------------------------------------------------------------------ evaluation, C1

_FEW = [(1, 4), (2, 1), (7, 4), (101, 16)]
_ALL = [(num, batch) for num in (1, 2, 3, 7, 97, 101) for batch in (1, 4, 16)]


@pytest.mark.parametrize(
    ("size", "cases"),
    [(2, _FEW), (3, _FEW), *(pytest.param(size, _ALL, marks=pytest.mark.soak) for size in (2, 3))],
)
def test_shards_give_what_one_process_gives(size, cases, ranks, tmp_path):
    argument = {"cases": cases, "folder": str(tmp_path)}
    _call(ranks, "evaluate_shards", argument, tmp_path / "log", size=size)
    for num, batch in cases:
        expected, asked = evaluate_table(num, batch, ALONE, build_network())
        assert asked == list(range(num))
        found = np.load(tmp_path / f"{size}-{num}-{batch}.npy")
        assert found.shape == expected.shape == (num, 4)
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_one_process_evaluates_as_a_plain_forward_pass():
    logits, _ = evaluate_table(7, 3, ALONE, build_network())
    with torch.no_grad():
        expected = build_network()(torch.from_numpy(build_table(7)))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-6, rtol=0)


def test_ranks_in_step_get_equally_many_batches():
    plans = [plan_evaluation(5, 2, rank=rank, ranks=4, in_step=True) for rank in range(4)]
    assert [len(each) for each in plans] == [1, 1, 1, 1]
    plans = [plan_evaluation(2, 1, rank=rank, ranks=3, in_step=True) for rank in range(3)]
    assert [[plan.spare for plan in each] for each in plans] == [[False], [False], [True]]
    alone = [plan_evaluation(2, 1, rank=rank, ranks=3) for rank in range(3)]
    assert [len(each) for each in alone] == [1, 1, 0]


# ------------------------------------------------------------------------------------------ exchanges, shares


@pytest.mark.parametrize("size", [2, 3])
def test_exchanges(size, ranks, tmp_path):
    _call(ranks, "exchange", {"num_samples": 26}, tmp_path / "log", size=size)


def test_a_world_of_one_gives_back_what_comes_in():
    rows = torch.ones(2, 3)
    assert ALONE.gather_rows(rows) is rows
    assert ALONE.highest(3, 4) == (3, 4)
    assert ALONE.sum([0.1]) == [0.1]
    assert ALONE.from_first(lambda: 5) == ALONE.first_before_others(lambda: 5) == 5
    assert ALONE.is_first
    assert not ALONE.orphaned


@pytest.mark.parametrize(("places", "ranks_"), [(7, 2), (7, 3), (2, 3), (1, 4), (16, 4)])
def test_shares_of_a_batch_are_the_batch(places, ranks_):
    plan = BatchPlan(epoch=3, rows=tuple(range(100, 100 + places)), draws=tuple(range(places)))
    shares = [plan.cut(rank, ranks_) for rank in range(ranks_)]
    assert [place for share in shares if not share.spare for place in share.places] == plan.places
    counts = [0 if share.spare else len(share.rows) for share in shares]
    assert counts == plan.count_shares(ranks_)
    assert max(counts) - min(counts) <= 1
    assert all(len(share.rows) >= 1 and share.epoch == 3 for share in shares)
    assert plan.cut(0, 1) is plan


# ------------------------------------------------------------------------------------------ a rank that dies, B8


@pytest.mark.parametrize(
    ("dead", "how", "says"),
    [
        (1, "killed", "died: no sign of life for 2 s"),
        (0, "killed", "gone"),
        (1, "error", "ended before the others: a table that only this rank has lacks a column"),
    ],
)
def test_who_died_is_named(dead, how, says, ranks, tmp_path):
    argument = {"rank": dead, "how": how, "folder": str(tmp_path)}
    codes = ranks.call("rank_jobs:die_at", argument, tmp_path / "log", ranks=2)
    assert codes[dead] != 0
    assert codes[1 - dead] == 1
    text = _read(tmp_path / "log", 1 - dead)
    assert "RankLost" in text
    assert says in text
    if dead == 1:
        assert f"Rank 1 of 2 (process {(tmp_path / 'pid.1').read_text()} on " in text


@pytest.mark.soak
def test_who_is_late_is_named(ranks, tmp_path):
    argument = {"rank": 1, "how": "late", "folder": str(tmp_path), "timeout_s": 3}
    codes = ranks.call("rank_jobs:die_at", argument, tmp_path / "log", ranks=2)
    assert codes[0] == 1
    assert "Rank 1 of 2" in _read(tmp_path / "log", 0)
    assert "did not come along in time, though alive" in _read(tmp_path / "log", 0)


def test_who_is_busy_is_waited_for(monkeypatch):
    """Rank 0 writes a large file in one call, and can't beat meanwhile: it isn't taken for dead."""
    monkeypatch.setattr(pulse, "SILENCE_S", 0.1)
    monkeypatch.setattr(pulse, "PATIENCE_S", 300.0)
    store = torch.distributed.HashStore()
    own = pulse.Pulse(store, rank=1, size=2, launched=False)
    store.set("who/0", json.dumps({"pid": 4711, "host": "node1"}))
    store.set("beat/0", "7 7")
    store.set("beat/1", "0 0")  # its own, as of every rank that has begun
    written = threading.Timer(0.6, lambda: store.set("turn/0", "done"))
    written.start()
    own.wait_for("turn/0", rank=0, doing="while it wrote")
    written.join()
    monkeypatch.setattr(pulse, "PATIENCE_S", 0.1)
    with pytest.raises(
        RankLost, match=r"^Rank 0 of 2 \(process 4711 on node1\) died while it wrote; it was waited for"
    ):
        own.wait_for("turn/1", rank=0, doing="while it wrote")


def test_nobody_waits_for_a_word_that_a_lost_store_would_hold():
    def break_off(_keys):
        raise torch.distributed.DistNetworkError("Broken pipe")

    own = pulse.Pulse(SimpleNamespace(check=break_off), rank=1, size=2, launched=False)
    with pytest.raises(
        RankLost, match=r"^The store of the job \(torchrun, .* is gone at the end\. The run is"
    ):
        own.wait_for("end/0", rank=0, doing="at the end")


# ------------------------------------------------------------------------------------------ wrong environments


@pytest.mark.parametrize("command", ["tune", "debug", "bakeoff", "predict", "report", "data check"])
def test_a_command_for_one_process_refuses_torchrun_once(command, monkeypatch, capsys):
    for rank in ("1", "0"):
        for name, value in {**_NAMES, "RANK": rank}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--help"])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert (said == "") is (rank == "1"), "the first rank alone speaks"
    assert f"`praxiscope {command.split()[0]}` runs in one process, and torchrun has started 2" in said


def test_the_environment_of_one_process_is_a_world_of_one():
    assert read_place({}) == Place()
    assert read_place({**_NAMES, "WORLD_SIZE": "1"}) == Place()
    assert read_place(_NAMES) == Place(rank=1, size=2, local_rank=0, local_size=1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"MASTER_ADDR": None}, "WORLD_SIZE is 2, but MASTER_ADDR is not set. Start the command through"),
        ({"MASTER_PORT": None, "RANK": None}, "but RANK, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'; it must be a whole number of at least 1"),
        ({"RANK": "2"}, "RANK is '2'; it must be a whole number from 0 to 1"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'"),
    ],
)
def test_an_incomplete_environment_is_refused(changes, says):
    environment = {key: value for key, value in {**_NAMES, **changes}.items() if value is not None}
    with pytest.raises(EnvironmentProblem, match=says):
        read_place(environment)


def test_devices_of_ranks(monkeypatch):
    world = World(Place(rank=1, size=2, local_rank=1, local_size=2))
    assert world.choose_own(torch.device("cpu"), None) == torch.device("cpu")
    assert world.choose_own(torch.device("mps"), None) == torch.device("cpu")
    with pytest.raises(UsageError, match="--device 'cuda:1' is one device, and 2 ranks need one each"):
        world.choose_own(torch.device("cuda:1"), "cuda:1")
    with pytest.raises(UsageError, match="--device 'mps' is one device"):
        world.choose_own(torch.device("mps"), "mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(EnvironmentProblem, match="2 ranks on this machine, but torch sees 1 GPUs"):
        world.choose_own(torch.device("cuda"), None)
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert world.choose_own(torch.device("cuda"), "cuda") == torch.device("cuda:1")
    assert chosen == [torch.device("cuda:1")]
    assert ALONE.choose_own(torch.device("cuda:1"), "cuda:1") == torch.device("cuda:1")
    assert (world.share_cores(5), ALONE.share_cores(5)) == (2, 5)
