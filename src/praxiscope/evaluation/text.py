"""``test_report.txt`` for people and ``per_class.csv`` for machines, both from the metrics alone."""

from __future__ import annotations

import csv
import io
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from praxiscope.runs.atomic import write_text

WIDTH = 100
"""Columns of the report at most, unless a label's name needs more."""

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

_NAME_WIDTH = 36
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
    sections = [
        [heading, "=" * measure_width(heading)],
        _format_facts(metrics),
        ["", *_format_headline(metrics), *_format_interval(metrics)],
        ["", "Per class, best F1 first", *_format_classes(metrics)],
        _format_extremes(metrics),
        _format_groups(metrics),
        ["", "Most frequent confusions", *_format_confusions(metrics, num_confusions)],
        ["", "How to read the figures", *_wrap(metrics["rules"].values(), "- ")],
    ]
    return "\n".join(line.rstrip() for lines in sections for line in lines) + "\n"


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


def escape_controls(text: str) -> str:
    r"""Show characters that would break a line or steer a terminal by their escapes.

    >>> escape_controls("two\nlines")
    'two\\nlines'
    """
    return "".join(
        char
        if char == " " or unicodedata.category(char)[0] not in "CZ"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def measure_width(text: str) -> int:
    """Count the columns that text takes in a terminal: wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


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
        show = _percent if name in _FRACTIONS else _number
        cells = "".join(
            f"{'none' if section is None else _with_interval(section[name], show):<26}"
            for _, section in columns
        )
        lines.append(f"{label:<20}{cells}")
    return lines


def _format_interval(metrics: Mapping[str, Any]) -> list[str]:
    interval = metrics["interval"]
    told = f"Brackets: {100 * interval['level']:g} % interval, {interval['method']}"
    return _wrap([f"{told}, {interval['resamples']:,} resamples of {interval['num_groups']:,} groups."])


def _format_classes(metrics: Mapping[str, Any]) -> list[str]:
    rows = sorted(metrics["per_class"], key=lambda row: (row["f1"] is None, -(row["f1"] or 0.0), row["name"]))
    titles = ("class", "samples", "F1", "precision", "interval", "recall", "interval")
    cells = [
        (
            _shorten(row["name"]),
            f"{row['support']:,}",
            _percent(row["f1"]),
            _percent(row["precision"]),
            _range(row["precision_low"], row["precision_high"], _percent),
            _percent(row["recall"]),
            _range(row["recall_low"], row["recall_high"], _percent),
        )
        for row in rows
    ]
    return _align([titles, *cells])


def _format_extremes(metrics: Mapping[str, Any]) -> list[str]:
    """Name the classes at 100 % and at 0 % recall, each with how sure that is."""
    # A file that was written before these findings existed has none.
    findings = metrics.get("extremes") or {"sentences": (), "differences": None}
    lines = _wrap(findings["sentences"], "- ")
    for level, words in ((1.0, "Every sample right"), (0.0, "No sample right")):
        found = [row for row in metrics["per_class"] if row["recall"] == level]
        if found:
            lines += _wrap([f"{words}{_list_extreme(found)}."])
    for words, side in (("Above overall", "better"), ("Below overall", "worse")):
        rows = (findings["differences"] or {}).get(side)
        if rows:
            told = (
                f"{_shorten(row['name'])} ({_percent(row['recall'])}, p {row['p_holm']:.2g})" for row in rows
            )
            lines += _wrap([f"{words} beyond chance: {'; '.join(told)}."])
    return ["", "Classes at the extremes", *lines] if lines else []


def _list_extreme(rows: Sequence[Mapping[str, Any]]) -> str:
    """Name classes with their samples and intervals, once where they are the same for all."""
    names = [_shorten(row["name"]) for row in rows]
    sizes = [
        f"{row['support']:,} sample{'s' if row['support'] > 1 else ''}{{each}}, recall "
        f"{_range(row['recall_low'], row['recall_high'], _percent)}"
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
                _shorten(row["name"]),
                f"{row['num_classes']:,}",
                f"{row['n']:,}",
                _percent(row["accuracy"]["value"]),
                _range(row["accuracy"]["low"], row["accuracy"]["high"], _percent),
                _percent(row["macro_recall"]),
            )
            for row in column["groups"]
        ]
        lines += _align([(_shorten(column["column"]), *titles[1:]), *rows])
    told = sorted(groups["differences"], key=lambda one: (not one["told_apart"], one["p_value"]))
    sentences = [one["sentence"] for one in told[:MAX_COMPARISONS]]
    if len(told) > MAX_COMPARISONS:
        sentences.append(f"{len(told) - MAX_COMPARISONS:,} more comparisons are in metrics.json.")
    return ["", *lines, *_wrap(map(escape_controls, [*sentences, *groups["sentences"]]), "- ")]


def _format_confusions(metrics: Mapping[str, Any], limit: int) -> list[str]:
    rows = [
        (
            f"{_shorten(row['target'])} -> {_shorten(row['preds'])}",
            f"{row['count']:,}",
            f"{100 * row['share']:.1f} % of {_shorten(row['target'])}",
        )
        for row in metrics["top_confusions"][:limit]
    ]
    return _align(rows, left=(0, 2)) if rows else ["none: every sample is right"]


def _align(rows: Sequence[Sequence[str]], *, left: Iterable[int] = (0,)) -> list[str]:
    """Pad the cells of each column to one width, to the right but for the columns named."""
    widths = [max(map(measure_width, column)) for column in zip(*rows, strict=True)]
    ragged = set(left)
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - measure_width(cell))
            cells.append(cell + padding if index in ragged else padding + cell)
        lines.append("  ".join(cells))
    return lines


def _wrap(sentences: Iterable[str], bullet: str = "") -> list[str]:
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_long_words=False
    )
    return [line for sentence in sentences for line in wrapper.wrap(sentence)]


def _shorten(name: str) -> str:
    shown = escape_controls(name)
    if measure_width(shown) <= _NAME_WIDTH:
        return shown
    while measure_width(shown) > _NAME_WIDTH - 3:
        shown = shown[:-1]
    return f"{shown}..."


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _range(low: float | None, high: float | None, show: Any) -> str:
    return (
        "[-]"
        if low is None or high is None
        else f"[{show(low).removesuffix(' %')}, {show(high).removesuffix(' %')}]"
    )


def _with_interval(figure: Mapping[str, float | None], show: Any) -> str:
    return f"{show(figure['value']):>7} {_range(figure['low'], figure['high'], show)}"
