"""A look at every file: hashed, decoded whole, in a thread pool (Pillow and hashlib release the GIL)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from praxiscope.data.cache import AuditCache, FileState
from praxiscope.data.fingerprint import Fingerprint, Unreadable, hash_file, take_fingerprint
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.manifest import Manifest

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""

_CHUNK = 256


def count_workers() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def audit_files(
    root: Path,
    paths: Sequence[str],
    *,
    cache: AuditCache | None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> dict[str, Fingerprint | Unreadable]:
    """Fingerprint files; nothing is written but the cache.

    Args:
        root: Absolute data folder.
        paths: Posix paths relative to it.
        cache: Where fingerprints of unchanged files come from; None looks at every file.
        max_pixels: Cap on width x height before decoding.
        progress: Told ``("read", done, total)``.
    """
    states = {path: state for path in paths if (state := _read_state(root / path)) is not None}
    known: Mapping[str, Fingerprint] = cache.load(states) if cache is not None else {}
    results: dict[str, Fingerprint | Unreadable] = dict(known)
    todo = [path for path in paths if path not in results]
    # Pillow warns on damaged metadata in the middle of a progress bar; a file that matters so is quarantined.
    with warnings.catch_warnings(), ThreadPoolExecutor(count_workers()) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            found = pool.map(lambda path: take_fingerprint(root / path, max_pixels=max_pixels), chunk)
            fresh = dict(zip(chunk, found, strict=True))
            results.update(fresh)
            if cache is not None:
                cache.store(
                    states, {p: f for p, f in fresh.items() if isinstance(f, Fingerprint) and p in states}
                )
            if progress is not None:
                progress("read", len(results), len(paths))
    return results


def _read_state(path: Path) -> FileState | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def verify_files(manifest: Manifest, *, progress: Progress | None = None) -> list[str]:
    """Hash every usable file again and compare it with the manifest; the cache is never asked.

    Args:
        manifest: What the files were.
        progress: Told ``("verify", done, total)``.

    Returns:
        One line per file that is gone, unreadable or other than it was, sorted by sample id; none when all
        are what they were.
    """
    rows = manifest.usable(None).select(["path", "sha256"]).to_pydict()
    lines: list[str] = []
    with ThreadPoolExecutor(count_workers()) as pool:
        for start in range(0, len(rows["path"]), _CHUNK):
            paths = rows["path"][start : start + _CHUNK]
            expected = rows["sha256"][start : start + _CHUNK]
            lines += filter(None, pool.map(lambda p, h: _compare(manifest.root / p, p, h), paths, expected))
            if progress is not None:
                progress("verify", start + len(paths), len(rows["path"]))
    return lines


def _compare(file: Path, path: str, expected: str) -> str | None:
    try:
        actual = hash_file(file)
    except FileNotFoundError:
        return f"{path}: is gone"
    except OSError as problem:
        return f"{path}: can't be read ({problem.strerror})"
    return None if actual == expected else f"{path}: changed (sha256 was {expected[:12]}, is {actual[:12]})"
