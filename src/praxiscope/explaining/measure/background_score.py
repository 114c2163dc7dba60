"""The background score: skill under each condition, and what it says, with intervals by group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from praxiscope.explaining.measure.reliance_images import TITLES
from praxiscope.explaining.measure.result import BackgroundScore
from praxiscope.explaining.measure.samples import Classes
from praxiscope.stats.bootstrap import bootstrap_sums, code_groups
from praxiscope.stats.intervals import Interval, percentile_interval

LEVEL = 0.95
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Skills:
    """Skill under each condition; column 0 is the mean over classes, column 1 + k class k."""

    value: Mapping[str, FloatArray]
    """(1 + K,); NaN for classes without samples, or where there is but one class."""
    drawn: Mapping[str, FloatArray]
    """(R, 1 + K) of resamples; no rows where there is but one group."""


def compute_skills(
    targets: Classes,
    preds: Mapping[str, Classes],
    num_classes: int,
    groups: list[str | None],
    *,
    resamples: int,
    seed: int,
) -> Skills:
    """Compute the skill of all conditions on the same samples and on the same resamples.

    Args:
        targets: (N,), what counts as right.
        preds: Condition -> (N,) answers.
        num_classes: K.
        groups: (N,), whole groups are drawn.
        resamples: R.
        seed: Of the resamples.
    """
    codes = code_groups(groups, len(targets))
    classes = np.arange(num_classes)
    true = targets[:, None] == classes
    parts = [true, *(part for each in preds.values() for part in _count_columns(true, each, classes))]
    held = np.zeros((int(codes.max()) + 1, num_classes * len(parts)))
    np.add.at(held, codes, np.concatenate(parts, axis=1).astype(np.float64))
    drawn = bootstrap_sums(held, resamples=resamples, seed=seed) if len(held) > 1 else held[:0]
    whole = held.sum(axis=0, keepdims=True)
    return Skills(
        value={name: row[0] for name, row in _split(whole, preds, num_classes).items()},
        drawn=_split(drawn, preds, num_classes),
    )


def score_background(skills: Skills, column: int) -> BackgroundScore:
    """Turn skills into the score of one column, or say why it is undefined.

    The formula stands in :mod:`praxiscope.explaining.measure.reliance`.
    """
    value = {name: float(row[column]) for name, row in skills.value.items()}
    drawn = {name: rows[:, column] for name, rows in skills.drawn.items()}
    for name in ("whole", "damaged", "alike"):
        reason = _tell_guessing(name, value[name], drawn[name])
        if reason is not None:
            return BackgroundScore(score=None, survives=None, lost=None, reason=reason)
    parts = {
        "survives": (
            _share(value["no_actor"], value["damaged"]),
            _share(drawn["no_actor"], drawn["damaged"]),
        ),
        "lost": (1 - _share(value["other"], value["alike"]), 1 - _share(drawn["other"], drawn["alike"])),
    }
    survives, lost = parts["survives"], parts["lost"]
    return BackgroundScore(
        score=_interval((survives[0] + lost[0]) / 2, (survives[1] + lost[1]) / 2),
        survives=_interval(*survives),
        lost=_interval(*lost),
    )


def _count_columns(
    true: npt.NDArray[np.bool_], preds: Classes, classes: Classes
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return (N, K) where a class is rightly answered, and where it is answered at all."""
    called = preds[:, None] == classes
    return called & true, called


def _split(sums: FloatArray, preds: Mapping[str, Classes], num_classes: int) -> dict[str, FloatArray]:
    """Turn sums (R, parts * K) into skills (R, 1 + K) by condition."""
    parts = sums.reshape(len(sums), 1 + 2 * len(preds), num_classes)
    support = parts[:, 0]
    total = support.sum(axis=1, keepdims=True)
    found = {}
    for place, name in enumerate(preds):
        hits, called = parts[:, 1 + 2 * place], parts[:, 2 + 2 * place]
        false_alarms = _divide(called - hits, total - support)
        each = _divide(hits, support) - false_alarms
        known = ~np.isnan(each)
        mean = _divide(np.where(known, each, 0).sum(axis=1), known.sum(axis=1))
        found[name] = np.concatenate([mean[:, None], each], axis=1)
    return found


def _divide(numerator: npt.NDArray[np.generic], denominator: npt.NDArray[np.generic]) -> FloatArray:
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    shares: FloatArray = np.divide(above, below, out=np.full(above.shape, math.nan), where=below > 0)
    return shares


def _share(part: FloatArray | float, of: FloatArray | float) -> FloatArray:
    """Return part / of in [0, 1]; NaN where there is nothing to divide."""
    return np.clip(_divide(np.asarray(part), np.asarray(of)), 0, 1)


def _interval(value: FloatArray | float, drawn: FloatArray) -> Interval:
    return percentile_interval(float(value), drawn[~np.isnan(drawn)], level=LEVEL)


def _tell_guessing(name: str, value: float, drawn: FloatArray) -> str | None:
    """Say that a condition that the score divides by can't be told from guessing, or None."""
    if math.isnan(value):
        return "There is but one class, so that no answer can be told from guessing."
    interval = _interval(value, drawn)
    if (value if math.isnan(interval.low) else interval.low) > 0:
        return None
    figures = f"skill {value:.2f}, 95 % {interval.low:.2f} to {interval.high:.2f}, 0 is guessing"
    if name == "whole":
        return f"Answers on whole images can't be told from guessing ({figures})."
    return (
        f"Under '{TITLES[name]}' answers can't be told from guessing ({figures}): damage to the "
        f"pixels alone destroys "
        "them, so that what actor and background are worth can't be seen."
    )
