"""EPIC-KITCHENS-100's figures of a predictions table with the heads ``verb`` and ``noun``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from praxiscope.data.epic_sets import SIZES, holds_lists, number_classes, read_epic_sets
from praxiscope.data.manifest import Manifest
from praxiscope.errors import DataError
from praxiscope.evaluation.joint import rank_targets
from praxiscope.evaluation.predictions import Predictions
from praxiscope.stats.bootstrap import bootstrap_means, code_groups
from praxiscope.stats.epic import TOPS, Mask, compute_epic_accuracies, name_accuracy, select_sets
from praxiscope.stats.intervals import open_extreme
from praxiscope.stats.topk import compute_target_ranks

HEADS = ("verb", "noun")
EPIC_RULE = (
    "EPIC-KITCHENS-100 (Damen et al. 2022): means over segments; unseen: participants absent from training; "
    "tail: segments whose verb (noun; for actions verb or noun) is in the benchmark's list of rare classes; "
    "actions are ranked by the product of softmax probabilities. The benchmark prints these times 100, of "
    "unseen and tail only the top-1. Intervals are by participant, where that is the group."
)


@dataclass(frozen=True, kw_only=True)
class EpicLabels:
    """The benchmark's sets in the words of a predictions table.

    Attributes:
        tail: head to its tail classes by label name; None where the benchmark's list was absent.
        unseen: participants.
        notes: what was absent.
    """

    tail: Mapping[str, tuple[str, ...] | None]
    unseen: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_epic_labels(manifest: Manifest) -> EpicLabels | None:
    """Return the sets to score a manifest's samples with, None where they are no EPIC-KITCHENS segments.

    They are where the source is ``epic``, or where the heads are verb and noun and the benchmark's lists lie
    in the data folder.

    Raises:
        DataError: A list can't be read, or a label isn't one of the benchmark's.
    """
    if set(manifest.heads) != set(HEADS) or not (manifest.source == "epic" or holds_lists(manifest.root)):
        return None
    sets = read_epic_sets(manifest.root)
    tail: dict[str, tuple[str, ...] | None] = {}
    for head, ids in sets.tail.items():
        names = manifest.heads[head]
        numbers = _number_labels(manifest, head)
        pairs = zip(names, numbers, strict=True)
        tail[head] = None if ids is None else tuple(name for name, own in pairs if own in ids)
    return EpicLabels(tail=tail, unseen=tuple(sorted(sets.unseen)), notes=sets.notes)


def restore_epic_labels(stored: Mapping[str, Any]) -> EpicLabels:
    """Return the sets that an evaluation was made with, from the ``epic`` of a ``metrics.json``."""
    tail = {head: None if names is None else tuple(names) for head, names in stored["sets"]["tail"].items()}
    return EpicLabels(tail=tail, unseen=tuple(stored["sets"]["unseen"]), notes=tuple(stored["notes"]))


def score_epic(predictions: Predictions, labels: EpicLabels, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the benchmark's figures.

    Args:
        predictions: Of the heads ``verb`` and ``noun``; the group is the participant.
        labels: The sets.
        plan: ``seed``, ``resamples`` and ``level`` of the bootstrap.

    Returns:
        ``figures``: the benchmark's name to ``value`` (in [0, 1]), ``low``, ``high`` and ``n`` segments;
        NaN where a set is empty or its list was absent; ``sets``, ``notes``, ``sentences``, ``rule``.
    """
    ranks = {
        head: compute_target_ranks(predictions.logits(head), predictions.targets(head)) for head in HEADS
    }
    ranks["action"] = rank_targets(predictions)
    groups = predictions.groups
    masks = {head: _mark_tail(predictions, labels, head) for head in HEADS}
    sets = select_sets(
        tail_verb=masks["verb"],
        tail_noun=masks["noun"],
        unseen=np.array([group in labels.unseen for group in groups], dtype=np.bool_),
    )
    values = compute_epic_accuracies(ranks, sets)
    figures: dict[str, Any] = {}
    for (subset, task), mask in sets.items():
        hits = {name_accuracy(subset, task, top): (ranks[task] < top)[mask] for top in TOPS}
        chosen = [group for group, inside in zip(groups, mask.tolist(), strict=True) if inside]
        for name, interval in _resample(hits, chosen, plan).items():
            figures[name] = {"value": values[name], **interval, "n": int(mask.sum())}
    return {
        "figures": figures,
        "sets": {
            "tail": {head: None if names is None else list(names) for head, names in labels.tail.items()},
            "unseen": list(labels.unseen),
        },
        "notes": list(labels.notes),
        "sentences": [*labels.notes, *_tell_empty(figures, labels)],
        "rule": EPIC_RULE,
    }


def find_class_ids(manifest: Manifest) -> dict[str, list[int]]:
    """Return the benchmark's ids of a manifest's verbs and nouns, in the order of their names.

    Raises:
        DataError: The heads aren't verb and noun, or a label isn't one of the benchmark's.
    """
    if set(manifest.heads) != set(HEADS):
        raise DataError(
            f"A submission to EPIC-KITCHENS-100 holds verbs and nouns; the heads here are "
            f"{', '.join(manifest.heads)}. Name them verb and noun (data.heads)."
        )
    return {head: _number_labels(manifest, head) for head in manifest.heads}


def _number_labels(manifest: Manifest, head: str) -> list[int]:
    names = manifest.heads[head]
    if manifest.source == "epic" and len(names) == SIZES[head]:
        return list(range(len(names)))  # the source lists all classes in the order of their ids
    return number_classes(manifest.root, head, names)


def _mark_tail(predictions: Predictions, labels: EpicLabels, head: str) -> Mask:
    rare = set(labels.tail.get(head) or ())
    inside = np.array([name in rare for name in predictions.names(head)], dtype=np.bool_)
    return np.asarray(inside[predictions.targets(head)], dtype=np.bool_)


def _resample(
    hits: Mapping[str, Mask], groups: list[str | None], plan: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    if not groups:
        return {name: {"low": float("nan"), "high": float("nan")} for name in hits}
    found = bootstrap_means(hits, groups=groups, **plan)
    num_groups = int(code_groups(groups, len(groups)).max()) + 1
    opened = {name: open_extreme(one, num_groups, level=plan["level"]) for name, one in found.items()}
    return {name: {"low": one.low, "high": one.high} for name, one in opened.items()}


def _tell_empty(figures: Mapping[str, Any], labels: EpicLabels) -> list[str]:
    if figures[name_accuracy("unseen", "action", 1)]["n"]:
        return []
    told = ", ".join(labels.unseen)
    return [f"No segment here is of an unseen participant ({told}), so those accuracies are undefined."]
