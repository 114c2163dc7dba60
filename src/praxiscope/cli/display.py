"""Progress on a terminal: a live line with rich; plain lines where nobody watches (a file, a pipe, CI)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from praxiscope.runs.environment import is_first_rank
from praxiscope.training.watch import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_PLAIN_EVERY_S = 30.0


def open_display() -> Display:
    """Return the display that suits where output goes."""
    return Live() if sys.stderr.isatty() and is_first_rank() else Display()


class Display:
    """Plain lines on standard error: notes, epochs, and a sign of life every half minute."""

    def __init__(self) -> None:
        self._spoke = time.monotonic()
        self._pace = _Pace()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Print a sentence."""
        self._say(text)

    def step(self, progress: Progress) -> None:
        """Print where training stands, now and then."""
        if time.monotonic() - self._spoke >= _PLAIN_EVERY_S:
            self._say(format_progress(progress))

    def phase(self, text: str, done: int, total: int) -> None:
        """Print a phase's state, now and then; a total of 0 stands for no end."""
        eta = self._pace.estimate(text, done, total)
        if time.monotonic() - self._spoke >= _PLAIN_EVERY_S:
            self._say(f"{text}: {done:,} of {total:,}{eta}" if total else f"{text}: {done:,}")

    def epoch(self, row: Mapping[str, float | int]) -> None:
        """Print an epoch's figures."""
        self._say(format_epoch(row))

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class _Pace:
    """How fast a phase goes, since it began."""

    def __init__(self) -> None:
        self._text = ""
        self._start = (0, 0.0)

    def estimate(self, text: str, done: int, total: int) -> str:
        """Return ``  ETA 12 s``; nothing where there is nothing to go by or to wait for."""
        now = time.monotonic()
        if text != self._text or done < self._start[0]:
            self._text, self._start = text, (done, now)
        gone, seconds = done - self._start[0], now - self._start[1]
        if not gone or seconds < 1 or done >= total:
            return ""
        return f"  ETA {format_duration((total - done) * seconds / gone)}"


class Live(Display):
    """A bar that moves, above it the lines of :class:`Display`."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._console = console or Console(stderr=True, highlight=False)
        self._bars: Bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._title = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def step(self, progress: Progress) -> None:
        """Move the bar of the epoch."""
        title = f"epoch {progress.epoch}/{progress.epochs}"
        self._move(title, progress.batch, progress.batches, format_figures(progress))

    def phase(self, text: str, done: int, total: int) -> None:
        """Move the bar of a phase."""
        eta = self._pace.estimate(text, done, total)
        self._move(
            text, done, total or None, f"{done:,}/{total:,}{eta}" if total > 1 else f"{done:,}" * (not total)
        )

    def _move(self, title: str, done: int, total: int | None, figures: str) -> None:
        if self._task is None or title != self._title:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task, self._title = self._bars.add_task(title, total=total, figures=figures), title
        self._bars.update(self._task, completed=done, total=total, figures=figures)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def format_progress(progress: Progress) -> str:
    """Return where training stands, in one line."""
    return (
        f"epoch {progress.epoch}/{progress.epochs}  batch {progress.batch}/{progress.batches}  "
        f"{format_figures(progress)}"
    )


def format_figures(progress: Progress) -> str:
    """Return step, loss, speed, time to go and the best so far."""
    eta = "" if progress.eta_s is None else f"  ETA {format_duration(progress.eta_s)}"
    best = "" if progress.best is None else f"  best {progress.best:.4f}"
    return f"step {progress.step}  loss {progress.loss:.4f}  {progress.images_per_s:.0f} images/s{eta}{best}"


def format_epoch(row: Mapping[str, float | int]) -> str:
    """Return an epoch's figures in one line, of one head of at most 110 characters."""
    heads = ", ".join(
        f"{key.removeprefix('val/').removesuffix('_top1')} {100 * value:.1f} %"
        for key, value in row.items()
        if key.startswith("val/") and key.endswith("_top1")
    )
    shown = f" ({heads})" if heads else ""
    return (
        f"epoch {row['epoch']:>3}  "
        f"train loss {row['train/loss']:.3f}  top1 {100 * row['train/top1']:5.1f} %   "
        f"val loss {row['val/loss']:.3f}  top1 {100 * row['val/top1']:5.1f} %{shown}   "
        f"{row['images_per_s']:.0f} images/s"
    )


def format_duration(seconds: float) -> str:
    """Return ``1 h 05 min``, ``4 min 10 s`` or ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
