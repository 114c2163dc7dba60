"""Masks of the actor: from the manifest's ``mask`` column, or from a folder of pictures of the same names.

A mask is of the size of its image. It passes through the same crop as the image, without interpolation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.manifest import Manifest, quantify
from praxiscope.data.transforms import EvalTransform
from praxiscope.errors import DataError, UsageError
from praxiscope.explaining.measure.samples import Masks

MASK_SUFFIXES = (".png", ".npy", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
"""Tried in this order where a folder of masks is given."""
_JPEG = frozenset({".jpg", ".jpeg"})
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class FoundMasks:
    """Masks of some samples, and which have none."""

    masks: Masks
    """bool (N, S, S), true on the actor; all false where there is none."""
    source: str
    """Where they come from."""
    missing: tuple[str, ...]
    """Ids of samples without a mask file."""
    empty: tuple[str, ...]
    """Ids of samples whose mask shows no actor inside the evaluated crop."""

    def describe(self) -> str:
        """Return one sentence with counts and the first names."""
        total, lost = len(self.masks), len(self.missing) + len(self.empty)
        text = f"{total - lost:,} of {quantify(total, 'sample')} have a mask of the actor ({self.source})."
        for names, what in ((self.missing, "without a mask"), (self.empty, "with no actor inside the crop")):
            if names:
                more = ", ..." if len(names) > _NAMED else ""
                text += f" {len(names):,} {what}: {', '.join(names[:_NAMED])}{more}."
        return text


def read_masks(
    manifest: Manifest, sample_ids: Sequence[str], transform: EvalTransform, *, folder: Path | None = None
) -> FoundMasks | None:
    """Read the masks of samples as the network would see them.

    Args:
        manifest: Gives sizes, and the ``mask`` column where no folder is named.
        sample_ids: N ids of the manifest.
        transform: The crop that is evaluated.
        folder: Holds ``<sample id>`` with another suffix (``MASK_SUFFIXES``). Above 0 is the actor; in
            JPEG, which
            blurs, from 128 on. None to go by the manifest.

    Returns:
        The masks; None where no folder was named and the manifest has no masks at all.

    Raises:
        UsageError: There is no such folder, or it holds no mask of any sample.
        DataError: A mask is damaged, or of another size than its image.
    """
    rows = _find_rows(manifest, sample_ids)
    if folder is not None:
        paths = {sample_id: _find_file(folder, sample_id) for sample_id in sample_ids}
        if not folder.is_dir() or not any(paths.values()):
            raise UsageError(_tell_empty_folder(folder, sample_ids[0] if sample_ids else ""))
    elif not any(row["mask"] for row in rows):
        return None
    else:
        paths = {row["sample_id"]: _existing(manifest.root, row["mask"]) for row in rows}
    masks = np.zeros((len(rows), transform.spec.img_size, transform.spec.img_size), dtype=bool)
    for place, row in enumerate(rows):
        path = paths[row["sample_id"]]
        if path is not None:
            masks[place] = _crop(read_mask(path, (row["width"], row["height"])), transform)
    found = [bool(mask.any()) for mask in masks]
    return FoundMasks(
        masks=masks,
        source=str(folder) if folder is not None else "the manifest's mask column",
        missing=tuple(sample_id for sample_id in sample_ids if paths[sample_id] is None),
        empty=tuple(
            sample_id
            for sample_id, seen in zip(sample_ids, found, strict=True)
            if not seen and paths[sample_id] is not None
        ),
    )


def read_mask(path: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Read one mask.

    Args:
        path: A picture of any mode (colours count by their largest channel, palettes by their index,
            transparent pixels as 0), or a ``.npy`` array of numbers or booleans (H, W).
        size: Width and height of its image.

    Returns:
        bool (H, W).

    Raises:
        DataError: The file can't be read, or is of another size.
    """
    try:
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _read_picture(path)
    except (OSError, ValueError, Image.DecompressionBombError) as problem:
        raise DataError(f"The mask {path} can't be read: {problem}") from problem
    if values.shape != (size[1], size[0]):
        given = " x ".join(str(length) for length in values.shape[::-1]) or "no picture"
        raise DataError(
            f"The mask {path} is {given} (width x height) and its image {size[0]} x {size[1]}; a mask must "
            "be exactly as large as its image, after the rotation that its camera noted."
        )
    return np.asarray(values >= 128 if path.suffix.lower() in _JPEG else values > 0)


def _read_picture(path: Path) -> npt.NDArray[Any]:
    with Image.open(path) as picture:
        if picture.mode in ("RGBA", "LA", "PA"):
            pixels = np.asarray(picture.convert("RGBA"))
            shown: npt.NDArray[Any] = pixels[..., :3].max(axis=2) * (pixels[..., 3] > 0)
            return shown
        if picture.mode in ("1", "L", "P", "I", "F") or picture.mode.startswith("I;16"):
            return np.asarray(picture)
        return np.asarray(np.asarray(picture.convert("RGB")).max(axis=2))


def _crop(mask: npt.NDArray[np.bool_], transform: EvalTransform) -> npt.NDArray[np.bool_]:
    """Cut and resize as the evaluation does, taking the nearest pixel."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    side = transform.spec.img_size
    box = transform.find_box(picture.size)
    return np.asarray(picture.resize((side, side), Image.Resampling.NEAREST, box=box)) > 0


def _find_rows(manifest: Manifest, sample_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    known = {row["sample_id"]: row for row in manifest.table.to_pylist()}
    absent = [sample_id for sample_id in sample_ids if sample_id not in known]
    if absent:
        raise UsageError(f"The manifest has no sample '{absent[0]}' ({len(absent):,} of those asked for).")
    return [known[sample_id] for sample_id in sample_ids]


def _find_file(folder: Path, sample_id: str) -> Path | None:
    stem = folder / PurePosixPath(sample_id)
    tried = (stem.with_name(f"{name}{suffix}") for suffix in MASK_SUFFIXES for name in (stem.stem, stem.name))
    return next((path for path in tried if path.is_file()), None)


def _existing(root: Path, mask: str | None) -> Path | None:
    return root / mask if mask and (root / mask).is_file() else None


def _tell_empty_folder(folder: Path, sample_id: str) -> str:
    if not folder.is_dir():
        return f"There is no folder of masks at {folder}."
    stem = PurePosixPath(sample_id).with_suffix("")
    return (
        f"{folder} holds a mask of none of the samples. It was looked for '{stem}' with one of "
        f"{', '.join(MASK_SUFFIXES)}: the same names below the folder as the samples have."
    )
