"""``data prepare``: look at every file, pack the images, and measure what the packing changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from praxiscope.data.audit import Progress
from praxiscope.data.build import build_manifest
from praxiscope.data.cache_folders import kind_folder
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample
from praxiscope.data.pack import PackLog, count_reduced, list_hashes, open_pack
from praxiscope.data.pack_reader import Pack
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.recipe.schema import DataSection
from praxiscope.runs.atomic import format_bytes
from praxiscope.stats.psnr import compute_psnr

_MEASURED_IMAGES = 200
_CROP_PCT = 0.875


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Evaluation crops from packed pixels beside those from the images themselves, in dB of PSNR."""

    num_images: int
    """That were compared, evenly spaced over the data."""
    num_equal: int
    """Whose crops are equal, byte for byte; they are not in the figures below."""
    mean: float | None
    """None where all are equal."""
    fifth_percentile: float | None
    """Likewise."""
    worst: float | None
    """Likewise."""

    def describe(self) -> str:
        """Return the figures in one sentence."""
        if self.mean is None:
            return f"evaluation crops equal those of the images themselves ({self.num_images} compared)"
        return (
            f"evaluation crops beside those of the images themselves: PSNR mean {self.mean:.1f} dB, 5th "
            f"percentile {self.fifth_percentile:.1f} dB, worst {self.worst:.1f} dB "
            f"({self.num_images} compared, {self.num_equal} equal)"
        )


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What ``data prepare`` did."""

    manifest: Manifest
    """The samples."""
    folder: Path
    """Of the pack."""
    made: bool
    """Whether the pack was made now; it was there otherwise."""
    likeness: Likeness
    """What packing changes."""
    lines: tuple[str, ...]
    """The same for a person."""


def prepare_data(
    root: Path | str,
    section: DataSection,
    *,
    seed: int = 0,
    out: Path | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> PrepareResult:
    """Look at every file of a data set and write a packed copy of its images.

    Args:
        root: The data folder; nothing is written to it.
        section: How to read and split it; ``pack`` is the short side in pixels, 256 where it has none.
        seed: Draws the splits that the data doesn't have.
        out: Cache folder to write to instead of the user's; ``PRAXISCOPE_CACHE`` then names it to training.
        max_pixels: Images that declare more are quarantined undecoded.
        progress: Called with (phase, done, total).

    Raises:
        UsageError: The folder doesn't exist, a field of `section` doesn't fit it, or `out` lies in it.
        DataError: The data can't be used.
        EnvironmentProblem: The disk has no room.
    """
    started = time.perf_counter()
    short_side = section.pack or 256
    manifest = build_manifest(root, section, seed=seed, progress=progress, max_pixels=max_pixels)
    manifest.require_usable()
    audited = time.perf_counter()
    log = PackLog()
    folder = kind_folder("packs") if out is None else out.expanduser().resolve() / "packs"
    with open_pack(
        manifest, short_side, folder=folder, max_pixels=max_pixels, progress=progress, log=log
    ) as pack:
        packed = time.perf_counter()
        likeness = measure_likeness(pack, manifest, max_pixels=max_pixels, progress=progress)
        usable = f"{manifest.usable(None).num_rows:,} of {manifest.table.num_rows:,} samples usable"
        reduced = f"{count_reduced(manifest, short_side):,} samples reduced to {short_side} px"
        lines = [
            f"{manifest.root}: {usable}, looked at in {audited - started:.1f} s",
            *log.notes,
            _describe_pack(pack, log, packed - audited),
            f"{reduced}, the others as large as they were",
            likeness.describe(),
            f"Pack: {pack.folder}",
        ]
        if out is not None:
            lines.append(f"Training finds it with PRAXISCOPE_CACHE={out}")
        return PrepareResult(
            manifest=manifest,
            folder=pack.folder,
            made=log.made,
            likeness=likeness,
            lines=(*lines, f"Use it: --set data.pack={short_side}"),
        )


def _describe_pack(pack: Pack, log: PackLog, seconds: float) -> str:
    count = f"{len(pack.index):,} images, {format_bytes(pack.num_bytes)}"
    if not log.made:
        return f"packed before: {count}, checked in {seconds:.1f} s"
    taken = f" ({log.num_taken_over:,} taken over from another pack)" if log.num_taken_over else ""
    return f"packed: {count}{taken}, in {seconds:.1f} s"


def measure_likeness(
    pack: Pack,
    manifest: Manifest,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> Likeness:
    """Compare evaluation crops from a pack with those from the images themselves.

    The crop is the usual one: the short side resized to the pack's size, 7/8 of it kept, bicubic.

    Args:
        pack: Held by the caller.
        manifest: The images.
        max_pixels: As in reading.
        progress: Told ``("measuring PSNR", done, total)``.
    """
    spec = InputSpec(img_size=round(pack.short_side * _CROP_PCT), crop_pct=_CROP_PCT)
    transform = EvalTransform(spec=spec)
    paths = manifest.usable(None)["path"].to_pylist()
    chosen = np.unique(np.linspace(0, len(paths) - 1, _MEASURED_IMAGES).astype(int))
    rows = pack.select(list_hashes(manifest))
    ratios = []
    for done, row in enumerate(chosen.tolist(), start=1):
        image = decode_sample(
            manifest.root, paths[row], target_size=transform.decode_size, max_pixels=max_pixels
        )
        ratios.append(compute_psnr(transform(image), transform(rows.read(row))))
        if progress is not None:
            progress("measuring PSNR", done, len(chosen))
    return summarise_likeness(ratios)


def summarise_likeness(ratios: list[float]) -> Likeness:
    """Return mean, 5th percentile and worst of some PSNRs in dB; infinite ones are counted apart."""
    values = np.array(ratios, dtype=float)
    finite = values[np.isfinite(values)]
    return Likeness(
        num_images=len(values),
        num_equal=int(len(values) - len(finite)),
        mean=float(finite.mean()) if finite.size else None,
        fifth_percentile=float(np.percentile(finite, 5)) if finite.size else None,
        worst=float(finite.min()) if finite.size else None,
    )
