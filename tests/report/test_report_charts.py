"""Coordinates carry the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from praxiscope.reporting.charts import build_confusion, build_curves, build_reliability, compute_ticks


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.13, 99.5])
@pytest.mark.parametrize("span", [1e-5, 0.07, 1.0, 3.7, 12.0, 980.0])
def test_ticks_are_round_inside_and_neither_few_nor_many(low: float, span: float) -> None:
    ticks = compute_ticks(low, low + span, wanted=5)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-9 <= tick <= low + span + 1e-9 for tick in ticks)
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - value) for value in (1, 2, 2.5, 5)) < 1e-6


def test_ticks_of_an_empty_range() -> None:
    assert compute_ticks(2.0, 2.0) == (2.0,)


def test_a_curve_is_linear_in_its_values_and_upside_down() -> None:
    rows = [{"epoch": epoch, "val/loss": float(value)} for epoch, value in enumerate((4, 2, 1), start=1)]
    (chart,) = build_curves(rows, best_epoch=2)
    (line,) = chart.lines
    xs, ys = ([getattr(dot, axis) for dot in line.dots] for axis in "xy")
    assert ys[0] < ys[1] < ys[2], "a smaller loss is lower on the page"
    assert (ys[1] - ys[0]) / (ys[2] - ys[1]) == pytest.approx(2.0, abs=0.02)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    assert chart.marker == xs[1]
    assert chart.summary == "Loss over 3 epochs: val from 4 to 1."


def test_a_gap_parts_the_line_and_a_lone_value_stays_a_dot() -> None:
    values = [1.0, 2.0, None, float("nan"), 3.0, float("inf"), 4.0, 5.0]
    rows = [{"epoch": epoch, "train/loss": value} for epoch, value in enumerate(values, start=1)]
    (line,) = build_curves(rows, best_epoch=None)[0].lines
    assert len(line.paths) == 2
    assert len(line.dots) == 5
    assert all(math.isfinite(dot.x) and math.isfinite(dot.y) for dot in line.dots)


def test_one_epoch_and_equal_values_are_drawn() -> None:
    charts = build_curves([{"epoch": 1, "val/top1": 0.5, "lr": 0.0}], best_epoch=1)
    assert [chart.title for chart in charts] == ["Top-1 accuracy (%)", "Learning rate"]
    assert all(0 < dot.y < chart.height for chart in charts for line in chart.lines for dot in line.dots)


def test_nothing_finite_gives_no_panel() -> None:
    assert build_curves([{"epoch": 1, "val/loss": None}], best_epoch=1) == ()


def test_confusion_cells_hold_counts_and_shares() -> None:
    chart = build_confusion([[3, 1], [0, 0]], ["a", "b"])
    assert [(cell.row, cell.column, cell.count, cell.share) for cell in chart.cells] == [
        (0, 0, 3, 0.75),
        (0, 1, 1, 0.25),
    ]
    assert chart.supports == (4, 0)
    assert chart.counted


@pytest.mark.parametrize("classes", [2, 15, 40, 100])
def test_a_confusion_matrix_keeps_a_size_for_a_screen(classes: int) -> None:
    chart = build_confusion(np.eye(classes, dtype=int).tolist(), ["n" * 200] * classes)
    assert chart.label_width + classes * chart.side < 1400
    assert chart.side >= 10


def test_a_confusion_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 x 3"):
        build_confusion([[1, 0], [0, 1]], ["a", "b", "c"])


def test_a_calibrated_bin_lies_on_the_diagonal() -> None:
    bins = [
        {"low": 0.0, "high": 0.5, "count": 5, "confidence": 0.25, "accuracy": 0.25},
        {"low": 0.5, "high": 1.0, "count": 20, "confidence": 0.75, "accuracy": 1.0},
    ]
    chart = build_reliability(bins)
    assert chart is not None
    calibrated, timid = chart.lines[0].dots
    assert calibrated.x - chart.x_ticks[0].at == pytest.approx(chart.y_ticks[0].at - calibrated.y, abs=0.11)
    assert timid.y == chart.y_ticks[-1].at
    assert timid.radius > calibrated.radius
    assert build_reliability([{"count": 0}]) is None
