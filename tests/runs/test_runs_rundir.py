import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from praxiscope.errors import EnvironmentProblem, IntegrityError, RunLocked, UsageError
from praxiscope.runs import rundir
from praxiscope.runs.rundir import RunDir


@pytest.fixture
def run_dir(tmp_path):
    return RunDir.create(tmp_path / "runs", "har-resnet18")


def test_a_new_run_is_named_by_recipe_and_utc_time(run_dir, tmp_path):
    assert run_dir.path.parent == tmp_path / "runs" / "har-resnet18"
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run_dir.run_id)
    stored = run_dir.read_run_json()
    assert (stored["schema"], stored["run_id"], stored["recipe_name"]) == (1, run_dir.run_id, "har-resnet18")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", stored["created"])


def test_many_at_once_are_all_different(tmp_path):
    assert len({RunDir.create(tmp_path, "r").path for _ in range(50)}) == 50


def test_every_path_lies_in_the_folder_under_its_documented_name(run_dir):
    documented = {
        "recipe": "recipe.yaml", "run_json": "run.json", "status": "status.json",
        "manifest": "manifest.parquet",
        "metrics": "metrics.jsonl", "results": "results.csv", "train_log": "train.log",
        "latest_results": "latest_results.txt", "checkpoints": "checkpoints", "tensorboard": "tb",
        "curves": "curves.png", "report": "report.html",
    }  # fmt: skip
    assert {name: getattr(run_dir, name) for name in documented} == {
        name: run_dir.path / file for name, file in documented.items()
    }
    assert run_dir.predictions("test") == run_dir.path / "predictions" / "test.parquet"
    run_dir.predictions("test").write_bytes(b"the folder is there")


def test_it_opens_again_by_relative_path(run_dir, monkeypatch):
    monkeypatch.chdir(run_dir.path.parent)
    assert RunDir.open(Path(run_dir.run_id)) == run_dir


def test_folders_that_an_archive_dropped_are_made_again(run_dir):
    run_dir.predictions("test").parent.rmdir()
    run_dir.checkpoints.rmdir()
    RunDir.open(run_dir.path).predictions("test").write_bytes(b"x")
    assert run_dir.checkpoints.is_dir()


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "two words", "nul\0"])
def test_a_recipe_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="can't be a folder name"):
        RunDir.create(tmp_path, name)


def test_an_output_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="something there is no folder"):
        RunDir.create(tmp_path / "runs", "r")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_root_that_is_read_only_is_an_environment_problem(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentProblem, match=r"Can't make the run folder .*--output"):
        RunDir.create(tmp_path, "r")
    tmp_path.chmod(0o700)


def test_a_folder_that_is_no_run_says_what_a_run_holds(run_dir, tmp_path):
    with pytest.raises(
        UsageError, match=r"There is no run folder .*absent.*run\.json, recipe\.yaml and checkpoints/"
    ):
        RunDir.open(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"is no run folder: it has no run\.json"):
        RunDir.open(tmp_path)
    for inside in (run_dir.checkpoints, run_dir.run_json):
        with pytest.raises(UsageError, match=f"Did you mean '{re.escape(str(run_dir.path))}'"):
            RunDir.open(inside)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"created": 5, "recipe_name": "x"}'])
def test_a_damaged_run_json_is_named(run_dir, content):
    run_dir.run_json.write_text(content, encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"run\.json is damaged"):
        RunDir.open(run_dir.path)


def test_an_update_keeps_the_rest(run_dir):
    run_dir.update_run_json({"best": {"epoch": 3}, "notes": ["a"]})
    run_dir.update_run_json({"best": {"epoch": 4}})
    stored = run_dir.read_run_json()
    assert (stored["best"], stored["notes"], stored["recipe_name"]) == ({"epoch": 4}, ["a"], "har-resnet18")


def test_the_status_tells_how_the_run_stands(run_dir):
    assert run_dir.read_status() is None
    run_dir.write_status("running", step=1, epoch=0)
    run_dir.write_status("preempted", step=120, epoch=2, message="SIGUSR1")
    status = json.loads(run_dir.status.read_text(encoding="utf-8"))
    assert status.pop("updated").endswith("+00:00")
    assert status == {"schema": 1, "state": "preempted", "step": 120, "epoch": 2, "message": "SIGUSR1"}
    with pytest.raises(ValueError, match="Unknown run state 'finished': use one of running, done, preempted"):
        run_dir.write_status("finished", step=1, epoch=1)
    assert run_dir.read_status()["state"] == "preempted"


def test_metrics_are_appended_read_and_cut_back(run_dir):
    assert run_dir.read_metrics() == []
    for epoch in (1, 2, 3):
        run_dir.append_metrics({"epoch": epoch, "step": epoch * 5, "val/loss": float("nan")})
    assert run_dir.truncate_metrics(after_step=10) == 1
    assert run_dir.read_metrics() == [{"epoch": e, "step": e * 5, "val/loss": None} for e in (1, 2)]


def test_latest_results_is_replaced(run_dir):
    run_dir.write_latest_results("top-1 50 %\n")
    run_dir.write_latest_results("top-1 60 % ± 2\n")
    assert run_dir.latest_results.read_text(encoding="utf-8") == "top-1 60 % ± 2\n"


def test_evaluations_of_one_second_are_all_kept_in_order(run_dir, monkeypatch):
    class Clock(rundir.datetime):
        second = 0

        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, cls.second, tzinfo=tz)

    monkeypatch.setattr(rundir, "datetime", Clock)
    tests = [run_dir.new_evaluation_dir("test") for _ in range(12)]
    validation = run_dir.new_evaluation_dir("val")
    Clock.second = 1
    later = run_dir.new_evaluation_dir("test")
    assert tests[0].name == "20260102-030400-test"
    assert tests[11].name == "20260102-030400-test-12"
    assert run_dir.evaluations("test") == [*tests, later]
    assert run_dir.evaluations("val") == [validation]
    assert run_dir.evaluations()[-1] == later
    assert run_dir.evaluations("train") == []


def test_two_may_not_train_here(run_dir):
    with run_dir.lock(), pytest.raises(RunLocked), run_dir.lock():
        pass


def test_nothing_here_but_checkpoints_imports_torch():
    code = (
        "import sys;"
        "from praxiscope.runs import atomic, checkpoint_files, environment, find, lock, rows, rundir;"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
