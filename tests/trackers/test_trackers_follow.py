"""What holds for every tracker: resume, kills, secrets, errors."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tracked_runs import (
    SECRETS,
    Following,
    build_recipe,
    list_children,
    merge_histories,
    read_all,
    read_expected,
    read_mlflow,
    read_trackio,
    read_wandb,
)

from praxiscope.errors import EnvironmentProblem, Preempted
from praxiscope.recipe.load import dump_recipe
from praxiscope.runs.find import find_run, list_runs
from praxiscope.training.trackers import base, follow
from praxiscope.training.trackers.base import TrackerCard
from praxiscope.training.trackers.catalog import TRACKERS
from praxiscope.training.trackers.follow import build_config, require_trackers
from praxiscope.training.trackers.trackio import check_trackio
from praxiscope.workflows.train import train

ALL = ("wandb", "mlflow", "trackio")
needs_all = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ALL), reason="the extras wandb, mlflow, trackio"
)


@needs_all
def test_trackio_holds_every_epoch_under_its_step(tracked):
    run, _ = tracked
    assert read_trackio(run) == read_expected(run)
    assert run.read_run_json()["trackers"]["trackio"]["id"] == f"my run-{run.run_id}"


@needs_all
def test_no_secret_is_in_any_file(tracked, own_home):
    run, notes = tracked
    files = read_all(run.path, own_home)
    assert len(files) > 30
    for secret in SECRETS.values():
        holding = [str(path) for path, content in files.items() if secret.encode() in content]
        assert holding == []
        assert not any(secret in note for note in notes)


@needs_all
def test_stopped_resumed_and_extended_is_one_run_everywhere(few_images, tmp_path):
    def stop(progress) -> None:
        if progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    recipe = build_recipe(*ALL)
    with pytest.raises(Preempted):
        train(recipe, data=few_images, output=tmp_path, device="cpu", watch=Following(on_step=stop))
    (run,) = list_runs(tmp_path)
    before = run.read_run_json()["trackers"]
    assert {name: entry["step"] for name, entry in before.items()} == dict.fromkeys(ALL, 2)
    assert read_wandb(run)[0]["exit"] == 1
    assert read_mlflow(run)[0].info.status == "KILLED"
    assert list_children() == []
    train(None, resume=run.path, output=tmp_path, device="cpu", epochs=3)
    after = run.read_run_json()["trackers"]
    assert {name: entry["id"] for name, entry in after.items()} == {
        name: entry["id"] for name, entry in before.items()
    }
    expected = read_expected(run)
    assert [step for step, _ in expected] == [2, 4, 6]
    files = read_wandb(run)
    assert [row for file in files for row in file["history"]] == expected
    assert {file["id"] for file in files} == {before["wandb"]["id"]}
    stored, history = read_mlflow(run)
    assert history == expected
    assert stored.data.tags["resumed.train.epochs"] == "3"
    assert read_trackio(run) == expected


_KILLED_BEFORE_IT_SAVES = """
import os, signal, sys
from praxiscope.training import session
from praxiscope.workflows.train import train
save = session.save_job
def save_or_die(job, state, folder, *, is_best, epoch_ended):
    if epoch_ended and state.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(job, state, folder, is_best=is_best, epoch_ended=epoch_ended)
session.save_job = save_or_die
train(sys.argv[1], data=sys.argv[2], output=sys.argv[3], device="cpu")
"""


@needs_all
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_between_log_and_checkpoint_nothing_is_missing_afterwards(few_images, tmp_path):
    recipe = tmp_path / "tracked.yaml"
    recipe.write_text(dump_recipe(build_recipe(*ALL, train__epochs=3)), encoding="utf-8")
    arguments = [str(recipe), str(few_images), str(tmp_path / "runs")]
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED_BEFORE_IT_SAVES, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    run = find_run("tracked@latest", root=tmp_path / "runs")
    assert len(run.read_metrics()) == 2, "the second epoch was logged, and is rolled back"
    before = run.read_run_json()["trackers"]
    train(None, resume=run.path, output=tmp_path / "runs", device="cpu")
    expected = read_expected(run)
    files = read_wandb(run)
    assert merge_histories(files) == expected
    assert {file["id"] for file in files if file["id"]} == {before["wandb"]["id"]}
    for stored in (read_mlflow(run)[1], read_trackio(run)):
        assert [step for step, _ in stored] == [2, 4, 6]
        # The rolled-back epoch is trained again to the same figures; how long it took differs.
        timed = {"images_per_s", "epoch_s", "peak_memory_mib"}
        for (_, theirs), (_, ours) in zip(stored, expected, strict=True):
            assert {k: v for k, v in theirs.items() if k not in timed} == {
                k: v for k, v in ours.items() if k not in timed
            }


@needs_all
def test_a_tracker_that_is_added_on_resume_gets_the_earlier_epochs(few_images, tmp_path):
    run = train(build_recipe(), data=few_images, output=tmp_path, device="cpu")
    assert not run.trackers.exists()
    assert "trackers" not in run.read_run_json()
    train(build_recipe("mlflow"), data=few_images, resume=run.path, output=tmp_path, device="cpu")
    assert read_mlflow(run)[1] == read_expected(run)


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("card", TRACKERS, ids=lambda card: card.name)
def test_an_absent_package_is_named_before_a_folder_is_made(card, few_images, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        base.importlib.util, "find_spec", lambda name, *a: None if name == card.module else real(name, *a)
    )
    with pytest.raises(
        EnvironmentProblem, match=rf"names '{card.name}', but .* pip install 'praxiscope\[{card.name}\]'"
    ):
        train(build_recipe(card.name), data=few_images, output=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_trackers_are_imported_only_when_asked_for():
    code = (
        # Not workflows.train: timm.utils imports wandb by itself where it is installed.
        "import sys, praxiscope.training.trackers.follow\n"
        "sys.exit(', '.join({'wandb', 'mlflow', 'trackio'} & set(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_offline_refuses_a_remote_trackio(name, monkeypatch):
    monkeypatch.setenv(name, "https://anna:canary@example.org")
    with pytest.raises(EnvironmentProblem, match=f"{name} would send the run away"):
        check_trackio(offline=True)
    check_trackio(offline=False)


class _Kept:
    """A tracker that keeps rows, and fails when told to."""

    place = "here"
    errors = (OSError,)

    def __init__(self) -> None:
        self.ids = {"id": "1", "project": "p"}
        self.last_step = 0
        self.rows: list[int] = []
        self.outcome: str | None = None
        self.fails: set[str] = set()

    def log(self, _row, *, step: int) -> None:
        if "log" in self.fails:
            raise ConnectionError("https://anna:canary@example.org is gone\nand more")
        self.rows.append(step)

    def close(self, outcome: str) -> None:
        self.outcome = outcome
        if "close" in self.fails:
            raise TimeoutError


@pytest.fixture
def kept(monkeypatch) -> _Kept:
    tracker = _Kept()

    def refuse(_run):
        raise EnvironmentProblem("no such server")

    cards = {
        "wandb": TrackerCard(name="wandb", title="Keeper", module="json", open=lambda _run: tracker),
        "mlflow": TrackerCard(name="mlflow", title="Refuser", module="json", open=refuse),
    }
    monkeypatch.setattr(follow, "find_tracker", cards.__getitem__)
    return tracker


def test_one_that_does_not_open_closes_those_that_did(kept, few_images, tmp_path):
    with pytest.raises(EnvironmentProblem, match="no such server"):
        train(build_recipe("wandb", "mlflow"), data=few_images, output=tmp_path, device="cpu")
    assert kept.outcome == "failed"
    assert kept.rows == []


def test_a_failure_is_noted_without_secrets_and_the_tracker_still_closed(kept, few_images, tmp_path):
    kept.fails = {"log", "close"}
    watch = Following()
    run = train(build_recipe("wandb"), data=few_images, output=tmp_path, device="cpu", watch=watch)
    (warning,) = [note for note in watch.notes if "WARNING" in note]
    assert (
        "Keeper has failed (ConnectionError: https://***@example.org is gone): epoch 1 and those after"
        in warning
    )
    assert kept.outcome == "done"
    assert len(run.read_metrics()) == 2
    assert warning in run.train_log.read_text(encoding="utf-8")


def test_a_failure_at_the_end_says_what_may_be_lost(kept, few_images, tmp_path):
    kept.fails = {"close"}
    watch = Following()
    train(build_recipe("wandb"), data=few_images, output=tmp_path, device="cpu", watch=watch)
    (warning,) = [note for note in watch.notes if "WARNING" in note]
    assert "Keeper has failed (TimeoutError): what this session sent may not have arrived" in warning


def test_an_error_of_another_kind_is_not_swallowed(kept, few_images, tmp_path):
    def log(_row, *, step: int) -> None:
        raise KeyError(step)

    kept.log = log
    with pytest.raises(KeyError):
        train(build_recipe("wandb"), data=few_images, output=tmp_path, device="cpu")
    assert kept.outcome == "failed"


def test_a_tracker_that_has_rows_already_gets_the_others(kept, few_images, tmp_path):
    kept.last_step = 2
    train(build_recipe("wandb", train__epochs=3), data=few_images, output=tmp_path, device="cpu")
    assert kept.rows == [4, 6]


def test_config_is_flat_and_masks_passwords():
    recipe = build_recipe(model__kwargs={"source": "https://anna:canary@example.org/x"})
    described = {
        "environment": {"cpu": "x", "cpu_flags": {"avx2": True}},
        "data": {},
        "recipe_fingerprint": "abc",
    }
    config = build_config(recipe, described)
    assert config["model.kwargs.source"] == "https://***@example.org/x"
    assert config["environment.cpu_flags.avx2"] is True
    assert config["train.lr"] == 3e-3
    assert config["train.clip_grad"] is None
    assert config["fingerprint.recipe"] == "abc"
    assert all(value is None or isinstance(value, str | int | float | bool) for value in config.values())


def test_no_tracker_by_default():
    recipe = build_recipe()
    assert recipe.track.trackers == ()
    require_trackers(recipe.track)


def test_every_tracker_of_the_recipe_has_a_card():
    from typing import get_args

    from praxiscope.recipe.schema import TrackSection

    (names,) = (get_args(get_args(TrackSection.model_fields["trackers"].annotation)[0]),)
    assert names == tuple(card.name for card in TRACKERS)
    assert Path(follow.__file__).parent.joinpath("__init__.py").read_text(encoding="utf-8") == ""
