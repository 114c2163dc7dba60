"""The whole way, through torchrun itself: B2, B5, B8, and that nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ranked_runs import BASE, read_status, read_step, wait_until

from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.runs.find import list_runs
from praxiscope.runs.rundir import RunDir

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processes from /proc")

_LONG = {"train.epochs": 2000, "train.warmup_epochs": 0, "train.checkpoint_every_minutes": 0.0003}


class Torchrun:
    """One training through torchrun, in the background."""

    def __init__(self, data: Path, folder: Path) -> None:
        recipe = folder / "tiny.yaml"
        recipe.write_text(dump_recipe(load_recipe(BASE, _LONG)), encoding="utf-8")
        self.log, self._runs = folder / "log.txt", folder / "runs"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                   "-m", "praxiscope", "train", str(recipe), "--data", str(data), "-o", str(self._runs)]  # fmt: skip
        self._mark = f"PRAXISCOPE_TEST={folder}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PRAXISCOPE_TEST": str(folder)}
        with self.log.open("w") as log:
            self.agent = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def wait_for_training(self) -> RunDir:
        run = wait_until(lambda: next(iter(list_runs(self._runs)), None))
        wait_until(lambda: read_step(run) > 2)
        return run

    def list_processes(self) -> list[int]:
        """Return the live processes that carry this job's environment: the agent, its ranks, their workers."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                mine = self._mark.encode() in (path / "environ").read_bytes()
                alive = (path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            if mine and alive:
                found.append(int(path.name))
        return found

    def list_ranks(self) -> list[int]:
        """Return the processes of rank 0, 1 ..."""
        ranks = {}
        for pid in self.list_processes():
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            ranks |= {int(word[5:]): pid for word in words if word.startswith(b"RANK=")}
        return [ranks[rank] for rank in sorted(ranks)]


@pytest.fixture
def job(noise_folder, tmp_path) -> Iterator[Torchrun]:
    job = Torchrun(noise_folder, tmp_path)
    yield job
    for pid in job.list_processes():
        os.kill(pid, signal.SIGKILL)
    job.agent.wait(timeout=30)


def _wait_for_all_to_end(job: Torchrun) -> None:
    job.agent.wait(timeout=300)
    wait_until(lambda: not job.list_processes())


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (signal.SIGUSR1, "preempted"),  # torchrun doesn't know it, and leaves its ranks behind
        pytest.param(signal.SIGINT, "interrupted", marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, "preempted", marks=pytest.mark.soak),
        pytest.param(signal.SIGKILL, "preempted", marks=pytest.mark.soak),
    ],
)
def test_a_signal_to_torchrun_saves_and_stops_and_leaves_nothing(number, state, job):
    run = job.wait_for_training()
    os.kill(job.agent.pid, number)
    _wait_for_all_to_end(job)
    status = read_status(run)
    assert status["state"] == state, job.log.read_text(encoding="utf-8")
    assert status["step"] == read_step(run)
    assert "Stopped and saved" in job.log.read_text(encoding="utf-8")


@pytest.mark.soak
def test_a_killed_rank_ends_the_job_and_is_named(job):
    run = job.wait_for_training()
    os.kill(job.list_ranks()[1], signal.SIGKILL)
    _wait_for_all_to_end(job)
    assert job.agent.returncode != 0
    status = read_status(run)
    assert status["state"] == "failed"
    assert "Rank 1 of 2" in status["message"]
    assert "died: no sign of life" in status["message"]
