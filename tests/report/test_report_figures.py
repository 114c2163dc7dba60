"""Figures draw the numbers that they are given, whatever the names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from praxiscope.reporting import figures
from praxiscope.runs.rundir import RunDir

ODD_NAMES = ("line\nbreak", "$x_{^", "日本語", "שלום", "a" * 90, "rtl\u202e", "🏃", "100 %", "\\frac{", "<b>")


def drawn_texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("classes", [1, 2, 15, 30])
def test_a_confusion_matrix_prints_each_count_that_is_not_zero(classes: int) -> None:
    counts = np.random.default_rng(classes).integers(0, 5, (classes, classes))
    counts[0, 0] = 7
    figure = figures.plot_confusion(counts.tolist(), [f"class {index}" for index in range(classes)])
    assert sorted(drawn_texts(figure)) == sorted(str(count) for count in counts.ravel() if count)
    image = np.asarray(figure.axes[0].images[0].get_array())
    sums = counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(image, np.where(sums > 0, counts / np.maximum(sums, 1), 0.0))


def test_a_hundred_classes_are_drawn_with_all_names_and_no_counts(tmp_path: Path) -> None:
    names = [f"class {index:03d}" for index in range(100)]
    figure = figures.plot_confusion((np.eye(100, dtype=int) * 3).tolist(), names)
    assert drawn_texts(figure) == []
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert figure.get_figwidth() < 25


def test_a_matrix_of_the_wrong_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\); allowed is \(3, 3\)"):
        figures.plot_confusion([[1, 0], [0, 1]], ["a", "b", "c"])


def test_odd_names_are_drawn_without_a_warning(tmp_path: Path) -> None:
    size = len(ODD_NAMES)
    path = figures.save_figure(
        figures.plot_confusion(np.eye(size, dtype=int).tolist(), ODD_NAMES), tmp_path / "a.png"
    )
    rows = [{"name": name, "support": 1, "f1": None, "recall": None, "recall_low": None, "recall_high": None}
            for name in ODD_NAMES]  # fmt: skip
    figures.save_figure(figures.plot_per_class(rows), tmp_path / "b.png")
    with Image.open(path) as image:
        assert image.size[0] > 400


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("calling", "calling"),
        ("a\nb", "a□b"),
        ("x\u202ey", "x□y"),
        ("日", "□"),
        ("שלום", "שלום"),
        ("café", "café"),
    ],
)
def test_what_the_font_lacks_becomes_a_square(name: str, shown: str) -> None:
    assert figures.drawable(name) == shown


def test_curves_show_the_log_and_leave_gaps() -> None:
    rows = [
        {"epoch": 1, "lr": 0.1, "train/loss": 2.0, "val/loss": 1.5, "train/top1": 0.25, "val/top1": 0.5},
        {"epoch": 2, "lr": 0.05, "train/loss": None, "val/loss": float("nan"), "train/top1": 0.5},
    ]
    loss, top1, lr = figures.plot_curves(rows).axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), [2.0, np.nan])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [1.5, np.nan])
    np.testing.assert_array_equal(top1.lines[0].get_ydata(), [25.0, 50.0])
    np.testing.assert_array_equal(lr.lines[0].get_ydata(), [0.1, 0.05])


def test_curves_of_no_epoch_are_refused() -> None:
    with pytest.raises(ValueError, match="train for at least one epoch"):
        figures.plot_curves([])


def test_per_class_rows_come_worst_first() -> None:
    rows = [{"name": name, "support": 3, "f1": f1, "recall": f1, "recall_low": 0.0, "recall_high": 1.0}
            for name, f1 in (("good", 0.9), ("none", None), ("bad", 0.1))]  # fmt: skip
    axes = figures.plot_per_class(rows).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none  (3)", "bad  (3)", "good  (3)"]
    low, high = axes.get_ylim()
    assert low > high, "the first row is on top"


def test_reliability_leaves_empty_bins_out() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "count": 4, "confidence": 0.8, "accuracy": 0.75},
    ]
    top, bottom = figures.plot_reliability(bins, 0.05).axes
    assert list(top.lines[1].get_xdata()) == [0.8]
    assert list(top.lines[1].get_ydata()) == [0.75]
    assert [patch.get_height() for patch in bottom.patches] == [0, 4]
    assert "5.0 %" in top.get_title(loc="left")


def test_an_evaluation_gets_its_figures_and_the_same_bytes_again(run: RunDir, tmp_path: Path) -> None:
    metrics = json.loads((run.evaluations("test")[-1] / "metrics.json").read_text(encoding="utf-8"))
    before = dict(mpl.rcParams)
    paths = figures.write_evaluation_figures(metrics, tmp_path)
    assert [path.name for path in paths] == ["confusion.png", "reliability.png", "per_class.png"]
    first = figures.write_curves(run.read_metrics(), tmp_path / "curves.png").read_bytes()
    second = figures.write_curves(run.read_metrics(), tmp_path / "again.png").read_bytes()
    assert first == second
    assert dict(mpl.rcParams) == before, "matplotlib's global settings are left alone"
    for path in paths:
        with Image.open(path) as image:
            image.verify()
