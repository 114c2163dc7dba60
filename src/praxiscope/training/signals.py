"""Ctrl-C and termination set a flag; the loop looks at it after each optimiser step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

from praxiscope.errors import Interrupted, PraxiscopeError, Preempted

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")  # Windows has no SIGUSR1; Slurm sends it before a time limit


class StopFlag:
    """Remembers a request to stop. As a context manager it listens to signals for as long as it is open.

    A second Ctrl-C aborts at once. Outside the main thread, where Python hands out no signals, it only
    listens to :meth:`request`.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._signal is not None

    @property
    def number(self) -> int:
        """The signal that asked; 0 where nobody did."""
        return 0 if self._signal is None else self._signal

    def request(self, number: int = signal.SIGTERM) -> None:
        """Ask the loop to save and stop after the step that it is in."""
        self._signal = number

    def as_error(self, where: str) -> PraxiscopeError:
        """Return what the loop raises once its state is safe."""
        kind = Interrupted if self._signal == signal.SIGINT else Preempted
        return kind(f"Stopped and saved {where}. Add --resume to the same command to go on from there.")

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's signature
        if self._signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
