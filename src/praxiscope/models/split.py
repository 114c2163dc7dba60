"""A network with a frozen backbone, cut in two: what need be computed once, and what trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from praxiscope.errors import IntegrityError, UsageError
from praxiscope.models.freeze import is_held_in_eval
from praxiscope.models.heads import ConvHead
from praxiscope.models.state import find_classifier_prefixes, is_under, unwrap_module
from praxiscope.models.temporal import flatten_frames

_CHECK_SEED = 0


class TrainedPart(nn.Module):
    """What a network does with the features of its frozen part: dropout, then the head.

    It shares the head's layers with the network that it was cut from; training one trains the other.
    """

    def __init__(self, classifier: nn.Module, drop_rate: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.classifier = classifier

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, K) for what ``FrozenSplit.features`` returned."""
        logits: Tensor = self.classifier(self.drop(features))
        return logits


@dataclass(frozen=True, kw_only=True)
class FrozenSplit:
    """A network as ``head(features(images))``: the same logits, bit for bit, in both modes."""

    module: nn.Module
    """The whole network, unwrapped."""
    head: TrainedPart
    """Takes features, gives logits (B, K); has a training mode of its own, as ``module`` was at the cut."""
    classifier_prefix: str
    """Name of the head's layers in the network: ``fc`` where the head calls them ``classifier``."""
    kind: Literal["vector", "map"]
    """Features of an image are a vector (D,), or a map (C, H, W) before a ``conv`` head."""

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return what the frozen part computes, in evaluation mode and without gradient.

        Args:
            images: (B, C, H, W), normalised.

        Returns:
            (B, D), of clips (B, T, D), or (B, C', H', W') before a ``conv`` head, in the network's dtype and
            memory format.
        """
        with evaluating(self.module):
            return _compute_features(self.module, images)

    def check(self, images: Tensor) -> None:
        """Prove on a batch that the two parts do what the whole does; costs three forward passes.

        Args:
            images: (B, C, H, W), normalised, on the network's device.

        Raises:
            IntegrityError: The features aren't all that the head depends on.
        """
        features = self.features(images)
        with torch.no_grad(), evaluating(self.module), evaluating(self.head):
            equal = torch.equal(self.head(features), self.module(images))
        # Training mode is compared before the head, whose BatchNorm statistics a forward pass would move.
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.no_grad(), evaluating(self.module, mode=True), torch.random.fork_rng(devices=devices):
            torch.manual_seed(_CHECK_SEED)
            dropped = _compute_features(self.module, images)
            torch.manual_seed(_CHECK_SEED)
            expected = nn.functional.dropout(features, self.head.drop.p, training=True)
        if not (equal and torch.equal(dropped, expected)):
            raise IntegrityError(
                f"{type(self.module).__name__} does more between its features and its head than can be "
                "cached: cached and uncached training would differ. Set features.views to 0."
            )


def split_frozen(module: nn.Module) -> FrozenSplit:
    """Cut a network where its frozen part ends.

    Args:
        module: A network of ``build_model`` whose backbone is frozen (``freeze: [backbone]``), possibly
            wrapped. It isn't changed.

    Returns:
        The two parts.

    Raises:
        UsageError: Something before the head trains, or the network has no single head.
    """
    core = unwrap_module(module)
    if not hasattr(core, "forward_head"):
        raise UsageError(
            f"Features of {type(core).__name__} can't be cached: a video network has no features of single "
            "frames. Set features.views to 0."
        )
    prefixes = tuple(
        name for name in find_classifier_prefixes(core) if list(core.get_submodule(name).parameters())
    )
    if len(prefixes) != 1 or not isinstance(core.get_submodule(prefixes[0]), nn.Linear | nn.Sequential):
        raise UsageError(
            f"Features of {type(core).__name__} can't be cached: it has no single linear, mlp or conv head "
            f"({', '.join(prefixes) or 'none'}). Set features.views to 0."
        )
    if training := _find_training(core, prefixes):
        raise UsageError(
            f"Features can only be cached where all before the head is frozen; {len(training)} parts train "
            f"({', '.join(training[:3])}{' ...' if len(training) > 3 else ''}). "
            "Set model.freeze to [backbone], or features.views to 0."
        )
    classifier = core.get_submodule(prefixes[0])
    head = TrainedPart(classifier, _find_drop_rate(core, prefixes[0]))
    head.training = head.drop.training = core.training
    return FrozenSplit(
        module=core,
        head=head,
        classifier_prefix=prefixes[0],
        kind="map" if isinstance(classifier, ConvHead) else "vector",
    )


def _compute_features(module: nn.Module, images: Tensor) -> Tensor:
    network = cast("Any", module)
    features: Tensor = network.forward_head(network.forward_features(flatten_frames(images)), pre_logits=True)
    return features if images.ndim == 4 else features.view(*images.shape[:2], *features.shape[1:])


@contextmanager
def evaluating(module: nn.Module, *, mode: bool = False) -> Iterator[None]:
    """Set training or evaluation mode, and each module's own again at the end."""
    before = [(part, part.training) for part in module.modules()]
    module.train(mode)
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _find_training(module: nn.Module, prefixes: tuple[str, ...]) -> list[str]:
    """Return names of parameters and of buffers before the head that training may change."""
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    for prefix, part in module.named_modules():
        if not is_held_in_eval(part):
            names += [
                f"{prefix}.{name}" for name, _ in part.named_buffers(recurse=False) if "running" in name
            ]
    return [name for name in names if not is_under(name, prefixes)]


def _find_drop_rate(module: nn.Module, prefix: str) -> float:
    """Return the dropout that timm applies between pooling and classifier."""
    parent = module.get_submodule(prefix.rpartition(".")[0])
    for owner in (parent, module):
        for name in ("drop", "head_drop"):
            layer = getattr(owner, name, None)
            if isinstance(layer, nn.Dropout):
                return float(layer.p)
    return float(getattr(module, "drop_rate", 0.0) or 0.0)
