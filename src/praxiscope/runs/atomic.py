"""Files that are either whole or absent, whatever kills the writer.

A file is written under a temporary name in its own folder, flushed to the disk, and renamed over the
old one. A reader sees the old content or the new, never a mixture; a process killed in between leaves
a ``.<name>.<random>.tmp`` that :func:`sweep_stale` removes. Logs that grow row by row (JSON lines) are
appended to instead: their last line may be torn, and readers drop it.

JSON here is strict: ``NaN`` and ``Infinity`` are not JSON and other readers refuse the whole file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from praxiscope.errors import EnvironmentProblem, IntegrityError

TEMPORARY_SUFFIX = ".tmp"

# Windows reports a full disk as ERROR_DISK_FULL or ERROR_HANDLE_DISK_FULL; Python maps both to ENOSPC.
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
# What file systems that can't flush a folder answer (network shares, FUSE).
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.ENOSYS}


def temporary_name(path: Path) -> Path:
    """Return a fresh temporary name beside `path`: hidden, unique, known to :func:`sweep_stale`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a power cut.

    Does nothing where the system has no such call (Windows) or the file system refuses it.
    """
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a closed file's content to the disk."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def naming_full_disk(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" inside the block into an :class:`EnvironmentProblem`.

    Args:
        path: What was being written; its folder's free space is named.
        needed: Bytes that the write needs in all, where known.

    Raises:
        EnvironmentProblem: The disk or the quota is full; names needed, free and path.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in _FULL:
            raise
        raise EnvironmentProblem(_full_message(path, needed, problem.strerror)) from problem


def require_free_space(folder: Path, needed: int) -> None:
    """Check that `folder`'s file system has `needed` bytes free.

    Raises:
        EnvironmentProblem: It has not; names needed, free and path.
    """
    if shutil.disk_usage(folder).free < needed:
        raise EnvironmentProblem(_full_message(folder, needed, "not enough free space"))


def _full_message(path: Path, needed: int | None, reason: str | None) -> str:
    folder = path if path.is_dir() else path.parent
    free = format_bytes(shutil.disk_usage(folder).free)
    need = "" if needed is None else f" needed: {format_bytes(needed)};"
    return (
        f"Can't write {path}: {reason};{need} free: {free}. What was saved before is intact. "
        "Free some space there, or write elsewhere with --output; then continue with --resume."
    )


def format_bytes(count: int) -> str:
    """Return a count of bytes for a person.

    >>> format_bytes(512), format_bytes(3 * 2**20)
    ('512 B', '3.0 MiB')
    """
    if count < 1024:
        return f"{count} B"
    power = min(int(math.log2(count)) // 10, 4)
    return f"{count / 1024**power:.1f} {('', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; when the block ends well, it becomes `path`, durably.

    For writers that want a path (Parquet, figures). When the block raises, `path` keeps its old content.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    aside = temporary_name(path)
    try:
        with naming_full_disk(path):
            yield aside
            sync_file(aside)
            aside.replace(path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path`'s content by `data`, wholly or not at all.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    with replacing(path) as aside, aside.open("xb") as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path`'s content by `text` as UTF-8 with the line ends as given, wholly or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path`'s content by `value` as indented strict JSON, wholly or not at all.

    Raises:
        ValueError: A number in `value` is NaN or infinite; names its place.
        TypeError: `value` holds something that JSON can't.
    """
    write_text(path, render_json(value))


def render_json(value: Mapping[str, Any]) -> str:
    """Return `value` as the one text that :func:`write_json` writes for it.

    Raises:
        ValueError: A number in `value` is NaN or infinite; names its place.
    """
    if place := _find_non_finite(value):
        raise ValueError(f"JSON has no NaN or infinity, but {place}; write null (None) instead.")
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _find_non_finite(value: object, place: str = "value") -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place} is {value}"
    entries: Iterator[tuple[object, object]] = iter(())
    if isinstance(value, Mapping):
        entries = iter(value.items())
    elif isinstance(value, list | tuple):
        entries = iter(enumerate(value))
    return next(
        (found for key, item in entries if (found := _find_non_finite(item, f"{place}[{key!r}]"))), None
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: There is no such file.
        IntegrityError: The file doesn't hold one JSON object.
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as problem:
        raise IntegrityError(f"{path} is damaged: it is no valid JSON ({problem}).") from problem
    if not isinstance(value, dict):
        raise IntegrityError(f"{path} is damaged: it holds a JSON {type(value).__name__}, not an object.")
    return value


def sweep_stale(folder: Path, *, older_than_s: float = 3600.0) -> list[str]:
    """Remove temporaries that killed writers left in `folder` (not below it).

    Args:
        folder: Where to look; may be absent.
        older_than_s: Age in seconds from which a temporary counts as left behind. 0 is right only for
            the one process that may write there.

    Returns:
        The names removed, sorted.
    """
    removed = []
    for path in sorted(folder.glob(f".*{TEMPORARY_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):  # another process may sweep at the same time
            if time.time() - path.lstat().st_mtime < older_than_s:
                continue
            remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            removed.append(path.name)
    return removed


def remove_tree(path: Path) -> None:
    """Remove a folder and what is in it; one that is gone already is no error."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
