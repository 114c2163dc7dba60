"""One process per run folder.

Two locks work together. The operating system's lock on ``run.lock`` is released by the kernel when its
holder dies, even of ``kill -9``, so nothing stale stays behind on one machine. It may not travel over a
shared file system, so the holder also writes who it is, and a heartbeat every few seconds, into
``lock.json``: another machine refuses while that is fresh and takes over when it is not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from praxiscope.errors import EnvironmentProblem, IntegrityError, RunLocked
from praxiscope.runs import atomic

HEARTBEAT_S = 10.0
"""Seconds between heartbeats."""

STALE_S = 60.0
"""Age in seconds above which another machine's heartbeat counts as its death: six missed beats."""

_INTRODUCTION_S = 1.0  # how long a holder may take from locking to writing who it is


@dataclass(frozen=True, kw_only=True)
class LockInfo:
    """Who holds a run folder.

    Attributes:
        host: The machine's name.
        pid: The process's number there.
        started: When it took the lock, ISO 8601 in UTC.
        heartbeat: When it last said that it lives, ISO 8601 in UTC.
        token: Random text that tells this holder from all others.
    """

    host: str
    pid: int
    started: str
    heartbeat: str
    token: str

    @property
    def age_s(self) -> float:
        """Seconds since the heartbeat by this machine's clock; negative where the clocks differ."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.heartbeat)).total_seconds()


def read_lock(folder: Path) -> LockInfo | None:
    """Read who holds `folder`, or held it when it was killed; None when nobody says so.

    A damaged ``lock.json`` counts as absent: it carries nothing worth stopping for.
    """
    try:
        stored = atomic.read_json(folder / "lock.json")
        info = LockInfo(**stored)
        has_zone = datetime.fromisoformat(info.heartbeat).tzinfo is not None
    except (FileNotFoundError, IntegrityError, TypeError, ValueError):
        return None
    return info if has_zone else None


class RunLock:
    """Holds a run folder for this process, as a context manager.

    Forked children, such as data-loading workers, don't inherit it.

    Args:
        folder: The run folder; must exist.
        heartbeat_s: Seconds between heartbeats.
        stale_s: Age in seconds above which another machine's heartbeat counts as its death.

    Raises:
        RunLocked: On entering, when another process holds the folder; says who, where, since when.
        EnvironmentProblem: On entering, when the folder is absent or can't be written to.

    Attributes:
        note: After entering: a sentence to show when a dead holder's lock was taken over, else None.
    """

    def __init__(self, folder: Path, *, heartbeat_s: float = HEARTBEAT_S, stale_s: float = STALE_S) -> None:
        self.note: str | None = None
        self._folder = folder
        self._heartbeat_s = heartbeat_s
        self._stale_s = stale_s
        self._system_lock = filelock.FileLock(folder / "run.lock", timeout=0, thread_local=False)
        self._info: LockInfo | None = None
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if not self._folder.is_dir():  # the lock library would make it
            raise EnvironmentProblem(f"Can't lock the run folder {self._folder}: there is no such folder.")
        try:
            self._system_lock.acquire()
        except filelock.Timeout as problem:
            raise RunLocked(_describe_refusal(self._folder, self._await_holder())) from problem
        except OSError as problem:
            raise EnvironmentProblem(f"Can't lock the run folder {self._folder}: {problem}.") from problem
        try:
            self._take_over(read_lock(self._folder))
            now = _now()
            self._info = LockInfo(
                host=socket.gethostname(),
                pid=os.getpid(),
                started=now,
                heartbeat=now,
                token=secrets.token_hex(8),
            )
            self._write(self._info)
        except BaseException:
            self._system_lock.release()
            raise
        self._stop.clear()
        self._thread = threading.Thread(target=self._beat, name="run-lock-heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._is_ours():
            (self._folder / "lock.json").unlink(missing_ok=True)
        self._system_lock.release()

    def _await_holder(self) -> LockInfo | None:
        """Return who holds the folder; a holder that has only just taken it needs a moment to say so."""
        deadline = time.monotonic() + _INTRODUCTION_S
        while (holder := read_lock(self._folder)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return holder

    def check(self) -> None:
        """Make sure that the folder is still ours; call before writing what can't be undone.

        A suspended machine stops beating: another one may have taken over when it wakes up.

        Raises:
            RunLocked: Another process has taken the folder over.
        """
        if self._lost.is_set():
            raise RunLocked(
                "This process was silent for too long, and another one took the run over. "
                + _describe_refusal(self._folder, read_lock(self._folder))
            )

    def _take_over(self, previous: LockInfo | None) -> None:
        """With the system's lock in hand, decide on what the last holder left in ``lock.json``."""
        if previous is None:
            return
        # On this machine the system's lock is the proof: had the holder lived, we should not have got it.
        if previous.host != socket.gethostname() and previous.age_s < self._stale_s:
            raise RunLocked(_describe_refusal(self._folder, previous, stale_s=self._stale_s))
        self.note = (
            f"Process {previous.pid} on {previous.host} held this run and ended without releasing it "
            f"(last heartbeat {previous.age_s:.0f} s ago); its lock was taken over."
        )

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_s):
            if not self._is_ours():
                self._lost.set()
                return
            assert self._info is not None
            # A full disk must not end the heartbeat: the next beat may find room.
            with contextlib.suppress(OSError, EnvironmentProblem):
                self._write(LockInfo(**{**asdict(self._info), "heartbeat": _now()}))

    def _write(self, info: LockInfo) -> None:
        atomic.write_json(self._folder / "lock.json", asdict(info))

    def _is_ours(self) -> bool:
        found = read_lock(self._folder)
        # Absent is ours too: a person may have removed it, and the next heartbeat writes it again.
        return self._info is not None and (found is None or found.token == self._info.token)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe_refusal(folder: Path, holder: LockInfo | None, *, stale_s: float | None = None) -> str:
    if holder is None:
        return f"Another process is working in {folder}. Wait for it, or start a new run without --resume."
    text = (
        f"Process {holder.pid} on {holder.host} is working in {folder} since {holder.started} "
        f"(last heartbeat {holder.age_s:.0f} s ago). Wait for it or stop it there, "
        "or start a new run without --resume."
    )
    if stale_s is None:
        return text
    return (
        f"{text} If it is dead, try again when its heartbeat is {stale_s:.0f} s old, "
        f"or remove {folder / 'lock.json'}."
    )
