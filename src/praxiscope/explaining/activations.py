"""Activation maps: what chosen layers put out for an image, and which of their channels say most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from praxiscope.errors import UsageError
from praxiscope.explaining.layers import choose_layers, find_backbone_end, find_layer
from praxiscope.explaining.subject import Subject, hold_still
from praxiscope.models.layer_uses import LayerUse, list_layers, watch_layers

FloatArray = npt.NDArray[np.float32]
ACTIVITY = "mean |value| over the map"
"""How the activity of a channel is defined, in words for figures."""


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """The most active channels of one layer for one image."""

    layer: LayerUse
    """Which layer."""
    maps: FloatArray
    """(c, h, w), the c most active channels, the most active first."""
    channels: tuple[int, ...]
    """c, their numbers in the layer, from 0."""
    activity: FloatArray
    """(C,), of every channel of the layer: the mean of its absolute values over the map. Tokens that stand
    for no patch (the class token, registers) are left out."""

    @property
    def signed(self) -> bool:
        """Whether the layer puts out negative values here."""
        return bool((self.maps < 0).any())


@dataclass(frozen=True, kw_only=True)
class ImageActivations:
    """What a network makes of one image, layer by layer."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3), the crop that is evaluated."""
    logits: FloatArray
    """(K,)."""
    layers: tuple[LayerMaps, ...]
    """In the network's order."""
    backbone_end: str | None
    """Name of the last layer with a map before the head."""

    @property
    def probabilities(self) -> FloatArray:
        """(K,), the softmax of the logits."""
        shifted = np.exp(self.logits - self.logits.max())
        total: FloatArray = shifted / shifted.sum()
        return total


def collect_activations(
    subject: Subject,
    images: npt.NDArray[np.uint8],
    layers: Sequence[str] | None = None,
    *,
    channels: int = 16,
    batch_size: int = 16,
) -> tuple[ImageActivations, ...]:
    """Return the activation maps of images.

    Args:
        subject: The network.
        images: uint8 (N, H, W, 3), evaluated crops.
        layers: Names as ``list_layers`` gives them (``act1#2``); well-chosen ones where None.
        channels: How many of each layer's channels are kept at most: those with the largest mean absolute
            value over the map, for each image anew, the lower number first among equals.
        batch_size: Images of one forward pass.

    Returns:
        One entry for each image.

    Raises:
        UsageError: No such layer, a layer without a map, or no layers at all.
    """
    uses = list_layers(subject.module, subject.prepare(images[:1]))  # evaluated at a size of its own, perhaps
    chosen = choose_layers(uses, subject.family) if layers is None else _find_mapped(uses, layers)
    end = find_backbone_end(uses)
    found: list[ImageActivations] = []
    with hold_still(subject.module), torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            kept: dict[str, Tensor] = {}

            def keep(use: LayerUse, output: Tensor, kept: dict[str, Tensor] = kept) -> None:
                kept[use.name] = use.to_maps(output).float().clone()

            with watch_layers(subject.module, chosen, keep), subject.runtime.autocast():
                logits = subject.module(subject.prepare(batch))
            for row, image in enumerate(batch):
                found.append(
                    ImageActivations(
                        image=image,
                        logits=logits[row].float().cpu().numpy(),
                        layers=tuple(rank_channels(use, kept[use.name][row], channels) for use in chosen),
                        backbone_end=None if end is None else end.name,
                    )
                )
    return tuple(found)


def _find_mapped(uses: Sequence[LayerUse], names: Sequence[str]) -> tuple[LayerUse, ...]:
    """Return the named uses in the network's order."""
    if not names:
        raise UsageError("No layer is named to show; leave the layers out for well-chosen ones.")
    chosen = {find_layer(uses, name).name for name in names}
    for use in uses:
        if use.name in chosen and use.grid is None:
            words = " x ".join(map(str, use.shape))
            raise UsageError(
                f"'{use.name}' puts out {words} numbers for an image, which is no map. Name a layer before "
                "pooling, such as the end of a stage or a block."
            )
    return tuple(use for use in uses if use.name in chosen)


def rank_channels(use: LayerUse, maps_CHW: Tensor, count: int) -> LayerMaps:
    """Return the ``count`` most active channels of a layer for one image."""
    activity = maps_CHW.abs().mean(dim=(1, 2))
    order = torch.argsort(activity, descending=True, stable=True)[:count]
    return LayerMaps(
        layer=use,
        maps=maps_CHW[order].cpu().numpy(),
        channels=tuple(order.tolist()),
        activity=activity.cpu().numpy(),
    )
