"""Cutting samples into splits: stratified by label, by whole groups, by seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

_LEAST_SAMPLES = 3
"""A class with fewer groups than this stays where the greedy rule puts it; larger ones reach every part."""


def cut_split(
    labels: Sequence[str], groups: Sequence[Hashable], fractions: Mapping[str, float], *, seed: int
) -> list[str]:
    """Assign every sample to a part, whole groups at a time.

    Groups are taken largest first, equal sizes in an order drawn by `seed`, and go where the squared distance
    to the wanted counts per class shrinks most. Where each sample is its own group the counts are exact.

    Args:
        labels: Class name per sample.
        groups: Group per sample; samples of one group get one part.
        fractions: Part to its share in [0, 1]; they sum to 1. The first part takes the rest.
        seed: Draws the order.

    Returns:
        The part of each sample.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    counts = {group: Counter(labels[index] for index in indices) for group, indices in members.items()}
    need = _wanted_counts(counts, fractions)
    order = list(members)
    np.random.default_rng([seed, len(labels)]).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))
    chosen: dict[Hashable, str] = {}
    for group in order:
        part = max(need, key=lambda name: sum(n * need[name][label] for label, n in counts[group].items()))
        chosen[group] = part
        for label, n in counts[group].items():
            need[part][label] -= n
    _fill_empty_parts(chosen, order, [part for part, share in fractions.items() if share > 0])
    return [chosen[group] for group in groups]


def _wanted_counts(
    counts: Mapping[Hashable, Counter[str]], fractions: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    samples: Counter[str] = Counter()
    num_groups: Counter[str] = Counter()
    for count in counts.values():
        samples.update(count)
        num_groups.update(count.keys())
    first, *rest = fractions
    need: dict[str, dict[str, float]] = {part: {} for part in fractions}
    for label in sorted(samples):
        for part in rest:
            wanted = round(fractions[part] * samples[label])
            enough = fractions[part] > 0 and num_groups[label] >= _LEAST_SAMPLES
            # Macro scores over a split that lacks a class say nothing about it: one sample at least.
            need[part][label] = max(wanted, 1) if enough else wanted
        need[first][label] = samples[label] - sum(need[part][label] for part in rest)
    return need


def _fill_empty_parts(chosen: dict[Hashable, str], order: Sequence[Hashable], parts: Sequence[str]) -> None:
    """Move the smallest groups into parts that got none, as long as the part they leave keeps one."""
    for part in parts:
        if part in chosen.values():
            continue
        sizes = Counter(chosen.values())
        donor = next((group for group in reversed(order) if sizes[chosen[group]] > 1), None)
        if donor is not None:
            chosen[donor] = part
