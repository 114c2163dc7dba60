"""Groups of classes from a table that the user writes: read, checked against the labels, scored."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from praxiscope.data.sources.table import Table, read_table
from praxiscope.errors import DataError, UsageError, did_you_mean
from praxiscope.evaluation.predictions import Predictions
from praxiscope.stats.bootstrap import bootstrap_means
from praxiscope.stats.confusion import ClassScores, compute_class_scores, compute_confusion
from praxiscope.stats.groups import DRAWS, FEW_CLASSES, GroupDifference, compare_groups
from praxiscope.stats.intervals import Interval, wilson_interval
from praxiscope.stats.labels import IntArray

CLASS_COLUMN = "class"
MAX_GROUPS = 50
"""Groups of one column; more are no grouping of classes, and every two are compared."""
MAX_NAMED = 10

GROUPS_RULE = (
    "Groups are compared by mean class recall, with the class as the unit: images of one class aren't "
    "independent draws of a group. The p-value is that of dealing the classes to the groups at random, "
    "two-sided, with Holm's correction over all comparisons. It holds for a grouping that was made before "
    "the results were seen. The interval of a group's accuracy is about other samples of the same classes, "
    "not about other classes."
)


@dataclass(frozen=True, kw_only=True)
class ClassGroups:
    """Which class is in which group, column by column."""

    source: str
    """Name of the file."""
    columns: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Column -> group -> indices of its classes; groups in alphabetical order."""
    ungrouped: Mapping[str, tuple[str, ...]]
    """Column -> classes that have no group in it."""
    head: str | None = None
    """Whose classes they are; None for the only head."""


def read_class_groups(path: Path, names: Sequence[str]) -> ClassGroups:
    """Read a table with the columns ``class,group``, or ``class`` and any number of groupings.

    Names are compared without surrounding spaces and in Unicode's composed form. A class that is listed twice
    with the same groups counts once; an empty cell means no group.

    Args:
        path: CSV, separated by comma, semicolon, tab or bar, in UTF-8 with or without a mark.
        names: The label names.

    Raises:
        UsageError: There is no such file.
        DataError: The table can't be read, lacks a column, names an unknown class, contradicts itself, or has
            a column with more than `MAX_GROUPS` groups.
    """
    if not path.is_file():
        raise UsageError(f"--groups {path}: there is no such file; give a CSV with the columns class,group.")
    if not path.read_bytes().strip():
        raise DataError(f"{path} is empty; its first line must be a header such as class,group.")
    table = read_table(path)
    place = _find_class_column(table)
    titles = [(index, title) for index, title in enumerate(table.header) if index != place]
    _check_titles(table, [title for _, title in titles])
    indices = {_normalize(name): index for index, name in enumerate(names)}
    cells = _collect_cells(table, place, indices)
    columns = {title: _collect_groups(cells, index) for index, title in titles}
    for title, groups in columns.items():
        if len(groups) > MAX_GROUPS:
            raise DataError(
                f"{path}: column {title!r} has {len(groups)} different groups; at most {MAX_GROUPS} are "
                "allowed. A group is meant to hold several classes."
            )
    if not any(columns.values()):
        raise DataError(f"{path} puts no class into any group: every cell beside {CLASS_COLUMN!r} is empty.")
    held = {title: {index for part in groups.values() for index in part} for title, groups in columns.items()}
    return ClassGroups(
        source=path.name,
        columns=columns,
        ungrouped={
            title: tuple(name for index, name in enumerate(names) if index not in members)
            for title, members in held.items()
        },
    )


def restore_class_groups(stored: Mapping[str, Any], names: Sequence[str]) -> ClassGroups:
    """Return the grouping that an evaluation was made with, from what `score_groups` gave.

    Args:
        stored: The ``groups`` of a ``metrics.json``.
        names: The label names.

    Raises:
        DataError: It names a class that isn't among them.
    """
    indices = {name: index for index, name in enumerate(names)}
    listed = [name for column in stored["columns"] for group in column["groups"] for name in group["classes"]]
    unknown = sorted(set(listed) - indices.keys())
    if unknown:
        raise DataError(
            f"The groups of metrics.json hold the class {unknown[0]!r}, which the predictions don't know; "
            "evaluate again."
        )
    return ClassGroups(
        source=stored["source"],
        columns={
            column["column"]: {
                group["name"]: tuple(indices[name] for name in group["classes"]) for group in column["groups"]
            }
            for column in stored["columns"]
        },
        ungrouped={column["column"]: tuple(column["ungrouped"]) for column in stored["columns"]},
    )


def score_groups(
    predictions: Predictions, head: str, grouping: ClassGroups, plan: Mapping[str, Any]
) -> dict[str, Any]:
    """Score each group and compare every two of a column; what ``metrics.json`` holds under ``groups``.

    Args:
        predictions: Of one split.
        head: Which head; its names are those that ``grouping`` was read against.
        grouping: From `read_class_groups`.
        plan: ``seed``, ``resamples``, ``level`` of the bootstrap.
    """
    targets, preds = predictions.targets(head), predictions.preds(head)
    scores = compute_class_scores(compute_confusion(targets, preds, len(predictions.names(head))))
    by_group = any(group is not None for group in predictions.groups)
    samples = _Samples(
        names=predictions.names(head),
        targets=targets,
        correct=preds == targets,
        groups=predictions.groups if by_group else None,
    )
    differences = compare_groups(grouping.columns, scores.recall, seed=plan["seed"])
    columns = [
        {
            "column": title,
            "groups": [
                _score_group(name, members, scores, samples, plan) for name, members in groups.items()
            ],
            "ungrouped": list(grouping.ungrouped[title]),
        }
        for title, groups in grouping.columns.items()
    ]
    return {
        "source": grouping.source,
        "interval_method": "percentile bootstrap by group" if by_group else "Wilson",
        "columns": columns,
        "differences": [_tell_difference(one, len(differences), 1 - plan["level"]) for one in differences],
        "sentences": [sentence for column in columns for sentence in _tell_column(column)],
    }


@dataclass(frozen=True, kw_only=True)
class _Samples:
    names: Sequence[str]
    targets: IntArray
    correct: np.ndarray[Any, np.dtype[np.bool_]]
    groups: Sequence[str | None] | None


def _find_class_column(table: Table) -> int:
    plain = [title.casefold() for title in table.header]
    if CLASS_COLUMN not in plain:
        raise DataError(
            f"{table.path} has no column {CLASS_COLUMN!r}; its columns are {', '.join(table.header)}."
            " It needs class,group or class and several groupings."
        )
    return plain.index(CLASS_COLUMN)


def _check_titles(table: Table, titles: Sequence[str]) -> None:
    if not titles:
        raise DataError(f"{table.path} has only the column {CLASS_COLUMN!r}; add one that names a group.")
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice or "" in titles or CLASS_COLUMN in map(str.casefold, titles):
        what = (
            f"the column {twice[0]!r} twice" if twice and twice[0] else "a column without a name of its own"
        )
        raise DataError(f"{table.path} has {what}; give each grouping a name of its own in the first line.")


def _collect_cells(table: Table, place: int, indices: Mapping[str, int]) -> dict[int, tuple[str, ...]]:
    """Return the cells of each class, in the order of the header; every problem of a kind at once."""
    unknown: list[str] = []
    cells: dict[int, tuple[str, ...]] = {}
    for number, row in enumerate(table.rows, start=1):
        if len(row) != len(table.header):
            raise DataError(
                f"{table.path}: row {number} has {len(row)} cells, the header {len(table.header)}; a name "
                "that holds the separator must stand in double quotes."
            )
        held = tuple(_normalize(cell) for cell in row)
        index = indices.get(held[place])
        if index is None:
            unknown.append(row[place])
        elif cells.setdefault(index, held) != held:
            raise DataError(
                f"{table.path} lists the class {row[place]!r} twice with different groups; keep one row."
            )
    if unknown:
        hints = {name: did_you_mean(name, indices).strip() for name in unknown[:MAX_NAMED]}
        shown = ", ".join(f"{name!r}" + (f" ({hint})" if hint else "") for name, hint in hints.items())
        more = f" and {len(unknown) - MAX_NAMED} more" if len(unknown) > MAX_NAMED else ""
        classes = f"{len(unknown)} class{'es' if len(unknown) > 1 else ''}"
        raise DataError(
            f"{table.path} names {classes} that the model doesn't know: {shown}{more}. Names must be "
            "the label names, capitals included."
        )
    return cells


def _collect_groups(cells: Mapping[int, Sequence[str]], column: int) -> dict[str, tuple[int, ...]]:
    groups: dict[str, list[int]] = {}
    for index, row in cells.items():
        if row[column]:
            groups.setdefault(row[column], []).append(index)
    return {name: tuple(sorted(groups[name])) for name in sorted(groups)}


def _normalize(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _score_group(
    name: str, members: Iterable[int], scores: ClassScores, samples: _Samples, plan: Mapping[str, Any]
) -> dict[str, Any]:
    chosen = np.array(sorted(members))
    seen = chosen[scores.support[chosen] > 0]
    accuracy = _measure_accuracy(seen, scores, samples, plan)
    return {
        "name": name,
        "classes": [samples.names[index] for index in chosen],
        "num_classes": int(seen.size),
        "num_absent": int(chosen.size - seen.size),
        "n": int(scores.support[seen].sum()),
        "accuracy": {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high},
        "macro_recall": float(scores.recall[seen].mean()) if seen.size else float("nan"),
    }


def _measure_accuracy(
    seen: IntArray, scores: ClassScores, samples: _Samples, plan: Mapping[str, Any]
) -> Interval:
    right, count = int(scores.correct[seen].sum()), int(scores.support[seen].sum())
    if samples.groups is not None and count:
        inside = np.isin(samples.targets, seen)
        held = [group for group, chosen in zip(samples.groups, inside, strict=True) if chosen]
        found = bootstrap_means({"accuracy": samples.correct[inside]}, groups=held, **plan)["accuracy"]
        # All right or all wrong: every resample gives the same, and Wilson's interval says more.
        if 0 < right < count:
            return found
    low, high = wilson_interval(right, count, level=plan["level"])
    return Interval(value=right / count if count else float("nan"), low=float(low), high=float(high))


def _tell_difference(one: GroupDifference, comparisons: int, alpha: float) -> dict[str, Any]:
    apart = one.p_holm < alpha
    points = f"{100 * one.difference:.1f} points of mean class recall"
    way = "all ways to deal the classes counted" if one.exact else f"{DRAWS:,} random deals of the classes"
    many = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    sizes = " and ".join(f"{count} class{'es' if count > 1 else ''}" for count in one.num_classes)
    test = f"p = {one.p_holm:.2g}{many}; {sizes}, {way}"
    if apart:
        sentence = f"{one.first} is better than {one.second} by {points} ({test})."
    else:
        sentence = f"{one.first} and {one.second} can't be told apart: {points} between them ({test})."
    if not apart and one.smallest_p >= alpha:
        sentence += (
            f" So few classes could not show any difference: the smallest p possible is {one.smallest_p:.2g}."
        )
    elif min(one.num_classes) < FEW_CLASSES:
        sentence += f" With fewer than {FEW_CLASSES} classes in a group only a large difference can show."
    return {
        "column": one.column,
        "first": one.first,
        "second": one.second,
        "difference": one.difference,
        "num_classes": list(one.num_classes),
        "p_value": one.p_value,
        "p_holm": one.p_holm,
        "told_apart": apart,
        "sentence": sentence,
    }


def _tell_column(column: Mapping[str, Any]) -> list[str]:
    sentences = []
    missing = column["ungrouped"]
    if missing:
        shown = ", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else "")
        lack, are = ("es have", "are") if len(missing) > 1 else (" has", "is")
        sentences.append(
            f"{len(missing)} class{lack} no group in {column['column']} and {are} left out: {shown}."
        )
    present = [group for group in column["groups"] if group["num_classes"]]
    if len(present) < 2:
        few = "only one group has" if present else "no group has"
        sentences.append(f"{column['column']}: {few} classes with samples, so there is nothing to compare.")
    return sentences
