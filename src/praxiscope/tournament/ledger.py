"""What was decided, from which figures, in the order in which it was decided.

A line that stands is never decided again: a bake-off that was killed reads its ledger and goes on behind the
last line. So every decision has to follow from lines that stand before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.errors import UsageError
from praxiscope.runs.rows import append_row, read_rows
from praxiscope.tournament.budget import BudgetClock

LEDGER_NAME = "ledger.jsonl"

Entry = Mapping[str, Any]


class Ledger:
    """An append-only log of decisions in ``ledger.jsonl``.

    Args:
        folder: the bake-off's.
        clock: stamps each line with the time spent.

    Raises:
        IntegrityError: a line before the last is damaged.
    """

    def __init__(self, folder: Path, clock: BudgetClock) -> None:
        self._path = folder / LEDGER_NAME
        self._clock = clock
        self._entries: list[Entry] = list(read_rows(self._path))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All lines in order."""
        return tuple(self._entries)

    @property
    def spent_s(self) -> float:
        """Seconds that were spent when the last line was written; decisions about time look at this."""
        return float(self._entries[-1]["spent_s"]) if self._entries else 0.0

    def append(self, kind: str, **figures: Any) -> Entry:
        """Add a line; it is on the disk before this returns.

        Raises:
            EnvironmentProblem: the disk is full.
        """
        stamp = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "spent_s": self._clock.spent_s}
        append_row(self._path, {"kind": kind, **figures, **stamp})
        entry = read_rows(self._path)[-1]  # as a resume would see it: lists for tuples, null for NaN
        self._entries.append(entry)
        return entry

    def find(self, kind: str, **fields: Any) -> Entry | None:
        """Return the first line of a kind that holds these fields, or None."""
        return next(iter(self.select(kind, **fields)), None)

    def select(self, kind: str, **fields: Any) -> tuple[Entry, ...]:
        """Return all lines of a kind that hold these fields."""
        wanted = {"kind": kind, **fields}
        return tuple(entry for entry in self._entries if wanted.items() <= entry.items())

    def require(self, kind: str) -> Entry:
        """Return the one line that every sound ledger has.

        Raises:
            UsageError: there is none.
        """
        entry = self.find(kind)
        if entry is None:
            raise UsageError(
                f"{self._path} has no line '{kind}': the bake-off was stopped before it began, or the folder "
                "isn't one. Start it anew, without --resume, in another folder."
            )
        return entry
