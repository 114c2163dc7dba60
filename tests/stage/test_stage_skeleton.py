"""The skeleton keeps its bones, the motions stay in reach, reversed twins are exact."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from praxiscope.data.stage.actions import ACTIONS, CLIP_ACTIONS, IMAGE_ACTIONS, clip_phases, find_action
from praxiscope.data.stage.motions import Style, draw_style, strike_pose
from praxiscope.data.stage.performers import build_performer
from praxiscope.data.stage.seeding import rng_for
from praxiscope.data.stage.skeleton import bend_limb, rotation, solve_pose
from praxiscope.errors import UsageError

BODY = build_performer(0, 0).body
ACTION_PARAMS = [pytest.param(action, id=action.name) for action in ACTIONS]


def figures(action, styles=4, phases=9):
    for k in range(styles):
        style = draw_style(rng_for(k, "test"))
        for phase in np.linspace(0, 1, phases):
            yield style, phase, solve_pose(BODY, strike_pose(action.motion, float(phase), style))


def test_rotation_agrees_with_scipy():
    for pitch, yaw, roll in np.random.default_rng(0).uniform(-3, 3, (20, 3)):
        expected = Rotation.from_euler("YXZ", [yaw, pitch, roll]).as_matrix()
        np.testing.assert_allclose(rotation(pitch, yaw, roll), expected, atol=1e-12)


def test_limb_keeps_its_lengths_and_reaches_what_it_can():
    rng = np.random.default_rng(1)
    for _ in range(200):
        start, target, pole = rng.normal(0, 0.4, (3, 3))
        middle, end = bend_limb(start, target, (0.33, 0.27), pole)
        assert np.linalg.norm(middle - start) == pytest.approx(0.33)
        assert np.linalg.norm(end - middle) == pytest.approx(0.27)
        distance = np.linalg.norm(target - start)
        if 0.07 < distance < 0.59:
            np.testing.assert_allclose(end, target, atol=1e-9)


def test_limb_survives_a_target_at_its_root_and_a_pole_along_it():
    start = np.array([0.1, 0.2, 0.3])
    for target, pole in (
        (start, np.array([0.0, 0.0, 1.0])),
        (start - np.array([0.0, 0.4, 0.0]), np.array([0.0, 1.0, 0.0])),
    ):
        middle, end = bend_limb(start, target, (0.3, 0.3), pole)
        assert np.isfinite([middle, end]).all()
        assert np.linalg.norm(end - middle) == pytest.approx(0.3)


@pytest.mark.parametrize("action", ACTION_PARAMS)
def test_every_motion_keeps_bone_lengths(action):
    for _, phase, figure in figures(action):
        for side in (0, 1):
            bones = {
                "upper_arm": figure.elbows[side] - figure.shoulders[side],
                "forearm": figure.hands[side] - figure.elbows[side],
                "thigh": figure.knees[side] - figure.hips[side],
                "shin": figure.ankles[side] - figure.knees[side],
                "foot": figure.toes[side] - figure.ankles[side],
            }
            for name, bone in bones.items():
                assert np.linalg.norm(bone) == pytest.approx(getattr(BODY, name), rel=1e-6), (phase, name)


@pytest.mark.parametrize("action", ACTION_PARAMS)
def test_no_motion_sinks_into_the_floor(action):
    for _, phase, figure in figures(action):
        assert figure.joints()[:, 1].min() > -0.03, phase


@pytest.mark.parametrize("action", ACTION_PARAMS)
def test_motions_are_continuous(action):
    style = draw_style(rng_for(3, "test"))
    joints = [
        solve_pose(BODY, strike_pose(action.motion, t, style)).joints()
        for t in np.linspace(0, 1, 121).tolist()
    ]
    # 120 steps of about 2 s: nothing may move faster than 15 m/s, or it has jumped.
    assert np.abs(np.diff(joints, axis=0)).max() < 0.25


@pytest.mark.parametrize("action", ACTION_PARAMS)
def test_left_handed_performance_is_the_mirror_image(action):
    for phase in (0.1, 0.37, 0.8):
        right = solve_pose(BODY, strike_pose(action.motion, phase, Style(choice=0.3)))
        left = solve_pose(BODY, strike_pose(action.motion, phase, Style(choice=0.3, mirrored=True)))
        np.testing.assert_allclose(left.hands[::-1] * (-1, 1, 1), right.hands, atol=1e-9)
        np.testing.assert_allclose(left.toes[::-1] * (-1, 1, 1), right.toes, atol=1e-9)


@pytest.mark.parametrize(("forward", "backward"), [("sit_down", "stand_up"), ("pick_up", "put_down")])
def test_reversed_twins_are_exact_reversals(forward, backward):
    one, other = find_action(forward), find_action(backward)
    assert other.reverses == forward
    style = draw_style(rng_for(7, "test"))
    for num_frames in (2, 7, 16):
        ahead = [strike_pose(one.motion, t, style) for t in clip_phases(one, num_frames)]
        back = [strike_pose(other.motion, t, style) for t in clip_phases(other, num_frames)]
        assert ahead == back[::-1]


def test_catalogue_is_what_the_documentation_says():
    assert len(CLIP_ACTIONS) == 18
    assert len(IMAGE_ACTIONS) == 16
    assert set(CLIP_ACTIONS) - set(IMAGE_ACTIONS) == {"stand_up", "put_down"}
    assert list(CLIP_ACTIONS) == sorted(CLIP_ACTIONS)
    held = {noun for action in ACTIONS if not action.furniture for noun in action.nouns} - {"nothing"}
    assert held == {"ball", "book", "box", "broom", "cup", "phone", "umbrella"}
    for action in ACTIONS:
        assert 0 <= action.show[0] < action.show[1] <= 1
        assert (action.carry is None) == (action.nouns == ("nothing",))


def test_unknown_action_names_the_nearest_and_the_choices():
    with pytest.raises(UsageError, match=r"'wawe'\. Did you mean 'wave'\? Choose from: clap, drink"):
        find_action("wawe")


def test_performers_differ_and_repeat():
    company = [build_performer(3, number) for number in range(20)]
    assert len({performer.body for performer in company}) == 20
    assert len({performer.skin for performer in company}) > 3
    build_performer.cache_clear()
    assert [build_performer(3, number) for number in range(20)] == company
    assert build_performer(4, 0) != company[0]
