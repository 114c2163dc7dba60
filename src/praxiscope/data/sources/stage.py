"""The generated stage: ``stage.csv`` beside its images, with performers as groups and masks of the actor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from praxiscope.data.sources.listing import Listing
from praxiscope.data.sources.table import find_columns, list_rows, read_table
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection

TABLE_NAME = "stage.csv"
_SPEC_NAME = "stage.json"
_COLUMNS = {"path": "path", "label": "action", "split": "split", "group": "performer", "mask": "mask"}


def list_stage(root: Path, section: DataSection) -> Listing:
    """List the samples of a generated stage.

    Args:
        root: Absolute data folder that holds ``stage.csv``.
        section: Nothing of it is used: the stage says everything itself.

    Raises:
        DataError: ``stage.csv`` is missing or lacks a column.
    """
    del section
    path = root / TABLE_NAME
    if not path.is_file():
        raise DataError(f"{root} is no stage: it has no {TABLE_NAME}. Make one with `praxiscope demo`.")
    table = read_table(path)
    if absent := sorted(set(_COLUMNS.values()) - set(table.header)):
        raise DataError(f"{path} lacks the columns {', '.join(absent)}; make the stage again.")
    listing = list_rows(root, table, find_columns(table, _COLUMNS), None, known=frozenset({_SPEC_NAME}))
    return replace(listing, source="stage")
