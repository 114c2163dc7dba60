"""A1, A10, B1, B5: trainings as processes, killed, stopped and started twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_server import CommandServer
from training_parts import build_recipe, digest, read_status

from praxiscope.errors import IntegrityError
from praxiscope.recipe.load import dump_recipe
from praxiscope.runs.checkpoint_files import read_manifests
from praxiscope.runs.find import find_run, list_runs
from praxiscope.runs.rundir import RunDir

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and POSIX signals")

_OVERRIDES = {
    "train.batch_size": 6,
    "train.ema_decay": 0.9,
    "train.warmup_epochs": 1,
    "train.checkpoint_every_minutes": 0.0003,  # 18 ms: after nearly each step
    "model.drop_rate": 0.2,
}


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    with CommandServer() as server:
        yield server


class Trainings:
    """Commands on one recipe and one folder."""

    def __init__(self, server: CommandServer, data: Path, folder: Path, *, epochs: int) -> None:
        self.server = server
        self.log = folder / "log.txt"
        self._recipe = folder / "tiny.yaml"
        self._data = data
        recipe = build_recipe({**_OVERRIDES, "train.epochs": epochs})
        self._recipe.write_text(dump_recipe(recipe), encoding="utf-8")

    def arguments(self, output: Path, *more: str) -> list[str]:
        return ["train", str(self._recipe), "--data", str(self._data), "-o", str(output), *more]

    def run_whole(self, output: Path) -> RunDir:
        assert self.server.run(self.arguments(output), self.log) == 0, self.read_log()
        return find_run("tiny@latest", root=output)

    def start(self, output: Path, *more: str) -> int:
        return self.server.start(self.arguments(output, *more), self.log)

    def read_log(self) -> str:
        return self.log.read_text(encoding="utf-8")


def _wait_until(condition: Callable[[], Any], *, timeout_s: float = 300) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.003)
    raise AssertionError(f"nothing happened in {timeout_s} s")


def _read_step(run: RunDir) -> int:
    try:
        manifests, _ = read_manifests(run.checkpoints)
    except (IntegrityError, OSError):  # pruned while it was looked at
        return -1
    return manifests[0].step if manifests else 0


def _begin(trainings: Trainings, output: Path) -> tuple[int, RunDir]:
    """Start a run and wait for its first checkpoint."""
    pid = trainings.start(output)
    run = _wait_until(lambda: next(iter(list_runs(output)), None))
    _wait_until(lambda: _read_step(run) > 0)
    return pid, run


def _kill_and_resume(trainings: Trainings, output: Path, *, kills: int, last_step: int) -> RunDir:
    rng = random.Random(kills)
    pid, run = _begin(trainings, output)
    steps = []
    for number in range(kills):
        if number % 5 == 4:  # at any time: while it sets up, or in training
            time.sleep(rng.uniform(0, 0.6))
        else:  # a step or two on, so that the run gets on
            goal = _read_step(run) + rng.randint(1, max(1, last_step // (2 * kills)))
            _wait_until(lambda goal=goal, pid=pid: _read_step(run) >= goal or not _is_alive(pid))
            time.sleep(rng.uniform(0, 0.06))
        os.kill(pid, signal.SIGKILL)
        assert trainings.server.wait(pid) == -signal.SIGKILL, "it had ended before it was killed"
        steps.append(_read_step(run))
        pid = trainings.start(output, "--resume", str(run.path), "-j", str(rng.choice([0, 1, 2])))
    assert trainings.server.wait(pid, timeout_s=600) == 0, trainings.read_log()
    assert len(set(steps)) > kills // 3, f"killed at too few different steps: {steps}"
    assert any(step % 6 for step in steps), f"never in mid-epoch: {steps}"
    return run


def _is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("kills", "epochs"), [pytest.param(4, 5), pytest.param(50, 60, marks=pytest.mark.soak)]
)
def test_killed_and_resumed_is_the_uninterrupted_run(kills, epochs, server, noise_folder, tmp_path):
    trainings = Trainings(server, noise_folder, tmp_path, epochs=epochs)
    whole = trainings.run_whole(tmp_path / "whole")
    run = _kill_and_resume(trainings, tmp_path / "killed", kills=kills, last_step=6 * epochs)
    assert digest(run) == digest(whole)
    assert set(digest(run)["tensors"]) == {"model", "ema", "optimizer"}
    assert [row["epoch"] for row in run.read_metrics()] == list(range(1, epochs + 1))
    assert len(run.results.read_text(encoding="utf-8").splitlines()) == epochs + 1
    assert run.read_run_json()["best"] == whole.read_run_json()["best"]
    assert not list(run.path.rglob("*.tmp*")), "temporary files are left behind"


def test_stopped_by_signals_and_resumed_is_the_same_run(server, noise_folder, tmp_path):
    trainings = Trainings(server, noise_folder, tmp_path, epochs=5)
    whole = trainings.run_whole(tmp_path / "whole")
    output = tmp_path / "stopped"
    pid, run = _begin(trainings, output)
    stops = {signal.SIGTERM: "preempted", signal.SIGUSR1: "preempted", signal.SIGINT: "interrupted"}
    for number, state in stops.items():
        step = _read_step(run)
        os.kill(pid, number)
        assert server.wait(pid) == (75 if state == "preempted" else 130), trainings.read_log()
        assert read_status(run)["state"] == state
        assert read_status(run)["step"] == _read_step(run) >= step
        pid = trainings.start(output, "--resume")
        _wait_until(lambda: read_status(run)["state"] == "running")
        _wait_until(lambda: _read_step(run) > read_status(run)["step"] or read_status(run)["state"] == "done")
    assert server.wait(pid) == 0, trainings.read_log()
    assert read_status(run)["state"] == "done"
    assert digest(run) == digest(whole)
    assert trainings.read_log().count("Stopped and saved") == 3


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_of_two_processes_in_one_run_folder_one_trains(times, server, noise_folder, tmp_path):
    trainings = Trainings(server, noise_folder, tmp_path, epochs=400)
    pid, run = _begin(trainings, tmp_path / "runs")
    os.kill(pid, signal.SIGTERM)
    assert server.wait(pid) == 75
    for _ in range(times):
        trainings.log.unlink()
        pair = [trainings.start(tmp_path / "runs", "--resume", str(run.path)) for _ in range(2)]
        loser = _wait_until(lambda pair=pair: next((p for p in pair if not _is_alive(p)), None))
        (winner,) = set(pair) - {loser}
        assert server.wait(loser) == 3, trainings.read_log()
        assert f"Process {winner} on {os.uname().nodename} is working in {run.path}" in trainings.read_log()
        step = _read_step(run)
        _wait_until(lambda step=step: _read_step(run) > step)  # the winner has not noticed
        os.kill(winner, signal.SIGTERM)
        assert server.wait(winner) == 75, trainings.read_log()
    rows = run.read_metrics()
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))


def test_the_installed_command_stops_cleanly_with_nothing_left(noise_folder, tmp_path):
    """The whole way once, as a shell would: worker processes, SIGTERM to the whole group, exit code 75."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(dump_recipe(build_recipe({**_OVERRIDES, "train.epochs": 400})), encoding="utf-8")
    command = [sys.executable, "-m", "praxiscope", "train", str(recipe), "--data", str(noise_folder),
               "-o", str(tmp_path / "runs"), "-j", "1", "--set", "loader.backend=process"]  # fmt: skip
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        run = _wait_until(lambda: next(iter(list_runs(tmp_path / "runs")), None))
        _wait_until(lambda: len(run.read_metrics()) > 0, timeout_s=300)  # both loaders' workers are there
        assert len(_list_group(process.pid)) > 2
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 75, (tmp_path / "log.txt").read_text()
    _wait_until(lambda: not _list_group(process.pid), timeout_s=10)
    assert read_status(run)["state"] == "preempted"


def _list_group(group: int) -> list[int]:
    """Return the live processes of a process group, from /proc."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,pgid="], capture_output=True, text=True, check=True)
        pairs = [line.split() for line in listing.stdout.splitlines()]
        return [int(pid) for pid, pgid in pairs if int(pgid) == group]
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found
