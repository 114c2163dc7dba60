"""Time contestants side by side: in rounds that alternate, each block warmed up, until the time is used up.

A benchmark under foreign load misleads, and slows some runtimes more than others. So contestants take
turns in short blocks, the order rotates, and ratios are taken within rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from praxiscope.stats.intervals import Interval
from praxiscope.stats.latency import quantile_interval, smallest_sample

Work = Callable[[], object]
Key = TypeVar("Key")
BLOCK_S = 0.05
"""A contestant's timed calls of one round together, about; slow ones get one call."""
MAX_CALLS = 1000
"""Timed calls of a contestant in one round at most."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class Timings(Generic[Key]):
    """Seconds of each call, by contestant and round."""

    rounds: Mapping[Key, Sequence[npt.NDArray[np.float64]]]
    """Contestant -> of each round the seconds of its timed calls, float64, (calls,)."""

    def seconds(self, key: Key) -> npt.NDArray[np.float64]:
        """Return all timed calls of a contestant, (N,)."""
        return np.concatenate(list(self.rounds[key]))

    def round_medians(self, key: Key) -> npt.NDArray[np.float64]:
        """Return the median of each round, (R,), in seconds."""
        return np.array([float(np.median(block)) for block in self.rounds[key]])

    def speedup(self, key: Key, baseline: Key) -> Interval:
        """Return how many times faster than the baseline a contestant is: the median ratio within rounds.

        Its interval is that of a median over rounds; an end is NaN with fewer than 6 of them.
        """
        ratios = self.round_medians(baseline) / self.round_medians(key)
        return quantile_interval(ratios, QUANTILES["p50"])


def time_rounds(
    contestants: Mapping[Key, Work],
    *,
    seconds: float,
    min_rounds: int = 3,
    patience_s: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings[Key]:
    """Time contestants in alternating rounds.

    Each block of a round starts with a call that isn't counted: it brings weights back into the caches and
    lets the threads of the one before go to sleep. Before the first round each is called twice.

    Args:
        contestants: What to call; each call must end only when its result is there.
        seconds: When so much time has passed, no further round begins.
        min_rounds: Rounds that are made even if they take longer.
        patience_s: After so many seconds one round has to do.
        clock: Seconds that only grow.
    """
    calls = {key: _choose_calls(work, clock) for key, work in contestants.items()}
    keys = list(contestants)
    rounds: dict[Key, list[npt.NDArray[np.float64]]] = {key: [] for key in keys}
    start, done = clock(), 0
    while (done < min_rounds and (not done or clock() - start < patience_s)) or clock() - start < seconds:
        turn = done % max(len(keys), 1)
        for key in keys[turn:] + keys[:turn]:
            rounds[key].append(_time_block(contestants[key], calls[key], clock))
        done += 1
    return Timings(rounds=rounds)


def has_enough(count: int, quantile: str) -> bool:
    """Whether so many calls give a quantile's interval both ends."""
    return count >= smallest_sample(QUANTILES[quantile])


def _choose_calls(work: Work, clock: Callable[[], float]) -> int:
    work()  # compiles, allocates, loads
    start = clock()
    work()
    return int(min(MAX_CALLS, max(1, BLOCK_S / max(clock() - start, 1e-9))))


def _time_block(work: Work, calls: int, clock: Callable[[], float]) -> npt.NDArray[np.float64]:
    work()
    taken = np.empty(calls)
    for index in range(calls):
        start = clock()
        work()
        taken[index] = clock() - start
    return taken
