"""EPIC-KITCHENS-100's accuracies under its own names (Damen et al. 2022, https://arxiv.org/abs/2006.13256).

Each name is ``<set>_<task>_accuracy_at_<k>``. Sets: ``all`` segments; those of ``unseen`` participants, who
aren't in training; the ``tail``, whose verb (for the task noun: whose noun, for action: whose verb or noun)
is in the benchmark's list of rare classes. An action is its verb and its noun; actions are ranked by the
product of softmax probabilities (:mod:`praxiscope.stats.joint`). Accuracies are means over segments.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from praxiscope.stats.labels import IntArray

SETS = ("all", "unseen", "tail")
TASKS = ("verb", "noun", "action")
TOPS = (1, 5)

Mask = npt.NDArray[np.bool_]


def name_accuracy(subset: str, task: str, top: int) -> str:
    """Return the benchmark's name of an accuracy.

    >>> name_accuracy("tail", "noun", 1)
    'tail_noun_accuracy_at_1'
    """
    return f"{subset}_{task}_accuracy_at_{top}"


def select_sets(*, tail_verb: Mask, tail_noun: Mask, unseen: Mask) -> dict[tuple[str, str], Mask]:
    """Return which segments count for each set and task.

    Args:
        tail_verb: (N,) whether the segment's verb is in the tail.
        tail_noun: (N,) whether its noun is.
        unseen: (N,) whether its participant is unseen.

    Returns:
        (set, task) to (N,).
    """
    tail = {"verb": tail_verb, "noun": tail_noun, "action": tail_verb | tail_noun}
    found: dict[tuple[str, str], Mask] = {}
    for task in TASKS:
        found["all", task] = np.ones_like(unseen)
        found["unseen", task] = unseen
        found["tail", task] = tail[task]
    return found


def compute_epic_accuracies(
    ranks: Mapping[str, IntArray], sets: Mapping[tuple[str, str], Mask]
) -> dict[str, float]:
    """Compute all accuracies.

    Args:
        ranks: Task to (N,) places of the true label, 0 for the best; anything from 5 on counts as wrong.
        sets: From `select_sets`.

    Returns:
        Name to a fraction in [0, 1], NaN where a set holds no segment; the benchmark prints them times 100.
    """
    accuracies = {}
    for (subset, task), mask in sets.items():
        chosen = ranks[task][mask]
        for top in TOPS:
            value = float((chosen < top).mean()) if chosen.size else float("nan")
            accuracies[name_accuracy(subset, task, top)] = value
    return accuracies
