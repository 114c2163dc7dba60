"""Features of a run's images or clips, computed once and kept: for neighbours and the embedding map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.views import read_views
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.loader import SampleSet, build_sample_set
from praxiscope.data.manifest import quantify
from praxiscope.data.media import decode_sample
from praxiscope.errors import DataError
from praxiscope.explaining.feature_file import FeatureTable, read_features, write_features
from praxiscope.explaining.index import Neighbour
from praxiscope.explaining.measure.draw import read_drawn
from praxiscope.explaining.neighbours import compute_features, find_nearest
from praxiscope.runs import atomic
from praxiscope.runs.environment import count_cores
from praxiscope.training.watch import Watcher
from praxiscope.workflows.explain_subjects import Explained

MAX_TRAINING = 2000
"""Training images, or frames of clips, at most that the nearest are looked for among; drawn at random, the
same ones each time."""
MAX_MAPPED = 5000
"""Samples at most on an embedding map."""
_BATCH = 64
_PICTURE_SIDE = 176


@dataclass(frozen=True, kw_only=True)
class Near:
    """A training image near a picture, or a training clip near a clip.

    Attributes:
        sample_id: its id.
        name: its class; of several heads all of them.
        similarity: cosine of both feature vectors.
        picture: uint8 (H, W, 3), small, of a clip its middle frame; None where it can't be read any more.
    """

    sample_id: str
    name: str
    similarity: float
    picture: npt.NDArray[np.uint8] | None


@dataclass(frozen=True, kw_only=True)
class Library:
    """Training images by their features.

    Attributes:
        table: their features.
        samples: the training split.
        count: so many are found.
    """

    table: FeatureTable
    samples: SampleSet
    count: int

    @property
    def size(self) -> int:
        """Images that are compared."""
        return len(self.table.sample_ids)

    def find_nearest(
        self, explained: Explained, images: npt.NDArray[np.uint8], sample_ids: list[str]
    ) -> list[list[Near]]:
        """Return the nearest training images of each picture, nearest first; never the picture itself."""
        features, _ = compute_features(explained.subject, images)
        rows, cosines = find_nearest(features, self.table.features, self.count + 1)
        return [
            [
                self._show(row, cosine)
                for row, cosine in zip(own, near, strict=True)
                if self.table.sample_ids[row] != sample_id
            ][: self.count]
            for own, near, sample_id in zip(rows.tolist(), cosines.tolist(), sample_ids, strict=True)
        ]

    def _show(self, row: int, cosine: float) -> Near:
        sample_id = self.table.sample_ids[row]
        place = self.samples.sample_ids.index(sample_id)
        targets = np.atleast_1d(self.samples.targets[place]).tolist()
        heads = zip(self.samples.heads.names.values(), targets, strict=True)
        try:
            picture = _read_whole(self.samples, place)
            picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.LANCZOS)
        except ImageUnreadable:
            picture = None
        return Near(
            sample_id=sample_id,
            name=" + ".join(names[target] for names, target in heads),
            similarity=cosine,
            picture=None if picture is None else np.array(picture),
        )


def write_nearest(nearest: Sequence[Near], folder: Path, epoch: int) -> tuple[Neighbour, ...]:
    """Write the pictures of nearest training samples into a folder; return what the index says of them."""
    neighbours = []
    for place, near in enumerate(nearest, start=1):
        file = f"epoch{epoch:02d}-near{place}.jpg"
        if near.picture is not None:
            with atomic.replacing(folder / file) as aside:
                Image.fromarray(near.picture).save(aside, format="JPEG", quality=88)
        neighbours.append(
            Neighbour(
                sample_id=near.sample_id,
                name=near.name,
                similarity=near.similarity,
                picture=None if near.picture is None else file,
            )
        )
    return tuple(neighbours)


def open_library(explained: Explained, folder: Path, count: int, watch: Watcher) -> Library | None:
    """Return the training images or clips to compare with; None where the run has none.

    Args:
        explained: The run.
        folder: Keeps their features.
        count: So many are to be found for each picture.
        watch: Follows progress.
    """
    quarantined = explained.run.read_run_json().get("quarantined", [])
    things = "clips" if explained.manifest.holds_clips else "images"
    if not explained.manifest.usable("train").num_rows:
        watch.note(f"No nearest training {things}: the run has no training {things}.")
        return None
    limit = MAX_TRAINING // (explained.subject.num_frames or 1)
    samples = build_sample_set(explained.manifest, "train", without=quarantined)
    try:
        table = load_features(explained, samples, "train", limit=limit, folder=folder, watch=watch)
    except DataError as problem:
        watch.note(f"No nearest training {things}: {problem}")
        return None
    return Library(table=table, samples=samples, count=count)


def load_features(
    explained: Explained, samples: SampleSet, split: str, *, limit: int, folder: Path, watch: Watcher
) -> FeatureTable:
    """Return features of a split's samples, those kept in ``features-<split>.npz`` where nothing changed.

    Args:
        explained: The run.
        samples: The split.
        split: Its name.
        limit: Of more samples, so many are drawn at random.
        folder: Keeps the file.
        watch: Follows progress.

    Raises:
        DataError: No image could be read.
        EnvironmentProblem: The disk is full.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(samples))[:limit])
    key = f"{explained.features_key} {split} {len(samples)} {limit}"
    path = folder / f"features-{split}.npz"
    found = read_features(path, key)
    if found is None:
        found = _compute(explained, samples, rows, key, f"features of {split}", watch)
        if len(found.sample_ids) == len(rows):  # what can't be read now may be there the next time
            write_features(found, path)
    if len(samples) > len(rows):
        things = "clips" if samples.spans else "images"
        watch.note(f"Features of {len(rows):,} of {len(samples):,} {split} {things}, drawn at random.")
    return found


def draw_evaluated(
    explained: Explained, count: int, *, seed: int, watch: Watcher
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draw samples of the split without replacement and read what evaluation feeds to the network.

    Args:
        explained: The run.
        count: How many; all where there are no more.
        seed: Of the draw.
        watch: Follows progress; is told what can't be read.

    Returns:
        uint8 (N, S, S, 3), of clips (N, T, S, S, 3), and int64 (N,), of M heads (N, M).

    Raises:
        DataError: None could be read.
    """
    samples = explained.samples
    read = functools.partial(_read_evaluated, explained, samples)
    found, skipped = read_drawn(
        samples, read, split=explained.split, count=count, seed=seed, watch=watch.phase
    )
    for sample_id, reason in skipped:
        watch.note(f"Skipped: {sample_id}: {reason}")
    return np.stack(list(found.values())), samples.targets[list(found)]


def _compute(
    explained: Explained,
    samples: SampleSet,
    rows: npt.NDArray[np.intp],
    key: str,
    phase: str,
    watch: Watcher,
) -> FeatureTable:
    def read(row: int) -> npt.NDArray[np.uint8] | None:
        try:
            return _read_evaluated(explained, samples, row)
        except ImageUnreadable as problem:
            watch.note(f"Skipped: {samples.sample_ids[row]}: {problem.reason}")
            return None

    size = max(1, _BATCH // (explained.subject.num_frames or 1))
    features, logits, kept = [], [], []
    with ThreadPoolExecutor(min(count_cores(), 4)) as pool:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size].tolist()
            images = dict(zip(batch, pool.map(read, batch), strict=True))
            sound = [row for row in batch if images[row] is not None]
            if sound:
                found = compute_features(explained.subject, np.stack([images[row] for row in sound]))
                features.append(found[0])
                logits.append(found[1])
                kept += sound
            watch.phase(phase, min(start + size, len(rows)), len(rows))
    if not kept:
        things = quantify(len(rows), "clip" if samples.spans else "image")
        raise DataError(f"none of {things} of {samples.root} could be read.")
    return FeatureTable(
        key=key,
        sample_ids=tuple(samples.sample_ids[row] for row in kept),
        targets=samples.targets[kept],
        features=np.concatenate(features),
        logits=np.concatenate(logits),
    )


def _read_evaluated(explained: Explained, samples: SampleSet, row: int) -> npt.NDArray[np.uint8]:
    """Read what evaluation feeds to the network, (S, S, 3), of a clip its first view, (T, S, S, 3)."""
    rule, max_pixels = explained.clip_rule, explained.recipe.loader.max_pixels
    if rule is not None:
        source = samples.root / samples.paths[row]
        views, _ = read_views(source, samples.spans[row], rule, explained.transform, max_pixels=max_pixels)
        first: npt.NDArray[np.uint8] = views[0]
        return first
    decoded = decode_sample(
        samples.root,
        samples.paths[row],
        target_size=explained.transform.decode_size,
        max_pixels=max_pixels,
    )
    return explained.transform(decoded)


def _read_whole(samples: SampleSet, row: int) -> Image.Image:
    """Read an image, of a clip its middle frame, at least as large as a thumbnail."""
    if not samples.spans:
        return decode_sample(samples.root, samples.paths[row], target_size=_PICTURE_SIDE)
    span = samples.spans[row]
    source = samples.root / samples.paths[row]
    (frame,) = read_frames(source, [span.first + span.count // 2], target_size=_PICTURE_SIDE)
    return frame
