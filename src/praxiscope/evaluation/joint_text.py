"""What ``test_report.txt`` says about several heads together, EPIC's figures and temporal reliance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from praxiscope.evaluation.baseline import BASELINE_RULE, tell_baseline
from praxiscope.evaluation.typeset import (
    align,
    escape_controls,
    shorten,
    show_percent,
    show_span,
    with_interval,
    wrap,
)


def format_joint_facts(metrics: Mapping[str, Any]) -> list[str]:
    """Say what was evaluated, of metrics of several heads."""
    samples, clean = metrics["num_samples"], metrics["num_clean"]
    heads = metrics["heads"].items()
    told = " and ".join(f"{escape_controls(head)} ({own['num_classes']:,} classes)" for head, own in heads)
    facts = {
        "samples": f"{samples:,}, of which {clean:,} clean (no twin in an earlier split)",
        "heads": told,
        metrics["head"]: f"right when all are; {metrics['num_classes']:,} combinations occur here",
        "weights": f"sha256 {metrics['weights_sha256']}",
        "manifest": f"sha256 {metrics['manifest_fingerprint']}",
    }
    return [f"{key:<10}{value}" for key, value in facts.items()]


def format_joint_headline(metrics: Mapping[str, Any]) -> list[str]:
    """Write the accuracies of the joint answer and of each head, beside what the majority would give."""
    rows = [("", "top-1", "", "clean top-1", "", "top-5", "majority")]
    for name, each in ((metrics["head"], metrics), *metrics["heads"].items()):
        clean = each["clean"]
        baseline = each.get("baseline")
        rows.append(
            (
                shorten(name),
                *_figure(each["all"]["top1"]),
                *(("none", "") if clean is None else _figure(clean["top1"])),
                show_percent(each["all"]["top5"]["value"]),
                show_percent(baseline["all"]["top1"]) if baseline else "-",
            )
        )
    return [*align(rows), *wrap([escape_controls(tell_baseline(metrics))])]


def format_outcomes(metrics: Mapping[str, Any]) -> list[str]:
    """Say how often which heads are right."""
    rows = [
        (
            f"{' and '.join(map(shorten, one['right'])) or 'none'}"
            + ("" if len(one["right"]) in {0, len(metrics["joint"])} else " only"),
            f"{one['count']:,}",
            show_percent(one["share"]),
        )
        for one in metrics["outcomes"]
    ]
    return ["", "Which heads are right", *align(rows)]


def format_epic(metrics: Mapping[str, Any]) -> list[str]:
    """Write EPIC-KITCHENS-100's figures, in percent as the benchmark does; nothing where there are none."""
    epic = metrics.get("epic")
    if not epic:
        return []
    rows: list[tuple[str, ...]] = [
        ("", "segments", "verb@1", "noun@1", "action@1", "verb@5", "noun@5", "action@5")
    ]
    for name in ("all", "unseen", "tail"):
        found = [
            epic["figures"][f"{name}_{task}_accuracy_at_{k}"]
            for k in (1, 5)
            for task in ("verb", "noun", "action")
        ]
        sizes = list(dict.fromkeys(one["n"] for one in found))
        rows.append(
            (
                name,
                "/".join(f"{size:,}" for size in sizes),
                *("-" if one["value"] is None else f"{100 * one['value']:.2f}" for one in found),
            )
        )
    sentences = wrap(map(escape_controls, epic["sentences"]))
    title = "EPIC-KITCHENS-100, accuracy in % (in metrics.json: all_verb_accuracy_at_1 ...)"
    return ["", title, *align(rows), *sentences]


def format_temporal(metrics: Mapping[str, Any]) -> list[str]:
    """Write what the order of frames is worth; nothing where it wasn't measured."""
    found = metrics.get("temporal_reliance")
    if not found:
        return []
    rows = [("frames", "top-1", "", "difference", "", "largest change of a logit")]
    for one in found["orders"]:
        difference = one["difference"]
        points = "" if difference is None else f"{100 * difference['value']:+.1f}"
        span = "" if difference is None else show_span(difference["low"], difference["high"], _show_points)
        change = one["largest_change"]
        shown = "" if change is None else f"{change:.2g}"
        rows.append((one["order"], *_figure(one["top1"]), points, span, shown))
    return ["", "Temporal reliance", *align(rows), *wrap([found["verdict"]])]


def list_rules(metrics: Mapping[str, Any]) -> list[str]:
    """Return the sentences on how some metrics are defined."""
    rules = list(metrics["rules"].values())
    if metrics.get("baseline"):
        rules.append(BASELINE_RULE)
    rules += [metrics[key]["rule"] for key in ("epic", "temporal_reliance") if metrics.get(key)]
    return rules


def _figure(figure: Mapping[str, float | None]) -> tuple[str, str]:
    shown = with_interval(figure, show_percent)
    value, _, span = shown.partition(" [")
    return value.strip(), f"[{span}"


def _show_points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"
