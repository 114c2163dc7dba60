"""``submit`` and ``jobs``: what is written, asked of Slurm, shown, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import why_not
from submitted_jobs import StoppingAt, build_recipe, digest, write_recipe

from praxiscope.cli.main import main
from praxiscope.cluster.script import write_script
from praxiscope.cluster.slurm import cancel_job, read_jobs, submit_script
from praxiscope.cluster.spec import JobSpec, Resources
from praxiscope.errors import EnvironmentProblem, Preempted, UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.workflows.jobs import cancel, list_jobs
from praxiscope.workflows.submit import parse_array
from praxiscope.workflows.train import train

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the stand-ins for Slurm's commands are shell scripts"
)


def run_command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.fixture
def place(tmp_path, monkeypatch, slurm):
    """A working folder with a recipe and a data folder; Slurm answers 123, then 124."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    write_recipe(tmp_path / "tiny.yaml")
    return tmp_path


def find_folder(place: Path) -> Path:
    (folder,) = (place / "runs" / "slurm").iterdir()
    return folder


def test_submit_writes_hands_over_and_says_what_comes_next(place, slurm, capsys):
    words = ["--time", "1:00:00", "--partition", "gpu", "--mem", "8G", "--validate", "--", "--epochs", "3"]
    assert run_command("submit", "tiny.yaml", "--data", "photos", *words, "--set", "train.clip_grad=1") == 0
    folder = find_folder(place)
    assert slurm.calls() == [
        ["sbatch", "--parsable", str(folder / "job.sbatch")],
        ["sbatch", "--parsable", "--dependency=afterok:123", "--kill-on-invalid-dep=yes",
         str(folder / "validate.sbatch"), "123"],
    ]  # fmt: skip
    shown = capsys.readouterr().out
    assert "train: job 123\nvalidate: job 123\n" in shown
    assert shown.endswith(f"Files: {folder}\nNext: praxiscope jobs 123 --follow\n")
    stored = json.loads((folder / "submit.json").read_text(encoding="utf-8"))
    assert stored["jobs"] == {"train": 123, "validate": 123}
    recipe = load_recipe(folder / "recipe.yaml")
    assert (recipe.train.epochs, recipe.train.clip_grad) == (3, 1.0)
    script = (folder / "job.sbatch").read_text(encoding="utf-8")
    assert f"praxiscope train {folder}/recipe.yaml \\\n  --data {place}/photos \\\n" in script
    assert f"source {sys.prefix}/bin/activate\n" in script


def test_a_dry_run_shows_the_files_and_asks_nothing(place, slurm, capsys):
    given = ["submit", "tiny.yaml", "--data", "gone", "--time", "5", "--gpus", "0", "--dry-run"]
    assert run_command(*given, "--array", "seeds=0,1", "--validate", "--validate-split", "test") == 0
    assert slurm.calls() == []
    folder, shown = find_folder(place), capsys.readouterr().out
    for name in ("job", "validate"):
        assert (folder / f"{name}.sbatch").read_text(encoding="utf-8").rstrip() in shown
    assert f"note: {place}/gone is not visible on this machine; the node must see it." in shown
    assert shown.endswith(f"Nothing was submitted. To do so: sbatch {folder}/job.sbatch\n")
    assert list_jobs(place / "runs").rows == ()


def test_an_array_validates_each_run_after_its_own_training(place, slurm):
    run_command(
        "submit", "tiny.yaml", "--data", "photos", "--time", "5", "--array", "seeds=0,1", "--validate"
    )
    assert slurm.calls()[1][2] == "--dependency=aftercorr:123"
    folder = find_folder(place)
    assert "#SBATCH --array=0-1\n" in (folder / "validate.sbatch").read_text(encoding="utf-8")
    assert [(row.number, row.kind, row.element) for row in list_jobs(place / "runs").rows] == [
        ("123_0", "train", "seed=0"), ("123_1", "train", "seed=1"),
        ("123_0", "validate", "seed=0"), ("123_1", "validate", "seed=1"),
    ]  # fmt: skip
    assert list_jobs(place / "runs").rows[1].training.path.name.endswith("-slurm123_1")


def test_secrets_are_not_recorded(place, slurm):
    run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5", "--env", "WANDB_API_KEY=s3cret")
    folder = find_folder(place)
    assert "s3cret" not in (folder / "submit.json").read_text(encoding="utf-8")
    script = folder / "job.sbatch"
    assert "export WANDB_API_KEY=s3cret\n" in script.read_text(encoding="utf-8")
    assert (script.stat().st_mode & 0o077) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "--set", "train.lrr=1"], "There is no recipe key 'train.lrr'"),
        (["--", "--epoch", "3"], "No such option: --epoch"),
        (
            ["--", "other.yaml"],
            "Behind --: the recipe is named before it, so 'other.yaml' can't stand there.",
        ),
        (["--", "--resume"], "Behind --: a job finds its own run"),
        (["--", "--run", "x"], "Behind --: a job finds its own run"),
        (["--", "--output", "elsewhere"], "Behind --: --output stands before it"),
        (["--", "--data", "x"], "Behind --: --data stands before it"),
        (["--", "--help"], "No such option: --help"),
        (["--array", "seeds=a,b"], "--array 'seeds=a,b': seeds are whole numbers"),
        (["--array", "0-3"], "--array '0-3': write seeds=0,1,2, or grid"),
        (["--array", "grid"], "--array grid: name what to vary"),
        (["--grid", "train.lr"], "--grid 'train.lr': write key=value,value"),
        (["--grid", "train.lr=1,fast"], "train.lr is 'fast'"),
        (["--grid", "train.lrr=1,2"], "There is no recipe key 'train.lrr'"),
        (["--grid", "name=a,b"], "An array can't change 'name'"),
        (["--grid", "seed=1,1"], "The array trains seed=1 more than once"),
        (["--array", "seeds=1", "--grid", "seed=2,3"], "'seed' is varied twice"),
        (["--at-once", "2"], "--at-once is about an array"),
        (["--env", "HOME"], "--env 'HOME': write NAME=value"),
        (
            ["--validate", "--validate-split", "dev"],
            "--validate-split 'dev': val, test and train are possible.",
        ),
        (["--job-name", "a b"], "--job-name 'a b'"),
        (["--", "--set", "train.parallel=fsdp"], "train.parallel is fsdp, which spreads a network over"),
        (["--time", "soon"], "--time 'soon'"),
    ],
)
def test_a_slip_is_refused_before_anything_is_written(words, message, place, slurm, capsys):
    time = [] if "--time" in words else ["--time", "5"]
    assert run_command("submit", "tiny.yaml", "--data", "photos", *time, *words) == 2
    assert message in capsys.readouterr().err
    assert slurm.calls() == []
    assert not (place / "runs").exists()


def test_a_flag_where_the_recipe_should_be(place, capsys):
    assert run_command("submit", "--data", "photos", "--time", "5", "--", "--epochs", "3") == 2
    assert "'--epochs' stands where the recipe should" in capsys.readouterr().err


def test_without_sbatch_the_file_is_there(place, slurm, capsys):
    slurm.remove("sbatch")
    assert run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5") == 3
    errors = capsys.readouterr().err
    assert "There is no 'sbatch' here: Slurm is not installed on this machine." in errors
    assert f"The script is written: {find_folder(place)}/job.sbatch. Submit it on a login node." in errors


def test_what_sbatch_says_is_shown(place, slurm, capsys):
    slurm.answer("sbatch", "sbatch: error: invalid partition specified: gpu", code=1)
    assert run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5") == 3
    errors = capsys.readouterr().err
    assert f"sbatch refused {find_folder(place)}/job.sbatch:\nsbatch: error: invalid partition" in errors
    assert "type: sbatch " in errors


@pytest.mark.parametrize(("text", "job"), [("77;cluster\n", 77), ("78\n", 78)])
def test_the_job_id_is_read_with_and_without_a_cluster(text, job, slurm, tmp_path):
    slurm.answer("sbatch", text)
    assert submit_script(tmp_path / "x") == job


def test_an_answer_without_an_id_is_an_error(slurm, tmp_path):
    slurm.answer("sbatch", "ok\n")
    with pytest.raises(EnvironmentProblem, match="printed no job id: 'ok'"):
        submit_script(tmp_path / "x")


def test_values_with_commas_in_brackets():
    array = parse_array("grid", ("augment.crop_scale=[0.5,1.0],[0.2,1.0]", "train.lr=1e-3"))
    assert array is not None
    assert array.values["augment.crop_scale"] == ("[0.5,1.0]", "[0.2,1.0]")
    assert parse_array(None, ()) is None


# ---------------------------------------------------------------------------------------------- jobs


def format_queue(*rows: tuple[str, ...]) -> str:
    return "".join("".join(cell.ljust(256) for cell in row) + "\n" for row in rows)


def test_the_queue_and_the_accounting_are_read(slurm):
    slurm.answer("squeue", format_queue(
        ("5_0", "RUNNING", "None", "2", "1:00", "5:00", "node1", "a"),
        ("5_1", "PENDING", "Priority", "0", "0:00", "5:00", "", "a"),
        ("6", "COMPLETED", "None", "0", "0:10", "5:00", "node1", "b"),
    ))  # fmt: skip
    slurm.answer("sacct", "7|CANCELLED by 1000|00:00:10|node2\n8|COMPLETED|00:01:00|node2\n")
    states = read_jobs([5, 7, 8])
    assert {job: state.state for job, state in states.items()} == {
        "5_0": "RUNNING", "5_1": "PENDING", "7": "CANCELLED", "8": "COMPLETED",
    }  # fmt: skip
    assert (states["5_0"].restarts, states["5_0"].reason, states["5_1"].reason) == (2, "", "Priority")
    assert [states[job].is_over for job in ("5_0", "5_1", "7")] == [False, False, True]
    assert slurm.calls("sacct")[0][-1] == "--jobs=7,8"


def test_without_accounts_or_slurm(slurm):
    slurm.answer("squeue", "")
    slurm.answer("sacct", "Slurm accounting storage is disabled\n", code=1)
    assert read_jobs([7]) == {}
    slurm.answer("squeue", "slurm_load_jobs error: Unable to contact slurm controller\n", code=1)
    with pytest.raises(EnvironmentProblem, match="squeue can't reach Slurm: slurm_load_jobs error"):
        read_jobs([7])
    slurm.answer("scancel", "Invalid job id 7\n", code=1)
    with pytest.raises(EnvironmentProblem, match="scancel 7: Invalid job id 7"):
        cancel_job("7")


def submit_and_train(place: Path, data: Path, slurm, **changes) -> RunDir:
    """Submit, and train by hand what the job would have trained."""
    run_command("submit", "tiny.yaml", "--data", data, "--time", "5", "--validate", "--", "--epochs", "2")
    folder = list_jobs(place / "runs").rows[0].training.path
    return train(build_recipe(train__epochs=2), data=data, folder=folder)


def test_jobs_shows_where_training_stands(place, slurm, noise_folder, capsys):
    run = submit_and_train(place, noise_folder, slurm)
    assert run.path.parent == place / "runs" / "tiny"
    slurm.answer("squeue", format_queue(("123", "RUNNING", "None", "3", "1:00", "5:00", "node1", "tiny")))
    capsys.readouterr()
    assert run_command("jobs", "123") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["job", "name", "state", "epoch", "best", "left", "restarts"]
    best = run.read_run_json()["best"]
    expected = ["123", "tiny", "RUNNING", "2/2", best["monitor"], f"{best['value']:.4f}", "0s", "3"]
    assert lines[1].split() == expected
    assert lines[2] == f"  {run.path}"
    assert lines[3] == "  " + run.latest_results.read_text(encoding="utf-8").splitlines()[-1]
    assert lines[3].strip().startswith("epoch 2/2")


def test_jobs_that_slurm_has_forgotten_speak_through_their_run(place, slurm, noise_folder, capsys):
    submit_and_train(place, noise_folder, slurm)
    slurm.answer("squeue", "")
    capsys.readouterr()
    assert run_command("jobs", "--follow") == 0, "all is over, so it ends"
    shown = capsys.readouterr().out
    assert "(done)" in shown
    assert "(unknown)" in shown, "nothing was evaluated"
    assert "in brackets: what the run folder says of a job that Slurm no longer knows" in shown
    slurm.remove("squeue")
    assert run_command("jobs") == 0
    assert "note: There is no 'squeue' here: Slurm is not installed" in capsys.readouterr().out


def test_a_failed_job_names_its_log(place, slurm, capsys):
    run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5", "--array", "seeds=0,1")
    slurm.answer("squeue", format_queue(
        ("123_0", "FAILED", "NonZeroExitCode", "0", "0:10", "5:00", "node1", "tiny"),
        ("123_1", "COMPLETED", "None", "0", "0:10", "5:00", "node1", "tiny"),
    ))  # fmt: skip
    capsys.readouterr()
    run_command("jobs")
    shown = capsys.readouterr().out
    assert f"  ended otherwise: {find_folder(place)}/job-123_0.log\n" in shown
    assert shown.count("ended otherwise") == 1
    script = (find_folder(place) / "job.sbatch").read_text(encoding="utf-8")
    assert f"--output={find_folder(place)}/job-%A_%a.log\n" in script


def test_a_waiting_job_says_what_it_waits_for(place, slurm, capsys):
    run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5")
    slurm.answer("squeue", format_queue(("123", "PENDING", "Resources", "0", "0:00", "5:00", "", "tiny")))
    run_command("jobs")
    assert "waits: Resources" in capsys.readouterr().out


def test_no_jobs_and_unknown_jobs(place, slurm, capsys):
    assert run_command("jobs") == 0
    assert "No jobs were submitted with runs in runs. `praxiscope submit` does." in capsys.readouterr().out
    run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5")
    slurm.answer("squeue", "")
    assert run_command("jobs", "99") == 2
    assert "No job '99' was submitted with runs in runs; these were: 123." in capsys.readouterr().err


def test_only_ones_own_jobs_are_cancelled(place, slurm, capsys):
    run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5", "--array", "seeds=0,1")
    assert run_command("jobs", "--cancel", "99") == 2
    assert "Job '99' was not submitted with runs in runs, so it is left alone." in capsys.readouterr().err
    assert slurm.calls("scancel") == []
    assert run_command("jobs", "--cancel", "123_1") == 0
    assert slurm.calls("scancel") == [["scancel", "123_1"]]
    cancel("123", place / "runs")
    assert slurm.calls("scancel")[1] == ["scancel", "123"]


def test_a_damaged_record_is_passed_over_by_name(place, slurm, caplog):
    run_command("submit", "tiny.yaml", "--data", "photos", "--time", "5")
    path = find_folder(place) / "submit.json"
    for text in ("{", "{}", '{"elements": [], "arguments": [], "jobs": 3}'):
        path.write_text(text, encoding="utf-8")
        caplog.clear()
        assert list_jobs(place / "runs").rows == ()
        assert f"Passed over: {path} is damaged" in caplog.text


# ---------------------------------------------------------------------------------------------- train --run


def test_run_makes_its_folder_and_goes_on_with_it(noise_folder, tmp_path):
    folder, recipe = tmp_path / "mine" / "tiny" / "job7", build_recipe(train__epochs=2)
    with pytest.raises(Preempted):
        train(recipe, data=noise_folder, folder=folder, watch=StoppingAt(8))
    run = train(recipe, data=noise_folder, folder=folder)
    assert (run.path, run.run_id) == (folder, "job7")
    assert digest(run) == digest(train(recipe, data=noise_folder, output=tmp_path / "whole"))
    before = digest(run)
    assert digest(train(recipe, data=noise_folder, folder=folder)) == before, "a finished run stays as it is"
    with pytest.raises(UsageError, match="would not be the same run any more"):
        train(build_recipe(train__epochs=2, seed=4), data=noise_folder, folder=folder)
    with pytest.raises(UsageError, match="--run makes its folder or goes on with it"):
        train(recipe, data=noise_folder, folder=folder, resume=True)


def test_run_begins_anew_where_a_kill_left_only_a_beginning(noise_folder, tmp_path):
    folder = tmp_path / "job7"
    for name in ("checkpoints", "predictions"):
        (folder / name).mkdir(parents=True)
    (folder / "run.lock").touch()
    run = train(build_recipe(train__epochs=1), data=noise_folder, folder=folder)
    assert run.path == folder
    assert run.read_status()["state"] == "done"


def test_run_leaves_other_folders_alone(noise_folder, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds thesis.tex, so no new run is made there"):
        train(build_recipe(train__epochs=1), data=noise_folder, folder=tmp_path)
    with pytest.raises(UsageError, match="something there is no folder"):
        train(build_recipe(train__epochs=1), data=noise_folder, folder=tmp_path / "thesis.tex")


# ---------------------------------------------------------------------------------------------- all together


@pytest.mark.skipif(why_not() is None, reason="test_real_slurm.py does the same with a real Slurm")
def test_a_real_training_is_stopped_by_its_script_and_goes_on(slurm, noise_folder, tmp_path):
    """The script as Slurm would run it, with a real training: USR1, queued again, the same result."""
    slurm.write_program("praxiscope", f'#!/bin/bash\nexec {sys.executable} -m praxiscope "$@"\n')
    recipe = write_recipe(tmp_path / "tiny.yaml", train__epochs=12)
    script = write_script(
        JobSpec(
            name="tiny", folder=tmp_path / "job", directory=tmp_path, resources=Resources(time="5"),
            command=("train", str(recipe), "--data", str(noise_folder)), run=tmp_path / "runs" / "tiny" / "x",
        )
    )  # fmt: skip
    environment = {**os.environ, "SLURM_JOB_ID": "9", "OMP_NUM_THREADS": "1"}
    run = RunDir(path=tmp_path / "runs" / "tiny" / "x9")
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(["bash", str(script)], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while not (run.metrics.is_file() and len(run.read_metrics()) >= 3):
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=300) == 0, (tmp_path / "log.txt").read_text()
        assert run.read_status()["state"] == "preempted"
        assert slurm.calls("scontrol") == [["scontrol", "requeue", "9"]]
        subprocess.run(
            ["bash", str(script)], env=environment, stdout=log, stderr=log, check=True, timeout=300
        )
    assert run.read_status()["state"] == "done"
    whole = train(build_recipe(train__epochs=12), data=noise_folder, output=tmp_path / "whole")
    assert digest(run) == digest(whole)
