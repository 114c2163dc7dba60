"""Thousands of combinations of labels brought to a number of classes that can be compared one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from praxiscope.comparison.align import Aligned, Answered
from praxiscope.stats.labels import IntArray

MAX_LABELS = 300
KEPT = 100
OTHER = "(any other)"
WRONG = "(another answer)"


def merge_rare_labels(aligned: Aligned) -> Aligned:
    """Merge the rarer labels where there are more than `MAX_LABELS` and no logits, as of verb-noun pairs.

    Whether an answer is right doesn't change: a sample of a rare label becomes one of `OTHER`, and an answer
    to it is `OTHER` where it was right and `WRONG` where it wasn't.

    Args:
        aligned: The contestants.
    """
    known = any(one.logits is not None for seeds in aligned.answers for one in seeds)
    if len(aligned.names) <= MAX_LABELS or known:
        return aligned
    counts = np.bincount(aligned.targets, minlength=len(aligned.names))
    kept = np.sort(np.argsort(-counts, kind="stable")[:KEPT])
    places = np.full(len(aligned.names), len(kept))
    places[kept] = np.arange(len(kept))
    targets = places[aligned.targets]
    answers = tuple(
        tuple(
            Answered(preds=_merge(one.preds, aligned.targets, places, len(kept)), logits=None) for one in own
        )
        for own in aligned.answers
    )
    note = (
        f"{len(aligned.names):,} labels occur; the {len(kept)} with the most samples are listed by name, all "
        f"others as {OTHER!r}. What is right is counted before that; macro F1 is over what is listed."
    )
    return replace(
        aligned,
        names=(*(aligned.names[index] for index in kept.tolist()), OTHER, WRONG),
        targets=targets,
        answers=answers,
        notes=(*aligned.notes, note),
    )


def _merge(preds: IntArray, targets: IntArray, places: IntArray, other: int) -> IntArray:
    given = places[preds]
    # A wrong answer must not look right because it and the target are both rare.
    return np.where((given == other) & (preds != targets), other + 1, given)
