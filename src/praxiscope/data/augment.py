"""Automatic augmentation policies with every draw from an explicit generator.

AutoAugment (Cubuk et al. 2019, table 9: the policy found on ImageNet), RandAugment (Cubuk et al. 2020)
and TrivialAugment Wide (Mueller & Hutter 2021). Strengths are on the papers' scale: AutoAugment 0..9,
RandAugment 0..30, TrivialAugment 0..30.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from praxiscope.recipe.schema import AugmentSection

Color = tuple[int, int, int]


class Operation(NamedTuple):
    """One image operation of the policies.

    Attributes:
        apply: (image, value, fill) -> image of the same size.
        narrow: largest value of AutoAugment's and RandAugment's range.
        wide: largest value of TrivialAugment's range.
        signed: whether the value's sign is drawn.
    """

    apply: Callable[[Image.Image, float, Color], Image.Image]
    narrow: float
    wide: float
    signed: bool = False


def _affine(picture: Image.Image, matrix: tuple[float, ...], fill: Color) -> Image.Image:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    )


def _shear_x(picture: Image.Image, value: float, fill: Color) -> Image.Image:
    return _affine(picture, (1, value, -value * picture.height / 2, 0, 1, 0), fill)


def _shear_y(picture: Image.Image, value: float, fill: Color) -> Image.Image:
    return _affine(picture, (1, 0, 0, value, 1, -value * picture.width / 2), fill)


def _translate_x(picture: Image.Image, value: float, fill: Color) -> Image.Image:
    return _affine(picture, (1, 0, value * picture.width, 0, 1, 0), fill)


def _translate_y(picture: Image.Image, value: float, fill: Color) -> Image.Image:
    return _affine(picture, (1, 0, 0, 0, 1, value * picture.height), fill)


def _rotate(picture: Image.Image, value: float, fill: Color) -> Image.Image:
    return picture.rotate(value, Image.Resampling.BILINEAR, fillcolor=fill)


def _posterize(picture: Image.Image, value: float, fill: Color) -> Image.Image:  # noqa: ARG001
    return ImageOps.posterize(picture, max(1, 8 - round(value)))


def _solarize(picture: Image.Image, value: float, fill: Color) -> Image.Image:  # noqa: ARG001
    return ImageOps.solarize(picture, round(256 - value))


def _enhance(
    kind: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float, Color], Image.Image]:
    def apply(picture: Image.Image, value: float, fill: Color) -> Image.Image:  # noqa: ARG001
        return kind(picture).enhance(1 + value)

    return apply


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(lambda picture, _value, _fill: picture, 0, 0),
    "shear_x": Operation(_shear_x, 0.3, 0.99, signed=True),
    "shear_y": Operation(_shear_y, 0.3, 0.99, signed=True),
    "translate_x": Operation(_translate_x, 150 / 331, 32 / 224, signed=True),
    "translate_y": Operation(_translate_y, 150 / 331, 32 / 224, signed=True),
    "rotate": Operation(_rotate, 30, 135, signed=True),
    "posterize": Operation(_posterize, 4, 6),
    "solarize": Operation(_solarize, 256, 256),
    "brightness": Operation(_enhance(ImageEnhance.Brightness), 0.9, 0.99, signed=True),
    "color": Operation(_enhance(ImageEnhance.Color), 0.9, 0.99, signed=True),
    "contrast": Operation(_enhance(ImageEnhance.Contrast), 0.9, 0.99, signed=True),
    "sharpness": Operation(_enhance(ImageEnhance.Sharpness), 0.9, 0.99, signed=True),
    "autocontrast": Operation(lambda picture, _value, _fill: ImageOps.autocontrast(picture), 0, 0),
    "equalize": Operation(lambda picture, _value, _fill: ImageOps.equalize(picture), 0, 0),
    "invert": Operation(lambda picture, _value, _fill: ImageOps.invert(picture), 0, 0),
}

_RAND = tuple(name for name in OPERATIONS if name != "invert")

# (operation, probability, strength 0..9) twice: the 25 sub-policies of table 9 of the paper.
AUTOAUGMENT: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def apply_policy(
    picture: Image.Image, section: AugmentSection, rng: np.random.Generator, *, fill: Color
) -> Image.Image:
    """Apply the section's policy to an RGB image; its size stays.

    Args:
        picture: RGB.
        section: names the policy; ``none`` returns the picture as it is.
        rng: source of every draw.
        fill: RGB for corners that a rotation or shift leaves empty.
    """
    if section.policy == "autoaugment":
        for name, probability, level in AUTOAUGMENT[rng.integers(len(AUTOAUGMENT))]:
            if rng.random() < probability:
                picture = apply_operation(picture, name, level / 9, rng, fill=fill)
    elif section.policy == "randaugment":
        for index in rng.integers(len(_RAND), size=section.num_ops):
            if section.op_prob == 1 or rng.random() < section.op_prob:
                strength = _draw_strength(section, rng)
                picture = apply_operation(picture, _RAND[index], strength, rng, fill=fill)
    elif section.policy == "trivialaugment":
        name, strength = _RAND[rng.integers(len(_RAND))], int(rng.integers(31)) / 30
        picture = apply_operation(picture, name, strength, rng, fill=fill, wide=True)
    return picture


def _draw_strength(section: AugmentSection, rng: np.random.Generator) -> float:
    if not section.magnitude_std:
        return section.magnitude / 30
    return min(max(rng.normal(section.magnitude, section.magnitude_std), 0.0), 30.0) / 30


def apply_operation(
    picture: Image.Image,
    name: str,
    strength: float,
    rng: np.random.Generator,
    *,
    fill: Color,
    wide: bool = False,
) -> Image.Image:
    """Apply one operation at a strength of 0 (none) to 1 (its range's end); a sign is drawn if it has one."""
    operation = OPERATIONS[name]
    value = strength * (operation.wide if wide else operation.narrow)
    if operation.signed and rng.random() < 0.5:
        value = -value
    return operation.apply(picture, value, fill)


def color_jitter(picture: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Multiply brightness, contrast and saturation, in a drawn order, by factors within 1 -+ ``amount``."""
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for index in rng.permutation(len(kinds)):
        picture = kinds[index](picture).enhance(rng.uniform(max(0.0, 1 - amount), 1 + amount))
    return picture
