"""Bring all contestants to the same samples and label names, or say exactly why that can't be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from praxiscope.comparison.contestants import Contestant
from praxiscope.comparison.tables import SampleTable
from praxiscope.data.manifest import quantify
from praxiscope.errors import DataError
from praxiscope.stats.labels import IntArray

_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """One seed's answers to the common samples, in the common order of samples and names."""

    preds: IntArray
    """(N,)"""
    logits: npt.NDArray[np.float64] | None
    """(N, K)"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Aligned:
    """N samples that every contestant answered; K label names."""

    names: tuple[str, ...]
    sample_ids: tuple[str, ...]
    """Ascending."""
    targets: IntArray
    groups: tuple[str | None, ...] | None
    """None where no sample shares a group with another."""
    clean: npt.NDArray[np.bool_] | None
    """(N,) true where every source that knows says so; None where none knows."""
    contestants: tuple[Contestant, ...]
    answers: tuple[tuple[Answered, ...], ...]
    """For each contestant its seeds."""
    left_out: dict[str, int]
    """Label of a contestant -> its samples that not all have; empty when all have the same."""
    notes: tuple[str, ...]

    def select(self, mask: npt.NDArray[np.bool_]) -> Aligned:
        """Return the samples where the (N,) mask is true."""
        chosen = np.flatnonzero(mask)
        return Aligned(
            names=self.names,
            sample_ids=tuple(self.sample_ids[index] for index in chosen),
            targets=self.targets[chosen],
            groups=None if self.groups is None else tuple(self.groups[index] for index in chosen),
            clean=None if self.clean is None else self.clean[chosen],
            contestants=self.contestants,
            answers=tuple(
                tuple(
                    Answered(
                        preds=one.preds[chosen], logits=None if one.logits is None else one.logits[chosen]
                    )
                    for one in seeds
                )
                for seeds in self.answers
            ),
            left_out=self.left_out,
            notes=self.notes,
        )


def align_contestants(contestants: Sequence[Contestant], *, common: bool = False) -> Aligned:
    """Align by sample id and label name; never by position.

    Args:
        contestants: Whose members are all `SampleTable`.
        common: Compare on the samples that all have, instead of refusing where they differ.

    Raises:
        DataError: Other labels, other samples (unless ``common``), other targets for a sample; the message
            says how many, and names the first.
    """
    tables = [(each.label, table) for each in contestants for table in each.members]
    assert all(isinstance(table, SampleTable) for _, table in tables)
    known = [(label, table) for label, table in tables if isinstance(table, SampleTable)]
    names = merge_names([(label, table.names, table.names_complete) for label, table in known])
    shared = _find_shared(known, common=common)
    positions = [_locate(table, shared) for _, table in known]
    maps = [np.array([names.index(name) for name in table.names]) for _, table in known]
    targets = [
        mapping[table.targets[rows]] for (_, table), rows, mapping in zip(known, positions, maps, strict=True)
    ]
    _refuse_other_targets(known, targets, shared, names)
    notes: list[str] = []
    answers = iter(
        [
            _answer(table, rows, mapping, len(names))
            for (_, table), rows, mapping in zip(known, positions, maps, strict=True)
        ]
    )
    left_out = {
        label: len(table.sample_ids) - len(shared)
        for label, table in known
        if len(table.sample_ids) > len(shared)
    }
    if left_out:
        told = ", ".join(f"{count:,} of {label}" for label, count in left_out.items())
        notes.append(
            f"ON COMMON SAMPLES ONLY (--common): compared on the {len(shared):,} samples that all have; left "
            f"out: {told}. What was left out may not be like what was kept."
        )
    return Aligned(
        names=names,
        sample_ids=shared,
        targets=targets[0],
        groups=_merge_groups(known, positions, notes),
        clean=_merge_clean(known, positions, notes),
        contestants=tuple(contestants),
        answers=tuple(tuple(next(answers) for _ in each.members) for each in contestants),
        left_out=left_out,
        notes=tuple(notes),
    )


def merge_names(tables: Sequence[tuple[str, Sequence[str], bool]]) -> tuple[str, ...]:
    """Return the common label names, in the order of the first source that knows all of them.

    Args:
        tables: Label, names, and whether these are all there are, of each source.

    Raises:
        DataError: Two sources have different labels, or one answers with a label that another, which knows
            them all, doesn't have.
    """
    complete = [(label, names) for label, names, whole in tables if whole]
    if not complete:
        return tuple(sorted({name for _, names, _ in tables for name in names}))
    first, reference = complete[0]
    for label, names, whole in tables:
        only_first = set(reference) - set(names) if whole else set()
        only_other = set(names) - set(reference)
        if only_first or only_other:
            raise DataError(
                f"{first} and {label} have different labels: "
                f"{_tell_only(first, only_first)}; {_tell_only(label, only_other)}. Labels are compared by "
                "name, capitals included; rename them to be the same."
            )
    return tuple(reference)


def _find_shared(known: Sequence[tuple[str, SampleTable]], *, common: bool) -> tuple[str, ...]:
    first_label, first = known[0]
    shared = set(first.sample_ids)
    for label, table in known[1:]:
        ids = set(table.sample_ids)
        if not common and ids != set(first.sample_ids):
            only_first, only_other = set(first.sample_ids) - ids, ids - set(first.sample_ids)
            raise DataError(
                f"{first_label} and {label} were evaluated on different samples: "
                f"{len(ids & set(first.sample_ids)):,} are common; {_tell_only(first_label, only_first)}; "
                f"{_tell_only(label, only_other)}. To compare on the common samples: --common."
            )
        shared &= ids
    if not shared:
        raise DataError(
            f"{', '.join(dict.fromkeys(label for label, _ in known))} have no sample in common, for example "
            f"{first.sample_ids[0]!r} and {known[1][1].sample_ids[0]!r}. Sample ids must be spelled the same."
        )
    return tuple(sorted(shared))


def _locate(table: SampleTable, shared: Sequence[str]) -> IntArray:
    place = {sample_id: index for index, sample_id in enumerate(table.sample_ids)}
    return np.array([place[sample_id] for sample_id in shared], dtype=np.int64)


def _refuse_other_targets(
    known: Sequence[tuple[str, SampleTable]],
    targets: Sequence[IntArray],
    shared: Sequence[str],
    names: Sequence[str],
) -> None:
    for (label, _), own in zip(known[1:], targets[1:], strict=True):
        differ = np.flatnonzero(own != targets[0])
        if differ.size:
            shown = ", ".join(
                f"{shared[index]!r} ({names[targets[0][index]]} / {names[own[index]]})"
                for index in differ[:_SHOWN]
            )
            raise DataError(
                f"{known[0][0]} and {label} give {quantify(int(differ.size), 'sample')} of {len(shared):,} "
                f"different targets: {shown}{', ...' if differ.size > _SHOWN else ''}. One of the two was "
                "evaluated with other labels."
            )


def _answer(table: SampleTable, rows: IntArray, mapping: IntArray, num_classes: int) -> Answered:
    logits = None
    if table.logits is not None and len(table.names) == num_classes:
        logits = np.empty((rows.size, num_classes))
        logits[:, mapping] = table.logits[rows]
    return Answered(preds=mapping[table.preds[rows]], logits=logits)


def _merge_groups(
    known: Sequence[tuple[str, SampleTable]], positions: Sequence[IntArray], notes: list[str]
) -> tuple[str | None, ...] | None:
    """Return the groups of the first source that has any; another's that divide otherwise are named."""
    found: list[tuple[str, list[str | None]]] = []
    for (label, table), rows in zip(known, positions, strict=True):
        if table.groups is not None and any(group is not None for group in table.groups):
            found.append((label, [table.groups[row] for row in rows]))
    if not found:
        return None
    label, groups = found[0]
    for other, own in found[1:]:
        pairs = set(zip(groups, own, strict=True))
        if own != groups and not len(pairs) == len(set(groups)) == len(set(own)):
            notes.append(f"{other} groups the samples otherwise than {label}, whose groups are used.")
    return tuple(groups)


def _merge_clean(
    known: Sequence[tuple[str, SampleTable]], positions: Sequence[IntArray], notes: list[str]
) -> npt.NDArray[np.bool_] | None:
    flags = [
        table.clean[rows]
        for (_, table), rows in zip(known, positions, strict=True)
        if table.clean is not None
    ]
    if not flags:
        return None
    differ = int((np.stack(flags).min(axis=0) != np.stack(flags).max(axis=0)).sum())
    if differ:
        notes.append(
            f"{quantify(differ, 'sample')} duplicate training samples of some contestants only; a sample "
            "counts as clean when it is for all."
        )
    return np.asarray(np.stack(flags).all(axis=0), dtype=np.bool_)


def _tell_only(label: str, items: Iterable[str]) -> str:
    ordered = sorted(items)
    if not ordered:
        return f"none only in {label}"
    shown = ", ".join(repr(item) for item in ordered[:_SHOWN])
    return f"{len(ordered):,} only in {label} ({shown}{', ...' if len(ordered) > _SHOWN else ''})"
