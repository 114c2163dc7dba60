"""The likeliest labels of a prediction: of each head, and of all heads together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from praxiscope.prediction.stream import Prediction
from praxiscope.stats.joint import score_joint
from praxiscope.tensors import Heads

JOINT = "joint"
"""What the answer of all heads together is called in tables."""
_BETWEEN = " + "  # between the labels of a joint answer


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A label and its probability.

    Attributes:
        label: of several heads together, their labels joined by `` + ``.
        probability: in [0, 1]; of several heads together the product of theirs, as the benchmark scores
            actions (:mod:`praxiscope.stats.joint`).
    """

    label: str
    probability: float


def rank_head(prediction: Prediction, heads: Heads, head: str, count: int) -> list[Guess]:
    """Return a head's likeliest labels, best first; as many as it has at most."""
    columns, names = heads.columns[head], heads.names[head]
    own = prediction.probabilities[columns]
    return [
        Guess(label=names[index], probability=float(own[index])) for index in prediction.top(count, columns)
    ]


def rank_joint(prediction: Prediction, heads: Heads, count: int) -> list[Guess]:
    """Return the likeliest combinations of labels, best first."""
    logits = heads.split_logits(np.asarray(prediction.logits)[None])
    found = score_joint(list(logits.values()), best=count)
    labels = list(heads.names.values())
    return [
        Guess(
            label=_BETWEEN.join(names[index] for names, index in zip(labels, row, strict=True)),
            probability=float(score),
        )
        for row, score in zip(found.labels[0], found.scores[0], strict=True)
    ]


def rank_all(prediction: Prediction, heads: Heads, count: int) -> dict[str, list[Guess]]:
    """Return the likeliest labels of each head, and of several heads :data:`JOINT` ones."""
    ranked = {head: rank_head(prediction, heads, head, count) for head in heads.names}
    return ranked if len(ranked) == 1 else {**ranked, JOINT: rank_joint(prediction, heads, count)}


def find_best(prediction: Prediction, heads: Heads) -> Guess:
    """Return the answer that is drawn and that segments are made of: of several heads the joint one."""
    return list(rank_all(prediction, heads, 1).values())[-1][0]
