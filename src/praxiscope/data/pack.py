"""A packed copy of images: decoded and reduced once, then read from memory-mapped pixels.

Decoding a photograph costs several times what a crop of it costs. A pack holds every image decoded and,
where it is larger, reduced so that its short side has N pixels; none is enlarged. It lies in the cache
folder, never in the user's data, and is keyed by the images' content: another split or other labels need no
new one. With further images a new pack is made, which takes over what another of the same size holds already.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL

from praxiscope.data.cache_folders import building, building_lock, hold, kind_folder
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.manifest import SPLITS, Manifest, quantify
from praxiscope.data.pack_reader import IMAGES, PACK_VERSION, Pack, Progress, close_packs, read_pack
from praxiscope.data.pack_writer import (
    FILTER,
    estimate_bytes,
    list_sources,
    require_free_space,
    write_pack,
)
from praxiscope.errors import IntegrityError, UsageError


@dataclass(kw_only=True)
class PackLog:
    """What happened while a pack was opened."""

    made: bool = False
    """Whether it was made now."""
    num_taken_over: int = 0
    """Images that came from another pack."""
    notes: list[str] = field(default_factory=list)
    """Sentences for a person."""


@contextlib.contextmanager
def open_pack(
    manifest: Manifest,
    short_side: int,
    *,
    splits: Sequence[str] = SPLITS,
    folder: Path | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
    log: PackLog | None = None,
) -> Iterator[Pack]:
    """Open the pack of a manifest's usable images, made when there is none, and hold it while the block runs.

    The pixels of ``splits`` are checked first; a damaged pack is made again, and ``log`` says so.

    Args:
        manifest: The images, of all splits.
        short_side: N, pixels.
        splits: Whose images will be read.
        folder: Where packs lie; in the cache folder where None.
        max_pixels: As :func:`praxiscope.data.images.read_image`.
        progress: Called with (phase, done, total).
        log: Told what happened.

    Raises:
        UsageError: Packs would lie in the user's data folder.
        DataError: An image can't be read, or is another than when the data was checked.
        EnvironmentProblem: The disk has no room, or a damaged pack is being read by another process.
    """
    shelf = _Shelf(
        manifest=manifest,
        short_side=short_side,
        folder=kind_folder("packs") if folder is None else folder,
        max_pixels=max_pixels,
        progress=progress,
        log=PackLog() if log is None else log,
    )
    needed = sorted({each for split in splits for each in list_hashes(manifest, split)})
    with contextlib.ExitStack() as held:
        held.callback(close_packs)
        pack = shelf.find(needed, held)
        if pack is None:
            with shelf.lock():
                pack = shelf.find(needed, held)  # another process may have made it while we waited
                if pack is None:
                    shelf.build()
                    held.enter_context(hold(shelf.target))
                    pack = read_pack(shelf.target)
        yield pack


def list_hashes(manifest: Manifest, split: str | None = None) -> list[str]:
    """Return the content hashes of a split's usable images (None: of all), by sample id."""
    hashes: list[str] = manifest.usable(split)["sha256"].to_pylist()
    return hashes


def count_reduced(manifest: Manifest, short_side: int) -> int:
    """Return how many usable images are larger than a pack of this size keeps them."""
    return int((_short_sides(manifest) > short_side).sum())


def _short_sides(manifest: Manifest) -> npt.NDArray[np.int64]:
    columns = manifest.usable(None).select(["width", "height"]).to_pydict()
    return np.minimum(np.array(columns["width"], np.int64), np.array(columns["height"], np.int64))


def refuse_enlarging(manifest: Manifest, short_side: int, resize_size: int) -> None:
    """Refuse an evaluation that would enlarge what the pack has reduced.

    Args:
        manifest: The images.
        short_side: N of the pack, pixels.
        resize_size: Short side that evaluation resizes images to, pixels.

    Raises:
        UsageError: Some images would lose detail; says which size of pack keeps it.
    """
    reduced = count_reduced(manifest, short_side)
    if resize_size <= short_side or not reduced:
        return
    raise UsageError(
        f"data.pack is {short_side}, and evaluation resizes the short side of images to {resize_size} px: "
        f"{quantify(reduced, 'image')} would be reduced for the pack and enlarged again. Set data.pack to "
        f"{resize_size}, or leave it out."
    )


def describe_training_loss(manifest: Manifest, short_side: int, decode_size: int) -> str | None:
    """Say what training crops lose to a pack, where they lose something.

    Args:
        manifest: The images.
        short_side: N of the pack, pixels.
        decode_size: Short side that training would decode images to, pixels.
    """
    reduced = count_reduced(manifest, short_side)
    if decode_size <= short_side or not reduced:
        return None
    enough = min(decode_size, int(_short_sides(manifest).max()))
    return (
        f"data.pack is {short_side}: training crops of {quantify(reduced, 'image')} are cut from a short "
        f"side of {short_side} px instead of up to {enough} px, so small ones are softer. "
        f"data.pack={enough} loses nothing."
    )


@dataclass(frozen=True, kw_only=True)
class _Shelf:
    """Where a manifest's pack is looked for and made."""

    manifest: Manifest
    short_side: int
    folder: Path
    max_pixels: int
    progress: Progress | None
    log: PackLog

    @property
    def target(self) -> Path:
        """Folder of the pack of exactly these images."""
        hashes = sorted(set(list_hashes(self.manifest)))
        key = hashlib.sha256("\n".join([str(PACK_VERSION), FILTER, *hashes]).encode()).hexdigest()
        return self.folder / f"{self.short_side}px-{key[:16]}"

    def find(self, needed: Sequence[str], held: contextlib.ExitStack) -> Pack | None:
        """Return a sound pack of all usable images, held; one that has others besides is as good."""
        everything = list_hashes(self.manifest)
        for folder in self._list_candidates():
            with contextlib.ExitStack() as stack:
                stack.enter_context(hold(folder))
                try:
                    pack = read_pack(folder)
                    if not pack.covers(everything):
                        continue
                    self._check(pack, needed)
                except IntegrityError as problem:
                    close_packs()
                    self._note(f"{problem} Another copy is used or made.")
                    continue
                held.enter_context(stack.pop_all())
                return pack
        return None

    def _list_candidates(self) -> list[Path]:
        """Return folders of packs of this size, that of exactly these images first."""
        others = self.folder.glob(f"{self.short_side}px-*") if self.folder.is_dir() else ()
        return sorted(others, key=lambda path: (path != self.target, path.name))

    def _check(self, pack: Pack, needed: Sequence[str]) -> None:
        if damaged := pack.find_damaged(needed, progress=self.progress):
            raise IntegrityError(
                f"{pack.folder / IMAGES} is damaged: the pixels of {quantify(len(damaged), 'image')} are not "
                f"what was packed (the first has sha256 {damaged[0][:12]})."
            )

    def _note(self, text: str) -> None:
        if text not in self.log.notes:
            self.log.notes.append(text)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from making the same pack.

        Raises:
            UsageError: It would lie in the user's data folder, which is never written to.
        """
        if self.folder.resolve().is_relative_to(self.manifest.root.resolve()):
            raise UsageError(
                f"Packed images would be written to {self.folder}, which lies in the data folder "
                f"{self.manifest.root}; let PRAXISCOPE_CACHE (or --out) name a folder outside."
            )
        with building_lock(self.target):
            yield

    def build(self) -> None:
        """Make the pack; the caller has the lock."""
        sources = list_sources(self.manifest)
        require_free_space(self.target.parent, estimate_bytes(sources, self.short_side))
        with contextlib.ExitStack() as stack, building(self.target) as aside:
            self.log.num_taken_over = write_pack(
                aside,
                self.manifest.root,
                sources,
                self.short_side,
                max_pixels=self.max_pixels,
                donors=self._open_donors(stack),
                progress=self.progress,
            )
            close_packs()  # Windows can't replace a folder whose files are mapped
        self.log.made = True

    def _open_donors(self, stack: contextlib.ExitStack) -> list[Pack]:
        """Return packs whose pixels are those that would be made now."""
        donors = []
        for folder in self._list_candidates():
            if folder == self.target:
                continue
            stack.enter_context(hold(folder))
            with contextlib.suppress(IntegrityError):
                pack = read_pack(folder)
                if pack.header["pillow"] == PIL.__version__ and pack.header["filter"] == FILTER:
                    donors.append(pack)
        return donors
