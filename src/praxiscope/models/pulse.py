"""How the ranks of a job know of each other's life: a beat of each in the job's store.

A rank that was killed says nothing. The others see a broken connection or a time that ran out, neither of
which names it. So each rank writes a beat every second, and who has to explain a failure looks whose stands
still.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

from torch._C._distributed_c10d import Store
from torch.distributed import DistError

from praxiscope.errors import RankLost

BEAT_S = 1.0
"""Seconds between beats."""

SILENCE_S = 5.0
"""Seconds without a beat after which a rank counts as dead, once an exchange has failed."""

PATIENCE_S = 60.0
"""The same while nothing has failed: one long call (a large file written as JSON) lets no beat through."""

_STORE_PROBLEMS = (DistError, RuntimeError)  # what torch's stores raise when their host is gone


class Pulse:
    """This rank's beat, and a look at the others'. As a context manager it beats while it is open.

    Args:
        store: of the job; one that no other thread waits on.
        rank: this process's number.
        size: how many there are.
        launched: torchrun started this process, so a new parent means that torchrun is gone.
    """

    def __init__(self, store: Store, *, rank: int, size: int, launched: bool) -> None:
        self._store = store
        self._rank = rank
        self._size = size
        self._parent = os.getppid() if launched else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="rank-beat", daemon=True)
        self._orphaned = False
        self.steps = 0
        """Exchanges that this rank has begun: who is behind in them keeps the others waiting."""

    def __enter__(self) -> Self:
        who = {"pid": os.getpid(), "host": socket.gethostname()}
        self._store.set(f"who/{self._rank}", json.dumps(who))
        self._store.set(f"beat/{self._rank}", "0 0")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def leave(self) -> None:
        """Say that this rank needs the store no longer, which may be rank 0's."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(*_STORE_PROBLEMS):
            self._store.set(f"left/{self._rank}", "")

    def await_leaving(self) -> None:
        """Wait until the others have read rank 0's last word: the store may end with this process."""
        for rank in range(1, self._size):
            with contextlib.suppress(RankLost):
                self.wait_for(f"left/{rank}", rank=rank, doing="at the end", at_most_s=SILENCE_S)

    @property
    def orphaned(self) -> bool:
        """Whether torchrun ended and left this process behind."""
        return self._orphaned

    def post(self, text: str) -> None:
        """Leave a last word: how this rank ended, empty when all was well."""
        with contextlib.suppress(*_STORE_PROBLEMS):  # nobody is left to read it
            self._store.set(f"end/{self._rank}", json.dumps(text))

    def read_end(self, rank: int) -> str | None:
        """Return the last word of a rank, None while it has said none."""
        with contextlib.suppress(*_STORE_PROBLEMS):
            if self._store.check([f"end/{rank}"]):
                return str(json.loads(self._store.get(f"end/{rank}")))
        return None

    def wait_for(self, key: str, *, rank: int, doing: str, at_most_s: float = math.inf) -> None:
        """Wait until ``rank`` has set ``key``, for as long as it lives and the store is there.

        Raises:
            RankLost: It ended or died before, or the store is gone, in which its word would be.
        """
        silence, begun = _Silence(), time.monotonic()
        while not self._check(key) and time.monotonic() - begun < at_most_s:
            end = self.read_end(rank) if rank == 0 else None
            if end is not None and not self._check(key):
                raise RankLost(f"{self._name(rank)} ended {doing}: {end or 'without a word'}")
            if silence.lasts(self._read_beat(rank), PATIENCE_S):
                raise RankLost(f"{self._name(rank)} died {doing}; it was waited for.")
            if self._store_is_gone() and not self._check(key):
                raise RankLost(f"{_GONE} {doing}. {_ADVICE}")
            time.sleep(0.05)

    def explain(self, problem: BaseException) -> RankLost | None:
        """Say which rank made an exchange fail; takes up to :data:`SILENCE_S`.

        Args:
            problem: What torch raised.

        Returns:
            None where all ranks live and are as far as this one: then it is another kind of failure.
        """
        others = [rank for rank in range(self._size) if rank != self._rank]
        silences = {rank: _Silence() for rank in others}
        while others:
            for rank in others:
                end = self.read_end(rank)
                if end is not None:
                    return RankLost(f"{self._name(rank)} ended before the others: {end or 'it was done'}")
            if self._store_is_gone():
                return RankLost(f"{_GONE}, and with it other ranks: {_shorten(problem)}. {_ADVICE}")
            silent = [rank for rank in others if silences[rank].lasts(self._read_beat(rank), SILENCE_S)]
            if silent:
                names = " and ".join(self._name(rank) for rank in silent)
                return RankLost(f"{names} died: no sign of life for {SILENCE_S:g} s. {_ADVICE}")
            if all(silences[rank].broken for rank in others):
                return self._name_late(others, problem)
            time.sleep(0.1)
        return None

    def _name_late(self, others: Sequence[int], problem: BaseException) -> RankLost | None:
        late = [rank for rank in others if int((self._read_beat(rank) or "0 0").split()[1]) < self.steps]
        if not late:
            return None
        names = " and ".join(self._name(rank) for rank in late)
        return RankLost(
            f"{names} did not come along in time, though alive ({_shorten(problem)}): a slow disk or a file "
            f"that hangs? train.distributed_timeout_s is how long the others wait. {_ADVICE}"
        )

    def _name(self, rank: int) -> str:
        who: dict[str, Any] = {}
        with contextlib.suppress(*_STORE_PROBLEMS):
            who = json.loads(self._store.get(f"who/{rank}"))
        place = f" (process {who['pid']} on {who['host']})" if who else ""
        return f"Rank {rank} of {self._size}{place}"

    def _check(self, key: str) -> bool:
        try:
            return bool(self._store.check([key]))
        except _STORE_PROBLEMS:
            return False

    def _store_is_gone(self) -> bool:
        return not self._check(f"beat/{self._rank}")  # set before anything is waited for

    def _read_beat(self, rank: int) -> str | None:
        with contextlib.suppress(*_STORE_PROBLEMS):
            if self._store.check([f"beat/{rank}"]):
                return self._store.get(f"beat/{rank}").decode()
        return None

    def _beat(self) -> None:
        number = 0
        while not self._stop.wait(BEAT_S):
            number += 1
            self._orphaned = self._parent is not None and os.getppid() != self._parent
            # Without its store a rank goes on: the ranks' connections to each other are their own.
            with contextlib.suppress(*_STORE_PROBLEMS):
                self._store.set(f"beat/{self._rank}", f"{number} {self.steps}")


_GONE = "The store of the job (torchrun, or rank 0's machine) is gone"
_ADVICE = "The run is as its last checkpoint left it: start it again with --resume."


class _Silence:
    """How long a beat has stood still."""

    def __init__(self) -> None:
        self._last: str | None = ""
        self._since = time.monotonic()
        self._changes = 0

    @property
    def broken(self) -> bool:
        """Whether it has moved since it was first looked at."""
        return self._changes > 1

    def lasts(self, beat: str | None, limit_s: float) -> bool:
        if beat != self._last:
            self._last, self._since = beat, time.monotonic()
            self._changes += 1
        return time.monotonic() - self._since > limit_s


def _shorten(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:160]
