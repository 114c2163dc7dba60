"""A recipe's ``model`` section into a network: built from a seed, weights loaded strictly, parts frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from praxiscope.errors import UsageError
from praxiscope.models.catalog import RGB, ModelCard, find_card, find_timm_config
from praxiscope.models.freeze import FreezeReport, freeze
from praxiscope.models.heads import find_last_linear, replace_head
from praxiscope.models.shift import add_temporal_shift
from praxiscope.models.small import adapt_to_small_images, fit_patches
from praxiscope.models.sources import find_pretrained
from praxiscope.models.state import count_parameters, find_classifier_prefixes
from praxiscope.models.temporal import add_temporal_head
from praxiscope.models.video import build_video_network
from praxiscope.models.weights import WeightsReport, load_weights
from praxiscope.recipe.schema import ModelSection

_RESERVED = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "num_classes",
     "in_chans", "img_size", "drop_rate", "drop_path_rate", "features_only", "scriptable", "exportable"}
)  # fmt: skip

# No movement is 128 and becomes 0; the deviation is the mean of ImageNet's three, as in the code of TSN (Wang
# et al. 2016).
FLOW_MEAN: RGB = (128 / 255,) * 3
FLOW_STD: RGB = (0.226,) * 3


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    """A network and all that its users must know to feed it."""

    module: nn.Module
    """Takes float images (B, C, H, W) or clips (B, T, C, H, W), normalised with ``mean`` and ``std``; gives
    logits (B, K)."""
    card: ModelCard
    """What the catalogue knows about it."""
    img_size: int
    """Side of its square input in pixels."""
    mean: RGB
    """Subtracted from RGB in [0, 1]."""
    std: RGB
    """Divides RGB in [0, 1] after ``mean``."""
    interpolation: str
    """How evaluation images are resized: ``bicubic``, ``bilinear`` ..."""
    crop_pct: float
    """Evaluation resizes the short side to ``img_size / crop_pct``, then crops the centre."""
    classifier_prefixes: tuple[str, ...]
    """Names of the layers that map features to logits."""
    num_parameters: int
    """Numbers in the network, frozen ones included."""
    timm_kwargs: dict[str, Any]
    """What ``timm.create_model(card.timm_name, num_classes=..., **timm_kwargs)`` needs to build the same;
    empty for a network of torchvision."""
    loaded: WeightsReport | None
    """Where its weights came from; None when it starts from scratch."""
    frozen: FreezeReport | None
    """What doesn't train; None when everything does."""


def build_model(section: ModelSection, *, num_classes: int, seed: int, in_chans: int = 3) -> BuiltModel:
    """Build the network of a new run.

    The head is always newly initialised: classes of a weights file are other classes, even if as many.

    Args:
        section: What the recipe asks for.
        num_classes: K, the length of the logits.
        seed: Decides every initial weight. The caller's random state stays untouched.
        in_chans: Channels of the input; published weights expect 3.

    Returns:
        The network in training mode on the CPU, and its input.

    Raises:
        UsageError: Unknown name, impossible size or argument, or a frozen part that doesn't exist.
        WeightsMissing: Pretrained weights were asked for and can't be had.
        WeightsMismatch: The weights file isn't this network's.
        WeightsUnreadable: The weights file is damaged or holds more than tensors.
    """
    card = find_card(section.name)
    module, kwargs = _create(card, section, num_classes=num_classes, seed=seed, in_chans=in_chans)
    loaded = None
    if section.weights is not None:
        loaded = load_weights(module, Path(section.weights).expanduser())
    elif section.pretrained:
        loaded = load_weights(module, find_pretrained(card))
    if loaded is not None:
        _soften_head(module, seed)
    return _finish(module, card, section, kwargs, loaded)


def rebuild_model(section: ModelSection, *, num_classes: int, weights: Path, in_chans: int = 3) -> BuiltModel:
    """Build the network of an existing run from its own checkpoint, head included.

    Args:
        section: The run's ``model`` section; its ``pretrained`` and ``weights`` are not looked at, so that
            the run can be used where the published weights aren't.
        num_classes: K, the length of the logits.
        weights: The run's weights file.
        in_chans: Channels of the input.

    Returns:
        The network in training mode on the CPU, parts frozen as in the run.

    Raises:
        UsageError: The section or the path is wrong.
        WeightsMismatch: The file isn't of this network.
        WeightsUnreadable: The file is damaged.
    """
    card = find_card(section.name)
    module, kwargs = _create(card, section, num_classes=num_classes, seed=0, in_chans=in_chans)
    return _finish(module, card, section, kwargs, load_weights(module, weights, keep_head=True))


def _create(
    card: ModelCard, section: ModelSection, *, num_classes: int, seed: int, in_chans: int
) -> tuple[nn.Module, dict[str, Any]]:
    if num_classes < 1:
        raise UsageError(f"A classifier needs at least one class; num_classes is {num_classes}.")
    if card.library == "torchvision":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_video_network(card, section, num_classes=num_classes), {}
    kwargs = _timm_kwargs(card, section)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module: nn.Module = timm.create_model(
                card.timm_name, num_classes=num_classes, in_chans=in_chans, **kwargs
            )
            if card.small:
                module = adapt_to_small_images(module)
            _join_frames(module, section, num_classes)
            if section.num_frames is None:
                replace_head(
                    module,
                    section.head,
                    family=card.family,
                    num_classes=num_classes,
                    hidden=section.head_hidden,
                    drop_rate=section.drop_rate,
                )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UsageError(
            f"'{section.name}' can't be built with {kwargs}: {error}. "
            "Check model.img_size, model.drop_path_rate and model.kwargs."
        ) from error
    _check_patches(module, section.name, kwargs.get("img_size"))
    return module, kwargs


def _join_frames(module: nn.Module, section: ModelSection, num_classes: int) -> None:
    """Let a network of images take clips, where clips are asked for."""
    if section.num_frames is None:
        if section.shift_div:
            raise UsageError(
                f"model.shift_div is {section.shift_div}, which moves channels between the frames of a clip; "
                "these are images. Set model.num_frames, or shift_div: 0."
            )
        return
    text = section.head == "text" and section.temporal == "mean"
    if section.head != "linear" and not text:
        raise UsageError(
            f"model.head is '{section.head}', which takes one image; clips (model.num_frames) take "
            "head: linear with model.temporal."
        )
    add_temporal_head(
        module,
        section.temporal,
        num_classes=num_classes,
        num_frames=section.num_frames,
        drop_rate=section.drop_rate,
        text_dim=section.head_hidden if text else None,
    )
    if section.shift_div:
        add_temporal_shift(module, num_frames=section.num_frames, shift_div=section.shift_div)


def _soften_head(module: nn.Module, seed: int) -> None:
    """Start the last layer of a pretrained network's head near zero.

    Some architectures draw heads so large (EfficientNet: up to 1 / sqrt(K)) that the first gradients, all of
    them noise, shake the features that were loaded.
    """
    generator = torch.Generator().manual_seed(seed)
    for name in find_classifier_prefixes(module):
        layer = find_last_linear(module.get_submodule(name))
        if layer is not None:
            nn.init.normal_(layer.weight, std=0.01, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _timm_kwargs(card: ModelCard, section: ModelSection) -> dict[str, Any]:
    if reserved := sorted(_RESERVED & section.kwargs.keys()):
        raise UsageError(
            f"model.kwargs can't hold {', '.join(reserved)}: sizes and rates have keys of their own in the "
            "model section, classes come from the data, weights only from model.weights or model.pretrained."
        )
    kwargs: dict[str, Any] = {**card.kwargs, **section.kwargs}
    # Not every network takes these; zero is every network's default. Other heads than timm's have a dropout
    # of their own, which would otherwise act twice, and on the feature map.
    own_dropout = section.head != "linear" or section.num_frames is not None
    rates = {"drop_rate": 0.0 if own_dropout else section.drop_rate, "drop_path_rate": section.drop_path_rate}
    kwargs.update({name: rate for name, rate in rates.items() if rate})
    if find_timm_config(card.timm_name).fixed_input_size:
        kwargs["img_size"] = section.img_size or card.img_size
    if card.fit_patches:
        kwargs.setdefault("patch_size", fit_patches(kwargs["img_size"]))
    return kwargs


def _check_patches(module: nn.Module, name: str, img_size: int | None) -> None:
    """Refuse a size that patches don't tile: timm would leave the right and lower edge unseen."""
    feat_ratio = getattr(getattr(module, "patch_embed", None), "feat_ratio", None)
    if img_size is None or feat_ratio is None:
        return
    patch_size = int(feat_ratio())
    if img_size % patch_size:
        nearest = max(img_size // patch_size, 1) * patch_size
        raise UsageError(
            f"model.img_size {img_size} isn't a multiple of the {patch_size}-px patches of '{name}'. "
            f"Give {nearest} or {nearest + patch_size}."
        )


def _freeze(module: nn.Module, section: ModelSection) -> FreezeReport | None:
    if not section.freeze and not section.freeze_depth:
        return None
    return freeze(module, section.freeze, depth=section.freeze_depth)


def _finish(
    module: nn.Module,
    card: ModelCard,
    section: ModelSection,
    kwargs: dict[str, Any],
    loaded: WeightsReport | None,
) -> BuiltModel:
    flow = section.input == "flow"
    return BuiltModel(
        module=module,
        card=card,
        img_size=section.img_size or card.img_size,
        mean=FLOW_MEAN if flow else card.mean,
        std=FLOW_STD if flow else card.std,
        interpolation=card.interpolation,
        crop_pct=card.crop_pct,
        classifier_prefixes=find_classifier_prefixes(module),
        num_parameters=count_parameters(module),
        timm_kwargs=kwargs,
        loaded=loaded,
        frozen=_freeze(module, section),
    )
