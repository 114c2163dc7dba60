"""Making a packed copy of images; :mod:`praxiscope.data.pack` decides when."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import PIL
from PIL import Image

from praxiscope.data.audit import count_workers
from praxiscope.data.cache_folders import write_header
from praxiscope.data.images import ImageUnreadable, check_size, decode_image
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import dump_pixels, load_sample
from praxiscope.data.pack_reader import (
    IMAGES,
    INDEX,
    INDEX_DTYPE,
    PACK_VERSION,
    ImageHWC,
    Pack,
    PackedRows,
    Progress,
)
from praxiscope.errors import DataError, EnvironmentProblem

FILTER = "bicubic"
"""Pillow's antialiased filter that reduces images."""

_REDUCING_GAP = 3.0  # as in the evaluation transform, so that both reduce alike
_CHUNK = 128
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class PackSource(NamedTuple):
    """One image to pack, of a data folder."""

    path: str
    """The manifest's ``path``."""
    sha256: str
    """Content hash that it must have, hex."""
    width: int
    """Upright, pixels."""
    height: int
    """Likewise."""

    @property
    def short_side(self) -> int:
        """Pixels of the image itself."""
        return min(self.width, self.height)


def list_sources(manifest: Manifest) -> list[PackSource]:
    """Return the usable images of a manifest in its order, each content once."""
    columns = manifest.usable(None).select(["path", "sha256", "width", "height"]).to_pydict()
    found: dict[str, PackSource] = {}
    for row in zip(*columns.values(), strict=True):
        source = PackSource(*row)
        found.setdefault(source.sha256, source)
    return list(found.values())


def compute_packed_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return (width, height) of the packed copy of an image.

    The short side becomes ``short_side``; an image that is smaller stays as it is. The long side is cut to a
    whole number of pixels at the same scale, as many left as right, such that a centred crop of the packed
    copy falls on whole pixels; less than two of its pixels are lost.

    >>> compute_packed_size(500, 375, 256), compute_packed_size(180, 275, 256)
    ((340, 256), (180, 275))
    """
    short, long = sorted((width, height))
    if short <= short_side:
        return width, height
    reduced = short_side + 2 * ((long * short_side // short - short_side) // 2)
    return (short_side, reduced) if width < height else (reduced, short_side)


def reduce_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image to its packed size with an antialiased bicubic filter.

    Args:
        image: RGB; a JPEG may come decoded at a smaller scale, but not smaller than ``size``.
        size: (width, height), as :func:`compute_packed_size` gives it.
    """
    if image.size == size:
        return image
    scale = min(image.size) / min(size)
    spans = [min(scale * packed, length) for packed, length in zip(size, image.size, strict=True)]
    left, top = ((length - span) / 2 for length, span in zip(image.size, spans, strict=True))
    box = (left, top, left + spans[0], top + spans[1])
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=_REDUCING_GAP)


def pack_image(root: Path, source: PackSource, short_side: int, *, max_pixels: int) -> ImageHWC:
    """Return an image's packed pixels: uint8, (H, W, 3), RGB.

    Raises:
        DataError: It can't be read, or is another image than when the data was checked.
    """
    size = compute_packed_size(source.width, source.height, short_side)
    try:
        image = _decode_checked(root, source, short_side, max_pixels)
    except (ImageUnreadable, OSError) as problem:
        raise DataError(
            f"{str(root / source.path)!r} was sound when the data was checked and can't be packed now: "
            f"{problem}. Look at it with `praxiscope data check`."
        ) from problem
    return np.asarray(reduce_image(image, size))


def _decode_checked(root: Path, source: PackSource, short_side: int, max_pixels: int) -> Image.Image:
    content = load_sample(root, source.path)
    if isinstance(content, Path):
        content = content.read_bytes()
    data = dump_pixels(content) if isinstance(content, np.ndarray) else content
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise ImageUnreadable("its content is another")
    if isinstance(content, np.ndarray):
        check_size((content.shape[1], content.shape[0]), max_pixels)
        return Image.fromarray(content).convert("RGB")
    return decode_image(content, target_size=short_side, max_pixels=max_pixels)


def write_pack(
    aside: Path,
    root: Path,
    sources: Sequence[PackSource],
    short_side: int,
    *,
    max_pixels: int,
    donors: Sequence[Pack] = (),
    progress: Progress | None = None,
) -> int:
    """Write a pack's files into an empty folder, flushed to the disk, the header last.

    Args:
        aside: Gets the files.
        root: Data folder.
        sources: What to pack, in the order that it is laid down in.
        short_side: N, pixels.
        max_pixels: As :func:`praxiscope.data.images.read_image`.
        donors: Packs of the same size, whose images are taken over where they are sound.
        progress: Told ``("packing images", done, total)``.

    Returns:
        How many images were taken over.

    Raises:
        DataError: An image can't be read, or is another than when the data was checked.
        EnvironmentProblem: The disk has no room.
    """
    needed = estimate_bytes(sources, short_side)
    known = _index_donors(donors)
    index = np.zeros(len(sources), INDEX_DTYPE)
    taken = 0
    with naming_full_disk(aside, needed), (aside / IMAGES).open("xb") as stream:
        for start in range(0, len(sources), _CHUNK):
            chunk = sources[start : start + _CHUNK]
            with ThreadPoolExecutor(count_workers()) as pool:
                packed = pool.map(
                    lambda source: (
                        _take_over(known, source)
                        or (pack_image(root, source, short_side, max_pixels=max_pixels), False)
                    ),
                    chunk,
                )
                for place, (source, (pixels, was_known)) in enumerate(
                    zip(chunk, packed, strict=True), start=start
                ):
                    index[place] = _append(stream, source, pixels)
                    taken += was_known
            if progress is not None:
                progress("packing images", start + len(chunk), len(sources))
        stream.flush()
        os.fsync(stream.fileno())
        num_bytes = stream.tell()
    with naming_full_disk(aside, needed):
        index_sha256 = write_index(aside / INDEX, np.sort(index, order="sha256"))
        write_header(aside, "packs", {
            "version": PACK_VERSION, "short_side": short_side, "filter": FILTER, "pillow": PIL.__version__,
            "num_images": len(sources), "num_bytes": num_bytes, "index_sha256": index_sha256,
            "build": secrets.token_hex(8), "root": str(root),
        })  # fmt: skip
    return taken


def estimate_bytes(sources: Sequence[PackSource], short_side: int) -> int:
    """Return the bytes that a pack of these images takes on the disk."""
    sizes = (compute_packed_size(source.width, source.height, short_side) for source in sources)
    return sum(3 * width * height for width, height in sizes) + (len(sources) + 2) * INDEX_DTYPE.itemsize


def _append(stream: IO[bytes], source: PackSource, pixels: ImageHWC) -> tuple[object, ...]:
    offset = stream.tell()
    content = np.ascontiguousarray(pixels)
    stream.write(content.data)
    height, width, _ = content.shape
    return source.sha256.encode(), offset, height, width, source.short_side, zlib.crc32(content.data)


def _index_donors(donors: Sequence[Pack]) -> Mapping[str, tuple[PackedRows, int]]:
    known: dict[str, tuple[PackedRows, int]] = {}
    for pack in donors:
        hashes = [each.decode() for each in pack.index["sha256"].tolist()]
        rows = pack.select(hashes)
        known |= {sha256: (rows, row) for row, sha256 in enumerate(hashes)}
    return known


def _take_over(
    known: Mapping[str, tuple[PackedRows, int]], source: PackSource
) -> tuple[ImageHWC, bool] | None:
    """Return an image's pixels from another pack that holds them undamaged."""
    if source.sha256 not in known:
        return None
    rows, row = known[source.sha256]
    return (rows.read(row), True) if rows.is_sound(row) else None


def write_index(path: Path, index: np.ndarray[tuple[int], np.dtype[np.void]]) -> str:
    """Write a pack's index, flushed to the disk; return its sha256 (hex)."""
    with path.open("x+b") as stream:
        np.save(stream, index, allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_free_space(folder: Path, needed: int) -> None:
    """Check that a folder's file system has room.

    Raises:
        EnvironmentProblem: It has not; names needed, free and path.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentProblem(_describe_full(folder, needed))


@contextlib.contextmanager
def naming_full_disk(folder: Path, needed: int) -> Iterator[None]:
    """Turn a full disk into an :class:`EnvironmentProblem` that names needed, free and path."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in _FULL:
            raise
        raise EnvironmentProblem(_describe_full(folder, needed)) from problem


def _describe_full(folder: Path, needed: int) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"A packed copy of the data needs {needed / 2**20:,.1f} MiB in {folder}, and "
        f"{free / 2**20:,.1f} MiB are free. Free some (`praxiscope cache trim --max-gib 10`), let "
        "PRAXISCOPE_CACHE name a folder on another disk, or take a smaller data.pack."
    )
