"""Predictions as tables that grow row by row: CSV, JSON, Parquet.

A table is written under a temporary name and gets its own when it is closed, so that a reader never sees half
of one. Numbers in CSV and JSON are rounded to what they are worth; Parquet keeps all bits of all classes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from praxiscope.errors import UsageError, did_you_mean
from praxiscope.prediction.stream import Prediction
from praxiscope.runs import atomic

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
    folder: Path, formats: tuple[str, ...], *, names: tuple[str, ...], top_k: int, networks: tuple[str, ...]
) -> list[Table]:
    """Begin ``predictions.<format>`` in a folder for each format.

    Args:
        folder: Exists.
        formats: Of :data:`FORMATS`; see :func:`check_formats`.
        names: K label names.
        top_k: Labels of each row in CSV and JSON.
        networks: What the networks are called; with two, a column says which one answered.
    """
    rows = RowMaker(names, top_k, networks)
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
        names: K label names.
        top_k: Labels of a row; fewer where there are fewer classes.
        networks: What the networks are called.
    """

    def __init__(self, names: tuple[str, ...], top_k: int, networks: tuple[str, ...]) -> None:
        self.names = names
        self.top_k = min(top_k, len(names))
        self.networks = networks

    def describe(self, prediction: Prediction) -> dict[str, Any]:
        """Return what comes before the labels: where the picture is from, and its size."""
        frame = prediction.picture.frame
        return {
            "source": prediction.picture.item.shown,
            "frame": None if frame is None else frame.index,
            "time_s": None if frame is None else round(frame.time_s, 6),
            "width": prediction.size[0],
            "height": prediction.size[1],
        }

    def list_top(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Return the most probable labels with their probabilities, rounded to 6 places."""
        return [
            (self.names[index], round(float(prediction.probabilities[index]), 6))
            for index in prediction.top(self.top_k)
        ]

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


class CsvTable:
    """One row a picture; for programs, so text is as it is (a spreadsheet may take ``=x`` for a formula)."""

    def __init__(self, path: Path, rows: RowMaker) -> None:
        self._file = _Growing(path)
        self._rows = rows
        self._writer = csv.writer(self._file.stream, lineterminator="\n")
        labels = [
            column
            for place in range(1, rows.top_k + 1)
            for column in (
                ("label", "probability") if place == 1 else (f"label_{place}", f"probability_{place}")
            )
        ]
        closing = ["ms"] if len(rows.networks) == 1 else ["answered_by", "first_confidence", "ms"]
        self._writer.writerow(["source", "frame", "time_s", "width", "height", *labels, *closing])

    def write(self, prediction: Prediction) -> None:
        """Add a row; what doesn't apply stays empty."""
        labels = [value for pair in self._rows.list_top(prediction) for value in pair]
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
        top = [{"label": name, "probability": value} for name, value in self._rows.list_top(prediction)]
        row = {**self._rows.describe(prediction), "top": top, **self._rows.close(prediction)}
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        self._file.stream.write(f"{self._separator}\n{text}")
        self._separator = ","

    def close(self) -> None:
        """End the array and give the file its name."""
        self._file.stream.write("[]\n" if self._separator == "[" else "\n]\n")
        self._file.close()


class ParquetTable:
    """All classes' logits and probabilities as fixed-size lists; their names are in the metadata."""

    def __init__(self, path: Path, rows: RowMaker) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path, self._aside = path, atomic.temporary_name(path)
        self._rows = rows
        self._waiting: list[dict[str, Any]] = []
        size = len(rows.names)
        extra = (
            []
            if len(rows.networks) == 1
            else [("answered_by", pa.string()), ("first_confidence", pa.float64())]
        )
        self._schema = pa.schema(
            [
                ("source", pa.string()),
                ("frame", pa.int64()),
                ("time_s", pa.float64()),
                ("width", pa.int32()),
                ("height", pa.int32()),
                ("label", pa.string()),
                ("probability", pa.float64()),
                ("probabilities", pa.list_(pa.float64(), size)),
                ("logits", pa.list_(pa.float32(), size)),
                *extra,
                ("ms", pa.float64()),
            ],
            metadata={"praxiscope": json.dumps({"schema": 1, "names": list(rows.names)}, ensure_ascii=False)},
        )
        self._writer: Any = pq.ParquetWriter(self._aside, self._schema, compression="zstd")

    def write(self, prediction: Prediction) -> None:
        """Add a row."""
        best = prediction.top(1)[0]
        self._waiting.append(
            {
                **self._rows.describe(prediction),
                "label": self._rows.names[best],
                "probability": float(prediction.probabilities[best]),
                "probabilities": prediction.probabilities.tolist(),
                "logits": prediction.logits.astype(np.float32).tolist(),
                **self._rows.close(prediction),
            }
        )
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
