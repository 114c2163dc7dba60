"""Samples to measure on: drawn from a split at random, cropped as evaluated, with their masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from praxiscope.data.images import DEFAULT_MAX_PIXELS, ImageUnreadable
from praxiscope.data.loader import SampleSet
from praxiscope.data.manifest import Manifest, quantify
from praxiscope.data.media import decode_sample
from praxiscope.data.transforms import EvalTransform
from praxiscope.errors import DataError, UsageError
from praxiscope.explaining.measure.masks import FoundMasks, read_masks
from praxiscope.explaining.measure.samples import MeasuredSamples


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples of a split, and what couldn't be read of those that were drawn."""

    samples: MeasuredSamples
    """In the order of their ids, without masks."""
    skipped: tuple[tuple[str, str], ...]
    """(sample id, reason)."""


def draw_samples(  # noqa: PLR0913 - three say where from, the rest which
    manifest: Manifest,
    samples: SampleSet,
    transform: EvalTransform,
    *,
    split: str,
    count: int,
    seed: int = 0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    watch: Callable[[str, int, int], None] | None = None,
) -> Drawn:
    """Draw samples without replacement, all as likely, and read them.

    Args:
        manifest: Gives groups.
        samples: One split of it.
        transform: The crop that is evaluated.
        split: Its name, for the result.
        count: How many, at least 1; all where there are no more.
        seed: Of the draw.
        max_pixels: Cap on width x height of an image.
        watch: Told what is done, how many are, and of how many.

    Raises:
        UsageError: A count below 1.
        DataError: None of the images could be read.
    """
    if count < 1:
        raise UsageError(f"Measuring needs at least 1 sample; {count} were asked for.")

    def read(row: int) -> npt.NDArray[np.uint8]:
        return transform(
            decode_sample(
                samples.root, samples.paths[row], target_size=transform.decode_size, max_pixels=max_pixels
            )
        )

    found, skipped = read_drawn(samples, read, split=split, count=count, seed=seed, watch=watch)
    kept = list(found)
    table = manifest.table
    groups = dict(zip(table["sample_id"].to_pylist(), table["group"].to_pylist(), strict=True))
    ids = tuple(samples.sample_ids[row] for row in kept)
    drawn = MeasuredSamples(
        images=np.stack(list(found.values())),
        targets=samples.targets[kept],
        sample_ids=ids,
        groups=tuple(groups[sample_id] for sample_id in ids),
        split=split,
    )
    return Drawn(samples=drawn, skipped=skipped)


def read_drawn(
    samples: SampleSet,
    read: Callable[[int], npt.NDArray[np.uint8]],
    *,
    split: str,
    count: int,
    seed: int,
    watch: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[int, npt.NDArray[np.uint8]], tuple[tuple[str, str], ...]]:
    """Draw rows of a split without replacement, all as likely, and read them.

    Args:
        samples: The split.
        read: Gives the pixels of a row.
        split: Its name, for messages.
        count: How many; all where there are no more.
        seed: Of the draw.
        watch: Told what is done, how many are, and of how many.

    Returns:
        Pixels by row, in the order of rows, and (sample id, reason) of what couldn't be read.

    Raises:
        DataError: None could be read.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(samples))[:count]).tolist()
    found: dict[int, npt.NDArray[np.uint8]] = {}
    skipped: list[tuple[str, str]] = []
    for done, row in enumerate(rows, start=1):
        try:
            found[row] = read(row)
        except ImageUnreadable as problem:
            skipped.append((samples.sample_ids[row], problem.reason))
        if watch is not None:
            watch("reading samples", done, len(rows))
    if not found:
        first = f", for example {': '.join(skipped[0])}" if skipped else ""
        raise DataError(
            f"None of {quantify(len(rows), 'sample')} of {split} could be read{first}. If the data folder "
            "has moved, pass --data."
        )
    return found, tuple(skipped)


def add_masks(
    samples: MeasuredSamples, manifest: Manifest, transform: EvalTransform, folder: Path | None = None
) -> tuple[MeasuredSamples, FoundMasks | None]:
    """Return samples with their masks, and what was found about these; None without any.

    Args:
        samples: Of the manifest.
        manifest: Gives sizes and masks.
        transform: The crop that is evaluated.
        folder: As ``read_masks``.

    Raises:
        UsageError: There is no such folder, or it holds no mask of any sample.
        DataError: A mask is damaged, or of another size than its image.
    """
    found = read_masks(manifest, samples.sample_ids, transform, folder=folder)
    return (samples if found is None else replace(samples, masks=found.masks)), found
