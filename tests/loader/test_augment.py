"""Crops, policies, erasing: equal for equal draws, within their bounds, true to their papers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from praxiscope.data.augment import AUTOAUGMENT, OPERATIONS, apply_operation, apply_policy, color_jitter
from praxiscope.data.transforms import (
    EvalTransform,
    InputSpec,
    TrainTransform,
    crop_padded,
    draw_crop,
    erase,
)
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


def test_magnitudes_spread_and_operations_are_left_out(picture):
    still = AugmentSection(policy="randaugment", op_prob=0.0)
    assert (
        as_array(apply_policy(picture, still, np.random.default_rng(0), fill=FILL)) == as_array(picture)
    ).all()
    half = AugmentSection(policy="randaugment", op_prob=0.5, num_ops=1, magnitude=30)
    full = AugmentSection(policy="randaugment", num_ops=1, magnitude=30)
    changed = [
        sum(
            (
                as_array(apply_policy(picture, section, np.random.default_rng(s), fill=FILL))
                != as_array(picture)
            ).any()
            for s in range(200)
        )
        for section in (half, full)
    ]
    assert 0.4 < changed[0] / changed[1] < 0.6
    spread = AugmentSection(policy="randaugment", magnitude=9, magnitude_std=3)
    draws = [as_array(apply_policy(picture, spread, np.random.default_rng(s), fill=FILL)) for s in (1, 1)]
    assert (draws[0] == draws[1]).all()


def test_the_same_draw_with_no_spread_is_the_one_that_it_was(picture):
    """Seeds of earlier runs give what they gave: the new keys draw nothing at their defaults."""
    rng, mine = np.random.default_rng(4), np.random.default_rng(4)
    names = [name for name in OPERATIONS if name != "invert"]
    expected = picture
    for index in rng.integers(len(names), size=2):
        expected = apply_operation(expected, names[index], 0.3, rng, fill=FILL)
    ours = apply_policy(picture, AugmentSection(policy="randaugment"), mine, fill=FILL)
    assert (as_array(ours) == as_array(expected)).all()
    assert rng.random() == mine.random()


# ------------------------------------------------------------------------------ crops out of padding


def coordinates(width: int, height: int) -> Image.Image:
    """Each pixel says where it is: red its column, green its row, blue that it is the picture."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, np.full_like(rows, 255)], axis=2).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(32, 32), (48, 32), (32, 40)])
def test_a_crop_out_of_padding_is_a_shift_by_at_most_the_padding(width, height):
    spec = InputSpec(img_size=32, mean=(0.0, 0.0, 0.0))
    shifts = set()
    for seed in range(400):
        square = np.asarray(crop_padded(coordinates(width, height), spec, 4, np.random.default_rng(seed)))
        assert square.shape == (32, 32, 3)
        inside = square[:, :, 2] == 255
        rows, columns = np.nonzero(inside)
        left = {int(c) - int(square[r, c, 0]) for r, c in zip(rows, columns, strict=True)}
        top = {int(r) - int(square[r, c, 1]) for r, c in zip(rows, columns, strict=True)}
        assert len(left) == len(top) == 1  # shifted as a whole, not scaled
        shifts.add((left.pop(), top.pop()))
        assert (square[~inside] == 0).all()  # the mean colour of this specification
    across, down = ({shift[axis] for shift in shifts} for axis in (0, 1))
    assert (min(across), max(across)) == (32 - width - 4, 4)
    assert (min(down), max(down)) == (32 - height - 4, 4)


def test_padding_has_the_mean_colour_and_another_size_is_resized_first():
    spec = InputSpec(img_size=16, mean=(0.5, 0.25, 1.0))
    corner = next(
        square
        for seed in range(200)
        if tuple(
            (square := np.asarray(crop_padded(coordinates(64, 64), spec, 8, np.random.default_rng(seed))))[
                0, 0
            ]
        )
        == spec.fill
    )
    assert spec.fill == (128, 64, 255)
    assert corner.shape == (16, 16, 3)
    transform = TrainTransform(spec=spec, augment=AugmentSection(preset="cifar"))
    assert transform.decode_size == 16
    images = [transform(coordinates(64, 64), np.random.default_rng(s)) for s in (1, 1, 2)]
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).any()


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (50, 50)])
def test_the_preset_none_is_the_largest_centred_square_whatever_is_drawn(size):
    picture = coordinates(*size)
    transform = TrainTransform(spec=InputSpec(img_size=24), augment=AugmentSection(preset="none"))
    images = [transform(picture, np.random.default_rng(seed)) for seed in range(5)]
    assert all((image == images[0]).all() for image in images)
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    whole = picture.crop((left, top, left + side, top + side)).resize((24, 24), Image.Resampling.BICUBIC)
    assert np.abs(images[0].astype(int) - as_array(whole)).max() <= 2
