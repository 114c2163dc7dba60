"""A card of the catalogue: how a network is built, and the input that it expects. Imports without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Family = Literal["cnn", "vit", "other"]
RGB = tuple[float, float, float]

IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One network: how to build it, and the input that it expects."""

    name: str
    """The name that users type and that runs record."""
    timm_name: str
    """Architecture in timm, with or without a ``.tag`` that picks the published weights; of a ``torchvision``
    network its name there."""
    family: Family
    """``cnn``, ``vit`` (a plain Vision Transformer: one sequence of patch tokens) or ``other``."""
    aliases: tuple[str, ...] = ()
    """Other names that mean the same."""
    params_m: float | None = None
    """Parameters in millions with 1000 classes (demo models: 15); None where nobody counted."""
    img_size: int = 224
    """Side of the square input in pixels when the recipe gives none."""
    mean: RGB = IMAGENET_MEAN
    """Subtracted from RGB in [0, 1]."""
    std: RGB = IMAGENET_STD
    """Divides RGB in [0, 1] after ``mean``."""
    interpolation: str = "bicubic"
    """How evaluation images are resized."""
    crop_pct: float = 0.875
    """Evaluation resizes the short side to ``img_size / crop_pct``, then crops the centre."""
    pretrained: bool = True
    """Whether somebody published weights for exactly this network."""
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Arguments of ``timm.create_model`` that make this network out of ``timm_name``."""
    small: bool = False
    """Whether stem and head are changed for images of about 32 px (:mod:`praxiscope.models.small`)."""
    fit_patches: bool = False
    """Whether the patch size follows the image size, to about 8 x 8 tokens."""
    library: Literal["timm", "torchvision"] = "timm"
    """Who builds it."""
    num_frames: int | None = None
    """Frames of a clip that a video network takes when the recipe gives none; None for one of images."""
    min_frames: int = 1
    """Fewest frames that a video network can take."""
    fixed_input: bool = False
    """Whether a video network takes ``num_frames`` and ``img_size`` only."""
    min_img_size: int = 1
    """Smallest input of a video network in pixels."""
    note: str = ""
    """One line for the listing."""
    paper: str = ""
    """Where the network comes from."""
