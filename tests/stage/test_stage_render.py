"""Ray casting against brute force; the camera's framing; images, masks and clips of whole scenes."""

import hashlib
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from praxiscope.data.stage.actions import ACTIONS, find_action
from praxiscope.data.stage.backgrounds import BACKGROUNDS
from praxiscope.data.stage.camera import CameraDraw, frame_camera
from praxiscope.data.stage.motions import strike_pose
from praxiscope.data.stage.performers import build_performer
from praxiscope.data.stage.raycast import BoxInView, ConeInView, EllipsoidInView, PolygonInView
from praxiscope.data.stage.scene import compose_scene, render_clip, render_image
from praxiscope.data.stage.skeleton import rotation, solve_pose

GRID = np.linspace(-0.4, 0.4, 61, dtype=np.float32)
RIGHT, UP = GRID[None, :], GRID[:, None]
ACTION_PARAMS = [pytest.param(action, id=action.name) for action in ACTIONS]


def stage_scene(action, number=0, *, seed=11, **options):
    return compose_scene(
        action, build_performer(seed, number), seed=seed, key=("t", action.name, number), **options
    )


def spheres_depth(centres, radii):
    """Nearest hit of the grid's rays with a union of spheres, in float64."""
    rays = np.stack(np.broadcast_arrays(RIGHT, UP, np.float32(1)), axis=-1).astype(np.float64)
    squared = (rays**2).sum(axis=-1)
    nearest = np.full(squared.shape, np.inf)
    for centre, radius in zip(centres, radii, strict=True):
        along = rays @ centre
        inside = along**2 - squared * (centre @ centre - radius**2)
        hit = np.where(inside > 0, (along - np.sqrt(np.maximum(inside, 0))) / squared, np.inf)
        nearest = np.minimum(nearest, hit)
    return nearest


def agree(depth, expected):
    """Same silhouette up to a few rim pixels, same depth inside."""
    hit, wanted = np.isfinite(depth), np.isfinite(expected)
    assert wanted.sum() > 50
    assert (hit != wanted).sum() <= 0.02 * wanted.sum() + 4
    both = hit & wanted
    assert np.quantile(np.abs(depth[both] - expected[both]), 0.98) < 4e-3


@pytest.mark.parametrize(
    ("start", "end", "radii"),
    [
        ((-0.4, -0.3, 2.0), (0.5, 0.4, 2.6), (0.3, 0.1)),
        ((0.0, 0.0, 1.5), (0.05, 0.0, 3.0), (0.1, 0.5)),
        ((0.2, -0.5, 2.0), (0.2, 0.5, 2.0), (0.15, 0.15)),
        ((0.0, 0.0, 3.0), (0.0, 0.0, 1.8), (0.3, 0.2)),
    ],
)
def test_rounded_cone_is_the_hull_of_its_spheres(start, end, radii):
    start, end = np.array(start), np.array(end)
    length = float(np.linalg.norm(end - start))
    cone = ConeInView(start, (end - start) / length, length, radii[0], (radii[0] - radii[1]) / length)
    share = np.linspace(0, 1, 400)
    expected = spheres_depth(start + share[:, None] * (end - start), radii[0] + share * (radii[1] - radii[0]))
    depth = cone.depth(RIGHT, UP)
    agree(depth, expected)
    rows, columns = np.nonzero(np.isfinite(depth))
    z = depth[rows, columns]
    nx, ny, nz, along = cone.surface(GRID[columns] * z, GRID[rows] * z, z)
    np.testing.assert_allclose(nx**2 + ny**2 + nz**2, 1, atol=2e-2)
    assert (along >= 0).all()
    assert (along <= length + 1e-5).all()
    assert (GRID[columns] * nx + GRID[rows] * ny + nz).max() < 0.05  # normals face the camera


def test_ellipsoid_with_equal_radii_is_a_sphere_and_else_fulfils_its_equation():
    centre = np.array([0.1, -0.1, 2.5])
    agree(EllipsoidInView(centre, np.eye(3) / 0.6, 0.6).depth(RIGHT, UP), spheres_depth([centre], [0.6]))
    turn = rotation(0.4, 0.7, -0.3)
    unit = turn.T / np.array([0.7, 0.3, 0.2])[:, None]
    depth = EllipsoidInView(centre, unit, 0.3).depth(RIGHT, UP)
    rows, columns = np.nonzero(np.isfinite(depth))
    z = depth[rows, columns].astype(np.float64)
    points = np.stack([GRID[columns] * z, GRID[rows] * z, z], axis=-1)
    np.testing.assert_allclose(np.linalg.norm((points - centre) @ unit.T, axis=-1), 1, atol=1e-3)


def test_box_equals_its_six_faces():
    centre, turn, half = np.array([0.1, 0.05, 2.4]), rotation(0.5, 0.6, 0.2), np.array([0.5, 0.3, 0.2])
    expected = np.full((61, 61), np.inf)
    for axis in range(3):
        u, v = turn[:, (axis + 1) % 3] * half[(axis + 1) % 3], turn[:, (axis + 2) % 3] * half[(axis + 2) % 3]
        for sign in (-1, 1):
            middle = centre + sign * turn[:, axis] * half[axis]
            face = PolygonInView(np.stack([middle + u + v, middle + u - v, middle - u - v, middle - u + v]))
            expected = np.minimum(expected, face.depth(RIGHT, UP))
    agree(BoxInView(centre, turn, half).depth(RIGHT, UP), expected)


def test_camera_frames_what_it_must_see():
    rng = np.random.default_rng(5)
    for _ in range(40):
        draw = CameraDraw(
            azimuth=rng.uniform(0, 360),
            elevation=rng.uniform(-5, 45),
            field_of_view=rng.uniform(20, 50),
            roll=rng.normal(0, 2),
            fill=rng.uniform(0.7, 0.95),
            shift=tuple(rng.uniform(-1, 1, 2)),
        )
        points = rng.normal((0, 1, 0), 0.5, (12, 3))
        camera = frame_camera(draw, points, np.zeros(12))
        seen = camera.project(points)
        assert seen.min() > 0
        assert seen.max() < 1
        assert np.ptp(seen, axis=0).max() == pytest.approx(draw.fill, rel=0.02)


def test_pixel_rays_and_projection_are_inverse():
    draw = CameraDraw(azimuth=30, elevation=10, field_of_view=35, roll=2, fill=0.8, shift=(0.3, -0.2))
    points = np.random.default_rng(0).normal(0, 0.4, (10, 3))
    camera = frame_camera(draw, points, np.full(10, 0.1))
    right, up = camera.pixel_rays(50)
    world = camera.position + 3.0 * (camera.turn.T @ (right[17], up[31], 1.0))
    np.testing.assert_allclose(camera.project(world) * 50, (17.5, 31.5), atol=1e-4)


@pytest.mark.parametrize("action", ACTION_PARAMS)
def test_actor_is_in_the_picture_and_the_mask_is_the_actor(action):
    for number in range(3):
        scene = stage_scene(action, number)
        shot, empty = render_image(scene), render_image(scene, actor=False)
        assert shot.image.shape == (96, 96, 3)
        assert shot.image.dtype == shot.mask.dtype == np.uint8
        assert set(np.unique(shot.mask)) == {0, 255}
        assert not empty.mask.any()
        cover = shot.mask > 0
        assert 0.04 < cover.mean() < 0.6
        change = shot.image.astype(int) - empty.image
        assert (np.abs(change).max(axis=-1)[cover] > 3).mean() > 0.9
        # Away from the actor nothing may change but the floor, which the actor's shadow darkens.
        assert change[~binary_dilation(cover, iterations=2)].max() <= 1


@pytest.mark.parametrize("action", ACTION_PARAMS)
def test_upper_body_lies_within_the_frame(action):
    from praxiscope.data.stage.scene import _perform, _what_must_be_seen

    for number in range(4):
        scene = stage_scene(action, number, num_frames=5)
        camera = frame_camera(scene.camera, *_what_must_be_seen(scene, _perform(scene)))
        for phase in scene.phases:
            figure = solve_pose(scene.performer.body, strike_pose(action.motion, phase, scene.style))
            joints = [
                figure.head[None],
                figure.neck[None],
                figure.shoulders,
                figure.elbows,
                figure.hands,
                figure.hips,
            ]
            if not scene.close:
                joints += [figure.knees, figure.ankles, figure.toes]
            seen = camera.project(np.concatenate(joints))
            assert seen.min() > 0
            assert seen.max() < 1


@pytest.mark.parametrize("action", ACTION_PARAMS)
def test_clips_move_and_stills_come_from_telling_phases(action):
    clip = render_clip(stage_scene(action, num_frames=8), size=48)
    assert clip.frames.shape == (8, 48, 48, 3)
    assert clip.masks.shape == (8, 48, 48)
    assert clip.fps == Fraction(8) / Fraction(action.seconds).limit_denominator(100)
    assert all((mask > 0).mean() > 0.02 for mask in clip.masks)
    if action.name != "sleep":
        assert (clip.frames[0] != clip.frames[1]).any()
    for number in range(20):
        (phase,) = stage_scene(action, number).phases
        assert action.show[0] <= phase <= action.show[1]


@pytest.mark.parametrize(("forward", "backward"), [("sit_down", "stand_up"), ("pick_up", "put_down")])
def test_a_reversed_clip_is_the_clip_backwards_to_the_last_bit(forward, backward):
    scenes = [
        compose_scene(find_action(name), build_performer(0, 1), seed=0, key=("twin",), num_frames=5)
        for name in (forward, backward)
    ]
    ahead, back = (render_clip(scene, size=48) for scene in scenes)
    assert (ahead.frames == back.frames[::-1]).all()
    assert (ahead.masks == back.masks[::-1]).all()
    assert (ahead.frames != back.frames).any()


def test_a_clips_frame_equals_the_single_image_of_it():
    scene = stage_scene(find_action("kick"), num_frames=4)
    clip = render_clip(scene)
    shot = render_image(scene, frame=2)
    assert (clip.frames[2] == shot.image).all()
    assert (clip.masks[2] == shot.mask).all()


@pytest.mark.parametrize("background", [pytest.param(b, id=b.name) for b in BACKGROUNDS])
def test_every_background_is_painted(background):
    image = render_image(stage_scene(find_action("wave"), background=background), actor=False).image
    assert image.std() > 3
    assert 25 < image.mean() < 245


def test_size_scales_the_same_picture():
    scene = stage_scene(find_action("sweep"))
    small, large = render_image(scene, size=48), render_image(scene, size=96)
    shrunk = large.image.reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small.image).mean() < 12
    assert ((large.mask[::2, ::2] > 0) != (small.mask > 0)).mean() < 0.03


def digest_of_a_few_images():
    digest = hashlib.sha256()
    for action in ACTIONS[::4]:
        digest.update(render_image(stage_scene(action)).image.tobytes())
    return digest.hexdigest()


def test_same_bytes_in_another_process_and_no_global_random_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    here = digest_of_a_few_images()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    code = "import test_stage_render as t; print(t.digest_of_a_few_images())"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    there = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here
    assert digest_of_a_few_images() == here


def test_other_seeds_and_keys_give_other_pictures():
    action = find_action("wave")
    performer = build_performer(0, 0)
    pictures = {
        render_image(compose_scene(action, performer, seed=seed, key=("t", index)), size=32).image.tobytes()
        for seed in (0, 1)
        for index in range(3)
    }
    assert len(pictures) == 6


def test_rendering_is_fast_enough():
    scenes = [stage_scene(action) for action in ACTIONS]
    render_image(scenes[0])
    start = time.process_time()
    for scene in scenes:
        render_image(scene)
    # Measured 15 to 30 ms; the bound leaves room for a busy machine.
    assert (time.process_time() - start) / len(scenes) < 0.2
