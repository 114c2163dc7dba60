"""``--resume --epochs N`` on a run folder: what may change, what is written down, what its curves and logs show."""

from __future__ import annotations

import csv
import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from training_parts import Acting, build_recipe, digest, stopping_at
from typer.testing import CliRunner

import praxiscope as px
from praxiscope.cli.arguments import normalize_arguments
from praxiscope.cli.main import _load_commands, app
from praxiscope.errors import Preempted, UsageError
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.reporting.charts import build_curves
from praxiscope.reporting.figures import plot_curves
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Progress


def plan(epochs: int, **changes: Any) -> px.Recipe:
    return build_recipe({"train.epochs": epochs, "train.min_lr": 1e-5, **changes})


class Killed(Exception):
    """Stands for a kill -9 of the process."""


@pytest.fixture(scope="module")
def finished(noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one that has trained its two epochs; tests copy it."""
    root = tmp_path_factory.mktemp("finished")
    px.train(plan(2), data=noise_folder, output=root)
    return root


@pytest.fixture(scope="module")
def extended(finished: Path, noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A copy of it, continued to four epochs; tests only read it."""
    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("extended") / "runs"))
    wait_for_another_second()
    return px.train(plan(4), data=noise_folder, output=root, resume=True)


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def wait_for_another_second() -> None:
    """TensorBoard reads event files in the order of their names, which begin with whole seconds."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.02)


def read_events(run: RunDir) -> dict[str, list[tuple[int, float]]]:
    """Read a run's event files as TensorBoard does: tag -> (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_finished_run_goes_on_in_its_folder(extended, finished, noise_folder):
    assert len(list(extended.path.parent.iterdir())) == 1
    assert extended.read_status()["state"] == "done"
    assert extended.read_status()["epoch"] == 4
    stored = extended.read_run_json()
    (extension,) = stored["extensions"]
    before = px.find_run("tiny", root=finished).read_metrics()
    assert extension.pop("time") >= stored["created"][:19]
    assert extension == {
        "from_epochs": 2, "to_epochs": 4, "at_epoch": 2, "at_step": 6, "lr_before": before[-1]["lr"],
        "rule": "rejoin",
    }  # fmt: skip
    assert "changed on resume: train.epochs: 2 -> 4" in stored["notes"]
    assert load_recipe(extended.recipe).train.epochs == 4
    assert len(stored["time"]["sessions"]) == 2
    log = extended.train_log.read_text(encoding="utf-8")
    assert "Planned for 2 epochs, continued to 4 from step 6; the learning rate was" in log
    assert "epoch 2/2" in log
    assert "epoch 3/4" in log
    assert "epoch 4 of 4" in extended.latest_results.read_text(encoding="utf-8")
    assert all(check.passed for check in px.verify(extended, data=noise_folder))


def test_logs_go_on_without_a_gap_or_a_repeat(extended, finished):
    rows = extended.read_metrics()
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6), (3, 9), (4, 12)]
    assert rows[:2] == px.find_run("tiny", root=finished).read_metrics()
    with extended.results.open(encoding="utf-8", newline="") as table:
        assert [(row["epoch"], row["step"]) for row in csv.DictReader(table)] == [
            (str(row["epoch"]), str(row["step"])) for row in rows
        ]
    events = read_events(extended)
    assert {"lr", "train/loss", "train/top1", "val/loss", "val/top1", "val/macro_f1"} <= events.keys()
    for tag, points in events.items():
        assert [step for step, _ in points] == [3, 6, 9, 12], tag
        assert [value for _, value in points] == pytest.approx([row[tag] for row in rows]), tag


def test_a_killed_extension_leaves_no_point_twice(runs, noise_folder, extended, monkeypatch):
    from praxiscope.runs.checkpoint import write_checkpoint

    calls = iter(range(1, 9))

    def write(*arguments: Any, **settings: Any) -> None:
        if next(calls) == 2:  # the fourth epoch is in the logs, its checkpoint is not
            raise Killed
        write_checkpoint(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr("praxiscope.training.session.write_checkpoint", write)
        wait_for_another_second()
        with pytest.raises(Killed):
            px.train(plan(4), data=noise_folder, output=runs, resume=True)
    run = px.find_run("tiny", root=runs)
    assert run.read_metrics()[-1]["epoch"] == 4
    assert read_events(run)["lr"][-1][0] == 12
    wait_for_another_second()
    with pytest.raises(Killed):
        px.train(plan(2), data=noise_folder, output=runs, resume=True, watch=Acting(on_step=_kill))
    assert [step for step, _ in read_events(run)["lr"]] == [3, 6, 9]
    assert len(run.results.read_text(encoding="utf-8").splitlines()) == 1 + 3
    wait_for_another_second()
    # The recipe still says 2, as a built-in one would: that takes nothing back.
    px.train(plan(2), data=noise_folder, output=runs, resume=True)
    assert digest(run) == digest(extended)
    assert read_events(run)["val/loss"] == read_events(extended)["val/loss"]
    assert len(run.read_run_json()["extensions"]) == 1


def _kill(_progress: Progress) -> None:
    raise Killed


@pytest.mark.parametrize("epochs", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_killed_before_the_first_checkpoint_and_resumed_either_way(epochs, runs, noise_folder, extended):
    """With the recipe as it is on disk and with ``--epochs`` again."""
    with pytest.raises(Killed):
        px.train(plan(2), data=noise_folder, epochs=4, output=runs, resume=True, watch=Acting(on_step=_kill))
    run = px.find_run("tiny", root=runs)
    first = run.read_run_json()["extensions"]
    watch = Acting()
    px.train(plan(epochs), data=noise_folder, output=runs, resume=True, watch=watch)
    assert digest(run) == digest(extended)
    assert run.read_run_json()["extensions"] == first, "the joint keeps the time when it was made"
    said = [note for note in watch.notes if "The recipe says 2 epochs" in note]
    assert len(said) == (1 if epochs == 2 else 0)


def test_extended_twice_and_progress_counts_to_the_new_end(runs, noise_folder):
    seen: list[Progress] = []
    px.train(plan(2), data=noise_folder, epochs=3, output=runs, resume=True)
    run = px.find_run("tiny", root=runs)
    px.train(resume=run.path, epochs=5, watch=Acting(on_step=seen.append))
    assert [(p.epoch, p.epochs) for p in seen[::3]] == [(4, 5), (5, 5)]
    assert seen[0].eta_s is None
    assert seen[1].eta_s == pytest.approx((2 * 36 - 24) / seen[1].images_per_s)
    joints = [(e["from_epochs"], e["to_epochs"], e["at_step"]) for e in run.read_run_json()["extensions"]]
    assert joints == [(2, 3, 6), (3, 5, 9)]
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 3, 4, 5]
    rates = [progress.lr for progress in seen]
    before = run.read_metrics()[2]["lr"]
    assert max(abs(b - a) for a, b in pairwise([before, *rates])) <= 3e-3 / 3, "a warm-up step's, at most"


def test_best_is_kept_over_the_joint_where_it_is_never_beaten(runs, noise_folder):
    run = px.find_run("tiny", root=runs)
    # At a rate of next to nothing behind the joint, no epoch is better than the best before it.
    before = run.read_run_json()["best"]
    px.train(
        plan(2, **{"train.lr": 1e-12, "train.min_lr": 0.0, "train.extend": "stretch"}), data=noise_folder, epochs=4,
        output=runs, resume=True, allow_changes=True,
    )  # fmt: skip
    after = run.read_run_json()["best"]
    values = {row["epoch"]: row["val/top1"] for row in run.read_metrics()}
    assert after["value"] == max(values.values())
    assert after["epoch"] == min(epoch for epoch, value in values.items() if value == after["value"])
    assert after["value"] >= before["value"]


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("epochs", "allow", "words"),
    [
        (1, False, "has trained 2 of 4 epochs; it can't end after 1. Ask for --epochs 4"),
        (1, True, "has trained 2 of 4 epochs; it can't end after 1. Ask for --epochs 4"),
        (3, False, "is planned for 4 epochs, 2 of them begun; 3 were asked for. Add --epochs 4"),
        (3, False, "or --allow-changes to end after epoch 3"),
    ],
)
def test_fewer_epochs_are_refused_by_name(epochs, allow, words, noise_folder, tmp_path):
    with pytest.raises(Preempted):
        px.train(plan(4), data=noise_folder, output=tmp_path, watch=stopping_at(6))
    run = px.find_run("tiny", root=tmp_path)
    before = run.run_json.read_bytes(), run.recipe.read_bytes(), digest(run)
    with pytest.raises(UsageError) as caught:
        px.train(plan(epochs), data=noise_folder, output=tmp_path, resume=True, allow_changes=allow)
    assert words in str(caught.value)
    assert str(run.path) in str(caught.value)
    assert (run.run_json.read_bytes(), run.recipe.read_bytes(), digest(run)) == before


def test_a_run_that_was_stopped_is_planned_anew_before_its_end(noise_folder, tmp_path):
    with pytest.raises(Preempted):
        px.train(plan(4), data=noise_folder, output=tmp_path, watch=stopping_at(4))
    with pytest.raises(
        UsageError, match="has trained 1 of 4 epochs and begun the next; it can't end after 1"
    ):
        px.train(plan(1), data=noise_folder, output=tmp_path, resume=True, allow_changes=True)
    with pytest.raises(Preempted):
        px.train(plan(5), data=noise_folder, output=tmp_path, resume=True, watch=stopping_at(5))
    run = px.train(plan(3), data=noise_folder, output=tmp_path, resume=True, allow_changes=True)
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 3]
    joints = [
        (each["to_epochs"], each["at_epoch"], each["at_step"]) for each in run.read_run_json()["extensions"]
    ]
    assert joints == [(5, 1, 4), (3, 1, 5)]
    assert run.read_status()["state"] == "done"


def test_what_an_extended_run_was_planned_for_is_refused_where_it_is_asked_for(extended, noise_folder):
    with pytest.raises(UsageError, match=r"has trained 4 of 4 epochs; it can't end after 2"):
        px.train(resume=extended.path, data=noise_folder, epochs=2)


def test_other_changes_are_refused_as_ever(runs, noise_folder):
    with pytest.raises(UsageError, match=r"(?s)train.lr: 0.003 -> 0.01.*--allow-changes") as caught:
        px.train(plan(4, **{"train.lr": 0.01}), data=noise_folder, output=runs, resume=True)
    assert "train.epochs" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.head": "mlp"}, r"can't go on with\n  - model.head: linear -> mlp"),
        ({"train.weight_decay": 0.0}, "of other parameter groups"),
    ],
)
def test_a_resume_that_does_not_fit_leaves_the_run_as_it_was(changes, words, runs, noise_folder):
    (folder,) = (path.parent for path in runs.glob("*/*/recipe.yaml"))
    before = {name: (folder / name).read_bytes() for name in ("recipe.yaml", "run.json")}
    with pytest.raises(UsageError, match=words):
        px.train(plan(4, **changes), data=noise_folder, output=runs, resume=True, allow_changes=True)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_checkpoint_without_a_plan_is_finished_but_not_extended(runs, noise_folder, monkeypatch):
    from praxiscope.runs.checkpoint import latest_checkpoint

    def read_old(*arguments: Any, **settings: Any) -> Any:
        checkpoint, rejected = latest_checkpoint(*arguments, **settings)
        assert checkpoint is not None
        for key in ("planned_epochs", "joints", "lr"):
            del checkpoint.state["train"][key]
        return checkpoint, rejected

    monkeypatch.setattr("praxiscope.workflows.resume.latest_checkpoint", read_old)
    monkeypatch.setattr("praxiscope.training.session.latest_checkpoint", read_old)
    with pytest.raises(UsageError, match=r"can be finished \(--epochs 2\), but not continued to 4 epochs"):
        px.train(plan(4), data=noise_folder, output=runs, resume=True)
    assert px.train(plan(2), data=noise_folder, output=runs, resume=True).read_status()["state"] == "done"


def test_epochs_of_a_new_run_and_a_number_that_is_none(noise_folder, tmp_path):
    with pytest.raises(UsageError, match=r"train\.epochs is 0"):
        px.train(plan(2), data=noise_folder, epochs=0, output=tmp_path)
    run = px.train(plan(2), data=noise_folder, epochs=1, output=tmp_path)
    assert len(run.read_metrics()) == 1
    assert load_recipe(run.recipe).train.epochs == 1


# ------------------------------------------------------------------------------ the command


def test_the_command_extends_and_its_recipe_file_may_stay_as_it_is(noise_folder, tmp_path):
    _load_commands()
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(dump_recipe(plan(1)), encoding="utf-8")

    def call(*words: str) -> Any:
        line = ["train", str(recipe), "--data", str(noise_folder), "-o", str(tmp_path / "runs"), *words]
        return CliRunner().invoke(app, normalize_arguments(line))

    assert call().exit_code == 0
    first = call("--resume", "--epochs", "2")
    assert first.exit_code == 0, first.output
    run = px.find_run("tiny", root=tmp_path / "runs")
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2]
    assert call("--resume").exit_code == 0, "the file says 1; the extension stands"
    refused = call("--resume", "--epochs", "1")
    assert isinstance(refused.exception, UsageError)
    assert "it can't end after 1" in str(refused.exception)
    assert call("--resume", "--set", "train.epochs=3").exit_code == 0
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 3]


# ------------------------------------------------------------------------------ the curves


def test_curves_mark_the_joint(extended, finished):
    extensions = extended.read_run_json()["extensions"]
    rows = extended.read_metrics()
    figure = plot_curves(rows, extensions=extensions)
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["continued to 4 epochs"]
        marked = [line for line in axes.lines if list(line.get_xdata()) == [2, 2]]
        assert len(marked) == 1
    assert not any(axes.texts for axes in plot_curves(rows).axes)
    with (
        Image.open(extended.curves) as after,
        Image.open(px.find_run("tiny", root=finished).curves) as before,
    ):
        assert after.tobytes() != before.tobytes()
    charts = build_curves(rows, best_epoch=None, extensions=extensions)
    assert len(charts) == 3
    for chart in charts:
        (joint,) = chart.joints
        assert joint.label == "continued to 4 epochs"
        assert joint.at == chart.lines[0].dots[1].x, "behind the second epoch"
        assert "Continued to 4 epochs." in chart.summary
    assert [chart.joints for chart in build_curves(rows, best_epoch=1)] == [(), (), ()]


def test_a_joint_outside_the_epochs_that_are_drawn_stays_within_the_chart():
    rows = [{"epoch": epoch, "lr": 0.1, "train/loss": 1.0} for epoch in (1, 2)]
    extension = {
        "from_epochs": 8,
        "to_epochs": 4,
        "at_epoch": 0,
        "at_step": 1,
        "lr_before": 0.1,
        "rule": "hold",
    }
    for chart in build_curves(rows, best_epoch=None, extensions=[extension]):
        assert chart.joints[0].at == chart.lines[0].dots[0].x
        assert chart.joints[0].label == "shortened to 4 epochs"


def test_the_report_shows_the_joint_in_each_curve(extended):
    page = px.report(extended).read_text(encoding="utf-8")
    assert page.count('class="joint"') == 3
    assert page.count("continued to 4 epochs</text>") == 3


def test_a_session_writes_down_the_hardware_that_it_ran_on(extended):
    lines = [
        line for line in extended.train_log.read_text(encoding="utf-8").splitlines() if "Hardware: " in line
    ]
    environment = extended.read_run_json()["environment"]
    assert len(lines) == 2, "one for each session: the second may run elsewhere"
    for part in (
        environment["cpu"],
        f"of {environment['cores_total']} cores",
        f"torch {environment['torch']}",
    ):
        assert part in lines[1]
