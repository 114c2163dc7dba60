"""``praxiscope compare`` on the command line: what is printed, what is written, exit codes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from compared_models import Model

from praxiscope.cli.compare_command import show_comparison
from praxiscope.cli.main import main

A = Model(skill=1.6, noise_seed=1, recipe="model-a")
B = Model(skill=2.6, noise_seed=2, recipe="model-b")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(m.write(folder / f"{m.recipe}.parquet")) for m in (A, B)]


def run(arguments):
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments])
    return ended.value.code or 0


def test_the_verdict_comes_first_and_the_files_last(files, tmp_path, capsys):
    assert run([*files, "-o", str(tmp_path / "out"), "--resamples", "300"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("model-b is better than model-a by ")
    assert lines[-2:] == [f"Files: {tmp_path / 'out'}", f"Page: {tmp_path / 'out' / 'comparison.html'}"]
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "is better than" in page
    assert (tmp_path / "out" / "delta_bar.png").is_file()
    text = "\n".join(lines)
    for shown in ("240 samples", "top-1 (clean)", "macro F1", "NLL", "same answer", "mean probability"):
        assert shown in text


def test_tables_hold_what_the_json_holds(files, tmp_path):
    run([*files, "-o", str(tmp_path), "--resamples", "300", "--no-page"])
    content = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))

    def read(name):
        with (tmp_path / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    classes = read("per_class.csv")
    assert [float(row["difference"]) for row in classes] == [
        row["difference"] for row in content["pairs"][0]["per_class"]
    ]
    headline = {
        (row["what"], row["against"], row["samples"], row["figure"]): row for row in read("headline.csv")
    }
    assert (
        float(headline["model-b", "model-a", "clean", "macro_f1"]["value"])
        == (content["pairs"][0]["differences"]["clean"]["macro_f1"]["value"])
    )
    assert (
        float(headline["model-a", "", "all", "top1"]["low"])
        == content["contestants"][0]["all"]["top1"]["low"]
    )
    confusions = read("confusion_differences.csv")
    assert len(confusions) == len(content["pairs"][0]["confusion_differences"])
    samples = read("disagreements.csv")
    assert [row["sample_id"] for row in samples] == sorted(A.sample_ids())
    assert sum(row["model-a"] == row["target"] for row in samples) == round(
        240 * content["contestants"][0]["all"]["top1"]["value"]
    )
    assert {row["same_answer"] for row in samples} == {"yes", "no"}


def test_labels_may_steer_no_terminal(files, tmp_path, capsys):
    run(
        [
            *files,
            "-o",
            str(tmp_path),
            "--resamples",
            "50",
            "--no-page",
            "--label",
            "[red]x",
            "--label",
            "\x1b[31mb",
        ]
    )
    printed = capsys.readouterr().out
    assert "[red]x" in printed
    assert "\x1b[31m" not in printed


def test_problems_end_with_their_exit_code(files, tmp_path, capsys):
    assert run([files[0]]) == 2
    assert "nothing to compare with" in capsys.readouterr().err
    assert run([files[0], "nowhere@latest", "--runs", str(tmp_path)]) == 2
    later = str(Model(start=100, recipe="later").write(tmp_path / "later.parquet"))
    assert run([files[0], later]) == 4
    assert "--common" in capsys.readouterr().err
    assert run([files[0], str(tmp_path / "missing.csv")]) == 2
    assert "missing.csv: there is no such file" in capsys.readouterr().err.replace("\n", "")
    assert run([*files, "-o", later, "--no-page"]) == 2
    assert "a file is there; give the name of a folder" in capsys.readouterr().err


def test_of_many_classes_the_largest_differences_of_both_signs_are_printed(capsys):
    rows = [
        {"name": f"c{index}", "support": 9, "first": 0.5, "second": 0.5 + 0.01 * index, "told_apart": True,
         "difference": 0.01 * index, "low": None, "high": None, "p_holm": 0.01}
        for index in (*range(-12, 0), 30)
    ]  # fmt: skip
    pair = {"first": "a", "second": "b", "per_class": rows, "confusion_differences": [], "agreement": None}
    show_comparison(
        {"verdict": "v", "notes": [], "contestants": [], "pairs": [pair], "oracle": None, "ensembles": [],
         "samples": {"n": 9}, "paired": True, "split": None, "head": None}
    )  # fmt: skip
    printed = " ".join(capsys.readouterr().out.split())
    assert "told apart (13 of 13; the 12 largest differences)" in printed
    assert "c30" in printed
    assert "c-1 " not in printed


def test_the_worked_example_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs" / "compare.md"
    code = re.search(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(compile(code.group(1), "compare.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith(("large is better than small by", "small and large can't be told apart"))
    assert (tmp_path / "compared" / "comparison.html").is_file()
