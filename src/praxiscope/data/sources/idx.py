"""MNIST-style files: ``(train|t10k)-images-idx3-ubyte`` beside ``-labels-idx1-ubyte``, gzipped or not."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from praxiscope.data.containers.idx import IdxImages, read_idx
from praxiscope.data.manifest import Finding
from praxiscope.data.media import join_member, open_container
from praxiscope.data.sources.listing import Listing, Sample, normalise_label
from praxiscope.data.sources.members import (
    find_member_group,
    find_names,
    name_member,
    name_numbers,
    search_below,
)
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection

FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST" (2017), table 2."""

_FASHION_LABELS = frozenset(
    {
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",  # train
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",  # t10k
    }
)
"""Sha256 of Fashion-MNIST's label files, unpacked: distributions pack the same bytes again."""

_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_IMAGES = re.compile(
    r"(?P<prefix>(?:[\w-]+-)?)(?P<part>train|t10k|test)-images[.-]idx3-ubyte(?P<gz>\.gz)?", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One split's two files."""

    split: str
    images: Path
    labels: Path
    numbers: NDArray[np.uint8]


def find_idx(root: Path) -> tuple[Path, ...]:
    """Return the files of images in `root` or in folders below it (torchvision keeps them in ``raw/``)."""
    return search_below(root, lambda name: _IMAGES.fullmatch(name) is not None)


def list_idx(root: Path, section: DataSection) -> Listing:
    """List the images of idx files.

    Class names are Fashion-MNIST's where its label files are recognised, else those of ``classes.txt`` beside
    the files, else the numbers.

    Args:
        root: Absolute data folder.
        section: ``group`` is used.

    Returns:
        Samples sorted by id, such as ``train-images-idx3-ubyte#00042``; t10k is the test split.

    Raises:
        DataError: There is no such file, a file of labels is missing, or their counts differ.
        ContainerUnreadable: A file has another magic number, or is cut short.
    """
    files, packed = _choose(find_idx(root))
    if not files:
        raise DataError(
            f"{root} has no idx files; they are called train-images-idx3-ubyte and train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with or without .gz."
        )
    parts = [_read_part(split, path) for split, path in files.items()]
    names = _name_classes(parts)
    samples = [sample for part in parts for sample in _list_part(root, part, names, section.group)]
    findings: tuple[Finding, ...] = ()
    if packed:
        message = "Files that lie there both gzipped and unpacked: the unpacked ones are read."
        findings = (
            Finding.of("idx.twice", "note", message, [str(path.relative_to(root)) for path in packed]),
        )
    return Listing(
        source="idx", samples=tuple(sorted(samples, key=lambda sample: sample.sample_id)), findings=findings
    )


def _choose(found: tuple[Path, ...]) -> tuple[dict[str, Path], list[Path]]:
    """Return {split: file of images}, and the gzipped files that have an unpacked twin."""
    twice = [path for path in found if path.suffix.lower() == ".gz" and path.with_suffix("") in found]
    chosen: dict[str, Path] = {}
    for path in found:
        if path in twice:
            continue
        match = _IMAGES.fullmatch(path.name)
        assert match is not None
        split = _SPLITS[match["part"].lower()]
        if split in chosen:
            raise DataError(
                f"Two files hold the {split} split: {chosen[split]} and {path}; keep one of them, or give "
                "the folder that holds one."
            )
        chosen[split] = path
    return chosen, twice


def _read_part(split: str, images: Path) -> _Part:
    bare = images.name[: -len(".gz")] if images.suffix.lower() == ".gz" else images.name
    stem = bare.replace("images", "labels").replace("idx3", "idx1")
    candidates = [images.with_name(stem), images.with_name(f"{stem}.gz")]
    labels = next((path for path in candidates if path.is_file()), None)
    if labels is None:
        raise DataError(f"{images} has no labels beside it: neither {stem} nor {stem}.gz is there.")
    container = open_container(images, "idx")
    assert isinstance(container, IdxImages)
    numbers = read_idx(labels, "labels")
    if len(numbers) != container.shape[0]:
        raise DataError(
            f"{images.name} holds {container.shape[0]:,} images and {labels.name} {len(numbers):,} labels in "
            f"{images.parent}; they don't belong together."
        )
    return _Part(split=split, images=images, labels=labels, numbers=numbers)


def _name_classes(parts: list[_Part]) -> tuple[str, ...]:
    highest = max((int(part.numbers.max()) for part in parts if len(part.numbers)), default=0)
    if any(hashlib.sha256(_dump(part.numbers)).hexdigest() in _FASHION_LABELS for part in parts):
        return FASHION_NAMES
    named = find_names(part.images.parent for part in parts)
    if named is None:
        return tuple(name_numbers(range(highest + 1)).values())
    path, names = named
    if highest >= len(names):
        raise DataError(f"{path} names {len(names)} classes, but there is a label {highest}; add the others.")
    return names


def _dump(numbers: NDArray[np.uint8]) -> bytes:
    """Return the file of labels that holds `numbers`."""
    return b"\0\0\x08\x01" + len(numbers).to_bytes(4, "big") + numbers.tobytes()


def _list_part(root: Path, part: _Part, names: tuple[str, ...], group: str | None) -> list[Sample]:
    file = part.images.relative_to(root).as_posix()
    stem = file.removesuffix(".gz").removesuffix(".GZ")
    samples = []
    for row, number in enumerate(part.numbers.tolist()):
        sample_id = name_member(stem, row, len(part.numbers))
        samples.append(
            Sample(
                sample_id=sample_id,
                split=part.split,
                label=normalise_label(names[number]),
                group=find_member_group(sample_id, group),
                path=join_member(file, "idx", row),
            )
        )
    return samples
