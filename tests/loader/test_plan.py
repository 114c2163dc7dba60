"""Repeated augmentation and balanced sampling: how often each sample comes, where, and from which seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from praxiscope.data.plan import plan_training_epoch

LABELS = np.repeat(np.arange(4), (3, 50, 10, 0 + 7))


def flatten(plans):
    return [row for plan in plans for row in plan.rows]


def test_one_repeat_is_the_plan_that_it_always_was():
    """Runs of earlier versions go on: the order is this one, to the sample."""
    rows = flatten(plan_training_epoch(10, 4, seed=3, epoch=2))
    assert rows == np.random.default_rng([3, 2, 1]).permutation(10).tolist()
    assert all(plan.draws == () for plan in plan_training_epoch(10, 4, seed=3, epoch=2))


@pytest.mark.parametrize(
    ("count", "size", "repeats"), [(36, 12, 3), (36, 12, 2), (37, 12, 3), (100, 32, 3), (7, 4, 4), (2, 8, 4)]
)
def test_repeats_stand_side_by_side_in_one_batch(count, size, repeats):
    plans = plan_training_epoch(count, size, seed=1, epoch=0, repeats=repeats)
    rows = flatten(plans)
    assert len(rows) == count  # an epoch has as many samples as ever
    whole = size // repeats * repeats
    assert all(len(plan.rows) == whole for plan in plans[:-1])
    counts = Counter(rows)
    assert len(counts) == -(-count // repeats)
    assert sorted(counts.values())[1:] == [repeats] * (len(counts) - 1)  # the last group may be cut
    for plan in plans:
        for place in range(0, len(plan.rows) // repeats * repeats, repeats):
            assert len(set(plan.rows[place : place + repeats])) == 1
            assert plan.draws[place : place + repeats] == tuple(range(repeats))


def test_repeats_see_other_samples_in_other_epochs():
    seen = [set(flatten(plan_training_epoch(90, 30, seed=0, epoch=epoch, repeats=3))) for epoch in range(12)]
    assert all(len(each) == 30 for each in seen)
    assert len(set.union(*seen)) > 85


@pytest.mark.parametrize("repeats", [1, 2])
def test_balanced_epochs_show_each_class_equally_often(repeats):
    for epoch in range(5):
        plans = plan_training_epoch(70, 16, seed=0, epoch=epoch, repeats=repeats, labels=LABELS)
        rows = flatten(plans)
        assert len(rows) == 70
        by_class = Counter(LABELS[rows].tolist())
        assert max(by_class.values()) - min(by_class.values()) <= repeats
        assert by_class.keys() == {0, 1, 2, 3}
        if repeats == 1:
            for label in range(4):
                times = Counter(row for row in rows if LABELS[row] == label)
                if len(times) == np.count_nonzero(label == LABELS):
                    assert max(times.values()) - min(times.values()) <= 1  # exhausted before any comes again
                else:
                    assert max(times.values()) == 1


def test_which_class_gets_one_more_changes_with_the_epoch():
    more = set()
    for epoch in range(12):
        rows = flatten(plan_training_epoch(70, 70, seed=0, epoch=epoch, labels=LABELS))
        counts = Counter(LABELS[rows].tolist())
        more.add(frozenset(label for label in counts if counts[label] == 18))
    assert len(more) > 2


@pytest.mark.parametrize(("repeats", "labels"), [(3, None), (1, LABELS), (2, LABELS)])
def test_no_row_has_the_same_draw_twice_in_an_epoch(repeats, labels):
    plans = plan_training_epoch(70, 16, seed=0, epoch=1, repeats=repeats, labels=labels)
    places = [place for plan in plans for place in plan.places]
    assert len(set(places)) == len(places)
    for row in set(flatten(plans)):
        draws = sorted(draw for each, draw in places if each == row)
        assert draws == list(range(len(draws)))  # from 0, which is the draw that there was before


def test_plans_are_functions_of_seed_and_epoch():
    def plan(seed, epoch):
        return plan_training_epoch(70, 16, seed=seed, epoch=epoch, repeats=2, labels=LABELS)

    assert plan(0, 0) == plan(0, 0)
    assert len({tuple(flatten(plan(seed, epoch))) for seed in range(3) for epoch in range(4)}) == 12


def test_rows_of_repeats_are_plain_numbers():
    plan = plan_training_epoch(70, 16, seed=0, epoch=0, repeats=2, labels=LABELS)[0]
    assert all(type(number) is int for number in plan.rows + plan.draws)
