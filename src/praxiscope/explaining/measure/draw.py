"""Samples to measure on: drawn from a split at random, cropped as evaluated, with their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from praxiscope.data.loader import SampleSet
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample
from praxiscope.data.transforms import EvalTransform
from praxiscope.errors import UsageError
from praxiscope.explaining.measure.masks import FoundMasks, read_masks
from praxiscope.explaining.measure.samples import MeasuredSamples


def draw_samples(
    manifest: Manifest,
    samples: SampleSet,
    transform: EvalTransform,
    *,
    split: str,
    count: int,
    seed: int = 0,
    mask_folder: Path | None = None,
) -> tuple[MeasuredSamples, FoundMasks | None]:
    """Draw samples without replacement, all as likely, and read them with their masks.

    Args:
        manifest: Gives groups and masks.
        samples: One split of it.
        transform: The crop that is evaluated.
        split: Its name, for the result.
        count: How many, at least 1; all where there are no more.
        seed: Of the draw.
        mask_folder: As ``read_masks``.

    Returns:
        The samples in the order of their ids, and what was found about their masks; None without any.

    Raises:
        UsageError: A count below 1, or a folder without masks.
        DataError: An image or a mask can't be read.
    """
    if count < 1:
        raise UsageError(f"Measuring needs at least 1 sample; {count} were asked for.")
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(samples))[:count]).tolist()
    ids = tuple(samples.sample_ids[row] for row in rows)
    groups = dict(
        zip(manifest.table["sample_id"].to_pylist(), manifest.table["group"].to_pylist(), strict=True)
    )
    crops = [
        transform(decode_sample(samples.root, samples.paths[row], target_size=transform.decode_size))
        for row in rows
    ]
    found = read_masks(manifest, ids, transform, folder=mask_folder)
    drawn = MeasuredSamples(
        images=np.stack(crops),
        targets=samples.targets[rows],
        sample_ids=ids,
        groups=tuple(groups[sample_id] for sample_id in ids),
        split=split,
        masks=found.masks if found else None,
    )
    return drawn, found
