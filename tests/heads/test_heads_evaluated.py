"""Evaluation of several heads, from the network to the files."""

from __future__ import annotations

import json

import pytest

import praxiscope as px
from praxiscope.data.manifest import read_manifest
from praxiscope.errors import DataError, UsageError
from praxiscope.workflows.verify import verify


@pytest.fixture(scope="module")
def metrics(run):
    return json.loads((run.evaluations("test")[-1] / "metrics.json").read_text(encoding="utf-8"))


def test_heads_keep_the_order_of_their_logits(run):
    # "verb" is asked for first; a manifest that sorted the heads would give each the other's logits.
    assert list(read_manifest(run.manifest).heads) == ["verb", "noun"]
    again = px.evaluate(run, split="val").metrics
    row = run.read_metrics()[run.read_run_json()["best"]["epoch"] - 1]
    for head in ("verb", "noun"):
        found = again["heads"][head]["all"]
        assert found["top1"]["value"] == pytest.approx(row[f"val/{head}_top1"])
        assert found["nll"]["value"] == pytest.approx(row[f"val/{head}_loss"], abs=1e-5)
    assert again["all"]["top1"]["value"] == pytest.approx(row["val/top1"])


def test_the_joint_answer_stands_first(metrics):
    assert metrics["head"] == "action"
    assert metrics["joint"] == list(metrics["heads"]) == ["verb", "noun"]
    assert metrics["outcomes"][0]["share"] == metrics["all"]["top1"]["value"]
    assert sum(one["count"] for one in metrics["outcomes"]) == metrics["num_samples"] == 20


def test_files_of_each_head(run):
    names = {path.name for path in run.evaluations("test")[-1].iterdir()}
    kinds = {"confusion.png", "reliability.png", "per_class.png", "per_class.csv"}
    parts = {kind.replace(".", f"_{head}.") for kind in kinds for head in ("verb", "noun")}
    assert names == parts | {"metrics.json", "test_report.txt", "temporal_reliance.png"}
    report = (run.evaluations("test")[-1] / "test_report.txt").read_text(encoding="utf-8")
    assert "Temporal reliance" in report
    latest = (run.path / "latest_results.txt").read_text(encoding="utf-8")
    assert report.count("\nHead ") == latest.count("\nHead ") == 2


def test_a_mean_of_frames_is_order_blind(metrics):
    found = metrics["temporal_reliance"]
    changes = {one["order"]: one["largest_change"] for one in found["orders"]}
    assert changes["shuffled"] < 1e-5
    assert changes["reversed"] < 1e-5
    assert changes["frozen"] > 1e-5
    assert found["order_blind"]
    assert found["verdict"].startswith("Order-blind: ")


def test_verify_computes_it_all_again(run):
    checks = [check for check in verify(run) if check.name.startswith("evaluation")]
    assert checks
    assert all(check.passed for check in checks), checks


def test_groups_of_classes_need_a_head(run, tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("class,group\npick_up,thing\nsit_down,body\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"whose classes are they\? Add --head, one of verb, noun"):
        px.evaluate(run, groups=table)
    with pytest.raises(UsageError, match="--head verbs: the heads are verb, noun"):
        px.evaluate(run, groups=table, head="verbs")


def test_a_submission_of_labels_that_are_not_epics_is_refused_before_anything_slow(run, tmp_path):
    with pytest.raises(DataError, match=r"labels are words \('pick_up'\), and EPIC_100_verb_classes.csv"):
        px.evaluate(run, submission=tmp_path / "answers.zip")
    assert not (tmp_path / "answers.zip").exists()
