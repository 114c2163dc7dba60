"""Crops, policies, erasing: equal for equal draws, within their bounds, true to their papers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from praxiscope.data.augment import AUTOAUGMENT, OPERATIONS, apply_operation, apply_policy, color_jitter
from praxiscope.data.transforms import EvalTransform, InputSpec, TrainTransform, draw_crop, erase
from praxiscope.recipe.schema import AugmentSection

FILL = (124, 116, 104)


@pytest.fixture
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC))
    grain = rng.normal(0, 8, smooth.shape)  # something to sharpen
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def as_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("policy", ["none", "autoaugment", "randaugment", "trivialaugment"])
def test_a_policy_is_a_function_of_its_generator(picture, policy):
    section = AugmentSection(policy=policy)
    draws = [
        as_array(apply_policy(picture, section, np.random.default_rng(s), fill=FILL)) for s in (1, 1, 2, 3, 4)
    ]
    assert (draws[0] == draws[1]).all()
    assert draws[0].shape == (120, 160, 3)
    different = any((draws[0] != other).any() for other in draws[2:])
    assert different == (policy != "none")


def test_autoaugment_is_the_published_table():
    """Against an independent listing of the same table."""
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

    words = {
        "ShearX": "shear_x", "Rotate": "rotate", "Posterize": "posterize", "Solarize": "solarize",
        "Color": "color", "Contrast": "contrast", "Sharpness": "sharpness", "AutoContrast": "autocontrast",
        "Equalize": "equalize", "Invert": "invert",
    }  # fmt: skip
    theirs = AutoAugment(AutoAugmentPolicy.IMAGENET)._get_policies(AutoAugmentPolicy.IMAGENET)
    assert len(theirs) == len(AUTOAUGMENT) == 25
    for ours, other in zip(AUTOAUGMENT, theirs, strict=True):
        for (name, probability, strength), (word, p, magnitude) in zip(ours, other, strict=True):
            assert (name, probability) == (words[word], p)
            if magnitude is not None:  # operations without a strength have none there
                assert strength == magnitude


@pytest.mark.parametrize(
    "name", [name for name in OPERATIONS if name not in {"autocontrast", "equalize", "invert"}]
)
def test_strength_zero_changes_nothing_and_more_changes_more(picture, name):
    still = apply_operation(picture, name, 0.0, np.random.default_rng(0), fill=FILL)
    assert np.abs(as_array(still) - as_array(picture)).max() <= 1
    if name != "identity":
        strong = apply_operation(picture, name, 1.0, np.random.default_rng(0), fill=FILL)
        assert np.abs(as_array(strong) - as_array(picture)).mean() > 1


def test_operations_agree_with_torchvision(picture):
    """Colour operations are the same formulas; geometry differs only in how its edge is sampled."""
    from torchvision.transforms.v2 import functional as F

    ours = OPERATIONS
    pairs = [
        (
            ours["rotate"].apply(picture, 30.0, FILL),
            F.rotate(picture, 30.0, F.InterpolationMode.BILINEAR, fill=FILL),
        ),
        (ours["posterize"].apply(picture, 4, FILL), F.posterize(picture, 4)),
        (ours["solarize"].apply(picture, 128, FILL), F.solarize(picture, 128)),
        (ours["brightness"].apply(picture, 0.5, FILL), F.adjust_brightness(picture, 1.5)),
        (ours["contrast"].apply(picture, -0.5, FILL), F.adjust_contrast(picture, 0.5)),
        (ours["color"].apply(picture, 0.5, FILL), F.adjust_saturation(picture, 1.5)),
        (ours["sharpness"].apply(picture, 0.5, FILL), F.adjust_sharpness(picture, 1.5)),
        (ours["autocontrast"].apply(picture, 0, FILL), F.autocontrast(picture)),
        (ours["equalize"].apply(picture, 0, FILL), F.equalize(picture)),
        (ours["invert"].apply(picture, 0, FILL), F.invert(picture)),
    ]
    for mine, theirs in pairs:
        assert np.abs(as_array(mine) - as_array(theirs)).max() <= 1


def test_random_crops_stay_inside_and_in_their_ranges():
    rng = np.random.default_rng(0)
    areas, ratios = [], []
    for _ in range(2000):
        left, top, right, bottom = draw_crop((160, 120), (0.3, 0.9), (3 / 4, 4 / 3), rng)
        assert 0 <= left < right <= 160
        assert 0 <= top < bottom <= 120
        areas.append((right - left) * (bottom - top) / (160 * 120))
        ratios.append((right - left) / (bottom - top))
    assert min(areas) > 0.28
    assert max(areas) < 0.92
    assert min(ratios) > 0.73
    assert max(ratios) < 1.36
    assert abs(np.mean(areas) - 0.55) < 0.06  # large boxes of an extreme ratio fit less often


@pytest.mark.parametrize(
    ("size", "width", "height"), [((1000, 10), 13, 10), ((10, 1000), 10, 13), ((1, 1), 1, 1)]
)
def test_an_extreme_image_gives_the_largest_allowed_centre(size, width, height):
    left, top, right, bottom = draw_crop(size, (0.9, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0))
    assert (right - left, bottom - top) == (width, height)
    assert abs((left + right) / 2 - size[0] / 2) <= 1
    assert abs((top + bottom) / 2 - size[1] / 2) <= 1


def test_evaluation_equals_resize_then_centre_crop(picture):
    from torchvision.transforms.v2 import functional as F

    # Sizes that need no rounding: 160 x 120 -> 120 x 90 -> 60 x 60 from (30, 15).
    spec = InputSpec(img_size=60, crop_pct=60 / 90, interpolation="bicubic")
    ours = EvalTransform(spec=spec)(picture).astype(int)
    resized = F.resize(picture, [spec.resize_size], F.InterpolationMode.BICUBIC)
    theirs = as_array(F.center_crop(resized, [60, 60]))
    assert spec.resize_size == 90
    assert ours.shape == (60, 60, 3)
    assert np.abs(ours - theirs).max() <= 1


def test_evaluation_draws_nothing_and_sees_the_same_pixels_each_time(picture):
    transform = EvalTransform(spec=InputSpec(img_size=48))
    assert (transform(picture) == transform(picture)).all()


def test_training_transform_depends_on_the_generator_alone(picture):
    transform = TrainTransform(
        spec=InputSpec(img_size=48),
        augment=AugmentSection(policy="randaugment", color_jitter=0.4, random_erasing=1.0),
    )
    first, again, other = (transform(picture, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.shape == (48, 48, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any()


def test_flip_probability_one_mirrors(picture):
    spec = InputSpec(img_size=64, crop_pct=1.0)
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (4 / 3, 4 / 3)}
    plain = TrainTransform(spec=spec, augment=AugmentSection(hflip=0.0, **whole))
    mirrored = TrainTransform(spec=spec, augment=AugmentSection(hflip=1.0, **whole))
    left, right = (t(picture, np.random.default_rng(0)) for t in (plain, mirrored))
    assert (left[:, ::-1] == right).all()


def test_erasing_paints_one_rectangle_of_the_mean_colour():
    array = np.zeros((60, 60, 3), np.uint8)
    erase(array, np.random.default_rng(0), fill=FILL)
    painted = (array == np.array(FILL, np.uint8)).all(axis=2)
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    assert painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 0.015 < painted.mean() < 0.35


def test_colour_jitter_of_zero_changes_nothing(picture):
    assert (as_array(color_jitter(picture, 0.0, np.random.default_rng(0))) == as_array(picture)).all()
