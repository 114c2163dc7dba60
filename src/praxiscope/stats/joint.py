"""Joint answers of several heads: an action is a verb and a noun, right when both are.

Scores of actions follow the EPIC-KITCHENS-100 benchmark (Damen et al. 2022, https://arxiv.org/abs/2006.13256):
the product of the softmax probabilities of verb and noun, over the best 100 of each, of which the best 100
pairs are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import numpy.typing as npt

from praxiscope.stats.calibration import compute_log_softmax
from praxiscope.stats.labels import FloatArray, IntArray

BEST = 100
"""Labels of each head, and joint answers, that are looked at; as in the benchmark."""
_CHUNK = 512  # samples whose pairs are in memory at once: 512 x 100 x 100 float64 are 41 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class JointScores:
    """The best joint answers of each sample, best first; P of them, at most as many as were asked for.

    Attributes:
        labels: int64 (N, P, M), an index for each of M heads.
        scores: float64 (N, P), products of probabilities, in [0, 1].
    """

    labels: IntArray
    scores: FloatArray


def score_joint(logits: Sequence[npt.NDArray[np.floating]], *, best: int = BEST) -> JointScores:
    """Score joint answers by the benchmark's rule.

    Among equal scores the one whose first label ranks higher comes first, then by the next one; within a head
    the lower index ranks first, as argmax does.

    Args:
        logits: (N, K) finite, of each head.
        best: Labels of each head, and joint answers, to keep; at least 1.

    Raises:
        ValueError: No head, different N, or `best` below 1.
    """
    if len({len(each) for each in logits}) != 1:
        raise ValueError(f"heads with {[len(each) for each in logits]} rows of logits; they must be as many")
    if best < 1:
        raise ValueError(f"best is {best}; it must be at least 1")
    parts = [
        reduce(partial(_join, best), (_take_best(each[start : start + _CHUNK], best) for each in logits))
        for start in range(0, max(1, len(logits[0])), _CHUNK)
    ]
    return JointScores(
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def rank_joint(scores: JointScores, targets: npt.NDArray[np.integer]) -> IntArray:
    """Return the place (N,) of each sample's true answer (N, M) among its best, P if absent."""
    found = (scores.labels == targets[:, None, :]).all(axis=2)
    ranks: IntArray = np.where(found.any(axis=1), found.argmax(axis=1), found.shape[1])
    return ranks


def index_joint(targets: npt.NDArray[np.integer]) -> IntArray:
    """Return (N,) indices of the combinations of labels that occur in (N, M) targets, sorted by label."""
    indices: IntArray = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    return indices


def _join(best: int, first: JointScores, second: JointScores) -> JointScores:
    products = (first.scores[:, :, None] * second.scores[:, None, :]).reshape(len(first.scores), -1)
    places = np.argsort(-products, axis=1, kind="stable")[:, :best]
    rows, columns = np.divmod(places, second.scores.shape[1])
    labels = [
        np.take_along_axis(side.labels, chosen[:, :, None], axis=1)
        for side, chosen in ((first, rows), (second, columns))
    ]
    return JointScores(
        labels=np.concatenate(labels, axis=2), scores=np.take_along_axis(products, places, axis=1)
    )


def _take_best(logits: npt.NDArray[np.floating], best: int) -> JointScores:
    order = np.argsort(-logits, axis=1, kind="stable")[:, :best]
    probabilities = np.exp(np.take_along_axis(compute_log_softmax(logits), order, axis=1))
    return JointScores(labels=order[:, :, None], scores=probabilities)
