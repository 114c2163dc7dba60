"""Real, tiny bake-offs: through the API, killed as a process, and what they leave for people."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from praxiscope.cli.bakeoff_command import format_ranking
from praxiscope.cli.main import main
from praxiscope.errors import DataError, Diverged, EnvironmentProblem, Preempted, UsageError
from praxiscope.recipe.load import compute_recipe_differences, load_recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.tournament.actions import ContestantFailed
from praxiscope.training.watch import Silent
from praxiscope.workflows import bakeoff_trainings
from praxiscope.workflows.bakeoff import bakeoff, resume_bakeoff

# 40 px aren't a multiple of test_vit's patches: it can't take part.
MODELS = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"]
ASKED = {"mode": "same-recipe", "budget": "20m", "seeds": 1, "max_epochs": 2}
OVERRIDES = {
    "model.img_size": 40, "train.batch_size": 12, "train.precision": "fp32", "loader.workers": 0,
    "evaluate.resamples": 100,
}  # fmt: skip


# What each run draws takes longer than its training here, and is tested where it is drawn.
_UNDRAWN = (
    "praxiscope.workflows.session.write_curves",
    "praxiscope.workflows.evaluate.write_evaluation_figures",
)
_CHILD = """
import sys
from unittest.mock import patch
from praxiscope.cli.main import main
undrawn = sys.argv[1].split(",")
with patch(undrawn[0]), patch(undrawn[1]):
    main(sys.argv[2:])
"""


@pytest.fixture(scope="module", autouse=True)
def _undrawn():
    with pytest.MonkeyPatch.context() as patch:
        for name in _UNDRAWN:
            patch.setattr(name, lambda *_args, **_kwargs: ())
        yield


class Reading:
    """Counts what is done through the ordinary workflows."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self._wrap(patch, "train", lambda _kwargs: "train")
        self._wrap(patch, "evaluate", lambda kwargs: f"evaluate {kwargs['split']}")

    def _wrap(self, patch, name, describe):
        original = getattr(bakeoff_trainings, name)

        def spy(*args, **kwargs):
            self.calls.append(describe(kwargs))
            return original(*args, **kwargs)

        patch.setattr(bakeoff_trainings, name, spy)


@pytest.fixture(scope="module")
def whole(noise_folder, tmp_path_factory):
    """A bake-off that nothing disturbs, and what it did."""
    folder = tmp_path_factory.mktemp("bakeoff") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        reading = Reading(patch)
        result = bakeoff(MODELS, data=noise_folder, overrides=OVERRIDES, output=folder, **ASKED)
    return result, reading.calls


def _read_lines(folder: Path) -> list[dict]:
    path = folder / "ledger.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _ranking(result):
    drop = {"train_s"}
    return [{k: v for k, v in row.items() if k not in drop} for row in result.content["ranking"]]


def test_a_bakeoff_ranks_everybody(whole):
    result, _ = whole
    ranking = result.content["ranking"]
    assert sorted(row["contestant"] for row in ranking) == sorted(MODELS)
    assert [row["stage"] for row in ranking] == [
        "final",
        "final",
        "out after rung 1",
        "failed in calibration",
    ]
    assert ranking[3]["contestant"] == "test_vit"
    assert "40" in ranking[3]["reason"]
    assert all(row["test"]["seeds"][0]["n"] == 12 for row in ranking[:2])
    assert ranking[2]["test"] is None
    assert result.content["verdict"]
    assert result.content["spent_s"] < result.content["budget_s"]


def test_the_test_split_is_read_once_a_finalist_after_the_last_training(whole):
    result, calls = whole
    assert calls.count("evaluate test") == 2
    assert "train" not in calls[calls.index("evaluate test") :]
    evaluated = {path.parents[2].name for path in result.folder.glob("runs/*/*/*/evaluations/*-test")}
    assert evaluated == {row["contestant"] for row in result.content["ranking"][:2]}
    assert not (result.folder / "calibration").exists()


def test_contestants_differ_in_the_model_alone_and_seeds_in_the_seed(whole):
    result, _ = whole
    runs = {
        (e["stage"], e["contestant"]): RunDir.open(result.folder / e["run"]) for e in result.content["runs"]
    }
    recipes = {key: load_recipe(run.recipe) for key, run in runs.items()}
    first = recipes["rungs", "test_resnet"]
    for (stage, _), recipe in recipes.items():
        keys = {line.partition(":")[0] for line in compute_recipe_differences(first, recipe)}
        allowed = {"name", "model.name"} | (
            {"seed", "train.epochs", "train.warmup_epochs"} if stage == "finals" else set()
        )
        assert keys <= allowed, keys
    prints = {run.read_run_json()["data"]["manifest_fingerprint"] for run in runs.values()}
    assert len(prints) == 1, "all see the same samples in the same splits"


def test_rungs_are_one_run_that_goes_on(whole):
    result, _ = whole
    epochs = {}
    for entry in result.content["runs"]:
        rows = RunDir.open(result.folder / entry["run"]).read_metrics()
        assert [row["val/top1"] for row in rows][: entry["epochs"]] == entry["curve"]
        epochs.setdefault(entry["stage"], set()).add(len(rows))
    assert epochs == {"rungs": {1}, "finals": {2}}


def test_what_it_leaves_for_people(whole):
    result, _ = whole
    folder = result.folder
    assert json.loads((folder / "bakeoff.json").read_text(encoding="utf-8")) == result.content
    rows = list(csv.DictReader((folder / "ranking.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["contestant"] for row in rows] == [row["contestant"] for row in result.content["ranking"]]
    assert float(rows[0]["test_top1"]) == result.content["ranking"][0]["test"]["top1"]
    assert rows[3]["value"] == ""
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = result.page.read_text(encoding="utf-8")
    for name in MODELS:
        assert name.replace("_", "_<wbr>") in page
    assert "default-src &#39;none&#39;" in page
    assert not re.search(r"(src|href)=\"(https?:)?//", page), "it loads nothing"
    table = format_ranking(result.content)
    assert [line.split()[1] for line in table.splitlines() if re.match(r" \d ", line)] == [
        r["contestant"] for r in rows
    ]
    assert re.search(r"of 20 min 00 s spent, 1\d min \d\d s left\.$", table)


class Stopping(Silent):
    """Sends this process a signal at one step of the finals."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text):
        self.notes.append(text)

    def step(self, progress):
        if any("finalists:" in note for note in self.notes) and progress.step == 4:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")
def test_killed_and_stopped_and_resumed_it_gives_the_same_ranking(whole, noise_folder, tmp_path):
    folder = tmp_path / "killed"
    settings = [word for key, value in OVERRIDES.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", _CHILD, ",".join(_UNDRAWN), "bakeoff", "--models", ",".join(MODELS), "--data", str(noise_folder),
               "--budget", "20m", "--seeds", "1", "--max-epochs", "2", "-o", str(folder), *settings]  # fmt: skip
    with (tmp_path / "log.txt").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            deadline = time.monotonic() + 300
            while not any(line["kind"] == "trained" for line in _read_lines(folder)):
                assert child.poll() is None, (tmp_path / "log.txt").read_text(encoding="utf-8")
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            child.kill()  # SIGKILL
            child.wait()
    before = _read_lines(folder)
    with pytest.raises(Preempted, match=f"Stopped and saved. To go on: praxiscope bakeoff --resume {folder}"):
        resume_bakeoff(folder, watch=Stopping())
    result = resume_bakeoff(folder)
    assert _ranking(result) == _ranking(whole[0])
    lines = _read_lines(folder)
    assert lines[: len(before)] == before, "what stands is never decided again"
    assert [line["kind"] for line in lines].count("resumed") == 2
    assert [line["reason"] for line in lines if line["kind"] == "stopped"] == ["Preempted"]
    spent = [line["spent_s"] for line in lines]
    assert spent == sorted(spent), "time spent before a kill counts"
    assert next(line["spent_s"] for line in lines if line["kind"] == "resumed") >= before[-1]["spent_s"]
    again = resume_bakeoff(folder)
    assert again.content == result.content, "one that is done stays as it is"


def test_resume_finds_the_newest_and_names_what_is_wrong(whole, noise_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no bake-off below runs"):
        resume_bakeoff()
    with pytest.raises(UsageError, match=r"there is no bake-off \(ledger.jsonl\) in it"):
        resume_bakeoff(tmp_path)
    lines = (whole[0].folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    newest = tmp_path / "runs" / "bakeoff" / "20300101-000000"
    newest.mkdir(parents=True)
    begin = json.loads(lines[0])
    begin["data"]["manifest_fingerprint"] = "another"
    (newest / "ledger.jsonl").write_text(json.dumps(begin) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"isn't the data that .*20300101-000000 began with"):
        resume_bakeoff()
    (newest / "ledger.jsonl").write_text(lines[1], encoding="utf-8")
    with pytest.raises(UsageError, match="has no line 'begin'"):
        resume_bakeoff()


def test_slips_are_named_before_anything_is_made(noise_folder, photos, tmp_path):
    with pytest.raises(UsageError, match="--seeds is 0; it must be 1 or more"):
        bakeoff(MODELS, data=noise_folder, budget="1m", seeds=0, output=tmp_path / "x")
    with pytest.raises(UsageError, match=r"No model is called 'test_resnt'. Did you mean 'test_resnet'"):
        bakeoff(["test_resnt", "test_vit"], data=noise_folder, budget="1m", output=tmp_path / "x")
    with pytest.raises(UsageError, match="is not an empty folder"):
        bakeoff(MODELS, data=noise_folder, budget="1m", output=noise_folder)
    for path in (photos / "test").glob("*/*"):
        path.unlink()
    with pytest.raises(DataError, match="gives no sample for 'test', and a bake-off needs"):
        bakeoff(MODELS, data=photos, budget="1m", output=tmp_path / "x")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "ledger.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds a bake-off\. Go on with it: praxiscope bakeoff --resume"):
        bakeoff(MODELS, data=noise_folder, budget="1m", output=tmp_path / "old")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "a,b"], "A bake-off needs --models A,B,C, --data DIR and --budget TIME"),
        (["--resume", "runs/x", "--budget", "60m"], "leave the other flags out"),
        (["--resume", "runs/x", "--max-epochs", "9"], "leave the other flags out"),
        (["--resume", "runs/x", "--seeds", "5"], "leave the other flags out"),
        (["--models", "test_vit,test_resnet", "--data", ".", "--budget", "60"], "--budget '60': write hours"),
    ],
)
def test_slips_on_the_command_line(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bakeoff", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "problem", [Diverged("the loss is nan"), RuntimeError("mat1 and mat2"), MemoryError("no")]
)
def test_what_is_wrong_with_one_network_is_its_failure(problem):
    with pytest.raises(ContestantFailed, match=str(problem)), bakeoff_trainings._naming_failures():
        raise problem


@pytest.mark.parametrize(
    "problem", [EnvironmentProblem("the disk is full"), DataError("x.jpg"), KeyError("a fault")]
)
def test_what_is_wrong_for_all_ends_the_bakeoff(problem):
    with pytest.raises(type(problem)), bakeoff_trainings._naming_failures():
        raise problem


@pytest.mark.soak
def test_a_real_budget_holds(noise_folder, tmp_path):
    """Two minutes of real training, with no other end in sight than the time box."""
    overrides = OVERRIDES | {"model.img_size": 64}
    started = time.monotonic()
    result = bakeoff(
        MODELS,
        data=noise_folder,
        budget="2m",
        seeds=2,
        max_epochs=10_000,
        overrides=overrides,
        output=tmp_path / "x",
    )
    assert 0.5 * 120 < time.monotonic() - started < 1.05 * 120
    assert not result.content["cuts"]
