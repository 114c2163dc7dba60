"""The layer that a class activation map is drawn from, and the graph cut in front of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from praxiscope.errors import UsageError
from praxiscope.explaining.layers import find_backbone_end, find_layer
from praxiscope.explaining.subject import Subject
from praxiscope.models.layer_uses import LayerUse, find_kind, list_layers
from praxiscope.models.state import is_under
from praxiscope.models.temporal import TemporalHead

MIN_CELLS = 5
"""Cells a side below which a map can hardly point: of 4 x 4 each covers a sixteenth of the image."""


def choose_target_layer(subject: Subject) -> str:
    """Return the layer whose map is usually explained.

    Of convolutional networks and others that end in a map: the last feature map before pooling; with a
    ``conv`` head the head's last activation map. Of Vision Transformers: what the last attention layer reads
    (``blocks.11.norm1``), as behind it only the class token matters to the score.

    Costs one forward pass of one image.

    Raises:
        UsageError: The network has neither maps nor patch tokens.
    """
    return choose_target_use(subject, list_layers(subject.module, subject.make_example())).name


def choose_target_use(subject: Subject, uses: tuple[LayerUse, ...]) -> LayerUse:
    """Return the layer that :func:`choose_target_layer` names, from the network's uses."""
    last = choose_last(subject.module, uses, [use for use in uses if _has_map(use)])
    if last is None:
        raise UsageError(
            f"{subject.label}: no layer of {type(subject.module).__name__} puts out a map or patch tokens "
            "that could be explained. Use integrated-gradients or occlusion, which need no layer."
        )
    if last.layout == "tokens" and _list_attention(subject.module):
        return last
    end = find_backbone_end(uses)
    return end if last.is_backbone and end is not None and end.grid == last.grid else last


def choose_last(module: nn.Module, uses: Sequence[LayerUse], mapped: Sequence[LayerUse]) -> LayerUse | None:
    """Return the last of some layers; of patch tokens what the last attention layer reads.

    Args:
        module: The network.
        uses: All of its layers.
        mapped: Those to choose from.
    """
    attention = _list_attention(module)
    outside = [use for use in mapped if not is_under(use.module_name, attention)]
    if not outside:
        return None
    last = outside[-1]
    if last.layout != "tokens" or not attention:
        return last
    reader = attention[-1]
    before = _list_before(module, uses, reader)
    read = [use for use in outside if use in before and not is_under(reader, (use.module_name,))]
    return read[-1] if read else last


def _list_attention(module: nn.Module) -> tuple[str, ...]:
    """Return the attention layers, but for those over time."""
    over_time = tuple(name for name, each in module.named_modules() if isinstance(each, TemporalHead))
    return tuple(
        name
        for name, each in module.named_modules()
        if find_kind(each) == "attention" and not is_under(name, over_time)
    )


def _list_before(module: nn.Module, uses: Sequence[LayerUse], reader: str) -> Sequence[LayerUse]:
    """Return the layers in front of an attention layer, by its inner layers or, without any, its place."""
    inner = next((place for place, use in enumerate(uses) if is_under(use.module_name, (reader,))), None)
    if inner is not None:
        return uses[:inner]
    # MultiheadAttention calls no layers and puts out a pair: the order of definition must do.
    names = [name for name, _ in module.named_modules()]
    defined = set(names[: names.index(reader)])
    return [use for use in uses if use.module_name in defined]


def find_target_use(subject: Subject, uses: tuple[LayerUse, ...], layer: str | None) -> LayerUse:
    """Return the use of a layer that a person named, or the usual one.

    Raises:
        UsageError: There is no such layer, or it puts out no map.
    """
    if layer is None:
        return choose_target_use(subject, uses)
    use = find_layer(uses, layer)
    if not _has_map(use):
        raise UsageError(
            f"'{layer}' puts out {use.shape} for an image, which is no map; "
            f"choose a layer with one, as '{choose_target_use(subject, uses).name}'."
        )
    return use


def describe_coarse(uses: tuple[LayerUse, ...], use: LayerUse) -> str | None:
    """Return a warning where a layer's map has fewer than 5 x 5 cells, with a layer that is finer; else None.

    Args:
        uses: All of the network's.
        use: One that has a map.
    """
    assert use.grid is not None
    if min(use.grid) >= MIN_CELLS:
        return None
    finer = [each for each in uses if _has_map(each) and each.grid and min(each.grid) >= MIN_CELLS]
    named = find_backbone_end(finer)
    advice = (
        f"look at an earlier layer too: --layer {named.name} has {named.grid[0]} x {named.grid[1]}."
        if named is not None and named.grid is not None
        else "give the network larger images."
    )
    return (
        f"A map at {use.name} has only {use.grid[0]} x {use.grid[1]} cells, too few to point at anything; "
        f"{advice}"
    )


@contextlib.contextmanager
def cut_graph(module: nn.Module, use: LayerUse) -> Iterator[list[Tensor]]:
    """Make one use of a layer the only leaf of the graph: what comes before it leaves no trace in memory.

    Args:
        module: A network whose parameters need no gradient; forward passes are run inside the context.
        use: The layer.

    Yields:
        Gets the output of each forward pass as a leaf that needs gradient, before anything overwrites it.
    """
    leaves: list[Tensor] = []
    calls = 0

    def count(_module: nn.Module, _inputs: object) -> None:
        nonlocal calls
        calls = 0

    def cut(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls != use.call:
            return None
        leaf = output.detach().requires_grad_()
        leaves.append(leaf)
        return leaf.clone()  # an activation that works in place may not touch a leaf

    handles = [
        module.register_forward_pre_hook(count),
        module.get_submodule(use.module_name).register_forward_hook(cut),
    ]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()


def _has_map(use: LayerUse) -> bool:
    return use.grid is not None and use.grid != (1, 1)
