"""Clips through the same loop, table and report as images; and heads side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import praxiscope as px
from praxiscope.data.build import build_manifest
from praxiscope.data.clips.reader import ClipReader
from praxiscope.data.loader import build_sample_set
from praxiscope.data.plan import BatchPlan
from praxiscope.data.stage.dataset import StageSpec, write_stage_clips
from praxiscope.data.transforms import InputSpec, TrainTransform
from praxiscope.errors import UsageError
from praxiscope.models.build import build_model
from praxiscope.recipe.schema import AugmentSection, ClipSection, DataSection, ModelSection, TrainSection
from praxiscope.tensors import Heads
from praxiscope.training.losses import build_loss, combine_losses

T = 4


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    spec = StageSpec(
        size=24,
        actions=("sit_down", "stand_up"),
        train_per_action=6,
        val_per_action=3,
        test_per_action=3,
        num_frames=6,
    )
    return write_stage_clips(tmp_path_factory.mktemp("clips") / "stage", spec)


def recipe(**changes):
    small = {
        "model.name": "resnet18-small-half", "model.img_size": 16, "model.num_frames": T, "train.epochs": 2,
        "train.batch_size": 4, "evaluate.resamples": 100, "train.precision": "fp32", "loader.workers": 0,
    }  # fmt: skip
    return px.load_recipe("demo-cnn", {**small, **changes})


@pytest.mark.parametrize("temporal", ["mean", "gru", "transformer"])
def test_a_clip_model_trains_and_is_evaluated(stage, tmp_path, temporal):
    run = px.train(recipe(**{"model.temporal": temporal}), data=stage, output=tmp_path)
    result = px.evaluate(run)
    assert result.metrics["num_samples"] == 6
    assert result.predictions.logits().shape == (6, 2)


@pytest.mark.parametrize(
    ("kind", "blind"), [("mean", True), ("max", True), ("gru", False), ("attention", False)]
)
def test_only_some_ways_to_join_frames_see_their_order(kind, blind):
    section = ModelSection(name="resnet18-small-half", img_size=16, num_frames=T, temporal=kind)
    module = build_model(section, num_classes=3, seed=0).module.eval()
    clips = torch.rand(2, T, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        change = (module(clips) - module(clips.flip(1))).abs().max()
    assert (change < 1e-5) == blind


def test_all_frames_of_a_clip_have_one_draw(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    for action in ("sit", "stand"):
        for split in ("train", "val", "test"):
            folder = tmp_path / split / action
            folder.mkdir(parents=True)
            (folder / "still.avi").touch()
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(T):
        Image.fromarray(pixels).save(frames / f"{number}.png")
    spec = InputSpec(img_size=16)
    augment = AugmentSection(policy="randaugment", color_jitter=0.4, random_erasing=1.0)
    from praxiscope.data.clips.spans import Span
    from praxiscope.data.loader import SampleSet

    samples = SampleSet(
        root=tmp_path, sample_ids=("still",), paths=("frames",), targets=np.zeros(1, np.int64),
        heads=Heads(names={"action": ("a",)}), spans=(Span(first=0, count=T),),
    )  # fmt: skip
    reader = ClipReader(
        samples=samples, transform=TrainTransform(spec=spec, augment=augment), section=ClipSection(),
        num_frames=T, seed=0, max_pixels=10**6,
    )  # fmt: skip
    clips = [reader(BatchPlan(epoch=epoch, rows=(0,)), [-1], 0).images[0] for epoch in range(6)]
    assert all((clip == clip[0]).all() for clip in clips)
    assert not all((clip == clips[0]).all() for clip in clips[1:])


def test_images_with_frames_asked_for_are_refused(tmp_path):
    from praxiscope.data.stage.dataset import write_stage_images

    root = write_stage_images(
        tmp_path / "s",
        StageSpec(size=24, actions=("clap", "wave"), train_per_action=4, val_per_action=2, test_per_action=2),
    )
    with pytest.raises(UsageError, match=r"num_frames is 4, but .* holds images"):
        px.train(recipe(), data=root, output=tmp_path)


def test_the_loss_of_two_heads_is_their_weighted_sum():
    heads = Heads(names={"verb": ("a", "b", "c"), "noun": ("x", "y")})
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 5, generator=generator)
    targets = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0], [2, 1]])
    single = [build_loss(TrainSection(), np.array([2, 1, 2])), build_loss(TrainSection(), np.array([2, 3]))]
    loss = combine_losses(single, heads, [1.0, 0.5])
    cross = torch.nn.functional.cross_entropy
    expected = cross(logits[:, :3], targets[:, 0], reduction="sum") + 0.5 * cross(
        logits[:, 3:], targets[:, 1], reduction="sum"
    )
    torch.testing.assert_close(loss(logits, targets), expected)


def test_a_table_with_two_labels_trains_two_heads(stage, tmp_path):
    rows = ["path,split,verb,noun"]
    from praxiscope.data.stage.dataset import write_stage_images

    root = write_stage_images(
        tmp_path / "two",
        StageSpec(size=24, actions=("clap", "wave"), train_per_action=6, val_per_action=4, test_per_action=4),
    )
    images = sorted(path.relative_to(root).as_posix() for path in root.glob("t*/*/*.jpg")) + sorted(
        path.relative_to(root).as_posix() for path in root.glob("val/*/*.jpg")
    )
    rows += [
        f"{name},{name.split('/')[0]},{name.split('/')[1]},{'left' if place % 2 else 'right'}"
        for place, name in enumerate(images)
    ]
    (root / "two.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    heads = {"data.source": "csv", "data.csv": "two.csv", "data.heads": {"verb": "verb", "noun": "noun"}}
    asked = recipe(**heads, **{"model.num_frames": None, "train.monitor": "val/verb_top1"})
    manifest = build_manifest(root, DataSection(**{key[5:]: value for key, value in heads.items()}), seed=0)
    assert list(manifest.heads) == ["verb", "noun"]
    assert build_sample_set(manifest, "train").targets.shape == (12, 2)
    run = px.train(asked, data=root, output=tmp_path)
    row = run.read_metrics()[-1]
    assert {"train/verb_top1", "val/noun_top1", "val/top1", "val/top5"} <= row.keys()
    assert row["val/top1"] <= min(row["val/verb_top1"], row["val/noun_top1"])


def test_a_monitor_that_these_heads_lack_is_refused(stage, tmp_path):
    with pytest.raises(UsageError, match="of the heads action there are val/loss"):
        px.train(recipe(**{"train.monitor": "val/verb_top1"}), data=stage, output=tmp_path)
