"""What a person names (a file, a folder, a pattern, a list, a camera) as the pictures and videos it means."""

from __future__ import annotations

import glob
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from praxiscope.data.images import IMAGE_SUFFIXES, read_head, sniff_format
from praxiscope.data.manifest import quantify
from praxiscope.data.member_names import check_member_name
from praxiscope.data.sources.listing import walk_images
from praxiscope.errors import UsageError

Kind = Literal["image", "video", "frames", "camera"]

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv", ".3gp"}
)
"""Lower-case file name ends that promise a video; what a file holds decides in the end."""

_LIST_SUFFIX = ".txt"
_DIGITS = re.compile(r"(\d+)")
_PLAIN_NAME = re.compile(r"[^\w.,=+@() \[\]-]", re.UNICODE)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture file, video file, folder with one picture a frame, or camera.

    Attributes:
        kind: what it is taken for.
        path: the file; of a camera its number as a name.
        name: posix path below the source that it came from; names what is written for it.
    """

    kind: Kind
    path: Path
    name: str

    @property
    def shown(self) -> str:
        """The path as tables and messages give it: always valid text."""
        if self.kind == "camera":
            return f"camera {self.path}"
        return str(self.path).encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The items of all sources, in the order of the sources and by natural order within each."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]
    """What was passed over, in sentences."""


def find_items(sources: Sequence[str], *, exclude: Path | None = None) -> Found:
    """Find what the sources mean.

    Args:
        sources: Each a file, a folder (looked through with its subfolders), a pattern such as
            ``clips/**/*.mp4``, a text file with one path a line (relative to that file), or a camera's
            number.
        exclude: A folder whose content is left out: earlier output inside a source folder.

    Raises:
        UsageError: A source means nothing; says what was looked for.
    """
    items: list[Item] = []
    notes: list[str] = []
    folders = sum(Path(source).is_dir() for source in sources)
    for source in sources:
        found, skipped = _find(source, prefix=folders > 1)
        kept = [item for item in found if exclude is None or not _is_below(item.path, exclude)]
        if not kept:
            raise UsageError(_describe_nothing(source, len(found), exclude))
        items += kept
        if len(found) > len(kept):
            notes.append(f"{quantify(len(found) - len(kept), 'file')} in {exclude} left out: earlier output.")
        if skipped:
            shown = ", ".join(skipped[:3]) + (" ..." if len(skipped) > 3 else "")
            count = quantify(len(skipped), "file")
            notes.append(f"{count} in {source} passed over, no image or video: {shown}")
    return Found(items=tuple(items), notes=tuple(notes))


def natural_key(path: PurePath | str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Return a sort key under which ``frame2`` comes before ``frame10``.

    >>> sorted(["f10.jpg", "F2.jpg", "f1.jpg"], key=natural_key)
    ['f1.jpg', 'F2.jpg', 'f10.jpg']
    """
    text = path.as_posix() if isinstance(path, PurePath) else path
    parts = _DIGITS.split(text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in parts), text


def _find(source: str, *, prefix: bool) -> tuple[list[Item], list[str]]:
    """Return the items of one source and the names of files passed over."""
    path = Path(source).expanduser()
    if path.is_dir():
        return _find_in_folder(path, prefix=prefix)
    if path.exists():
        is_list = path.suffix.lower() == _LIST_SUFFIX
        return (_read_list(path) if is_list else [_to_item(path, path.name)]), []
    if source.isdecimal():
        return [Item(kind="camera", path=Path(source), name=f"camera-{int(source)}")], []
    if glob.has_magic(source):
        return _find_pattern(str(path)), []
    return [], []


def _find_in_folder(root: Path, *, prefix: bool) -> tuple[list[Item], list[str]]:
    walk = walk_images(root)
    others = [*walk.strays, *map(str, walk.clips)]
    videos = [name for name in others if _suffix(name) in VIDEO_SUFFIXES]
    inside: list[tuple[PurePosixPath, Kind]] = [(path, "image") for path in walk.images]
    inside += [(PurePosixPath(name), "video") for name in videos]
    inside.sort(key=lambda entry: natural_key(entry[0]))
    above = PurePosixPath(root.resolve().name) if prefix else PurePosixPath()
    items = [Item(kind=kind, path=root / path, name=str(above / path)) for path, kind in inside]
    skipped = sorted({*others} - {*videos}) + walk.undecodable + walk.unreadable
    return items, skipped


def _find_pattern(pattern: str) -> list[Item]:
    paths = (Path(name) for name in glob.iglob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute
    files = sorted((path for path in paths if path.is_file()), key=natural_key)
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed)
    return [_to_item(path, path.relative_to(root).as_posix()) for path in files]


def _read_list(path: Path) -> list[Item]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as problem:
        raise UsageError(
            f"{path} is taken for a list of paths, one a line, but is no UTF-8 text ({problem.reason})."
        ) from problem
    named = [Path(line.strip()).expanduser() for line in lines if line.strip()]
    return [
        _to_item(one if one.is_absolute() else path.parent / one, _below(one)) for one in named
    ]  # a file that isn't there is named when it is its turn


def _below(path: Path) -> str:
    """Return a listed path as a name that leads nowhere else."""
    kept = [part for part in path.parts if part not in {path.anchor, "..", "."}]
    return "/".join(kept)


def _to_item(path: Path, name: str) -> Item:
    return Item(kind=_guess_kind(path), path=path, name=name)


def _guess_kind(path: Path) -> Kind:
    """Take a named file for a video or an image; one that is neither fails with words when it is read."""
    suffix = _suffix(path.name)
    try:
        head = read_head(path)
    except OSError:
        return "video" if suffix in VIDEO_SUFFIXES else "image"
    if sniff_format(head) is not None or suffix in IMAGE_SUFFIXES:
        return "image"
    riff_video = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    matroska, iso = head[:4] == b"\x1a\x45\xdf\xa3", head[4:8] == b"ftyp"
    return "video" if suffix in VIDEO_SUFFIXES or riff_video or matroska or iso else "image"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _describe_nothing(source: str, found: int, exclude: Path | None) -> str:
    if found:
        return (
            f"{source}: all it has ({quantify(found, 'file')}) lies in {exclude}, where the output goes; "
            "choose another -o."
        )
    if Path(source).is_file():
        return f"{source} is taken for a list of paths, one a line, but holds no path."
    if Path(source).expanduser().is_dir():
        return (
            f"{source} holds nothing to predict. Looked for images (by content) and for videos "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}), in its subfolders too."
        )
    if glob.has_magic(source):
        return f"No file matches {source}. In a pattern, ** stands for any depth of folders."
    return (
        f"There is no {source}. SOURCE is an image, a video, a folder, a quoted pattern such as "
        "'clips/*.mp4', a text file with one path a line, or a camera's number such as 0."
    )


class OutputNames:
    """Gives everything that is written a path of its own inside the output folder, on every system."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def choose(self, name: str, suffix: str) -> PurePosixPath:
        """Return a relative path that no earlier call returned, whatever the case of letters.

        Args:
            name: Posix path of the item below its source.
            suffix: File name end of what is written, with its dot; added where the name has another.
        """
        parts = [_clean(part) for part in PurePosixPath(name).parts if part not in {"/", "..", "."}] or ["_"]
        folder = PurePosixPath()
        for part in parts[:-1]:
            folder = self._choose_part(folder, part, "", self._files)
            self._folders.add(_fold(folder))
        stem = parts[-1][: -len(suffix)] if parts[-1].lower().endswith(suffix) else parts[-1]
        path = self._choose_part(folder, stem, suffix, self._files, self._folders)
        self._files.add(_fold(path))
        return path

    @staticmethod
    def _choose_part(folder: PurePosixPath, stem: str, suffix: str, *taken: set[str]) -> PurePosixPath:
        number = 1
        while True:
            path = folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
            if not any(_fold(path) in paths for paths in taken):
                return path
            number += 1


def _fold(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _clean(part: str) -> str:
    """Return a part of a path that every system takes for a plain name."""
    text = _PLAIN_NAME.sub("_", part.encode("utf-8", "replace").decode("utf-8")).rstrip(". ")
    while len(text.encode("utf-8")) > 200:  # room for a number, a suffix and a temporary name
        text = text[:-1]
    try:
        check_member_name(text or "_")
    except ValueError:  # a device of Windows
        return f"_{text}"
    return text or "_"


def describe_counts(items: Iterable[Item]) -> str:
    """Return ``3 images and 1 video``."""
    kinds: list[str] = [item.kind for item in items]
    nouns = {"image": "image", "video": "video", "frames": "folder of frames", "camera": "camera"}
    plurals = {"frames": "folders of frames"}
    counted = [(kinds.count(kind), kind, noun) for kind, noun in nouns.items()]
    return " and ".join(quantify(count, noun, plurals.get(kind)) for count, kind, noun in counted if count)
