"""Scores of several contestants on the same resamples, so that differences keep what pairing is worth.

Two levels are drawn (Bouthillier et al. 2021, https://arxiv.org/abs/2103.03098): groups of samples, the same
for all contestants, and of a contestant with M > 1 seeds M - 1 seeds with replacement, which makes the
variance that few seeds contribute unbiased (Rao and Wu 1988, section 3). A contestant's score is the mean
over its seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from praxiscope.stats.bootstrap import Groups, code_groups, draw_counts
from praxiscope.stats.calibration import NUM_BINS, SampleLosses, assign_bins
from praxiscope.stats.confusion import compute_margin_scores
from praxiscope.stats.labels import FloatArray, IntArray, validate_labels

COUNT_SCORES = ("top1", "macro_f1", "weighted_f1", "balanced_acc")
LOSS_SCORES = ("nll", "brier", "ece")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What one trained model answered to N samples."""

    preds: IntArray
    """(N,) class indices."""
    in_top5: npt.NDArray[np.bool_] | None = None
    """(N,) whether the target is among the five best; None without probabilities."""
    losses: SampleLosses | None = None
    """Of the N samples; None without probabilities."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """One contestant's scores; names are those that all its seeds can give."""

    by_seed: dict[str, FloatArray]
    """(M,) score of each seed on the samples themselves."""
    drawn: dict[str, FloatArray]
    """(R,) mean over the drawn seeds on each resample."""

    def value(self, name: str) -> float:
        """Return the mean score over the seeds."""
        return float(self.by_seed[name].mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Units:
    """What is drawn, and what one draw of each adds to the sums."""

    held: sparse.csr_array
    """(U, S) sums of each unit."""
    counts: IntArray
    """(U,) how many units are alike."""

    def draw(self, resamples: int, seed: int) -> Iterator[FloatArray]:
        """Yield (r, S) sums of resamples, r in all, in chunks of bounded memory."""
        width = self.held.shape[1]
        for weights in draw_counts(self.counts, resamples=resamples, width=width, seed=seed):
            yield np.asarray(weights @ self.held, dtype=np.float64)

    def add_up(self) -> FloatArray:
        """Return the (1, S) sums of the samples themselves."""
        return np.asarray(self.counts[None, :].astype(np.float64) @ self.held, dtype=np.float64)


def bootstrap_contestants(
    targets: npt.ArrayLike,
    contestants: Sequence[Sequence[Answers]],
    num_classes: int,
    *,
    groups: Groups | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Resampled]:
    """Score contestants on resamples of samples and of seeds.

    Args:
        targets: (N,) class indices in ``[0, K)``, N >= 1.
        contestants: For each contestant the answers of its seeds, at least one.
        num_classes: K.
        groups: (N,) as in `praxiscope.stats.bootstrap.code_groups`.
        resamples: R, at least 1.
        seed: The same seed gives the same draws.

    Returns:
        One entry a contestant: ``COUNT_SCORES``, and ``top5`` and ``LOSS_SCORES`` where every seed has
        probabilities. Row r of a score is the same resample of samples for every contestant, so differences
        row by row are paired.

    Raises:
        ValueError: Labels outside the range, lengths that differ, no samples, no resamples.
    """
    true = validate_labels(targets, num_classes, name="targets")
    if not true.size:
        raise ValueError("there must be at least one sample to resample")
    members = [answers for contestant in contestants for answers in contestant]
    for answers in members:
        if validate_labels(answers.preds, num_classes, name="preds").size != true.size:
            raise ValueError(f"targets and preds must pair up, got {true.size} and {answers.preds.size}")
    codes = None if groups is None else code_groups(groups, true.size)
    if codes is not None and int(codes.max()) + 1 == true.size:
        codes = None
    values: list[dict[str, FloatArray]] = [{} for _ in members]
    drawn: list[dict[str, FloatArray]] = [{} for _ in members]
    units = _count_units(true, members, num_classes, codes)
    _collect(values, [_score_counts(units.add_up(), members, num_classes)])
    _collect(drawn, [_score_counts(sums, members, num_classes) for sums in units.draw(resamples, seed)])
    if any(answers.losses is not None for answers in members):
        units = _loss_units(members, codes, true.size)
        _collect(values, [_score_losses(units.add_up(), members)])
        _collect(drawn, [_score_losses(sums, members) for sums in units.draw(resamples, seed)])
    return _merge_seeds([len(one) for one in contestants], values, drawn, resamples=resamples, seed=seed)


def _count_units(
    true: IntArray, members: Sequence[Answers], num_classes: int, codes: IntArray | None
) -> _Units:
    """Sum what counts need: samples and targets; of each member hits, answers, top-5 hits."""
    flags = [answers.in_top5 for answers in members if answers.in_top5 is not None]
    columns = np.column_stack([true, *(answers.preds for answers in members), *flags]).astype(np.int64)
    if codes is None:
        kinds, counts = _find_kinds(columns)
        return _Units(held=_spread_counts(kinds, members, num_classes, None), counts=counts)
    held = _spread_counts(columns, members, num_classes, codes)
    return _Units(held=held, counts=np.ones(held.shape[0], dtype=np.int64))


def _spread_counts(
    columns: IntArray, members: Sequence[Answers], num_classes: int, codes: IntArray | None
) -> sparse.csr_array:
    rows = np.arange(len(columns)) if codes is None else codes
    true, placed = columns[:, 0], [(rows, np.zeros(rows.size, np.int64)), (rows, 1 + columns[:, 0])]
    flag = 1 + len(members)
    for index, answers in enumerate(members):
        start, preds = _count_column(index, num_classes), columns[:, 1 + index]
        hit = preds == true
        placed += [(rows[hit], start + true[hit]), (rows, start + num_classes + preds)]
        if answers.in_top5 is not None:
            inside = columns[:, flag] > 0
            placed.append((rows[inside], np.full(int(inside.sum()), start + 2 * num_classes)))
            flag += 1
    row, column = (np.concatenate(part) for part in zip(*placed, strict=True))
    shape = (int(rows.max()) + 1, _count_column(len(members), num_classes))
    return sparse.csr_array((np.ones(row.size), (row, column)), shape=shape)


def _score_counts(
    sums: FloatArray, members: Sequence[Answers], num_classes: int
) -> list[dict[str, FloatArray]]:
    size, support = sums[:, 0], sums[:, 1 : 1 + num_classes]
    found = []
    for index, answers in enumerate(members):
        start = _count_column(index, num_classes)
        hits, given = np.split(sums[:, start : start + 2 * num_classes], 2, axis=1)
        scores = compute_margin_scores(hits, support, given)
        kept = {name: scores[name] for name in COUNT_SCORES}
        if answers.in_top5 is not None:
            kept["top5"] = sums[:, start + 2 * num_classes] / size
        found.append(kept)
    return found


def _count_column(index: int, num_classes: int) -> int:
    """Return the first column of a member's counts."""
    return 1 + num_classes + index * (2 * num_classes + 1)


def _find_kinds(columns: IntArray) -> tuple[IntArray, IntArray]:
    """Return the different rows and how often each occurs."""
    # One number a row sorts much faster than rows do; overflow is avoided by renumbering after each column.
    key = np.zeros(len(columns), dtype=np.int64)
    for column in columns.T:
        _, key = np.unique(key * (int(column.max()) + 1) + column, return_inverse=True)
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    return columns[first], counts.astype(np.int64)


def _loss_units(members: Sequence[Answers], codes: IntArray | None, size: int) -> _Units:
    """Sum what losses need: samples; of each member NLL, Brier score, and each bin's gap."""
    every = np.arange(size)
    rows = every if codes is None else codes
    width = 2 + NUM_BINS
    placed: list[tuple[IntArray, IntArray, FloatArray]] = [(rows, np.zeros(size, np.int64), np.ones(size))]
    for index, answers in enumerate(members):
        if answers.losses is not None:
            start, losses = 1 + index * width, answers.losses
            gaps = losses.correct - losses.confidence
            bins = start + 2 + assign_bins(losses.confidence)
            placed += [
                (rows, np.full(size, start), losses.nll),
                (rows, np.full(size, start + 1), losses.brier),
                (rows, bins, gaps),
            ]
    row, column, value = (np.concatenate(part) for part in zip(*placed, strict=True))
    shape = (int(rows.max()) + 1, 1 + len(members) * width)
    held = sparse.csr_array((value, (row, column)), shape=shape)
    return _Units(held=held, counts=np.ones(shape[0], dtype=np.int64))


def _score_losses(sums: FloatArray, members: Sequence[Answers]) -> list[dict[str, FloatArray]]:
    width, found = 2 + NUM_BINS, []
    for index, answers in enumerate(members):
        part = sums[:, 1 + index * width : 1 + (index + 1) * width] / sums[:, :1]
        scores = {"nll": part[:, 0], "brier": part[:, 1], "ece": np.abs(part[:, 2:]).sum(axis=1)}
        found.append({} if answers.losses is None else scores)
    return found


def _collect(into: list[dict[str, FloatArray]], chunks: Sequence[list[dict[str, FloatArray]]]) -> None:
    for index, scores in enumerate(into):
        for name in chunks[0][index]:
            scores[name] = np.concatenate([chunk[index][name] for chunk in chunks])


def _merge_seeds(
    sizes: Sequence[int],
    values: Sequence[dict[str, FloatArray]],
    drawn: Sequence[dict[str, FloatArray]],
    *,
    resamples: int,
    seed: int,
) -> list[Resampled]:
    """Draw seeds and take the mean over the drawn ones."""
    rng = np.random.default_rng([seed, 1])
    merged, start = [], 0
    for size in sizes:
        held = range(start, start + size)
        start += size
        picks = rng.integers(size, size=(resamples, max(1, size - 1)))
        shares = np.stack([(picks == index).mean(axis=1) for index in range(size)])
        names = [name for name in values[held[0]] if all(name in values[index] for index in held)]
        merged.append(
            Resampled(
                by_seed={name: np.concatenate([values[index][name] for index in held]) for name in names},
                drawn={
                    name: (shares * np.stack([drawn[index][name] for index in held])).sum(axis=0)
                    for name in names
                },
            )
        )
    return merged
