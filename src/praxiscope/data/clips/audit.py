"""A look at every clip before training: is it there, has it the frames that its label says, what it shows.

A clip's identity (``sha256``) is made of the names and sizes of its frames' files and the bytes of its first,
middle and last one, or of a video file's bytes and the clip's place in it: hashing every extracted frame of a
large data set would take hours. Its perceptual hash is that of its middle frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from praxiscope.data.audit import Progress, count_workers
from praxiscope.data.clips.frames import list_frames, read_frames
from praxiscope.data.clips.probe import probe_video
from praxiscope.data.clips.spans import Span
from praxiscope.data.fingerprint import Fingerprint, Unreadable, hash_file, take_fingerprint
from praxiscope.data.images import DEFAULT_MAX_PIXELS, ImageUnreadable
from praxiscope.data.manifest import Manifest
from praxiscope.data.sources.listing import Sample


@dataclass(frozen=True, kw_only=True)
class ClipLook:
    """What a sound clip is.

    Attributes:
        fingerprint: its identity, and what its middle frame shows.
        span: where it lies in its video.
        fps: frames a second, where the video says.
    """

    fingerprint: Fingerprint
    span: Span
    fps: float | None


def audit_clips(
    root: Path,
    samples: Sequence[Sample],
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> dict[str, ClipLook | Unreadable]:
    """Look at clips; nothing is written.

    Args:
        root: Absolute data folder.
        samples: Clips; those with a problem are left out.
        max_pixels: Cap on width x height of a frame.
        progress: Told ``("read", done, total)``.

    Returns:
        By sample id: what it is, or why it can't be used.
    """
    todo = [sample for sample in samples if sample.problem is None]
    found: dict[str, ClipLook | Unreadable] = {}
    with ThreadPoolExecutor(count_workers()) as pool:
        for sample, look in zip(
            todo, pool.map(lambda each: _look(root, each, max_pixels), todo), strict=True
        ):
            found[sample.sample_id] = look
            if progress is not None:
                progress("read", len(found), len(todo))
    return found


def _look(root: Path, sample: Sample, max_pixels: int) -> ClipLook | Unreadable:
    source = root / sample.place
    try:
        total, fps = (len(list_frames(source)), None) if source.is_dir() else probe_video(source)
        span = sample.span or Span(first=0, count=total)
        if total == 0:
            return Unreadable(sha256=None, reason="holds no frame")
        if span.first + span.count > total:
            last = span.first + span.count
            reason = f"has {total:,} frames, but its label asks for those up to number {last:,}"
            return Unreadable(sha256=None, reason=reason)
        middle = read_frames(source, [span.first + span.count // 2], max_pixels=max_pixels)[0]
        sha256 = _identify(source, span)
    except ImageUnreadable as problem:
        return Unreadable(sha256=None, reason=problem.reason)
    except OSError as problem:
        absent = isinstance(problem, FileNotFoundError)
        return Unreadable(sha256=None, reason="no such file" if absent else problem.strerror or str(problem))
    shown = take_fingerprint(np.asarray(middle), max_pixels=max_pixels)
    if isinstance(shown, Unreadable):
        return shown
    return ClipLook(fingerprint=replace(shown, sha256=sha256), span=span, fps=fps)


def _identify(source: Path, span: Span) -> str:
    digest = hashlib.sha256()
    if not source.is_dir():
        digest.update(f"{hash_file(source)} {span.first} {span.count}".encode())
        return digest.hexdigest()
    files = list_frames(source)[span.first : span.first + span.count]
    if not files:
        raise FileNotFoundError(source)
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    for place in sorted({0, len(files) // 2, len(files) - 1}):
        digest.update(files[place].read_bytes())
    return digest.hexdigest()


def verify_clips(manifest: Manifest, *, progress: Progress | None = None) -> list[str]:
    """Compute every usable clip's identity again and compare it with the manifest.

    Args:
        manifest: What the clips were.
        progress: Told ``("verify", done, total)``.

    Returns:
        One line per clip that is gone, unreadable or other than it was, sorted by sample id.
    """
    rows = manifest.usable(None).to_pylist()
    lines: list[str] = []
    with ThreadPoolExecutor(count_workers()) as pool:
        for done, line in enumerate(pool.map(lambda row: _compare(manifest.root, row), rows), start=1):
            lines += [] if line is None else [line]
            if progress is not None:
                progress("verify", done, len(rows))
    return lines


def _compare(root: Path, row: Mapping[str, Any]) -> str | None:
    name, expected = row["sample_id"], row["sha256"]
    try:
        actual = _identify(root / row["path"], Span(first=row["first_frame"], count=row["num_frames"]))
    except FileNotFoundError:
        return f"{name}: is gone"
    except OSError as problem:
        return f"{name}: can't be read ({problem.strerror})"
    return None if actual == expected else f"{name}: changed (sha256 was {expected[:12]}, is {actual[:12]})"
