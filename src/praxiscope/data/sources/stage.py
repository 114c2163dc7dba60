"""The generated stage: ``stage.csv`` beside its images, with performers as groups and masks of the actor."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from praxiscope.data.sources.listing import Listing, Sample, normalise_label
from praxiscope.data.sources.table import MISSING, Table, find_columns, list_rows, read_table
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
    if _holds_clips(root):
        return _list_clips(root, table)
    if absent := sorted(set(_COLUMNS.values()) - set(table.header)):
        raise DataError(f"{path} lacks the columns {', '.join(absent)}; make the stage again.")
    listing = list_rows(root, table, find_columns(table, _COLUMNS), None, known=frozenset({_SPEC_NAME}))
    return replace(listing, source="stage")


def _holds_clips(root: Path) -> bool:
    spec = root / _SPEC_NAME
    if not spec.is_file():
        return False
    return bool(json.loads(spec.read_text(encoding="utf-8")).get("kind") == "clips")


def _list_clips(root: Path, table: Table) -> Listing:
    """List clips, each a folder of frames."""
    columns = {role: table.header.index(name) for role, name in _COLUMNS.items()}
    samples = [
        Sample(
            sample_id=row[columns["path"]],
            split=row[columns["split"]],
            label=normalise_label(row[columns["label"]]),
            group=row[columns["group"]],
            mask=row[columns["mask"]],
            problem=None if (root / row[columns["path"]]).is_dir() else MISSING,
        )
        for row in table.rows
    ]
    ordered = tuple(sorted(samples, key=lambda sample: sample.sample_id))
    return Listing(source="stage", samples=ordered, findings=(), clips=True)
