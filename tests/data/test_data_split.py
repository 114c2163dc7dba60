from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from praxiscope.data.split import cut_split

THIRDS = {"train": 0.8, "val": 0.1, "test": 0.1}


def table(labels: list[str], parts: list[str]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for label, part in zip(labels, parts, strict=True):
        counts.setdefault(label, Counter())[part] += 1
    return counts


def test_counts_are_exact_where_each_sample_is_its_own_group() -> None:
    labels = ["run"] * 200 + ["sit"] * 100 + ["eat"] * 30
    counts = table(labels, cut_split(labels, range(330), THIRDS, seed=3))
    assert counts["run"] == {"train": 160, "val": 20, "test": 20}
    assert counts["sit"] == {"train": 80, "val": 10, "test": 10}
    assert counts["eat"] == {"train": 24, "val": 3, "test": 3}


def test_small_classes_reach_every_part() -> None:
    labels = [str(n % 100) for n in range(500)]
    counts = table(labels, cut_split(labels, range(500), THIRDS, seed=0))
    assert all(count == {"train": 3, "val": 1, "test": 1} for count in counts.values())


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_never_torn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 25, 400).tolist()
    labels = [str(n) for n in rng.integers(0, 6, 400)]
    parts = cut_split(labels, groups, THIRDS, seed=seed)
    places: dict[int, set[str]] = {}
    for group, part in zip(groups, parts, strict=True):
        places.setdefault(group, set()).add(part)
    assert all(len(found) == 1 for found in places.values())
    assert 0.7 <= parts.count("train") / 400 <= 0.87
    assert set(parts) == {"train", "val", "test"}


def test_the_seed_decides_and_nothing_else() -> None:
    labels = ["a", "b"] * 60
    first = cut_split(labels, range(120), THIRDS, seed=1)
    assert cut_split(labels, range(120), THIRDS, seed=1) == first
    assert cut_split(labels, range(120), THIRDS, seed=2) != first


def test_every_sample_has_the_same_chance() -> None:
    drawn = np.zeros(50)
    for seed in range(400):
        drawn += [
            part == "val" for part in cut_split(["a"] * 50, range(50), {"train": 0.8, "val": 0.2}, seed=seed)
        ]
    # Binomial(400, 0.2): mean 80, standard deviation 8; 50 draws lie within 4 of them.
    assert np.abs(drawn - 80).max() < 32


@pytest.mark.parametrize("num_groups", [3, 4, 5])
def test_few_large_groups_leave_no_part_empty(num_groups: int) -> None:
    groups = [n % num_groups for n in range(60)]
    parts = cut_split([str(n % 4) for n in range(60)], groups, THIRDS, seed=0)
    assert set(parts) == {"train", "val", "test"}


def test_one_group_stays_in_train() -> None:
    assert cut_split(["a"] * 9, [0] * 9, {"train": 0.5, "val": 0.5}, seed=0) == ["train"] * 9
