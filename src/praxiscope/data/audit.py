"""A look at every file: hashed, decoded whole, in a thread pool (Pillow and hashlib release the GIL)."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from praxiscope.data.cache import AuditCache
from praxiscope.data.containers.handles import Handles
from praxiscope.data.fingerprint import Fingerprint, Unreadable, take_fingerprint
from praxiscope.data.images import DEFAULT_MAX_PIXELS, ImageUnreadable
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import FileState, hash_sample, load_sample, open_container, read_state, split_path

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
    states = _read_states(root, paths)
    known: Mapping[str, Fingerprint] = cache.load(states) if cache is not None else {}
    results: dict[str, Fingerprint | Unreadable] = dict(known)
    todo = [path for path in paths if path not in results]
    # Pillow warns on damaged metadata in the middle of a progress bar; a file that matters so is quarantined.
    with warnings.catch_warnings(), ThreadPoolExecutor(count_workers()) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            found = pool.map(lambda path: _look(root, path, max_pixels), chunk)
            fresh = dict(zip(chunk, found, strict=True))
            results.update(fresh)
            if cache is not None:
                cache.store(
                    states, {p: f for p, f in fresh.items() if isinstance(f, Fingerprint) and p in states}
                )
            if progress is not None:
                progress("read", len(results), len(paths))
    return results


def _look(root: Path, path: str, max_pixels: int) -> Fingerprint | Unreadable:
    try:
        source = load_sample(root, path)
    except ImageUnreadable as problem:
        return Unreadable(sha256=None, reason=problem.reason)
    return take_fingerprint(source, max_pixels=max_pixels)


def _read_states(root: Path, paths: Sequence[str]) -> dict[str, FileState]:
    """Return the states of the files that samples lie in; each container is asked once."""
    states: dict[str, FileState] = {}
    seen: dict[str, FileState | None] = {}
    for path in paths:
        file = split_path(path).file
        if file not in seen:
            seen[file] = read_state(root, file)
        if (state := seen[file]) is not None:
            states[path] = state
    return states


def verify_files(manifest: Manifest, *, progress: Progress | None = None) -> list[str]:
    """Hash every usable sample again and compare it with the manifest; nothing that is remembered is asked.

    Args:
        manifest: What the files were.
        progress: Told ``("verify", done, total)``.

    Returns:
        One line per sample that is gone, unreadable or other than it was, sorted by sample id, after one per
        container that can't be opened; none when all are what they were.
    """
    handles = Handles()
    rows = manifest.usable(None).select(["sample_id", "path", "sha256"]).to_pylist()
    lines, closed = _check_containers(manifest.root, [row["path"] for row in rows], handles)
    rows = [row for row in rows if split_path(row["path"]).file not in closed]
    with ThreadPoolExecutor(count_workers()) as pool:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            lines += filter(None, pool.map(lambda row: _compare(manifest.root, row, handles), chunk))
            if progress is not None:
                progress("verify", start + len(chunk), len(rows))
    return lines


def _check_containers(root: Path, paths: Sequence[str], handles: Handles) -> tuple[list[str], set[str]]:
    """Return a line for each container that can't be opened, and the containers themselves."""
    counts = Counter((place.file, place.kind) for path in paths if (place := split_path(path)).kind)
    lines, closed = [], set()
    for (file, kind), count in counts.items():
        try:
            open_container(root / file, str(kind), handles)
        except ImageUnreadable as problem:
            lines.append(f"{file}: {problem.reason}; it holds {count:,} samples")
            closed.add(file)
    return lines, closed


def _compare(root: Path, row: Mapping[str, str], handles: Handles) -> str | None:
    name, expected = row["sample_id"], row["sha256"]
    try:
        actual = hash_sample(root, row["path"], handles)
    except ImageUnreadable as problem:
        return f"{name}: can't be read ({problem.reason})"
    except FileNotFoundError:
        return f"{name}: is gone"
    except OSError as problem:
        return f"{name}: can't be read ({problem.strerror})"
    return None if actual == expected else f"{name}: changed (sha256 was {expected[:12]}, is {actual[:12]})"
