"""``cache``: what Praxiscope keeps that it can make again, and getting rid of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from praxiscope.data.cache import cache_folder, list_audit_files
from praxiscope.data.cache_folders import (
    KINDS,
    CacheEntry,
    count_days,
    is_in_use,
    is_inside_cache,
    list_entries,
    remove,
    sweep,
    trim,
)
from praxiscope.errors import UsageError
from praxiscope.runs.atomic import format_bytes

What = Literal["packs", "features", "audit"]
WHAT: tuple[What, ...] = (*KINDS, "audit")
"""What the cache holds: packed images, features of frozen backbones, fingerprints of files."""

_DAY_S = 86400.0


@dataclass(frozen=True, kw_only=True)
class CacheItem:
    """One thing that the cache holds."""

    what: What
    """Of which kind."""
    path: Path
    """Its folder or file."""
    size_bytes: int
    """Of its files together."""
    last_used: float
    """When it was last made or read, seconds since the epoch."""
    in_use: bool
    """Whether a process reads or makes it now."""

    def describe(self) -> str:
        """Return it in one line."""
        days = count_days(self.last_used)
        used = "in use" if self.in_use else "today" if days < 1 else f"{days:.0f} days ago"
        return f"{self.what:<9} {format_bytes(self.size_bytes):>11}  {used:<13} {self.path}"


def list_cache() -> tuple[CacheItem, ...]:
    """Return everything that the cache holds, the longest unused first."""
    items = [_describe_entry(entry) for entry in list_entries()] + _list_audit()
    return tuple(sorted(items, key=lambda item: item.last_used))


def _describe_entry(entry: CacheEntry) -> CacheItem:
    return CacheItem(
        what=entry.kind,
        path=entry.path,
        size_bytes=entry.size_bytes,
        last_used=entry.last_used,
        in_use=is_in_use(entry.path),
    )


def _list_audit() -> list[CacheItem]:
    items = []
    for path in list_audit_files():
        status = path.stat()
        items.append(
            CacheItem(
                what="audit", path=path, size_bytes=status.st_size, last_used=status.st_mtime, in_use=False
            )
        )
    return items


def clear_cache(what: str | None = None, *, older_than_days: float = 0.0) -> tuple[CacheItem, ...]:
    """Remove what the cache holds, but not what is in use; it is made again when it is needed.

    Args:
        what: ``packs``, ``features`` or ``audit``; everything where None.
        older_than_days: Only what was not used for so long.

    Returns:
        What was removed.

    Raises:
        UsageError: There is no such kind.
        EnvironmentProblem: A symbolic link leads out of the cache folder.
    """
    kinds = _choose(what)
    before = time.time() - older_than_days * _DAY_S
    removed = []
    for kind in KINDS:
        if kind not in kinds:
            continue
        sweep(kind)
        removed += [
            _describe_entry(entry)
            for entry in list_entries(kind)
            if entry.last_used <= before and remove(entry)
        ]
    if "audit" in kinds:
        for item in _list_audit():
            if item.last_used <= before and is_inside_cache(item.path):
                item.path.unlink(missing_ok=True)
                removed.append(item)
    return tuple(removed)


def trim_cache(max_gib: float) -> tuple[CacheItem, ...]:
    """Remove packs and features, the longest unused first, until the rest is no larger than `max_gib` GiB.

    Returns:
        What was removed; what is in use stays.

    Raises:
        UsageError: `max_gib` is negative.
        EnvironmentProblem: A symbolic link leads out of the cache folder.
    """
    if max_gib < 0:
        raise UsageError(f"--max-gib {max_gib:g}: give 0 or more GiB.")
    for kind in KINDS:
        sweep(kind)
    return tuple(_describe_entry(entry) for entry in trim(None, round(max_gib * 2**30)))


def describe_cache(items: Sequence[CacheItem]) -> list[str]:
    """Return a listing for a person."""
    if not items:
        return [f"{cache_folder()}: nothing is cached"]
    total = format_bytes(sum(item.size_bytes for item in items))
    return [f"{cache_folder()}: {total}", *(item.describe() for item in items)]


def _choose(what: str | None) -> tuple[What, ...]:
    if what is None:
        return WHAT
    chosen = tuple(kind for kind in WHAT if kind == what)
    if not chosen:
        raise UsageError(f"'{what}' is nothing that the cache holds; choose {', '.join(WHAT)}.")
    return chosen
