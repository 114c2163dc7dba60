"""Tables of other tools: answers sample by sample, or a confusion matrix alone.

A CSV of samples has an id, a target, and a prediction or one probability column a label::

    sample_id,target,prediction            image,label,prob_run,prob_walk
    test/run/1.jpg,run,walk                1.jpg,run,0.31,0.69

A confusion matrix is a CSV whose first row names the predicted and whose first column names the true labels.
A JSON file is ``metrics.json``, or scikit-learn's ``classification_report(output_dict=True)``, bare or under
``per_class``: recall, precision and support of each label give back the counts.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.comparison.tables import CountTable, SampleTable
from praxiscope.data.sources.table import Table, read_table
from praxiscope.errors import DataError
from praxiscope.runs.atomic import read_json
from praxiscope.stats.labels import FloatArray, IntArray

ID_COLUMNS = ("sample_id", "id", "image", "image_id", "filename", "file", "path", "filepath")
TARGET_COLUMNS = ("target", "label", "true", "true_label", "ground_truth", "class")
PREDICTION_COLUMNS = ("prediction", "pred", "preds", "predicted", "predicted_label", "output")
PROBABILITY_PREFIX = "prob_"
"""Columns so named hold the probability of the label that follows."""

SUM_TOLERANCE = 1e-2
"""How far a row's probabilities may add up from 1, as for three decimals and a hundred labels."""
ROUNDING_TOLERANCE = 0.05
"""How far recall times support may lie from a whole number, as for three decimals and 50 samples."""
SMALLEST_PROBABILITY = 1e-12
"""A probability of 0 counts as so much, as its logarithm isn't finite."""
_AVERAGES = frozenset({"accuracy", "macro avg", "weighted avg", "micro avg", "samples avg"})


def read_foreign(path: Path) -> SampleTable | CountTable:
    """Read a table of another tool.

    Args:
        path: ``.csv`` or ``.tsv`` (comma, semicolon, tab or bar; UTF-8), or ``.json``.

    Raises:
        DataError: It isn't one of the tables above; says what is missing or wrong, and in which row.
    """
    if path.suffix.lower() == ".json":
        return _read_json_counts(path)
    table = read_table(path)
    if not table.rows:
        raise DataError(f"{path} holds a header and no rows.")
    for number, row in enumerate(table.rows, start=1):
        if len(row) != len(table.header):
            raise DataError(
                f"{path}: row {number} has {len(row)} cells, the header {len(table.header)}; a name that "
                "holds the separator must stand in double quotes."
            )
    if _find(table, ID_COLUMNS) is None and _is_matrix(table):
        return _read_matrix(table)
    return _read_samples(table)


# ------------------------------------------------------------------------------ samples


def _read_samples(table: Table) -> SampleTable:
    places = {
        role: _find(table, names)
        for role, names in (
            ("id", ID_COLUMNS), ("target", TARGET_COLUMNS), ("prediction", PREDICTION_COLUMNS)
        )
    }  # fmt: skip
    place_id, place_target = places["id"], places["target"]
    if place_id is None or place_target is None:
        raise DataError(_tell_missing(table, places))
    ids = _read_column(table, place_id)
    _refuse_repeated(table, ids)
    targets = _read_column(table, place_target)
    columns = _find_probabilities(table, {*places.values()} - {None}, set(targets))
    place_prediction = places["prediction"]
    if place_prediction is None and not columns:
        raise DataError(_tell_missing(table, places))
    given = None if place_prediction is None else _read_column(table, place_prediction)
    names = tuple(columns) if columns else tuple(sorted({*targets, *(given or ())}))
    _refuse_unknown(table, names, [*targets, *(given or ())])
    place = {name: index for index, name in enumerate(names)}
    probs = _read_probabilities(table, columns, ids) if columns else None
    preds = _to_indices(given, place) if given is not None else None
    if probs is not None:
        preds = _check_predictions(table, probs, preds, names, ids)
    assert preds is not None
    return SampleTable(
        source=table.path,
        split=None,
        head=None,
        names=names,
        names_complete=bool(columns),
        sample_ids=tuple(ids),
        targets=_to_indices(targets, place),
        preds=preds,
        logits=None if probs is None else np.log(np.maximum(probs, SMALLEST_PROBABILITY)),
    )


def _find_probabilities(table: Table, taken: set[int | None], labels: set[str]) -> dict[str, int]:
    """Return label -> column; empty where the table has no probabilities."""
    free = {index: title for index, title in enumerate(table.header) if index not in taken}
    marked = {
        _normalize(title[len(PROBABILITY_PREFIX) :]): index
        for index, title in free.items()
        if title.casefold().startswith(PROBABILITY_PREFIX)
    }
    if marked:
        return marked
    named = {_normalize(title): index for index, title in free.items()}
    found = labels & named.keys()
    if not found:
        return {}
    if found != labels:
        missing = sorted(labels - found)
        raise DataError(
            f"{table.path} has a column for {len(found)} of {len(labels)} labels; there is none for "
            f"{_list(missing)}. Probabilities need a column for every label, named like it or "
            f"'{PROBABILITY_PREFIX}<label>'."
        )
    # Labels without samples have columns too: what else is a number in every row.
    return {name: index for name, index in named.items() if name in labels or _is_numeric(table, index)}


def _read_probabilities(table: Table, columns: Mapping[str, int], ids: Sequence[str]) -> FloatArray:
    try:
        probs = np.array([[float(row[index]) for index in columns.values()] for row in table.rows])
    except ValueError as problem:
        raise DataError(f"{table.path}: a probability is no number ({problem}).") from None
    wrong = np.flatnonzero(~((probs >= 0) & (probs <= 1)).all(axis=1))
    if wrong.size:
        raise DataError(
            f"{table.path}: the probabilities of {ids[wrong[0]]!r} don't lie in [0, 1] ({wrong.size} rows). "
            "Logits must be turned into probabilities (softmax) first."
        )
    sums = probs.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if wrong.size:
        raise DataError(
            f"{table.path}: the probabilities of {ids[wrong[0]]!r} add up to {sums[wrong[0]]:.4g}, not to 1 "
            f"({wrong.size} rows). Every label needs its column."
        )
    return np.asarray(probs / sums[:, None], dtype=np.float64)


def _check_predictions(
    table: Table, probs: FloatArray, preds: IntArray | None, names: Sequence[str], ids: Sequence[str]
) -> IntArray:
    """Return the answers; a prediction that isn't the most probable label is refused."""
    best: IntArray = probs.argmax(axis=1).astype(np.int64)
    if preds is None:
        return best
    wrong = np.flatnonzero(probs[np.arange(preds.size), preds] < probs.max(axis=1))
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            f"{table.path}: {wrong.size} of {preds.size} predictions aren't the most probable label, "
            f"first of {ids[first]!r}: {names[preds[first]]} was predicted, {names[best[first]]} is more "
            "probable. Leave out the column that is wrong."
        )
    return preds


# ------------------------------------------------------------------------------ counts


def _is_matrix(table: Table) -> bool:
    columns = [_normalize(title) for title in table.header[1:]]
    rows = [_normalize(row[0]) for row in table.rows]
    return len(rows) > 1 and set(columns) & set(rows) != set()


def _read_matrix(table: Table) -> CountTable:
    names = [_normalize(title) for title in table.header[1:]]
    rows = [_normalize(row[0]) for row in table.rows]
    if len(set(names)) != len(names) or sorted(rows) != sorted(names):
        only_rows, only_columns = sorted(set(rows) - set(names)), sorted(set(names) - set(rows))
        raise DataError(
            f"{table.path}: rows and columns of a confusion matrix must name the same labels, once each; "
            f"only in rows: {_list(only_rows)}; only in columns: {_list(only_columns)}."
        )
    try:
        cells = np.array([[float(cell) for cell in row[1:]] for row in table.rows])
    except ValueError as problem:
        raise DataError(f"{table.path}: a cell of the confusion matrix is no number ({problem}).") from None
    if not (np.isfinite(cells).all() and (cells >= 0).all() and (cells == np.round(cells)).all()):
        raise DataError(
            f"{table.path}: a confusion matrix must hold counts, whole numbers from 0; shares don't say how "
            "many samples there were."
        )
    # Rows in the order of the columns, whatever their own.
    confusion = cells[[rows.index(name) for name in names]].astype(np.int64)
    return _from_confusion(table.path, names, confusion)


def _from_confusion(path: Path, names: Iterable[str], confusion: IntArray) -> CountTable:
    if not confusion.sum():
        raise DataError(f"{path}: the confusion matrix holds no sample.")
    return CountTable(
        source=path,
        names=tuple(names),
        support=confusion.sum(axis=1),
        correct=np.diag(confusion).copy(),
        predicted=confusion.sum(axis=0),
        confusion=confusion,
    )


def _read_json_counts(path: Path) -> CountTable:
    content = read_json(path)
    if "confusion" in content and "names" in content:
        confusion = _to_confusion(content["confusion"], content["names"], path)
        return _from_confusion(path, [_normalize(str(name)) for name in content["names"]], confusion)
    listed = content.get("per_class", content)
    rows = {
        _normalize(name): row
        for name, row in (listed.items() if isinstance(listed, Mapping) else ())
        if name not in _AVERAGES and isinstance(row, Mapping)
    }
    if not rows:
        raise DataError(
            f"{path} holds neither a confusion matrix ('names' and 'confusion') nor 'recall', 'precision' "
            "and 'support' of each label, as scikit-learn's classification_report(output_dict=True) gives."
        )
    counts = np.array([_restore_counts(path, name, row) for name, row in rows.items()], dtype=np.int64)
    if not counts[:, 0].sum():
        raise DataError(f"{path}: the support of every label is 0, so there is no sample to compare.")
    return CountTable(
        source=path,
        names=tuple(rows),
        support=counts[:, 0],
        correct=counts[:, 1],
        predicted=counts[:, 2],
        confusion=None,
    )


def _to_confusion(cells: Any, names: Any, path: Path) -> IntArray:
    size = len(names) if isinstance(names, list) else -1
    square = isinstance(cells, list) and len(cells) == size
    matrix = np.asarray(cells) if square and all(_has_length(row, size) for row in cells) else np.zeros(())
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.integer) or (matrix < 0).any():
        raise DataError(f"{path}: 'confusion' must be a square table of counts, one row for each of 'names'.")
    plain = [_normalize(str(name)) for name in names]
    repeated = [name for name, count in Counter(plain).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: 'names' must be different labels; given more than once: {_list(repeated)}.")
    return matrix.astype(np.int64)


def _has_length(row: Any, size: int) -> bool:
    return isinstance(row, list) and len(row) == size


def _restore_counts(path: Path, name: str, row: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return support, right answers and answers of a label, from its recall, precision and support."""
    try:
        support, recall, precision = (float(row[key]) for key in ("support", "recall", "precision"))
    except (KeyError, TypeError, ValueError) as problem:
        raise DataError(
            f"{path}: label {name!r} lacks a number for recall, precision or support ({problem})."
        ) from None
    correct = recall * support
    if not (0 <= recall <= 1 and 0 <= precision <= 1 and 0 <= support < math.inf) or (
        abs(correct - round(correct)) > ROUNDING_TOLERANCE or support != round(support)
    ):
        raise DataError(
            f"{path}: recall {recall:g} and support {support:g} of label {name!r} give no whole number of "
            "right answers; give the figures in full precision, or the confusion matrix."
        )
    if not round(correct):
        # How often a label was given that was never right can't be seen from its precision of 0.
        return round(support), 0, 0
    if not precision:
        raise DataError(f"{path}: label {name!r} has recall {recall:g} and precision 0, which can't both be.")
    return round(support), round(correct), round(correct / precision)


# ------------------------------------------------------------------------------ cells


def _find(table: Table, names: Sequence[str]) -> int | None:
    plain = [title.strip().casefold().replace(" ", "_") for title in table.header]
    return next((plain.index(name) for name in names if name in plain), None)


def _tell_missing(table: Table, places: Mapping[str, int | None]) -> str:
    wanted = {
        "id": f"an id ({', '.join(ID_COLUMNS)})",
        "target": f"a target ({', '.join(TARGET_COLUMNS)})",
        "prediction": (
            f"a prediction ({', '.join(PREDICTION_COLUMNS)}) or '{PROBABILITY_PREFIX}<label>' columns"
        ),
    }
    missing = "; ".join(text for role, text in wanted.items() if places[role] is None)
    return (
        f"{table.path} has no column for {missing}. Its columns are {_list(table.header)}. A confusion "
        "matrix must name the same labels in its first row and first column."
    )


def _read_column(table: Table, place: int) -> list[str]:
    cells = [_normalize(row[place]) for row in table.rows]
    if "" in cells:
        raise DataError(
            f"{table.path}: row {cells.index('') + 1} has no {table.header[place]!r} "
            f"({cells.count('')} rows have none)."
        )
    return cells


def _refuse_repeated(table: Table, ids: Sequence[str]) -> None:
    if len(set(ids)) != len(ids):
        twice = [one for one, count in Counter(ids).items() if count > 1]
        raise DataError(
            f"{table.path}: {len(twice)} ids occur more than once: {_list(twice)}. Every sample must have "
            "one row."
        )


def _refuse_unknown(table: Table, names: Sequence[str], labels: Iterable[str]) -> None:
    unknown = sorted(set(labels) - set(names))
    if unknown:
        raise DataError(f"{table.path}: there is no probability column for {_list(unknown)}.")


def _to_indices(cells: Sequence[str], place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    return np.array([place[cell] for cell in cells], dtype=np.int64)


def _is_numeric(table: Table, index: int) -> bool:
    try:
        return all(0 <= float(row[index]) <= 1 for row in table.rows)
    except ValueError:
        return False


def _normalize(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _list(items: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(repr(item) for item in items[:limit])
    return (shown + (f" and {len(items) - limit} more" if len(items) > limit else "")) or "none"
