"""The layout of "100 Sports": its table and its folders, extended training, and what a run leaves behind."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import praxiscope as px
from class_folders import write_class_folders
from praxiscope.errors import DataError
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import DataSection, Recipe
from praxiscope.runs.checkpoint_files import BEST, PERMANENT, read_manifests
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Progress, Silent

NAMES = ("air hockey", "archery", "shot put")
HEADER = ("filepaths", "labels", "data set")
COPIED = {f"test/shot put/00{n}.jpg": f"valid/shot put/00{n}.jpg" for n in range(4)}
EPOCHS, PEAK = 2, 3e-3


def write_table(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as table:
        csv.writer(table).writerows([HEADER, *rows])
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other are slow where several programs share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set of the same layout and with the same flaw: four test images are validation images."""
    root = write_class_folders(
        tmp_path_factory.mktemp("sports"), splits={"train": 6, "valid": 4, "test": 5}, names=NAMES
    )
    for copy, original in COPIED.items():
        (root / copy).write_bytes((root / original).read_bytes())
    files = sorted(path.relative_to(root) for path in root.rglob("*.jpg"))
    write_table(root / "sports.csv", [(file.as_posix(), file.parts[1], file.parts[0]) for file in files])
    return root


class Real:
    """The part of the real data set that lies beside the project: training images of ten of the 100 classes."""

    def __init__(self, shared: Path) -> None:
        self.root = shared / "sports100-partial"
        if not self.root.is_dir():
            pytest.skip(f"{self.root} is not there")

    def write_part(self, path: Path, *, of_each: int) -> Path:
        """Write a table of a few images of each class that can be trained."""
        with (self.root / "sports.csv").open(encoding="utf-8", newline="") as table:
            rows = [(row["filepaths"], row["labels"], row["data set"]) for row in csv.DictReader(table)]
        known = {label for _, label, split in rows if split == "train"}
        assert len(known) == 10
        kept: list[tuple[str, str, str]] = []
        for row in rows:
            before = sum(other[1:] == row[1:] for other in kept)
            if row[1] in known and before < of_each:
                kept.append(row)
        return write_table(path, kept)


@pytest.fixture
def real(shared_data: Path) -> Real:
    return Real(shared_data)


# ------------------------------------------------------------------------------ the data


def check_table_and_folders_agree(root: Path, counts: dict[str, int]) -> None:
    tables = {
        source: px.check_data(root, DataSection(source=source)).manifest for source in ("csv", "folder")
    }
    assert {name: manifest.source for name, manifest in tables.items()} == {"csv": "csv", "folder": "folder"}
    assert tables["csv"].table.equals(tables["folder"].table)
    assert tables["csv"].heads == tables["folder"].heads
    assert tables["csv"].fingerprint == tables["folder"].fingerprint
    splits = tables["csv"].table["split"].to_pylist()
    assert {split: splits.count(split) for split in set(splits)} == counts
    valid = [row["split"] for row in tables["csv"].table.to_pylist() if row["path"].startswith("valid/")]
    assert set(valid) == {"val"}


def list_copies(root: Path) -> list[str]:
    found = px.check_data(root).summary["findings"]
    (copies,) = (each for each in found if each["code"] == "D1.exact-across")
    assert copies["severity"] == "warning"
    assert copies["message"].startswith(f"{copies['count']} test samples: the same file as one of an earlier")
    return list(copies["examples"])


def test_the_table_and_the_folders_are_the_same_data(twin):
    check_table_and_folders_agree(twin, {"train": 18, "val": 12, "test": 15})


def test_the_copies_are_named(twin):
    assert list_copies(twin) == [f"{copy} = {original}" for copy, original in COPIED.items()]


@pytest.mark.shared
def test_the_real_table_and_the_real_folders_are_the_same_data(real):
    check_table_and_folders_agree(real.root, {"train": 391, "val": 500, "test": 500})


@pytest.mark.shared
def test_the_real_copies_are_named(real):
    assert list_copies(real.root) == [
        "test/shot put/1.jpg = valid/shot put/1.jpg",
        "test/shot put/2.jpg = valid/shot put/2.jpg",
        "test/shot put/3.jpg = valid/shot put/3.jpg",
        "test/shot put/5.jpg = valid/shot put/4.jpg",
    ]


# ------------------------------------------------------------------------------ extended


class Rates(Silent):
    """Remembers the rate of each step, and how far the display would say training is."""

    def __init__(self) -> None:
        self.lrs: list[float] = []
        self.places: set[str] = set()

    def step(self, progress: Progress) -> None:
        self.lrs.append(progress.lr)
        self.places.add(f"{progress.epoch} of {progress.epochs}")


def build_small(**changes: Any) -> Recipe:
    """The Sports recipe on a network and images that a test can afford."""
    small = {
        "model.name": "test_resnet", "model.pretrained": False, "model.img_size": 32, "loader.workers": 0,
        "train.epochs": EPOCHS, "train.batch_size": 6, "train.lr": PEAK, "train.precision": "fp32",
        "train.checkpoint_every_epochs": 1, "evaluate.resamples": 100,
    }  # fmt: skip
    return load_recipe("sports-vit-b16", {**small, **changes})


def wait_for_another_second() -> None:
    """TensorBoard reads event files in the order of their names, which begin with whole seconds."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.02)


def check_extension(root: Path, output: Path, recipe: Recipe, read: Callable[[Path], Any]) -> RunDir:
    """Train n epochs, continue to 2n, and read TensorBoard's files back."""
    watch = Rates()
    run = px.train(recipe, data=root, output=output, watch=watch)
    steps = len(watch.lrs) // EPOCHS
    best = run.read_run_json()["best"]
    wait_for_another_second()
    assert px.train(recipe, data=root, output=output, resume=True, epochs=2 * EPOCHS, watch=watch) == run
    assert watch.places == {"1 of 2", "2 of 2", "3 of 4", "4 of 4"}
    assert len(watch.lrs) == 2 * EPOCHS * steps
    assert max(abs(b - a) for a, b in pairwise(watch.lrs)) <= PEAK / steps, (
        "no step jumps more than a warm-up's"
    )
    points = read(run.tensorboard)
    assert {"lr", "train/loss", "train/top1", "val/loss", "val/top1", "val/macro_f1"} <= points.keys()
    for tag, found in points.items():
        assert [step for step, _ in found] == [steps * epoch for epoch in range(1, 2 * EPOCHS + 1)], tag
    assert [lr for _, lr in points["lr"]] == pytest.approx(watch.lrs[steps - 1 :: steps])
    values = [value for _, value in points["val/top1"]]
    after = run.read_run_json()["best"]
    assert after["value"] == pytest.approx(max(values))
    assert after["epoch"] == 1 + values.index(max(values))
    assert after["value"] >= best["value"]
    return run


@pytest.fixture(scope="module")
def read_points() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    return read


@pytest.fixture(scope="module")
def sports_run(twin: Path, tmp_path_factory: pytest.TempPathFactory, read_points: Any) -> RunDir:
    """A run on the twin, of two epochs and then of four."""
    return check_extension(twin, tmp_path_factory.mktemp("runs"), build_small(), read_points)


def test_a_run_on_the_twin_is_extended(sports_run):
    assert [row["epoch"] for row in sports_run.read_metrics()] == [1, 2, 3, 4]


@pytest.mark.shared
def test_a_run_on_the_real_data_is_extended(real, tmp_path, read_points):
    part = real.write_part(tmp_path / "part.csv", of_each=5)
    recipe = build_small(**{"data.csv": str(part), "train.batch_size": 10})
    run = check_extension(real.root, tmp_path / "runs", recipe, read_points)
    data = run.read_run_json()["data"]
    assert (data["source"], data["num_train"], data["num_val"], data["num_test"]) == ("csv", 50, 50, 50)


# ------------------------------------------------------------------------------ what a run leaves behind


def test_everything_that_a_run_should_leave_behind(sports_run, twin):
    """SPORT-3, item by item."""
    run = sports_run
    # checkpoints by epoch and best
    kept = read_manifests(run.checkpoints)[0]
    assert sorted(each.epoch for each in kept if PERMANENT in each.tags) == [1, 2, 3, 4]
    assert max(each.epoch for each in kept if BEST in each.tags) == run.read_run_json()["best"]["epoch"]
    # TensorBoard's files
    assert len(list(run.tensorboard.glob("events.out.tfevents.*"))) == 2
    # a text log with the hardware that it ran on
    log = run.train_log.read_text(encoding="utf-8")
    environment = run.read_run_json()["environment"]
    assert log.count(f"Hardware: {environment['cpu']}, ") == 2
    assert all(f"epoch {epoch}/" in log for epoch in (1, 2, 3, 4))
    # each evaluation in a folder of its own with its time in the name, holding the report
    first, second = (px.evaluate(run, split="test").folder for _ in range(2))
    assert first != second
    for folder in (first, second):
        assert folder.parent == run.path / "evaluations"
        assert re.fullmatch(r"\d{8}-\d{6}-test(-2)?", folder.name)
        report = (folder / "test_report.txt").read_text(encoding="utf-8")
        assert all(name in report for name in NAMES)
    assert abs(time.time() - first.stat().st_mtime) < 600
    metrics = px.evaluate(run, split="test").metrics
    assert (metrics["num_samples"], metrics["num_clean"]) == (15, 11), "the four copies are no clean samples"
    assert all(check.passed for check in px.verify(run, data=twin))


def test_from_a_notebook(twin, tmp_path):
    """SPORT-7: the same through Python, with a recipe that says how far, and with a number of epochs."""
    short = build_small(**{"train.epochs": 1})
    longer = build_small()
    run = px.train(short, data=twin, output=tmp_path)
    assert px.train(longer, data=twin, output=tmp_path, resume=True) == run
    assert px.train(resume=run.path, epochs=3) == run
    assert px.train(resume="sports-vit-b16@latest", epochs=4, output=tmp_path) == run
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 3, 4]
    assert [each["to_epochs"] for each in run.read_run_json()["extensions"]] == [2, 3, 4]


# ------------------------------------------------------------------------------ what such tables hold


def check_rows(root: Path, rows: list[tuple[str, str, str]]) -> Any:
    table = write_table(root / "sports.csv", rows)
    return px.check_data(root, DataSection(source="csv", csv=table.name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, name in enumerate(
        ("train/air hockey/001.jpg", "train/archery/001.jpg", "valid/archery/1.jpg")
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.effect_noise((40, 40), 60 + place).convert("RGB").save(tmp_path / name)
    return tmp_path


def test_spaces_around_labels_splits_and_paths(folder):
    rows = [
        (" train/air hockey/001.jpg", "air hockey ", "train "),
        ("train/archery/001.jpg ", " archery", "Train"),
        ("valid/archery/1.jpg", "archery", "VALID"),
    ]
    table = check_rows(folder, rows).manifest.table
    assert sorted(zip(table["action"].to_pylist(), table["split"].to_pylist(), strict=True)) == [
        ("air hockey", "train"), ("archery", "train"), ("archery", "val"),
    ]  # fmt: skip
    assert table["quarantine"].to_pylist() == [None] * 3


@pytest.mark.parametrize("value", ["valids", "train/valid", "archery", "0"])
def test_other_values_of_data_set_are_named(value, folder):
    rows = [("train/archery/001.jpg", "archery", "train"), ("valid/archery/1.jpg", "archery", value)]
    with pytest.raises(DataError, match=re.escape(f"the column 'data set' holds {value!r}")) as caught:
        check_rows(folder, rows)
    assert "a split is train, val, valid, validation or test" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "label", "split", "reason"),
    [
        ("Train/Archery/001.JPG", "archery", "train", "no such file"),
        ("train/archery/002.jpg", "archery", "train", "no such file"),
        ("/kaggle/input/sports/train/archery/001.jpg", "archery", "train", "lies outside the data folder"),
        ("../train/archery/001.jpg", "archery", "train", "lies outside the data folder"),
        ("", "archery", "train", "the table gives no path"),
        ("train/archery/001.jpg", "", "train", "the table gives no label"),
        ("train/archery/001.jpg", "archery", "", "the table gives no split"),
    ],
)
def test_rows_that_lead_nowhere_are_named(path, label, split, reason, folder):
    good = [("train/air hockey/001.jpg", "air hockey", "train"), ("valid/archery/1.jpg", "archery", "valid")]
    result = check_rows(folder, [*good, (path, label, split)])
    (named,) = result.summary["quarantined"]
    assert named["reason"] == reason
    assert named["sample_id"] in {path, "(no path)"}
    assert any(named["sample_id"] in line for line in result.lines)


def test_an_absolute_path_into_the_folder_is_that_file(folder):
    rows = [(str(folder / "train/archery/001.jpg"), "archery", "train")]
    table = check_rows(folder, rows).manifest.table
    assert (table["sample_id"].to_pylist(), table["quarantine"].to_pylist()) == (
        ["train/archery/001.jpg"],
        [None],
    )
