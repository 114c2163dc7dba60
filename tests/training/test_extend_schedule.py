"""The learning rate over a joint: continuous, ends where it should, and a function of (step, joints) alone."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import TrainSection
from praxiscope.training.schedule import Joint, compute_lr
from praxiscope.training.state import TrainState

STEPS = 20  # of an epoch


def trace(
    plans: list[tuple[int, int]], *, steps: int = STEPS, **settings: Any
) -> tuple[list[float], list[Joint]]:
    """Return the rate of each step of a run that is laid out for other epochs as it goes.

    Args:
        plans: (from this step on, epochs in all).
        steps: of an epoch.
        **settings: of ``train``.
    """
    state = TrainState.start(2)
    found = []
    for place, (start, epochs) in enumerate(plans):
        section = TrainSection(**{**settings, "epochs": epochs})
        state.adopt_plan(section)
        stop = plans[place + 1][0] if place + 1 < len(plans) else epochs * steps
        for step in range(start, stop):
            state.lr = compute_lr(section, step=step, steps_per_epoch=steps, joints=state.joints)
            state.step, state.epoch = step + 1, (step + 1) // steps
            found.append(state.lr)
    return found, state.joints


def cosine(step: int, total: int, peak: float = 1e-4, floor: float = 1e-7) -> float:
    return floor + (peak - floor) * (1 + math.cos(math.pi * step / total)) / 2


SPORTS = {"lr": 1e-4, "min_lr": 1e-7}


def test_rejoin_rises_within_one_epoch_to_the_longer_curve_and_follows_it_to_its_end():
    found, joints = trace([(0, 50), (50 * STEPS, 100)], **SPORTS)
    assert len(found) == 100 * STEPS
    assert joints == [
        Joint(
            step=1000,
            epoch=50,
            from_epochs=50,
            to_epochs=100,
            lr=found[999],
            rule="rejoin",
            warmup_epochs=1.0,
        )
    ]
    assert found[:1000] == pytest.approx([cosine(step, 1000) for step in range(1000)])
    before = found[999]
    rise = [before + (cosine(1000 + k, 2000) - before) * (k + 1) / STEPS for k in range(STEPS)]
    assert found[1000:1020] == pytest.approx(rise)
    assert found[1020:] == pytest.approx([cosine(step, 2000) for step in range(1020, 2000)])
    assert found[-1] == pytest.approx(1e-7, rel=0.01)


def test_rejoin_never_jumps_by_more_than_a_warm_up_step():
    found, _ = trace([(0, 50), (50 * STEPS, 100)], **SPORTS)
    warm, _ = trace([(0, 50)], **SPORTS, warmup_epochs=1)
    largest_of_a_warm_up = max(b - a for a, b in pairwise(warm[:STEPS]))
    jumps = [abs(b - a) for a, b in pairwise(found)]
    assert max(jumps) <= largest_of_a_warm_up
    assert jumps[999] == pytest.approx((cosine(1000, 2000) - found[999]) / STEPS)
    assert max(jump / a for jump, a in zip(jumps, found, strict=False)) < 1e-4 / STEPS / found[999]


@pytest.mark.parametrize("epochs", [1, 0.5, 3])
def test_the_rise_takes_as_long_as_asked_for(epochs):
    found, _ = trace([(0, 4), (4 * STEPS, 8)], **SPORTS, extend_warmup_epochs=epochs)
    rise = round(epochs * STEPS)
    target = [cosine(step, 8 * STEPS) for step in range(8 * STEPS)]
    assert found[80 + rise - 1 :] == pytest.approx(target[80 + rise - 1 :])
    assert found[80 + rise - 2] < target[80 + rise - 2]


def test_a_rise_longer_than_what_is_left_still_ends_on_the_curve():
    found, _ = trace([(0, 4), (4 * STEPS, 5)], **SPORTS, extend_warmup_epochs=3)
    assert found[-1] == pytest.approx(cosine(99, 100))
    assert max(abs(b - a) for a, b in pairwise(found)) < 1e-4 / STEPS


def test_stretch_takes_the_longer_curve_at_once():
    found, _ = trace([(0, 4), (4 * STEPS, 8)], **SPORTS, extend="stretch")
    assert found[80:] == pytest.approx([cosine(step, 160) for step in range(80, 160)])
    assert found[80] > 100 * found[79], "that is the choice: a jump"


def test_hold_stays_where_it_stands():
    found, _ = trace([(0, 4), (4 * STEPS, 8)], **SPORTS, extend="hold")
    assert set(found[80:]) == {found[79]}


def test_extended_twice_and_from_the_middle():
    found, joints = trace([(0, 4), (50, 8), (160, 12)], **SPORTS)
    assert [(joint.step, joint.from_epochs, joint.to_epochs) for joint in joints] == [
        (50, 4, 8),
        (160, 8, 12),
    ]
    assert found[:50] == pytest.approx([cosine(step, 80) for step in range(50)])
    assert found[69:160] == pytest.approx([cosine(step, 160) for step in range(69, 160)])
    assert found[179:] == pytest.approx([cosine(step, 240) for step in range(179, 240)])
    assert max(abs(b - a) for a, b in pairwise(found)) < 1e-4 / STEPS


def test_a_second_joint_within_the_rise_goes_on_from_there():
    found, _ = trace([(0, 4), (80, 8), (90, 12)], **SPORTS)
    assert found[80] < found[89] < found[90] < found[109] == pytest.approx(cosine(109, 240))
    assert max(abs(b - a) for a, b in pairwise(found)) < 1e-4 / STEPS


def test_a_shorter_plan_comes_down_as_gently():
    found, _ = trace([(0, 8), (40, 4)], **SPORTS)
    assert found[40] == pytest.approx(found[39] + (cosine(40, 80) - found[39]) / STEPS)
    assert found[59:] == pytest.approx([cosine(step, 80) for step in range(59, 80)])


@pytest.mark.parametrize("rule", ["rejoin", "stretch", "hold"])
def test_a_warm_up_that_is_not_over_is_finished_first(rule):
    found, _ = trace([(0, 4), (15, 8)], **SPORTS, warmup_epochs=2, extend=rule)
    warm = [1e-4 * (0.01 + 0.99 * (step + 1) / 40) for step in range(40)]
    assert found[:40] == pytest.approx(warm)
    behind = [1e-4] * 120 if rule == "hold" else [cosine(step, 120) for step in range(120)]
    assert found[40:] == pytest.approx(behind)


@pytest.mark.parametrize("rule", ["rejoin", "stretch", "hold"])
@pytest.mark.parametrize(
    "settings",
    [{"schedule": "step", "decay_epochs": 3}, {"schedule": "constant"}, {"schedule": "plateau"}],
)
def test_schedules_without_an_end_just_go_on(settings, rule):
    found, joints = trace([(0, 4), (80, 8)], **SPORTS, **settings, extend=rule)
    whole, _ = trace([(0, 8)], **SPORTS, **settings)
    assert found == whole
    assert [joint.rule for joint in joints] == ["unaffected"]


def test_the_rate_is_a_function_of_step_and_joints_alone():
    found, joints = trace([(0, 4), (50, 8), (160, 12)], **SPORTS)
    for section in (TrainSection(epochs=12, **SPORTS), TrainSection(epochs=3, extend="hold", **SPORTS)):
        again = [compute_lr(section, step=step, steps_per_epoch=STEPS, joints=joints) for step in range(240)]
        assert again == found


def test_no_joint_where_nothing_was_trained_or_nothing_changed():
    state = TrainState.start(2)
    assert state.adopt_plan(TrainSection(epochs=4)) is None
    assert state.adopt_plan(TrainSection(epochs=8)) is None, "no step has been made"
    state.step = 5
    assert state.adopt_plan(TrainSection(epochs=8)) is None
    assert state.adopt_plan(TrainSection(epochs=9)) is not None
    assert len(state.joints) == 1
    assert TrainState.from_json(state.to_json()).joints == state.joints


def test_the_sports_recipe_is_as_published():
    recipe = load_recipe("sports-vit-b16")
    assert (recipe.train.lr, recipe.train.epochs, recipe.model.img_size) == (1e-4, 50, 224)
    # The last rate that was published is that of a cosine to 0 moved by epochs, in its 50th.
    assert 1e-4 * (1 + math.cos(math.pi * 49 / 50)) / 2 == pytest.approx(9.87e-8, rel=1e-3)
    found, _ = trace([(0, 50), (50 * STEPS, 100)], **recipe.train.model_dump(exclude={"epochs"}))
    assert found[0] == 1e-4
    assert found[999] == pytest.approx(9.87e-8, rel=0.05)
    assert found[-1] == pytest.approx(9.87e-8, rel=0.05)
