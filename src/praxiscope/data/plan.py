"""Which samples make a batch, and in what order: a function of (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ORDER_STREAM, AUGMENT_STREAM = 1, 2
"""Last words of the seeds of order and augmentation, which keep their draws apart."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Which rows make a batch, in which epoch (0-based)."""

    epoch: int
    rows: tuple[int, ...]


def plan_training_epoch(num_samples: int, batch_size: int, *, seed: int, epoch: int) -> list[BatchPlan]:
    """Shuffle by (seed, epoch) and cut into batches; every sample comes exactly once.

    A last batch of a single sample is joined to the one before it: batch statistics of one sample
    are no statistics.
    """
    order = np.random.default_rng([seed, epoch, ORDER_STREAM]).permutation(num_samples)
    cuts = list(range(batch_size, num_samples, batch_size))
    if cuts and num_samples - cuts[-1] == 1 and batch_size > 1:
        cuts.pop()
    return [BatchPlan(epoch=epoch, rows=tuple(part.tolist())) for part in np.split(order, cuts)]


def plan_evaluation(num_samples: int, batch_size: int) -> list[BatchPlan]:
    """Cut the rows in their order into batches; every sample exactly once, nothing padded."""
    starts = range(0, num_samples, batch_size)
    return [BatchPlan(epoch=0, rows=tuple(range(i, min(i + batch_size, num_samples)))) for i in starts]
