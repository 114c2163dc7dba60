"""Fingerprints of files that were looked at before, kept outside the user's data.

One SQLite file in the user's cache folder, keyed by data folder, path, size and modification time. It only
saves time: whatever is wrong with it, the files are looked at again. ``verify`` never asks it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from praxiscope.data.fingerprint import Fingerprint
from praxiscope.data.media import FileState

_LOG = logging.getLogger(__name__)
_BATCH = 500
# Raise it when a fingerprint of the same file would come out differently.
_FINGERPRINT_VERSION = 1
_FILE_NAME = f"audit-v{_FINGERPRINT_VERSION}.sqlite"
_CREATE = """CREATE TABLE IF NOT EXISTS files (
    root TEXT, path TEXT, size INTEGER, mtime_ns INTEGER, sha256 TEXT, phash TEXT, mirrored TEXT, thumb BLOB,
    width INTEGER, height INTEGER, traits TEXT, PRIMARY KEY (root, path)) WITHOUT ROWID"""
_CREATE_VIDEOS = """CREATE TABLE IF NOT EXISTS timelines (
    root TEXT, path TEXT, size INTEGER, mtime_ns INTEGER, sha256 TEXT, frames INTEGER, fps REAL, times BLOB,
    fault TEXT, PRIMARY KEY (root, path)) WITHOUT ROWID"""
VideoFacts = tuple[str, int, float | None, bytes, str | None]
"""Sha256 (hex), frames, frames a second, when each is shown (float64 seconds; empty where unknown), and what
it lacks."""


def cache_folder() -> Path:
    """Return where Praxiscope may keep what it can make again.

    ``$PRAXISCOPE_CACHE``; else ``praxiscope`` in ``$XDG_CACHE_HOME``, ``~/Library/Caches`` (macOS),
    ``%LOCALAPPDATA%`` (Windows) or ``~/.cache``.
    """
    if own := os.environ.get("PRAXISCOPE_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "praxiscope"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "praxiscope"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "praxiscope"
    return Path.home() / ".cache" / "praxiscope"


def list_audit_files() -> list[Path]:
    """Return the files of the audit cache, those of earlier versions too."""
    return sorted(path for path in cache_folder().glob("audit-v*.sqlite") if path.is_file())


class AuditCache:
    """Fingerprints of one data folder's files.

    Args:
        root: Absolute data folder.
        folder: Where the cache file lies; the user's cache folder where None.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self._root = str(root)
        self._folder = folder if folder is not None else cache_folder()

    def load(self, states: Mapping[str, FileState]) -> dict[str, Fingerprint]:
        """Return the known fingerprints of files that haven't changed.

        Args:
            states: Path relative to the data folder to its size and modification time now.
        """
        known: dict[str, Fingerprint] = {}
        try:
            with self._connect() as connection:
                paths = list(states)
                for start in range(0, len(paths), _BATCH):
                    self._load_batch(connection, paths[start : start + _BATCH], states, known)
        except (sqlite3.Error, OSError) as problem:
            _LOG.info("The audit cache can't be read, so every file is looked at: %s", problem)
        return known

    def _load_batch(
        self,
        connection: sqlite3.Connection,
        paths: Sequence[str],
        states: Mapping[str, FileState],
        known: dict[str, Fingerprint],
    ) -> None:
        marks = ",".join("?" * len(paths))
        rows = connection.execute(
            f"SELECT path, size, mtime_ns, sha256, phash, mirrored, thumb, width, height, traits FROM files"  # noqa: S608 - only question marks are put in
            f" WHERE root = ? AND path IN ({marks})",
            (self._root, *paths),
        )
        for path, size, mtime_ns, sha256, phash, mirrored, thumb, width, height, traits in rows:
            if states[path] == (size, mtime_ns):
                known[path] = Fingerprint(
                    sha256=sha256, phash=phash, mirrored=mirrored, thumb=thumb, width=width, height=height,
                    traits=tuple(traits.split()),
                )  # fmt: skip

    def store(self, states: Mapping[str, FileState], found: Mapping[str, Fingerprint]) -> None:
        """Remember fingerprints of files by the state that they had before they were read."""
        rows = [
            (self._root, path, *states[path], entry.sha256, entry.phash, entry.mirrored, entry.thumb,
             entry.width, entry.height, " ".join(entry.traits))
            for path, entry in found.items()
        ]  # fmt: skip
        try:
            with self._connect() as connection:
                connection.executemany(f"INSERT OR REPLACE INTO files VALUES ({','.join('?' * 11)})", rows)  # noqa: S608
        except (sqlite3.Error, OSError) as problem:
            _LOG.info("The audit cache can't be written, so the next look takes as long: %s", problem)

    def load_video(self, path: str, state: FileState) -> VideoFacts | None:
        """Return what is known of a video that hasn't changed, or None.

        Args:
            path: Relative to the data folder.
            state: Its size and modification time now.
        """
        try:
            with self._connect() as connection:
                row = connection.execute(
                    "SELECT size, mtime_ns, sha256, frames, fps, times, fault FROM timelines"
                    " WHERE root = ? AND path = ?",
                    (self._root, path),
                ).fetchone()
        except (sqlite3.Error, OSError) as problem:
            _LOG.info("The audit cache can't be read, so every file is looked at: %s", problem)
            return None
        return row[2:] if row is not None and row[:2] == state else None

    def store_videos(self, states: Mapping[str, FileState], found: Mapping[str, VideoFacts]) -> None:
        """Remember what videos hold by the state that they had before they were read."""
        rows = [(self._root, path, *states[path], *facts) for path, facts in found.items()]
        try:
            with self._connect() as connection:
                connection.executemany("INSERT OR REPLACE INTO timelines VALUES (?,?,?,?,?,?,?,?,?)", rows)
        except (sqlite3.Error, OSError) as problem:
            _LOG.info("The audit cache can't be written, so the next look takes as long: %s", problem)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path = self._folder / _FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=5.0)
        try:
            with connection:
                connection.execute(_CREATE)
                connection.execute(_CREATE_VIDEOS)
                yield connection
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # damaged, or no database at all: the next look starts a new one
            connection.close()
            path.unlink(missing_ok=True)
            raise
        finally:
            connection.close()
