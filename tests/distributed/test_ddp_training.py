"""Several ranks train as one process does: equal figures, resume, stops, files."""

from __future__ import annotations

import os
import signal

import pytest
from ranked_runs import (
    Trainings,
    digest,
    find_largest_difference,
    read_latest,
    read_status,
    read_step,
    wait_until,
)

from praxiscope.runs.find import list_runs


@pytest.fixture
def trainings(ranks, noise_folder, tmp_path) -> Trainings:
    return Trainings(ranks, noise_folder, tmp_path)


# ------------------------------------------------------------------------------------------ equal to one process

_CASES = {
    "plain": {},
    "adamw": {"train.opt": "adamw", "train.lr": 1e-3},
    "averaged, clipped, accumulated": {
        "train.ema_decay": 0.9, "train.clip_grad": 0.5, "train.accum_steps": 2, "train.batch_size": 4,
    },
    "balanced, repeated": {
        "train.sampling": "balanced", "train.class_weights": "balanced", "augment.repeats": 2,
        "train.batch_size": 5,
    },
    "fsdp": {"train.parallel": "fsdp", "train.clip_grad": 0.5, "train.opt": "adamw", "train.lr": 1e-3},
    "fsdp, averaged": {"train.parallel": "fsdp", "train.ema_decay": 0.9},
}  # fmt: skip
_SLOW = {"plain", "adamw", "balanced, repeated", "fsdp, averaged"}


@pytest.mark.parametrize(
    "case", [pytest.param(each, marks=pytest.mark.soak if each in _SLOW else ()) for each in _CASES]
)
def test_two_ranks_give_what_one_process_gives(case, trainings):
    overrides = _CASES[case]
    two = trainings.run(ranks=2, output="two", overrides=overrides)
    alone = {key: value for key, value in overrides.items() if key != "train.parallel"}
    both = 2 * overrides.get("train.batch_size", 8)
    one = trainings.run(ranks=1, output="one", overrides=alone | {"train.batch_size": both})
    apart = find_largest_difference(one, two)
    assert apart["figures"] < 1e-6, apart
    assert apart["model"] < 1e-4, apart  # of AdamW, which divides by small numbers; others below 1e-6
    assert ("ema" in apart) == ("train.ema_decay" in overrides)


# ------------------------------------------------------------------------------------------ files, resume, stops

_OFTEN = {"train.checkpoint_every_minutes": 0.0003, "train.epochs": 3, "train.ema_decay": 0.9,
          "train.batch_size": 3, "model.drop_rate": 0.2}  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["ddp", *(pytest.param(each, marks=pytest.mark.soak) for each in ("fsdp", "three"))]
)
def test_killed_and_resumed_is_the_uninterrupted_run(kind, trainings):
    size = 3 if kind == "three" else 2
    overrides = {**_OFTEN, "train.parallel": "fsdp" if kind == "fsdp" else "ddp"}
    whole = trainings.run(ranks=size, output="whole", overrides=overrides)
    pids = trainings.start(ranks=size, output="killed", overrides=overrides)
    run = trainings.wait_for_step("killed", 3)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert trainings.wait(pids) == [-signal.SIGKILL] * size, trainings.read_log()
    assert read_step(run) < read_step(whole)
    trainings.run("--resume", str(run.path), ranks=size, output="killed", overrides=overrides)
    assert digest(run) == digest(whole)
    _check_files(trainings, run)


def _check_files(trainings, run):
    """Files are what one process writes, and the first rank alone speaks."""
    assert trainings.read_log(1) == ""
    assert "2 ranks (" in trainings.read_log(0) or "3 ranks (" in trainings.read_log(0)
    names = read_latest(run).groups["model"]
    assert "blocks.0.attn.qkv.weight" in names
    assert not any(name.startswith(("module.", "network.", "_")) for name in names)
    assert all(type(tensor).__name__ == "Tensor" for tensor in names.values())
    rows = run.read_metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert not list(run.path.rglob("*.tmp*"))
    assert not (run.path / "lock.json").exists()


def test_stopped_by_a_signal_to_any_rank_all_stop_at_the_same_step(trainings):
    overrides = {**_OFTEN, "train.epochs": 60}
    pids = trainings.start(ranks=2, output="runs", overrides=overrides)
    run = trainings.wait_for_step("runs", 2)
    os.kill(pids[1], signal.SIGTERM)
    assert trainings.wait(pids) == [75, 75], trainings.read_log()
    status = read_status(run)
    assert (status["state"], status["step"]) == ("preempted", read_step(run))
    assert trainings.read_log(1) == ""
    assert trainings.read_log(0).count("Stopped and saved") == 1
    pids = trainings.start("--resume", ranks=2, output="runs", overrides=overrides)
    wait_until(lambda: read_step(run) > status["step"])
    os.kill(pids[0], signal.SIGINT)
    assert trainings.wait(pids) == [130, 130], trainings.read_log()
    assert read_status(run)["state"] == "interrupted"


def test_a_dead_rank_ends_the_run_which_says_so(trainings):
    pids = trainings.start(ranks=2, output="runs", overrides={**_OFTEN, "train.epochs": 60})
    run = trainings.wait_for_step("runs", 2)
    os.kill(pids[1], signal.SIGKILL)
    assert trainings.wait(pids) == [3, -signal.SIGKILL], trainings.read_log()
    status = read_status(run)
    assert status["state"] == "failed"
    assert f"Rank 1 of 2 (process {pids[1]} on {os.uname().nodename}) died" in status["message"]
    assert status["message"] in trainings.read_log(0)


def test_another_number_of_ranks_goes_on_with_the_same_batches(trainings):
    overrides = {"train.epochs": 2, "train.warmup_epochs": 0}
    whole = trainings.run(ranks=1, output="whole", overrides=overrides | {"train.batch_size": 16})
    trainings.run(ranks=2, output="runs", overrides={"train.epochs": 1, "train.warmup_epochs": 0})
    first = trainings.find("runs")
    codes = trainings.wait(
        trainings.start("--resume", str(first.path), ranks=1, output="runs", overrides=overrides)
    )
    assert codes == [2]
    assert "batches: 8 samples on 2 ranks -> 8 samples on 1 ranks" in trainings.read_log()
    more = ["--resume", str(first.path), "--epochs", "2"]
    run = trainings.run(*more, ranks=1, output="runs", overrides=overrides | {"train.batch_size": 16})
    assert (
        "changed on resume: batches: 8 samples on 2 ranks -> 16 samples on 1 ranks"
        in run.read_run_json()["notes"]
    )
    assert run.read_run_json()["ranks"] == 1
    assert len(list_runs(run.path.parents[1])) == 1
    assert len(run.read_metrics()) == len(whole.read_metrics())


@pytest.mark.parametrize(
    ("ranks_", "overrides", "says"),
    [
        (1, {"train.parallel": "fsdp"}, "which spreads a network over ranks, and there is one"),
        (
            2,
            {"train.parallel": "fsdp", "train.opt": "lamb"},
            "train.opt is 'lamb', which looks at whole tensors",
        ),
        (
            2,
            {"train.parallel": "fsdp", "train.histogram_every_epochs": 1},
            "train.histogram_every_epochs is 1",
        ),
        (2, {"train.sync_bn": True}, "train.sync_bn needs GPUs"),
        (2, {"model.name": "no_such_net"}, "no_such_net"),
    ],
)
def test_what_ranks_refuse_is_said_once(ranks_, overrides, says, trainings):
    codes = trainings.wait(trainings.start(ranks=ranks_, output="runs", overrides=overrides))
    assert codes == [2] * ranks_
    assert trainings.read_log().count(says) == 1, trainings.read_log()
    assert trainings.read_log().startswith("praxiscope: ")
