"""Named sets of augmentation settings, the same word in YAML (``augment: cutmix``) and on the command line.

A preset only fills in what a recipe leaves open: keys that stand beside it win, and the recipe that is saved
with a run spells all of them out. So a preset that changes in a later version changes no earlier run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from praxiscope.errors import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One named set.

    Attributes:
        name: the word for it, lower case with dashes.
        settings: keys of the recipe's ``augment`` that differ from their defaults.
        source: who published it, and what of it is not the same here.
    """

    name: str
    settings: Mapping[str, Any]
    source: str


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="standard",
        settings={},
        source="Random resized crop and flip: Szegedy et al. 2015, as for ImageNet ever since.",
    ),
    Preset(
        name="none",
        settings={"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "hflip": 0.0},
        source="Every epoch the same: the largest centred square, resized; no flip.",
    ),
    Preset(
        name="light",
        settings={"crop_scale": (0.7, 1.0)},
        source="Praxiscope's own, for few data or epochs: crops that keep most of the image, and flip.",
    ),
    Preset(
        name="cutmix",
        settings={"cutmix": 1.0},
        source="Standard, and CutMix with alpha 1 on every batch: Yun et al. 2019, ImageNet.",
    ),
    Preset(
        name="mixup",
        settings={"mixup": 0.2},
        source="Standard, and MixUp with alpha 0.2 on every batch: Zhang et al. 2018, ImageNet.",
    ),
    Preset(
        name="cutmix-mixup",
        settings={"mixup": 0.8, "cutmix": 1.0},
        source="Standard, and one of both for each batch: Touvron et al. 2021, DeiT.",
    ),
    Preset(
        name="autoaugment",
        settings={"policy": "autoaugment"},
        source="Standard, and the policy that was found on ImageNet: Cubuk et al. 2019.",
    ),
    Preset(
        name="randaugment",
        settings={"policy": "randaugment", "num_ops": 2, "magnitude": 9.0},
        source="Standard, and 2 operations of strength 9 of 30: Cubuk et al. 2020, scaled as in torchvision.",
    ),
    Preset(
        name="trivialaugment",
        settings={"policy": "trivialaugment"},
        source="Standard, and one operation of any strength: Mueller & Hutter 2021.",
    ),
    Preset(
        name="rsb",
        settings={
            "policy": "randaugment", "num_ops": 2, "magnitude": 21.0, "magnitude_std": 1.5, "op_prob": 0.5,
            "mixup": 0.1, "cutmix": 1.0, "repeats": 3,
        },
        source="ResNet strikes back, procedure A2: Wightman et al. 2021. Its RandAugment '7 / 0.5' counts to "
        "10: 21 and 1.5 of 30. Not here: its operations Invert and SolarizeAdd.",
    ),
    Preset(
        name="cifar",
        settings={"crop_padding": 4},
        source="Random crop out of 4 px of padding, and flip, for 32-px images: He et al. 2016, section 4.2. "
        "The padding has the mean colour.",
    ),
    Preset(
        name="cifar-cutmix",
        settings={"crop_padding": 4, "cutmix": 1.0, "mix_prob": 0.5},
        source="The same, and CutMix with alpha 1 on half of the batches: Yun et al. 2019, CIFAR.",
    ),
)  # fmt: skip

_BY_NAME = MappingProxyType({preset.name: preset for preset in PRESETS})


def expand_preset(content: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``augment`` section with its preset's settings filled in; keys that are there win.

    Args:
        content: the section, or a preset's name alone. A section without ``preset`` is of ``standard``.

    Raises:
        ValueError: no such preset; pydantic makes a recipe's message of it.
    """
    section = {"preset": content} if isinstance(content, str) else dict(content)
    given = section.get("preset", "standard")
    name = given.lower().replace("_", "-") if isinstance(given, str) else given
    if not isinstance(name, str) or name not in _BY_NAME:
        raise ValueError(
            f"preset is {given!r}; choose one of {', '.join(_BY_NAME)}.{did_you_mean(str(name), _BY_NAME)}"
        )
    return {**_BY_NAME[name].settings, **section, "preset": name}
