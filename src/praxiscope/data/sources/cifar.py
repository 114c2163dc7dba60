"""CIFAR-10 and CIFAR-100 as published: the python version (pickled batches) and the binary one (records)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from praxiscope.data.containers.cifar import CifarBinary, CifarPython, read_pickle
from praxiscope.data.containers.handles import ContainerUnreadable
from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.media import join_member, open_container
from praxiscope.data.sources.listing import Listing, Sample, normalise_label
from praxiscope.data.sources.members import (
    check_names,
    find_member_group,
    name_member,
    name_numbers,
    read_names,
)
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.schema import DataSection

PUBLISHED_MD5 = {
    "cifar-10-python": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar-100-python": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
}
"""Md5 of the published files, by layout; as torchvision lists them."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One of the four published forms."""

    name: str
    batches: Mapping[str, str]
    """File name to split."""
    kind: str
    """The container's format (:mod:`praxiscope.data.media`)."""
    labels: Mapping[str, str]
    """Label set to its key in a batch, or to its column in a record; the first is the default."""
    names: Mapping[str, tuple[str, str]]
    """Label set to the file with its class names, and their key there (empty for a file of lines)."""
    classes: Mapping[str, int]
    """Label set to the number of its classes."""


_TEN = [f"data_batch_{number}" for number in range(1, 6)]
LAYOUTS = (
    Layout(
        name="cifar-10-python",
        batches={**dict.fromkeys(_TEN, "train"), "test_batch": "test"},
        kind="cifar-python",
        labels={"fine": "labels"},
        names={"fine": ("batches.meta", "label_names")},
        classes={"fine": 10},
    ),
    Layout(
        name="cifar-100-python",
        batches={"train": "train", "test": "test"},
        kind="cifar-python",
        labels={"fine": "fine_labels", "coarse": "coarse_labels"},
        names={"fine": ("meta", "fine_label_names"), "coarse": ("meta", "coarse_label_names")},
        classes={"fine": 100, "coarse": 20},
    ),
    Layout(
        name="cifar-10-binary",
        batches={**{f"{name}.bin": "train" for name in _TEN}, "test_batch.bin": "test"},
        kind="cifar-10-binary",
        labels={"fine": "0"},
        names={"fine": ("batches.meta.txt", "")},
        classes={"fine": 10},
    ),
    Layout(
        name="cifar-100-binary",
        batches={"train.bin": "train", "test.bin": "test"},
        kind="cifar-100-binary",
        labels={"fine": "1", "coarse": "0"},
        names={"fine": ("fine_label_names.txt", ""), "coarse": ("coarse_label_names.txt", "")},
        classes={"fine": 100, "coarse": 20},
    ),
)


def find_cifar(root: Path) -> tuple[tuple[Path, Layout], ...]:
    """Return the published forms that lie in `root` or in a folder of it.

    Files named ``train`` and ``test`` count only when they begin as pickles do.
    """
    folders = [root, *sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")]
    found = []
    for folder in folders:
        for layout in LAYOUTS:
            fits: Callable[[Path], bool] = _is_pickle if layout.kind == "cifar-python" else os.path.isfile
            if any(fits(folder / name) for name in layout.batches):
                found.append((folder, layout))
    return tuple(found)


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle of a mapping does, whatever its protocol."""
    try:
        with path.open("rb") as stream:
            return stream.read(1) in {b"\x80", b"("}
    except OSError:
        return False


def list_cifar(root: Path, section: DataSection) -> Listing:
    """List the images of CIFAR-10 or CIFAR-100.

    Args:
        root: Absolute data folder: the one with the batches, or the one above.
        section: ``columns.label`` chooses ``fine`` (default) or ``coarse`` labels; ``group`` is used.

    Returns:
        Samples sorted by id, such as ``data_batch_1#00042``.

    Raises:
        DataError: There is none, or more than one of the published forms.
        ContainerUnreadable: A file is damaged, or asks for code.
        UsageError: ``columns.label`` is no label set of it.
    """
    found = find_cifar(root)
    if len(found) != 1:
        raise DataError(_explain(root, found))
    folder, layout = found[0]
    chosen = section.columns.get("label", "fine").removesuffix("_labels").removesuffix("_label")
    if chosen not in layout.labels:
        raise UsageError(
            f"data.columns.label is {section.columns['label']!r}, but {layout.name} has the label sets "
            f"{', '.join(layout.labels)}."
        )
    files = [folder / name for name in layout.batches if (folder / name).is_file()]
    numbers = {file: _read_numbers(file, layout, chosen) for file in files}
    names = _name_classes(folder, layout, chosen)
    samples = [
        sample
        for file in files
        for sample in _list_batch(root, file, numbers[file], (names, layout), section)
    ]
    return Listing(
        source="cifar",
        samples=tuple(sorted(samples, key=lambda sample: sample.sample_id)),
        findings=_compare_published(folder, layout),
    )


def _explain(root: Path, found: Sequence[tuple[Path, Layout]]) -> str:
    if found:
        places = " and ".join(f"{layout.name} in {folder}" for folder, layout in found)
        return f"There are several forms of CIFAR: {places}. Give the folder of one of them."
    return (
        f"{root} holds no CIFAR: neither data_batch_1 and test_batch (CIFAR-10) nor train and test "
        "(CIFAR-100), pickled or with .bin, there or in a folder of it. Unpack the published archive first."
    )


def _read_numbers(file: Path, layout: Layout, chosen: str) -> Sequence[int]:
    container = open_container(file, layout.kind)
    if isinstance(container, CifarBinary):
        column: list[int] = container.read_labels()[:, int(layout.labels[chosen])].tolist()
        return column
    assert isinstance(container, CifarPython)
    key = layout.labels[chosen]
    if key not in container.batch.labels:
        raise ContainerUnreadable(f"holds no {key!r}, as a batch of {layout.name} does", file)
    return container.batch.labels[key]


def _name_classes(folder: Path, layout: Layout, chosen: str) -> tuple[str, ...]:
    """Return the published class names, or numbers where their file is absent."""
    file, key = layout.names[chosen]
    path = folder / file
    if not path.is_file():
        return tuple(name_numbers(range(layout.classes[chosen])).values())
    if not key:
        return read_names(path)
    names = read_pickle(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise ContainerUnreadable(f"holds no list of names {key!r}", path)
    try:
        texts = [name.decode() if isinstance(name, bytes) else name for name in names]
    except UnicodeDecodeError:
        raise ContainerUnreadable(f"holds names in {key!r} that are no UTF-8 text", path) from None
    return check_names([normalise_label(text) for text in texts], str(path))


def _list_batch(
    root: Path,
    file: Path,
    numbers: Sequence[int],
    classes: tuple[tuple[str, ...], Layout],
    section: DataSection,
) -> list[Sample]:
    names, layout = classes
    path = file.relative_to(root).as_posix()
    stem = path.removesuffix(".bin")
    samples = []
    for row, number in enumerate(numbers):
        sample_id = name_member(stem, row, len(numbers))
        known = 0 <= number < len(names)
        samples.append(
            Sample(
                sample_id=sample_id,
                split=layout.batches[file.name],
                label=names[number] if known else str(number),
                group=find_member_group(sample_id, section.group),
                problem=None if known else f"has label {number}, but there are {len(names)} classes",
                path=join_member(path, layout.kind, row),
            )
        )
    return samples


def _compare_published(folder: Path, layout: Layout) -> tuple[Finding, ...]:
    """Say which files are absent, and which are not the published ones."""
    findings = []
    absent = [name for name in layout.batches if not (folder / name).is_file()]
    if absent:
        message = f"{quantify(len(absent), 'batch', 'batches')} of {layout.name} absent."
        findings.append(Finding.of("cifar.absent", "warning", message, absent))
    other = []
    for name, expected in PUBLISHED_MD5.get(layout.name, {}).items():
        if not (folder / name).is_file():
            continue
        with (folder / name).open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != expected:
            other.append(f"{name}: md5 {digest}, published {expected}")
    if other:
        message = (
            f"{quantify(len(other), 'file')} of {layout.name} not as published ({other[0]}): fine for a "
            "subset; scores don't compare with published ones."
        )
        findings.append(Finding.of("cifar.other-file", "warning", message, other))
    return tuple(findings)
