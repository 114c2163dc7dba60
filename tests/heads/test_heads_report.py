"""The report of a clip run with two heads, and figures of many classes."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from two_heads import make_predictions

from html_reader import read_page
from praxiscope.cli.display import format_epoch
from praxiscope.evaluation.scores import compute_metrics
from praxiscope.evaluation.temporal import ORDERS
from praxiscope.reporting.build import build_report
from praxiscope.reporting.figures import plot_temporal, write_evaluation_figures
from praxiscope.reporting.views import build_view


@pytest.fixture(scope="module")
def page(run):
    found = read_page(build_report(run))
    assert not found.unclosed
    return found


def test_the_joint_answer_and_the_majority_come_first(page):
    result = page.section("result")
    assert (
        result.index("Verb and noun right on") < result.index("Action, top-1") < result.index("Verb, top-1")
    )
    assert "Majority of training" in result
    assert "Right together: verb and noun" in result


def test_each_head_has_a_section_that_is_folded(page):
    for number, head in enumerate(("verb", "noun"), start=1):
        section = page.section(f"head-{number}")
        assert f"Head {head}" in section
        assert f"Confusions of {head}" in section
        assert f"Classes of {head}" in section


def test_curves_and_order_of_frames(page):
    learning = page.section("learning")
    assert "Top-1, verb (%)" in learning
    assert "Top-1, noun (%)" in learning
    order = page.section("order")
    assert "Order-blind" in order
    assert all(name in order for name in ORDERS)


def test_failed_clips_are_strips_with_what_each_head_said(page, run):
    failures = page.section("failures")
    wrong = re.search(r"(\d+) of 20 samples are wrong", failures)
    assert wrong
    pictures = [one for one in page.all("img") if one.get("alt", "").startswith("Sample test/")]
    assert len(pictures) == int(wrong.group(1))
    assert all(one["src"].startswith("data:image/jpeg;base64,") for one in pictures)
    assert failures.count("✗") >= len(pictures)
    assert "true: " in failures


def test_a_clip_whose_frames_are_gone_says_so(run, tmp_path):
    (tmp_path / "empty").mkdir()
    page = read_page(build_report(run, data_root=tmp_path / "empty"))
    assert "No picture: " in page.section("failures")
    build_report(run)


def test_300_classes_stay_legible(tmp_path):
    metrics = compute_metrics(make_predictions((12, 300), size=300, skill=3.0), resamples=5)
    paths = {path.name: path for path in write_evaluation_figures(metrics, tmp_path)}
    assert "confusion_noun.png" in paths
    for path in paths.values():
        with Image.open(path) as image:
            assert max(image.size) < 6200, path.name
    assert build_view(metrics["heads"]["noun"], command="x").confusion is None
    assert build_view(metrics["heads"]["verb"], command="x").confusion is not None


def test_orders_without_intervals_are_drawn(tmp_path):
    orders = [{"order": name, "top1": {"value": 0.5, "low": None, "high": None}} for name in ORDERS]
    assert len(plot_temporal(orders).axes) == 1


def test_an_epochs_line_names_the_heads():
    row = {
        "epoch": 1,
        "train/loss": 1.0,
        "train/top1": 0.1,
        "val/loss": 1.0,
        "val/top1": 0.1,
        "images_per_s": 9.0,
    }
    line = format_epoch({**row, "val/verb_top1": 0.4, "val/noun_top1": 0.25})
    assert "top1  10.0 % (verb 40.0 %, noun 25.0 %)" in line
    assert "(" not in format_epoch(row)
