"""What a person names as clips: videos, folders with one picture a frame, a camera."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from praxiscope.errors import UsageError
from praxiscope.prediction.sources import Found, Item, find_items, natural_key


def find_clips(sources: Sequence[str], *, exclude: Path | None = None) -> Found:
    """Find the clips that sources mean.

    A folder that holds pictures is one clip, whose frames they are; its subfolders are looked through too.

    Args:
        sources: As for :func:`praxiscope.prediction.sources.find_items`; a pattern may match folders too.
        exclude: A folder whose content is left out: earlier output inside a source folder.

    Raises:
        UsageError: A source means nothing, or a single image; says what was looked for.
    """
    items: list[Item] = []
    notes: list[str] = []
    for source in sources:
        for named in expand_folders(source):
            found = find_items([named], exclude=exclude)
            notes += found.notes
            items += _join_frames(found.items) if Path(named).is_dir() else _refuse_images(found.items)
    return Found(items=tuple(items), notes=tuple(notes))


def expand_folders(source: str) -> list[str]:
    """Return the folders that a pattern matches, if it matches folders only; else the source itself."""
    if Path(source).exists() or not glob.has_magic(source):
        return [source]
    matched = sorted(glob.glob(source, recursive=True), key=natural_key)  # noqa: PTH207 - patterns may be absolute
    return matched if matched and all(Path(path).is_dir() for path in matched) else [source]


def _join_frames(items: Sequence[Item]) -> list[Item]:
    """Put the pictures of each folder together; the order is that of the folders' and videos' names."""
    joined: dict[Path, Item] = {}
    for item in items:
        if item.kind != "image":
            joined[item.path] = item
            continue
        folder = item.path.parent
        name = str(PurePosixPath(item.name).parent)
        joined.setdefault(
            folder,
            replace(item, kind="frames", path=folder, name=folder.resolve().name if name == "." else name),
        )
    return list(joined.values())


def _refuse_images(items: Sequence[Item]) -> Sequence[Item]:
    images = [item for item in items if item.kind == "image"]
    if images:
        raise UsageError(
            f"{images[0].shown} is an image, and this model looks at clips. Give videos, or folders with one "
            "picture a frame."
        )
    return items
