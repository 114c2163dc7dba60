"""Which samples make a batch, and in what order: a function of (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ORDER_STREAM, AUGMENT_STREAM, FRAME_STREAM = 1, 2, 5
"""Words in the seeds of order, augmentation and chosen frames, which keep their draws apart."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Which rows make a batch, in which epoch (0-based).

    Attributes:
        epoch: seeds the augmentation.
        rows: of the split, by place in the batch.
        draws: how often each place's row came before in this epoch, which keeps augmentations of the same
            row apart; empty where no row comes twice.
        spare: read to keep this rank in step with the others; it counts nothing.
    """

    epoch: int
    rows: tuple[int, ...]
    draws: tuple[int, ...] = ()
    spare: bool = False

    def cut(self, rank: int, ranks: int) -> BatchPlan:
        """Return the share of one of several ranks, which together have every place once.

        Shares are neighbours in the batch and differ by one place at most. A rank that is left without one,
        where a batch has fewer places than there are ranks, gets the first place as a ``spare``.
        """
        if ranks == 1:
            return self
        share, more = divmod(len(self.rows), ranks)
        start = rank * share + min(rank, more)
        stop = start + share + (rank < more)
        spare = start == stop
        cut = slice(0, 1) if spare else slice(start, stop)
        return BatchPlan(epoch=self.epoch, rows=self.rows[cut], draws=self.draws[cut], spare=spare)

    def count_shares(self, ranks: int) -> list[int]:
        """Return the places of each rank's share."""
        share, more = divmod(len(self.rows), ranks)
        return [share + (rank < more) for rank in range(ranks)]

    @property
    def places(self) -> list[tuple[int, int]]:
        """(row, draw) of each place of the batch."""
        return list(zip(self.rows, self.draws or (0,) * len(self.rows), strict=True))


def plan_training_epoch(
    num_samples: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    repeats: int = 1,
    labels: Rows | None = None,
) -> list[BatchPlan]:
    """Draw an epoch's samples by (seed, epoch) and cut them into batches.

    Args:
        num_samples: N, of the split; an epoch has as many, repeats included.
        batch_size: samples of a batch. With ``repeats``, the largest multiple of it that fits.
        seed: of the recipe.
        epoch: 0-based.
        repeats: times that a chosen sample stands in its batch, side by side (Hoffer et al. 2020, "Augment
            your batch"). An epoch then sees N / ``repeats`` different samples, other ones each time.
        labels: int64 (N,), the class of each row, to draw each class equally often; None to take every
            sample exactly once.

    Returns:
        The batches. A last batch of a single sample is joined to the one before it: batch statistics of one
        sample are no statistics.
    """
    rng = np.random.default_rng([seed, epoch, ORDER_STREAM])
    if labels is None:
        chosen = rng.permutation(num_samples)
    else:
        chosen = _draw_balanced(labels, -(-num_samples // repeats), rng)
    order = np.repeat(chosen, repeats)[:num_samples]
    size = max(1, batch_size // repeats) * repeats
    cuts = list(range(size, num_samples, size))
    if cuts and num_samples - cuts[-1] == 1 and size > 1:
        cuts.pop()
    parts = np.split(order, cuts)
    if repeats == 1 and labels is None:
        return [BatchPlan(epoch=epoch, rows=tuple(part.tolist())) for part in parts]
    draws = np.split(_count_earlier(order), cuts)
    return [
        BatchPlan(epoch=epoch, rows=tuple(part.tolist()), draws=tuple(draw.tolist()))
        for part, draw in zip(parts, draws, strict=True)
    ]


def plan_evaluation(
    num_samples: int, batch_size: int, *, rank: int = 0, ranks: int = 1, in_step: bool = False
) -> list[BatchPlan]:
    """Cut the rows in their order into batches; every sample exactly once, nothing padded.

    Args:
        num_samples: N, of the split.
        batch_size: samples of a forward pass.
        rank: whose batches; rank r has the r-th of ``ranks`` stretches of rows, equally long to within one.
        ranks: that share the split. Together they have every row once.
        in_step: all ranks get as many batches as the one with most, the last of some a ``spare``.
    """
    whole = BatchPlan(epoch=0, rows=tuple(range(num_samples)))
    shares = whole.count_shares(ranks)
    rows = range(sum(shares[:rank]), sum(shares[: rank + 1]))
    starts = range(0, len(rows), batch_size)
    plans = [BatchPlan(epoch=0, rows=tuple(rows[start : start + batch_size])) for start in starts]
    spare = BatchPlan(epoch=0, rows=(0,), spare=True)
    missing = -(-shares[0] // batch_size) - len(plans) if in_step else 0
    return [*plans, *[spare] * missing]


def _draw_balanced(labels: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Draw ``count`` rows, each class that is present equally often to within one, in a mixed order.

    No row of a class comes a second time before all of them have come; which classes get one more where
    ``count`` is no multiple of their number is drawn as well.
    """
    classes = rng.permutation(np.unique(labels))
    quotas = [count // len(classes) + (place < count % len(classes)) for place in range(len(classes))]
    parts = []
    for label, quota in zip(classes, quotas, strict=True):
        rows = np.flatnonzero(labels == label)
        rounds = [rng.permutation(rows) for _ in range(-(-quota // len(rows)))]
        parts.append(np.concatenate(rounds)[:quota] if rounds else rows[:0])
    return rng.permutation(np.concatenate(parts))


def _count_earlier(order: Rows) -> Rows:
    """Return for each place how often its row stands before it."""
    by_row = np.argsort(order, kind="stable")
    ordered = order[by_row]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(order)])
    earlier = np.empty_like(order)
    earlier[by_row] = np.arange(len(order)) - np.repeat(starts, lengths)
    return earlier
