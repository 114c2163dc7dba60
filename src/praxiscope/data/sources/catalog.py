"""Which source reads a folder."""

from __future__ import annotations

from pathlib import Path

from praxiscope.data.sources.folder import find_split_folders, list_folder
from praxiscope.data.sources.listing import Listing
from praxiscope.data.sources.stage import TABLE_NAME, list_stage
from praxiscope.data.sources.table import find_table, list_csv
from praxiscope.recipe.schema import DataSection

_SOURCES = {"folder": list_folder, "csv": list_csv, "stage": list_stage}


def list_samples(root: Path, section: DataSection) -> Listing:
    """List the samples of a folder with the source that `section` names, or that fits what lies there.

    Raises:
        DataError: The folder can't be read as that source.
        UsageError: A field of `section` doesn't fit.
    """
    name = detect_source(root, section) if section.source == "auto" else section.source
    return _SOURCES[name](root, section)


def detect_source(root: Path, section: DataSection) -> str:
    """Return which source reads `root`.

    A table that was named wins; then a stage, folders of splits, a table that lies there, and class folders.
    """
    if section.csv is not None:
        return "csv"
    if (root / TABLE_NAME).is_file():
        return "stage"
    if not find_split_folders(root) and find_table(root) is not None:
        return "csv"
    return "folder"
