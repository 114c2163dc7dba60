"""Where EPIC-KITCHENS' videos, frames or cut clips lie. Each folder is listed once, whatever is asked."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from praxiscope.data.sources.listing import CLIP_SUFFIXES

_CUT_FOLDERS = ("clips", "")
_CUT_NAME = re.compile(r"(P\d+_\d+_\d+)(?!\d)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """What holds a segment.

    Attributes:
        path: posix, relative to the data folder: a video, a folder of frames or a tar of frames.
        cut: whether it holds this segment alone.
    """

    path: str
    cut: bool


@dataclass(kw_only=True)
class MediaFinder:
    """Finds media below a data folder.

    Attributes:
        root: the data folder.
    """

    root: Path
    _folders: dict[str, dict[str, str]] = field(default_factory=dict)
    _cut: dict[str, list[str]] | None = None
    _whole: dict[str, Media | None] = field(default_factory=dict)

    def find(self, narration_id: str, video_id: str) -> Media | None:
        """Return what holds a segment: a cut clip, else its video's frames, else its video; None without any.

        Raises:
            LookupError: Several cut clips fit; the message names them.
        """
        if self._cut is None:
            self._cut = self._index_cut_clips()
        if found := self._cut.get(narration_id):
            if len(found) > 1:
                raise LookupError(f"{len(found)} files fit: {found[0]}, {found[1]}")
            return Media(path=found[0], cut=True)
        if video_id not in self._whole:
            self._whole[video_id] = self._find_whole(video_id)
        return self._whole[video_id]

    @staticmethod
    def describe_places(video_id: str) -> str:
        """Return where a video is looked for, for a person."""
        person = video_id.partition("_")[0]
        return (
            f"clips/<narration_id>*.mp4, {person}/rgb_frames/{video_id}/ or {video_id}.tar, "
            f"videos/{person}/{video_id}.MP4, {person}/videos/{video_id}.MP4, videos/{video_id}.MP4, "
            f"{video_id}.MP4"
        )

    def _find_whole(self, video_id: str) -> Media | None:
        person = video_id.partition("_")[0]
        for folder in (f"{person}/rgb_frames", f"rgb_frames/{person}"):
            names = self._list(folder)
            for name in (video_id.lower(), f"{video_id.lower()}.tar"):
                if name in names:
                    return Media(path=f"{folder}/{names[name]}", cut=False)
        for folder in (f"videos/{person}", f"{person}/videos", "videos", ""):
            names = self._list(folder)
            for suffix in sorted(CLIP_SUFFIXES):
                if (found := names.get(video_id.lower() + suffix)) is not None:
                    return Media(path=str(PurePosixPath(folder, found)), cut=False)
        return None

    def _list(self, folder: str) -> dict[str, str]:
        """Return {lower-case name: name} of a folder's entries; nothing where there is no such folder."""
        if folder not in self._folders:
            try:
                names = sorted(entry.name for entry in (self.root / folder).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                names = []
            self._folders[folder] = {name.lower(): name for name in names}
        return self._folders[folder]

    def _index_cut_clips(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for folder in _CUT_FOLDERS:
            for lower, name in self._list(folder).items():
                match = _CUT_NAME.match(name)
                path = PurePosixPath(folder, name)
                if match and (Path(lower).suffix in {*CLIP_SUFFIXES, ".tar"} or (self.root / path).is_dir()):
                    found[match.group(1)].append(str(path))
        return found
