"""``data prepare``: look at every file, pack the images, and measure what the packing changes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.audit import Progress
from praxiscope.data.build import build_manifest
from praxiscope.data.cache_folders import kind_folder
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.pack import ClipPackSpec, open_clip_pack
from praxiscope.data.clips.pack_reader import ClipPack
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample
from praxiscope.data.pack import PackLog, count_reduced, open_pack
from praxiscope.data.pack_reader import Pack
from praxiscope.data.transforms import EvalTransform, InputSpec
from praxiscope.recipe.schema import ClipSection, DataSection
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


def prepare_data(  # noqa: PLR0913 - what a command has
    root: Path | str,
    section: DataSection,
    *,
    clip: ClipSection | None = None,
    num_frames: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    progress: Progress | None = None,
) -> PrepareResult:
    """Look at every file of a data set and write a packed copy of its images.

    Args:
        root: The data folder; nothing is written to it.
        section: How to read and split it; ``pack`` is the short side in pixels, 256 where it has none.
        clip: How clips are sampled and stored.
        num_frames: T; every frame of a clip is packed where None, else those that sampling may draw.
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
    clip = clip or ClipSection()
    manifest = build_manifest(root, section, seed=seed, clip=clip, progress=progress, max_pixels=max_pixels)
    manifest.require_usable()
    audited = time.perf_counter()
    log = PackLog()
    folder = kind_folder("packs") if out is None else out.expanduser().resolve() / "packs"
    opened: AbstractContextManager[Pack | ClipPack] = open_pack(
        manifest, short_side, folder=folder, max_pixels=max_pixels, progress=progress, log=log
    )
    if manifest.holds_clips:
        spec = ClipPackSpec(short_side=short_side, num_frames=num_frames, section=clip, max_pixels=max_pixels)
        opened = open_clip_pack(manifest, spec, folder=folder, progress=progress, log=log)
    with opened as pack:
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
            lines=(*lines, f"Use it: --set data.pack={short_side}{_list_settings(clip, manifest)}"),
        )


def _list_settings(clip: ClipSection, manifest: Manifest) -> str:
    """Return what a recipe must say beside the size to find the pack again."""
    if not manifest.holds_clips:
        return ""
    chosen = clip.model_dump(include={"pack_format", "decoder"}, exclude_defaults=True)
    return "".join(f" --set clip.{key}={value}" for key, value in chosen.items())


def _describe_pack(pack: Pack | ClipPack, log: PackLog, seconds: float) -> str:
    what = f"frames of {pack.header['num_clips']:,} clips" if isinstance(pack, ClipPack) else "images"
    count = f"{len(pack.index):,} {what}, {format_bytes(pack.num_bytes)}"
    if not log.made:
        return f"packed before: {count}, checked in {seconds:.1f} s"
    taken = f" ({log.num_taken_over:,} taken over from another pack)" if log.num_taken_over else ""
    return f"packed: {count}{taken}, in {seconds:.1f} s"


def measure_likeness(
    pack: Pack | ClipPack,
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
    samples = manifest.usable(None).to_pylist()
    chosen = np.unique(np.linspace(0, len(samples) - 1, _MEASURED_IMAGES).astype(int))
    ratios = []
    for done, row in enumerate(chosen.tolist(), start=1):
        path, packed = samples[row]["path"], _read_packed(pack, samples[row])
        if isinstance(pack, ClipPack):
            number = samples[row]["first_frame"] + _choose_frame(pack, samples[row])
            image = read_frames(
                manifest.root / path, [number], max_pixels=max_pixels, decoder=pack.header["decoder"]
            )[0]
        else:
            image = decode_sample(
                manifest.root, path, target_size=transform.decode_size, max_pixels=max_pixels
            )
        ratios.append(compute_psnr(transform(image), transform(packed)))
        if progress is not None:
            progress("measuring PSNR", done, len(chosen))
    return summarise_likeness(ratios)


def _read_packed(pack: Pack | ClipPack, sample: Mapping[str, Any]) -> Image.Image | npt.NDArray[np.uint8]:
    """Return a packed image, or a frame of a packed clip."""
    if isinstance(pack, ClipPack):
        return pack.select([sample["sha256"]]).read(0, [_choose_frame(pack, sample)])[0]
    return pack.select([sample["sha256"]]).read(0)


def _choose_frame(pack: ClipPack, sample: Mapping[str, Any]) -> int:
    """Return the middle one of the frames that are packed, from 0 in the clip."""
    frames = pack.needs[sample["sha256"]]
    return int(frames[len(frames) // 2])


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
