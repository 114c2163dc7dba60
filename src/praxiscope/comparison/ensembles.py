"""Simple ensembles: what the contestants reach together, without training anything."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from praxiscope.comparison.align import Aligned, Answered
from praxiscope.comparison.evidence import weigh
from praxiscope.comparison.headline import Plan, tell_differences, tell_figures
from praxiscope.comparison.result import FIGURES
from praxiscope.stats.calibration import compute_softmax
from praxiscope.stats.labels import FloatArray, IntArray
from praxiscope.stats.paired_bootstrap import Resampled
from praxiscope.stats.significance import adjust_holm

MAX_PAIRED = 4
"""With more contestants, only all together are combined, not every two."""
_TINY = 1e-300
"""Smallest probability that is turned back into a logit; keeps the logarithm finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """Contestants that answer together; one version a seed."""

    rule: str
    """``mean probability``, ``mean logit`` or ``majority``."""
    members: tuple[int, ...]
    """Places of the contestants."""
    answers: tuple[Answered, ...]


def build_ensembles(aligned: Aligned) -> list[Ensemble]:
    """Combine every two contestants, and all of them.

    With several seeds, version v takes seed v of each contestant, from the first again where one has fewer.
    The majority needs three contestants; of labels with equal votes the one of the contestant given earliest
    counts.

    Args:
        aligned: At least two contestants.
    """
    count = len(aligned.contestants)
    sets = [tuple(range(count))]
    if 2 < count <= MAX_PAIRED:
        sets = [*itertools.combinations(range(count), 2), *sets]
    found = []
    for members in sets:
        seeds = [aligned.answers[index] for index in members]
        versions = [[each[version % len(each)] for each in seeds] for version in range(max(map(len, seeds)))]
        if all(one.logits is not None for each in seeds for one in each):
            found += [
                Ensemble(rule=rule, members=members, answers=tuple(map(combine, versions)))
                for rule, combine in (("mean probability", _mean_probs), ("mean logit", _mean_logits))
            ]
        if len(members) > 2:
            answers = tuple(_vote(version, len(aligned.names)) for version in versions)
            found.append(Ensemble(rule="majority", members=members, answers=answers))
    return found


def compare_ensembles(
    aligned: Aligned,
    ensembles: Sequence[Ensemble],
    found: Sequence[Resampled],
    codes: IntArray,
    plan: Plan,
) -> list[dict[str, Any]]:
    """Return the ensembles' entries of ``comparison.json``, each held against its best member.

    Args:
        aligned: The contestants.
        ensembles: From `build_ensembles`.
        found: Resampled scores of the contestants, then of the ensembles.
        codes: (N,) group numbers.
        plan: How intervals are made.
    """
    rows: list[dict[str, Any]] = []
    labels = [contestant.label for contestant in aligned.contestants]
    for ensemble, own in zip(ensembles, found[len(labels) :], strict=True):
        best = max(ensemble.members, key=lambda index: found[index].value("top1"))
        figures = tell_figures(own, codes, plan, len(aligned.names))
        right = [
            np.stack([one.preds == aligned.targets for one in answers])
            for answers in (aligned.answers[best], ensemble.answers)
        ]
        rows.append(
            {
                "name": f"{ensemble.rule} of {' + '.join(labels[index] for index in ensemble.members)}",
                "rule": ensemble.rule,
                "members": [labels[index] for index in ensemble.members],
                **{name: _shorten(figures[name]) for name in FIGURES},
                "against": labels[best],
                "difference": tell_differences(found[best], own, codes, plan)["top1"],
                "p_value": weigh(right[0], right[1], codes, level=plan.level).p_value,
            }
        )
    for row, p_holm in zip(rows, adjust_holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = float(p_holm)
    return rows


def _shorten(figure: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if figure is None else {key: figure[key] for key in ("value", "low", "high")}


def _mean_probs(version: Sequence[Answered]) -> Answered:
    probs = np.mean([compute_softmax(_logits(one)) for one in version], axis=0)
    return _answer(np.log(np.maximum(probs, _TINY)))


def _mean_logits(version: Sequence[Answered]) -> Answered:
    return _answer(np.mean([_logits(one) for one in version], axis=0))


def _vote(version: Sequence[Answered], num_classes: int) -> Answered:
    rows = np.arange(version[0].preds.size)
    votes = np.zeros((rows.size, num_classes))
    for place, one in enumerate(version):
        # A fraction that only decides between equal numbers of votes.
        votes[rows, one.preds] += 1 + 0.5 ** (place + 2)
    return Answered(preds=votes.argmax(axis=1).astype(np.int64), logits=None)


def _logits(one: Answered) -> FloatArray:
    assert one.logits is not None
    return one.logits


def _answer(logits: FloatArray) -> Answered:
    return Answered(preds=logits.argmax(axis=1).astype(np.int64), logits=logits)
