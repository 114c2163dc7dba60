"""Reading a packed copy of clips' frames: memory-mapped, opened once in each process.

A pack of clips is a folder of three files, beside the packs of images:

===============  ==========================================================================================
``frames.bin``   frames behind one another, clip by clip: uint8 RGB (H, W, 3), or JPEGs
``index.npy``    one row a frame, sorted by clip and frame: :data:`INDEX_DTYPE`
``header.json``  format, short side, filter, Pillow's and PyAV's versions, counts, sha256 of ``index.npy``
===============  ==========================================================================================

The index holds a CRC-32 of each frame, so a damaged byte is found and its clip named.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.audit import Progress, count_workers
from praxiscope.data.cache_folders import HEADER, read_header
from praxiscope.data.images import decode_image
from praxiscope.errors import IntegrityError

PACK_VERSION = 1
"""Raise it when the same clip would be packed into other bytes, or the files are laid out otherwise."""

PackFormat = Literal["uint8", "jpeg"]
FRAMES, INDEX = "frames.bin", "index.npy"
INDEX_DTYPE = np.dtype(
    [
        ("sha256", "S64"),  # identity of the clip, hex
        ("frame", "<i4"),  # of the clip, from 0
        ("offset", "<i8"),  # of its first byte in frames.bin
        ("size", "<i8"),  # bytes there
        ("height", "<i4"),
        ("width", "<i4"),
        ("crc32", "<u4"),  # of its bytes there
    ]
)
_CHUNK = 64

Needs = Mapping[str, npt.NDArray[np.int64]]
"""Frames of each clip by the clip's identity, ascending from 0."""


@dataclass(frozen=True, kw_only=True)
class ClipPack:
    """An opened pack of clips; see :func:`praxiscope.data.clips.pack.open_clip_pack`."""

    folder: Path
    """Where it lies."""
    header: dict[str, Any]
    """The content of ``header.json``."""
    header_sha256: str
    """Sha256 (hex) of ``header.json``; another build of the same clips has another."""
    index: npt.NDArray[np.void]
    """Of :data:`INDEX_DTYPE`, sorted by ``sha256`` and ``frame``."""
    needs: Needs
    """The frames that whoever opened it may ask for."""

    @property
    def short_side(self) -> int:
        """Pixels that no frame's short side exceeds."""
        return int(self.header["short_side"])

    @property
    def num_bytes(self) -> int:
        """Size of all frames."""
        return int(self.header["num_bytes"])

    def covers(self, needs: Needs) -> bool:
        """Whether it holds all of these frames."""
        for sha256, frames in needs.items():
            start, stop = self._find(sha256)
            if not np.isin(frames, self.index["frame"][start:stop]).all():
                return False
        return True

    def _find(self, sha256: str) -> tuple[int, int]:
        key = np.bytes_(sha256.encode())
        column = self.index["sha256"]
        return int(np.searchsorted(column, key)), int(np.searchsorted(column, key, side="right"))

    def select(self, hashes: Sequence[str]) -> PackedClips:
        """Return the clips of these identities, in this order.

        Raises:
            KeyError: It lacks one of them.
        """
        bounds = np.array([self._find(each) for each in hashes], np.int64).reshape(-1, 2)
        absent = np.flatnonzero(bounds[:, 0] == bounds[:, 1])
        if absent.size:
            raise KeyError(f"{self.folder} holds no clip with sha256 {hashes[int(absent[0])]}")
        return PackedClips(folder=self.folder, header_sha256=self.header_sha256, bounds=bounds)

    def compute_fingerprint(self, hashes: Sequence[str]) -> str:
        """Return the sha256 (hex) over the frames of these clips that are needed, in whatever pack."""
        fields = [self.header[key] for key in ("short_side", "stored_as", "quality")]
        digest = hashlib.sha256(f"{PACK_VERSION} {fields}\n".encode())
        for sha256 in sorted(set(hashes)):
            rows = self.index[self._rows(sha256)][["sha256", "frame", "height", "width", "crc32"]]
            for row in rows.tolist():
                digest.update(repr(row).encode())
        return digest.hexdigest()

    def _rows(self, sha256: str) -> npt.NDArray[np.int64]:
        """Return the index's rows of a clip's needed frames."""
        start, stop = self._find(sha256)
        frames = self.index["frame"][start:stop]
        return start + np.flatnonzero(np.isin(frames, self.needs[sha256]))

    def find_damaged(self, hashes: Sequence[str], *, progress: Progress | None = None) -> list[str]:
        """Return the identities of these clips some of whose needed frames are not what was packed.

        Args:
            hashes: Which clips.
            progress: Told ``("checking the packed clips", done, total)``.
        """
        chosen = sorted(set(hashes))
        damaged: list[str] = []
        with ThreadPoolExecutor(count_workers()) as pool:
            for start in range(0, len(chosen), _CHUNK):
                part = chosen[start : start + _CHUNK]
                damaged += [
                    each for each, ok in zip(part, pool.map(self._is_sound, part), strict=True) if not ok
                ]
                if progress is not None:
                    progress("checking the packed clips", start + len(part), len(chosen))
        return damaged

    def _is_sound(self, sha256: str) -> bool:
        mapped = _map_files(self.folder, self.header_sha256)
        return all(
            zlib.crc32(mapped.read_bytes(place).data) == int(mapped.index["crc32"][place])
            for place in self._rows(sha256).tolist()
        )


@dataclass(frozen=True, kw_only=True)
class PackedClips:
    """Some clips of a pack in an order of their own: what a reader in any thread or process needs.

    Pickled, it is a path, a hash and the places; each process maps the files when it first reads.
    """

    folder: Path
    """Where the pack lies."""
    header_sha256: str
    """Of the pack's header: a pack that was replaced in between is refused."""
    bounds: npt.NDArray[np.int64]
    """First row of the index for each clip, and the one behind its last, (N, 2)."""

    def __len__(self) -> int:
        return len(self.bounds)

    def read(self, row: int, frames: Sequence[int]) -> list[npt.NDArray[np.uint8] | Image.Image]:
        """Return frames of a clip: uint8 (H, W, 3) RGB, views of the file's pages; or decoded JPEGs.

        Raises:
            IntegrityError: The pack is gone, damaged, another one, or lacks one of the frames.
        """
        mapped = _map_files(self.folder, self.header_sha256)
        start, stop = self.bounds[row].tolist()
        held = mapped.index["frame"][start:stop]
        places = np.searchsorted(held, frames)
        if not np.array_equal(held[np.minimum(places, len(held) - 1)], frames):
            raise IntegrityError(f"{self.folder} lacks frames of a clip that sampling draws; start again.")
        return [mapped.read(start + place) for place in places.tolist()]


@dataclass(frozen=True, kw_only=True)
class _Mapped:
    index: npt.NDArray[np.void]
    content: npt.NDArray[np.uint8]
    is_jpeg: bool

    def read_bytes(self, place: int) -> npt.NDArray[np.uint8]:
        row = self.index[place]
        return self.content[int(row["offset"]) : int(row["offset"]) + int(row["size"])]

    def read(self, place: int) -> npt.NDArray[np.uint8] | Image.Image:
        stored = self.read_bytes(place)
        if self.is_jpeg:
            return decode_image(stored.tobytes())
        row = self.index[place]
        return stored.reshape(int(row["height"]), int(row["width"]), 3)


@functools.lru_cache(maxsize=8)
def _map_files(folder: Path, header_sha256: str) -> _Mapped:
    pack = read_clip_pack(folder)
    if pack.header_sha256 != header_sha256:
        raise IntegrityError(f"{folder} was replaced by another pack while it was in use; start again.")
    content: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
    if pack.num_bytes:  # nothing can't be mapped
        content = np.memmap(folder / FRAMES, np.uint8, mode="r", shape=(pack.num_bytes,)).view(np.ndarray)
    return _Mapped(index=pack.index, content=content, is_jpeg=pack.header["stored_as"] == "jpeg")


def close_clip_packs() -> None:
    """Let go of the files that this process has mapped; views that are still used stay valid."""
    _map_files.cache_clear()


def read_clip_pack(folder: Path, needs: Needs | None = None) -> ClipPack:
    """Open a pack and check everything but the frames.

    Args:
        folder: Of the pack.
        needs: The frames that it is opened for.

    Raises:
        IntegrityError: It is absent, of another version, or damaged: header, index, size of the frames.
    """
    try:
        header = read_header(folder, "packs")
        if header.get("content") != "clips" or header["version"] != PACK_VERSION:
            raise IntegrityError(f"{folder} is no pack of clips of version {PACK_VERSION}.")
        content = (folder / INDEX).read_bytes()
        size = (folder / FRAMES).stat().st_size
        if hashlib.sha256(content).hexdigest() != header["index_sha256"]:
            raise IntegrityError(f"{folder / INDEX} is damaged: it is not what the header says.")
        if size != header["num_bytes"]:
            raise IntegrityError(
                f"{folder / FRAMES} is damaged: it holds {size:,} bytes instead of {header['num_bytes']:,}."
            )
        index = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, KeyError, ValueError) as problem:
        raise IntegrityError(
            f"{folder} is no intact pack ({type(problem).__name__}: {problem})."
        ) from problem
    sha256 = hashlib.sha256((folder / HEADER).read_bytes()).hexdigest()
    return ClipPack(folder=folder, header=header, header_sha256=sha256, index=index, needs=needs or {})
