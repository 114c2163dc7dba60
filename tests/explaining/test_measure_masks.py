"""Masks of samples: from the manifest, from a folder, through the same crop as the image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from praxiscope.data.build import build_manifest
from praxiscope.data.loader import build_sample_set
from praxiscope.data.media import decode_sample
from praxiscope.data.stage.dataset import StageSpec, write_stage_images
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.errors import DataError, UsageError
from praxiscope.explaining.measure.draw import add_masks, draw_samples
from praxiscope.explaining.measure.masks import read_mask, read_masks
from praxiscope.explaining.measure.samples import MeasuredSamples
from praxiscope.recipe.schema import DataSection

TRANSFORM = EvalTransform(spec=InputSpec(img_size=48, crop_pct=0.75, interpolation="bilinear"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    spec = StageSpec(
        size=64, actions=("jump", "sleep"), train_per_action=3, val_per_action=1, test_per_action=3
    )
    root = write_stage_images(tmp_path_factory.mktemp("stage") / "data", spec)
    return build_manifest(root, DataSection(), seed=0)


@pytest.fixture
def folder_data(tmp_path):
    """Wide pictures with a white square left of the middle, and a black one on its own."""
    for split in ("train", "val", "test"):
        for name in ("clap", "wave"):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            rng = np.random.default_rng(len(split) + len(name))
            for number in range(2):
                pixels = rng.integers(0, 60, (60, 100, 3), dtype=np.uint8)
                pixels[20:40, 30:50] = 255
                Image.fromarray(pixels).save(place / f"{number}.png")
    manifest = build_manifest(tmp_path / "data", DataSection(), seed=0)
    ids = manifest.usable("test")["sample_id"].to_pylist()
    return manifest, ids


def write_masks(root, ids, suffix):
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[20:40, 30:50] = 255
    for sample_id in ids:
        path = (root / sample_id).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(path, mask > 0)
        else:
            Image.fromarray(mask).save(path)


def test_the_stages_masks_reach_the_measures_in_the_evaluated_crop(stage):
    samples = build_sample_set(stage, "test")
    bare = draw_samples(stage, samples, TRANSFORM, split="test", count=99, seed=1)
    assert (bare.skipped, bare.samples.masks) == ((), None)
    drawn, found = add_masks(bare.samples, stage, TRANSFORM)
    assert drawn.images.shape == (6, 48, 48, 3)
    assert drawn.masks.shape == (6, 48, 48)
    assert list(drawn.masked) == list(range(6))
    assert found.source == "the manifest's mask column"
    assert found.describe() == "6 of 6 samples have a mask of the actor (the manifest's mask column)."
    rows = {row["sample_id"]: row for row in stage.table.to_pylist()}
    for place, sample_id in enumerate(drawn.sample_ids):
        image = decode_sample(stage.root, rows[sample_id]["path"])
        np.testing.assert_array_equal(drawn.images[place], TRANSFORM(image))
        whole = np.asarray(Image.open(stage.root / rows[sample_id]["mask"]))
        soft = TRANSFORM(Image.fromarray(np.repeat(whole[..., None], 3, axis=2)))[..., 0]
        assert (drawn.masks[place] == (soft > 127)).mean() > 0.98
        assert drawn.groups[place] == rows[sample_id]["group"] is not None


def test_a_draw_takes_other_samples_with_another_seed(stage):
    samples = build_sample_set(stage, "test")
    draws = {
        draw_samples(stage, samples, TRANSFORM, split="test", count=3, seed=seed).samples.sample_ids
        for seed in range(6)
    }
    assert len(draws) > 1
    assert all(len(ids) == 3 and list(ids) == sorted(ids) for ids in draws)
    with pytest.raises(UsageError, match=r"needs at least 1 sample; 0 were asked for"):
        draw_samples(stage, samples, TRANSFORM, split="test", count=0)


def test_pictures_that_cannot_be_read_are_named_and_left_out(folder_data):
    manifest, ids = folder_data
    samples, done = build_sample_set(manifest, "test"), []
    (manifest.root / ids[1]).write_bytes(b"no picture")
    drawn = draw_samples(
        manifest, samples, TRANSFORM, split="test", count=9, watch=lambda *now: done.append(now)
    )
    assert drawn.samples.sample_ids == (ids[0], *ids[2:])
    assert [name for name, _ in drawn.skipped] == [ids[1]]
    assert done[-1] == ("reading samples", 4, 4)
    with pytest.raises(DataError, match=r"None of 4 samples of test could be read, for example .*--data"):
        draw_samples(manifest, samples, TRANSFORM, split="test", count=9, max_pixels=10)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".npy", ".bmp"])
def test_a_folder_of_masks_marks_the_same_pixels_as_the_image(folder_data, tmp_path, suffix):
    manifest, ids = folder_data
    write_masks(tmp_path / "masks", ids, suffix)
    found = read_masks(manifest, ids, TRANSFORM, folder=tmp_path / "masks")
    assert found.missing == found.empty == ()
    for place, sample_id in enumerate(ids):
        seen = TRANSFORM(decode_sample(manifest.root, sample_id))[..., 1] > 128
        assert (seen == found.masks[place]).mean() > 0.99
        assert 0.05 < found.masks[place].mean() < 0.4


def test_missing_and_empty_masks_are_counted_and_named(folder_data, tmp_path):
    manifest, ids = folder_data
    write_masks(tmp_path / "masks", ids[:2], ".png")
    outside = np.zeros((60, 100), dtype=np.uint8)
    outside[:, :5] = 255  # left of the evaluated square
    Image.fromarray(outside).save(tmp_path / "masks" / ids[1])
    found = read_masks(manifest, ids, TRANSFORM, folder=tmp_path / "masks")
    assert (found.missing, found.empty) == (tuple(ids[2:]), (ids[1],))
    text = found.describe()
    assert text.startswith("1 of 4 samples have a mask")
    assert f"2 without a mask: {ids[2]}, {ids[3]}." in text
    assert f"1 with no actor inside the crop: {ids[1]}." in text


def test_without_masks_and_without_a_folder_there_is_nothing(folder_data):
    manifest, ids = folder_data
    assert read_masks(manifest, ids, TRANSFORM) is None


def test_a_wrong_folder_is_refused_by_name(folder_data, tmp_path):
    manifest, ids = folder_data
    with pytest.raises(UsageError, match=r"There is no folder of masks at .*nowhere"):
        read_masks(manifest, ids, TRANSFORM, folder=tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match=r"holds a mask of none of the samples.*test/clap/0"):
        read_masks(manifest, ids, TRANSFORM, folder=tmp_path / "other")
    with pytest.raises(UsageError, match=r"no sample 'test/clap/9.png' \(1 of those asked for\)"):
        read_masks(manifest, ["test/clap/9.png"], TRANSFORM)


def test_another_size_and_damage_are_refused(tmp_path):
    Image.new("L", (10, 20)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"is 10 x 20 \(width x height\) and its image 20 x 10"):
        read_mask(tmp_path / "mask.png", (20, 10))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(DataError, match=r"The mask .*broken.png can't be read"):
        read_mask(tmp_path / "broken.png", (20, 10))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects.npy can't be read"):
        read_mask(tmp_path / "objects.npy", (1, 1))


def test_modes_of_pictures_are_read_as_a_person_means_them(tmp_path):
    truth = np.zeros((6, 8), dtype=bool)
    truth[1:4, 2:5] = True
    pictures = {
        "grey": Image.fromarray(truth.astype(np.uint8)),
        "bits": Image.fromarray(truth),
        "deep": Image.fromarray(truth.astype(np.uint16) * 40_000),
        "colour": Image.fromarray(np.stack([truth * 0, truth * 9, truth * 0], axis=2).astype(np.uint8)),
        "clear": Image.fromarray(
            np.stack([truth * 0 + 200] * 3 + [truth * 255], axis=2).astype(np.uint8), "RGBA"
        ),
    }
    palette = Image.fromarray(truth.astype(np.uint8))
    palette.putpalette([0, 0, 0, 0, 0, 0])  # both black: the index is what counts
    pictures["palette"] = palette
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", (8, 6)), truth, err_msg=name)


def test_samples_that_do_not_pair_up_are_refused():
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    fields = {"images": images, "targets": np.zeros(2, np.int64), "sample_ids": ("a", "b")}
    with pytest.raises(UsageError, match=r"2 images, 2 targets, 2 ids, 1 groups"):
        MeasuredSamples(**fields, groups=(None,))
    with pytest.raises(UsageError, match=r"shape of the images, \(2, 4, 4\); got \(2, 5, 5\)"):
        MeasuredSamples(**fields, groups=(None, None), masks=np.zeros((2, 5, 5), bool))
