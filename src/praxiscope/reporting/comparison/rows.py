"""What the pictures and tables of a comparison show: rows of ``comparison.json``, chosen and sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_CLASSES = 40
"""Of more classes, the largest differences are shown."""
MAX_CONFUSIONS = 24


@dataclass(frozen=True, kw_only=True)
class ClassDelta:
    """How much more of a class the second contestant finds."""

    name: str
    support: int
    first: float
    second: float
    """Recall in [0, 1]."""
    difference: float
    low: float | None
    high: float | None
    p_holm: float | None
    told_apart: bool
    """True where the difference stands after Holm's correction over classes."""


@dataclass(frozen=True, kw_only=True)
class ClassDeltas:
    """The classes with the largest differences, best for the second contestant first."""

    rows: tuple[ClassDelta, ...]
    total: int
    """Classes with a difference; ``len(rows)`` of them are shown."""
    told_apart: int
    """Of all classes."""
    undefined: int
    """Classes without samples."""


@dataclass(frozen=True, kw_only=True)
class ConfusionDelta:
    """One confusion, counted for both contestants."""

    target: str
    preds: str
    first: float
    second: float
    p_holm: float | None
    told_apart: bool

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first


def collect_class_deltas(per_class: Sequence[Mapping[str, Any]], *, limit: int = MAX_CLASSES) -> ClassDeltas:
    """Return the classes to show, sorted by falling difference.

    Args:
        per_class: The ``per_class`` rows of a pair in ``comparison.json``.
        limit: At most so many classes, those with the largest absolute difference; classes that can be told
            apart go before others.
    """
    known = [
        ClassDelta(
            name=row["name"],
            support=int(row["support"]),
            first=float(row["first"]),
            second=float(row["second"]),
            difference=float(row["difference"]),
            low=row.get("low"),
            high=row.get("high"),
            p_holm=row.get("p_holm"),
            told_apart=bool(row.get("told_apart")),
        )
        for row in per_class
        if row.get("difference") is not None
    ]
    kept = sorted(known, key=lambda row: (not row.told_apart, -abs(row.difference), row.name))[:limit]
    return ClassDeltas(
        rows=tuple(sorted(kept, key=lambda row: (-row.difference, row.name))),
        total=len(known),
        told_apart=sum(row.told_apart for row in known),
        undefined=len(per_class) - len(known),
    )


def collect_confusion_deltas(
    rows: Sequence[Mapping[str, Any]], *, limit: int = MAX_CONFUSIONS
) -> tuple[ConfusionDelta, ...]:
    """Return the confusions that differ most, largest change first.

    Args:
        rows: The ``confusion_differences`` of a pair in ``comparison.json``.
        limit: At most so many.
    """
    found = [
        ConfusionDelta(
            target=row["target"],
            preds=row["preds"],
            first=float(row["first"]),
            second=float(row["second"]),
            p_holm=row.get("p_holm"),
            told_apart=bool(row.get("told_apart")),
        )
        for row in rows
        if row["first"] != row["second"]
    ]
    found.sort(key=lambda row: (not row.told_apart, -abs(row.difference), row.target, row.preds))
    return tuple(found[:limit])


def find_contestant(result: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """Return the contestant of a label."""
    return next(one for one in result["contestants"] if one["label"] == label)


def order_pairs(result: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the pairs, that of the two most accurate contestants first."""

    def rank(pair: Mapping[str, Any]) -> float:
        top1 = (find_contestant(result, pair[side])["all"].get("top1") for side in ("first", "second"))
        return -sum(score["value"] if score else 0.0 for score in top1)

    return tuple(sorted(result["pairs"], key=rank))


def subtract_confusions(
    result: Mapping[str, Any], pair: Mapping[str, Any]
) -> tuple[tuple[float, ...], ...] | None:
    """Return the second contestant's confusion matrix minus the first's, or None where one has none.

    Where both saw equally many samples of each class, the difference is in counts; otherwise in points of the
    true class, as counts out of different numbers can't be compared.
    """
    matrices = [find_contestant(result, pair[side])["confusion"] for side in ("first", "second")]
    if any(matrix is None for matrix in matrices):
        return None
    if not count_alike(result, pair):
        matrices = [[_to_points(row) for row in matrix] for matrix in matrices]
    first, second = matrices
    return tuple(
        tuple(float(b) - float(a) for a, b in zip(before, after, strict=True))
        for before, after in zip(first, second, strict=True)
    )


def count_alike(result: Mapping[str, Any], pair: Mapping[str, Any]) -> bool:
    """Return whether both contestants of a pair saw equally many samples of each class."""
    first, second = (find_contestant(result, pair[side])["confusion"] or () for side in ("first", "second"))
    sums = ([round(sum(row), 6) for row in matrix] for matrix in (first, second))
    return next(sums) == next(sums)


def _to_points(row: Sequence[float]) -> list[float]:
    total = sum(row)
    return [100.0 * value / total if total else 0.0 for value in row]
