"""Optical flow: known movements, EPIC's own flow, the mirror, stored pictures, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

import praxiscope as px
from praxiscope.data.clips.flow import (
    BOUND_PX,
    FlowReader,
    FlowTransform,
    compute_flow,
    encode_flow,
    mirror_flow,
    pair_frames,
    refuse_flow,
    require_flow_settings,
)
from praxiscope.data.clips.spans import Span
from praxiscope.data.loader import SampleFailed, SampleSet
from praxiscope.data.plan import BatchPlan
from praxiscope.data.stage.dataset import StageSpec, write_stage_clips
from praxiscope.data.transforms import EvalTransform, InputSpec, TrainTransform
from praxiscope.data.video import Sampling, read_frames
from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.evaluation.inputs import build_reader
from praxiscope.models.build import build_model
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import AugmentSection, ClipSection, ModelSection
from praxiscope.tensors import Heads
from praxiscope.workflows.export import export

cv2 = pytest.importorskip("cv2", reason="flow is computed with the extra 'flow'")


def make_texture(side=96, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (side // 6, side // 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def move(picture, right, down):
    return Image.fromarray(np.roll(np.asarray(picture), (down, right), axis=(0, 1)))


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -4), (-5, 2)])
def test_a_known_movement_is_found(right, down):
    texture = make_texture()
    flow = compute_flow(texture, move(texture, right, down))[20:-20, 20:-20]
    assert np.median(flow[..., 0]) == pytest.approx(right, abs=0.2)
    assert np.median(flow[..., 1]) == pytest.approx(down, abs=0.2)


def test_large_frames_are_reduced_and_movement_with_them():
    texture = make_texture(512)
    flow = compute_flow(texture, move(texture, 8, 0))
    assert flow.shape == (256, 256, 2)
    assert np.median(flow[40:-40, 40:-40, 0]) == pytest.approx(4, abs=0.3)


def test_the_picture_of_a_movement():
    flow = np.array([[[0, 0], [BOUND_PX, 0], [-BOUND_PX, 0], [0, BOUND_PX / 2], [99, -99]]], np.float32)
    assert encode_flow(flow)[0].tolist() == [
        [128, 128, 128], [255, 128, 255], [1, 128, 255], [128, 192, 192], [255, 1, 255]
    ]  # fmt: skip


def test_the_mirror_turns_horizontal_movement_round():
    """The flow of mirrored frames, pixel by pixel, is the mirrored flow with u negated: in numbers, and computed."""
    flow = np.random.default_rng(0).uniform(-19, 19, (4, 6, 2)).astype(np.float32)
    expected = encode_flow(flow[:, ::-1] * np.array([-1, 1], np.float32))
    assert np.array_equal(mirror_flow(encode_flow(flow)[:, ::-1]), expected)
    texture = make_texture()
    before, after = texture, move(texture, 4, 1)
    turned = [Image.fromarray(np.asarray(frame)[:, ::-1]) for frame in (before, after)]
    ours = mirror_flow(encode_flow(compute_flow(before, after))[:, ::-1])[20:-20, 20:-20]
    theirs = encode_flow(compute_flow(*turned))[20:-20, 20:-20]
    assert np.abs(ours.astype(int) - theirs).mean() < 1


def test_a_training_flip_negates_u_and_an_ordinary_one_does_not():
    picture = Image.fromarray(encode_flow(np.full((32, 32, 2), 10, np.float32)))
    augment = AugmentSection(hflip=1.0, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    spec, draw = InputSpec(img_size=32), np.random.default_rng
    flow = FlowTransform(spec=spec, augment=augment)(picture, draw(0))
    colours = TrainTransform(spec=spec, augment=augment)(picture, draw(0))
    assert flow[5, 5].tolist()[:2] == [64, 192]  # 128 - 64, 128 + 64, rounded to even
    assert colours[5, 5].tolist()[:2] == [192, 192]


def test_the_last_frame_takes_the_flow_that_led_to_it():
    assert pair_frames(np.array([0, 2, 4]), 5).tolist() == [0, 2, 3]
    assert pair_frames(np.array([0]), 1).tolist() == [0]


def make_samples(root, count, path="clip"):
    return SampleSet(
        root=root, sample_ids=("clip",), paths=(path,), targets=np.zeros(1, np.int64),
        heads=Heads(names={"action": ("a",)}), spans=(Span(first=0, count=count),),
    )  # fmt: skip


def read_eval(reader):
    return reader(BatchPlan(epoch=0, rows=(0,)), [-1], 0).images[0].numpy()


def test_a_moving_clip_is_read_as_movement(tmp_path):
    (tmp_path / "clip").mkdir()
    texture = make_texture(64)
    for number in range(5):
        move(texture, 3 * number, 0).save(tmp_path / "clip" / f"{number}.png")
    recipe = load_recipe({"name": "x", "model": {"input": "flow", "num_frames": 4}})
    reader = build_reader(make_samples(tmp_path, 5), EvalTransform(spec=InputSpec(img_size=32)), recipe)
    assert isinstance(reader, FlowReader)
    clip = read_eval(reader)
    assert clip.shape == (4, 3, 32, 32)
    assert clip.dtype == np.uint8
    middle = np.median(clip[:, :, 8:-8, 8:-8], axis=(2, 3))
    np.testing.assert_allclose(middle, [[128 + 3 * 127 / 20, 128, 128 + 3 * 127 / 20]] * 4, atol=2.5)


def write_stored(root, values, clip="P01/P01_01"):
    for axis, offset in (("u", 0), ("v", 100)):
        folder = root / "flow" / clip / axis
        folder.mkdir(parents=True)
        for number, value in enumerate(values):
            Image.new("L", (16, 16), value + offset).save(folder / f"frame_{number:010d}.png")


def make_stored_reader(root, count, **section):
    return FlowReader(
        samples=make_samples(root, count, "P01/P01_01.MP4"), transform=EvalTransform(spec=InputSpec(img_size=16)),
        section=ClipSection(**section), num_frames=3, seed=0, max_pixels=10**6, stored=root / "flow",
    )  # fmt: skip


@pytest.mark.parametrize(("stride", "count", "wanted"), [(1, 5, [0, 2, 4]), (2, 9, [0, 2, 4])])
def test_stored_flow_is_read_at_its_stride(tmp_path, stride, count, wanted):
    write_stored(tmp_path, [1, 21, 41, 61, 81])
    clip = read_eval(make_stored_reader(tmp_path, count, flow_stride=stride))
    assert clip[:, 0, 8, 8].tolist() == [1 + 20 * place for place in wanted]
    assert clip[:, 1, 8, 8].tolist() == [101 + 20 * place for place in wanted]


def test_missing_stored_flow_is_named(tmp_path):
    write_stored(tmp_path, [1, 2])
    with pytest.raises(
        SampleFailed, match=r"The stored flow of 'clip' can't be read from .*u and v: holds 2 frames"
    ):
        read_eval(make_stored_reader(tmp_path, 5))


def test_the_networks_zero_is_no_movement():
    built = build_model(
        ModelSection(name="resnet18-small-half", img_size=16, num_frames=2, input="flow"),
        num_classes=2,
        seed=0,
    )
    assert [(128 / 255 - mean) / std for mean, std in zip(built.mean, built.std, strict=True)] == [0, 0, 0]
    assert InputSpec(img_size=16, mean=built.mean).fill == (128, 128, 128)


def test_a_flow_network_trains_and_is_evaluated(tmp_path):
    spec = StageSpec(
        size=24, actions=("sit_down", "stand_up"), train_per_action=2, val_per_action=1, test_per_action=2,
        num_frames=3,
    )  # fmt: skip
    root = write_stage_clips(tmp_path / "stage", spec)
    recipe = px.load_recipe(
        "demo-cnn",
        {
            "model.name": "resnet18-small-half", "model.img_size": 16, "model.num_frames": 2, "model.input": "flow",
            "train.epochs": 1, "train.batch_size": 4, "train.precision": "fp32", "train.warmup_epochs": 0,
            "loader.workers": 0, "evaluate.resamples": 100,
        },
    )  # fmt: skip
    run = px.train(recipe, data=root, output=tmp_path / "runs")
    assert px.evaluate(run).metrics["num_samples"] == 4
    with pytest.raises(UsageError, match="'praxiscope export' shows a network the frames themselves"):
        export(run, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"augment": {"policy": "randaugment"}}, "augment.policy"),
        ({"augment": {"color_jitter": 0.2}}, "augment.color_jitter"),
        ({"evaluate": {"flip": True}}, "evaluate.flip"),
        ({"data": {"pack": 64}}, "data.pack"),
    ],
)
def test_what_would_treat_movement_as_colour_is_refused(given, key):
    recipe = load_recipe({"name": "x", "model": {"input": "flow"}, **given})
    with pytest.raises(UsageError, match=f"model.input is flow, and {key} would treat movement as colour"):
        require_flow_settings(recipe, clips=True)


def test_flow_of_images_is_refused():
    with pytest.raises(UsageError, match="the samples are images, which don't move"):
        require_flow_settings(load_recipe({"name": "x", "model": {"input": "flow"}}), clips=False)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    recipe = load_recipe({"name": "x", "model": {"input": "flow"}})
    with pytest.raises(EnvironmentProblem, match=r"pip install 'praxiscope\[flow\]'"):
        require_flow_settings(recipe, clips=True)


@pytest.mark.shared
def test_it_agrees_with_the_flow_that_epic_published(shared_data):
    """The organisers' own TV-L1 flow stands beside the frames: RGB, u and v in one picture of 1368 x 256.

    The clip shows each RGB frame twice, the second time from odd numbers on, so movement begins at even ones.
    """
    video = shared_data / "epic100" / "clips" / "P01_06_92_take_sponge_rgb_u_v.mp4"
    frames = [frame.image for frame in read_frames(video, Sampling(limit=40))]
    agreed = []
    for before, after in zip(frames[8:24:4], frames[9:25:4], strict=True):
        flow = compute_flow(before.crop((0, 0, 456, 256)), after.crop((0, 0, 456, 256)))
        for axis, left in ((0, 456), (1, 912)):
            theirs = np.asarray(before.crop((left, 0, left + 456, 256)).convert("L"), np.float32) - 128
            agreed.append(np.corrcoef(flow[..., axis].ravel(), theirs.ravel())[0, 1])
    assert np.mean(agreed) > 0.75


def test_a_command_that_would_show_colours_refuses():
    recipe = load_recipe({"name": "moves", "model": {"input": "flow"}})
    with pytest.raises(
        UsageError, match="'praxiscope predict' shows a network the frames themselves, and moves"
    ):
        refuse_flow(recipe, "predict")
    refuse_flow(load_recipe({"name": "colours"}), "predict")
