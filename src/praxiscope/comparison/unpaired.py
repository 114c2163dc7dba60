"""Comparison from counts alone: nothing says which samples were right, so samples can't be paired.

Both sides are then taken as independent samples. Where they are the same test images that is wrong on the
safe side: good models tend to be right on the same images, which pairing would use and this can't.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from praxiscope.comparison.align import merge_names
from praxiscope.comparison.build import finish_pairs, tell_classes, tell_member
from praxiscope.comparison.contestants import Contestant
from praxiscope.comparison.headline import Plan
from praxiscope.comparison.pairs import correct_rows
from praxiscope.comparison.result import FIGURES, ComparisonResult
from praxiscope.comparison.tables import CountTable, SampleTable
from praxiscope.comparison.verdict import tell_all
from praxiscope.stats.bootstrap import bootstrap_cells
from praxiscope.stats.confusion import compute_confusion, compute_margin_scores
from praxiscope.stats.intervals import percentile_interval, wilson_interval
from praxiscope.stats.labels import FloatArray, IntArray
from praxiscope.stats.paired import ALPHA, POWER
from praxiscope.stats.paired_bootstrap import COUNT_SCORES
from praxiscope.stats.proportions import fisher_p_values, newcombe_interval, smallest_unpaired_difference

UNPAIRED_TEST = "Fisher's exact test, unpaired"

UNPAIRED_NOTE = (
    "UNPAIRED: at least one contestant is given as counts, which don't say which samples it has right. The "
    "models are compared as if each had been tested on samples of its own. If they were tested on the same "
    "samples, pairing would be stronger: smaller differences could be told. Give predictions sample by "
    "sample (a run, a predictions file, or a CSV with ids) to have that."
)

UNPAIRED_RULES = {
    "difference": "Differences are second minus first, the first being the one given earlier.",
    "decision": "Fisher's exact test on right and wrong answers, unpaired; Holm over several pairs.",
    "intervals": (
        "Accuracy and recall: Newcombe's interval of a difference of independent shares, Wilson's of each "
        "share. Other scores: confusion matrices redrawn independently of one another, percentiles."
    ),
    "per_class": "Recall per class: Fisher's exact test, unpaired, Holm over the classes with samples.",
    "confusions": "Confusions: Fisher's exact test, unpaired, Holm over all wrong labels that occur.",
    "smallest_difference": "The difference that two independent samples would tell with 80 % power at 5 %.",
}


def compare_counts(contestants: Sequence[Contestant], plan: Plan | None = None) -> ComparisonResult:
    """Compare contestants by their counts, marked as unpaired throughout.

    Args:
        contestants: At least two, of one table each; sample tables are reduced to their confusion matrix.
        plan: How intervals are made.

    Raises:
        DataError: Labels that differ.
    """
    plan = plan or Plan()
    tables = [_reduce(contestant.members[0]) for contestant in contestants]
    names = merge_names(
        [
            (contestant.label, table.names, getattr(contestant.members[0], "names_complete", True))
            for contestant, table in zip(contestants, tables, strict=True)
        ]
    )
    tables = [_reorder(table, names) for table in tables]
    drawn = [_resample(table, plan, index) for index, table in enumerate(tables)]
    told = [
        _tell_contestant(contestant, table, draws, plan)
        for contestant, table, draws in zip(contestants, tables, drawn, strict=True)
    ]
    pairs = [
        _compare_pair(
            told, (tables[first], tables[second]), (drawn[first], drawn[second]), (first, second), plan
        )
        for first, second in itertools.combinations(range(len(tables)), 2)
    ]
    sizes = [int(table.support.sum()) for table in tables]
    samples = "n = " + (
        f"{sizes[0]:,} each" if len(set(sizes)) == 1 else " and ".join(f"{size:,}" for size in sizes)
    )
    finish_pairs(pairs, samples)
    for pair in pairs:
        pair["verdict"] = f"Unpaired comparison: {pair['verdict']}"
    whole = tell_all(pairs, told, samples)
    sample_tables = [each.members[0] for each in contestants if isinstance(each.members[0], SampleTable)]
    return ComparisonResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        praxiscope_version=version("praxiscope"),
        split=next((table.split for table in sample_tables), None),
        head=next((table.head for table in sample_tables), None),
        names=names,
        paired=False,
        verdict=whole if len(pairs) == 1 else f"Unpaired comparison: {whole}",
        notes=(UNPAIRED_NOTE, *_note_margins(contestants, tables)),
        interval={**vars(plan), "method": "unpaired: Newcombe; confusion matrices redrawn independently"},
        samples={
            "n": max(sizes), "num_clean": None, "num_groups": max(sizes), "grouped": False,
            "common_only": False, "left_out": {},
        },
        contestants=told,
        pairs=pairs,
        ensembles=[],
        oracle=None,
        rules=UNPAIRED_RULES,
    )  # fmt: skip


def _reduce(table: SampleTable | CountTable) -> CountTable:
    if isinstance(table, CountTable):
        return table
    confusion = compute_confusion(table.targets, table.preds, len(table.names))
    return CountTable(
        source=table.source,
        names=table.names,
        support=confusion.sum(axis=1),
        correct=np.diag(confusion).copy(),
        predicted=confusion.sum(axis=0),
        confusion=confusion,
        run=table.run,
    )


def _reorder(table: CountTable, names: Sequence[str]) -> CountTable:
    """Bring counts into the common order of names; a label that a source doesn't know has none."""
    place = np.array([names.index(name) for name in table.names])

    def spread(counts: IntArray) -> IntArray:
        filled = np.zeros(len(names), dtype=np.int64)
        filled[place] = counts
        return filled

    confusion = None
    if table.confusion is not None:
        confusion = np.zeros((len(names), len(names)), dtype=np.int64)
        confusion[np.ix_(place, place)] = table.confusion
    return CountTable(
        source=table.source,
        names=tuple(names),
        support=spread(table.support),
        correct=spread(table.correct),
        predicted=spread(table.predicted),
        confusion=confusion,
        run=table.run,
    )


def _resample(table: CountTable, plan: Plan, index: int) -> dict[str, FloatArray] | None:
    """Draw each contestant's confusion matrix with a seed of its own: independent samples."""
    if table.confusion is None:
        return None
    return bootstrap_cells(table.confusion, resamples=plan.resamples, seed=plan.seed + 1_000_003 * index)


def _tell_contestant(
    contestant: Contestant, table: CountTable, drawn: Mapping[str, FloatArray] | None, plan: Plan
) -> dict[str, Any]:
    scores = _score(table)
    section: dict[str, Any] = {"n": int(table.support.sum())}
    for name in FIGURES:
        section[name] = None
        if name == "top1":
            low, high = wilson_interval(table.correct.sum(), table.support.sum(), level=plan.level)
            section[name] = _figure(scores[name], float(low), float(high))
        elif name in COUNT_SCORES:
            low_high = (float("nan"), float("nan"))
            if drawn is not None:
                interval = percentile_interval(scores[name], drawn[name], level=plan.level)
                low_high = (interval.low, interval.high)
            section[name] = _figure(scores[name], *low_high)
    member = contestant.members[0]
    return {
        "label": contestant.label,
        "kind": contestant.kind,
        "has_probabilities": False,
        "members": [tell_member(member, scores["top1"])],
        "all": section,
        "clean": None,
        "per_class": _tell_margins(table, plan.level),
        "confusion": None if table.confusion is None else table.confusion.tolist(),
        "seed_agreement": None,
    }


def _compare_pair(
    told: Sequence[Mapping[str, Any]],
    tables: tuple[CountTable, CountTable],
    drawn: tuple[Mapping[str, FloatArray] | None, Mapping[str, FloatArray] | None],
    places: tuple[int, int],
    plan: Plan,
) -> dict[str, Any]:
    first, second = ((int(table.correct.sum()), int(table.support.sum())) for table in tables)
    return {
        "first": told[places[0]]["label"],
        "second": told[places[1]]["label"],
        "test": {
            "name": UNPAIRED_TEST,
            "p_value": float(fisher_p_values(first, second)[0]),
            "reason": "Counts alone don't say which samples were right, so samples can't be paired.",
        },
        "mcnemar": None,
        "smallest_difference": {
            "value": smallest_unpaired_difference(first, second),
            "power": POWER,
            "alpha": ALPHA,
            "n": min(first[1], second[1]),
            "discordance": None,
        },
        "differences": {"all": _tell_differences(tables, drawn, plan), "clean": None},
        "per_class": _compare_classes(tables, plan.level),
        "confusion_differences": _compare_confusions(tables),
        "agreement": None,
        "repairs": None,
    }


def _tell_differences(
    tables: tuple[CountTable, CountTable],
    drawn: tuple[Mapping[str, FloatArray] | None, Mapping[str, FloatArray] | None],
    plan: Plan,
) -> dict[str, Any]:
    before, after = (_score(table) for table in tables)
    found: dict[str, Any] = dict.fromkeys(FIGURES)
    for name in COUNT_SCORES:
        found[name] = {"value": after[name] - before[name], "low": float("nan"), "high": float("nan")}
        if drawn[0] is not None and drawn[1] is not None:
            change = drawn[1][name] - drawn[0][name]
            found[name] = vars(percentile_interval(found[name]["value"], change, level=plan.level))
    sides = [(table.correct.sum(), table.support.sum()) for table in tables]
    low, high = newcombe_interval(sides[0], sides[1], level=plan.level)
    found["top1"] = {"value": after["top1"] - before["top1"], "low": float(low), "high": float(high)}
    return found


def _compare_classes(tables: tuple[CountTable, CountTable], level: float) -> list[dict[str, Any]]:
    before, after = ((table.correct, table.support) for table in tables)
    low, high = newcombe_interval(before, after, level=level)
    p_values = fisher_p_values(before, after)
    recalls = [_recall(table) for table in tables]
    rows = [
        {
            "name": name,
            "support": int(min(before[1][index], after[1][index])),
            "first": float(recalls[0][index]),
            "second": float(recalls[1][index]),
            "difference": float(recalls[1][index] - recalls[0][index]),
            "low": float(low[index]),
            "high": float(high[index]),
            "only_first": None,
            "only_second": None,
            "p_value": float(p_values[index]),
        }
        for index, name in enumerate(tables[0].names)
    ]
    return correct_rows(rows, [row for row in rows if row["support"]])


def _compare_confusions(tables: tuple[CountTable, CountTable]) -> list[dict[str, Any]]:
    first, second = (table.confusion for table in tables)
    if first is None or second is None:
        return []
    occurs = (first + second) > 0
    np.fill_diagonal(occurs, val=False)
    target, wrong = np.nonzero(occurs)
    supports = [table.support[target] for table in tables]
    p_values = fisher_p_values((first[target, wrong], supports[0]), (second[target, wrong], supports[1]))
    rows = [
        {
            "target": tables[0].names[target[index]],
            "preds": tables[0].names[wrong[index]],
            "first": float(first[target[index], wrong[index]]),
            "second": float(second[target[index], wrong[index]]),
            "only_first": None,
            "only_second": None,
            "p_value": float(p_values[index]),
        }
        for index in range(target.size)
    ]
    correct_rows(rows, rows)
    return sorted(rows, key=lambda row: (row["p_value"], -abs(row["second"] - row["first"])))


def _tell_margins(table: CountTable, level: float) -> list[dict[str, Any]]:
    if table.confusion is not None:
        return tell_classes(table.confusion[None], table.names, level)
    low, high = wilson_interval(table.correct, table.support, level=level)
    recall = _recall(table)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = table.correct / table.predicted
        f1 = 2 * table.correct / (table.support + table.predicted)
    return [
        {
            "name": name,
            "support": int(table.support[index]),
            "recall": float(recall[index]),
            "recall_low": float(low[index]),
            "recall_high": float(high[index]),
            "precision": float(precision[index]),
            "f1": float(f1[index]),
        }
        for index, name in enumerate(table.names)
    ]


def _note_margins(contestants: Sequence[Contestant], tables: Sequence[CountTable]) -> list[str]:
    bare = [one.label for one, table in zip(contestants, tables, strict=True) if table.confusion is None]
    if not bare:
        return []
    return [f"{', '.join(bare)}: no confusion matrix, so confusions aren't compared and F1 has no interval."]


def _score(table: CountTable) -> dict[str, float]:
    scores = compute_margin_scores(table.correct, table.support, table.predicted)
    return {name: float(scores[name]) for name in COUNT_SCORES}


def _recall(table: CountTable) -> FloatArray:
    recall: FloatArray = np.divide(
        table.correct, table.support, out=np.full(table.support.shape, np.nan), where=table.support > 0
    )
    return recall


def _figure(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "sd": None, "min": value, "max": value}
