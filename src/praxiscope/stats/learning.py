"""What a training log says: best epoch, train/validation gap, overfitting, plateau, unfinished training.

Every rule is defined here, with its constants, so that a report's sentence can be traced to the numbers that
carry it.

Overfitting
    Validation loss, smoothed by a running median of `SMOOTHING` epochs, has its minimum at some epoch.
    Overfitting set in when after it (1) at least `LASTING` epochs follow, (2) in each of the last `LASTING`
    epochs smoothed validation loss is above the minimum by more than `RISE` of it and by more than
    `NOISE_FACTOR` times the log's own noise, and (3) smoothed training loss is lower at the end than at the
    minimum. It grew from the epoch after the last one whose smoothed validation loss was still within `FLAT`
    of the minimum (or within the noise). The noise is the median absolute second difference of the raw
    validation loss, scaled to a standard deviation: a trend adds nothing to it.
Plateau
    The best figure so far stays within `STEP` of the final best from some epoch on, for at least `PLATEAU`
    more epochs.
Unfinished
    The best figure lies in the last fifth of the epochs (at most 5), is better than all before that fifth by
    more than `STEP`, and the last epoch is within `STEP` of it.

`STEP` is half a point for fractions, half a percent of the best value for losses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from praxiscope.stats.labels import FloatArray

SMOOTHING = 3
LASTING = 3
RISE = 0.05
FLAT = 0.01
NOISE_FACTOR = 3.0
STEP = 0.005
PLATEAU = 5

MEASURED_APART = (
    "Training figures are averages over the epoch while the weights change, under augmentation and "
    "dropout; validation figures are measured after it, without either. So training can look worse than "
    "validation, and the gap can understate how closely the training images are fitted."
)

Row = Mapping[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class LearningFindings:
    """What a training log says; epochs are 1-based as logged, figures in the log's own units."""

    monitor: str
    """The figure by which epochs are compared, for example ``val/top1``."""
    num_epochs: int
    """Epochs in the log."""
    best_epoch: int | None
    """First epoch with the best monitored figure; None when no epoch has a finite one."""
    best_value: float | None
    last_value: float | None
    """The monitored figure at ``last_epoch``."""
    last_epoch: int | None
    """Last epoch that has a finite monitored figure."""
    gap_at_best: float | None
    """Train minus validation top-1 accuracy at the best epoch, in [-1, 1]."""
    gap_at_end: float | None
    """The same at the last epoch that has both."""
    lowest_loss_epoch: int | None
    """First epoch with the lowest smoothed validation loss; None for fewer than 4 epochs with both losses."""
    train_loss_fall: float | None
    """Fall of smoothed training loss from that epoch to the last, as a fraction; negative for a rise."""
    overfitting_since: int | None
    """First epoch of the rise in validation loss; None when overfitting didn't set in."""
    loss_rise: float | None
    """Rise of smoothed validation loss from its minimum to the last epoch as a fraction, with overfitting."""
    plateau_since: int | None
    """Epoch from which the best figure hardly improved any more."""
    unfinished: bool
    """Whether validation was still improving at the last epoch."""
    skipped_epochs: tuple[int, ...]
    """Epochs without a finite monitored figure; the rules leave them out."""
    sentences: tuple[str, ...]
    """The findings for a reader, each carried by the fields above."""


def describe_learning(rows: Sequence[Row], *, monitor: str = "val/top1") -> LearningFindings:
    """Read a training log.

    Args:
        rows: One per epoch as in ``metrics.jsonl``: ``epoch``, ``train/loss``, ``train/top1``, ``val/loss``,
            ``val/top1`` and the monitored figure; None, NaN and missing figures are left out and named. Of
            several rows of one epoch the last counts.
        monitor: Key of the figure by which epochs are compared; one that ends in ``loss`` is better when
            lower.

    Raises:
        ValueError: A row without a whole, positive ``epoch``.
    """
    log = _order_rows(rows)
    epochs, values = _series(log, monitor)
    skipped = tuple(sorted(set(log) - set(epochs)))
    best = _find_best(epochs, values, monitor)
    lowest, fall, since, rise = _find_overfitting(log)
    findings = LearningFindings(
        monitor=monitor,
        num_epochs=len(log),
        best_epoch=None if best is None else epochs[best],
        best_value=None if best is None else float(values[best]),
        last_value=float(values[-1]) if epochs else None,
        last_epoch=epochs[-1] if epochs else None,
        gap_at_best=None if best is None else _gap(log, [epochs[best]]),
        gap_at_end=_gap(log, list(log)),
        lowest_loss_epoch=lowest,
        train_loss_fall=fall,
        overfitting_since=since,
        loss_rise=rise,
        plateau_since=_find_plateau(epochs, values, monitor),
        unfinished=_is_unfinished(values, monitor),
        skipped_epochs=skipped,
        sentences=(),
    )
    return _with_sentences(findings)


def find_first_epoch(rows: Sequence[Row], *, level: float, key: str = "val/top1") -> int | None:
    """Find the first epoch whose figure reached a level, or None.

    Args:
        rows: As for `describe_learning`.
        level: In the figure's own unit; a figure whose key ends in ``loss`` reaches it from above.
        key: The figure.
    """
    epochs, values = _series(_order_rows(rows), key)
    sign = _sign(key)
    return next(
        (epoch for epoch, value in zip(epochs, values, strict=True) if sign * value >= sign * level), None
    )


def _order_rows(rows: Sequence[Row]) -> dict[int, Row]:
    log: dict[int, Row] = {}
    for index, row in enumerate(rows):
        epoch = row.get("epoch")
        if epoch is None or not float(epoch).is_integer() or epoch < 1:
            raise ValueError(f"row {index} of the log has epoch {epoch!r}; it must be a whole number from 1")
        log[int(epoch)] = row
    return dict(sorted(log.items()))


def _series(log: Mapping[int, Row], *keys: str) -> tuple[list[int], FloatArray]:
    """Return the epochs where all keys are finite and their values: (E,) for one key, (E, keys) for more."""
    epochs, values = [], []
    for epoch, row in log.items():
        found = [float(value) for key in keys if (value := row.get(key)) is not None and math.isfinite(value)]
        if len(found) == len(keys):
            epochs.append(epoch)
            values.append(found)
    array = np.array(values, dtype=np.float64).reshape(len(epochs), len(keys))
    return epochs, array[:, 0] if len(keys) == 1 else array


def _sign(key: str) -> int:
    return -1 if key.endswith("loss") else 1


def _step(values: FloatArray, monitor: str) -> float:
    return STEP * float(np.abs(values).min()) if _sign(monitor) < 0 else STEP


def _find_best(epochs: Sequence[int], values: FloatArray, monitor: str) -> int | None:
    return int(np.argmax(_sign(monitor) * values)) if epochs else None


def _gap(log: Mapping[int, Row], candidates: Sequence[int]) -> float | None:
    """Return train minus validation top-1 at the last candidate epoch that has both."""
    _, pairs = _series({epoch: log[epoch] for epoch in candidates}, "train/top1", "val/top1")
    return float(pairs[-1, 0] - pairs[-1, 1]) if len(pairs) else None


def _smooth(values: FloatArray) -> FloatArray:
    """Take the running median of `SMOOTHING` values; the window shrinks at both ends."""
    reach = SMOOTHING // 2
    plain = values.tolist()
    return np.array([median(plain[max(0, at - reach) : at + reach + 1]) for at in range(len(plain))])


def _estimate_noise(values: FloatArray) -> float:
    """Estimate the standard deviation of the noise around a smooth curve of at least 4 values."""
    second_differences = np.diff(values, n=2)
    # Independent noise of variance s^2 has second differences of variance 6 s^2; 0.6745 is the normal's
    # quartile.
    return float(np.median(np.abs(second_differences))) / (0.6745 * math.sqrt(6))


def _find_overfitting(
    log: Mapping[int, Row],
) -> tuple[int | None, float | None, int | None, float | None]:
    """Apply the module's rule.

    Returns:
        Epoch of the lowest validation loss, fall of training loss since, first epoch of overfitting, rise of
        validation loss.
    """
    epochs, pairs = _series(log, "train/loss", "val/loss")
    if len(epochs) < LASTING + 1:
        return None, None, None, None
    train, val = _smooth(pairs[:, 0]), _smooth(pairs[:, 1])
    lowest = int(np.argmin(val))
    floor, noise = float(val[lowest]), _estimate_noise(pairs[:, 1])
    fall = float(1 - train[-1] / train[lowest]) if train[lowest] > 0 else None
    limit = floor + max(RISE * floor, NOISE_FACTOR * noise)
    lasts = len(epochs) - 1 - lowest >= LASTING and bool((val[-LASTING:] > limit).all())
    if not lasts or train[-1] >= train[lowest]:
        return epochs[lowest], fall, None, None
    flat = np.flatnonzero(val <= floor + max(FLAT * floor, noise))
    rise = float(val[-1] / floor - 1) if floor > 0 else None
    return epochs[lowest], fall, epochs[int(flat[-1]) + 1], rise


def _find_plateau(epochs: Sequence[int], values: FloatArray, monitor: str) -> int | None:
    if not epochs:
        return None
    best_so_far = np.maximum.accumulate(_sign(monitor) * values)
    first = int(np.argmax(best_so_far >= best_so_far[-1] - _step(values, monitor)))
    return epochs[first] if len(epochs) - 1 - first >= PLATEAU else None


def _is_unfinished(values: FloatArray, monitor: str) -> bool:
    window = min(5, math.ceil(values.size / 5))
    if values.size < 2:
        return False
    signed, step = _sign(monitor) * values, _step(values, monitor)
    before, recent = signed[:-window].max(), signed[-window:].max()
    return bool(recent > before + step and signed[-1] >= recent - step)


def _with_sentences(findings: LearningFindings) -> LearningFindings:
    sentences = (
        *_describe_best(findings),
        *_describe_gap(findings),
        *_describe_overfitting(findings),
        *_describe_progress(findings),
    )
    return replace(findings, sentences=sentences)


def _describe_best(findings: LearningFindings) -> list[str]:
    if not findings.num_epochs:
        return ["No epoch was finished, so there is nothing to say about learning."]
    sentences = []
    if findings.best_epoch is None or findings.best_value is None:
        sentences.append(f"No epoch has a finite {findings.monitor}.")
    else:
        value = _format(findings.monitor, findings.best_value)
        count = f"{findings.num_epochs} epoch{'s' if findings.num_epochs > 1 else ''}"
        sentences.append(
            f"{findings.monitor} was best at epoch {findings.best_epoch} ({count} logged): {value}."
        )
        if findings.skipped_epochs:
            listed = ", ".join(map(str, findings.skipped_epochs[:10]))
            more = ", ..." if len(findings.skipped_epochs) > 10 else ""
            sentences.append(f"Epochs without a finite {findings.monitor} are left out: {listed}{more}.")
    if findings.num_epochs == 1:
        sentences.append("One epoch alone shows no trend.")
    return sentences


def _describe_gap(findings: LearningFindings) -> list[str]:
    if findings.gap_at_end is None:
        return []
    end = f"{100 * findings.gap_at_end:+.1f} points at the last epoch"
    best = (
        ""
        if findings.gap_at_best is None
        else f"{100 * findings.gap_at_best:+.1f} points at the best epoch and "
    )
    return [f"Train minus validation top-1 was {best}{end}. {MEASURED_APART}"]


def _describe_overfitting(findings: LearningFindings) -> list[str]:
    lowest, since = findings.lowest_loss_epoch, findings.overfitting_since
    if lowest is None:
        return []
    if since is None:
        sentences = [
            "No lasting rise of validation loss while training loss fell, so no overfitting by that rule."
        ]
    else:
        rise = "" if findings.loss_rise is None else f" by {100 * findings.loss_rise:.0f} % until the end"
        sentences = [
            f"Overfitting grew from epoch {since}: smoothed validation loss rose{rise}, training loss fell."
        ]
    sentences.append(f"Smoothed validation loss was lowest at epoch {lowest}{_tell_fall(findings)}.")
    best = findings.best_epoch
    if since is not None and best is not None and best >= since and _sign(findings.monitor) > 0:
        sentences.append(
            f"{findings.monitor} was best at epoch {best} all the same: the loss also counts how confident "
            "the wrong answers are."
        )
    return sentences


def _tell_fall(findings: LearningFindings) -> str:
    fall = findings.train_loss_fall
    if fall is None or fall <= 0:
        return ""
    return f"; training loss fell by another {100 * fall:.0f} % after it"


def _describe_progress(findings: LearningFindings) -> list[str]:
    sentences = []
    if findings.plateau_since is not None:
        sentences.append(f"{findings.monitor} hardly improved after epoch {findings.plateau_since}.")
    if findings.unfinished:
        sentences.append(
            f"{findings.monitor} was still improving at epoch {findings.last_epoch}, the last one measured: "
            "more epochs may give more."
        )
    return sentences


def _format(key: str, value: float) -> str:
    return f"{value:.4f}" if _sign(key) < 0 else f"{100 * value:.1f} %"
