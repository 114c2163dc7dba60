"""``praxiscope tune`` as it is typed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from praxiscope.cli.arguments import normalize_arguments
from praxiscope.cli.main import main


def call(words):
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code or 0


def test_a_grid_from_the_command_line(noise_folder, tmp_path, capsys):
    words = ["tune", "demo-cnn", "--data", str(noise_folder), "-o", str(tmp_path), "--name", "g"]
    for key, value in {
        "model.name": "test_resnet", "model.img_size": 16, "train.epochs": 1, "loader.workers": 0,
        "train.warmup_epochs": 0, "train.precision": "fp32",
    }.items():  # fmt: skip
        words += ["--set", f"{key}={value}"]
    assert call([*words, "--sampler", "grid", "--space", "lr=1e-3,1e-4", "train.opt=adamw,sgd"]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 trials: 4 complete." in out
    assert "The best of 4 trials was chosen by its validation figure" in out
    assert call(["tune", "--show", "g", "-o", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo-cnn"], "A study needs RECIPE, --data DIR and --space"),
        (["--resume", "g", "--trials", "5"], "leave the other flags out"),
        (["--resume"], "--resume: which study"),
        (["--slurm", "--resume", "g"], "--slurm needs --time (24:00:00)"),
        (["--time", "1:00:00", "--resume", "g"], "--time: for --slurm only; add it, or leave them out"),
        (["demo-cnn", "--data", ".", "--space", "lr=1,2", "--gpus", "1"], "--gpus: for --slurm only"),
        (["--resume", "g", "--sampler", "grid", "--seed", "1"], "other flags out: --sampler, --seed."),
        (["demo-cnn", "--data", ".", "--space", "lr=1,2", "--slurm", "--time", "soon"], "--time 'soon'"),
        (
            ["--resume", "g", "--slurm", "--time", "1:00:00", "--gpus", "a100:2"],
            "--gpus a100:2: a worker trains in",
        ),
        (["--resume", "../g"], "can't be a folder's name"),
    ],
)
def test_slips_are_told(words, message, capsys):
    assert call(["tune", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_workers_on_slurm(noise_folder, tmp_path, capsys):
    """A dry run prepares the study and writes an array whose jobs each go on with it."""
    words = ["tune", "demo-cnn", "--data", str(noise_folder), "-o", str(tmp_path), "--name", "far"]
    words += ["--space", "lr=1e-3,1e-4", "--slurm", "--time", "2:00:00", "--jobs", "3", "--gpus", "1"]
    assert call([*words, "--partition", "gpu", "--module", "cuda/12", "--dry-run"]) == 0
    script = tmp_path / "tune" / "far" / "slurm" / "workers.sbatch"
    assert f"Script: {script}" in capsys.readouterr().out
    text = script.read_text(encoding="utf-8")
    assert "--array=0-2" in text
    assert "--time=2:00:00" in text
    assert "--resume" in text
    assert str(script.parents[1]) in text
    assert not (tmp_path / "tune" / "far" / "trials").exists()


def test_space_takes_several_words():
    words = ["tune", "--space", "lr=1,2", "opt=a,b", "demo-cnn", "--data", "x=y"]
    assert normalize_arguments(words) == [
        "tune", "--space", "lr=1,2", "--space", "opt=a,b", "demo-cnn", "--data", "x=y",
    ]  # fmt: skip


def test_help_does_not_import_optuna():
    code = (
        "import sys; from praxiscope.cli.main import main\n"
        "try: main(['tune', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'optuna', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
