"""A time box: work asks how long it still has."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """Seconds that began when it was made.

    Args:
        seconds: in all.
        clock: seconds that only grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = seconds
        self._clock = clock
        self._start = clock()

    def used(self) -> float:
        """Return the seconds that have passed."""
        return self._clock() - self._start

    def left(self, share: float = 1.0) -> float:
        """Return the seconds until a share of the budget is used up; 0 when it is."""
        return max(0.0, share * self.seconds - self.used())
