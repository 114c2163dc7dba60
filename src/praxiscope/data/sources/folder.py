"""Class folders: ``train/<class>/``, ``val/<class>/``, ``test/<class>/``, or ``<class>/`` undivided."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.sources.listing import (
    SPLIT_NAMES,
    Listing,
    Sample,
    find_group,
    normalise_label,
    walk_findings,
    walk_images,
)
from praxiscope.errors import DataError
from praxiscope.recipe.schema import DataSection


def find_split_folders(root: Path) -> dict[str, str]:
    """Return {folder name: split} of the folders of `root` that are splits with class folders in them.

    A folder counts when it is called train, val, valid, validation or test in any case and has a subfolder:
    so a class of trains in an undivided folder stays a class.

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
    inside = [
        path for path in walk.samples if len(path.parts) > depth and (not splits or path.parts[0] in splits)
    ]
    samples = tuple(
        Sample(
            sample_id=str(path),
            split=splits.get(path.parts[0]),
            label=normalise_label(path.parts[depth - 1]),
            group=find_group(str(path), section.group),
        )
        for path in inside
    )
    classes = [f for f in walk.folders if len(f.parts) == depth and (not splits or f.parts[0] in splits)]
    findings = (
        *_find_spellings(classes),
        *_find_outside(sorted(map(str, set(walk.samples) - set(inside))), divided=bool(splits)),
        *_find_empty(classes, {path.parts[:depth] for path in inside}),
        *_find_nested([path for path in inside if len(path.parts) > depth + 1]),
        *walk_findings(walk),
    )
    return Listing(source="folder", samples=samples, findings=findings, clips=walk.holds_clips)


def _find_spellings(classes: list[PurePosixPath]) -> tuple[Finding, ...]:
    """Refuse class folders whose names look the same but are spelled with other characters."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for folder in classes:
        spellings[normalise_label(folder.name)].add(folder.name)
    return tuple(
        Finding.of(
            "C3.spelling",
            "error",
            "Class folders that look the same are spelled differently: "
            f"{' and '.join(map(ascii, sorted(names)))} "
            "(composed and decomposed letters, or white space). Rename them to one spelling.",
            sorted(map(ascii, names)),
        )
        for _, names in sorted(spellings.items())
        if len(names) > 1
    )


def _find_outside(outside: list[str], *, divided: bool) -> tuple[Finding, ...]:
    if not outside:
        return ()
    place = "train/<class>/, val/<class>/ or test/<class>/" if divided else "a class folder"
    message = f"{quantify(len(outside), 'image')} outside of {place}: left out for want of a label."
    return (Finding.of("D8.outside-class", "warning", message, outside),)


def _find_empty(classes: list[PurePosixPath], filled: set[tuple[str, ...]]) -> tuple[Finding, ...]:
    empty = [str(folder) for folder in classes if folder.parts not in filled]
    if not empty:
        return ()
    return (
        Finding.of(
            "D8.empty-class", "note", f"{quantify(len(empty), 'class folder')} without images.", empty
        ),
    )


def _find_nested(nested: list[PurePosixPath]) -> tuple[Finding, ...]:
    if not nested:
        return ()
    message = (
        f"{quantify(len(nested), 'image')} in folders below a class folder: they have that class's label."
    )
    return (Finding.of("D8.nested", "note", message, [str(path) for path in nested]),)
