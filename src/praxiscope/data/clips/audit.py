"""A look at every clip before training: is it there, has it the frames that its label says, what it shows.

A clip's identity (``sha256``) is made of the names and sizes of its frames' files and the bytes of its first,
middle and last one, or of a video file's bytes and the clip's place in it: hashing every extracted frame of a
large data set would take hours. Its perceptual hash is that of its middle frame.

A video that holds many clips is hashed, and its frames are counted, once. What was learnt is kept in the
audit cache by the state of its file; of a folder by the number of its frames, and how old it and three of
them are.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from praxiscope.data.audit import Progress, count_workers
from praxiscope.data.cache import AuditCache, VideoFacts
from praxiscope.data.clips.cues import Placing, place_clip
from praxiscope.data.clips.frames import is_tar, list_frames, read_frames
from praxiscope.data.clips.spans import Span
from praxiscope.data.clips.timeline import Timeline, read_timeline
from praxiscope.data.fingerprint import Fingerprint, Unreadable, hash_file, take_fingerprint
from praxiscope.data.images import DEFAULT_MAX_PIXELS, ImageUnreadable
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import FileState
from praxiscope.data.sources.listing import Sample
from praxiscope.errors import DataError
from praxiscope.recipe.schema import ClipSection

_LOG = logging.getLogger(__name__)
_STORED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class ClipLook:
    """What a sound clip is.

    Attributes:
        fingerprint: its identity, and what its middle frame shows.
        placing: where it lies in its source.
        fps: frames a second, where the source or its annotation says.
        fault: of a video that breaks off, its path and what it lacks; None for a whole one.
    """

    fingerprint: Fingerprint
    placing: Placing
    fps: float | None
    fault: str | None = None

    @property
    def span(self) -> Span:
        """Where it lies in its source."""
        return self.placing.span


@dataclass(kw_only=True)
class _Source:
    """A video, or a folder of frames, and the clips in it.

    Attributes:
        path: absolute.
        place: relative to the data folder.
        lock: held while the file is hashed, so that it is hashed once.
        sha256: of a video's bytes; None until it is asked for.
    """

    path: Path
    place: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    sha256: str | None = None

    def hash(self) -> str:
        """Return the sha256 of a video's bytes."""
        with self.lock:
            self.sha256 = self.sha256 or hash_file(self.path)
            return self.sha256


@dataclass(kw_only=True)
class _Fresh:
    """What was learnt and isn't in the cache yet: files by path, videos by path.

    Attributes:
        states: state of each of them before it was read.
    """

    states: dict[str, FileState] = field(default_factory=dict)
    prints: dict[str, Fingerprint] = field(default_factory=dict)
    videos: dict[str, VideoFacts] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prints) + len(self.videos)

    def add(self, other: _Fresh) -> None:
        """Take over what another has."""
        self.states |= other.states
        self.prints |= other.prints
        self.videos |= other.videos

    def store(self, cache: AuditCache) -> None:
        """Write everything into the cache."""
        if self.prints:
            cache.store(self.states, self.prints)
        if self.videos:
            cache.store_videos(self.states, self.videos)


def audit_clips(
    root: Path,
    samples: Sequence[Sample],
    *,
    section: ClipSection,
    cache: AuditCache | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> dict[str, ClipLook | Unreadable]:
    """Look at clips; nothing is written but the cache.

    Args:
        root: Absolute data folder.
        samples: Clips; those with a problem are left out.
        section: How annotated frames are counted.
        cache: Where fingerprints of unchanged files come from; None looks at every file.
        max_pixels: Cap on width x height of a frame.
        progress: Told ``("read", done, total)``.

    Returns:
        By sample id: what it is, or why it can't be used.
    """
    todo: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.problem is None:
            todo.setdefault(sample.place, []).append(sample)
    total = sum(map(len, todo.values()))
    found: dict[str, ClipLook | Unreadable] = {}
    # Pillow warns on damaged metadata in the middle of a progress bar; a file that matters so is quarantined.
    with warnings.catch_warnings(), ThreadPoolExecutor(count_workers()) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        fresh = _Fresh()
        for seen, learnt in pool.map(
            lambda members: _look_at_source(root, members, section, cache, max_pixels), todo.values()
        ):
            found |= seen
            fresh.add(learnt)
            if cache is not None and (len(fresh) >= _STORED_AT_ONCE or len(found) == total):
                fresh.store(cache)
                fresh = _Fresh()
            if progress is not None:
                progress("read", len(found), total)
    return found


def _look_at_source(
    root: Path, samples: Sequence[Sample], section: ClipSection, cache: AuditCache | None, max_pixels: int
) -> tuple[dict[str, ClipLook | Unreadable], _Fresh]:
    """Look at all clips of one video or folder, in their order in it."""
    source, fresh = _Source(path=root / samples[0].place, place=samples[0].place), _Fresh()
    try:
        timeline = _recall_timeline(source, cache, fresh)
    except (ImageUnreadable, OSError) as problem:
        reason = problem.reason if isinstance(problem, ImageUnreadable) else _explain(problem)
        return {sample.sample_id: Unreadable(sha256=None, reason=reason) for sample in samples}, fresh
    looks: dict[str, ClipLook | Unreadable] = {}
    places: dict[str, Placing] = {}
    fault = None if timeline.fault is None else f"{source.place}: {timeline.fault}"
    for sample in samples:
        try:
            places[sample.sample_id] = place_clip(sample.cue, timeline, section)
        except DataError as problem:
            looks[sample.sample_id] = Unreadable(sha256=None, reason=str(problem))
    prints = _take_prints(source, {placing.span for placing in places.values()}, cache, fresh, max_pixels)
    for sample in samples:
        if (placing := places.get(sample.sample_id)) is None:
            continue
        shown = prints[placing.span]
        rate = None if sample.cue is None else sample.cue.rate
        looks[sample.sample_id] = (
            shown
            if isinstance(shown, Unreadable)
            else ClipLook(
                fingerprint=shown, placing=placing, fps=timeline.fps or rate or section.fps, fault=fault
            )
        )
    return looks, fresh


def _take_prints(
    source: _Source, spans: Collection[Span], cache: AuditCache | None, fresh: _Fresh, max_pixels: int
) -> dict[Span, Fingerprint | Unreadable]:
    """Return what each stretch of a source shows, from the cache where it is known."""
    names = {span: f"{source.place}//clip:{span.first}+{span.count}" for span in spans}
    states: dict[str, FileState] = {}
    known: Mapping[str, Fingerprint] = {}
    if cache is not None:
        try:
            states = {name: _read_state(source.path, span) for span, name in names.items()}
        except OSError as problem:
            _LOG.info("%s is looked at without the cache: %s", source.place, problem)
        known = cache.load(states)
    prints: dict[Span, Fingerprint | Unreadable] = {}
    for span, name in sorted(names.items(), key=lambda item: item[0].first):
        if name in known:
            prints[span] = known[name]
            continue
        shown = prints[span] = _take(source, span, max_pixels)
        if isinstance(shown, Fingerprint) and name in states:
            fresh.states[name], fresh.prints[name] = states[name], shown
    return prints


def _take(source: _Source, span: Span, max_pixels: int) -> Fingerprint | Unreadable:
    try:
        middle = read_frames(source.path, [span.first + span.count // 2], max_pixels=max_pixels)[0]
        sha256 = _identify(source, span)
    except ImageUnreadable as problem:
        return Unreadable(sha256=None, reason=problem.reason)
    except OSError as problem:
        return Unreadable(sha256=None, reason=_explain(problem))
    shown = take_fingerprint(np.asarray(middle), max_pixels=max_pixels)
    return shown if isinstance(shown, Unreadable) else replace(shown, sha256=sha256)


def _explain(problem: OSError) -> str:
    return "no such file" if isinstance(problem, FileNotFoundError) else problem.strerror or str(problem)


def _identify(source: _Source, span: Span) -> str:
    digest = hashlib.sha256()
    if not source.path.is_dir():
        digest.update(f"{source.hash()} {span.first} {span.count}".encode())
        return digest.hexdigest()
    files = list_frames(source.path)[span.first : span.first + span.count]
    if not files:
        raise FileNotFoundError(source.path)
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    for place in sorted({0, len(files) // 2, len(files) - 1}):
        digest.update(files[place].read_bytes())
    return digest.hexdigest()


def _read_state(path: Path, span: Span | None = None) -> FileState:
    """Return what changes with a file (size and time) or with a folder's frames (their count and times)."""
    status = path.stat()
    if not path.is_dir():
        return status.st_size, status.st_mtime_ns
    files = list_frames(path)
    chosen = [] if span is None else [files[span.first + p] for p in {0, span.count // 2, span.count - 1}]
    stats = [file.stat() for file in chosen]
    size = len(files) + sum(each.st_size for each in stats)
    return size, max([status.st_mtime_ns, *(each.st_mtime_ns for each in stats)])


def _recall_timeline(source: _Source, cache: AuditCache | None, fresh: _Fresh) -> Timeline:
    """Return what a source holds, from the cache where it is a video that is known."""
    if cache is None or source.path.is_dir() or is_tar(source.path):
        return read_timeline(source.path)
    state = _read_state(source.path)
    if (known := cache.load_video(source.place, state)) is not None:
        source.sha256, count, fps, times, fault = known
        return Timeline(count=count, fps=fps, times=np.frombuffer(times, np.float64), fault=fault)
    timeline = read_timeline(source.path)
    times = b"" if timeline.times is None else timeline.times.tobytes()
    fresh.states[source.place] = state
    fresh.videos[source.place] = (source.hash(), timeline.count, timeline.fps, times, timeline.fault)
    return timeline


def verify_clips(manifest: Manifest, *, progress: Progress | None = None) -> list[str]:
    """Compute every usable clip's identity again and compare it with the manifest.

    Args:
        manifest: What the clips were.
        progress: Told ``("verify", done, total)``.

    Returns:
        One line per clip that is gone, unreadable or other than it was, sorted by sample id.
    """
    rows = manifest.usable(None).to_pylist()
    sources = {path: _Source(path=manifest.root / path, place=path) for path in {row["path"] for row in rows}}
    lines: list[str] = []
    with ThreadPoolExecutor(count_workers()) as pool:
        for done, line in enumerate(_compare_all(pool, rows, sources), start=1):
            lines += [] if line is None else [line]
            if progress is not None:
                progress("verify", done, len(rows))
    return lines


def _compare_all(
    pool: ThreadPoolExecutor, rows: Sequence[Mapping[str, Any]], sources: Mapping[str, _Source]
) -> Iterator[str | None]:
    return pool.map(lambda row: _compare(sources[row["path"]], row), rows)


def _compare(source: _Source, row: Mapping[str, Any]) -> str | None:
    name, expected = row["sample_id"], row["sha256"]
    try:
        actual = _identify(source, Span(first=row["first_frame"], count=row["num_frames"]))
    except FileNotFoundError:
        return f"{name}: is gone"
    except OSError as problem:
        return f"{name}: can't be read ({problem.strerror})"
    return None if actual == expected else f"{name}: changed (sha256 was {expected[:12]}, is {actual[:12]})"
