"""What maps features to classes: timm's linear layer, or one of the heads that take its place.

A head is put where timm's classifier was, under the same name, so that the network stays of timm's classes,
the backbone keeps timm's key names, and all that asks for the classifier (freezing, layer-wise decay, loading
of weights) finds the new one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal, cast

from torch import Tensor, nn

from praxiscope.errors import UsageError
from praxiscope.models.catalog import Family
from praxiscope.models.state import find_classifier_prefixes

HeadKind = Literal["linear", "conv", "mlp", "text"]

_CONV_CHANNELS = (512, 256)


class ConvHead(nn.Sequential):
    """Two 3 x 3 convolutions over a CNN's last feature map, then pooling and one linear layer.

    Conv C -> 512, BatchNorm, ReLU, Conv 512 -> 256, ReLU, average over the map, Linear 256 -> K: maps
    (B, C, H, W) become logits (B, K).

    Args:
        in_channels: C.
        num_classes: K.
        drop_rate: Dropout before the linear layer.
    """

    def __init__(self, in_channels: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        wide, narrow = _CONV_CHANNELS
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(in_channels, wide, 3, padding=1),
                bn1=nn.BatchNorm2d(wide),
                act1=nn.ReLU(),
                conv2=nn.Conv2d(wide, narrow, 3, padding=1),
                act2=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                drop=nn.Dropout(drop_rate),
                fc=nn.Linear(narrow, num_classes),
            )
        )


class MlpHead(nn.Sequential):
    """One hidden layer: Linear D -> hidden, ReLU, dropout, Linear hidden -> K; (B, D) becomes (B, K).

    Args:
        in_features: D, the length of the pooled features.
        num_classes: K.
        hidden: Units of the hidden layer.
        drop_rate: Dropout before the last layer.
    """

    def __init__(self, in_features: int, num_classes: int, *, hidden: int, drop_rate: float = 0.0) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                fc1=nn.Linear(in_features, hidden),
                act=nn.ReLU(),
                drop=nn.Dropout(drop_rate),
                fc2=nn.Linear(hidden, num_classes),
            )
        )


class UnitLength(nn.Module):
    """Scale each row to length 1: (B, E) stays (B, E)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return rows of length 1; a row of zeros stays."""
        return nn.functional.normalize(features, dim=-1)


class TextHead(nn.Sequential):
    """A projection, unit length, and one row for each class: the classifier of an image-text model.

    Linear D -> E without bias, length 1, Linear E -> K without bias, whose rows are the classes' text vectors
    times the model's scale (Radford et al. 2021): (B, D) becomes (B, K).

    Args:
        in_features: D, the length of the pooled features.
        num_classes: K.
        embed_dim: E, the length of the vectors that images and texts share.
    """

    def __init__(self, in_features: int, num_classes: int, *, embed_dim: int) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                proj=nn.Linear(in_features, embed_dim, bias=False),
                unit=UnitLength(),
                fc=nn.Linear(embed_dim, num_classes, bias=False),
            )
        )


def replace_head(
    module: nn.Module, kind: HeadKind, *, family: Family, num_classes: int, hidden: int, drop_rate: float
) -> None:
    """Put another head where timm's classifier is; ``linear`` is timm's own and changes nothing.

    Args:
        module: A network built by timm with its own classifier; changed in place. New layers draw their
            weights from torch's global generator, as torch's defaults do.
        kind: Which head.
        family: The network's; ``conv`` needs a ``cnn``.
        num_classes: K, the length of the logits.
        hidden: Units of an ``mlp``'s hidden layer, or length of a ``text`` head's vectors.
        drop_rate: Dropout before the last linear layer of ``conv`` and ``mlp``.

    Raises:
        UsageError: The network has no feature map, or no classifier that could be replaced.
    """
    if kind == "linear":
        return
    if kind == "conv" and family != "cnn":
        raise UsageError(
            "model.head is 'conv', which convolves over a CNN's feature map, but "
            f"{type(module).__name__} gives none. Use head: mlp or linear, or a CNN: resnet50, vgg16, "
            "tf_efficientnet_lite0, convnext_tiny, densenet121, regnety_016 ..."
        )
    prefixes = find_classifier_prefixes(module)
    sizes = [_count_inputs(module.get_submodule(name), kind) for name in prefixes]
    if not sizes or None in sizes or (kind == "conv" and len(sizes) > 1):
        raise UsageError(
            f"model.head is '{kind}', but the classifier of {type(module).__name__} "
            f"({', '.join(prefixes) or 'none'}) isn't one linear layer that could be replaced. "
            "Use head: linear."
        )
    if kind == "conv":
        in_channels = _remove_pooling(module, cast("int", sizes[0]))
        module.set_submodule(
            prefixes[0], ConvHead(in_channels, num_classes, drop_rate=drop_rate), strict=True
        )
        return
    for name, size in zip(prefixes, cast("list[int]", sizes), strict=True):
        head = (
            TextHead(size, num_classes, embed_dim=hidden)
            if kind == "text"
            else MlpHead(size, num_classes, hidden=hidden, drop_rate=drop_rate)
        )
        module.set_submodule(name, head, strict=True)


def find_last_linear(module: nn.Module) -> nn.Linear | None:
    """Return the layer of a classifier that gives the logits, or None where it isn't linear."""
    return next((layer for layer in reversed(list(module.modules())) if isinstance(layer, nn.Linear)), None)


def _count_inputs(layer: nn.Module, kind: HeadKind) -> int | None:
    if isinstance(layer, nn.Conv2d) and kind == "conv":  # a 1 x 1 convolution over pooled features
        return layer.in_channels
    return layer.in_features if isinstance(layer, nn.Linear) else None


def _remove_pooling(module: nn.Module, in_features: int) -> int:
    """Let a CNN hand its feature map to the classifier's place; return the map's channels."""
    timm_network = cast("Any", module)
    num_classes: int = timm_network.num_classes
    timm_network.reset_classifier(0, "")  # timm's way to ask for the map: pooling passes through
    timm_network.num_classes = num_classes
    if not hasattr(module, "pre_logits"):
        return in_features
    # VGG's two hidden layers take the map to one vector. They are part of the head that goes, so that their
    # tensors in a weights file are left out with its classifier's.
    module.set_submodule("pre_logits", nn.Identity(), strict=True)
    (classifier,) = find_classifier_prefixes(module)
    timm_network.pretrained_cfg = {
        **timm_network.pretrained_cfg,
        "classifier": ("pre_logits", classifier),
    }
    in_channels: int = timm_network.num_features
    return in_channels
