"""``comparison.html``: which of several models is better, how sure that is, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.comparison.unpaired import UNPAIRED_NOTE
from praxiscope.reporting.comparison.pairs import build_pair
from praxiscope.reporting.comparison.phases import tabulate_phases
from praxiscope.reporting.comparison.repairs import open_album, share_pictures
from praxiscope.reporting.comparison.rows import order_pairs
from praxiscope.reporting.comparison.scores import (
    build_ensembles,
    build_headline,
    build_seeds,
    describe_unpaired,
)
from praxiscope.reporting.costs.chart import list_shapes
from praxiscope.reporting.costs.views import build_cost_view
from praxiscope.reporting.page import render_page
from praxiscope.reporting.views import SPLIT_NAMES
from praxiscope.reporting.wording import MISSING, NARROW, format_count, format_percent
from praxiscope.runs import atomic

STYLES = ("report.css", "costs.css", "comparison.css")


def build_comparison_page(
    result: Mapping[str, Any],
    folder: Path,
    *,
    costs: Mapping[str, Any] | None = None,
    data_root: Path | None = None,
) -> Path:
    """Write ``comparison.html`` and return its path.

    The page needs nothing but a browser and sends no request. Answers in the galleries come from
    ``disagreements.csv`` in the folder, pictures from the data of the runs that are compared; what isn't
    there is named.

    Args:
        result: The content of ``comparison.json``.
        folder: Existing folder.
        costs: The content of a ``profile.json``, for the section on costs.
        data_root: Folder of the pictures, when the data has moved; None takes the runs' own.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    context = _compose(result, folder, costs, data_root)
    path = folder / "comparison.html"
    atomic.write_text(path, render_page(context, template="comparison.html.j2", styles=STYLES))
    return path


def _compose(
    result: Mapping[str, Any], folder: Path, costs: Mapping[str, Any] | None, data_root: Path | None
) -> dict[str, Any]:
    ordered = order_pairs(result)
    album = open_album(result, folder, data_root)
    shown = share_pictures(len(ordered))
    pairs = [build_pair(result, pair, album, max_shown=shown) for pair in ordered]
    headline = build_headline(result)
    seeds, seed_scale = build_seeds(result)
    return {
        "kind": "comparison",
        "title": _name(result),
        "facts": _list_facts(result),
        "sections": _list_sections(result, has_seeds=bool(seeds), has_costs=costs is not None),
        "result": result,
        "unpaired": "" if result["paired"] else describe_unpaired(result),
        # The banner of an unpaired comparison says what this note does.
        "notes": [note for note in result["notes"] if result["paired"] or note != UNPAIRED_NOTE],
        "headline": headline,
        "phases": tabulate_phases(result),
        "targets": [one["target"]["sentence"] for one in result["contestants"] if one.get("target")],
        "lead": pairs[0],
        "problem": album.problem,
        "further": pairs[1:],
        "ensembles": build_ensembles(result, headline.scale),
        "oracle": _describe_oracle(result),
        "seeds": seeds,
        "seed_scale": seed_scale,
        "costs": None if costs is None else build_cost_view(costs),
        "shapes": list_shapes(),
        "interval": _describe_interval(result),
        "sources": _list_sources(result),
        "footer": _describe_origin(result),
        "embedded": {},
    }


def _name(result: Mapping[str, Any]) -> str:
    labels = [one["label"] for one in result["contestants"]]
    return f"{labels[0]} against {labels[1]}" if len(labels) == 2 else f"{len(labels)} models compared"


def _list_facts(result: Mapping[str, Any]) -> list[str]:
    samples, split = result["samples"], result["split"]
    kind = "" if split is None else f" {SPLIT_NAMES.get(split, split)}"  # a confusion matrix has no split
    facts = [f"{format_count(samples.get('n'))}{kind} samples", f"{len(result['names'])} classes"]
    if samples.get("grouped"):
        facts.append(f"{format_count(samples['num_groups'])} groups")
    created = datetime.fromisoformat(result["created"]).astimezone(UTC)
    head = [f"head {result['head']}"] if result["head"] is not None else []
    return [*facts, *head, f"{created:%Y-%m-%d %H:%M} UTC"]


def _list_sections(result: Mapping[str, Any], *, has_seeds: bool, has_costs: bool) -> list[tuple[str, str]]:
    sections = [
        ("result", "Result"),
        ("differences", "Differences"),
        ("classes", "Classes"),
        ("confusions", "Confusions"),
    ]
    if result["paired"]:
        sections += [("repairs", "Repairs"), ("together", "Together")]
    if len(result["pairs"]) > 1:
        sections.append(("pairs", "Other pairs"))
    if has_seeds:
        sections.append(("seeds", "Seeds"))
    if has_costs:
        sections.append(("cost", "Cost"))
    return [*sections, ("method", "Method")]


def _describe_oracle(result: Mapping[str, Any]) -> str:
    oracle = result.get("oracle")
    if oracle is None:
        return ""
    who = "either" if len(oracle["members"]) == 2 else "at least one"
    share = format_percent(oracle["top1"]["value"])
    return f"{share} of the samples are right with {who}: no way of choosing between answers gets further."


def _describe_interval(result: Mapping[str, Any]) -> str:
    found = result["interval"]
    words = [f"Intervals: {100 * found['level']:g}{NARROW}%, {found['method']}"]
    if found.get("resamples"):
        words.append(f"{format_count(found['resamples'])} resamples, seed {found.get('seed', MISSING)}")
    return ", ".join(words) + "."


def _list_sources(result: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (one["label"], str(member["source"]), member.get("weights_sha256") or "")
        for one in result["contestants"]
        for member in one["members"]
    )


def _describe_origin(result: Mapping[str, Any]) -> str:
    return (
        f"Praxiscope {result['praxiscope_version']}. Every figure on this page is in comparison.json;"
        " the page loads nothing from elsewhere."
    )
