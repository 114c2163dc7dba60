"""What every source gives: labelled samples that were named but not yet opened."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from praxiscope.data.clips.cues import Cue
from praxiscope.data.images import IMAGE_SUFFIXES, read_head, sniff_format
from praxiscope.data.manifest import Finding, Severity, quantify
from praxiscope.errors import UsageError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Lower-case names by which folders and tables call the splits."""

CLIP_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
_NO_CLIPS = (
    "left out, as there are images here too: a network learns from images or from clips. Give them "
    "folders of their own."
)
MISSING_VIDEO = "its video or frames are missing"
"""Quarantine reason of a clip whose source isn't there; the data's source says where it was looked for."""

_JUNK_NAMES = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One labelled image that a source names."""

    sample_id: str
    """Posix path relative to the data folder, of a member with ``#`` and its name; unique."""
    split: str | None
    """``train``, ``val``, ``test``, or None where the source doesn't say."""
    label: str
    """Class name, NFC-normalised; with several labels, all of them in one text."""
    group: str | None = None
    """Samples of one group belong in one split."""
    mask: str | None = None
    """Posix path of a mask image, relative to the data folder."""
    cue: Cue | None = None
    """Where a clip lies in its video; None for an image, or for a clip that is a whole video."""
    problem: str | None = None
    """Why it can't be used, where that is known without opening it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label of each head, NFC-normalised, where there are several heads; empty for one."""
    path: str | None = None
    """Where it lies, as :mod:`praxiscope.data.media` says, when that is not its id: a container's member."""

    @property
    def place(self) -> str:
        """The manifest's ``path``."""
        return self.sample_id if self.path is None else self.path


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The samples of one source."""

    source: str
    """As in ``DataSection.source``: ``folder``, ``csv``, ``cifar`` ..."""
    samples: tuple[Sample, ...]
    findings: tuple[Finding, ...]
    clips: bool = False
    """Whether samples are clips."""
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The whole label set of each head in its published order, where the source knows it; otherwise the
    labels are those that samples have, by code point."""


@dataclass(kw_only=True)
class Walk:
    """Files below a folder, and what was met on the way."""

    images: list[PurePosixPath] = field(default_factory=list)
    """Files that are images by content, or promise to be by name; relative to the folder."""
    clips: list[PurePosixPath] = field(default_factory=list)
    """Files that promise to be videos by name."""
    folders: list[PurePosixPath] = field(default_factory=list)
    """All folders below it, without hidden ones."""
    strays: list[str] = field(default_factory=list)
    """Other files."""
    loops: list[str] = field(default_factory=list)
    """Links to a folder that contains them."""
    undecodable: list[str] = field(default_factory=list)
    """Names that are no text in this system's encoding, escaped."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that can't be listed."""

    @property
    def holds_clips(self) -> bool:
        """Whether the samples here are clips: there are videos, and no images."""
        return bool(self.clips) and not self.images

    @property
    def samples(self) -> list[PurePosixPath]:
        """The images, or the clips where there are no images."""
        return self.clips if self.holds_clips else self.images


def walk_images(root: Path, *, skip: frozenset[str] = frozenset()) -> Walk:
    """List the images below `root`, following links to folders but never in a loop.

    Args:
        root: The data folder.
        skip: Posix paths relative to it of files that are known and are neither images nor strays.

    Returns:
        All lists sorted by code point.
    """
    walk = Walk()
    for path, name in _walk_files(root, PurePosixPath(), (_identity(root),), walk):
        if str(path) in skip:
            continue
        if _is_image(root / path, name):
            walk.images.append(path)
        elif _is_clip(name) and not name.startswith("."):
            walk.clips.append(path)
        elif not name.startswith("."):
            walk.strays.append(str(path))
    for entries in (walk.images, walk.clips, walk.folders, walk.strays, walk.loops, walk.undecodable):
        entries.sort()
    return walk


def holds_media(folder: Path) -> bool:
    """Whether an image or a video lies in `folder` or below it; looks no further than the first."""
    files = _walk_files(folder, PurePosixPath(), (_identity(folder),), Walk())
    return any(_is_clip(name) or _is_image(folder / path, name) for path, name in files)


def _walk_files(
    root: Path, below: PurePosixPath, ancestors: tuple[tuple[int, int], ...], walk: Walk
) -> Iterator[tuple[PurePosixPath, str]]:
    try:
        entries = list(os.scandir(root / below))
    except OSError as problem:
        walk.unreadable.append(f"{below} ({problem.strerror})")
        return
    for entry in entries:
        path = below / entry.name
        if not is_text(entry.name):
            walk.undecodable.append(str(path).encode("utf-8", "backslashreplace").decode())
        elif not entry.is_dir():
            yield path, entry.name
        elif not entry.name.startswith("."):
            identity = _identity(root / path)
            if identity in ancestors:
                walk.loops.append(str(path))
                continue
            walk.folders.append(path)
            yield from _walk_files(root, path, (*ancestors, identity), walk)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_clip(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in CLIP_SUFFIXES


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8: others come from bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_image(path: Path, name: str) -> bool:
    if name.startswith(".") or name.lower() in _JUNK_NAMES:
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        # A link to nowhere is a sample that is missing; a pipe or socket is none, and reading it would hang.
        return path.is_file() or not path.exists()
    try:
        return path.is_file() and sniff_format(read_head(path)) is not None
    except OSError:
        return False


def normalise_label(name: str) -> str:
    """Return a label as it is compared and stored: no outer white space, Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", name.strip())


def find_group(sample_id: str, rule: str | None) -> str | None:
    """Return the group of a sample by the rule of ``DataSection.group``.

    Args:
        sample_id: Posix path relative to the data folder.
        rule: ``parent`` for the folder that holds the file, a regular expression with one group that is
            searched for in the path, or None.

    Raises:
        UsageError: The rule is no regular expression with exactly one group.
    """
    if rule is None:
        return None
    if rule == "parent":
        return str(PurePosixPath(sample_id).parent)
    found = _compile_rule(rule).search(sample_id)
    return found.group(1) if found else None


def _compile_rule(rule: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(rule)
    except re.error as problem:
        raise UsageError(f"data.group is {rule!r}, which is no regular expression: {problem}.") from problem
    if pattern.groups != 1:
        raise UsageError(
            f"data.group is {rule!r} with {pattern.groups} groups in parentheses; give 'parent', or a "
            r"regular expression with exactly one, such as 'subject(\d+)'."
        )
    return pattern


def walk_findings(walk: Walk) -> tuple[Finding, ...]:
    """Name what a walk met besides images: strays, loops, names that are no text, unreadable folders."""
    clips = [] if walk.holds_clips else list(map(str, walk.clips))
    entries: tuple[tuple[str, Severity, list[str], str, str], ...] = (
        ("D9.clip", "warning", clips, "video clip", _NO_CLIPS),
        ("D8.unreadable-folder", "warning", walk.unreadable, "folder", "that can't be listed: left out."),
        ("D8.symlink-loop", "warning", walk.loops, "link", "back to a folder above: not followed."),
        ("D8.undecodable-name", "warning", walk.undecodable, "file", "whose name is no text: left out."),
        ("D8.stray", "note", walk.strays, "other file", "that are no images: left out."),
    )  # fmt: skip
    return tuple(
        Finding.of(code, severity, f"{quantify(len(names), noun)} {words}", names)
        for code, severity, names, noun, words in entries
        if names
    )
