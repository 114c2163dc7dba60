"""Everything about two contestants on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.comparison.align import Aligned
from praxiscope.comparison.evidence import (
    Evidence,
    Method,
    choose_method,
    find_smallest_difference,
    weigh,
)
from praxiscope.comparison.repairs import list_repairs, tell_agreement
from praxiscope.stats.labels import IntArray
from praxiscope.stats.paired import ALPHA, POWER, mcnemar_p_values, smallest_sign_flip_p
from praxiscope.stats.significance import adjust_holm

TEST_NAMES: Mapping[Method, str] = {
    "mcnemar": "exact McNemar test",
    "sign-flip": "exact sign-flip test over groups",
    "replicates": "t test over samples and seeds",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class PairView:
    """Two contestants' answers, ready to be compared."""

    labels: tuple[str, str]
    names: tuple[str, ...]
    sample_ids: tuple[str, ...]
    targets: IntArray
    codes: IntArray
    first: npt.NDArray[np.int64]
    """(A, N) answers of each seed of the first."""
    second: npt.NDArray[np.int64]
    """(B, N)"""

    @property
    def method(self) -> Method:
        """The test that decides."""
        return choose_method((len(self.first), len(self.second)), self.codes)


def view_pair(aligned: Aligned, first: int, second: int, codes: IntArray) -> PairView:
    """Take two contestants by their places."""
    return PairView(
        labels=(aligned.contestants[first].label, aligned.contestants[second].label),
        names=aligned.names,
        sample_ids=aligned.sample_ids,
        targets=aligned.targets,
        codes=codes,
        first=np.stack([one.preds for one in aligned.answers[first]]),
        second=np.stack([one.preds for one in aligned.answers[second]]),
    )


def compare_pair(pair: PairView, *, level: float) -> dict[str, Any]:
    """Return a pair's entry of ``comparison.json`` but for verdict, Holm over pairs and the figures."""
    right = (pair.first == pair.targets, pair.second == pair.targets)
    overall = weigh(*right, pair.codes, level=level)
    smallest, discordance = find_smallest_difference(*right, pair.codes)
    mcnemar = None
    if pair.method != "replicates":
        only_first, only_second = int(overall.only_first), int(overall.only_second)
        mcnemar = {
            "only_first": only_first,
            "only_second": only_second,
            "p_value": float(mcnemar_p_values(only_first, only_second)),
            "decides": pair.method == "mcnemar",
        }
    return {
        "first": pair.labels[0],
        "second": pair.labels[1],
        "test": {
            "name": TEST_NAMES[pair.method],
            "p_value": overall.p_value,
            "reason": _tell_reason(pair),
        },
        "mcnemar": mcnemar,
        "smallest_difference": {
            "value": smallest,
            "power": POWER,
            "alpha": ALPHA,
            "n": pair.codes.size,
            "discordance": discordance,
        },
        "per_class": compare_classes(pair, level=level),
        "confusion_differences": compare_confusions(pair, level=level),
        "agreement": tell_agreement(pair.first, pair.second, pair.targets, pair.codes, level=level),
        "repairs": list_repairs(*right, pair.targets, pair.names, pair.sample_ids),
    }


def compare_classes(pair: PairView, *, level: float) -> list[dict[str, Any]]:
    """Compare the recall of each class; p-values after Holm over the classes that have samples."""
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(pair.names):
        inside = pair.targets == index
        right = (pair.first[:, inside] == index, pair.second[:, inside] == index)
        found = weigh(*right, _renumber(pair.codes[inside]), level=level)
        shares = [float(side.mean()) if inside.any() else float("nan") for side in right]
        rows.append(
            {
                "name": name,
                "support": int(inside.sum()),
                "first": shares[0],
                "second": shares[1],
                "difference": found.difference.value,
                "low": found.difference.low,
                "high": found.difference.high,
                "only_first": found.only_first,
                "only_second": found.only_second,
                "p_value": found.p_value if inside.any() else float("nan"),
            }
        )
    return correct_rows(rows, [row for row in rows if row["support"]])


def compare_confusions(pair: PairView, *, level: float) -> list[dict[str, Any]]:
    """Compare how often each wrong label was given, largest change first; Holm over all that occur."""
    size = len(pair.names)
    rows = []
    for target in range(size):
        inside = np.flatnonzero(pair.targets == target)
        codes = _renumber(pair.codes[inside])
        given = [side[:, inside] for side in (pair.first, pair.second)]
        for wrong in np.union1d(*given):
            if wrong != target:
                events = (given[0] == wrong, given[1] == wrong)
                found = weigh(*events, codes, level=level)
                rows.append(_tell_confusion(pair, (target, int(wrong)), events, found))
    correct_rows(rows, rows)
    return sorted(rows, key=lambda row: (row["p_value"], -abs(row["second"] - row["first"])))


def correct_rows(rows: list[dict[str, Any]], tested: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add Holm's correction over the tested rows, and what it means, to all rows."""
    for row in rows:
        row.update(p_holm=float("nan"), told_apart=False)
    for row, p_holm in zip(tested, adjust_holm([row["p_value"] for row in tested]), strict=True):
        row.update(p_holm=float(p_holm), told_apart=bool(p_holm < ALPHA))
    return rows


def _tell_confusion(
    pair: PairView, cell: tuple[int, int], events: tuple[Any, Any], found: Evidence
) -> dict[str, Any]:
    return {
        "target": pair.names[cell[0]],
        "preds": pair.names[cell[1]],
        "first": float(events[0].sum(axis=1).mean()),
        "second": float(events[1].sum(axis=1).mean()),
        "only_first": found.only_first,
        "only_second": found.only_second,
        "p_value": found.p_value,
    }


def _tell_reason(pair: PairView) -> str:
    if pair.method == "mcnemar":
        return "One model each and samples without groups: samples that only one has right are counted."
    if pair.method == "sign-flip":
        groups = int(np.unique(pair.codes).size)
        few = (
            f" So few groups could not show any difference: the smallest p-value possible is "
            f"{smallest_sign_flip_p(groups):.2g}."
            if smallest_sign_flip_p(groups) > ALPHA
            else ""
        )
        return (
            f"The {pair.codes.size:,} samples come in {groups:,} groups, and samples of one group aren't "
            f"independent, so McNemar's test would claim too much; whole groups are compared instead.{few}"
        )
    return (
        "Several seeds stand for a recipe, so the difference must hold over other samples and other seeds; "
        "McNemar's test knows samples alone."
    )


def _renumber(codes: IntArray) -> IntArray:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
