"""Which errors of one contestant the other repairs, and how often the two agree."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.comparison.evidence import estimate_share
from praxiscope.stats.labels import IntArray

Events = npt.NDArray[np.bool_]


def list_repairs(
    first: Events, second: Events, targets: IntArray, names: Sequence[str], sample_ids: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """List the samples that only one of two has right, by class, most first.

    With several seeds a contestant has a sample right when more than half of its seeds have.

    Args:
        first: (A, N) whether each seed of the first is right.
        second: (B, N)
        targets: (N,) indices into ``names``.
        names: K label names.
        sample_ids: N.
    """
    before, after = (side.mean(axis=0) > 0.5 for side in (first, second))
    return {
        "by_second": _by_class(~before & after, targets, names, sample_ids),
        "by_first": _by_class(before & ~after, targets, names, sample_ids),
    }


def tell_agreement(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    targets: IntArray,
    codes: IntArray,
    *,
    level: float,
) -> dict[str, Any]:
    """Return how often two give the same answer, beyond chance too, and what either has right.

    Cohen's kappa (1960) is the agreement beyond that of two who answer at random with the same frequencies.
    With several seeds every figure is the mean over pairs of seeds, and the oracle's interval that of the
    first pair.

    Args:
        first: (A, N) answers of each seed of the first.
        second: (B, N)
        targets: (N,)
        codes: (N,) group numbers.
        level: Of the interval of the oracle accuracy, which counts a sample as right if either is.
    """
    pairs = list(itertools.product(first, second))
    right = [(one == targets, other == targets) for one, other in pairs]
    oracles = [estimate_share(one | other, codes, level=level) for one, other in right]
    value = float(np.mean([oracle.value for oracle in oracles]))
    shift = value - oracles[0].value
    return {
        "same_answer": float(np.mean([(one == other).mean() for one, other in pairs])),
        "kappa": float(np.mean([compute_kappa(one, other) for one, other in pairs])),
        "both_right": float(np.mean([(one & other).sum() for one, other in right])),
        "only_first": float(np.mean([(one & ~other).sum() for one, other in right])),
        "only_second": float(np.mean([(~one & other).sum() for one, other in right])),
        "both_wrong": float(np.mean([(~one & ~other).sum() for one, other in right])),
        "oracle_top1": {"value": value, "low": oracles[0].low + shift, "high": oracles[0].high + shift},
    }


def compute_kappa(first: IntArray, second: IntArray) -> float:
    """Compute Cohen's kappa of two raters; NaN where both give one and the same answer throughout.

    >>> compute_kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.5
    """
    width = int(max(first.max(), second.max())) + 1
    shares = [np.bincount(side, minlength=width) / side.size for side in (first, second)]
    chance, same = float(shares[0] @ shares[1]), float((first == second).mean())
    return (same - chance) / (1 - chance) if chance < 1 else float("nan")


def compute_seed_agreement(preds: IntArray) -> float | None:
    """Return the share of samples on which two seeds agree, the mean over pairs; None for one seed.

    Args:
        preds: (M, N) answers of each seed.
    """
    if len(preds) < 2:
        return None
    return float(np.mean([(one == other).mean() for one, other in itertools.combinations(preds, 2)]))


def _by_class(
    chosen: Events, targets: IntArray, names: Sequence[str], sample_ids: Sequence[str]
) -> list[dict[str, Any]]:
    held: dict[int, list[str]] = {}
    for index in np.flatnonzero(chosen).tolist():
        held.setdefault(int(targets[index]), []).append(sample_ids[index])
    order = sorted(held, key=lambda target: (-len(held[target]), target))
    return [{"name": names[target], "sample_ids": held[target]} for target in order]
