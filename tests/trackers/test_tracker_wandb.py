"""Weights & Biases offline, for real: what is in its file is what metrics.jsonl has."""

from __future__ import annotations

import gc
import os
import signal
import subprocess

import pytest
from tracked_runs import (
    Following,
    build_recipe,
    list_children,
    merge_histories,
    read_expected,
    read_wandb,
)

from praxiscope.errors import EnvironmentProblem
from praxiscope.training.trackers import wandb as adapter
from praxiscope.workflows.train import train

pytest.importorskip("wandb", reason="the extra 'wandb' is not installed")


def test_offline_run_holds_every_epoch_under_its_step(tracked):
    run, notes = tracked
    (stored,) = read_wandb(run)
    assert stored["history"] == read_expected(run)
    assert len(stored["history"]) == 2
    assert stored["exit"] == 0
    assert stored["project"] == "praxiscope"
    assert stored["name"] == "my run"
    known = run.read_run_json()
    assert known["trackers"]["wandb"] == {"id": stored["id"], "project": "praxiscope", "step": 4}
    assert stored["config"]["train.lr"] == 3e-3
    assert stored["config"]["environment.cpu"] == known["environment"]["cpu"]
    assert stored["config"]["fingerprint.data"] == known["data"]["manifest_fingerprint"]
    assert stored["config"]["fingerprint.recipe"] == known["recipe_fingerprint"]
    assert any(str(run.trackers / "wandb") in note and stored["id"] in note for note in notes)


def test_nothing_but_what_was_logged_is_kept_and_no_process(tracked):
    run, _ = tracked
    names = {path.name for path in (run.trackers / "wandb").rglob("*") if path.is_file()}
    assert names & {"requirements.txt", "wandb-metadata.json", "output.log", "diff.patch"} == set()
    assert list_children() == []


def test_a_dead_service_is_noted_once_and_training_goes_on(few_images, tmp_path):
    killed = []

    def kill_service(row) -> None:
        if row["epoch"] == 1:
            held = [item for item in gc.get_objects() if type(item) is subprocess.Popen]
            services = [item for item in held if "wandb-core" in str(item.args) and item.poll() is None]
            assert len(services) == 1, f"children: {list_children()}, held: {[item.args for item in held]}"
            os.kill(services[0].pid, signal.SIGKILL)
            # wandb never waits for a service that died, and Python warns of such a process at its own end.
            services[0].wait()
            killed.append(services[0].pid)

    watch = Following(on_epoch=kill_service)
    run = train(
        build_recipe("wandb", train__epochs=3), data=few_images, output=tmp_path, device="cpu", watch=watch
    )
    assert len(killed) == 1
    assert len(run.read_metrics()) == 3
    (warning,) = [note for note in watch.notes if "WARNING" in note]
    assert "Weights & Biases has failed (Connection" in warning
    assert "epoch 2 and those after it are not there" in warning
    assert "Training goes on" in warning
    assert "step" not in run.read_run_json()["trackers"]["wandb"]
    assert list_children() == []
    # The finished run, resumed, sends what is missing.
    train(None, resume=run.path, device="cpu", output=tmp_path)
    files = read_wandb(run)
    assert merge_histories(files[-1:]) == read_expected(run)
    assert len({file["id"] for file in files if file["id"]}) == 1


def test_nobody_logged_in_is_an_error_before_training(few_images, tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"nobody is logged in(.|\n)*track\.offline=true"):
        train(build_recipe("wandb", track__offline=False), data=few_images, output=tmp_path, device="cpu")
    assert not list(tmp_path.rglob("metrics.jsonl"))
    assert list_children() == []


def test_praxiscope_offline_and_wandb_mode_are_offline(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("PRAXISCOPE_OFFLINE", "1")
    recipe = build_recipe("wandb", track__offline=False, train__epochs=1)
    run = train(recipe, data=few_images, output=tmp_path, device="cpu")
    monkeypatch.delenv("PRAXISCOPE_OFFLINE")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(recipe, resume=run.path, output=tmp_path, device="cpu", epochs=2)
    assert [step for file in read_wandb(run) for step, _ in file["history"]] == [2, 4]


def test_wandb_mode_disabled_is_refused(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(
        EnvironmentProblem, match=r"WANDB_MODE is 'disabled', but track\.trackers names 'wandb'"
    ):
        adapter.check_wandb(offline=True)
