"""A network's layers as it uses them: each call of a module is a layer of its own."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from praxiscope.models.split import evaluating
from praxiscope.models.state import find_classifier_prefixes, is_under

Kind = Literal["conv", "linear", "act", "norm", "pool", "embed", "attention", "block", "other"]
Layout = Literal["map", "map-last", "volume", "volume-last", "tokens", "vector", "other"]

# They pass on what they are given, in evaluation at least: no layers to look at.
_PASSING = ("Identity", "Dropout", "DropPath", "Flatten", "LayerScale")
_ACTIVATION_MODULES = ("torch.nn.modules.activation", "timm.layers.activations")
_NO_ACTIVATIONS = ("MultiheadAttention", "Softmax", "LogSoftmax", "Softmax2d", "Softmin")
_HEAD_NAMES = ("fc", "classifier", "heads", "head")
_MAX_PREFIX_TOKENS = 17  # a class token, a distillation token, and as many registers as networks have


@dataclass(frozen=True, kw_only=True)
class LayerUse:
    """One call of one module in a forward pass."""

    name: str
    """``layer1.0.act1``; the second call of the same module is ``layer1.0.act1#2``."""
    module_name: str
    """The module's dotted name, without the number of the call."""
    call: int
    """Which call of the module it is, from 1."""
    kind: Kind
    """What the module is; ``block`` is whatever has layers of other kinds inside."""
    function: str
    """Class of the module: ``ReLU6``."""
    shape: tuple[int, ...]
    """Of the output for one image, as the network has it."""
    layout: Layout
    """``map`` (C, h, w), ``map-last`` (h, w, C), ``tokens`` (T, C), ``vector`` (C,), of video networks
    ``volume`` (C, t, h, w) and ``volume-last`` (t, h, w, C), or ``other``."""
    grid: tuple[int, int] | None
    """(h, w) of a map, or of the patches that tokens stand for; None for vectors."""
    volume: tuple[int, int, int] | None
    """(t, h, w) of a volume, or of the patches of all frames that tokens stand for; None for others."""
    prefix_tokens: int
    """Tokens before the patches' (class token, registers); 0 but for tokens."""
    is_backbone: bool
    """Whether it comes before the layers that map features to logits."""
    same_as: str | None
    """Name of the layer inside it whose very output it passes on: ``layer1`` gives what ``layer1.1`` gave."""

    @property
    def channels(self) -> int:
        """C: channels of a map, features of a token or of a vector."""
        return self.shape[0] if self.layout in {"map", "volume", "vector"} else self.shape[-1]

    def to_units(self, output: Tensor) -> Tensor:
        """Return an output of this layer as (N, C, P): P positions of each unit, a class token's included."""
        if self.layout == "vector":
            return output.unsqueeze(-1)
        if self.layout in {"map", "volume"}:
            return output.flatten(2)
        return output.flatten(1, -2).transpose(1, 2)  # the last axis, as ``channels`` counts it

    def to_maps(self, output: Tensor) -> Tensor:
        """Return an output of this layer as (N, C, h, w); what isn't a patch token is left out.

        Of a volume the steps of time stand below each other, (N, C, t x h, w).

        Raises:
            ValueError: The layer has neither; look at ``grid`` and ``volume`` first.
        """
        if self.layout in {"volume", "volume-last"}:
            return (output if self.layout == "volume" else output.movedim(-1, 1)).flatten(2, 3)
        sides = self.grid
        if self.volume is not None:
            steps, height, width = self.volume
            sides = (steps * height, width)
        if sides is None:
            raise ValueError(f"'{self.name}' puts out {self.shape}, which is no map")
        if self.layout == "tokens":
            patches = output[:, self.prefix_tokens :].transpose(1, 2)
            return patches.reshape(*patches.shape[:2], *sides)
        return output.movedim(-1, 1) if self.layout == "map-last" else output


OnOutput = Callable[[LayerUse, Tensor], None]


def list_layers(module: nn.Module, example: Tensor) -> tuple[LayerUse, ...]:
    """Return every use of a layer in one forward pass, in the order in which their outputs are ready.

    Left out are layers that pass on what they get (identities, dropout) and those that don't put out a
    tensor. What a network computes outside of modules (``F.relu``) has no name and can't be listed.

    Args:
        module: A network of timm or torchvision, or one like it, unwrapped. It isn't changed.
        example: (N, 3, H, W), or (N, T, 3, H, W) of a network of clips, normalised or not: only shapes are
            looked at.

    Returns:
        The uses; a block comes after the layers inside it.
    """
    head = find_head(module)
    prefix, first_volume = getattr(module, "num_prefix_tokens", None), _find_first_volume(module)
    samples = {len(example), example.shape[:2].numel()} if example.ndim == 5 else None
    names = {each: name for name, each in module.named_modules() if name}
    calls: Counter[str] = Counter()
    seen: dict[tuple[int, int], str] = {}
    kept: list[Tensor] = []  # an id is unique among living objects only
    uses: list[LayerUse] = []

    def note(layer: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim < 2:
            return
        name = names[layer]
        calls[name] += 1
        use_name = name_use(name, calls[name])
        # The version tells a ReLU that works in place from the normalisation whose tensor it overwrote.
        mark = (id(output), output._version)  # noqa: SLF001 - torch has no other way to ask
        shape = tuple(output.shape[1:])
        layout, grid, before = _describe_shape(shape, prefix)
        volume = None
        if samples is None or len(output) in samples:  # attention makes samples of its heads for a while
            volume = _describe_volume(layout, shape, first_volume)
        if volume is not None and layout == "tokens":
            grid, before = None, 1
        uses.append(
            LayerUse(
                name=use_name, module_name=name, call=calls[name], kind=find_kind(layer),
                function=type(layer).__name__, shape=shape, layout=layout, grid=grid,
                volume=volume, prefix_tokens=before, is_backbone=not is_under(name, head),
                same_as=seen.get(mark),
            )
        )  # fmt: skip
        seen.setdefault(mark, use_name)
        kept.append(output)

    handles = [each.register_forward_hook(note) for each in names if not _is_passing(each)]
    try:
        with torch.no_grad(), evaluating(module):
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(uses)


@contextlib.contextmanager
def watch_layers(module: nn.Module, uses: Sequence[LayerUse], on_output: OnOutput) -> Iterator[None]:
    """Call ``on_output(use, output)`` at each of the uses during one forward pass inside the context.

    The output is the network's own tensor, with its graph: what should outlive the call has to be copied, as
    a later layer may overwrite it in place.
    """
    layers = dict(module.named_modules())
    wanted = {(use.module_name, use.call): use for use in uses}
    calls: Counter[str] = Counter()

    def hook_for(name: str) -> Any:
        def hook(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
            calls[name] += 1
            if (name, calls[name]) in wanted:
                on_output(wanted[name, calls[name]], output)

        return layers[name].register_forward_hook(hook)

    handles = [hook_for(name) for name in dict.fromkeys(use.module_name for use in uses)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def name_use(module_name: str, call: int) -> str:
    """Return how a use is called.

    >>> name_use("act1", 1), name_use("act1", 2)
    ('act1', 'act1#2')
    """
    return module_name if call == 1 else f"{module_name}#{call}"


def find_head(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers that give the logits: as timm declares them, or by usual names."""
    declared = find_classifier_prefixes(module)
    if declared:
        return declared
    children = dict(module.named_children())
    return next(((name,) for name in _HEAD_NAMES if name in children), ())


def find_kind(layer: nn.Module) -> Kind:
    """Return what kind of layer a module is."""
    words = type(layer).__name__
    if is_activation(layer):
        return "act"
    if isinstance(layer, nn.modules.conv._ConvNd):  # noqa: SLF001 - the common base has no public name
        return "conv"
    if isinstance(layer, nn.Linear):
        return "linear"
    if "Attention" in words or words.endswith("Attn"):
        return "attention"
    if "PatchEmbed" in words:
        return "embed"
    inner = sum(isinstance(each, nn.modules.conv._ConvNd | nn.Linear) for each in layer.modules())  # noqa: SLF001
    if inner:  # a convolution with its normalisation and activation is one layer, more is a block
        return "conv" if inner == 1 else "block"
    named: dict[str, Kind] = {"Norm": "norm", "Pool": "pool"}
    kind = next((kind for word, kind in named.items() if word in words), None)
    return kind or ("block" if next(layer.children(), None) is not None else "other")


def is_activation(layer: nn.Module) -> bool:
    """Whether a module is an activation function of torch or timm."""
    kind = type(layer)
    return kind.__module__.startswith(_ACTIVATION_MODULES) and kind.__name__ not in _NO_ACTIVATIONS


def _is_passing(layer: nn.Module) -> bool:
    return any(word in type(layer).__name__ for word in _PASSING)


def _describe_shape(shape: tuple[int, ...], prefix: int | None) -> tuple[Layout, tuple[int, int] | None, int]:
    """Return layout, grid and number of tokens before the patches'."""
    if len(shape) == 1:
        return "vector", None, 0
    if len(shape) == 2:
        tokens = _find_grid(shape[0], prefix)
        return "tokens", *tokens
    # Evaluation crops are square, so equal sides tell (h, w, C) of a Swin from (C, h, w) of a CNN.
    if len(shape) == 4:
        return ("volume-last" if shape[1] == shape[2] != shape[3] else "volume"), None, 0
    if len(shape) != 3:
        return "other", None, 0
    if shape[0] == shape[1] != shape[2]:
        return "map-last", (shape[0], shape[1]), 0
    return "map", (shape[1], shape[2]), 0


def _find_grid(tokens: int, prefix: int | None) -> tuple[tuple[int, int] | None, int]:
    """Return the square that tokens make up, and how many come before it."""
    for before in ([prefix] if prefix is not None else []) + list(range(_MAX_PREFIX_TOKENS)):
        side = math.isqrt(max(tokens - before, 0))
        if side > 1 and side * side + before == tokens:
            return (side, side), before
    return None, 0


def _find_first_volume(module: nn.Module) -> tuple[int, int, int] | None:
    """Return (t, h, w) of the patches that a network of tokens over time begins with: torchvision's MViT."""
    encoding = getattr(module, "pos_encoding", None)
    size, steps = getattr(encoding, "spatial_size", None), getattr(encoding, "temporal_size", None)
    return None if size is None or steps is None else (steps, *size)


def _describe_volume(
    layout: Layout, shape: tuple[int, ...], first: tuple[int, int, int] | None
) -> tuple[int, int, int] | None:
    """Return (t, h, w) of an output: of tokens that of patches whose sides were halved often enough."""
    if layout in {"volume", "volume-last"}:
        steps, height, width = shape[1:] if layout == "volume" else shape[:3]
        return steps, height, width
    if layout != "tokens" or first is None:
        return None
    steps, height, width = first
    while height > 1 and width > 1:
        if steps * height * width + 1 == shape[0]:  # one is the class token
            return steps, height, width
        height, width = -(-height // 2), -(-width // 2)
    return None
