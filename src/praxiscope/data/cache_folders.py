"""Entries of the cache that are folders: packed images, features of frozen backbones.

``<cache>/<kind>/<name>/`` with a ``header.json`` that says what it is. Three habits keep them safe:

- An entry is built in a hidden folder beside its place (:func:`building`) and renamed when it is whole, so a
  process that is killed leaves nothing that could be taken for an entry.
- Whoever reads an entry holds it (:func:`hold`), and what is held is not removed. Both are locks of the
  operating system, which a killed process lets go of.
- Only folders with a header of ours, inside the cache folder and behind no symbolic link, are ever removed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import filelock

from praxiscope.data.cache import cache_folder
from praxiscope.errors import EnvironmentProblem, IntegrityError

_LOG = logging.getLogger(__name__)

Kind = Literal["packs", "features"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of entries; each is a folder of the cache folder."""

HEADER = "header.json"
_LAST_USED = "last_used"
_TEMPORARY_SUFFIX = ".tmp"
_USE_SUFFIX = ".use"
_GATE = ".lock"
_GATE_S = 60.0  # what is done behind the gate takes milliseconds
_MARK_S = 5.0  # whoever looks whether a mark is locked has it for a moment


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One folder of the cache."""

    kind: Kind
    """What it holds."""
    path: Path
    """Its folder."""
    size_bytes: int
    """Of its files together."""
    last_used: float
    """When it was last made or read, seconds since the epoch."""
    header: Mapping[str, Any]
    """The content of its ``header.json``."""


def kind_folder(kind: Kind) -> Path:
    """Return the folder of all entries of a kind; it may not exist yet."""
    return cache_folder() / kind


def list_entries(kind: Kind | None = None) -> tuple[CacheEntry, ...]:
    """Return the entries of a kind, or of all kinds, the longest unused first.

    A folder without a readable header of its kind is none of ours and left out, and so is a symbolic link.
    """
    entries = [
        entry
        for each in (KINDS if kind is None else (kind,))
        for path in sorted(_list_folders(kind_folder(each)))
        if (entry := _describe(each, path)) is not None
    ]
    return tuple(sorted(entries, key=lambda entry: entry.last_used))


def _list_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir() and not p.is_symlink()]


def _describe(kind: Kind, path: Path) -> CacheEntry | None:
    try:
        header = read_header(path, kind)
        used = path / _LAST_USED
        last_used = (used if used.exists() else path / HEADER).stat().st_mtime
        size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    except (OSError, IntegrityError):  # not ours, or removed while we look
        return None
    return CacheEntry(kind=kind, path=path, size_bytes=size, last_used=last_used, header=header)


def read_header(path: Path, kind: Kind) -> dict[str, Any]:
    """Read an entry's header.

    Raises:
        FileNotFoundError: There is no such entry, or it has no header.
        IntegrityError: The header is damaged, or one of another kind.
    """
    file = path / HEADER
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise IntegrityError(f"{file} is damaged: it is no valid JSON ({problem}).") from problem
    if not isinstance(header, dict) or header.get("format") != _name_format(kind):
        raise IntegrityError(f"{file} is no header of praxiscope's {kind}.")
    return header


def write_header(path: Path, kind: Kind, fields: Mapping[str, Any]) -> None:
    """Write an entry's header, durably; the last step before the entry gets its name.

    Args:
        path: Folder that is being built.
        kind: What it holds; becomes the header's ``format``.
        fields: JSON types.
    """
    text = json.dumps({"format": _name_format(kind), **fields}, indent=1, allow_nan=False) + "\n"
    with (path / HEADER).open("x", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _name_format(kind: Kind) -> str:
    return f"praxiscope.{kind}"


def touch(path: Path) -> None:
    """Note that an entry is used now. A cache that can't be written to keeps its old dates."""
    with contextlib.suppress(OSError):
        (path / _LAST_USED).touch()


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep an entry from being removed by any process as long as the block runs; also touches it.

    Args:
        path: The entry's folder. What is held may be absent: look after holding, not before.
    """
    mark = path.parent / f".{path.name}.{secrets.token_hex(6)}{_USE_SUFFIX}"
    lock = filelock.FileLock(mark, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _gate(path.parent):
            lock.acquire(timeout=_MARK_S)
    except OSError as problem:  # a cache on a read-only disk, which nobody can remove from either
        _LOG.info("%s can't be marked as in use: %s", path, problem)
    touch(path)
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()
            with contextlib.suppress(OSError):
                mark.unlink()


@contextlib.contextmanager
def building(path: Path) -> Iterator[Path]:
    """Give an empty folder to build an entry in; when the block ends well, it takes the entry's place.

    To be used inside :func:`building_lock`. The block must flush its files and end with the header.

    Args:
        path: The entry's folder; an old one is replaced.

    Raises:
        EnvironmentProblem: The old entry is held by a process that reads it.
    """
    aside = _name_aside(path)
    aside.mkdir(parents=True)
    try:
        yield aside
        assert (aside / HEADER).is_file(), "an entry without a header would never be found again"
        _sync_folder(aside)
        with _gate(path.parent):
            if path.exists() and (_is_held(path) or not _discard(path)):
                raise EnvironmentProblem(
                    f"{path} has to be made again and another process reads it now; try again when that has "
                    "ended."
                )
            aside.rename(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def building_lock(path: Path) -> Iterator[None]:
    """Wait until no other process builds this entry, and let no other begin.

    Look inside the block whether the entry is there now. What killed builders left is swept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(_name_building(path), thread_local=False):
        for left in _list_hidden(path, _TEMPORARY_SUFFIX):
            shutil.rmtree(left, ignore_errors=True)
        yield


def remove(entry: CacheEntry) -> bool:
    """Remove an entry unless it is in use.

    Returns:
        Whether it is gone.

    Raises:
        EnvironmentProblem: It doesn't lie in the cache folder, as the file system sees it.
    """
    if not is_inside_cache(entry.path):
        raise EnvironmentProblem(
            f"{entry.path} is not removed: a symbolic link leads out of the cache folder {cache_folder()}."
        )
    with _writable_gate(entry.path.parent):
        return not is_in_use(entry.path) and _discard(entry.path)


def sweep(kind: Kind) -> None:
    """Remove what killed builders and readers left of entries of a kind.

    Raises:
        EnvironmentProblem: The cache can't be written to.
    """
    folder = kind_folder(kind)
    if not folder.is_dir() or not is_inside_cache(folder):
        return
    with _writable_gate(folder):
        # First the list, then the locks: what is listed and not locked has no builder any more.
        for left in [each for each in folder.iterdir() if each.name.startswith(".")]:
            name, _, kept = left.name[1:].partition(".")
            if left.name.endswith(_TEMPORARY_SUFFIX) and kept:
                building = _name_building(folder / name)
                if not (building.exists() and _is_locked(building)):
                    shutil.rmtree(left, ignore_errors=True)
            elif left.name.endswith(_USE_SUFFIX) and not _is_locked(left):
                left.unlink(missing_ok=True)


def is_inside_cache(path: Path) -> bool:
    """Whether `path` lies in the cache folder once symbolic links are followed, and is none itself."""
    return not path.is_symlink() and path.resolve().is_relative_to(cache_folder().resolve())


def trim(kind: Kind | None, max_bytes: int) -> tuple[CacheEntry, ...]:
    """Remove the longest unused entries of a kind (None: of all) until the rest has at most `max_bytes`.

    What is in use stays.

    Returns:
        What was removed.
    """
    entries = list_entries(kind)
    total = sum(entry.size_bytes for entry in entries)
    removed = []
    for entry in entries:
        if total <= max_bytes:
            break
        if remove(entry):
            removed.append(entry)
            total -= entry.size_bytes
    return tuple(removed)


def is_in_use(path: Path) -> bool:
    """Whether a living process holds or builds this entry."""
    building = _name_building(path)
    return _is_held(path) or (building.exists() and _is_locked(building))


def _is_held(path: Path) -> bool:
    # Marks of dead processes stay until `sweep`: outside the gate this one may just be about to be locked.
    return any(_is_locked(mark) for mark in _list_hidden(path, _USE_SUFFIX))


def _is_locked(mark: Path) -> bool:
    try:
        with filelock.FileLock(mark, timeout=0):
            return False
    except (filelock.Timeout, PermissionError):  # Windows: while its holder lets go of it
        return True


def _discard(path: Path) -> bool:
    """Take an entry's name away, then its files: a kill in between leaves no half entry. Behind the gate."""
    trash = _name_aside(path)
    try:
        path.rename(trash)
    except FileNotFoundError:
        return True
    except PermissionError:  # Windows: a file in it is open
        return False
    shutil.rmtree(trash, ignore_errors=True)
    return True


def _name_aside(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(6)}{_TEMPORARY_SUFFIX}"


def _name_building(path: Path) -> Path:
    return path.parent / f".{path.name}.building"


def _list_hidden(path: Path, suffix: str) -> list[Path]:
    """Return the hidden marks or folders of an entry."""
    if not path.parent.is_dir():
        return []
    return [
        each
        for each in path.parent.iterdir()
        if each.name.startswith(f".{path.name}.") and each.name.endswith(suffix)
    ]


@contextlib.contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Let one process at a time begin to hold or to remove entries of this folder."""
    lock = filelock.FileLock(folder / _GATE, thread_local=False)
    try:
        lock.acquire(timeout=_GATE_S)
    except filelock.Timeout as problem:
        raise EnvironmentProblem(
            f"{folder / _GATE} has been locked for {_GATE_S:g} s by another process; end it and try again."
        ) from problem
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _writable_gate(folder: Path) -> Iterator[None]:
    """Pass the gate to remove something.

    Raises:
        EnvironmentProblem: Nothing can be removed there.
    """
    try:
        gate = contextlib.ExitStack()
        gate.enter_context(_gate(folder))
    except OSError as problem:
        raise EnvironmentProblem(f"Nothing can be removed from {folder}: {problem}.") from problem
    with gate:
        yield


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # network shares and FUSE refuse
            os.fsync(handle)
    finally:
        os.close(handle)


def count_days(last_used: float) -> float:
    """Return the days since a moment, in seconds since the epoch; never below 0."""
    return max(0.0, (time.time() - last_used) / 86400)
