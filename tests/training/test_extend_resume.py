"""A run that is extended, and stopped anywhere around the joint, ends as one that was extended in one go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from training_parts import (
    Acting,
    build_recipe,
    digest,
    opened,
    read_data,
    read_latest,
    replace_job,
    train_session,
)

from praxiscope.data.manifest import Manifest
from praxiscope.errors import Preempted
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.rundir import RunDir
from praxiscope.training.loop import fit
from praxiscope.training.signals import StopFlag

JOINT = 6  # steps of the first two epochs: 36 images in batches of 12
WORKERS = (0, 1, 2)
SETTINGS: dict[str, Any] = {"train.ema_decay": 0.9, "train.min_lr": 1e-5, "train.warmup_epochs": 0.5}


class Killed(Exception):
    """Stands for a kill -9: nothing is saved."""


def plan(epochs: int, **changes: Any) -> Recipe:
    return build_recipe({**SETTINGS, "train.epochs": epochs, **changes})


@pytest.fixture(scope="module")
def manifest(noise_folder: Path) -> Manifest:
    return read_data(noise_folder, plan(2))


@pytest.fixture(scope="module")
def first_part(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run of two epochs."""
    run = RunDir.create(tmp_path_factory.mktemp("first"), "first")
    assert train_session(plan(2), manifest, run) is None
    return run


@pytest.fixture(scope="module")
def extended(first_part: RunDir, manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The same, continued to four epochs in one go."""
    run = copy(first_part, tmp_path_factory.mktemp("extended"))
    assert train_session(plan(4), manifest, run) is None
    return run


def copy(run: RunDir, folder: Path) -> RunDir:
    return RunDir.open(Path(shutil.copytree(run.path, folder / run.path.name)))


def kill_at(step: int, recipe: Recipe, manifest: Manifest, run: RunDir) -> None:
    def act(progress: Any) -> None:
        if progress.step == step:
            raise Killed

    with opened(recipe, manifest, run) as (job, state, _notes), pytest.raises(Killed):
        fit(job, state, stop=StopFlag(), watch=Acting(act))


def kill_before_saving(call: int, recipe: Recipe, manifest: Manifest, run: RunDir) -> None:
    """Kill between an epoch's row in the log and its checkpoint."""
    calls = iter(range(1, call + 1))

    def spoil(job):
        def save(*arguments: Any) -> None:
            if next(calls) == call:
                raise Killed
            job.save(*arguments)

        return replace_job(job, save=save)

    with opened(recipe, manifest, run, change=spoil) as (job, state, _notes), pytest.raises(Killed):
        fit(job, state, stop=StopFlag(), watch=Acting())


def test_the_extension_is_in_the_state(extended, first_part):
    state, before = read_latest(extended).state["train"], read_latest(first_part).state["train"]
    assert (before["joints"], before["planned_epochs"]) == ([], 2)
    assert state["planned_epochs"] == 4
    assert state["joints"] == [
        {"step": JOINT, "epoch": 2, "from_epochs": 2, "to_epochs": 4, "lr": before["lr"], "rule": "rejoin",
         "warmup_epochs": 1.0}
    ]  # fmt: skip
    rows = digest(extended)["rows"]
    assert rows[:2] == digest(first_part)["rows"]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6), (3, 9), (4, 12)]


def test_stopped_after_every_step_behind_the_joint_with_changing_workers(
    first_part, manifest, extended, tmp_path
):
    run = copy(first_part, tmp_path)
    for step in range(JOINT + 1, 12):
        assert isinstance(
            train_session(plan(4), manifest, run, stop_at=step, workers=WORKERS[step % 3]), Preempted
        )
    assert train_session(plan(4), manifest, run, workers=2) is None
    assert digest(run) == digest(extended)


@pytest.mark.parametrize(
    ("step", "workers"),
    [(7, 1)] + [pytest.param(s, w, marks=pytest.mark.soak) for s in range(7, 12) for w in WORKERS],
)
def test_killed_before_the_first_checkpoint_behind_the_joint(
    step, workers, first_part, manifest, extended, tmp_path
):
    run = copy(first_part, tmp_path)
    for _ in range(2):
        kill_at(step, plan(4), manifest, run)
    assert train_session(plan(4), manifest, run, workers=workers) is None
    assert digest(run) == digest(extended)


@pytest.mark.parametrize("call", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_killed_between_an_epochs_row_and_its_checkpoint(call, first_part, manifest, extended, tmp_path):
    run = copy(first_part, tmp_path)
    kill_before_saving(call, plan(4), manifest, run)
    assert len(run.read_metrics()) == 2 + call
    assert train_session(plan(4), manifest, run) is None
    assert digest(run) == digest(extended)


@pytest.mark.parametrize("joint", [5, 6, 7])
def test_the_joint_itself_around_the_boundary_of_epochs(joint, manifest, tmp_path):
    """A run of three epochs, stopped one step before, at and behind a boundary, then continued to four."""
    start, whole = RunDir.create(tmp_path, "start"), tmp_path / "whole"
    assert isinstance(train_session(plan(3), manifest, start, stop_at=joint), Preempted)
    run = copy(start, whole)
    assert train_session(plan(4), manifest, run) is None
    (made,) = read_latest(run).state["train"]["joints"]
    assert (made["step"], made["epoch"], made["from_epochs"], made["to_epochs"]) == (joint, joint // 3, 3, 4)
    pieces = copy(start, tmp_path / "pieces")
    kill_at(joint + 1, plan(4), manifest, pieces)
    train_session(plan(4), manifest, pieces, stop_at=joint + 1, workers=1)
    train_session(plan(4), manifest, pieces, stop_at=joint + 2, workers=2)
    assert train_session(plan(4), manifest, pieces) is None
    assert digest(pieces) == digest(run)


def test_the_rule_of_a_joint_stays_what_it_was(first_part, manifest, extended, tmp_path):
    run = copy(first_part, tmp_path)
    train_session(plan(4), manifest, run, stop_at=8)
    other = plan(4, **{"train.extend": "hold", "train.extend_warmup_epochs": 5})
    assert train_session(other, manifest, run) is None
    assert digest(run) == digest(extended)


def test_another_rule_is_another_run(first_part, manifest, extended, tmp_path):
    run = copy(first_part, tmp_path)
    assert train_session(plan(4, **{"train.extend": "hold"}), manifest, run) is None
    assert digest(run)["tensors"] != digest(extended)["tensors"]
    rates = [row["lr"] for row in run.read_metrics()]
    assert rates[1] == rates[2] == rates[3]


def test_a_damaged_checkpoint_moves_the_joint_back(first_part, manifest, tmp_path):
    run = copy(first_part, tmp_path)
    path = read_latest(run).path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with opened(plan(4), manifest, run) as (_job, state, notes):
        assert [(joint.step, joint.epoch) for joint in state.joints] == [(3, 1)]
        assert any("is passed over" in note for note in notes)
        assert any(
            "Planned for 2 epochs, continued to 4 from step 3; the learning rate was" in n for n in notes
        )


def test_scores_given(first_part, manifest, tmp_path):
    """Best, early stopping and plateau over the joint, with validation scores given."""

    def train(run: RunDir, recipe: Recipe, values: list[float]) -> dict[str, Any]:
        scores = iter(values)
        with opened(
            recipe,
            manifest,
            run,
            change=lambda job: replace_job(job, validate=lambda _m: {"val/top1": next(scores)}),
        ) as (job, state, _notes):
            fit(job, state, stop=StopFlag(), watch=Acting())
        return dict(read_latest(run).state["train"])

    run = RunDir.create(tmp_path, "best")
    assert train(run, plan(2), [0.6, 0.5])["best_epoch"] == 1
    state = train(run, plan(4), [0.4, 0.6])
    assert (state["best_epoch"], state["best_value"]) == (1, 0.6), "never beaten: a tie is no better"
    state = train(run, plan(5), [0.7])
    assert (state["best_epoch"], state["best_value"]) == (5, 0.7)

    run = RunDir.create(tmp_path, "early")
    patience = {"train.early_stopping_epochs": 2}
    state = train(run, plan(6, **patience), [0.6, 0.5, 0.5, 9.9])
    assert (state["stopped_early"], state["epoch"]) == (True, 3)
    state = train(run, plan(6, **patience), [9.9])
    assert (state["stopped_early"], state["epoch"]) == (True, 3), "the same plan: it stays ended"
    state = train(run, plan(9, **patience), [0.5, 0.5, 9.9])
    assert (state["stopped_early"], state["epoch"]) == (True, 5), "patience counts from the joint"
    assert state["joints"][0]["epoch"] == 3
    state = train(run, plan(10, **patience), [0.7, 0.5, 0.8, 0.5, 0.5])
    assert (state["stopped_early"], state["epoch"], state["best_epoch"]) == (True, 10, 8)
