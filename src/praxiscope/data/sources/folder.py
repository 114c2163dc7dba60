"""Class folders: ``train/<class>/...``, ``val/<class>/...``, ``test/<class>/...``, or ``<class>/...`` undivided."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from praxiscope.data.manifest import Finding
from praxiscope.data.sources.listing import (
    SPLIT_NAMES,
    Listing,
    Sample,
    Walk,
    find_group,
    normalise_label,
    walk_findings,
    walk_images,
)
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection


def find_split_folders(root: Path) -> dict[str, str]:
    """Return {folder name: split} of the folders of `root` that are splits with class folders in them.

    A folder counts when it is called train, val, valid, validation or test in any case and has a subfolder: so a
    class of trains in an undivided folder stays a class.

    Raises:
        DataError: Two folders claim one split.
    """
    found: dict[str, str] = {}
    for entry in sorted(root.iterdir()):
        split = SPLIT_NAMES.get(entry.name.lower())
        if split is None or not entry.is_dir() or not any(child.is_dir() for child in entry.iterdir()):
            continue
        if split in found.values():
            other = next(name for name, taken in found.items() if taken == split)
            raise DataError(
                f"{root} has two folders for the {split} split, {other!r} and {entry.name!r}; keep one."
            )
        found[entry.name] = split
    return found


def has_class_folders(root: Path) -> bool:
    """Whether `root` looks like class folders: divided, or at least one folder that isn't named like a split."""
    if find_split_folders(root):
        return True
    names = [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return any(name.lower() not in SPLIT_NAMES for name in names)


def list_folder(root: Path, section: DataSection) -> Listing:
    """List the images in class folders.

    The label is the name of the first folder below the split (or below `root`); deeper folders belong to it.

    Args:
        root: Absolute data folder.
        section: ``group`` is used.

    Returns:
        Samples sorted by id; ``split`` is None for an undivided folder.

    Raises:
        DataError: Two folders claim one split.
        UsageError: ``section.group`` is no valid rule.
    """
    splits = find_split_folders(root)
    walk = walk_images(root)
    depth = 2 if splits else 1
    samples: list[Sample] = []
    outside: list[str] = []
    for path in walk.images:
        if len(path.parts) <= depth or (splits and path.parts[0] not in splits):
            outside.append(str(path))
            continue
        samples.append(
            Sample(
                sample_id=str(path),
                split=splits.get(path.parts[0]) if splits else None,
                label=normalise_label(path.parts[depth - 1]),
                group=find_group(str(path), section.group),
            )
        )
    findings = (
        *_outside_findings(outside, divided=bool(splits)),
        *_empty_class_findings(walk, splits, depth, {path.parts[:depth] for path in walk.images}),
        *_nested_findings(walk.images, depth),
        *walk_findings(walk),
    )
    return Listing(source="folder", samples=tuple(samples), findings=findings)


def _outside_findings(outside: list[str], *, divided: bool) -> tuple[Finding, ...]:
    if not outside:
        return ()
    place = "train/<class>/, val/<class>/ or test/<class>/" if divided else "a class folder"
    message = f"{len(outside)} images lie outside {place}: without a label they are left out."
    return (Finding.of("D8.outside-class", "warning", message, outside),)


def _empty_class_findings(
    walk: Walk, splits: dict[str, str], depth: int, filled: set[tuple[str, ...]]
) -> tuple[Finding, ...]:
    empty = [
        str(folder)
        for folder in walk.folders
        if len(folder.parts) == depth
        and folder.parts not in filled
        and (not splits or folder.parts[0] in splits)
    ]
    if not empty:
        return ()
    return (Finding.of("D8.empty-class", "note", f"{len(empty)} class folders hold no images.", empty),)


def _nested_findings(images: list[PurePosixPath], depth: int) -> tuple[Finding, ...]:
    nested = [str(path) for path in images if len(path.parts) > depth + 1]
    if not nested:
        return ()
    message = f"{len(nested)} images lie in folders below their class folder; they have that class's label."
    return (Finding.of("D8.nested", "note", message, nested),)
