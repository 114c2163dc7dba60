"""torchvision's video networks, in the form that timm's networks have here: names, groups, classifier.

The networks stay torchvision's, and so do the names of their weights. Clips come in as everywhere,
(B, T, C, H, W); a forward pre-hook puts the axes as torchvision wants them.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.ops import StochasticDepth

from praxiscope.errors import UsageError
from praxiscope.models.card import ModelCard
from praxiscope.recipe.schema import ModelSection

_Matcher = dict[str, Any]
_LAST = (99999,)  # timm: with the group before

_RESNET: _Matcher = {"stem": r"^stem", "blocks": r"^layer(\d+)\.(\d+)"}
_MVIT: _Matcher = {
    "stem": r"^conv_proj|^pos_encoding",
    "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", _LAST)],
}
_SWIN: _Matcher = {
    "stem": r"^patch_embed",
    "blocks": [
        (r"^features\.(\d+)\.(?:reduction|norm)", (0,)),
        (r"^features\.(\d+)\.(\d+)", None),
        (r"^norm", _LAST),
    ],
}
_S3D: _Matcher = {"stem": r"^features\.0\.", "blocks": r"^features\.(\d+)"}

# Tables of places and the class token: torchvision trained them without weight decay, as timm does.
_UNDECAYED = ("pos_encoding.", "rel_pos_", "relative_position_bias_table")

# Prefix of the name, its classifier, its layers in order.
_KINDS: tuple[tuple[str, str, _Matcher], ...] = (
    ("s3d", "classifier.1", _S3D),
    ("mvit", "head.1", _MVIT),
    ("swin3d", "head", _SWIN),
    ("", "fc", _RESNET),
)


def build_video_network(card: ModelCard, section: ModelSection, *, num_classes: int) -> nn.Module:
    """Build a video network with a new head; weights come from torch's global generator.

    Args:
        card: A card of torchvision's.
        section: ``num_frames``, ``img_size`` and the rates; what a video network has no place for is refused.
        num_classes: K.

    Returns:
        A network that takes (B, T, C, H, W) and gives (B, K), with what timm's networks say of themselves:
        ``pretrained_cfg``, ``num_classes``, ``group_matcher``, ``no_weight_decay``.

    Raises:
        UsageError: A key doesn't apply, or there are too few frames or pixels.
    """
    _check_section(card, section)
    module: nn.Module = get_model(card.timm_name, weights=None, num_classes=num_classes)
    classifier, matcher = next(
        (place, groups) for prefix, place, groups in _KINDS if card.timm_name.startswith(prefix)
    )
    _set_dropout(module, classifier, section.drop_rate)
    _set_stochastic_depth(module, section.drop_path_rate)
    network = cast("Any", module)
    network.pretrained_cfg = {"classifier": classifier}
    network.num_classes = num_classes
    network.clip_frames = section.num_frames or card.num_frames
    network.group_matcher = partial(_match_groups, matcher)
    network.no_weight_decay = partial(
        set, [name for name, _ in module.named_parameters() if any(part in name for part in _UNDECAYED)]
    )
    module.register_forward_pre_hook(_put_channels_first)
    return module


def find_published(card: ModelCard) -> str:
    """Return the address of the file with a video network's published weights."""
    return str(get_model_weights(card.timm_name).DEFAULT.url)


def _has_blocks(card: ModelCard) -> bool:
    """Whether the network has stochastic depth."""
    return card.timm_name.startswith(("mvit", "swin3d"))


def _check_section(card: ModelCard, section: ModelSection) -> None:
    for key, plain in (("temporal", "mean"), ("head", "linear"), ("shift_div", 0)):
        given = getattr(section, key)
        if given != plain:
            raise UsageError(
                f"model.{key} is {given!r}, which joins the frames of a network of images; {card.name} is a "
                f"video network and joins them itself. Leave model.{key} out, or choose another model.name."
            )
    if section.kwargs:
        raise UsageError(
            f"model.kwargs are arguments of timm.create_model; {card.name} is torchvision's. Leave them out."
        )
    if section.drop_path_rate and not _has_blocks(card):
        raise UsageError(
            f"model.drop_path_rate is {section.drop_path_rate:g}, but {card.name} has no stochastic depth; "
            "mvit and swin3d have. Set it to 0."
        )
    frames, side = section.num_frames or card.num_frames or 0, section.img_size or card.img_size
    if card.fixed_input and (frames, side) != (card.num_frames, card.img_size):
        raise UsageError(
            f"{card.name} takes {card.num_frames} frames of {card.img_size} px only; model.num_frames is "
            f"{frames} and model.img_size {side}. Leave both out, or choose swin3d_t, which takes any."
        )
    for key, given, least in (
        ("num_frames", frames, card.min_frames),
        ("img_size", side, card.min_img_size),
    ):
        if given < least:
            raise UsageError(
                f"model.{key} is {given}; {card.name} needs at least {least}. Give more, or another network "
                "such as r3d_18."
            )


def _set_dropout(module: nn.Module, classifier: str, drop_rate: float) -> None:
    """Set the dropout before the classifier, adding one where the network has none."""
    parent, _, place = classifier.rpartition(".")
    if place.isdigit():  # Sequential of dropout and classifier
        cast("nn.Dropout", module.get_submodule(f"{parent}.0")).p = drop_rate
    elif drop_rate:
        layers = OrderedDict[str, nn.Module](drop=nn.Dropout(drop_rate), fc=module.get_submodule(classifier))
        module.set_submodule(classifier, nn.Sequential(layers), strict=True)


def _set_stochastic_depth(module: nn.Module, rate: float) -> None:
    """Let it rise from 0 in the first block to the rate in the last, as published and as timm has it."""
    blocks = [layer for layer in module.modules() if isinstance(layer, StochasticDepth)]
    for place, layer in enumerate(blocks):
        layer.p = rate * place / (len(blocks) - 1)


def _match_groups(matcher: _Matcher, *, coarse: bool = False) -> _Matcher:  # noqa: ARG001 - timm's signature
    return matcher


def _put_channels_first(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].transpose(1, 2), *inputs[1:])
