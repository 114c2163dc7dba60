"""The Python API: a run from data to report, files that fail, changes under a resume, verification."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from training_parts import Acting, build_recipe, digest, read_latest, read_status, stopping_at

import praxiscope as px
from praxiscope.cli.main import main
from praxiscope.data.loader import SampleFailed
from praxiscope.data.manifest import read_manifest, write_manifest
from praxiscope.errors import DataError, Diverged, IntegrityError, Preempted, UsageError
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.models import runtime as runtime_module
from praxiscope.models.state import compute_weights_sha256
from praxiscope.recipe.load import dump_recipe
from praxiscope.runs.checkpoint import best_checkpoint
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Progress

# ------------------------------------------------------------------------------ from data to report


@pytest.fixture(scope="module")
def finished(noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with averaged weights, evaluated on val and test, reported."""
    output = tmp_path_factory.mktemp("runs")
    recipe = build_recipe({"train.epochs": 3, "train.ema_decay": 0.9, "train.checkpoint_every_epochs": 1})
    run = px.train(recipe, data=noise_folder, output=output)
    px.evaluate(run, split="val")
    px.evaluate(run)
    px.report(run)
    return run


def test_the_documented_names_stay_functions_whatever_is_imported(finished):
    """A subpackage of the same name would take the function's place once it is imported."""
    for name in (
        "training.loop",
        "workflows.train",
        "workflows.evaluate",
        "workflows.report",
        "workflows.verify",
    ):
        importlib.import_module(f"praxiscope.{name}")
    for name in ("train", "evaluate", "report", "verify", "load_recipe", "find_run", "check_data"):
        assert callable(getattr(px, name)), name
        assert getattr(px, name).__name__ == name


def test_a_run_holds_what_the_documents_promise(finished):
    assert finished.report.stat().st_size > 10_000
    assert finished.read_status()["state"] == "done"
    stored = finished.read_run_json()
    assert stored["data"]["num_train"] == 36
    assert stored["quarantined"] == stored["notes"] == []
    rows = finished.read_metrics()
    for split in ("train", "val"):
        for figure in (
            "loss",
            "top1",
            "top5",
            "macro_f1",
            "weighted_f1",
            "weighted_precision",
            "macro_recall",
        ):
            assert all(row[f"{split}/{figure}"] >= 0 for row in rows)
    assert "val/balanced_acc" in rows[0]
    header, *lines = finished.results.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert header.split(",")[:2] == ["epoch", "step"]
    for path in (finished.curves, finished.train_log, finished.latest_results, finished.manifest):
        assert path.stat().st_size > 0
    assert list(finished.tensorboard.glob("events.*"))


@pytest.mark.parametrize("ema", [True, False])
def test_validation_in_training_is_stand_alone_evaluation(ema, finished, noise_folder, tmp_path):
    """C5: the same code over the same weights, so the same figures."""
    run = finished
    if not ema:
        recipe = build_recipe({"train.monitor": "val/loss", "evaluate.batch_size": 5})
        run = px.train(recipe, data=noise_folder, output=tmp_path)
        px.evaluate(run, split="val")
    row = run.read_metrics()[run.read_run_json()["best"]["epoch"] - 1]
    metrics = json.loads((run.evaluations("val")[-1] / "metrics.json").read_text(encoding="utf-8"))
    assert row["val/loss"] == pytest.approx(metrics["all"]["nll"]["value"], abs=1e-6)
    names = ("top1", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "weighted_precision",
             "weighted_recall", "balanced_acc", "ece")  # fmt: skip
    for name in names:
        assert row[f"val/{name}"] == pytest.approx(metrics["all"][name]["value"], abs=1e-6), name


def test_averaged_weights_are_what_is_evaluated(finished):
    """A8."""
    checkpoint, _ = best_checkpoint(finished.checkpoints)
    assert checkpoint is not None
    metrics = json.loads((finished.evaluations("test")[-1] / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["weights_sha256"] == compute_weights_sha256(checkpoint.groups["ema"])
    assert metrics["weights_sha256"] != compute_weights_sha256(checkpoint.groups["model"])


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished, noise_folder, tmp_path):
    run = RunDir.open(Path(shutil.copytree(finished.path, tmp_path / "run")))
    before = digest(run)
    px.train(resume=run.path)
    assert digest(run) == before
    assert read_status(run)["state"] == "done"


# ------------------------------------------------------------------------------ verification


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edit_metrics(run: RunDir) -> None:
    path = run.evaluations("test")[-1] / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["all"]["top1"]["value"] += 0.01
    path.write_text(json.dumps(metrics), encoding="utf-8")


def edit_predictions(run: RunDir) -> None:
    """Make one wrong prediction a right one, as a spreadsheet would: the metadata stay."""
    path = run.predictions("test")
    table = pq.read_table(path)
    logits = table.column("logits_action").to_pylist()
    logits[0] = logits[0][::-1]
    column = pa.array(logits, type=table.schema.field("logits_action").type)
    place = table.column_names.index("logits_action")
    pq.write_table(table.set_column(place, table.schema.field("logits_action"), column), path)


def edit_manifest(run: RunDir) -> None:
    """Give a sample another label; the file is sound in itself."""
    manifest = read_manifest(run.manifest)
    labels = manifest.table.column("action").to_pylist()
    labels[0] = "wave"
    place = manifest.table.column_names.index("action")
    table = manifest.table.set_column(place, "action", pa.array(labels))
    write_manifest(replace(manifest, table=table), run.manifest)


def edit_recipe(run: RunDir) -> None:
    text = run.recipe.read_text(encoding="utf-8")
    assert "epochs: 3\n" in text
    run.recipe.write_text(text.replace("epochs: 3\n", "epochs: 30\n"), encoding="utf-8")


DAMAGES: dict[str, tuple[Callable[[RunDir, Path], None], str]] = {
    "image": (lambda _run, data: flip_byte(data / "train" / "run" / "004.jpg"), "train/run/004.jpg"),
    "missing image": (lambda _run, data: (data / "val" / "run" / "001.jpg").unlink(), "val/run/001.jpg"),
    "checkpoint": (
        lambda run, _data: flip_byte(read_latest(run).path / "ema.safetensors"), "ema.safetensors",
    ),
    "checkpoint manifest": (lambda run, _data: flip_byte(read_latest(run).path / "manifest.json"), "manifest.json"),
    "predictions": (lambda run, _data: edit_predictions(run), "predictions test"),
    "metrics": (lambda run, _data: edit_metrics(run), "does not follow from the predictions: all"),
    "recipe": (lambda run, _data: edit_recipe(run), "recipe.yaml"),
    "manifest": (lambda run, _data: edit_manifest(run), "manifest: the manifest has fingerprint"),
}  # fmt: skip


@pytest.mark.parametrize("damage", [None, *DAMAGES])
def test_verify_finds_each_damage(damage, finished, own_folder, tmp_path):
    run = RunDir.open(Path(shutil.copytree(finished.path, tmp_path / "run")))
    if damage is None:
        checks = px.verify(run, data=own_folder)
        assert all(check.passed for check in checks), checks
        assert {"recipe", "manifest", "data files"} <= {check.name for check in checks}
        return
    harm, words = DAMAGES[damage]
    harm(run, own_folder)
    failed = [check for check in px.verify(run, data=own_folder) if not check.passed]
    assert failed
    assert any(words in f"{check.name}: {'; '.join(check.problems)}" for check in failed), failed


def test_a_flipped_bit_in_predictions_is_named_or_changes_no_value(finished, tmp_path):
    """Parquet holds bytes that nobody reads, such as statistics: 60 flips all over the file."""
    original, path = finished.predictions("test"), tmp_path / "test.parquet"
    sound, content = read_predictions(original), original.read_bytes()
    named = 0
    for number in range(60):
        damaged = bytearray(content)
        damaged[number * len(content) // 60] ^= 1 << number % 8
        path.write_bytes(bytes(damaged))
        try:
            assert read_predictions(path).table.equals(sound.table)
        except (IntegrityError, DataError):
            named += 1
    assert named > 20


# ------------------------------------------------------------------------------ files that fail


@pytest.fixture
def hanging(own_folder: Path) -> Iterator[Callable[[], None]]:
    """Make an image's reader hang, as on a network disk that stalls; the image comes back in the end."""
    path = own_folder / "train" / "wave" / "007.jpg"
    content = path.read_bytes()

    def hang() -> None:
        path.unlink()
        os.mkfifo(path)

    yield hang
    heal(path, content)


def heal(path: Path, content: bytes) -> None:
    if path.is_fifo():
        # A reader that still waits gets the end of a file, and its thread can end.
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        path.unlink()
    path.write_bytes(content)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_hung_file_is_named_quarantined_and_left_out_from_then_on(hanging, own_folder, tmp_path):
    name = "train/wave/007.jpg"
    content = (own_folder / name).read_bytes()
    recipe = build_recipe({"loader.workers": 2, "loader.timeout_s": 3, "train.epochs": 2})
    with pytest.raises(SampleFailed, match=name) as caught:
        px.train(
            recipe, data=own_folder, output=tmp_path / "runs", watch=Acting(on_epoch=lambda _row: hanging())
        )
    assert caught.value.exit_code == 4
    run = px.find_run("tiny@latest", root=tmp_path / "runs")
    assert run.read_run_json()["quarantined"] == [name]
    assert read_status(run)["state"] == "failed"
    assert name in read_status(run)["message"]

    heal(own_folder / name, content)
    watch = Acting()
    px.train(recipe, data=own_folder, output=tmp_path / "runs", resume=True, watch=watch)
    assert read_status(run)["state"] == "done"
    assert run.read_run_json()["quarantined"] == [name]
    assert any(name in note and "could not be read" in note for note in watch.notes)
    assert name in run.train_log.read_text(encoding="utf-8")
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2]


@pytest.mark.parametrize("fate", ["deleted", "corrupted"])
def test_a_file_that_breaks_during_training_is_named(fate, own_folder, tmp_path, capsys):
    """Through the command line's main, for its exit code; the resume says what has changed."""
    path = own_folder / "val" / "run" / "002.jpg"
    content = path.read_bytes()

    def break_file(_row: object) -> None:
        if fate == "deleted":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 3])

    recipe, output = build_recipe(), tmp_path / "runs"
    with pytest.raises(SampleFailed, match=r"002\.jpg"):
        px.train(recipe, data=own_folder, output=output, watch=Acting(on_epoch=break_file))
    run = px.find_run("tiny@latest", root=output)
    assert run.read_run_json()["quarantined"] == ["val/run/002.jpg"]
    with pytest.raises(SystemExit) as end:
        main(["train", "--resume", str(run.path)])
    assert end.value.code == 2
    assert "1 samples: gone (val/run/002.jpg)" in capsys.readouterr().err
    path.write_bytes(content)
    assert read_status(px.train(resume=run.path))["state"] == "done"


def test_divergence_ends_the_command_with_5(noise_folder, tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(
        dump_recipe(build_recipe({"train.lr": 1e20, "train.opt": "sgd", "train.schedule": "constant"})),
        encoding="utf-8",
    )
    with pytest.raises(SystemExit) as end:
        main(["train", str(file), "--data", str(noise_folder), "-o", str(tmp_path / "runs")])
    assert end.value.code == Diverged.exit_code == 5
    assert "learning rate 1e+20" in capsys.readouterr().err
    run = px.find_run("tiny@latest", root=tmp_path / "runs")
    assert read_status(run)["state"] == "diverged"
    assert run.read_run_json()["time"]["sessions"][-1]["state"] == "diverged"


def test_a_second_ctrl_c_aborts_at_once_and_leaves_a_run_that_goes_on(noise_folder, tmp_path):
    """B5: the first one asks to save after the step in progress, the second doesn't wait for that."""

    def press_twice(progress: Progress) -> None:
        if progress.step == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    output = tmp_path / "runs"
    recipe = build_recipe()
    whole = px.train(recipe, data=noise_folder, output=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        px.train(recipe, data=noise_folder, output=output, watch=Acting(press_twice))
    run = px.find_run("tiny@latest", root=output)
    assert read_status(run)["state"] == "interrupted"
    assert read_latest(run).step == 3, "of the last epoch's end: nothing was saved at the stop"
    px.train(recipe, data=noise_folder, output=output, resume=True)
    assert digest(run) == digest(whole)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    "changes", [{"train.opt": "adamm"}, {"model.name": "resnet19"},
                {"model.name": "test_vit", "evaluate.img_size": 64}]
)  # fmt: skip
def test_a_recipe_that_can_not_be_trained_leaves_no_run_behind(changes, noise_folder, tmp_path):
    with pytest.raises(UsageError):
        px.train(build_recipe(changes), data=noise_folder, output=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------------------ changes under a resume


@pytest.fixture(scope="module")
def stopped(noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and a run in ``runs`` that was stopped in its second epoch."""
    root = tmp_path_factory.mktemp("stopped")
    shutil.copytree(noise_folder, root / "data")
    with pytest.raises(Preempted):
        px.train(build_recipe(), data=root / "data", output=root / "runs", watch=stopping_at(4))
    return root


@pytest.fixture
def own_stopped(stopped: Path, tmp_path: Path) -> tuple[Path, RunDir]:
    """A copy of it that a test may change: the data folder and the run."""
    root = Path(shutil.copytree(stopped, tmp_path / "copy"))
    return root / "data", px.find_run("tiny@latest", root=root / "runs")


def add_file(data: Path) -> None:
    Image.new("RGB", (40, 40), (10, 200, 90)).save(data / "train" / "run" / "new.jpg")


def change_bytes(data: Path) -> None:
    Image.new("RGB", (40, 40), (10, 200, 90)).save(data / "train" / "run" / "003.jpg")


DATA_MUTATIONS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "added": (add_file, ("1 samples: added (train/run/new.jpg)",)),
    "removed": (lambda data: (data / "val/run/003.jpg").unlink(), ("1 samples: gone (val/run/003.jpg)",)),
    "other bytes": (change_bytes, ("1 samples: another content (train/run/003.jpg)",)),
    "other class": (
        lambda data: (data / "train/run/003.jpg").rename(data / "train/clap/moved.jpg"),
        ("gone (train/run/003.jpg)", "added (train/clap/moved.jpg)"),
    ),
    "other split": (
        lambda data: (data / "train/run/003.jpg").rename(data / "test/run/moved.jpg"),
        ("gone (train/run/003.jpg)", "added (test/run/moved.jpg)"),
    ),
}
RECIPE_MUTATIONS: dict[str, str] = {
    "train.lr": "train.lr: 0.003 -> 0.01",
    "train.batch_size": "train.batch_size: 12 -> 9",
    "seed": "seed: 3 -> 4",
    "model.name": "model.name: test_resnet -> test_efficientnet",
    "train.opt": "train.opt: adamw -> sgd",
    "augment.hflip": "augment.hflip: 0.5 -> 0.1",
    "train.schedule": "train.schedule: cosine -> constant",
    "evaluate.img_size": "evaluate.img_size: None -> 48",
}


def write_value(text: str) -> Any:
    word = text.rpartition(" -> ")[2]
    try:
        return json.loads(word)
    except ValueError:
        return word


@pytest.mark.parametrize("mutation", [*DATA_MUTATIONS, *RECIPE_MUTATIONS])
def test_a_resume_of_something_else_is_refused_by_name(mutation, own_stopped):
    """A9."""
    data, run = own_stopped
    overrides = {}
    if mutation in DATA_MUTATIONS:
        change, words = DATA_MUTATIONS[mutation]
        change(data)
    else:
        words = (RECIPE_MUTATIONS[mutation],)
        overrides = {mutation: write_value(words[0])}
    before = digest(run)
    with pytest.raises(UsageError, match="would not be the same run any more") as caught:
        px.train(build_recipe(overrides), data=data, resume=run.path)
    assert all(each in str(caught.value) for each in words), caught.value
    assert "--allow-changes" in str(caught.value)
    assert digest(run) == before
    assert run.recipe.read_text(encoding="utf-8") == dump_recipe(build_recipe())
    assert run.read_run_json()["notes"] == []


def test_a_bare_resume_on_changed_data_names_the_change(own_stopped):
    data, run = own_stopped
    add_file(data)
    with pytest.raises(UsageError, match=r"1 samples: added \(train/run/new\.jpg\)"):
        px.train(build_recipe(), data=data, output=run.path.parents[1], resume=True)


def test_speed_and_saving_may_change(own_stopped, noise_folder, tmp_path):
    data, run = own_stopped
    overrides = {
        "loader.workers": 2, "loader.prefetch": 1, "train.checkpoint_every_minutes": 0.001,
        "train.checkpoint_every_epochs": 1, "evaluate.resamples": 200,
    }  # fmt: skip
    px.train(build_recipe(overrides), data=data, resume=run.path)
    whole = px.train(build_recipe(), data=noise_folder, output=tmp_path / "whole")
    assert digest(run)["tensors"] == digest(whole)["tensors"]
    assert digest(run)["rows"] == digest(whole)["rows"]
    assert run.read_run_json()["notes"] == []
    assert [check for check in px.verify(run) if not check.passed and check.name != "data files"] == []


def test_allowed_changes_take_effect_and_are_noted(own_stopped):
    data, run = own_stopped
    add_file(data)
    recipe = build_recipe({"train.lr": 0.01, "train.epochs": 3})
    px.train(recipe, data=data, resume=run.path, allow_changes=True)
    stored = run.read_run_json()
    assert stored["notes"] == [
        "changed on resume: train.epochs: 2 -> 3",
        "changed on resume: train.lr: 0.003 -> 0.01",
        "changed on resume: data: 1 samples: added (train/run/new.jpg)",
    ]
    assert stored["data"]["num_train"] == 37
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 3]
    px.evaluate(run, data=data)
    assert [check for check in px.verify(run, data=data) if not check.passed] == []
    edit = run.recipe.read_text(encoding="utf-8").replace("lr: 0.01\n", "lr: 0.02\n")
    run.recipe.write_text(edit, encoding="utf-8")
    failed = [check.name for check in px.verify(run, data=data) if not check.passed]
    assert failed == ["recipe"], "a change that was noted must not hide one that wasn't"


@pytest.mark.parametrize("mutation", ["model.name", "train.opt", "a new class"])
def test_what_the_weights_do_not_fit_is_refused_even_then(mutation, own_stopped):
    data, run = own_stopped
    overrides = {}
    if mutation == "a new class":
        (data / "train" / "sit").mkdir()
        Image.new("RGB", (40, 40)).save(data / "train" / "sit" / "0.jpg")
    else:
        overrides = {mutation: write_value(RECIPE_MUTATIONS[mutation])}
    before = digest(run)
    with pytest.raises(UsageError, match=r"--allow-changes: what .* has learned can't go on with"):
        px.train(build_recipe(overrides), data=data, resume=run.path, allow_changes=True)
    assert digest(run) == before
    assert run.recipe.read_text(encoding="utf-8") == dump_recipe(build_recipe())


def test_a_run_that_was_killed_before_it_began_is_named(own_stopped):
    data, run = own_stopped
    created = {key: run.read_run_json()[key] for key in ("schema", "run_id", "recipe_name", "created")}
    run.write_run_json(created)
    for path in (run.recipe, run.manifest):
        path.unlink()
    for recipe in (build_recipe(), None):
        with pytest.raises(UsageError, match="was stopped before it began"):
            px.train(recipe, data=data, resume=run.path)
    with pytest.raises(UsageError, match=r"there is no run of 'tiny' in .*; start one without --resume"):
        px.train(build_recipe(), data=data, output=run.path.parents[1], resume=True)


@pytest.mark.parametrize(("gain", "precision"), [(0.5, "fp32"), (2.0, "bf16")])
def test_a_resumed_run_keeps_its_precision(gain, precision, noise_folder, tmp_path, monkeypatch):
    """What is measured can differ from day to day; a run's arithmetic must not."""
    recipe = build_recipe({"train.precision": "auto", "train.epochs": 1})
    monkeypatch.setattr(runtime_module, "measure_bf16_gain", lambda _family: gain)
    with pytest.raises(Preempted):
        px.train(recipe, data=noise_folder, output=tmp_path, watch=stopping_at(1))
    monkeypatch.setattr(runtime_module, "measure_bf16_gain", lambda _family: 1 / gain)
    watch = Acting()
    px.train(recipe, data=noise_folder, output=tmp_path, resume=True, watch=watch)
    assert any(f"cpu, {precision} (" in note for note in watch.notes)
