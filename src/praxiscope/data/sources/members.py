"""What the sources of containers share: finding files, naming members and classes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from praxiscope.data.sources.listing import SPLIT_NAMES, find_group, normalise_label
from praxiscope.errors import DataError, UsageError

NAMES_FILES = ("classes.txt", "classnames.txt")
"""Files with a class name a line, in the order of the numbers."""

MAX_NUMBER = 2**31
"""Labels from here on are no class numbers."""

_DEPTH = 2


def search_below(root: Path, fits: Callable[[str], bool], *, depth: int = _DEPTH) -> tuple[Path, ...]:
    """Return the files that fit in `root` and in the folders below it, hidden ones left out, sorted.

    Args:
        root: Where to begin; a folder that can't be listed holds nothing.
        fits: Told the name of a file.
        depth: Levels of folders below `root` that are looked into; links to folders aren't followed.
    """
    found: list[Path] = []
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return ()
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth:
                found += search_below(Path(entry.path), fits, depth=depth - 1)
        elif fits(entry.name) and entry.is_file():
            found.append(Path(entry.path))
    return tuple(found)


def find_split(file: PurePosixPath) -> str | None:
    """Return the split that a file's name says, or the nearest folder's above it.

    >>> find_split(PurePosixPath("data/train-00000-of-00002.parquet"))
    'train'
    >>> find_split(PurePosixPath("validation/0000.tar")), find_split(PurePosixPath("trains.tar"))
    ('val', None)
    >>> find_split(PurePosixPath("pets.test.parquet"))
    'test'
    """
    for part in reversed(file.parts):
        for word in re.split(r"[-_.\s]", part.lower()):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return None


def name_member(stem: str, row: int, count: int) -> str:
    """Return the sample id of a container's row; the ids of its `count` rows sort as the rows do.

    >>> name_member("data_batch_1", 42, 10_000)
    'data_batch_1#00042'
    """
    return f"{stem}#{row:0{max(5, len(str(count - 1)))}}"


def find_member_group(sample_id: str, rule: str | None) -> str | None:
    """Return the group of a container's row by a regular expression over its id.

    Raises:
        UsageError: The rule is ``parent``, or no regular expression with one group.
    """
    if rule == "parent":
        raise UsageError(
            "data.group is 'parent', but the samples lie in containers, not in folders; give a regular "
            rf"expression over ids such as {sample_id!r}."
        )
    return find_group(sample_id, rule)


def name_numbers(numbers: Iterable[int]) -> dict[int, str]:
    """Return names for classes that only have numbers, of equal length, so that they sort as the numbers do.

    >>> name_numbers({0, 9}), name_numbers({2, 10})
    ({0: '0', 9: '9'}, {2: '02', 10: '10'})
    """
    ordered = sorted(numbers)
    width = max((len(str(number)) for number in ordered), default=1)
    return {number: f"{number:0{width}}" for number in ordered}


def find_names(folders: Iterable[Path]) -> tuple[Path, tuple[str, ...]] | None:
    """Return the first file of class names in `folders`, and the names; None where there is none.

    Raises:
        DataError: As :func:`read_names`.
    """
    for folder in folders:
        for file in NAMES_FILES:
            if (folder / file).is_file():
                return folder / file, read_names(folder / file)
    return None


def read_names(path: Path) -> tuple[str, ...]:
    """Read class names, one a line, in UTF-8; empty lines at the end are left out.

    Raises:
        DataError: It can't be read, a line is empty, or a name stands there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{path} is not UTF-8 text ({problem.reason} at byte {problem.start}); save it as UTF-8."
        ) from None
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}.") from problem
    return check_names([normalise_label(line) for line in lines], str(path))


def check_names(names: list[str], place: str) -> tuple[str, ...]:
    """Refuse class names of which one is empty or stands there twice.

    Args:
        names: In the order of the numbers.
        place: Where they come from, for the message.

    Raises:
        DataError: So it is.
    """
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name:
            raise DataError(f"{place}: the name of class {number} is empty.")
        if first.setdefault(name, number) != number:
            raise DataError(f"{place}: {name!r} is the name of class {first[name]} and of class {number}.")
    return tuple(names)
