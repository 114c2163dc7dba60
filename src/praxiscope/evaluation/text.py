"""``test_report.txt`` for people and ``per_class.csv`` for machines, both from the metrics alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from praxiscope.evaluation.baseline import tell_baseline
from praxiscope.evaluation.joint_text import (
    format_epic,
    format_joint_facts,
    format_joint_headline,
    format_outcomes,
    format_temporal,
    list_rules,
)
from praxiscope.evaluation.typeset import (
    align,
    escape_controls,
    measure_width,
    shorten,
    show_number,
    show_percent,
    show_span,
    with_interval,
    wrap,
)
from praxiscope.runs.atomic import write_text

PER_CLASS_COLUMNS = (
    "name",
    "support",
    "predicted",
    "precision",
    "recall",
    "f1",
    "recall_low",
    "recall_high",
    "precision_low",
    "precision_high",
)
"""Columns of ``per_class.csv``: the keys of the ``per_class`` rows of ``metrics.json``."""

MAX_COMPARISONS = 20
"""Comparisons of groups that the report lists; ``metrics.json`` holds all."""

_FRACTIONS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "weighted_precision": "weighted precision",
    "weighted_recall": "weighted recall",
    "balanced_acc": "balanced accuracy",
    "ece": "calibration error",
}
_NUMBERS = {"nll": "log loss (nats)", "brier": "Brier score (0-2)"}


def format_test_report(metrics: Mapping[str, Any], *, title: str = "", num_confusions: int = 10) -> str:
    """Write the metrics as a report of fixed-width text.

    Args:
        metrics: As `compute_metrics` gives them, or as read from ``metrics.json``.
        title: What was evaluated, for example the run's name.
        num_confusions: How many of the most frequent confusions to list.

    Returns:
        Lines that end in a newline. Control characters in names are shown escaped.
    """
    heading = f"Evaluation on {escape_controls(metrics['split'])}"
    if title:
        heading += f": {escape_controls(title)}"
    if "heads" in metrics:
        parts = [
            [heading, "=" * measure_width(heading)],
            format_joint_facts(metrics),
            ["", *format_joint_headline(metrics), *_format_interval(metrics)],
            format_outcomes(metrics),
            format_epic(metrics),
            format_temporal(metrics),
            ["", "Most frequent confusions", *_format_confusions(metrics, num_confusions)],
            *(_format_head(own, num_confusions) for own in metrics["heads"].values()),
        ]
        rules = [rule for each in (metrics, *metrics["heads"].values()) for rule in list_rules(each)]
    else:
        parts = [
            [heading, "=" * measure_width(heading)],
            _format_facts(metrics),
            ["", *_format_headline(metrics), *_format_baseline(metrics), *_format_interval(metrics)],
            format_temporal(metrics),
            *_format_details(metrics, num_confusions),
        ]
        rules = list_rules(metrics)
    parts.append(["", "How to read the figures", *wrap(dict.fromkeys(rules), "- ")])
    return "\n".join(line.rstrip() for lines in parts for line in lines) + "\n"


def _format_head(metrics: Mapping[str, Any], num_confusions: int) -> list[str]:
    heading = f"Head {escape_controls(metrics['head'])}: {metrics['num_classes']:,} classes"
    details = _format_details(metrics, num_confusions)
    return [
        *("", "", heading, "-" * measure_width(heading)),
        *(*_format_headline(metrics), *_format_baseline(metrics)),
        *(line for lines in details for line in lines),
    ]


def _format_details(metrics: Mapping[str, Any], num_confusions: int) -> list[list[str]]:
    return [
        ["", "Per class, best F1 first", *_format_classes(metrics)],
        _format_extremes(metrics),
        _format_groups(metrics),
        ["", "Most frequent confusions", *_format_confusions(metrics, num_confusions)],
    ]


def _format_baseline(metrics: Mapping[str, Any]) -> list[str]:
    told = tell_baseline(metrics)
    return wrap([escape_controls(told)]) if told else []


def format_per_class_csv(metrics: Mapping[str, Any]) -> str:
    """Write the per-class figures as CSV: raw values for machines, nothing escaped for spreadsheets.

    Args:
        metrics: As `compute_metrics` gives them, or as read from ``metrics.json``.

    Returns:
        A header and one row a class, in the order of the names; fractions in full precision, undefined ones
        empty.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, PER_CLASS_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(metrics["per_class"])
    return text.getvalue()


def write_test_report(metrics: Mapping[str, Any], path: Path, *, title: str = "") -> None:
    """Write `format_test_report` to a UTF-8 file, wholly or not at all.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    write_text(path, format_test_report(metrics, title=title))


def write_per_class_csv(metrics: Mapping[str, Any], path: Path) -> None:
    """Write `format_per_class_csv` to a UTF-8 file, wholly or not at all.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    write_text(path, format_per_class_csv(metrics))


def write_per_class_csvs(metrics: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write ``per_class.csv``, of several heads ``per_class_<head>.csv`` for each, and return the paths.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    heads = metrics.get("heads")
    tables = {f"per_class_{head}.csv": own for head, own in heads.items()} if heads else None
    paths = []
    for name, own in (tables or {"per_class.csv": metrics}).items():
        write_per_class_csv(own, folder / name)
        paths.append(folder / name)
    return tuple(paths)


def _format_facts(metrics: Mapping[str, Any]) -> list[str]:
    samples, clean = metrics["num_samples"], metrics["num_clean"]
    facts = {
        "samples": f"{samples:,}, of which {clean:,} clean (no twin in an earlier split)",
        "classes": f"{metrics['num_classes']:,} of head {escape_controls(metrics['head'])}",
        "weights": f"sha256 {metrics['weights_sha256']}",
        "manifest": f"sha256 {metrics['manifest_fingerprint']}",
    }
    return [f"{key:<10}{value}" for key, value in facts.items()]


def _format_headline(metrics: Mapping[str, Any]) -> list[str]:
    columns = [("all samples", metrics["all"]), ("clean samples", metrics["clean"])]
    lines = [" " * 20 + "".join(f"{title:<26}" for title, _ in columns)]
    for name, label in (*_FRACTIONS.items(), *_NUMBERS.items()):
        show = show_percent if name in _FRACTIONS else show_number
        cells = "".join(
            f"{'none' if section is None else with_interval(section[name], show):<26}"
            for _, section in columns
        )
        lines.append(f"{label:<20}{cells}")
    return lines


def _format_interval(metrics: Mapping[str, Any]) -> list[str]:
    interval = metrics["interval"]
    told = f"Brackets: {100 * interval['level']:g} % interval, {interval['method']}"
    return wrap([f"{told}, {interval['resamples']:,} resamples of {interval['num_groups']:,} groups."])


def _format_classes(metrics: Mapping[str, Any]) -> list[str]:
    rows = sorted(metrics["per_class"], key=lambda row: (row["f1"] is None, -(row["f1"] or 0.0), row["name"]))
    titles = ("class", "samples", "F1", "precision", "interval", "recall", "interval")
    cells = [
        (
            shorten(row["name"]),
            f"{row['support']:,}",
            show_percent(row["f1"]),
            show_percent(row["precision"]),
            show_span(row["precision_low"], row["precision_high"], show_percent),
            show_percent(row["recall"]),
            show_span(row["recall_low"], row["recall_high"], show_percent),
        )
        for row in rows
    ]
    return align([titles, *cells])


def _format_extremes(metrics: Mapping[str, Any]) -> list[str]:
    """Name the classes at 100 % and at 0 % recall, each with how sure that is."""
    # A file that was written before these findings existed has none.
    findings = metrics.get("extremes") or {"sentences": (), "differences": None}
    lines = wrap(findings["sentences"], "- ")
    for level, words in ((1.0, "Every sample right"), (0.0, "No sample right")):
        found = [row for row in metrics["per_class"] if row["recall"] == level]
        if found:
            lines += wrap([f"{words}{_list_extreme(found)}."])
    for words, side in (("Above overall", "better"), ("Below overall", "worse")):
        rows = (findings["differences"] or {}).get(side)
        if rows:
            told = (
                f"{shorten(row['name'])} ({show_percent(row['recall'])}, p {row['p_holm']:.2g})"
                for row in rows
            )
            lines += wrap([f"{words} beyond chance: {'; '.join(told)}."])
    return ["", "Classes at the extremes", *lines] if lines else []


def _list_extreme(rows: Sequence[Mapping[str, Any]]) -> str:
    """Name classes with their samples and intervals, once where they are the same for all."""
    names = [shorten(row["name"]) for row in rows]
    sizes = [
        f"{row['support']:,} sample{'s' if row['support'] > 1 else ''}{{each}}, recall "
        f"{show_span(row['recall_low'], row['recall_high'], show_percent)}"
        for row in rows
    ]
    if len(rows) > 1 and len(set(sizes)) == 1:
        return f" ({sizes[0].format(each=' each')}): {', '.join(names)}"
    told = (f"{name} ({size.format(each='')})" for name, size in zip(names, sizes, strict=True))
    return f": {'; '.join(told)}"


def _format_groups(metrics: Mapping[str, Any]) -> list[str]:
    """Show each grouping as a table, then its comparisons, those that can be told apart first."""
    groups = metrics.get("groups")
    if groups is None:
        return []
    lines = [f"Groups of classes ({escape_controls(groups['source'])})"]
    titles = ("", "classes", "samples", "accuracy", "interval", "mean recall")
    for column in groups["columns"]:
        rows = [
            (
                shorten(row["name"]),
                f"{row['num_classes']:,}",
                f"{row['n']:,}",
                show_percent(row["accuracy"]["value"]),
                show_span(row["accuracy"]["low"], row["accuracy"]["high"], show_percent),
                show_percent(row["macro_recall"]),
            )
            for row in column["groups"]
        ]
        lines += align([(shorten(column["column"]), *titles[1:]), *rows])
    told = sorted(groups["differences"], key=lambda one: (not one["told_apart"], one["p_value"]))
    sentences = [one["sentence"] for one in told[:MAX_COMPARISONS]]
    if len(told) > MAX_COMPARISONS:
        sentences.append(f"{len(told) - MAX_COMPARISONS:,} more comparisons are in metrics.json.")
    return ["", *lines, *wrap(map(escape_controls, [*sentences, *groups["sentences"]]), "- ")]


def _format_confusions(metrics: Mapping[str, Any], limit: int) -> list[str]:
    rows = [
        (
            f"{shorten(row['target'])} -> {shorten(row['preds'])}",
            f"{row['count']:,}",
            f"{100 * row['share']:.1f} % of {shorten(row['target'])}",
        )
        for row in metrics["top_confusions"][:limit]
    ]
    return align(rows, left=(0, 2)) if rows else ["none: every sample is right"]
