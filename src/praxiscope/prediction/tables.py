"""Predictions as tables that grow row by row: CSV, JSON, Parquet.

A table is written under a temporary name and gets its own when it is closed, so that a reader never sees half
of one. Numbers in CSV and JSON are rounded to what they are worth; Parquet keeps all bits of all classes.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.prediction.clips import Clip
from praxiscope.prediction.ranking import JOINT, Guess, find_best, rank_all
from praxiscope.prediction.stream import Prediction
from praxiscope.runs import atomic
from praxiscope.tensors import Heads

FORMATS = ("csv", "json", "parquet")
_ROWS_OF_A_GROUP = 4096


class Table(Protocol):
    """A table that is being written."""

    def write(self, prediction: Prediction) -> None:
        """Add a row."""

    def close(self) -> None:
        """Give the file its name; nothing can be added afterwards."""


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format that there is not.

    Raises:
        UsageError: No such format.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(
                f"--format '{name}': choose of {', '.join(FORMATS)}, several separated by commas."
                f"{did_you_mean(name, FORMATS)}"
            )


def open_tables(
    folder: Path,
    formats: tuple[str, ...],
    *,
    heads: Heads,
    top_k: int,
    networks: tuple[str, ...],
    clips: bool = False,
) -> list[Table]:
    """Begin ``predictions.<format>`` in a folder for each format.

    Args:
        folder: Exists.
        formats: Of :data:`FORMATS`; see :func:`check_formats`.
        heads: What the logits stand for.
        top_k: Labels of each head in each row of CSV and JSON.
        networks: What the networks are called; with two, a column says which one answered.
        clips: Whether clips are predicted: a row says from when to when, instead of which frame.
    """
    rows = RowMaker(heads, top_k, networks, clips=clips)
    opened: list[Table] = []
    for name in dict.fromkeys(formats):
        path = folder / f"predictions.{name}"
        if name == "csv":
            opened.append(CsvTable(path, rows))
        elif name == "json":
            opened.append(JsonTable(path, rows))
        else:
            opened.append(ParquetTable(path, rows))
    return opened


class RowMaker:
    """Turns predictions into the values of a row.

    Args:
        heads: What the logits stand for.
        top_k: Labels of a head in a row; fewer where there are fewer classes.
        networks: What the networks are called.
        clips: Whether rows are clips.
    """

    def __init__(self, heads: Heads, top_k: int, networks: tuple[str, ...], *, clips: bool = False) -> None:
        self.heads = heads
        self.top_k = top_k
        self.networks = networks
        self._clips = clips

    @property
    def opening(self) -> list[str]:
        """Names of what comes before the labels."""
        where = ["start_s", "end_s", "first_frame", "num_frames"] if self._clips else ["frame", "time_s"]
        return ["source", *where, "width", "height"]

    @property
    def counts(self) -> dict[str, int]:
        """Labels of each head in a row, and of several heads of their joint answer."""
        sizes = dict(zip(self.heads.names, self.heads.sizes, strict=True))
        if len(sizes) > 1:
            sizes[JOINT] = math.prod(sizes.values())
        return {head: min(self.top_k, size) for head, size in sizes.items()}

    def describe(self, prediction: Prediction) -> dict[str, Any]:
        """Return what comes before the labels: where the picture or clip is from, and its size."""
        sample = prediction.picture
        if isinstance(sample, Clip):
            span = (None, None) if sample.span is None else (sample.span.first, sample.span.count)
            where = [_round(sample.start_s), _round(sample.end_s), *span]
        else:
            where = (
                [None, None] if sample.frame is None else [sample.frame.index, _round(sample.frame.time_s)]
            )
        values = [sample.item.shown, *where, *prediction.size]
        return dict(zip(self.opening, values, strict=True))

    def rank(self, prediction: Prediction) -> dict[str, list[Guess]]:
        """Return the most probable labels of each head and, of several, of all together, best first."""
        ranked = rank_all(prediction, self.heads, self.top_k)
        return {head: ranked[head][:count] for head, count in self.counts.items()}

    def close(self, prediction: Prediction) -> dict[str, Any]:
        """Return what comes after the labels: who answered, in what time."""
        ms = round(prediction.ms, 3)
        if len(self.networks) == 1:
            return {"ms": ms}
        asked = prediction.confidence
        return {
            "answered_by": self.networks[prediction.answered_by],
            "first_confidence": None if asked is None else round(asked, 6),
            "ms": ms,
        }


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


class CsvTable:
    """One row a picture; for programs, so text is as it is (a spreadsheet may take ``=x`` for a formula)."""

    def __init__(self, path: Path, rows: RowMaker) -> None:
        self._file = _Growing(path)
        self._rows = rows
        self._writer = csv.writer(self._file.stream, lineterminator="\n")
        alone = len(rows.heads.names) == 1
        labels = [
            f"{column}{'' if place == 1 else f'_{place}'}"
            for head, count in rows.counts.items()
            for place in range(1, count + 1)
            for column in (("label", "probability") if alone else (head, f"{head}_probability"))
        ]
        closing = ["ms"] if len(rows.networks) == 1 else ["answered_by", "first_confidence", "ms"]
        self._writer.writerow([*rows.opening, *labels, *closing])

    def write(self, prediction: Prediction) -> None:
        """Add a row; what doesn't apply stays empty."""
        labels = [
            value
            for guesses in self._rows.rank(prediction).values()
            for guess in guesses
            for value in (guess.label, round(guess.probability, 6))
        ]
        values = [
            *self._rows.describe(prediction).values(),
            *labels,
            *self._rows.close(prediction).values(),
        ]
        self._writer.writerow(["" if value is None else value for value in values])

    def close(self) -> None:
        """Give the file its name."""
        self._file.close()


class JsonTable:
    """A JSON array of one object a picture, one a line."""

    def __init__(self, path: Path, rows: RowMaker) -> None:
        self._file = _Growing(path)
        self._rows = rows
        self._separator = "["

    def write(self, prediction: Prediction) -> None:
        """Add an object."""
        ranked = {
            head: [{"label": guess.label, "probability": round(guess.probability, 6)} for guess in guesses]
            for head, guesses in self._rows.rank(prediction).items()
        }
        top = ranked if len(ranked) > 1 else next(iter(ranked.values()))
        row = {**self._rows.describe(prediction), "top": top, **self._rows.close(prediction)}
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        self._file.stream.write(f"{self._separator}\n{text}")
        self._separator = ","

    def close(self) -> None:
        """End the array and give the file its name."""
        self._file.stream.write("[]\n" if self._separator == "[" else "\n]\n")
        self._file.close()


class ParquetTable:
    """All classes' logits and probabilities as fixed-size lists; their names are in the metadata.

    Of several heads each has its own columns, ``label_verb`` and so on, and ``joint_probability`` is that of
    their likeliest answer together.
    """

    def __init__(self, path: Path, rows: RowMaker) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path, self._aside = path, atomic.temporary_name(path)
        self._rows = rows
        self._waiting: list[dict[str, Any]] = []
        extra = (
            []
            if len(rows.networks) == 1
            else [("answered_by", pa.string()), ("first_confidence", pa.float64())]
        )
        alone = len(rows.heads.names) == 1
        labels = [
            field
            for head, size in zip(rows.heads.names, rows.heads.sizes, strict=True)
            for field in _list_fields("" if alone else f"_{head}", size)
        ]
        joint = [] if alone else [(f"{JOINT}_probability", pa.float64())]
        told = {head: list(names) for head, names in rows.heads.names.items()}
        named: dict[str, Any] = {"names": next(iter(told.values()))} if alone else {"heads": told}
        self._schema = pa.schema(
            [
                *((name, _name_type(name)) for name in rows.opening),
                *labels,
                *joint,
                *extra,
                ("ms", pa.float64()),
            ],
            metadata={"praxiscope": json.dumps({"schema": 1, **named}, ensure_ascii=False)},
        )
        self._writer: Any = pq.ParquetWriter(self._aside, self._schema, compression="zstd")

    def write(self, prediction: Prediction) -> None:
        """Add a row."""
        heads = self._rows.heads
        row = self._rows.describe(prediction)
        for head, columns in heads.columns.items():
            suffix = "" if len(heads.names) == 1 else f"_{head}"
            probabilities = prediction.probabilities[columns]
            best = prediction.top(1, columns)[0]
            row[f"label{suffix}"] = heads.names[head][best]
            row[f"probability{suffix}"] = float(probabilities[best])
            row[f"probabilities{suffix}"] = probabilities.tolist()
            row[f"logits{suffix}"] = prediction.logits[columns].astype(np.float32).tolist()
        if len(heads.names) > 1:
            row[f"{JOINT}_probability"] = find_best(prediction, heads).probability
        self._waiting.append({**row, **self._rows.close(prediction)})
        if len(self._waiting) >= _ROWS_OF_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what waits and give the file its name."""
        self._flush()
        self._writer.close()
        atomic.sync_file(self._aside)
        self._aside.replace(self._path)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            with atomic.naming_full_disk(self._path):
                self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []


def _name_type(column: str) -> Any:
    """Return the Arrow type of a column that comes before the labels."""
    import pyarrow as pa

    if column == "source":
        return pa.string()
    if column.endswith("_s"):
        return pa.float64()
    return pa.int32() if column in {"width", "height"} else pa.int64()


def _list_fields(suffix: str, size: int) -> list[tuple[str, Any]]:
    """Return names and Arrow types of a head's columns."""
    import pyarrow as pa

    return [
        (f"label{suffix}", pa.string()),
        (f"probability{suffix}", pa.float64()),
        (f"probabilities{suffix}", pa.list_(pa.float64(), size)),
        (f"logits{suffix}", pa.list_(pa.float32(), size)),
    ]


class _Growing:
    """A text file under a temporary name."""

    def __init__(self, path: Path) -> None:
        self._path, self._aside = path, atomic.temporary_name(path)
        self.stream: IO[str] = self._aside.open("x", encoding="utf-8", newline="")

    def close(self) -> None:
        with atomic.naming_full_disk(self._path):
            self.stream.close()
            atomic.sync_file(self._aside)
            self._aside.replace(self._path)
