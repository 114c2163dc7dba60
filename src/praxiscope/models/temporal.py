"""From the features of a clip's frames to one answer: what stands between a frame network and its classifier.

A temporal head stands where timm's classifier was, under its name (see :mod:`praxiscope.models.heads`), so
that freezing, layer-wise decay and weights need no special case. The network itself takes the frames of all
clips as one batch, (B x T, C, H, W); the head puts each clip's T features together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from praxiscope.errors import UsageError
from praxiscope.models.heads import UnitLength
from praxiscope.models.state import find_classifier_prefixes

TemporalKind = Literal["mean", "max", "attention", "transformer", "gru"]
_LAYERS, _HEADS = 2, 8


class MeanPool(nn.Module):
    """The mean over time: (B, T, D) becomes (B, D). Blind to the order of the frames."""

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return (B, D)."""
        return features_BTD.mean(dim=1)


class MaxPool(nn.Module):
    """The largest value over time: (B, T, D) becomes (B, D). Blind to the order of the frames."""

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return (B, D)."""
        return features_BTD.amax(dim=1)


class AttentionPool(nn.Module):
    """A weighted mean over time; a frame's weight follows from its feature and its place.

    Args:
        dim: D.
        num_frames: T.
    """

    def __init__(self, dim: int, num_frames: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(num_frames, dim))
        self.score = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim // 4), nn.Tanh(), nn.Linear(dim // 4, 1)
        )
        nn.init.trunc_normal_(self.place, std=0.02)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return (B, D)."""
        placed = features_BTD + self.place[: features_BTD.shape[1]]
        weights_BT1 = self.score(placed).softmax(dim=1)
        pooled: Tensor = (weights_BT1 * placed).sum(dim=1)
        return pooled


class TransformerPool(nn.Module):
    """A small transformer over frames with learned places; its class token is the clip (B, D).

    Places begin as sines and cosines (Vaswani et al. 2017), as large as the normalised features: from places
    of 0.02, as images have them, order is learned late, and not at all beside a backbone from scratch.

    Args:
        dim: D.
        num_frames: T.
    """

    def __init__(self, dim: int, num_frames: int) -> None:
        super().__init__()
        heads = next(count for count in range(_HEADS, 0, -1) if dim % count == 0)
        self.place = nn.Parameter(_build_waves(num_frames, dim))
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm = nn.LayerNorm(dim)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, nn.LayerNorm(dim), enable_nested_tensor=False)
        nn.init.trunc_normal_(self.token, std=0.02)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return (B, D)."""
        batch, frames, _ = features_BTD.shape
        placed = self.norm(features_BTD) + self.place[:frames]
        out: Tensor = self.layers(torch.cat([self.token.expand(batch, -1, -1), placed], dim=1))
        return out[:, 0]


def _build_waves(num_frames: int, dim: int) -> Tensor:
    """Return sines and cosines of the frames' numbers, of wavelengths from 2 pi to 20,000 pi, (T, D)."""
    angles = torch.arange(num_frames)[:, None] * 1e4 ** (-torch.arange(0, dim, 2) / dim)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :dim]


class GruPool(nn.Module):
    """A gated recurrent unit read forwards and backwards; the mean of its states, (B, D).

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gru = nn.GRU(dim, dim // 2, batch_first=True, bidirectional=True)
        self.project = nn.Identity() if dim % 2 == 0 else nn.Linear(dim - 1, dim)

    def forward(self, features_BTD: Tensor) -> Tensor:
        """Return (B, D)."""
        states, _ = self.gru(self.norm(features_BTD))
        out: Tensor = self.project(states.mean(dim=1))
        return out


class TemporalHead(nn.Sequential):
    """Pooling over time, dropout, one linear layer: (B x T, D) or (B, T, D) becomes (B, K).

    Args:
        dim: D, features of a frame.
        num_classes: K.
        kind: How frames are put together.
        num_frames: T.
        drop_rate: Dropout before the linear layer.
    """

    def __init__(
        self, dim: int, num_classes: int, *, kind: TemporalKind, num_frames: int, drop_rate: float = 0.0
    ) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                pool=_build_pool(kind, dim, num_frames),
                drop=nn.Dropout(drop_rate),
                fc=nn.Linear(dim, num_classes),
            )
        )
        self.num_frames = num_frames

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, K)."""
        if features.ndim == 2:
            features = features.reshape(-1, self.num_frames, features.shape[1])
        for part in self:
            features = part(features)
        return features


class TemporalTextHead(TemporalHead):
    """An image-text model's classifier over the frames of clips: (B x T, D) or (B, T, D) becomes (B, K).

    As :class:`praxiscope.models.heads.TextHead`, with the mean over time in front of the classes' vectors: a
    clip's logits are the mean of its frames'.

    Args:
        dim: D, features of a frame.
        num_classes: K.
        embed_dim: E, the length of the vectors that images and texts share.
        num_frames: T.
    """

    def __init__(self, dim: int, num_classes: int, *, embed_dim: int, num_frames: int) -> None:
        nn.Sequential.__init__(
            self,
            OrderedDict[str, nn.Module](
                proj=nn.Linear(dim, embed_dim, bias=False),
                unit=UnitLength(),
                pool=MeanPool(),
                fc=nn.Linear(embed_dim, num_classes, bias=False),
            ),
        )
        self.num_frames = num_frames


def add_temporal_head(
    module: nn.Module,
    kind: TemporalKind,
    *,
    num_classes: int,
    num_frames: int,
    drop_rate: float = 0.0,
    text_dim: int | None = None,
) -> None:
    """Put a temporal head where the classifier is, and let the network take clips (B, T, C, H, W).

    Args:
        module: A network built by timm with its own classifier; changed in place.
        kind: How frames are put together.
        num_classes: K.
        num_frames: T.
        drop_rate: Dropout before the linear layer.
        text_dim: Length of the vectors that frames share with texts, for an image-text model's head; `kind`
            is then ``mean``.

    Raises:
        UsageError: The classifier isn't one linear layer.
    """
    prefixes = find_classifier_prefixes(module)
    classifier = module.get_submodule(prefixes[0]) if len(prefixes) == 1 else None
    if not isinstance(classifier, nn.Linear):
        raise UsageError(
            f"The classifier of {type(module).__name__} isn't one linear layer, so it can't look at several "
            "frames. Choose another network, such as resnet18 or vit_small_patch16_224."
        )
    dim = classifier.in_features
    if text_dim is None:
        head = TemporalHead(dim, num_classes, kind=kind, num_frames=num_frames, drop_rate=drop_rate)
    else:
        head = TemporalTextHead(dim, num_classes, embed_dim=text_dim, num_frames=num_frames)
    module.set_submodule(prefixes[0], head, strict=True)
    _spare_places(module, prefixes[0], head)
    module.register_forward_pre_hook(_flatten_frames)


def _spare_places(module: nn.Module, prefix: str, head: TemporalHead) -> None:
    """Leave the head's learned places and token out of weight decay, as timm does those of images."""
    network = cast("Any", module)
    spared: set[str] = set(network.no_weight_decay()) if hasattr(module, "no_weight_decay") else set()
    places = {"pool.place", "pool.token"}
    spared |= {f"{prefix}.{name}" for name, _ in head.named_parameters() if name in places}
    network.no_weight_decay = partial(set, spared)


def find_num_frames(module: nn.Module) -> int | None:
    """Return T of a network that takes clips, None of one that takes images."""
    for part in module.modules():
        if isinstance(part, TemporalHead):
            return part.num_frames
        if "clip_frames" in part.__dict__:  # a video network (models/video.py)
            return int(part.__dict__["clip_frames"])
    return None


@contextmanager
def allow_recurrent_gradients() -> Iterator[None]:
    """Do without cuDNN, whose recurrent layers have no backward pass in evaluation mode."""
    with torch.backends.cudnn.flags(enabled=False):
        yield


def flatten_frames(images: Tensor) -> Tensor:
    """Return (B, T, C, H, W) as (B x T, C, H, W); images (B, C, H, W) as they are."""
    return images.flatten(0, 1) if images.ndim == 5 else images


def _flatten_frames(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (flatten_frames(inputs[0]), *inputs[1:])


def _build_pool(kind: TemporalKind, dim: int, num_frames: int) -> nn.Module:
    if kind == "attention":
        return AttentionPool(dim, num_frames)
    if kind == "transformer":
        return TransformerPool(dim, num_frames)
    if kind == "gru":
        return GruPool(dim)
    return MaxPool() if kind == "max" else MeanPool()
