"""The fast resampler beside Pillow's and torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
from packed_data import draw
from PIL import Image

from praxiscope.data.resample import mirror, resize_crop, resize_region
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.stats.psnr import compute_psnr

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("mode", FILTERS)
@pytest.mark.parametrize(("size", "short"), [(32, 36), (64, 73), (56, 56), (224, 256), (96, 96)])
def test_regions_are_pillows_to_within_rounding(mode, size, short):
    """Also where the crop is nearly the image, where nothing changes in size, where it shrinks or grows."""
    rng = np.random.default_rng(size)
    for seed in range(25):
        width, height = (int(each) for each in rng.integers(24, 330, 2))
        picture = draw(seed, (width, height))
        side = min(width, height) * size / short
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        expected = np.asarray(picture.resize((size, size), FILTERS[mode], box=box))
        found = resize_region(np.asarray(picture), box, size, mode)
        assert found.shape == (size, size, 3)
        assert found.flags.c_contiguous
        assert compute_psnr(found, expected) > 42, (width, height)


@pytest.mark.parametrize("mode", FILTERS)
def test_any_region_has_the_right_shape_and_place(mode):
    rng = np.random.default_rng(1)
    for seed in range(150):
        width, height = (int(each) for each in rng.integers(16, 90, 2))
        picture = draw(seed, (width, height))
        side = rng.uniform(0.5, 1.0) * min(width, height)
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        box = (left, top, left + side, top + side)
        expected = np.asarray(picture.resize((40, 40), FILTERS[mode], box=box))
        found = resize_region(np.asarray(picture), box, 40, mode)
        assert compute_psnr(found, expected) > 36, (width, height, box)


def test_a_region_of_whole_pixels_at_scale_one_is_a_copy():
    pixels = np.asarray(draw(0, (90, 64)))
    found = resize_region(pixels, (17, 4, 73, 60), 56, "bicubic")
    np.testing.assert_array_equal(found, pixels[4:60, 17:73])
    found[:] = 0  # not the user's pixels
    assert pixels.any()


def test_a_crop_of_the_whole_image_can_be_painted_on():
    """The pixels of a pack are a read-only view of its file; random erasing paints on what comes out."""
    pixels = np.asarray(draw(0, (48, 48)))
    pixels.flags.writeable = False
    for found in (
        resize_crop(pixels, (0, 0, 48, 48), 48, "bicubic"),
        resize_region(pixels, (0, 0, 48, 48), 48, "bicubic"),
    ):
        np.testing.assert_array_equal(found, pixels)
        found[:] = 0
    assert pixels.any()


@pytest.mark.parametrize("mode", FILTERS)
def test_crops_are_pillows_of_the_cut_image(mode):
    """torchvision's RandomResizedCrop: crop, then resize."""
    rng = np.random.default_rng(2)
    for seed in range(40):
        picture = draw(seed, (130, 100))
        width, height = int(rng.integers(1, 131)), int(rng.integers(1, 101))
        left, top = int(rng.integers(0, 131 - width)), int(rng.integers(0, 101 - height))
        box = (left, top, left + width, top + height)
        expected = np.asarray(picture.crop(box).resize((48, 48), FILTERS[mode]), np.int16)
        found = resize_crop(np.asarray(picture), box, 48, mode)
        assert np.abs(found - expected).max() <= 2
        assert (found != expected).mean() < 0.05


def test_a_crop_of_the_right_size_is_a_copy():
    pixels = np.asarray(draw(0, (90, 64)))
    np.testing.assert_array_equal(resize_crop(pixels, (10, 5, 50, 45), 40, "bilinear"), pixels[5:45, 10:50])


def test_mirror_turns_left_to_right():
    pixels = np.asarray(draw(0, (33, 20)))
    np.testing.assert_array_equal(mirror(pixels), pixels[:, ::-1])
    assert mirror(pixels).flags.c_contiguous


def test_read_only_pixels_are_taken_without_a_warning():
    pixels = np.asarray(draw(0, (90, 64)))
    assert not pixels.flags.writeable
    transform = EvalTransform(spec=InputSpec(img_size=50))
    assert compute_psnr(transform(pixels), transform(Image.fromarray(pixels))) > 45


def test_psnr_needs_equal_shapes():
    with pytest.raises(ValueError, match=r"shapes \(2, 2, 3\) and \(2, 3, 3\) differ"):
        compute_psnr(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8))
