"""Images in a Parquet column: binary, or the struct {bytes, path} of the Hugging Face hub."""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from itertools import accumulate, count
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from praxiscope.data.containers.handles import ContainerUnreadable, parse_index

CACHE_BYTES = 512 * 2**20
"""Row groups kept in memory, all files of a process together; a larger set is unpacked again and again when
it is read in random order."""


class ParquetImages:
    """The encoded images of a Parquet file, read a row group at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_parquet(path)
        self._number = next(_NUMBERS)
        self._lock = threading.Lock()
        metadata = self._file.metadata
        counts = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        self._starts = list(accumulate(counts, initial=0))

    def read(self, member: str) -> bytes:
        """Return the image of ``row:column``."""
        number, _, column = member.partition(":")
        row = parse_index(number, self._starts[-1], self.path)
        group = bisect.bisect_right(self._starts, row) - 1
        # One reader a file: a row group is unpacked once, however many threads ask for its rows.
        with self._lock:
            images = _ROW_GROUPS.find((self._number, group, column))
            if images is None:
                images = self._read_group(group, column)
                _ROW_GROUPS.keep((self._number, group, column), images)
        content: bytes | None = images[row - self._starts[group]].as_py()
        if content is None:
            raise ContainerUnreadable(f"holds no bytes in {column!r} of row {row:,}", self.path)
        return content

    def _read_group(self, group: int, column: str) -> pa.Array:
        schema = self._file.schema_arrow
        index = schema.get_field_index(column)
        if index < 0:
            raise ContainerUnreadable(f"has no column {column!r}", self.path)
        nested = pa.types.is_struct(schema.field(index).type)
        try:
            name = f"{column}.bytes" if nested else column
            table = self._file.read_row_group(group, columns=[name], use_threads=False)
            images = table.column(0).combine_chunks()
            return pc.struct_field(images, "bytes") if nested else images
        except (pa.ArrowException, OSError, IndexError) as problem:
            raise ContainerUnreadable(f"is damaged in row group {group} ({problem})", self.path) from problem


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        ContainerUnreadable: It is missing, cut short, or none.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as problem:
        raise ContainerUnreadable(f"is no whole Parquet file ({problem}); fetch it again", path) from problem


class _RowGroups:
    """Row groups that were unpacked, the least recently used given up when they are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, int, str], pa.Array] = OrderedDict()

    def find(self, key: tuple[int, int, str]) -> pa.Array | None:
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key]

    def keep(self, key: tuple[int, int, str], images: pa.Array) -> None:
        with self._lock:
            self._held[key] = images
            self._size += images.nbytes
            while self._size > self._limit and len(self._held) > 1:
                _, gone = self._held.popitem(last=False)
                self._size -= gone.nbytes


_ROW_GROUPS = _RowGroups(CACHE_BYTES)
# Row groups are kept by the number of their opened file, not with it: what is kept keeps no descriptor open.
_NUMBERS = count()
