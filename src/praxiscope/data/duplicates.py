"""Exact and near duplicates, within and across splits.

Exact: equal bytes. Near: two images whose difference hashes (one perhaps mirrored) lie within a few bits,
confirmed by the correlation of their 32 x 32 grey thumbnails. So a recompressed, resized or flipped copy
is found, and two photographs of a similar layout are not. Images without contrast are only exact duplicates.

All pairs are compared, in blocks of bounded memory: 12,600 images take about a second, 150,000 a few minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from praxiscope.data.fingerprint import THUMB_SIDE, Fingerprint
from praxiscope.data.manifest import SPLITS

MAX_NEAR_IMAGES = 150_000
"""Beyond so many distinct images near duplicates are not searched: the time grows with the square."""

MIN_CORRELATION = 0.95
"""Pearson correlation of two thumbnails from which a candidate is a near duplicate."""

SMALL_SIDE = 32
"""Images whose short side is at most this many pixels hold little to tell look-alikes from copies by: the
thumbnail is all of the image, so a copy of it correlates more (measured on Fashion-MNIST's 70,000 garments:
at 0.95 every second image has a "duplicate", at 0.99 one in a hundred)."""

MIN_CORRELATION_SMALL = 0.99
"""Takes the place of `MIN_CORRELATION` where one of two images is small."""

MAX_DISTANCE_SMALL = 12
"""Hash distance in bits up to which images are compared where all of them are small."""

MIN_CONTRAST = 4.0
"""Standard deviation in grey levels below which a thumbnail is too flat to compare."""

_BLOCK_PAIRS = 4_000_000
_CONFIRM_PAIRS = 8_192
# Rows in the middle of the image differ more between photographs than sky and floor: they are compared first.
_WORD_ORDER = (1, 2, 0, 3)


@dataclass(frozen=True, kw_only=True)
class Twin:
    """The sample of an earlier split that a sample duplicates."""

    index: int
    kind: Literal["exact", "near"]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Which samples show the same image."""

    contents: tuple[tuple[int, ...], ...]
    """Samples by content: indices with the same bytes, ascending; ordered by their first."""
    near: dict[int, tuple[int, ...]]
    """Index into `contents` to those of its near duplicates, ascending; symmetric."""

    def exact_groups(self) -> tuple[tuple[int, ...], ...]:
        """Return the groups of two or more samples with the same bytes."""
        return tuple(members for members in self.contents if len(members) > 1)

    def near_pairs(self) -> Iterator[tuple[int, int]]:
        """Yield each near-duplicate pair once, as the first samples of two contents."""
        for first, others in sorted(self.near.items()):
            for second in others:
                if first < second:
                    yield self.contents[first][0], self.contents[second][0]

    def find_twins(self, splits: Sequence[str | None]) -> dict[int, Twin]:
        """Return each sample's twin in an earlier split: exact before near, then the earliest split.

        Args:
            splits: Split per sample; samples with None are nobody's twin.
        """
        rank = {split: position for position, split in enumerate(SPLITS)}
        twins: dict[int, Twin] = {}
        for content, members in enumerate(self.contents):
            relatives = [index for other in self.near.get(content, ()) for index in self.contents[other]]
            for index in members:
                split = splits[index]
                if split is None:
                    continue
                for kind, others in (("exact", members), ("near", relatives)):
                    earlier = [(rank[s], i) for i in others if (s := splits[i]) and rank[s] < rank[split]]
                    if earlier:
                        twins[index] = Twin(index=min(earlier)[1], kind=kind)  # type: ignore[arg-type]
                        break
        return twins

    def find_clusters(self) -> dict[int, int]:
        """Return, for every sample that has a duplicate, the lowest index connected to it by duplicates."""
        links = [(members[0], index) for members in self.contents for index in members[1:]]
        return join_groups([*links, *self.near_pairs()])


def join_groups(links: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the connected components of `links` as {index: lowest index of its component}."""
    parent: dict[int, int] = {}

    def find(index: int) -> int:
        root = index
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[index] != root:
            parent[index], index = root, parent[index]
        return root

    for first, second in links:
        low, high = sorted((find(first), find(second)))
        parent[high] = low
    return {index: find(index) for index in sorted(parent)}


def find_duplicates(fingerprints: Sequence[Fingerprint | None], *, near_distance: int) -> Duplicates:
    """Find exact and near duplicates among images.

    Args:
        fingerprints: Per sample; None for one without an image.
        near_distance: Hash distance in bits up to which two images are compared, 0 to 256.
    """
    by_content: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(fingerprints):
        if entry is not None:
            by_content[entry.sha256].append(index)
    contents = tuple(tuple(members) for members in by_content.values())
    near: dict[int, set[int]] = defaultdict(set)
    if len(contents) <= MAX_NEAR_IMAGES:
        distinct = [entry for members in contents if (entry := fingerprints[members[0]]) is not None]
        for first, second in _find_near(distinct, near_distance):
            near[first].add(second)
            near[second].add(first)
    return Duplicates(
        contents=contents, near={key: tuple(sorted(found)) for key, found in sorted(near.items())}
    )


def _find_near(images: Sequence[Fingerprint], distance: int) -> list[tuple[int, int]]:
    """Return confirmed pairs (i, j), i < j, of indices into `images`."""
    if not images:
        return []
    thumbs = np.frombuffer(b"".join(image.thumb for image in images), dtype=np.uint8)
    thumbs_NHW = thumbs.reshape(len(images), THUMB_SIDE, THUMB_SIDE)
    textured = np.flatnonzero(thumbs_NHW.reshape(len(images), -1).std(axis=1) >= MIN_CONTRAST)
    plain = _unpack([images[index].phash for index in textured.tolist()])
    mirrored = _unpack([images[index].mirrored for index in textured.tolist()])
    small = np.array([min(image.width, image.height) <= SMALL_SIDE for image in images])
    if small.all():
        distance = min(distance, MAX_DISTANCE_SMALL)
    found: set[tuple[int, int]] = set()
    for other, flip in ((plain, False), (mirrored, True)):
        for pairs in _candidates(plain, other, distance):
            chosen = textured[pairs]
            for start in range(0, len(chosen), _CONFIRM_PAIRS):
                part = chosen[start : start + _CONFIRM_PAIRS]
                right = thumbs_NHW[part[:, 1]]
                score = _correlate(thumbs_NHW[part[:, 0]], right[:, :, ::-1] if flip else right)
                needed = np.where(small[part].any(axis=1), MIN_CORRELATION_SMALL, MIN_CORRELATION)
                found.update((int(i), int(j)) for i, j in part[score >= needed])
    return sorted(found)


def _unpack(hashes: Sequence[str]) -> NDArray[np.uint64]:
    """Return hex hashes as an (N, 4) array of words."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(len(hashes), 4)


def _candidates(
    left: NDArray[np.uint64], right: NDArray[np.uint64], distance: int
) -> Iterator[NDArray[np.intp]]:
    """Yield (P, 2) arrays of pairs i < j with ``left[i]`` and ``right[j]`` within `distance` bits."""
    first = _WORD_ORDER[0]
    start = 0
    while start < len(left):
        stop = start + max(1, _BLOCK_PAIRS // (len(left) - start))
        # One of four words already rules nearly all pairs out.
        block = np.bitwise_count(left[start:stop, None, first] ^ right[None, start:, first])
        rows, columns = np.nonzero(block <= distance)
        bits = block[rows, columns].astype(np.int16)
        rows, columns = rows + start, columns + start
        keep = rows < columns
        for word in _WORD_ORDER[1:]:
            rows, columns, bits = rows[keep], columns[keep], bits[keep]
            bits += np.bitwise_count(left[rows, word] ^ right[columns, word])
            keep = bits <= distance
        yield np.stack([rows[keep], columns[keep]], axis=1)
        start = stop


def _correlate(left_NHW: NDArray[np.uint8], right_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the Pearson correlation of each pair of thumbnails, shape (N,), in [-1, 1]."""

    def standardise(thumbs_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = thumbs_NHW.reshape(len(thumbs_NHW), -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        return flat

    correlation: NDArray[np.float32] = (standardise(left_NHW) * standardise(right_NHW)).sum(axis=1)
    return correlation
