"""Open containers of this process: opened once, shared by its threads, opened anew when they changed."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from praxiscope.data.images import ImageUnreadable

Content = bytes | NDArray[np.uint8]
"""A member: an encoded image, or pixels of shape (H, W) grey or (H, W, 3) RGB."""

MAX_OPEN = 64
"""Containers kept open at a time: some hold their pixels in memory, the others a file descriptor."""


class ContainerUnreadable(ImageUnreadable):
    """A container, or a member that its samples name, can't be read."""


class Container(Protocol):
    """A file with many images in it. Reading a member is safe from several threads."""

    def read(self, member: str) -> Content:
        """Return a member by the name that its source gave it.

        Raises:
            ContainerUnreadable: There is no such member, or it is damaged.
        """
        ...


class Handles:
    """The containers that are open, least recently used ones given up first.

    What is given up is closed when the last reader lets go of it. Never pickled: a process that starts opens
    its own.
    """

    def __init__(self, capacity: int = MAX_OPEN) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Path, str], tuple[tuple[int, int], Container | str]] = OrderedDict()

    def open(self, path: Path, kind: str, opener: Callable[[Path], Container]) -> Container:
        """Return the open container, opening it where it isn't yet or has another size or time since.

        Args:
            path: The file.
            kind: Its format; one file opened as two formats is two containers.
            opener: Opens it.

        Raises:
            ContainerUnreadable: It is missing, or no container of that format.
        """
        try:
            status = path.stat()
        except OSError as problem:
            gone = isinstance(problem, FileNotFoundError)
            reason = "no such file" if gone else f"can't be read ({problem.strerror})"
            raise ContainerUnreadable(reason, path) from None
        state = (status.st_size, status.st_mtime_ns)
        # One lock for all: opening takes a moment, happens once, and two threads shall not do it twice.
        with self._lock:
            found = self._open.get((path, kind))
            if found is None or found[0] != state:
                found = (state, _try(opener, path))
                self._open[path, kind] = found
            self._open.move_to_end((path, kind))
            while len(self._open) > self._capacity:
                self._open.popitem(last=False)
        container = found[1]
        if isinstance(container, str):
            raise ContainerUnreadable(container, path)
        return container

    def clear(self) -> None:
        """Let go of all containers."""
        with self._lock:
            self._open.clear()


def _try(opener: Callable[[Path], Container], path: Path) -> Container | str:
    """Open a container, or say why not: what is damaged is read once, not once for each of its samples."""
    try:
        return opener(path)
    except ContainerUnreadable as problem:
        return problem.reason


class RandomReader:
    """Reads pieces of one file from several threads at once; the file is closed with the reader.

    Raises:
        ContainerUnreadable: The file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except OSError as problem:
            raise ContainerUnreadable(f"can't be read ({problem.strerror})", path) from problem
        weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`.

        Raises:
            ContainerUnreadable: The file ends before, or can't be read.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ContainerUnreadable(
                f"ends at byte {self.size:,}; a sample has {size:,} bytes from {offset:,} on",
                self.path,
            )
        pieces, place = [], offset
        while place < offset + size:
            try:
                piece = self._read_at(place, offset + size - place)
            except OSError as problem:
                raise ContainerUnreadable(f"can't be read ({problem.strerror})", self.path) from problem
            if not piece:
                raise ContainerUnreadable(f"ends at byte {place:,} all of a sudden", self.path)
            pieces.append(piece)
            place += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        with self._lock:  # Windows: the position belongs to the descriptor, which threads share
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)


def parse_index(member: str, count: int, path: Path) -> int:
    """Return the row that a member's name says, in [0, count).

    Raises:
        ContainerUnreadable: It is no such number.
    """
    if member.isascii() and member.isdigit() and int(member) < count:
        return int(member)
    raise ContainerUnreadable(f"has {count:,} images, none of which is number {member!r}", path)
