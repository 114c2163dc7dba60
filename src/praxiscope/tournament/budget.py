"""The time box: what ``--budget`` means, and how much of it is spent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from praxiscope.errors import UsageError

_NUMBER = r"\d+(?:\.\d+)?"
_BUDGET = re.compile(rf"(?:({_NUMBER})h)?(?:({_NUMBER})m(?:in)?)?(?:({_NUMBER})s)?")


def parse_budget(text: str, *, flag: str = "--budget") -> float:
    """Return the seconds of a time such as ``60m``, ``2h``, ``90s`` or ``1h30m``.

    Args:
        text: the time.
        flag: what it was given to, for the message.

    Raises:
        UsageError: it is written otherwise, or is no time at all.

    >>> parse_budget("1h30m"), parse_budget("90s")
    (5400.0, 90.0)
    """
    match = _BUDGET.fullmatch(text.strip().lower().replace(" ", ""))
    parts = match.groups() if match else (None, None, None)
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if seconds <= 0:
        raise UsageError(
            f"{flag} '{text}': write hours, minutes and seconds with their letters, "
            "e.g. 60m, 2h, 90s or 1h30m."
        )
    return seconds


def format_time(seconds: float) -> str:
    """Return a time for a person.

    >>> format_time(12.4), format_time(250), format_time(5400)
    ('12 s', '4 min 10 s', '1 h 30 min')
    """
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


class BudgetClock:
    """Counts the time spent on a bake-off: that of earlier processes, and this one's from here on.

    The time between a kill and its resume isn't counted: nobody was at work.

    Args:
        spent_s: seconds spent before.
        now: a clock in seconds; only differences count.
    """

    def __init__(self, *, spent_s: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._before = spent_s
        self._started = now()

    @property
    def spent_s(self) -> float:
        """Seconds spent in all."""
        return self._before + self._now() - self._started
