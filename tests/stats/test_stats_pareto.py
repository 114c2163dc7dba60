"""The Pareto front, against comparing every pair."""

from __future__ import annotations

import numpy as np
import pytest

from praxiscope.stats.pareto import find_pareto


def is_beaten(index: int, costs: np.ndarray, scores: np.ndarray) -> bool:
    """Compare one choice with every other, by hand."""
    for other in range(len(scores)):
        no_worse = all(costs[other] <= costs[index]) and scores[other] >= scores[index]
        better = any(costs[other] < costs[index]) or scores[other] > scores[index]
        if no_worse and better:
            return True
    return False


@pytest.mark.parametrize("width", [1, 2])
def test_the_front_is_what_nothing_beats(width):
    rng = np.random.default_rng(width)
    for _ in range(50):
        costs, scores = rng.integers(0, 6, (20, width)).astype(float), rng.integers(0, 6, 20) / 6
        found = find_pareto(costs, scores)
        assert found.tolist() == [not is_beaten(index, costs, scores) for index in range(20)]


def test_equals_are_both_on_the_front_and_unknown_ones_never():
    assert find_pareto([1.0, 1.0, np.nan], [0.5, 0.5, 0.9]).tolist() == [True, True, False]


def test_lengths_must_pair_up():
    with pytest.raises(ValueError, match="2 costs and 1 scores"):
        find_pareto([1.0, 2.0], [0.5])
