"""Image tables in Parquet, as the Hugging Face hub ships them: images, labels, names in the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from praxiscope.data.containers.handles import ContainerUnreadable
from praxiscope.data.containers.parquet import CACHE_BYTES, open_parquet
from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.media import join_member
from praxiscope.data.sources.listing import SPLIT_NAMES, Listing, Sample, normalise_label
from praxiscope.data.sources.members import (
    check_names,
    find_member_group,
    find_split,
    name_member,
    name_numbers,
    search_below,
)
from praxiscope.data.sources.table import USUAL_NAMES
from praxiscope.errors import DataError, UsageError, did_you_mean
from praxiscope.recipe.schema import DataSection

_USUAL_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Which column has which role."""

    image: str
    label: str
    split: str | None
    group: str | None
    names: tuple[str, ...] | None
    """Class names by number, where the schema holds them."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One row without its image."""

    sample_id: str
    path: str
    split: str | None
    label: Any
    group: str | None
    problem: str | None


def find_parquet(root: Path) -> tuple[Path, ...]:
    """Return the Parquet files in `root` and in folders below it that have a column of images."""
    return tuple(path for path in _find_files(root) if _has_images(path))


def _find_files(root: Path) -> tuple[Path, ...]:
    return search_below(root, lambda name: name.lower().endswith(".parquet"))


def _has_images(path: Path) -> bool:
    try:
        return bool(_find_image_columns(open_parquet(path).schema_arrow))
    except ContainerUnreadable:
        return False  # named when the source is asked for


def list_parquet(root: Path, section: DataSection) -> Listing:
    """List the images of Parquet tables.

    Args:
        root: Absolute data folder.
        section: ``columns`` and ``group`` are used; ``columns.path`` names the column of images.

    Returns:
        Samples sorted by id, such as ``data/train-00000-of-00002#00042``. A column of splits wins over the
        names of the files.

    Raises:
        DataError: There is no Parquet file, the columns can't be told, or splits have unknown names.
        ContainerUnreadable: A file is damaged.
        UsageError: A column that ``columns`` names isn't there.
    """
    files = _find_files(root)
    if not files:
        raise DataError(f"{root} has no .parquet file, nor have the folders in it.")
    columns = _choose_columns(files, section)
    splits = {file: find_split(PurePosixPath(file.relative_to(root).as_posix())) for file in files}
    undivided = columns.split is not None or not any(splits.values())
    used = [file for file in files if undivided or splits[file] is not None]
    rows = [row for file in used for row in _read_rows(root, file, splits[file], (columns, section))]
    samples, notes = _label(rows, columns)
    if left_out := [str(file.relative_to(root)) for file in files if file not in used]:
        message = f"{quantify(len(left_out), 'Parquet file')} whose name says no split: left out."
        notes.append(Finding.of("parquet.no-split", "warning", message, left_out))
    notes += _describe_size(used, columns)
    return Listing(
        source="parquet",
        samples=tuple(sorted(samples, key=lambda sample: sample.sample_id)),
        findings=tuple(notes),
    )


def _choose_columns(files: Sequence[Path], section: DataSection) -> _Columns:
    """Choose the columns by the first file, and refuse others that lack them."""
    schema = open_parquet(files[0]).schema_arrow
    given = section.columns
    for role, name in given.items():
        if name not in schema.names:
            raise UsageError(
                f"data.columns.{role} is {name!r}, but {files[0].name} has the columns "
                f"{', '.join(schema.names)}.{did_you_mean(name, schema.names)}"
            )
    features = _read_features(schema)
    columns = _Columns(
        image=given.get("path") or _pick(files[0], "path", _find_image_columns(schema)),
        label=given.get("label") or _pick(files[0], "label", _find_label_columns(schema, features)),
        split=given.get("split"),
        group=given.get("group"),
        names=None,
    )
    names = _read_class_names(features.get(columns.label), f"{files[0]}: {columns.label}")
    needed = {columns.image, columns.label, columns.split, columns.group} - {None}
    for file in files:
        other = open_parquet(file).schema_arrow
        if twice := sorted(str(name) for name in needed if other.names.count(name) > 1):
            raise DataError(f"{file} has several columns called {', '.join(twice)}; rename one.")
        if missing := sorted(str(name) for name in needed if name not in other.names):
            raise DataError(
                f"{file} has no column {', '.join(missing)}, as {files[0].name} has; keep one table."
            )
        if _read_class_names(_read_features(other).get(columns.label), str(file)) != names:
            raise DataError(f"{file} names its classes otherwise than {files[0].name}; keep one table.")
    return _Columns(
        image=columns.image, label=columns.label, split=columns.split, group=columns.group, names=names
    )


def _pick(file: Path, role: str, found: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    what = {"path": "images", "label": "labels"}[role]
    told = f"several columns of {what}, {', '.join(found)}" if found else f"no column known to hold {what}"
    raise DataError(f"{file} has {told}. Say which with --set data.columns.{role}=NAME.")


def _find_image_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold images: the usual name among them, else all."""
    features = _read_features(schema)
    marked = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    fitting = [field.name for field in schema if _is_binary(field.type) or _has_bytes(field.type)]
    found = [name for name in marked if name in fitting] or fitting
    usual = [name for name in found if name.lower() in _USUAL_IMAGES]
    return usual[:1] or found


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(
        field.name == "bytes" and _is_binary(field.type) for field in kind.fields
    )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _find_label_columns(schema: pa.Schema, features: Mapping[str, Any]) -> list[str]:
    marked = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    usual = [name for name in schema.names if name.lower() in USUAL_NAMES["label"]]
    return [name for name in usual if name in marked][:1] or marked or usual[:1]


def _read_features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what the schema's ``huggingface`` note says of each column; nothing where there is none."""
    try:
        note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = note["info"]["features"]
        return {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _read_class_names(feature: Mapping[str, Any] | None, place: str) -> tuple[str, ...] | None:
    names = (feature or {}).get("names")
    if isinstance(names, dict):  # {"0": "cat", "1": "dog"}: as read-me files of the hub spell it
        names = [names.get(str(number)) for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return check_names([normalise_label(name) for name in names], place)


def _read_rows(root: Path, file: Path, split: str | None, asked: tuple[_Columns, DataSection]) -> list[_Row]:
    columns, section = asked
    wanted = [name for name in (columns.label, columns.split, columns.group) if name is not None]
    table = _read_columns(file, wanted)
    labels = table.column(columns.label).to_pylist()
    splits = [split] * len(labels)
    if columns.split is not None:
        splits = _read_splits(file, columns.split, table.column(columns.split).to_pylist())
    groups = table.column(columns.group).to_pylist() if columns.group is not None else None
    path = file.relative_to(root).as_posix()
    rows = []
    for row, label in enumerate(labels):
        sample_id = name_member(path.removesuffix(".parquet"), row, len(labels))
        group = find_member_group(sample_id, section.group) if groups is None else groups[row]
        problem = "the table gives no split" if columns.split is not None and splits[row] is None else None
        rows.append(
            _Row(
                sample_id=sample_id,
                path=join_member(path, "parquet", f"{row}:{columns.image}"),
                split=splits[row],
                label=label,
                group=None if group is None else str(group),
                problem=problem,
            )
        )
    return rows


def _read_columns(file: Path, names: Sequence[str]) -> pa.Table:
    try:
        return open_parquet(file).read(columns=list(dict.fromkeys(names)), use_threads=False)
    except (pa.ArrowException, OSError) as problem:
        raise ContainerUnreadable(f"is damaged ({problem}); fetch it again", file) from problem


def _read_splits(file: Path, column: str, values: Sequence[Any]) -> list[str | None]:
    texts = [None if value is None else str(value).strip().lower() for value in values]
    if unknown := sorted({text for text in texts if text and text not in SPLIT_NAMES}):
        raise DataError(
            f"{file}: the column {column!r} holds {', '.join(map(repr, unknown[:10]))}, but a split is "
            "train, val, valid, validation or test. Name another column with data.columns.split."
        )
    return [SPLIT_NAMES.get(text or "") for text in texts]


def _label(rows: Sequence[_Row], columns: _Columns) -> tuple[list[Sample], list[Finding]]:
    """Return samples with labels by name, and what there is to say about the labels."""
    numbers = {row.label for row in rows if type(row.label) is int and row.label >= 0}
    names = dict(enumerate(columns.names)) if columns.names is not None else name_numbers(numbers)
    samples = []
    for row in rows:
        label, problem = _name_label(row.label, names)
        samples.append(
            Sample(
                sample_id=row.sample_id,
                split=row.split,
                label=label,
                group=row.group,
                problem=row.problem or problem,
                path=row.path,
            )
        )
    if columns.names is not None or not numbers:
        return samples, []
    counted = quantify(len(numbers), "class", "classes")
    message = f"{counted} of {columns.label!r} without names: called by their numbers."
    return samples, [Finding(code="parquet.no-names", severity="note", message=message, count=len(numbers))]


def _name_label(value: Any, names: Mapping[int, str]) -> tuple[str, str | None]:
    """Return (label, None), or a placeholder and why there is none."""
    if type(value) is int:
        if value in names:
            return names[value], None
        return str(
            value
        ), "has label -1: unlabelled" if value == -1 else f"has label {value}, which has no name"
    if isinstance(value, str) and (label := normalise_label(value)):
        return label, None
    if value is None or isinstance(value, str):
        return "", "the table gives no label"
    return "", f"has a label of type {type(value).__name__}; a label is a whole number or a text"


def _describe_size(files: Sequence[Path], columns: _Columns) -> list[Finding]:
    size = sum(_measure(open_parquet(file).metadata, columns.image) for file in files)
    if size <= CACHE_BYTES:
        return []
    message = (
        f"{size / 1e9:.1f} GB of images in Parquet, of which {CACHE_BYTES / 1e9:.1f} GB are kept in memory: "
        "in random order they are unpacked again and again. data.pack makes training fast."
    )
    return [Finding(code="parquet.large", severity="note", message=message, count=len(files))]


def _measure(metadata: pq.FileMetaData, column: str) -> int:
    total = 0
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            if chunk.path_in_schema.partition(".")[0] == column:
                total += chunk.total_uncompressed_size
    return total
