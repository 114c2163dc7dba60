"""Which source reads a folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from praxiscope.data.sources.cifar import find_cifar, list_cifar
from praxiscope.data.sources.clip_folders import list_clip_folders
from praxiscope.data.sources.epic import find_epic, find_epic_table, is_epic_table, list_epic
from praxiscope.data.sources.folder import find_split_folders, list_folder
from praxiscope.data.sources.idx import find_idx, list_idx
from praxiscope.data.sources.listing import Listing, holds_media
from praxiscope.data.sources.parquet import find_parquet, list_parquet
from praxiscope.data.sources.stage import TABLE_NAME, list_stage
from praxiscope.data.sources.table import find_table, list_csv
from praxiscope.data.sources.webdataset import find_webdataset, list_webdataset
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection

_SOURCES: dict[str, Callable[[Path, DataSection], Listing]] = {
    "folder": list_folder,
    "clips": list_clip_folders,
    "csv": list_csv,
    "epic": list_epic,
    "stage": list_stage,
    "cifar": list_cifar,
    "idx": list_idx,
    "parquet": list_parquet,
    "webdataset": list_webdataset,
}
_CONTAINERS: dict[str, Callable[[Path], object]] = {
    "cifar": find_cifar,
    "idx": find_idx,
    "parquet": find_parquet,
    "webdataset": find_webdataset,
}
"""Return what fits in a folder; nothing where the source doesn't."""
_CLASS_FOLDERS = 2
"""Folders with images from which they are taken for classes: a folder of previews isn't one."""


def list_samples(root: Path, section: DataSection) -> Listing:
    """List the samples of a folder with the source that `section` names, or that fits what lies there.

    Raises:
        DataError: The folder can't be read as that source, or several fit.
        UsageError: A field of `section` doesn't fit.
    """
    name = detect_source(root, section) if section.source == "auto" else section.source
    return _SOURCES[name](root, section)


def detect_source(root: Path, section: DataSection) -> str:
    """Return which source reads `root`.

    A table that was named wins; then EPIC-KITCHENS' tables, a stage, folders of splits, a table with images
    beside or below it, and
    class folders with images; a container decides only where none of these is.

    Raises:
        DataError: Several fit.
    """
    if section.csv is not None:
        return "epic" if is_epic_table(find_epic_table(root, section.csv)) else "csv"
    if find_epic(root) is not None:
        return "epic"
    if (root / TABLE_NAME).is_file():
        return "stage"
    if find_split_folders(root):
        return "folder"
    table = ["csv"] if find_table(root) is not None else []
    if table and holds_media(root):
        return "csv"
    if not table and _has_class_folders(root):
        return "folder"
    fitting = table + [name for name, find in _CONTAINERS.items() if find(root)]
    if len(fitting) > 1:
        raise DataError(
            f"{root} can be read as {', '.join(fitting[:-1])} or {fitting[-1]}. Say which with "
            f"--set data.source={fitting[0]}."
        )
    return fitting[0] if fitting else "folder"


def _has_class_folders(root: Path) -> bool:
    folders = (entry for entry in sorted(root.iterdir()) if entry.is_dir() and entry.name[0] != ".")
    return len(list(itertools.islice(filter(holds_media, folders), _CLASS_FOLDERS))) == _CLASS_FOLDERS
