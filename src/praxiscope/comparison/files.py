"""A comparison as tables for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from praxiscope.comparison.align import Aligned
from praxiscope.comparison.result import FIGURES
from praxiscope.stats.calibration import compute_softmax

Row = Mapping[str, Any]


def format_headline_csv(content: Mapping[str, Any]) -> str:
    """Return one row for each contestant or pair, set of samples and figure.

    Args:
        content: Of ``comparison.json``.
    """
    rows: list[Row] = []
    for one in content["contestants"]:
        for part in ("all", "clean"):
            rows += _list_figures({"what": one["label"], "against": "", "samples": part}, one.get(part))
    for pair in content["pairs"]:
        for part in ("all", "clean"):
            heading = {"what": pair["second"], "against": pair["first"], "samples": part}
            rows += _list_figures(heading, pair["differences"].get(part))
    for one in content["ensembles"]:
        rows += _list_figures({"what": one["name"], "against": "", "samples": "all"}, one)
    for one in content["contestants"]:
        heading = {"what": one["label"], "against": "", "samples": "all"}
        rows += [{**heading, "figure": f"top1 {head}", **score} for head, score in one["heads"].items()]
        training = (one["training"] or {}).items()
        rows += [{**heading, "samples": "", "figure": name, "value": value} for name, value in training]
    columns = ("what", "against", "samples", "figure", "value", "low", "high", "sd", "min", "max")
    return _format_csv(columns, rows)


def format_per_class_csv(content: Mapping[str, Any]) -> str:
    """Return one row for each pair and class: recalls, their difference, interval, p-values."""
    rows = [_name_pair(pair, row) for pair in content["pairs"] for row in pair["per_class"]]
    columns = (
        "first", "second", "class", "support", "recall_first", "recall_second", "difference", "low", "high",
        "only_first", "only_second", "p_value", "p_holm", "told_apart",
    )  # fmt: skip
    return _format_csv(columns, rows)


def format_confusions_csv(content: Mapping[str, Any]) -> str:
    """Return one row for each pair and wrong label that occurs, those that changed most surely first."""
    rows = [_name_pair(pair, row) for pair in content["pairs"] for row in pair["confusion_differences"]]
    columns = (
        "first", "second", "target", "preds", "count_first", "count_second", "only_first", "only_second",
        "p_value", "p_holm", "told_apart",
    )  # fmt: skip
    return _format_csv(columns, rows)


def format_disagreements_csv(aligned: Aligned) -> str:
    """Return one row a sample: target, and of each contestant and seed the answer and its probability."""
    titles, columns = ["sample_id", "group", "clean", "target"], []
    for contestant, seeds in zip(aligned.contestants, aligned.answers, strict=True):
        for index, one in enumerate(seeds):
            title = contestant.label if len(seeds) == 1 else f"{contestant.label} #{index + 1}"
            titles.append(title)
            columns.append([aligned.names[answer] for answer in one.preds])
            if one.logits is not None:
                titles.append(f"{title} probability")
                columns.append([f"{value:.4f}" for value in compute_softmax(one.logits).max(axis=1)])
    titles += ["right", "same_answer"]
    preds = np.stack([one.preds for seeds in aligned.answers for one in seeds])
    right, same = (preds == aligned.targets).sum(axis=0), (preds == preds[0]).all(axis=0)
    rows = [
        [
            sample_id,
            "" if aligned.groups is None else aligned.groups[index] or "",
            "" if aligned.clean is None else _spell(bool(aligned.clean[index])),
            aligned.names[aligned.targets[index]],
            *(column[index] for column in columns),
            int(right[index]),
            _spell(bool(same[index])),
        ]
        for index, sample_id in enumerate(aligned.sample_ids)
    ]
    return _render([titles, *rows])


def _list_figures(heading: Row, section: Mapping[str, Any] | None) -> list[Row]:
    figures = [] if section is None else [name for name in FIGURES if section.get(name) is not None]
    return [{**heading, "figure": name, **(section or {})[name]} for name in figures]


def _name_pair(pair: Mapping[str, Any], row: Row) -> Row:
    return {
        **row,
        "class": row.get("name"),
        "recall_first": row["first"],
        "recall_second": row["second"],
        "count_first": row["first"],
        "count_second": row["second"],
        "first": pair["first"],
        "second": pair["second"],
    }


def _format_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    return _render([list(columns), *([_spell(row.get(name)) for name in columns] for row in rows)])


def _render(rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _spell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value
