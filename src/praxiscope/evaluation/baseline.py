"""What always naming the most frequent answer of the training split would give: the figure to be above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from praxiscope.data.manifest import Manifest
from praxiscope.evaluation.joint import TOP_K, name_pair
from praxiscope.evaluation.predictions import Predictions
from praxiscope.stats.labels import IntArray

BASELINE_RULE = (
    "The baseline always names the answer that is most frequent in the training split (of equals the one "
    "listed first); for top-5 the five most frequent."
)


def read_training_targets(manifest: Manifest) -> IntArray | None:
    """Return (N, M) indices into label names of a manifest's usable training samples, None without any."""
    rows = manifest.usable("train").select(list(manifest.heads))
    if not rows.num_rows:
        return None
    columns = []
    for head, names in manifest.heads.items():
        indices = {name: place for place, name in enumerate(names)}
        columns.append([indices[name] for name in rows[head].to_pylist()])
    return np.array(columns, dtype=np.int64).T


def score_baseline(predictions: Predictions, training: IntArray, heads: Sequence[str]) -> dict[str, Any]:
    """Score the most frequent training answers on the evaluated samples.

    Args:
        predictions: The evaluated samples; at least one.
        training: (N, M) targets of the training samples, a column for each of the table's heads.
        heads: One head, or several for their joint answer.

    Returns:
        ``name`` and ``train_share`` of the most frequent answer, ``num_train``, and top-1 and top-5 in [0, 1]
        on ``all`` and on ``clean`` samples (None where there are none), with the ``rule``.
    """
    places = [list(predictions.heads).index(head) for head in heads]
    answers, counts = np.unique(training[:, places], axis=0, return_counts=True)
    best = np.argsort(-counts, kind="stable")[:TOP_K]
    targets = np.stack([predictions.targets(head) for head in heads], axis=1)
    # (N, 5): which of the most frequent answers is the sample's own.
    hits = (targets[:, None, :] == answers[best][None, :, :]).all(axis=2)
    names = [predictions.names(head)[index] for head, index in zip(heads, answers[best[0]], strict=True)]
    return {
        "name": name_pair(names),
        "train_share": float(counts[best[0]] / counts.sum()),
        "num_train": int(counts.sum()),
        "all": _share(hits),
        "clean": _share(hits[predictions.clean]) if predictions.clean.any() else None,
        "rule": BASELINE_RULE,
    }


def tell_baseline(metrics: Mapping[str, Any]) -> str:
    """Return a sentence on the baseline of some metrics, or nothing where they have none."""
    found = metrics.get("baseline")
    if not found:
        return ""
    top1 = found["all"]["top1"]
    return (
        f"Always naming {found['name']!r}, the most frequent answer of the {found['num_train']:,} training "
        f"samples, would be right on {100 * top1:.1f} %."
    )


def _share(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, float | int]:
    return {"n": len(hits), "top1": float(hits[:, 0].mean()), "top5": float(hits.any(axis=1).mean())}
