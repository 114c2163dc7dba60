"""Must-show 5, B2, B3: trainings on a real Slurm of one node, stopped and queued again."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, wait_until, why_not
from submitted_jobs import build_recipe, digest

from praxiscope.cli.submit_command import find_venv
from praxiscope.cluster.script import write_script
from praxiscope.cluster.slurm import read_jobs, submit_script
from praxiscope.cluster.spec import Environment, JobSpec, Resources
from praxiscope.runs.rundir import RunDir
from praxiscope.workflows.jobs import JobRow, cancel, list_jobs
from praxiscope.workflows.submit import TrainingJob, parse_array, submit
from praxiscope.workflows.train import train

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with (
        SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


class Desk:
    """Submits trainings and watches them, as a user would."""

    def __init__(self, cluster: SlurmCluster, data: Path, output: Path) -> None:
        self.cluster, self.data, self.output = cluster, data, output

    def submit(self, *, time: str = "10", gpus: str = "0", **more: object) -> int:
        job = TrainingJob(
            recipe=more.pop("recipe", None) or build_recipe(),
            data=self.data,
            output=self.output,
            resources=Resources(time=time, cpus=1, memory="500M", gpus=gpus),
            environment=Environment(
                venv=find_venv(), variables={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            ),
            **more,
        )
        return submit(job).submission.jobs["train"]

    def row(self, number: int | str) -> JobRow:
        (row,) = [row for row in list_jobs(self.output).rows if row.number == str(number)]
        return row

    def run(self, number: int | str) -> RunDir:
        return RunDir.open(self.row(number).training.path)

    def wait_epochs(self, number: int | str, epochs: int) -> None:
        def reached() -> bool:
            row = self.row(number)
            if row.is_over:
                raise AssertionError(f"{row}\n{self.read_log(number)}")
            return row.training.epoch >= epochs and row.training.state == "running"

        wait_until(reached, what=f"epoch {epochs}\n{self.row(number)}")

    def wait_state(self, number: int | str, state: str, *, timeout_s: float = 300) -> JobRow:
        def reached() -> JobRow | None:
            row = self.row(number)
            if row.is_over and row.state != state:
                raise AssertionError("it ended otherwise")
            return row if row.state == state else None

        try:
            return wait_until(reached, what=state, timeout_s=timeout_s)
        except AssertionError as problem:
            raise AssertionError(
                f"{self.row(number)}\n{self.read_log(number)}\n{self.cluster.read_logs()}"
            ) from problem

    def stop_and_requeue(self, number: int | str) -> None:
        """Send the script what Slurm sends it before the time limit; then skip the wait of two minutes."""
        before = self.row(number).restarts
        self.cluster.ask("scancel", "--signal=USR1", "--batch", str(number))
        wait_until(
            lambda: (row := self.row(number)).restarts > before and row.state == "PENDING",
            what=f"the requeue of {self.row(number)}",
        )
        self.cluster.start_now(number)

    def is_at_work(self, job: int) -> bool:
        """Whether the job's script has started `praxiscope`."""
        mark = f"SLURM_JOB_ID={job}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                if b"train" in words and mark in (path / "environ").read_bytes().split(b"\0"):
                    return True
        return False

    def read_log(self, number: int | str) -> str:
        row = self.row(number)
        log = row.folder / f"job-{row.number}.log"
        return log.read_text(encoding="utf-8") if log.exists() else self.cluster.read_logs()


@pytest.fixture
def desk(cluster, noise_folder, tmp_path):
    return Desk(cluster, noise_folder, tmp_path / "my runs")


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_stopped_and_requeued_is_the_uninterrupted_run(times, desk, noise_folder, tmp_path):
    validate = times > 1
    epochs = 12 * (times + 1)
    recipe = build_recipe(train__epochs=epochs)
    job = desk.submit(recipe=recipe, validate="val" if validate else None)
    rng = random.Random(times)
    for number in range(times):
        desk.wait_epochs(job, 12 * number + rng.randint(1, 3))
        desk.stop_and_requeue(job)
        if validate:
            assert desk.row(job + 1).state == "PENDING", "validation waits for the training's real end"
    row = desk.wait_state(job, "COMPLETED")
    assert row.restarts == times
    assert (row.training.state, row.training.epoch, row.training.epochs) == ("done", epochs, epochs)
    whole = train(recipe, data=noise_folder, output=tmp_path / "whole")
    assert digest(desk.run(job)) == digest(whole)
    assert desk.read_log(job).count("stopped and saved; back into the queue") == times
    sessions = desk.run(job).read_run_json()["time"]["sessions"]
    assert [session["state"] for session in sessions] == ["preempted"] * times + ["done"]
    if validate:
        desk.wait_state(job + 1, "COMPLETED")
        (evaluation,) = desk.run(job).evaluations("val")
        assert (evaluation / "metrics.json").is_file()


@pytest.mark.soak
def test_cancelled_is_saved_and_not_queued_again(desk):
    job = desk.submit(recipe=build_recipe(train__epochs=4000))
    desk.wait_epochs(job, 1)
    cancel(str(job), desk.output)
    desk.wait_state(job, "CANCELLED")
    wait_until(lambda: desk.row(job).training.state == "preempted", what="the run to be saved")
    time.sleep(2)
    assert desk.row(job).state == "CANCELLED"
    run = desk.run(job)
    resumed = train(
        build_recipe(train__epochs=len(run.read_metrics()) + 1), data=desk.data,
        folder=run.path, output=desk.output, allow_changes=True,
    )  # fmt: skip
    assert resumed.path == run.path
    assert resumed.read_status()["state"] == "done"


@pytest.mark.soak
def test_two_ranks_by_torchrun_are_requeued_to_the_uninterrupted_result(desk):
    """`srun torchrun`: USR1 goes from the script through both to the ranks, which save; torchrun ends with 1."""
    recipe = build_recipe(train__epochs=60, train__batch_size=3)
    whole, job = (desk.submit(recipe=recipe, gpus="2", words=("--device", "cpu")) for _ in range(2))
    desk.wait_epochs(job, 2)
    desk.stop_and_requeue(job)
    status = desk.run(job).read_status()
    assert (status["state"], status["epoch"] < 60) == ("preempted", True), desk.read_log(job)
    assert desk.wait_state(job, "COMPLETED").restarts == 1
    desk.wait_state(whole, "COMPLETED")
    assert desk.run(job).read_run_json()["ranks"] == 2
    assert digest(desk.run(job)) == digest(desk.run(whole))
    assert "Stopped and saved" in desk.read_log(job)


@pytest.mark.soak
def test_an_array_of_seeds_is_two_runs(desk, noise_folder, tmp_path):
    array = parse_array("seeds=5,6", ("train.lr=0.001,0.002",), at_once=2)
    job = desk.submit(recipe=build_recipe(train__epochs=2), array=array, validate="test")
    for index, (seed, lr) in enumerate([(5, 0.001), (5, 0.002), (6, 0.001), (6, 0.002)]):
        row = desk.wait_state(f"{job}_{index}", "COMPLETED")
        assert row.element == f"seed={seed} train.lr={lr}"
        recipe = build_recipe(train__epochs=2, seed=seed, train__lr=lr)
        whole = train(recipe, data=noise_folder, output=tmp_path / f"whole{index}")
        assert digest(desk.run(row.number)) == digest(whole)
        desk.wait_state(f"{job + 1}_{index}", "COMPLETED")
        assert len(desk.run(row.number).evaluations("test")) == 1


@pytest.mark.soak
def test_a_true_time_limit_of_two_minutes(desk, noise_folder, tmp_path):
    """Slurm sends the signal itself, 30 s before the limit; it may come up to a minute earlier."""
    recipe = build_recipe(train__epochs=400)
    job = desk.submit(recipe=recipe, time="2", signal_s=30)
    for _ in range(40):
        row = desk.row(job)
        if row.is_over:
            break
        if row.state == "PENDING" and row.restarts:
            desk.cluster.start_now(job)
        time.sleep(5)
    row = desk.wait_state(job, "COMPLETED", timeout_s=5)
    assert row.restarts >= 1, desk.read_log(job)
    whole = train(recipe, data=noise_folder, output=tmp_path / "whole")
    assert digest(desk.run(job)) == digest(whole)


@pytest.mark.soak
def test_no_progress_ends_the_circle(desk):
    """A signal that comes before the first step, each time."""
    job = desk.submit(recipe=build_recipe(train__epochs=4000))
    for session in range(2):
        wait_until(lambda: desk.is_at_work(job), what="a start")
        desk.cluster.ask("scancel", "--signal=USR1", "--batch", str(job))
        if session == 0:
            wait_until(lambda: desk.row(job).restarts == 1, what="a requeue")
            wait_until(lambda: desk.row(job).state == "PENDING", what="a requeue")
            desk.cluster.start_now(job)
    desk.wait_state(job, "FAILED")
    assert "two sessions in a row ended at step 0; not queued again" in desk.read_log(job)


def test_names_that_could_be_code_reach_slurm_as_they_are(cluster, tmp_path):
    folder = tmp_path / "a b'c \"d$(touch pwned);e # %j ü"
    folder.mkdir()
    spec = JobSpec(
        name="names", folder=folder, directory=folder, command=("--version",),
        resources=Resources(time="1", cpus=1, more=("--comment=it's # $HOME",)),
        environment=Environment(variables={"VALUE": "two\nlines $(touch pwned)"}),
    )  # fmt: skip
    job = submit_script(write_script(spec), hold=True)
    assert read_jobs([job])[str(job)].state == "PENDING"
    assert read_jobs([job])[str(job)].reason == "JobHeldUser"
    cluster.ask("scontrol", "release", str(job))
    log = folder / f"job-{job}.log"
    wait_until(lambda: read_jobs([job])[str(job)].is_over, what="the end of the job")
    assert "praxiscope" in log.read_text(encoding="utf-8")
    shown = cluster.ask("scontrol", "show", "job", str(job))
    assert f"WorkDir={folder}\n" in shown
    assert "Comment=it's # $HOME" in shown
    assert sorted(path.name for path in folder.iterdir()) == [log.name, "job.sbatch"]
