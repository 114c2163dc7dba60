"""Which layers are looked at: named by a person, or well chosen where nobody names any."""

from __future__ import annotations

from collections.abc import Sequence

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.models.catalog import Family
from praxiscope.models.layer_uses import LayerUse, list_layers

__all__ = ["LayerUse", "choose_layers", "find_backbone_end", "find_layer", "list_layers"]
# list_layers itself lives in models, where training, which knows nothing of explanations, finds it too.


def choose_layers(uses: Sequence[LayerUse], family: Family, count: int = 6) -> tuple[LayerUse, ...]:
    """Choose the layers that show best how an image becomes classes.

    Of a CNN: the stem, the last block at each size of the map, the end of the backbone, and the convolutions
    of a ``conv`` head. Of a Vision Transformer: the patch embedding, blocks at even distances with the last
    one, and the final normalisation. Of more than ``count``, the end of the backbone and the head's are kept
    and the others thinned evenly.

    Args:
        uses: As ``list_layers`` gives them.
        family: The network's.
        count: How many at most, 1 or more.

    Returns:
        The chosen ones in the network's order, each with a map or patch tokens; fewer where there are fewer.

    Raises:
        UsageError: No layer puts out a map.
    """
    mapped = [use for use in uses if use.grid is not None and use.grid != (1, 1)]
    end = find_backbone_end(uses)
    candidates = _list_token_stages(mapped) if family == "vit" else _list_map_stages(mapped)
    head = [use for use in mapped if not use.is_backbone and use.kind == "act"]
    needed = ([end] if end else []) + head
    rest = [use for use in candidates if _root(use) not in {_root(each) for each in needed}]
    room = max(count - len(needed), 0)
    chosen = [*_thin(rest, room), *needed[-count:]]
    if not chosen:
        raise UsageError("No layer of this network puts out a map or patch tokens; name layers that do.")
    order = {use.name: place for place, use in enumerate(uses)}
    return tuple(sorted(chosen, key=lambda use: order[use.name]))


def find_backbone_end(uses: Sequence[LayerUse]) -> LayerUse | None:
    """Return the last layer before the head that still has a map or patch tokens, under its shortest name."""
    mapped = [use for use in uses if use.grid is not None and use.grid != (1, 1)]
    last = next((use for use in reversed(mapped) if use.is_backbone and use.kind != "pool"), None)
    return None if last is None else _prefer_stage(last, uses, _find_ends(mapped))


def find_layer(uses: Sequence[LayerUse], name: str) -> LayerUse:
    """Return the use of that name.

    Raises:
        UsageError: There is none; the message names the nearest.
    """
    for use in uses:
        if use.name == name:
            return use
    calls = [use.name for use in uses if use.module_name == name.split("#", maxsplit=1)[0]]
    if calls:
        raise UsageError(
            f"'{name}': that layer is used {len(calls)} time{'s' if len(calls) > 1 else ''}; "
            f"choose of {', '.join(calls)}."
        )
    names = [use.name for use in uses]
    raise UsageError(
        f"The network has no layer '{name}'.{did_you_mean(name, names)} "
        f"Among its {len(names)} layers are {', '.join(_sketch(names))}."
    )


def _sketch(names: Sequence[str]) -> list[str]:
    """Return some of the names: the shallowest ones, which are the stages."""
    shallow = sorted(names, key=lambda name: name.count("."))[:12]
    return [name for name in names if name in shallow]


def _list_map_stages(mapped: Sequence[LayerUse]) -> list[LayerUse]:
    """Return the stem and the last block at each map size; of networks without blocks, the activations."""
    backbone = [use for use in mapped if use.is_backbone]
    ends = _find_ends(mapped)
    named = [_prefer_stage(use, mapped, ends) for use in ends]
    return [*_find_stem(backbone, named), *named] if named and named[0].kind == "block" else named


def _find_ends(mapped: Sequence[LayerUse]) -> list[LayerUse]:
    backbone = [use for use in mapped if use.is_backbone]
    ends = _last_of_each_size([use for use in backbone if use.kind == "block"])
    if len(ends) >= 3 or any(use.layout == "tokens" for use in ends):
        return ends
    return _last_of_each_size([use for use in backbone if use.kind == "act"]) or ends


def _find_stem(backbone: Sequence[LayerUse], stages: Sequence[LayerUse]) -> list[LayerUse]:
    """Return what comes before the first stage: its activation, or its last layer where it has none."""
    inside = stages[0].module_name
    outside = []
    for use in backbone:
        if use.module_name == inside or use.module_name.startswith(f"{inside}."):
            break
        outside.append(use)
    acts = [use for use in outside if use.kind in {"act", "embed"}]
    return acts[:1] or outside[-1:]


def _list_token_stages(mapped: Sequence[LayerUse]) -> list[LayerUse]:
    """Return the patch embedding and every transformer block."""
    backbone = [use for use in mapped if use.is_backbone]
    first = next((use for use in backbone if use.kind in {"embed", "conv"}), None)
    inner = [use for use in backbone if use.kind == "block" and use.layout == "tokens"]
    # The stack of blocks holds blocks, and a block holds an MLP; only blocks have siblings of their kind.
    names = {use.name for use in inner}
    parents = {name.rpartition(".")[0] for name in names}
    stacks = {p for p in parents if sum(name.rpartition(".")[0] == p for name in names) > 1 and p}
    blocks = [use for use in inner if use.name.rpartition(".")[0] in stacks]
    depth = min((use.name.count(".") for use in blocks), default=0)
    return ([first] if first else []) + [use for use in blocks if use.name.count(".") == depth]


def _last_of_each_size(uses: Sequence[LayerUse]) -> list[LayerUse]:
    last = {use.grid: use for use in uses}
    kept = {use.name for use in last.values()}
    return [use for use in uses if use.name in kept]


def _prefer_stage(use: LayerUse, uses: Sequence[LayerUse], ends: Sequence[LayerUse]) -> LayerUse:
    """Return the shortest name of the same output that is a stage's: one that holds no other stage's end."""
    root = _root(use)
    same = [u for u in uses if _root(u) == root and u.kind in {"block", "conv"} and u.is_backbone]
    stages = [
        each
        for each in same
        if not any(e.name.startswith(f"{each.module_name}.") and _root(e) != root for e in ends)
    ]
    inner = next((each for each in uses if each.name == root), use)
    return min(stages, key=lambda each: each.name.count("."), default=inner)


def _root(use: LayerUse) -> str:
    return use.same_as or use.name


def _thin(uses: Sequence[LayerUse], count: int) -> list[LayerUse]:
    """Return ``count`` of the uses at even distances, the first and the last among them."""
    if len(uses) <= count:
        return list(uses)
    if count <= 1:
        return list(uses[:count])
    return [uses[round(place * (len(uses) - 1) / (count - 1))] for place in range(count)]
