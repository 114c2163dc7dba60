"""Splits by group: leave one person, kitchen or camera out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from praxiscope.data.manifest import Finding, quantify
from praxiscope.data.sources.listing import Listing, Sample
from praxiscope.errors import UsageError, did_you_mean
from praxiscope.recipe.schema import DataSection

_SHOWN_GROUPS = 20


def assign_groups(listing: Listing, section: DataSection) -> Listing:
    """Give the groups that ``section.test_groups`` and ``section.val_groups`` name their split.

    Samples of other groups that the data puts into such a split go to train: the split is exactly what was
    named.

    Args:
        listing: The samples.
        section: ``test_groups`` and ``val_groups``: exact names.

    Raises:
        UsageError: A group is named twice, isn't there, or no sample has a group.
    """
    asked = {"test": section.test_groups, "val": section.val_groups}
    asked = {split: names for split, names in asked.items() if names}
    if not asked:
        return listing
    _check_names(listing, asked)
    home = {name: split for split, names in asked.items() for name in names}
    samples = []
    for sample in listing.samples:
        split = home.get(sample.group or "")
        if split is None:
            split = "train" if sample.split in asked else sample.split
        samples.append(replace(sample, split=split))
    notes = [_describe(split, names, samples) for split, names in asked.items()]
    return replace(listing, samples=tuple(samples), findings=(*listing.findings, *notes))


def _describe(split: str, names: Sequence[str], samples: Sequence[Sample]) -> Finding:
    count = sum(sample.split == split for sample in samples)
    message = (
        f"The {split} split is {quantify(count, 'sample')} of the {_count_groups(names)} "
        f"(data.{split}_groups)."
    )
    return Finding.of("split.groups", "note", message, sorted(names))


def _count_groups(names: Sequence[str]) -> str:
    return f"group {names[0]!r}" if len(names) == 1 else f"groups {_list(names)}"


def _check_names(listing: Listing, asked: dict[str, tuple[str, ...]]) -> None:
    groups = sorted({sample.group for sample in listing.samples if sample.group is not None})
    keys = " and ".join(f"data.{split}_groups" for split in asked)
    if not groups:
        raise UsageError(
            f"{keys} name groups, but no sample has one: give a column of groups (data.columns.group), or "
            "data.group, which finds them in the paths."
        )
    for split, names in asked.items():
        for name in names:
            if name not in groups:
                raise UsageError(
                    f"data.{split}_groups names {name!r}, but the groups are {_list(groups)}."
                    f"{did_you_mean(name, groups)}"
                )
    if both := sorted(set(asked.get("test", ())) & set(asked.get("val", ()))):
        raise UsageError(
            f"data.test_groups and data.val_groups both name {both[0]!r}; a group stands in one split."
        )


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN_GROUPS]))
    return shown if len(names) <= _SHOWN_GROUPS else f"{shown} and {len(names) - _SHOWN_GROUPS} more"
