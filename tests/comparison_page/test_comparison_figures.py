"""Figures of a comparison draw the rows that they are given, at 2 and at 1,000 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from invented_comparison import make_comparison, make_unpaired
from PIL import Image

from praxiscope.reporting.comparison import figures
from praxiscope.reporting.comparison.rows import (
    collect_class_deltas,
    collect_confusion_deltas,
    order_pairs,
    subtract_confusions,
)

ODD_NAMES = (
    "line\nbreak",
    "$x_{^",
    "日本語",
    "שלום",
    "a" * 90,
    "rtl\u202e",
    "🏃",
    "100 %",
    "",
    "<script>alert(1)</script>",
)


def make_rows(classes: int, *, told: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    gaps = np.random.default_rng(classes).normal(0, 0.1, classes)
    return [
        {"name": f"class {index:04d}", "support": 20, "first": 0.5, "second": 0.5 + gap, "difference": gap,
         "low": gap - 0.1, "high": gap + 0.1, "p_holm": 0.5, "told_apart": index in told}
        for index, gap in enumerate(gaps)
    ]  # fmt: skip


@pytest.mark.parametrize(("classes", "shown"), [(1, 1), (2, 2), (15, 15), (40, 40), (1000, 40)])
def test_a_delta_bar_shows_the_largest_differences_in_order(classes: int, shown: int) -> None:
    rows = make_rows(classes)
    deltas = collect_class_deltas(rows)
    assert deltas.total == classes
    axes = figures.plot_delta_bar(deltas, first="a", second="b").axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths == sorted(widths, reverse=True)
    largest = sorted((abs(row["difference"]) for row in rows), reverse=True)[:shown]
    assert sorted(map(abs, widths), reverse=True) == pytest.approx([100 * value for value in largest])
    low, high = axes.get_xlim()
    assert low == -high, "zero is in the middle"


def test_classes_that_can_be_told_apart_are_shown_first_and_marked() -> None:
    rows = make_rows(1000, told=(7,))
    rows[7] |= {"difference": 0.001, "second": 0.501}
    deltas = collect_class_deltas(rows)
    assert (deltas.told_apart, len(deltas.rows)) == (1, 40)
    axes = figures.plot_delta_bar(deltas, first="a", second="b").axes[0]
    (marked,) = [text.get_text() for text in axes.get_yticklabels() if text.get_text().startswith("*")]
    assert marked == "* class 0007  (20)"
    assert {patch.get_alpha() for patch in axes.patches} == {1.0, 0.4}


def test_classes_without_samples_are_counted_and_none_at_all_is_refused() -> None:
    empty = [
        {
            "name": "x",
            "support": 0,
            "first": None,
            "second": None,
            "difference": None,
            "low": None,
            "high": None,
        }
    ]
    deltas = collect_class_deltas(make_rows(3) + empty)
    assert (deltas.total, deltas.undefined) == (3, 1)
    with pytest.raises(ValueError, match="no class with a difference"):
        figures.plot_delta_bar(collect_class_deltas(empty), first="a", second="b")


def test_the_forest_has_a_row_a_contestant_and_a_row_a_pair() -> None:
    result = make_comparison(labels=("a", "b", "c"), seeds=3)
    axes = figures.plot_forest(figures.list_forest_panels(result)).axes
    assert [len(one.get_yticklabels()) for one in axes] == [3, 3, 3, 3]
    assert axes[1].get_yticklabels()[0].get_text() == "c \u2212 b"
    seeds = [line.get_xdata() for line in axes[0].lines if line.get_marker() == "|"]
    members = result["contestants"][0]["members"]
    np.testing.assert_allclose(seeds[0], [100 * one["top1"] for one in members])


def test_a_forest_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.plot_forest([("Top-1", [], False)])


def test_the_confusion_difference_is_second_minus_first_and_blue_is_better() -> None:
    difference = [[4, -4, 0], [3, -5, 2], [0, 0, 0]]
    figure = figures.plot_confusion_difference(difference, ["x", "y", "z"], first="a", second="b")
    texts = sorted(text.get_text() for text in figure.axes[0].texts)
    assert texts == sorted(["+4", "\u22124", "+3", "\u22125", "+2"])
    image = np.asarray(figure.axes[0].images[0].get_array())
    assert image[0, 0] > 0, "more on the diagonal is better"
    assert image[0, 1] > 0, "fewer confusions are better"
    assert image[1, 0] < 0
    assert image[1, 1] == -1.0
    assert figure.axes[0].get_title(loc="left") == "b \u2212 a (samples)"


def test_a_difference_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\); allowed is \(2, 2\)"):
        figures.plot_confusion_difference([[1, 2]], ["a", "b"], first="a", second="b")


def test_above_sixty_classes_the_largest_confusions_are_listed(tmp_path: Path) -> None:
    result = make_comparison(names=[f"class {index:03d}" for index in range(130)], per_class=4)
    rows = collect_confusion_deltas(result["pairs"][0]["confusion_differences"])
    assert len(rows) == 24
    sizes = [abs(row.difference) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    axes = figures.plot_confusion_list(rows, first="a", second="b").axes[0]
    assert axes.get_yticklabels()[0].get_text() == f"{rows[0].target} \u2192 {rows[0].preds}"
    drawn = figures.write_comparison_figures(result, tmp_path)
    assert [path.name for path in drawn] == ["forest.png", "delta_bar.png", "confusion_difference.png"]


def test_confusions_that_do_not_differ_are_no_picture() -> None:
    with pytest.raises(ValueError, match="no confusion that differs"):
        figures.plot_confusion_list((), first="a", second="b")


def test_counts_of_different_numbers_of_samples_become_points() -> None:
    result = make_unpaired(names=("x", "y"))
    first, second = result["contestants"]
    first["confusion"], second["confusion"] = [[8, 2], [0, 10]], [[90, 10], [20, 80]]
    assert subtract_confusions(result, result["pairs"][0]) == ((10.0, -10.0), (20.0, -20.0))
    second["confusion"] = None
    assert subtract_confusions(result, result["pairs"][0]) is None


def test_the_two_most_accurate_come_first() -> None:
    pairs = order_pairs(make_comparison(labels=("a", "b", "c")))
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("b", "c"), ("a", "c"), ("a", "b")]


def test_figures_of_several_pairs_are_numbered(tmp_path: Path) -> None:
    result = make_comparison(labels=("a", "b", "c"), names=("x", "y"), per_class=6)
    assert [path.name for path in figures.write_comparison_figures(result, tmp_path)] == [
        "forest.png",
        *("delta_bar.png", "confusion_difference.png"),
        *("delta_bar-2.png", "confusion_difference-2.png"),
        *("delta_bar-3.png", "confusion_difference-3.png"),
    ]


def test_figures_of_odd_names_are_the_same_bytes_twice_and_leave_settings_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    result = make_comparison(labels=("$x_{^", "\u202eb" * 40), names=ODD_NAMES, per_class=6)
    paths = figures.write_comparison_figures(result, tmp_path)
    assert dict(mpl.rcParams) == before
    deltas = collect_class_deltas(result["pairs"][0]["per_class"])
    labels = {"first": "$x_{^", "second": "\u202eb" * 40}
    again = figures.save_figure(figures.plot_delta_bar(deltas, **labels), tmp_path / "again.png")
    assert paths[1].read_bytes() == again.read_bytes()
    for path in paths:
        with Image.open(path) as image:
            assert image.width < 2600
