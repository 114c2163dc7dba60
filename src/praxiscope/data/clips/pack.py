"""A packed copy of clips: the frames that sampling may draw, decoded and reduced once.

Decoding eight frames out of a video costs many times what reading them from a pack costs. The pack lies in
the cache folder and is keyed by the clips' content, so deleting it changes nothing but time. It holds

- with ``clip.sampling: uniform`` exactly the frames that training and evaluation take (T of each clip, more
  with several views), since nothing is drawn there,
- otherwise, and when ``praxiscope data prepare`` makes it, every frame of every clip.

A pack that holds more than is needed serves as well. A clip that is damaged or other than when the data was
checked ends the packing by name; a build that was interrupted leaves nothing that could be taken for a pack.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from praxiscope.data.audit import Progress, count_workers
from praxiscope.data.cache_folders import building, building_lock, hold, kind_folder, write_header
from praxiscope.data.clips.audit import verify_clips
from praxiscope.data.clips.frames import Decoder, read_frames
from praxiscope.data.clips.pack_reader import (
    FRAMES,
    INDEX,
    INDEX_DTYPE,
    PACK_VERSION,
    ClipPack,
    Needs,
    PackFormat,
    close_clip_packs,
    read_clip_pack,
)
from praxiscope.data.clips.sampling import list_drawable
from praxiscope.data.images import DEFAULT_MAX_PIXELS, ImageUnreadable
from praxiscope.data.manifest import SPLITS, Manifest, quantify
from praxiscope.data.pack import PackLog
from praxiscope.data.pack_writer import (
    FILTER,
    compute_packed_size,
    naming_full_disk,
    reduce_image,
    require_free_space,
    write_index,
)
from praxiscope.errors import DataError, IntegrityError, UsageError
from praxiscope.recipe.schema import ClipSection

JPEG_QUALITY = 95
_JPEG_SHARE = 0.2
"""Of the bytes of the pixels: what JPEGs of this quality were seen to take at most, for the space needed."""
_CHUNK_BYTES = 128 << 20


@dataclass(frozen=True, kw_only=True)
class ClipPackSpec:
    """What a pack of clips is to be.

    Attributes:
        short_side: pixels; no frame is enlarged.
        num_frames: T, which ``uniform`` sampling needs alone; None for every frame.
        section: sampling, ``pack_format`` and ``decoder``.
        max_pixels: cap on width x height of a frame.
    """

    short_side: int
    num_frames: int | None = None
    section: ClipSection
    max_pixels: int = DEFAULT_MAX_PIXELS

    @property
    def format(self) -> PackFormat:
        """How frames are stored."""
        return self.section.pack_format

    @property
    def decoder(self) -> Decoder:
        """What decodes videos."""
        return self.section.decoder

    def list_needs(self, manifest: Manifest, split: str | None = None) -> Needs:
        """Return the frames that sampling may draw of a split's usable clips (None: of all)."""
        columns = manifest.usable(split).select(["sha256", "num_frames"]).to_pydict()
        return {
            sha256: list_drawable(count, self.num_frames, self.section)
            for sha256, count in zip(columns["sha256"], columns["num_frames"], strict=True)
        }


@contextlib.contextmanager
def open_clip_pack(
    manifest: Manifest,
    spec: ClipPackSpec,
    *,
    splits: Sequence[str] = SPLITS,
    folder: Path | None = None,
    progress: Progress | None = None,
    log: PackLog | None = None,
) -> Iterator[ClipPack]:
    """Open the pack of a manifest's usable clips, made when there is none, and hold it while the block runs.

    The frames of ``splits`` are checked first; a damaged pack is made again, and ``log`` says so.

    Args:
        manifest: The clips, of all splits.
        spec: What to pack.
        splits: Whose clips will be read.
        folder: Where packs lie; in the cache folder where None.
        progress: Called with (phase, done, total).
        log: Told what happened.

    Raises:
        UsageError: Packs would lie in the user's data folder.
        DataError: A clip can't be read, or is another than when the data was checked.
        EnvironmentProblem: The disk has no room, or a damaged pack is being read by another process.
    """
    shelf = _Shelf(
        manifest=manifest,
        spec=spec,
        folder=kind_folder("packs") if folder is None else folder,
        progress=progress,
        log=PackLog() if log is None else log,
    )
    checked = sorted({sha256 for split in splits for sha256 in spec.list_needs(manifest, split)})
    with contextlib.ExitStack() as held:
        held.callback(close_clip_packs)
        pack = shelf.find(checked, held)
        if pack is None:
            with shelf.lock():
                pack = shelf.find(checked, held)  # another process may have made it while we waited
                if pack is None:
                    shelf.build()
                    held.enter_context(hold(shelf.target))
                    pack = read_clip_pack(shelf.target, shelf.needs)
        yield pack


class _Shelf:
    """Where a manifest's pack is looked for and made."""

    def __init__(
        self, *, manifest: Manifest, spec: ClipPackSpec, folder: Path, progress: Progress | None, log: PackLog
    ) -> None:
        self.manifest, self.spec, self.folder = manifest, spec, folder
        self.progress, self.log = progress, log
        self.needs = spec.list_needs(manifest)
        self.prefix = f"clips-{spec.short_side}px-{spec.format}-{spec.decoder}-"
        digest = hashlib.sha256(f"{PACK_VERSION} {FILTER} {JPEG_QUALITY}\n".encode())
        for sha256 in sorted(self.needs):
            digest.update(f"{sha256} {self.needs[sha256].tolist()}\n".encode())
        self.target = folder / f"{self.prefix}{digest.hexdigest()[:16]}"

    def find(self, checked: Sequence[str], held: contextlib.ExitStack) -> ClipPack | None:
        """Return a sound pack of all needed frames, held; one that has others besides is as good."""
        others = self.folder.glob(f"{self.prefix}*") if self.folder.is_dir() else ()
        for folder in sorted(others, key=lambda path: (path != self.target, path.name)):
            with contextlib.ExitStack() as stack:
                stack.enter_context(hold(folder))
                try:
                    pack = read_clip_pack(folder, self.needs)
                    if not pack.covers(self.needs):
                        continue
                    self._check(pack, checked)
                except IntegrityError as problem:
                    close_clip_packs()
                    text = f"{problem} Another copy is used or made."
                    self.log.notes += [] if text in self.log.notes else [text]
                    continue
                held.enter_context(stack.pop_all())
                return pack
        return None

    def _check(self, pack: ClipPack, checked: Sequence[str]) -> None:
        if damaged := pack.find_damaged(checked, progress=self.progress):
            raise IntegrityError(
                f"{pack.folder / FRAMES} is damaged: frames of {quantify(len(damaged), 'clip')} are not what "
                f"was packed (the first has sha256 {damaged[0][:12]})."
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from making the same pack.

        Raises:
            UsageError: It would lie in the user's data folder, which is never written to.
        """
        if self.folder.resolve().is_relative_to(self.manifest.root.resolve()):
            raise UsageError(
                f"Packed clips would be written to {self.folder}, which lies in the data folder "
                f"{self.manifest.root}; let PRAXISCOPE_CACHE (or --out) name a folder outside."
            )
        with building_lock(self.target):
            yield

    def build(self) -> None:
        """Make the pack; the caller has the lock.

        Raises:
            DataError: A clip is gone, changed or unreadable.
        """
        needed = estimate_clip_bytes(self.manifest, self.spec, self.needs)
        require_free_space(self.target.parent, needed)
        if changed := verify_clips(self.manifest, progress=self.progress):
            raise DataError(
                f"{quantify(len(changed), 'clip')} of {self.manifest.root} can't be packed: {changed[0]}. "
                "Look at them with `praxiscope data check`."
            )
        with building(self.target) as aside:
            with naming_full_disk(aside, needed):
                _write_pack(aside, self.manifest, self.spec, self.needs, self.progress)
            close_clip_packs()  # Windows can't replace a folder whose files are mapped
        self.log.made = True


def estimate_clip_bytes(manifest: Manifest, spec: ClipPackSpec, needs: Needs) -> int:
    """Return the bytes that a pack of these frames takes on the disk; as JPEG at most, if ordinary."""
    total, share = 0, _JPEG_SHARE if spec.format == "jpeg" else 1.0
    columns = manifest.usable(None).select(["sha256", "width", "height"]).to_pydict()
    sides: list[tuple[int, int]] = list(zip(columns["width"], columns["height"], strict=True))
    sizes = dict(zip(columns["sha256"], sides, strict=True))
    for sha256, frames in needs.items():
        width, height = compute_packed_size(sizes[sha256][0], sizes[sha256][1], spec.short_side)
        total += round(len(frames) * (share * 3 * width * height + INDEX_DTYPE.itemsize))
    return total


def _write_pack(
    aside: Path, manifest: Manifest, spec: ClipPackSpec, needs: Needs, progress: Progress | None
) -> None:
    rows = {row["sha256"]: row for row in manifest.usable(None).to_pylist()}
    order = list(rows)
    index: list[tuple[object, ...]] = []
    workers = count_workers()
    with (aside / FRAMES).open("xb") as stream, ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(order), workers):
            part = order[start : start + workers]
            packed = pool.map(lambda each: _pack_clip(manifest.root, rows[each], spec, needs[each]), part)
            for sha256, frames in zip(part, packed, strict=True):
                for number, (content, height, width) in zip(needs[sha256].tolist(), frames, strict=True):
                    place = (sha256.encode(), number, stream.tell(), len(content), height, width)
                    index.append((*place, zlib.crc32(content)))
                    stream.write(content)
            if progress is not None:
                progress("packing clips", start + len(part), len(order))
        stream.flush()
        os.fsync(stream.fileno())
        num_bytes = stream.tell()
    table = np.sort(np.array(index, INDEX_DTYPE), order=["sha256", "frame"])
    index_sha256 = write_index(aside / INDEX, table)
    write_header(aside, "packs", {
        "content": "clips", "version": PACK_VERSION, "short_side": spec.short_side, "filter": FILTER,
        "stored_as": spec.format, "quality": JPEG_QUALITY if spec.format == "jpeg" else None,
        "decoder": spec.decoder, "pillow": PIL.__version__, **_describe_decoder(), "num_clips": len(order),
        "num_frames": len(table), "num_bytes": num_bytes, "index_sha256": index_sha256,
        "build": secrets.token_hex(8), "root": str(manifest.root),
    })  # fmt: skip


def _describe_decoder() -> dict[str, str]:
    import av

    return {"av": av.__version__, "libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}


def _pack_clip(
    root: Path, row: dict[str, Any], spec: ClipPackSpec, frames: Any
) -> list[tuple[bytes, int, int]]:
    """Return (bytes, height, width) of each frame."""
    chunk = max(8, _CHUNK_BYTES // (3 * row["width"] * row["height"]))
    numbers = (frames + row["first_frame"]).tolist()
    packed = []
    try:
        for start in range(0, len(numbers), chunk):
            images = read_frames(
                root / row["path"],
                numbers[start : start + chunk],
                target_size=spec.short_side,
                max_pixels=spec.max_pixels,
                decoder=spec.decoder,
            )
            packed += [_store(image, spec) for image in images]
    except (ImageUnreadable, OSError) as problem:
        raise DataError(
            f"{row['sample_id']!r} in {root} was sound when the data was checked and can't be packed now: "
            f"{problem}. Look at it with `praxiscope data check`."
        ) from problem
    return packed


def _store(image: Image.Image, spec: ClipPackSpec) -> tuple[bytes, int, int]:
    reduced = reduce_image(image, compute_packed_size(*image.size, spec.short_side))
    if spec.format == "uint8":
        return reduced.tobytes(), reduced.height, reduced.width
    stream = BytesIO()
    reduced.save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue(), reduced.height, reduced.width
