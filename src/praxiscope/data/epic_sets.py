"""The lists that EPIC-KITCHENS-100 is scored with: tail classes, unseen participants, class ids."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from praxiscope.errors import DataError

UNSEEN = ("P18", "P32")
"""Participants of the validation set who aren't in training (Damen et al. 2022), where the list is absent."""
SIZES: Mapping[str, int] = {"verb": 97, "noun": 300}
"""Classes of each head; their ids count from 0."""
_TAIL = {"verb": "EPIC_100_tail_verbs.csv", "noun": "EPIC_100_tail_nouns.csv"}
_UNSEEN = ("EPIC_100_unseen_participant_ids_validation.csv", "EPIC_100_unseen_participant_ids_test.csv")
_CLASSES = {"verb": "EPIC_100_verb_classes.csv", "noun": "EPIC_100_noun_classes.csv"}
_FOLDERS = (".", "annotations", "epic-kitchens-100-annotations", "../annotations")


@dataclass(frozen=True, kw_only=True)
class EpicSets:
    """Which classes are rare and which participants unseen.

    Attributes:
        tail: head to the ids of its tail classes; None where the list isn't there.
        unseen: participants.
        notes: what was absent, and what was taken instead.
    """

    tail: Mapping[str, frozenset[int] | None]
    unseen: frozenset[str]
    notes: tuple[str, ...] = ()


def holds_lists(root: Path) -> bool:
    """Whether any of the benchmark's lists is there."""
    return any(_find(root, name) for name in (*_TAIL.values(), *_UNSEEN))


def read_epic_sets(root: Path) -> EpicSets:
    """Read the benchmark's lists.

    Args:
        root: The data folder; the lists lie in it, or in a folder ``annotations`` in or beside it.

    Raises:
        DataError: A list can't be read.
    """
    notes = []
    tail: dict[str, frozenset[int] | None] = {}
    for head, name in _TAIL.items():
        path = _find(root, name)
        tail[head] = None if path is None else frozenset(_read_ids(path, head))
        if path is None:
            notes.append(f"{name} isn't in {root}, so accuracies on tail classes are left out.")
    listed = [path for name in _UNSEEN if (path := _find(root, name))]
    unseen = frozenset(name for path in listed for name in _read_column(path, "participant_id"))
    if not listed:
        told = ", ".join(UNSEEN)
        notes.append(f"{_UNSEEN[0]} isn't in {root}; the validation set's own are taken: {told}.")
    return EpicSets(tail=tail, unseen=unseen or frozenset(UNSEEN), notes=tuple(notes))


def number_classes(root: Path, head: str, names: Sequence[str]) -> list[int]:
    """Return the benchmark's class id of each label name.

    Args:
        root: The data folder.
        head: ``verb`` or ``noun``.
        names: Label names: ids in digits, or keys of the benchmark's list of classes (``take``).

    Raises:
        DataError: A name is neither, or there is no list to look a key up in.
    """
    if all(name.isdecimal() for name in names):
        return [_check_id(int(name), head, name) for name in names]
    path = _find(root, _CLASSES[head])
    if path is None:
        raise DataError(
            f"The {head} labels are words ({names[0]!r}), and {_CLASSES[head]}, which numbers them, isn't in "
            f"{root} or a folder 'annotations' there. Put it beside the annotations."
        )
    keys = dict(zip(_read_column(path, "key"), map(int, _read_column(path, "id")), strict=True))
    for name in names:
        if name not in keys:
            raise DataError(f"{path.name} has no class {name!r}, which is a {head} of this data.")
    return [_check_id(keys[name], head, name) for name in names]


def _find(root: Path, name: str) -> Path | None:
    paths = (root / folder / name for folder in _FOLDERS)
    return next((path.resolve() for path in paths if path.is_file()), None)


def _check_id(number: int, head: str, shown: str) -> int:
    if not 0 <= number < SIZES[head]:
        last = SIZES[head] - 1
        raise DataError(f"{head} {shown!r} has the id {number}; EPIC-KITCHENS-100 has 0 to {last}.")
    return number


def _read_ids(path: Path, column: str) -> Iterator[int]:
    for cell in _read_column(path, column):
        if not cell.isdecimal():
            raise DataError(f"{path}: {cell!r} in column {column!r} is no class id.")
        yield int(cell)


def _read_column(path: Path, column: str) -> Iterable[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream)
            if column not in (table.fieldnames or ()):
                raise DataError(f"{path} has no column {column!r}; its header is {table.fieldnames}.")
            return [row[column].strip() for row in table if row[column]]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} can't be read as CSV in UTF-8: {problem}") from problem
