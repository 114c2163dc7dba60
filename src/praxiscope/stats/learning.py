"""What a training log says: best epoch, levels, plateaus, train/validation gap, overfitting.

Every rule is defined here or in `stats/trend.py`, with its constants, so that a report's sentence can be
traced to the numbers that carry it; `stats/learning_text.py` writes the sentences.

Noise of an accuracy
    Its standard error on n validation samples, sqrt(a (1 - a) / n), at the best value. Epochs are compared
    by the one-standard-error rule (Breiman et al. 1984, section 3.4.3): a difference of no more than one
    standard error is within the noise. Where n is unknown, and for other figures than accuracy, `STEP` stands
    for it: half a point, or half a percent of the best loss.
Gap
    Train minus validation top-1. It is distinguishable from 0 where it exceeds 1.96 standard errors of the
    difference of two accuracies on different samples. The gap of the losses (validation minus train) grew
    from the epoch where `find_rise` sees it rise, if it is above 0 at the end.
Overfitting
    Validation loss rises, by `find_rise`, by at least `SMALLEST_RISE` of its minimum, and smoothed training
    loss is lower at the end than at the minimum. It set in at the first epoch of the rise.
Stall
    No such rise, but smoothed validation loss came within twice its noise of its minimum at least `PLATEAU`
    epochs before the end, and training loss has fallen by more than `STALL_FALL` since.
Plateaus
    Stretches of more than `PLATEAU` epochs in which the best value so far rises by no more than the noise.
Fast at first
    `FAST_GAIN` of the gain from the first epoch to the best lies within `FAST_SPAN` of the epochs between.
Unfinished
    The best figure lies in the last fifth of the epochs (at most 5), is better than all before that fifth by
    more than the noise, and the last epoch is within `STEP` of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from praxiscope.stats import learning_text
from praxiscope.stats.labels import FloatArray
from praxiscope.stats.learning_findings import Conditions, LearningFindings, Level, Plateau, is_loss
from praxiscope.stats.trend import MIN_VALUES, NEAR, estimate_noise, find_rise, smooth_curve

SMALLEST_RISE = 0.01
STALL_FALL = 0.1
STEP = 0.005
PLATEAU = 5
LEVELS = (0.5, 0.75, 0.9)
FAST_GAIN, FAST_SPAN = 0.75, 1 / 3

Row = Mapping[str, float | int | None]

_AS_LOGGED = Conditions()


def describe_learning(
    rows: Sequence[Row],
    *,
    monitor: str = "val/top1",
    conditions: Conditions = _AS_LOGGED,
    levels: Sequence[float] = (),
) -> LearningFindings:
    """Read a training log.

    Args:
        rows: One per epoch as in ``metrics.jsonl``: ``epoch``, ``train/loss``, ``train/top1``, ``val/loss``,
            ``val/top1`` and the monitored figure; None, NaN and missing figures are left out and named. Of
            several rows of one epoch the last counts.
        monitor: Key of the figure by which epochs are compared; one that ends in ``loss`` is better when
            lower.
        conditions: How the figures were measured; decides what may be said about the gap.
        levels: Further values of the monitored figure, in its own unit, whose first epoch is asked for.

    Raises:
        ValueError: A row without a whole, positive ``epoch``.
    """
    log = _order_rows(rows)
    epochs, values = _series(log, monitor)
    best = _find_best(epochs, values, monitor)
    if best is None:
        bare = LearningFindings(monitor=monitor, num_epochs=len(log), skipped_epochs=tuple(log))
        return replace(bare, sentences=learning_text.tell_findings(bare, conditions))
    noise = _measure_noise(values, best, monitor, conditions)
    findings = LearningFindings(
        monitor=monitor,
        num_epochs=len(log),
        best_epoch=epochs[best],
        best_value=float(values[best]),
        first_epoch=epochs[0],
        first_value=float(values[0]),
        last_epoch=epochs[-1],
        last_value=float(values[-1]),
        noise=noise,
        num_val=conditions.num_val if monitor == "val/top1" else None,
        levels=_find_levels(epochs, values, best, monitor, levels),
        fast_until=_find_fast_start(epochs, values, best, noise),
        plateaus=_find_plateaus(epochs, _sign(monitor) * values, noise),
        unfinished_gain=_measure_late_gain(values, monitor, noise),
        skipped_epochs=tuple(sorted(set(log) - set(epochs))),
        extensions=_judge_extensions(epochs, values, monitor, conditions),
        gap_at_best=_gap(log, [epochs[best]]),
        gap_at_end=_gap(log, list(log)),
        gap_noise=_measure_gap_noise(log, conditions),
    )
    findings = _add_losses(findings, log, conditions)
    return replace(findings, sentences=learning_text.tell_findings(findings, conditions))


def find_first_epoch(rows: Sequence[Row], *, level: float, key: str = "val/top1") -> int | None:
    """Find the first epoch whose figure reached a level, or None.

    Args:
        rows: As for `describe_learning`.
        level: In the figure's own unit; a figure whose key ends in ``loss`` reaches it from above.
        key: The figure.
    """
    epochs, values = _series(_order_rows(rows), key)
    return _reach(epochs, values, level, key)


def _reach(epochs: Sequence[int], values: FloatArray, level: float, key: str) -> int | None:
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
    return -1 if is_loss(key) else 1


def _step(values: FloatArray, monitor: str) -> float:
    return STEP * float(np.abs(values).min()) if is_loss(monitor) else STEP


def _find_best(epochs: Sequence[int], values: FloatArray, monitor: str) -> int | None:
    return int(np.argmax(_sign(monitor) * values)) if epochs else None


def _measure_noise(values: FloatArray, best: int, monitor: str, conditions: Conditions) -> float:
    if monitor == "val/top1" and conditions.num_val:
        return _standard_error(float(values[best]), conditions.num_val)
    return _step(values, monitor)


def _standard_error(accuracy: float, num_samples: int) -> float:
    # At 0 and 1 the formula gives 0; half a sample stands in for certainty.
    inside = min(max(accuracy, 0.5 / num_samples), 1 - 0.5 / num_samples)
    return math.sqrt(inside * (1 - inside) / num_samples)


def _find_levels(
    epochs: Sequence[int], values: FloatArray, best: int, monitor: str, asked: Sequence[float]
) -> tuple[Level, ...]:
    top = float(values[best])
    # A share of the best means something for a figure that starts at 0, not for a loss.
    shares = () if is_loss(monitor) or top <= 0 else LEVELS
    levels = [(share, share * top) for share in shares] + [(None, float(level)) for level in asked]
    return tuple(
        Level(share_of_best=share, value=level, epoch=_reach(epochs, values, level, monitor))
        for share, level in levels
    )


def _find_fast_start(epochs: Sequence[int], values: FloatArray, best: int, noise: float) -> int | None:
    """Return the epoch by which `FAST_GAIN` of the whole gain was made, if that was early."""
    gain = abs(float(values[best] - values[0]))
    if gain <= 2 * noise or epochs[best] - epochs[0] < PLATEAU:
        return None
    done = np.flatnonzero(np.abs(values[: best + 1] - values[best]) <= (1 - FAST_GAIN) * gain)
    at = epochs[int(done[0])]
    return at if at - epochs[0] <= FAST_SPAN * (epochs[best] - epochs[0]) else None


def _find_plateaus(epochs: Sequence[int], signed: FloatArray, noise: float) -> tuple[Plateau, ...]:
    """Cut the curve of the best value so far into stretches that rise by no more than the noise."""
    best_so_far = np.maximum.accumulate(signed)
    found, start = [], 0
    while start < len(epochs):
        end = int(np.searchsorted(best_so_far, best_so_far[start] + noise, side="right")) - 1
        if epochs[end] - epochs[start] >= PLATEAU:
            rise = float(best_so_far[end] - best_so_far[start])
            found.append(Plateau(first=epochs[start], last=epochs[end], gain=rise))
        # The next stretch begins with the first value that this one doesn't hold.
        start = end + 1
    return tuple(found)


def _measure_late_gain(values: FloatArray, monitor: str, noise: float) -> float | None:
    window = min(5, math.ceil(values.size / 5))
    if values.size < 2:
        return None
    signed, step = _sign(monitor) * values, _step(values, monitor)
    before, recent = signed[:-window].max(), signed[-window:].max()
    return float(recent - before) if recent > before + noise and signed[-1] >= recent - step else None


def _judge_extensions(
    epochs: Sequence[int], values: FloatArray, monitor: str, conditions: Conditions
) -> tuple[tuple[int, float, float], ...]:
    """Return (last epoch before, best before, best since) of each extension that has epochs on both sides."""
    choose = np.min if is_loss(monitor) else np.max
    found = []
    for joint in conditions.extensions:
        before = values[[epoch <= joint for epoch in epochs]]
        since = values[[epoch > joint for epoch in epochs]]
        if before.size and since.size:
            found.append((joint, float(choose(before)), float(choose(since))))
    return tuple(found)


def _gap(log: Mapping[int, Row], candidates: Sequence[int]) -> float | None:
    """Return train minus validation top-1 at the last candidate epoch that has both."""
    _, pairs = _series({epoch: log[epoch] for epoch in candidates}, "train/top1", "val/top1")
    return float(pairs[-1, 0] - pairs[-1, 1]) if len(pairs) else None


def _measure_gap_noise(log: Mapping[int, Row], conditions: Conditions) -> float | None:
    """Return 1.96 standard errors of the last gap, or None where the number of samples is unknown."""
    _, pairs = _series(log, "train/top1", "val/top1")
    if not len(pairs) or not conditions.num_val or not conditions.num_train:
        return None
    train, val = (
        _standard_error(float(accuracy), count)
        for accuracy, count in zip(pairs[-1], (conditions.num_train, conditions.num_val), strict=True)
    )
    return 1.96 * math.hypot(train, val)


def _add_losses(
    findings: LearningFindings, log: Mapping[int, Row], conditions: Conditions
) -> LearningFindings:
    """Add what the two losses say: overfitting, a stall, the growth of the gap."""
    epochs, pairs = _series(log, "train/loss", "val/loss")
    if len(epochs) < MIN_VALUES:
        return findings
    train, val = smooth_curve(pairs[:, 0]), smooth_curve(pairs[:, 1])
    lowest = int(np.argmin(val))
    floor = float(val[lowest])
    rise = find_rise(pairs[:, 1], smallest=SMALLEST_RISE * abs(floor)) if train[-1] < train[lowest] else None
    gap, grew = val - train, None
    if conditions.comparable_losses and gap[-1] > 0:
        grew = find_rise(pairs[:, 1] - pairs[:, 0], smallest=SMALLEST_RISE * abs(floor))
    stalled = _find_stall(train, val, estimate_noise(pairs[:, 1])) if rise is None else None
    since = lowest if stalled is None else stalled
    return replace(
        findings,
        lowest_loss_epoch=epochs[lowest],
        lowest_loss=floor,
        train_loss_fall=float(1 - train[-1] / train[since]) if train[since] > 0 else None,
        overfitting_since=None if rise is None else epochs[rise],
        loss_rise=None if rise is None or floor <= 0 else float(val[-1] / floor - 1),
        stalled_since=None if stalled is None else epochs[stalled],
        gap_grew_from=None if grew is None else epochs[grew],
        loss_gaps=None if grew is None else (float(gap[max(0, grew - 1)]), float(gap[-1])),
    )


def _find_stall(train: FloatArray, val: FloatArray, noise: float) -> int | None:
    first = int(np.flatnonzero(val <= float(val.min()) + NEAR * noise)[0])
    fell = train[first] > 0 and train[-1] < (1 - STALL_FALL) * train[first]
    return first if fell and len(val) - 1 - first >= PLATEAU else None
