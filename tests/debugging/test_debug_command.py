"""``praxiscope debug`` from end to end: lines, ``debug.json``, pictures, page, exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from praxiscope.cli.main import main
from praxiscope.data.manifest import read_manifest
from praxiscope.debugging.against import compare_trainings
from praxiscope.debugging.checklist import CHECKS
from praxiscope.debugging.result import Curves, Dots, Montage, make_plain, name_some
from praxiscope.errors import UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.reporting.debugging import draw
from praxiscope.workflows.debug import debug


def call(words):
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code or 0


def make_words(data, output, *more):
    words = ["debug", "demo-cnn", "--data", str(data), "-o", str(output), *more]
    for key, value in {
        "model.name": "test_resnet", "model.img_size": 16, "loader.workers": 0, "train.batch_size": 6,
        "train.precision": "fp32",
    }.items():  # fmt: skip
        words += ["--set", f"{key}={value}"]
    return words


def test_every_check_prints_a_line_and_leaves_evidence(noise_folder, tmp_path, capsys):
    code = call(make_words(noise_folder, tmp_path))
    out = capsys.readouterr().out
    (folder,) = (tmp_path / "debug").iterdir()
    content = json.loads((folder / "debug.json").read_text(encoding="utf-8"))
    names = [check["name"] for check in content["checks"]]
    assert names == [name for name in CHECKS if name != "frames"]
    lines = [line.split()[1] for line in out.splitlines() if line.split()[0] in {"ok", "warning", "fault"}]
    assert lines == names
    assert code == (4 if any(check["status"] == "fault" for check in content["checks"]) else 0)
    page = (folder / "index.html").read_text(encoding="utf-8")
    for check in content["checks"]:
        assert f'id="check-{check["name"]}"' in page
        for picture in check["pictures"]:
            assert (folder / picture).read_bytes()[:4] == b"\x89PNG"
    assert "http" not in page.replace("http-equiv", "")
    assert not list(tmp_path.glob("demo-cnn"))  # no run was made


def test_a_fault_ends_with_code_4(noise_folder, tmp_path, capsys):
    words = make_words(noise_folder, tmp_path, "--only", "updates,schedule", "--set", "train.lr=1e-30")
    assert call(words) == 4
    out = capsys.readouterr().out
    assert "fault    updates" in out
    assert "don't train before you have seen to updates" in out


def test_against_another_run(small_run, noise_folder, tmp_path):
    recipe = load_recipe(small_run.recipe)
    same = debug(recipe, data=noise_folder, only=["schedule"], against=str(small_run.path), output=tmp_path)
    check = same.checks[-1]
    assert (check.name, check.status) == ("against", "ok")
    assert f"same data and split as {small_run.run_id}" in check.line
    assert check.figures["recipe_differences"] == []
    other = load_recipe(recipe.model_dump(mode="json"), {"data.train_per_class": 5, "train.lr": 0.1})
    fewer = debug(other, data=noise_folder, only=["schedule"], against=str(small_run.path), output=tmp_path)
    check = fewer.checks[-1]
    assert check.status == "warning"
    assert "train: 15 samples in both, 0 only here, 21 only there" in check.line
    assert "train.lr: 0.003 -> 0.1" in check.figures["recipe_differences"]


def test_a_test_sample_of_the_other_run_that_trains_here_is_a_fault(small_run, noise_folder, tmp_path):
    theirs = read_manifest(small_run.manifest)
    flip = {"train": "test", "test": "train", "val": "val"}
    place = theirs.table.schema.get_field_index("split")
    splits = pa.array([flip[each] for each in theirs.table["split"].to_pylist()])
    ours = replace(
        theirs,
        table=theirs.table.set_column(place, "split", splits),
        heads={"action": tuple(reversed(theirs.heads["action"]))},
    )
    recipe = load_recipe(small_run.recipe)
    check = compare_trainings(ours, theirs, recipe, recipe, name="x")
    assert check.status == "fault"
    assert "12 samples that train here are validated or tested on there" in check.line
    assert "the labels of action are others, or in another order" in check.line


def test_unknown_checks_are_refused(noise_folder, tmp_path):
    recipe = load_recipe("demo-cnn")
    with pytest.raises(UsageError, match=r"no check 'gradient'\. Did you mean 'gradients'"):
        debug(recipe, data=noise_folder, only=["gradient"], output=tmp_path)
    with pytest.raises(UsageError, match=r"'frames' is about clips; these"):
        debug(recipe, data=noise_folder, only=["frames"], output=tmp_path)


def test_figures_are_drawn_from_any_numbers(tmp_path):
    tile = np.zeros((8, 8, 3), np.uint8)
    label = "a very long name/of a sample/that goes on $and on/2023-01-01/video_0001.mp4" * 2
    for picture in (
        Montage(name="m", title="t", rows=((label, (tile, tile)), ("b", (tile,)))),
        Curves(name="c", title="t", x_label="x", y_label="y", series=(("s", (1.0,)),), log_y=True),
        Dots(name="d", title="t", x_label="x", rows=(("a", 0.0, True), ("b", float("nan"), False))),
    ):
        draw(picture).savefig(tmp_path / f"{picture.name}.png")
    assert make_plain({"a": [float("inf"), 1, "x"]}) == {"a": [None, 1, "x"]}
    assert name_some(["a"]) == "a"


def test_help_does_not_import_torch():
    code = (
        "import sys; from praxiscope.cli.main import main\n"
        "try: main(['debug', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
