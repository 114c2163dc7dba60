"""Append-only logs of JSON rows, one per line, that survive a kill in mid-line.

A row is appended and flushed to the disk in one go. A killed process can leave a torn last line:
readers drop it, and the next append cuts it off first, so that it never merges with a good row.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path
from typing import Any

from praxiscope.errors import IntegrityError
from praxiscope.runs.atomic import naming_full_disk, write_bytes


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row and flush it to the disk.

    A NaN or infinite number is written as ``null``: JSON has neither, and a log must not stop training.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    line = json.dumps(_replace_non_finite(row), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    with naming_full_disk(path, needed=len(line)):
        path.touch()
        with path.open("r+b") as stream:
            _cut_torn_line(stream)
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all rows in order; a torn last line is dropped, an absent file has no rows.

    Raises:
        IntegrityError: A line before the last is no JSON object; names file and line.
    """
    if not path.exists():
        return []
    rows = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        row = _parse(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise IntegrityError(
                f"{path} is damaged: line {number} of {len(lines)} is no JSON object. "
                "Remove that line to read the others."
            )
    return rows


def truncate_rows(path: Path, *, after_step: int) -> int:
    """Remove the rows whose ``step`` is above `after_step`, for a resume from that step.

    Without this a run killed after logging an epoch, but before its checkpoint, would log it twice.

    Returns:
        How many rows were removed. The file is replaced atomically, and left alone when there are none.
    """
    rows = read_rows(path)
    kept = [row for row in rows if row["step"] <= after_step]
    if len(kept) < len(rows):
        write_bytes(
            path, b"".join(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n" for row in kept)
        )
    return len(rows) - len(kept)


def _replace_non_finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return value


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _cut_torn_line(stream: BufferedRandom) -> None:
    """Leave `stream` at the end of its last whole line, with what followed removed."""
    content = stream.read()
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    if content and _parse(content[start:]) is None:
        stream.truncate(start)
        stream.seek(start)
    elif content and not content.endswith(b"\n"):  # whole, but an editor has saved it without its line end
        stream.write(b"\n")
