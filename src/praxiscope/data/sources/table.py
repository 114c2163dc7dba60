"""A table of files and labels: Kaggle's ``filename,label``, ``filepaths,labels,data set``, and the like.

Columns are found by their usual names, files by the end of their path: a row ``Image_1.jpg`` finds
``train/Image_1.jpg`` or ``train/sitting/Image_1.jpg``. Where several files fit, the one in a folder named
after the row's split (train, where the table has no splits) or label is taken.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.sources.clip_table import (
    ClipIndex,
    describe_unit,
    find_unit,
    name_clip,
    names_clips,
    read_cue,
)
from praxiscope.data.sources.listing import (
    SPLIT_NAMES,
    Listing,
    Sample,
    find_group,
    normalise_label,
    walk_findings,
    walk_images,
)
from praxiscope.errors import DataError, UsageError, did_you_mean
from praxiscope.recipe.schema import DataSection

MISSING = "no such file"
"""Quarantine reason of a row whose file isn't there."""

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "filepath", "filepaths", "file", "filename", "filenames", "image", "imagepath",
             "imagename", "imagefile", "img"),
    "label": ("label", "labels", "class", "classname", "category", "action", "target"),
    "split": ("split", "dataset", "subset", "set", "partition", "peersplit"),
    "group": ("group", "performer", "subject", "person", "participant", "participantid", "video", "videoid"),
    "start": ("startframe", "starts", "startsec", "startseconds", "starttime", "starttimestamp"),
    "stop": ("stopframe", "endframe", "stops", "ends", "stopsec", "endsec", "stopseconds", "endseconds",
             "stoptime", "endtime", "stoptimestamp", "endtimestamp"),
    "fps": ("fps", "framerate"),
}  # fmt: skip
"""Column names by role, compared in lower case without spaces, ``_`` and ``-``; earlier ones win."""

LABEL_OF = "label:"
"""Begins the role of a head's column."""
_SUFFIXES = frozenset({".csv", ".tsv"})
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as read: header and rows."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_table(path: Path) -> Table:
    """Read a table with a header, separated by comma, semicolon, tab or bar, in UTF-8 with or without a mark.

    Raises:
        DataError: It can't be read as one.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
        rows = [
            tuple(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)
        ]
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{path} is not UTF-8 text ({problem.reason} at byte {problem.start}); save it as UTF-8."
        ) from None
    except (OSError, csv.Error) as problem:
        raise DataError(f"{path} can't be read as a table: {problem}.") from problem
    if not rows:
        raise DataError(f"{path} is empty; it needs a header such as filename,label and a row per image.")
    return Table(path=path, header=tuple(name.strip() for name in rows[0]), rows=tuple(rows[1:]))


def find_columns(
    table: Table, given: Mapping[str, str], heads: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Return {role: column index} of the roles that a table has.

    Args:
        table: The table.
        given: Column names by role (``DataSection.columns``); others are found by their usual names.
        heads: Columns of several labels by head (``DataSection.heads``), instead of one of labels; their
            roles are ``label:<head>``.

    Raises:
        UsageError: A given column isn't there.
        DataError: No column holds paths, or none labels.
    """
    found: dict[str, int] = {}
    keys = {role: f"data.columns.{role}" for role in given}
    keys |= {f"{LABEL_OF}{head}": f"data.heads.{head}" for head in heads or {}}
    names = [*given.values(), *(heads or {}).values()]
    for (role, key), name in zip(keys.items(), names, strict=True):
        if name not in table.header:
            raise UsageError(
                f"{key} is {name!r}, but {table.path.name} has the columns "
                f"{_list(table.header)}.{did_you_mean(name, table.header)}"
            )
        found[role] = table.header.index(name)
    plain = [name.casefold().translate({ord(c): None for c in " _-"}) for name in table.header]
    for role, usual in USUAL_NAMES.items():
        if role == "label" and heads:
            continue
        column = next((plain.index(name) for name in usual if name in plain), None)
        if role not in found and column is not None and column not in found.values():
            found[role] = column
    for role in ("path",) if heads else ("path", "label"):
        if role not in found:
            raise DataError(
                f"{table.path} has no column that is known to hold the {role}; its columns are "
                f"{_list(table.header)}. Say which with --set data.columns.{role}=NAME."
            )
    return found


def find_table(root: Path) -> Path | None:
    """Return the one table at the top of `root` that names files and labels, or None.

    Raises:
        DataError: There are several.
    """
    fitting = []
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            try:
                find_columns(read_table(path), {})
            except DataError:
                continue  # a table of something else
            fitting.append(path)
    if len(fitting) > 1:
        names = _list([path.name for path in fitting])
        raise DataError(f"{root} has several tables of files and labels: {names}. Choose one with data.csv.")
    return fitting[0] if fitting else None


def list_csv(root: Path, section: DataSection) -> Listing:
    """List the samples of a table; see the module.

    Args:
        root: Absolute data folder; the files lie in it.
        section: ``csv``, ``columns`` and ``group`` are used.

    Returns:
        Samples sorted by id; rows whose file is missing are in it with that problem.

    Raises:
        UsageError: ``section.csv`` doesn't exist, or a given column isn't in it.
        DataError: The table can't be read, lacks a column, or names splits that aren't known.
    """
    if section.csv is None:
        path = find_table(root)
        if path is None:
            raise DataError(
                f"{root} has no table (.csv, .tsv) with a column of files and one of labels; set data.csv."
            )
    else:
        path = root / Path(section.csv).expanduser()
        if not path.is_file():
            raise UsageError(f"data.csv is {section.csv!r}, but {path} is no file.")
    table = read_table(path)
    columns = find_columns(table, dict(section.columns.items()), section.heads)
    return list_rows(root, table, columns, section.group)


def list_rows(
    root: Path,
    table: Table,
    columns: Mapping[str, int],
    group_rule: str | None,
    *,
    known: frozenset[str] = frozenset(),
) -> Listing:
    """List a table's samples, which are images, or clips where it gives start and stop or folders of frames.

    Args:
        root: Absolute data folder.
        table: The table.
        columns: Column index of ``path`` and ``label``, and where they exist ``split``, ``group``, ``mask``.
        group_rule: As ``DataSection.group``, where no column holds the group.
        known: Posix paths of other files that belong to the source; not named as strays.

    Raises:
        DataError: The split column has other values than train, val(id, idation) and test.
    """
    entries = [
        {role: row[column].strip() if column < len(row) else "" for role, column in columns.items()}
        for row in table.rows
    ]
    _check_splits(table, columns, entries)
    unit = find_unit(table.header, columns)
    if unit is not None or names_clips(root, table.path.parent, [entry["path"] for entry in entries]):
        return _list_clips(root, table, columns, entries, group_rule)
    skip = {*known, *(entry["mask"] for entry in entries if "mask" in entry)}
    if table.path.is_relative_to(root):
        skip.add(table.path.relative_to(root).as_posix())
    walk = walk_images(root, skip=frozenset(skip))
    index = _FileIndex(root, table.path.parent, walk.samples)
    samples = [_make_sample(index, entry, group_rule) for entry in entries]
    unique, repeats = _merge_rows(samples)
    unlisted = sorted({str(image) for image in walk.samples} - unique.keys())
    if unlisted:
        message = f"{quantify(len(unlisted), 'image')} not in {table.path.name}: left out."
        repeats.append(Finding.of("D8.unlisted", "note", message, unlisted))
    return Listing(
        source="csv",
        samples=tuple(unique[sample_id] for sample_id in sorted(unique)),
        findings=(*repeats, *walk_findings(walk)),
        clips=walk.holds_clips,
    )


def _list_clips(
    root: Path,
    table: Table,
    columns: Mapping[str, int],
    entries: Sequence[Mapping[str, str]],
    group_rule: str | None,
) -> Listing:
    unit = find_unit(table.header, columns)
    index = ClipIndex(root, table.path.parent)
    samples = []
    for entry in entries:
        path, problem = index.find(entry["path"], MISSING)
        cue, unread = read_cue(entry, unit)
        sample = _fill_sample(path, problem or unread, entry, group_rule)
        samples.append(replace(sample, sample_id=name_clip(path, entry, unit), path=path, cue=cue))
    unique, findings = _merge_rows(samples)
    if unit is not None:
        findings.append(describe_unit(samples, table.header, columns, unit))
    ordered = tuple(unique[sample_id] for sample_id in sorted(unique))
    return Listing(source="csv", samples=ordered, findings=tuple(findings), clips=True)


def _check_splits(table: Table, columns: Mapping[str, int], entries: Sequence[Mapping[str, str]]) -> None:
    if "split" not in columns:
        return
    values = {entry["split"] for entry in entries} - {""}
    if unknown := sorted(value for value in values if value.lower() not in SPLIT_NAMES):
        raise DataError(
            f"{table.path}: the column {table.header[columns['split']]!r} holds {_list(unknown[:10])}, but a "
            "split is train, val, valid, validation or test. Name another column with data.columns.split."
        )


def _make_sample(index: _FileIndex, entry: Mapping[str, str], group_rule: str | None) -> Sample:
    split = SPLIT_NAMES.get(entry.get("split", "").lower())
    label = " ".join(_read_labels(entry).values()) or entry.get("label", "")
    sample_id, problem = index.find(entry["path"], split or "train", label)
    return _fill_sample(sample_id, problem, entry, group_rule)


def _read_labels(entry: Mapping[str, str]) -> dict[str, str]:
    """Return the label of each of several heads; nothing of one."""
    return {
        role.removeprefix(LABEL_OF): normalise_label(text)
        for role, text in entry.items()
        if role.startswith(LABEL_OF)
    }


def _fill_sample(
    sample_id: str, problem: str | None, entry: Mapping[str, str], group_rule: str | None
) -> Sample:
    split = SPLIT_NAMES.get(entry.get("split", "").lower())
    labels = _read_labels(entry)
    label = " ".join(labels.values()) if labels else entry["label"]
    if "split" in entry and split is None:
        problem = problem or "the table gives no split"
    if not all(labels.values()) or not label:
        problem = problem or "the table gives no label"
    group = entry.get("group") or find_group(sample_id, group_rule)
    return Sample(
        sample_id=sample_id,
        split=split,
        label=normalise_label(label),
        labels=labels,
        group=group,
        mask=entry.get("mask") or None,
        problem=problem,
    )


class _FileIndex:
    """Finds the files that a table means."""

    def __init__(self, root: Path, table_folder: Path, images: Sequence[PurePosixPath]) -> None:
        self._root = root
        inside = table_folder.is_relative_to(root)
        self._base = PurePosixPath(table_folder.relative_to(root).as_posix() if inside else "")
        self._exact = set(images)
        self._by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
        for image in images:
            self._by_name[image.name].append(image)
            if image.suffix:
                self._by_name[image.stem].append(image)  # tables of ids leave the suffix out

    def find(self, given: str, split: str, label: str) -> tuple[str, str | None]:
        """Return (sample id, problem or None) of the file that a row calls `given`."""
        path = self._relate(given)
        if path is None:
            return (
                given or "(no path)",
                "lies outside the data folder" if given else "the table gives no path",
            )
        for exact in (self._base / path, path):
            if exact in self._exact:
                return str(exact), None
        fitting = [image for image in self._by_name.get(path.name, ()) if self._ends_with(image, path)]
        for folder in (split, label):
            named = [
                image
                for image in fitting
                if any(SPLIT_NAMES.get(p.lower(), p) == folder for p in image.parts[:-1])
            ]
            fitting = named or fitting
        if len(fitting) > 1:
            return str(path), f"{len(fitting)} files fit: {fitting[0]}, {fitting[1]}"
        return (str(fitting[0]), None) if fitting else (str(path), MISSING)

    def _relate(self, given: str) -> PurePosixPath | None:
        text = given.replace("\\", "/")
        if Path(given).is_absolute():
            if not Path(given).is_relative_to(self._root):
                return None
            text = Path(given).relative_to(self._root).as_posix()
        path = PurePosixPath(text)
        return path if path.name and ".." not in path.parts and not path.is_absolute() else None

    @staticmethod
    def _ends_with(image: PurePosixPath, path: PurePosixPath) -> bool:
        above = path.parts[:-1]
        return not above or image.parts[:-1][-len(above) :] == above


def _merge_rows(samples: Sequence[Sample]) -> tuple[dict[str, Sample], list[Finding]]:
    """Return one sample per id, and findings about ids that stand in several rows."""
    unique: dict[str, Sample] = {}
    repeated: list[str] = []
    torn: list[str] = []
    for sample in samples:
        first = unique.setdefault(sample.sample_id, sample)
        if first is sample:
            continue
        if (first.label, first.labels, first.split) == (sample.label, sample.labels, sample.split):
            repeated.append(sample.sample_id)
        else:
            torn.append(sample.sample_id)
            unique[sample.sample_id] = replace(first, problem="the table gives it several labels or splits")
    findings = []
    if repeated:
        message = f"{quantify(len(repeated), 'row')} of the table repeating another: each file is used once."
        findings.append(Finding.of("D1.repeated-row", "note", message, repeated))
    if torn:
        message = (
            f"{quantify(len(torn), 'row')} giving a file a second label or split: such files are left out."
        )
        findings.append(Finding.of("D1.contradicting-rows", "warning", message, torn))
    return unique, findings


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
