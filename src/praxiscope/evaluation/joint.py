"""Several heads scored together: an answer is right when all its parts are."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.evaluation.predictions import Predictions
from praxiscope.stats.bootstrap import bootstrap_means, code_groups
from praxiscope.stats.intervals import open_extreme
from praxiscope.stats.joint import rank_joint, score_joint
from praxiscope.stats.labels import IntArray

TOP_K = 5
NUM_TOP_CONFUSIONS = 20
JOINT_RULE = (
    "An answer is right when every head is. Joint answers are ranked by the product of the heads' softmax "
    "probabilities (EPIC-KITCHENS-100's rule, Damen et al. 2022), so the best joint answer is each head's "
    "best, and top-5 asks whether the true combination is among the five best products."
)
_SHARED_RULES = ("ties", "intervals", "few_groups")


def name_joint(heads: Sequence[str]) -> str:
    """Return what the joint answer of several heads is called.

    >>> name_joint(["verb", "noun"]), name_joint(["action", "object"])
    ('action', 'joint')
    """
    return "joint" if "action" in heads else "action"


def name_pair(labels: Sequence[str]) -> str:
    """Return the name of a combination of labels.

    >>> name_pair(["take", "plate"])
    'take + plate'
    """
    return " + ".join(labels)


def stack_heads(predictions: Predictions) -> tuple[IntArray, IntArray]:
    """Return (N, M) targets and (N, M) best answers of all heads."""
    heads = list(predictions.heads)
    return (
        np.stack([predictions.targets(head) for head in heads], axis=1),
        np.stack([predictions.preds(head) for head in heads], axis=1),
    )


def rank_targets(predictions: Predictions) -> IntArray:
    """Return (N,) places of the true combination among the best joint answers; `TOP_K` where it isn't."""
    targets, _ = stack_heads(predictions)
    return rank_joint(
        score_joint([predictions.logits(head) for head in predictions.heads], best=TOP_K), targets
    )


def join_heads(
    predictions: Predictions, scored: Mapping[str, dict[str, Any]], plan: Mapping[str, Any]
) -> dict[str, Any]:
    """Put the joint answer before the metrics of each head.

    Args:
        predictions: At least one sample, of several heads.
        scored: The metrics of each head.
        plan: ``seed``, ``resamples`` and ``level`` of the bootstrap.

    Returns:
        Facts as of one head, but for ``head`` (`name_joint`) and ``num_classes``, the combinations that occur
        among the samples; ``joint``, the heads; ``all`` and ``clean`` with top-1 and top-5; ``outcomes``, how
        often which heads are right; ``top_confusions`` of combinations; ``heads``, the metrics of each;
        ``joint_rule``; ``rules``.
    """
    heads = list(scored)
    first = scored[heads[0]]
    targets, preds = stack_heads(predictions)
    ranks = rank_targets(predictions)
    facts = ("schema", "split", "num_samples", "num_clean", "weights_sha256", "manifest_fingerprint")
    clean = predictions.clean
    return {
        **{key: first[key] for key in facts},
        "head": name_joint(heads),
        "joint": heads,
        "num_classes": len(np.unique(targets, axis=0)),
        "all": _score_ranks(ranks, predictions.groups, plan),
        "clean": _score_ranks(ranks[clean], predictions.select(clean).groups, plan) if clean.any() else None,
        "interval": first["interval"],
        "outcomes": _count_outcomes(targets == preds, heads),
        "top_confusions": _list_confusions(targets, preds, predictions),
        "heads": dict(scored),
        "joint_rule": JOINT_RULE,
        "rules": {
            "joint": JOINT_RULE,
            **{key: first["rules"][key] for key in _SHARED_RULES if key in first["rules"]},
        },
    }


def _score_ranks(ranks: IntArray, groups: list[str | None], plan: Mapping[str, Any]) -> dict[str, Any]:
    hits = {"top1": ranks < 1, "top5": ranks < TOP_K}
    figures = bootstrap_means(hits, groups=groups, **plan)
    num_groups = int(code_groups(groups, len(ranks)).max()) + 1
    opened = {name: open_extreme(one, num_groups, level=plan["level"]) for name, one in figures.items()}
    return {"n": len(ranks)} | {
        name: {"value": one.value, "low": one.low, "high": one.high} for name, one in opened.items()
    }


def _count_outcomes(right: npt.NDArray[np.bool_], heads: Sequence[str]) -> list[dict[str, Any]]:
    """Count which heads are right together: all first, none last."""
    counts = Counter(map(tuple, right.tolist()))
    patterns = sorted(itertools.product((True, False), repeat=len(heads)), key=lambda one: -sum(one))
    return [
        {
            "right": [head for head, hit in zip(heads, pattern, strict=True) if hit],
            "count": counts[pattern],
            "share": counts[pattern] / len(right),
        }
        for pattern in patterns
        if len(heads) <= 3 or counts[pattern]
    ]


def _list_confusions(targets: IntArray, preds: IntArray, predictions: Predictions) -> list[dict[str, Any]]:
    """List the most frequent wrong combinations; of equals the one whose labels come first."""
    names = list(predictions.heads.values())
    supports = Counter(map(tuple, targets.tolist()))
    wrong = Counter(
        (true, given)
        for true, given in zip(map(tuple, targets.tolist()), map(tuple, preds.tolist()), strict=True)
        if true != given
    )

    def tell(labels: Sequence[int]) -> str:
        return name_pair([own[index] for own, index in zip(names, labels, strict=True)])

    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:NUM_TOP_CONFUSIONS]
    return [
        {"target": tell(true), "preds": tell(given), "count": count, "share": count / supports[true]}
        for (true, given), count in ranked
    ]
