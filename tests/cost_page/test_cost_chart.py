"""The Pareto picture: who is on the frontier, where labels stand, what is drawn."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from invented_profile import estimate, make_entry, make_profile, measure
from praxiscope.reporting.costs.chart import (
    BOTTOM,
    FONT_SIZE,
    HEIGHT,
    LEFT,
    RIGHT,
    SHAPES,
    TOP,
    WIDTH,
    build_pareto,
    compute_log_ticks,
)
from praxiscope.reporting.costs.figures import COLOURS, write_profile_figures
from praxiscope.reporting.costs.labels import measure_text, place_labels
from praxiscope.reporting.costs.points import (
    LATENCY,
    MEMORY,
    RUNTIMES,
    SPARE_COLOURS,
    collect_points,
    number_runtimes,
)
from praxiscope.reporting.page import _read_template


def test_a_point_is_dominated_where_another_is_as_cheap_and_as_right() -> None:
    points = collect_points(make_profile(), LATENCY)
    assert len(points) == 21
    for point in points:
        beaten = any(
            other.cost.value <= point.cost.value
            and other.accuracy.value >= point.accuracy.value
            and (other.cost.value, other.accuracy.value) != (point.cost.value, point.accuracy.value)
            for other in points
        )
        assert point.dominated is beaten
    assert [(point.model, point.runtime) for point in points if point.chosen] == [
        ("vit_base_patch16_224", "openvino-int8")
    ]


def test_int8_without_its_own_accuracy_is_not_drawn_and_other_runtimes_stand_at_the_models() -> None:
    profile = make_profile(("a",))
    for runtime in profile["entries"][0]["runtimes"]:
        runtime["accuracy"] = None
    drawn = {point.runtime: point.accuracy.value for point in collect_points(profile, LATENCY)}
    assert "openvino-int8" not in drawn
    assert set(drawn.values()) == {0.74}
    assert len(drawn) == 6


def test_memory_and_figures_without_intervals_are_read() -> None:
    profile = make_profile(("a",))
    profile["entries"][0]["runtimes"][0]["accuracy"] = {"value": 0.7, "low": None, "high": None}
    first = collect_points(profile, MEMORY)[0]
    assert (first.cost.value, first.cost.low) == (310.0, 310.0)
    assert (first.accuracy.low, first.accuracy.high) == (0.7, 0.7)


def test_the_frontier_is_a_staircase_that_only_rises() -> None:
    chart = build_pareto(make_profile(), LATENCY)
    assert chart is not None
    for (x1, y1), (x2, y2) in itertools.pairwise(chart.frontier):
        assert x2 >= x1
        assert y2 <= y1, "upwards is smaller y"
    assert all(
        LEFT <= mark.left <= mark.right <= WIDTH - RIGHT and TOP <= mark.top <= mark.bottom <= HEIGHT - BOTTOM
        for mark in chart.marks
    )


def test_limits_are_drawn_where_the_user_put_them() -> None:
    chart = build_pareto(make_profile(), LATENCY)
    assert chart is not None
    ((x1, _, x2, _, text),) = chart.limits
    fifty = [tick.at for tick in chart.x_ticks if tick.label == "50"]
    assert x1 == x2 == fifty[0]
    assert text == "at most 50\u202fms"
    assert [mark.note for mark in chart.marks if mark.ringed] == [chart.marks[-1].note]
    assert "chosen" in chart.marks[-1].note


def test_no_accuracy_no_picture(tmp_path: Path) -> None:
    profile = make_profile(("a",))
    profile["entries"] = [make_entry("a", 10.0, 100.0, None)]
    assert build_pareto(profile, LATENCY) is None
    assert write_profile_figures(profile, tmp_path) == ()


@pytest.mark.parametrize("seed", range(12))
def test_labels_cover_neither_each_other_nor_a_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [(float(x), float(y)) for x, y in rng.uniform((80, 40), (860, 440), (14, 2))]
    wanted = [(f"model number {index} in a runtime", *point) for index, point in enumerate(points)]
    frame = (60.0, 20.0, 898.0, 460.0)
    placed = place_labels(wanted, points=points, lines=[], frame=frame, font_size=FONT_SIZE)
    assert len(placed) >= 12
    boxes = [
        (one.x, one.y - 0.8 * FONT_SIZE, one.x + measure_text(one.text, FONT_SIZE), one.y + 0.2 * FONT_SIZE)
        for one in placed
    ]
    for one, other in itertools.combinations(boxes, 2):
        assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
    for (left, top, right, bottom), (x, y) in itertools.product(boxes, points):
        assert not (left < x < right and top < y < bottom)
    assert all(
        left >= 60 and top >= 20 and right <= 898 and bottom <= 460 for left, top, right, bottom in boxes
    )


def test_a_label_without_room_is_left_out() -> None:
    assert (
        place_labels(
            [("x" * 50, 10.0, 10.0)],
            points=[(10.0, 10.0)],
            lines=[],
            frame=(0.0, 0.0, 60.0, 20.0),
            font_size=12.0,
        )
        == ()
    )


@pytest.mark.parametrize(
    ("low", "high"), [(0.21, 0.29), (1.4, 160.0), (3.0, 4.0), (0.01, 90000.0), (120, 700)]
)
def test_a_log_axis_has_a_few_ticks_inside(low: float, high: float) -> None:
    ticks = compute_log_ticks(low, high)
    assert 1 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)


def test_a_runtime_has_the_same_colour_everywhere_and_the_page_and_the_file_agree() -> None:
    assert number_runtimes(["x", "openvino", "y"]) == {"x": 10, "openvino": 5, "y": 11}
    assert len(COLOURS) == len(RUNTIMES) + SPARE_COLOURS
    light = _read_template("costs.css").split("@media")[0]
    assert tuple(re.findall(r"--rt-\d+: (#\w+)", light)) == COLOURS


def test_models_keep_apart_by_shape() -> None:
    chart = build_pareto(make_profile(), LATENCY)
    assert chart is not None
    assert [shape for _, shape in chart.models] == [0, 1, 2]
    assert len({name for name, _ in SHAPES}) == len(SHAPES)


def test_figures_are_written_the_same_twice_whatever_the_names(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    profile = make_profile(("$x_{^", "line\nbreak", "שלום" * 20))
    profile["entries"][0]["runtimes"].append(
        measure("<script>", 5.0, 100.0, {**estimate(0.7, 0.02), "n": 10})
    )
    paths = write_profile_figures(profile, tmp_path)
    assert [path.name for path in paths] == ["pareto_latency.png", "pareto_memory.png"]
    first = paths[0].read_bytes()
    assert write_profile_figures(copy.deepcopy(profile), tmp_path)[0].read_bytes() == first
    assert dict(mpl.rcParams) == before
    with Image.open(paths[1]) as image:
        assert image.width == 1350
