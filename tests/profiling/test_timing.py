"""Measuring time: a known sleep, alternation, a clock by hand."""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest
from torch import nn

from praxiscope.profiling.runtimes.torch_session import TorchSession
from praxiscope.profiling.timing import has_enough, time_rounds


class Sleeping(nn.Module):
    """Takes 20 ms, whatever comes in, and notes how late a busy machine woke it."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def forward(self, images):
        start = time.perf_counter()
        time.sleep(0.02)
        self.slept.append(time.perf_counter() - start)
        return images.mean((2, 3))


def test_a_module_that_sleeps_20_ms_measures_20_ms():
    module = Sleeping()
    session = TorchSession(module)
    image = np.zeros((1, 3, 8, 8), np.float32)
    timings = time_rounds({"sleeping": functools.partial(session, image)}, seconds=0.8)
    measured = 1000 * timings.seconds("sleeping")
    assert float(measured.min()) == pytest.approx(20, rel=0.02)
    assert float(np.median(measured)) == pytest.approx(1000 * float(np.median(module.slept)), rel=0.02)


class HandClock:
    """A clock that only the work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_contestants_take_turns_and_begin_in_turn():
    clock, order = HandClock(), []

    def work(name: str, seconds: float) -> None:
        order.append(name)
        clock.now += seconds

    contestants = {"a": functools.partial(work, "a", 1.0), "b": functools.partial(work, "b", 0.5)}
    timings = time_rounds(contestants, seconds=0, min_rounds=4, clock=clock)
    # Two calls each to find the pace, then a call that isn't counted before each timed one.
    assert "".join(order) == "aabb" + "aabb" + "bbaa" + "aabb" + "bbaa"
    assert timings.seconds("a").tolist() == [1.0] * 4
    assert timings.round_medians("b").tolist() == [0.5] * 4
    assert timings.speedup("b", "a").value == 2.0
    assert np.isnan(timings.speedup("b", "a").low)


def test_rounds_go_on_until_the_time_is_used_up():
    clock = HandClock()

    def work() -> None:
        clock.now += 0.01

    timings = time_rounds({"a": work}, seconds=1.0, clock=clock)
    assert len(timings.rounds["a"]) == 17  # a round is a warm-up and five timed calls
    assert timings.seconds("a") == pytest.approx(0.01)


def test_what_a_p99_needs():
    assert not has_enough(367, "p99")
    assert has_enough(368, "p99")
