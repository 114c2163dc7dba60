"""Reading a packed copy of images: memory-mapped, opened once in each process.

A pack is a folder of three files:

===============  ==========================================================================================
``images.bin``   every image's pixels behind one another: uint8, RGB, (H, W, 3), in the manifest's order
``index.npy``    one row an image, sorted by content hash: :data:`INDEX_DTYPE`
``header.json``  format and version, short side, filter, Pillow's version, counts, sha256 of ``index.npy``
===============  ==========================================================================================

The index holds a CRC-32 of each image, so a damaged byte is found and its image named.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.data.audit import count_workers
from praxiscope.data.cache_folders import HEADER, read_header
from praxiscope.errors import IntegrityError

PACK_VERSION = 1
"""Raise it when the same image would be packed into other pixels, or the files are laid out otherwise."""

IMAGES, INDEX = "images.bin", "index.npy"
INDEX_DTYPE = np.dtype(
    [
        ("sha256", "S64"),  # of the image's file, hex
        ("offset", "<i8"),  # of its first pixel in images.bin, bytes
        ("height", "<i4"),
        ("width", "<i4"),
        ("source_short", "<i4"),  # short side of the image itself, pixels
        ("crc32", "<u4"),  # of its pixels here
    ]
)
_CHANNELS = 3
_CHUNK = 512

ImageHWC = npt.NDArray[np.uint8]
Index = npt.NDArray[np.void]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Pack:
    """An opened pack. Whoever reads from it holds it; see :func:`praxiscope.data.pack.open_pack`."""

    folder: Path
    """Where it lies."""
    header: dict[str, Any]
    """The content of ``header.json``."""
    header_sha256: str
    """Sha256 (hex) of ``header.json``; another build of the same images has another."""
    index: Index
    """Of :data:`INDEX_DTYPE`, sorted by ``sha256``."""

    @property
    def short_side(self) -> int:
        """Pixels that no image's short side exceeds."""
        return int(self.header["short_side"])

    @property
    def num_bytes(self) -> int:
        """Size of the pixels of all images."""
        return int(self.header["num_bytes"])

    def covers(self, hashes: Sequence[str]) -> bool:
        """Whether it holds all of these images, by content hash."""
        return bool(np.isin(_to_bytes(hashes), self.index["sha256"]).all())

    def select(self, hashes: Sequence[str]) -> PackedRows:
        """Return the images with these content hashes, in this order.

        Raises:
            KeyError: It lacks one of them.
        """
        wanted = _to_bytes(hashes)
        places = np.searchsorted(self.index["sha256"], wanted)
        places = np.minimum(places, max(len(self.index) - 1, 0))
        absent = np.flatnonzero(self.index["sha256"][places] != wanted)
        if absent.size:
            raise KeyError(f"{self.folder} holds no image with sha256 {hashes[int(absent[0])]}")
        return PackedRows(
            folder=self.folder, header_sha256=self.header_sha256, places=places.astype(np.int64)
        )

    def compute_fingerprint(self, hashes: Sequence[str]) -> str:
        """Return the sha256 (hex) over the pixels that these images have here, in whatever order and pack."""
        rows = self.index[np.unique(self.select(hashes).places)]
        fields = np.ascontiguousarray(rows[["sha256", "height", "width", "crc32"]])
        digest = hashlib.sha256(f"{PACK_VERSION} {self.short_side}\n".encode())
        for row in fields.tolist():
            digest.update(repr(row).encode())
        return digest.hexdigest()

    def find_damaged(self, hashes: Sequence[str], *, progress: Progress | None = None) -> list[str]:
        """Return the content hashes of these images whose pixels are not what was packed.

        Args:
            hashes: Which images.
            progress: Told ``("checking the packed images", done, total)``.
        """
        rows = self.select(sorted(set(hashes)))
        damaged: list[str] = []
        with ThreadPoolExecutor(count_workers()) as pool:
            for start in range(0, len(rows.places), _CHUNK):
                places = rows.places[start : start + _CHUNK]
                sound = pool.map(rows.is_sound, range(start, start + len(places)))
                damaged += [
                    self.index["sha256"][place].decode()
                    for place, ok in zip(places, sound, strict=True)
                    if not ok
                ]
                if progress is not None:
                    progress("checking the packed images", start + len(places), len(rows.places))
        return damaged


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Some images of a pack in an order of their own: what a reader in any thread or process needs.

    Pickled, it is a path, a hash and the places; each process maps the files when it first reads.
    """

    folder: Path
    """Where the pack lies."""
    header_sha256: str
    """Of the pack's header: a pack that was replaced in between is refused."""
    places: npt.NDArray[np.int64]
    """Row of the index for each image, (N,)."""

    def __len__(self) -> int:
        return len(self.places)

    def read(self, row: int) -> ImageHWC:
        """Return an image: uint8, (H, W, 3), RGB, a read-only view of the file's pages.

        Raises:
            IntegrityError: The pack is gone, damaged, or another one.
        """
        mapped = _map_files(self.folder, self.header_sha256)
        entry = mapped.index[self.places[row]]
        offset, height, width = int(entry["offset"]), int(entry["height"]), int(entry["width"])
        pixels = mapped.pixels[offset : offset + height * width * _CHANNELS]
        return pixels.reshape(height, width, _CHANNELS)

    def is_sound(self, row: int) -> bool:
        """Whether an image's pixels are what was packed."""
        mapped = _map_files(self.folder, self.header_sha256)
        return zlib.crc32(self.read(row).data) == int(mapped.index["crc32"][self.places[row]])


@dataclass(frozen=True, kw_only=True)
class _Mapped:
    index: Index
    pixels: npt.NDArray[np.uint8]


@functools.lru_cache(maxsize=8)
def _map_files(folder: Path, header_sha256: str) -> _Mapped:
    pack = read_pack(folder)
    if pack.header_sha256 != header_sha256:
        raise IntegrityError(f"{folder} was replaced by another pack while it was in use; start again.")
    return _Mapped(index=pack.index, pixels=_map_pixels(folder, pack.num_bytes))


def _map_pixels(folder: Path, num_bytes: int) -> npt.NDArray[np.uint8]:
    if not num_bytes:  # nothing can't be mapped
        return np.empty(0, np.uint8)
    # A plain view: slicing a memmap object itself costs ten times as much.
    return np.memmap(folder / IMAGES, np.uint8, mode="r", shape=(num_bytes,)).view(np.ndarray)


def close_packs() -> None:
    """Let go of the files that this process has mapped; views that are still used stay valid."""
    _map_files.cache_clear()


def read_pack(folder: Path) -> Pack:
    """Open a pack and check everything but the pixels.

    Raises:
        IntegrityError: It is absent, of another version, or damaged: header, index, size of the pixels.
    """
    try:
        header = read_header(folder, "packs")
        if header["version"] != PACK_VERSION:
            raise IntegrityError(
                f"{folder} is a pack of version {header['version']}; this is {PACK_VERSION}."
            )
        content = (folder / INDEX).read_bytes()
        size = (folder / IMAGES).stat().st_size
        if hashlib.sha256(content).hexdigest() != header["index_sha256"]:
            raise IntegrityError(f"{folder / INDEX} is damaged: it is not what the header says.")
        if size != header["num_bytes"]:
            raise IntegrityError(
                f"{folder / IMAGES} is damaged: it holds {size:,} bytes instead of {header['num_bytes']:,}."
            )
        index = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, KeyError, ValueError) as problem:
        raise IntegrityError(
            f"{folder} is no intact pack ({type(problem).__name__}: {problem})."
        ) from problem
    sha256 = hashlib.sha256((folder / HEADER).read_bytes()).hexdigest()
    return Pack(folder=folder, header=header, header_sha256=sha256, index=index)


def _to_bytes(hashes: Sequence[str]) -> npt.NDArray[np.bytes_]:
    return np.array([each.encode() for each in hashes], dtype="S64")
