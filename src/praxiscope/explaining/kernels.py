"""The weights of convolutions as small pictures: what a filter is sensitive to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.models.layer_uses import find_head
from praxiscope.models.state import is_under

FloatArray = npt.NDArray[np.float32]
_RGB = 3


@dataclass(frozen=True, kw_only=True)
class LayerKernels:
    """Some of the filters of one convolution."""

    layer: str
    """Dotted name of the module."""
    weights: FloatArray
    """(f, i, kh, kw): f filters, each over i of its input channels."""
    filters: tuple[int, ...]
    """f, their numbers among the layer's output channels, from 0."""
    inputs: tuple[int, ...]
    """i, the numbers of the input channels, counted within a filter's group."""
    shape: tuple[int, ...]
    """(out, in / groups, kh, kw), of the whole layer."""
    is_rgb: bool
    """Whether its input is the image: the three input channels are then one colour picture."""
    is_backbone: bool
    """Whether it lies before the layers that map features to logits."""


def list_convolutions(module: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's 2D convolutions, in the order in which they are registered."""
    return tuple(name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d))


def choose_kernels(module: nn.Module, count: int = 5) -> tuple[str, ...]:
    """Choose convolutions whose kernels are worth a look: wider than one pixel, from the first to the last.

    The first is always among them, and so are those of a ``conv`` head.

    Args:
        module: The network.
        count: How many at most.

    Raises:
        UsageError: The network has no 2D convolution.
    """
    names = list_convolutions(module)
    if not names:
        raise UsageError(f"{type(module).__name__} has no 2D convolution, so there are no kernels to show.")
    layers = {name: module.get_submodule(name) for name in names}
    wide = [name for name in names[1:] if max(_kernel_size(layers[name])) > 1]
    head = [name for name in wide if is_under(name, find_head(module))]
    body = [name for name in wide if name not in head]
    room = max(count - 1 - len(head), 0)
    places = np.linspace(0, len(body) - 1, min(room, len(body))).round().astype(int).tolist()
    chosen = {names[0], *head, *(body[place] for place in places)}
    return tuple(name for name in names if name in chosen)


def collect_kernels(
    module: nn.Module,
    layers: Sequence[str] | None = None,
    *,
    inputs: Sequence[int] | None = None,
    max_filters: int = 64,
    max_inputs: int = 16,
) -> tuple[LayerKernels, ...]:
    """Return filters of convolutions.

    A layer that sees the image (three input channels, the first one) gives whole colour filters: at most
    ``max_filters`` of them. So does the patch embedding of a Vision Transformer. A depthwise layer gives one
    kernel for each filter. Any other gives a table of its filters by their input channels. Of more than fit,
    those with the largest norm are kept, in the order of their numbers.

    Args:
        module: The network, unwrapped.
        layers: Names of 2D convolutions; well-chosen ones where None.
        inputs: Input channels to show of layers deeper than the first; the strongest where None.
        max_filters: Filters kept of a layer at most; tables keep a quarter of it.
        max_inputs: Input channels kept at most where ``inputs`` is None.

    Returns:
        One entry for each layer, in the network's order.

    Raises:
        UsageError: No such convolution, or an input channel that it hasn't.
    """
    names = list_convolutions(module)
    wanted = choose_kernels(module) if layers is None else layers
    for name in wanted:
        if name not in names:
            raise UsageError(
                f"The network has no 2D convolution '{name}'.{did_you_mean(name, names)} "
                f"It has {len(names)}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}."
            )
    head = find_head(module)
    found = []
    for name in (name for name in names if name in set(wanted)):
        layer = module.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        weights = layer.weight.detach().float().cpu()
        is_rgb = name == names[0] and weights.shape[1] == _RGB
        rows, columns = _select(name, weights, None if is_rgb else inputs, max_filters, max_inputs)
        found.append(
            LayerKernels(
                layer=name,
                weights=weights[rows][:, columns].numpy(),
                filters=tuple(rows),
                inputs=tuple(columns),
                shape=tuple(weights.shape),
                is_rgb=is_rgb,
                is_backbone=not is_under(name, head),
            )
        )
    return tuple(found)


def _select(
    name: str, weights: Tensor, inputs: Sequence[int] | None, max_filters: int, max_inputs: int
) -> tuple[list[int], list[int]]:
    """Return which filters and which of their input channels are kept."""
    sizes = weights.square().sum(dim=(2, 3))
    available = weights.shape[1]
    if inputs is not None and available > 1:
        if wrong := [each for each in inputs if not 0 <= each < available]:
            raise UsageError(
                f"'{name}' has no input channel {wrong[0]}; choose from 0 to {available - 1} "
                f"({available} for each filter)."
            )
        columns = list(dict.fromkeys(inputs))
    else:
        columns = _strongest(sizes.sum(dim=0), max_inputs)
    single = available in {1, _RGB} and len(columns) == available
    return _strongest(sizes.sum(dim=1), max_filters if single else max(max_filters // 4, 1)), columns


def _strongest(sizes: Tensor, count: int) -> list[int]:
    kept = torch.argsort(sizes, descending=True, stable=True)[:count]
    return sorted(int(place) for place in kept)


def _kernel_size(layer: nn.Module) -> tuple[int, ...]:
    assert isinstance(layer, nn.Conv2d)
    return layer.kernel_size
