"""Late fusion: the predictions of several models become one table, as if one model had made them.

Each head's softmax probabilities are averaged with the models' weights; the logarithm of the mean is stored
as logits, so that everything that reads a predictions table reads this one. Two-stream networks are joined so
(Simonyan & Zisserman 2014, section 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.predictions import HeadOutputs, Predictions, PredictionsInfo, build_predictions
from praxiscope.stats.calibration import compute_softmax

_TINY = 1e-30
"""Smallest probability that is turned back into a logit."""
_SHOWN = 3

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of a fusion."""

    label: str
    """How messages call it."""
    predictions: Predictions
    """On one split."""


def fuse_predictions(members: Sequence[Member], weights: Sequence[float], *, name: str) -> Predictions:
    """Average the members' probabilities, head by head.

    Args:
        members: At least two, on the same samples.
        weights: One a member, not negative, not all 0; scaled to sum 1.
        name: Stands as ``recipe_name`` in the table.

    Returns:
        The members' samples in the first one's label order; a sample is clean where it is for every member.
        ``weights_sha256`` is the sha256 over the members' fingerprints and weights.

    Raises:
        UsageError: Fewer than two members, or weights that don't fit.
        DataError: The members have other samples, targets, heads or labels.
    """
    shares = check_weights(weights, len(members))
    aligned = [member.predictions for member in align_members(members)]
    first = aligned[0]
    outputs = {}
    for head in first.heads:
        mean = np.tensordot(shares, _stack_probs(aligned, head), axes=1)
        outputs[head] = HeadOutputs(targets=first.targets(head), logits=np.log(np.maximum(mean, _TINY)))
    digest = hashlib.sha256()
    for table, share in zip(aligned, shares, strict=True):
        digest.update(f"{table.info.weights_sha256} {share!r}\n".encode())
    return build_predictions(
        PredictionsInfo(
            heads=dict(first.heads),
            weights_sha256=digest.hexdigest(),
            manifest_fingerprint=first.info.manifest_fingerprint,
            recipe_name=name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        sample_ids=first.sample_ids,
        splits=list(first.table["split"].to_pylist()),
        outputs=outputs,
        groups=first.groups,
        clean=np.logical_and.reduce([table.clean for table in aligned]),
    )


def fit_weights(members: Sequence[Member]) -> tuple[float, ...]:
    """Choose the weights with the least mean negative log-likelihood, the heads' added up.

    Args:
        members: At least two, on the same samples, which must not be those that are reported on.

    Returns:
        One a member, not negative, of sum 1. The loss is convex in them, so these are the best there are.

    Raises:
        UsageError, DataError: As `fuse_predictions`.
    """
    aligned = [member.predictions for member in align_members(members)]
    right = [
        np.take_along_axis(
            _stack_probs(aligned, head), aligned[0].targets(head)[None, :, None], axis=2
        ).squeeze(2)
        for head in aligned[0].heads
    ]

    def loss(shares: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        value, slope = 0.0, np.zeros_like(shares)
        for probs in right:
            mean = np.maximum(shares @ probs, _TINY)
            value -= float(np.log(mean).mean())
            slope -= (probs / mean).mean(axis=1)
        return value, slope

    count = len(aligned)
    found = minimize(
        loss,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1, "jac": np.ones_like},
    )
    shares = np.clip(found.x, 0, None)
    return tuple(float(share) for share in shares / shares.sum())


def check_weights(weights: Sequence[float], count: int) -> npt.NDArray[np.float64]:
    """Return weights scaled to sum 1.

    Raises:
        UsageError: Another number of weights than members, or one that is negative, or all 0.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if count < 2:
        raise UsageError(f"A fusion needs at least two models; {count} was given.")
    if shares.shape != (count,) or not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() == 0:
        raise UsageError(
            f"--weights {','.join(f'{weight:g}' for weight in weights)}: give {count} numbers, one for each "
            "model in order, none negative and not all 0."
        )
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def align_members(members: Sequence[Member]) -> list[Member]:
    """Return the members with their labels in the first one's order, if they belong together.

    Raises:
        UsageError: Fewer than two.
        DataError: Other samples, targets, heads or labels.
    """
    if len(members) < 2:
        raise UsageError(f"A fusion needs at least two models; {len(members)} was given.")
    first = members[0]
    return [first, *(_align(first, other) for other in members[1:])]


def _align(first: Member, other: Member) -> Member:
    mine, theirs = first.predictions, other.predictions
    between = f"{other.label} and {first.label}"
    if {head: set(names) for head, names in mine.heads.items()} != {
        head: set(names) for head, names in theirs.heads.items()
    }:
        raise DataError(
            f"{between} answer other questions: heads {_tell_heads(theirs)} and {_tell_heads(mine)}, or "
            "other labels in them. Fuse models of the same labels."
        )
    if mine.sample_ids != theirs.sample_ids:
        apart = sorted(set(mine.sample_ids) ^ set(theirs.sample_ids))
        raise DataError(
            f"{between} were evaluated on other samples: {len(apart)} are only in one, such as "
            f"{', '.join(apart[:_SHOWN])}. Evaluate both on the same data."
        )
    outputs = {}
    for head, names in mine.heads.items():
        place = np.array([theirs.heads[head].index(name) for name in names])
        targets = np.argsort(place)[theirs.targets(head)]
        if (wrong := np.flatnonzero(targets != mine.targets(head))).size:
            raise DataError(
                f"{between} disagree about the label ({head}) of {wrong.size} samples, such as "
                f"{mine.sample_ids[wrong[0]]}. Evaluate both on the same data."
            )
        outputs[head] = HeadOutputs(targets=targets, logits=theirs.logits(head)[:, place])
    info = PredictionsInfo(
        heads=dict(mine.heads),
        weights_sha256=theirs.info.weights_sha256,
        manifest_fingerprint=theirs.info.manifest_fingerprint,
        recipe_name=theirs.info.recipe_name,
        created=theirs.info.created,
    )
    aligned = build_predictions(
        info,
        sample_ids=theirs.sample_ids,
        splits=list(theirs.table["split"].to_pylist()),
        outputs=outputs,
        groups=theirs.groups,
        clean=theirs.clean,
    )
    return Member(label=other.label, predictions=aligned)


def _stack_probs(tables: Sequence[Predictions], head: str) -> Probabilities:
    """Return (members, N, K) probabilities."""
    return np.stack([compute_softmax(table.logits(head).astype(np.float64)) for table in tables])


def _tell_heads(predictions: Predictions) -> str:
    return ", ".join(f"{head} ({len(names)})" for head, names in predictions.heads.items())
