"""The scores of contestants, ensembles and seeds as a comparison's page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from praxiscope.comparison.result import FIGURES, LOWER_IS_BETTER
from praxiscope.reporting.comparison.charts import Bar, Scale, draw_score, format_point_interval, scale_scores
from praxiscope.reporting.views import NO_PERCENT, SCORE_LABELS
from praxiscope.reporting.wording import (
    MISSING,
    format_count,
    format_interval,
    format_p_value,
    format_percent,
    format_points,
)

HEADLINE = ("top1", "macro_f1")
KINDS = {
    "run": "run",
    "seeds": "runs of one recipe",
    "predictions": "predictions file",
    "table": "table of another tool",
    "confusion": "confusion matrix",
}


@dataclass(frozen=True, kw_only=True)
class ScoreCell:
    """One score in a table."""

    value: str
    interval: str
    bar: Bar | None = None
    number: float = -1.0
    """To sort by."""


@dataclass(frozen=True, kw_only=True)
class ContestantRow:
    """One contestant in the headline table."""

    label: str
    kind: str
    headline: tuple[ScoreCell, ...]
    """In the order of `HEADLINE`."""
    clean: ScoreCell
    """Top-1 of the clean samples."""
    seeds: str
    """The spread over seeds, or an empty string."""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """All scores of all contestants on all, or on clean, samples."""

    title: str
    rows: tuple[tuple[str, tuple[ScoreCell, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class EnsembleRow:
    """One combination of contestants."""

    name: str
    members: str
    cells: tuple[ScoreCell, ...]
    """In the order of `HEADLINE`."""
    against: str
    difference: str
    interval: str
    p_value: str


@dataclass(frozen=True, kw_only=True)
class SeedRow:
    """One contestant of several seeds."""

    label: str
    bar: Bar
    spread: str
    agreement: str
    members: tuple[tuple[str, str], ...]
    """(seed, top-1)"""


@dataclass(frozen=True, kw_only=True)
class HeadlineView:
    """The headline table with its two axes."""

    rows: tuple[ContestantRow, ...]
    scale: Scale
    tables: tuple[ScoreTable, ...]
    has_clean: bool
    labels: tuple[str, ...]


def build_headline(result: Mapping[str, Any]) -> HeadlineView:
    """Return the headline table and the tables of all scores."""
    contestants = result["contestants"]
    scale = scale_scores(list_ends(one["all"].get(key) for one in contestants for key in HEADLINE))
    return HeadlineView(
        rows=tuple(_build_contestant(one, scale) for one in contestants),
        scale=scale,
        tables=tuple(
            ScoreTable(title=title, rows=_build_scores(contestants, part))
            for part, title in (("all", "All samples"), ("clean", "Clean samples"))
            if any(one.get(part) for one in contestants)
        ),
        has_clean=any(one.get("clean") for one in contestants),
        labels=tuple(one["label"] for one in contestants),
    )


def build_ensembles(result: Mapping[str, Any], scale: Scale) -> tuple[EnsembleRow, ...]:
    """Return the combinations of contestants that were tried."""
    return tuple(
        EnsembleRow(
            name=one["name"],
            members=", ".join(one["members"]),
            cells=tuple(build_cell(one.get(key), key, scale) for key in HEADLINE),
            against=one["against"],
            difference=format_points(one["difference"]["value"]),
            interval=format_point_interval(one["difference"]["low"], one["difference"]["high"]),
            p_value=format_p_value(one.get("p_holm", one.get("p_value"))),
        )
        for one in result["ensembles"]
    )


def build_seeds(result: Mapping[str, Any]) -> tuple[tuple[SeedRow, ...], Scale]:
    """Return the contestants of several seeds, each with its single values, and their axis."""
    several = [one for one in result["contestants"] if len(one["members"]) > 1]
    values = [member["top1"] for one in several for member in one["members"]]
    scale = scale_scores([*values, *list_ends(one["all"]["top1"] for one in several)])
    return tuple(_build_seed(one, scale) for one in several), scale


def describe_unpaired(result: Mapping[str, Any]) -> str:
    """Return what a reader must know of a comparison whose samples couldn't be paired."""
    counts = [one["all"].get("n") for one in result["contestants"]]
    sizes = " and ".join(format_count(count) for count in dict.fromkeys(counts))
    return (
        "It isn't known which samples each contestant has right, only how many"
        f" ({sizes} samples). A difference must then be larger to be told, and nobody can say which errors"
        " one repairs of the other. Give predictions with sample ids to compare them properly."
    )


def build_cell(
    score: Mapping[str, Any] | None, key: str, scale: Scale | None, dots: Sequence[float] = ()
) -> ScoreCell:
    """Return a score as a table shows it, a dash where it is undefined.

    Args:
        score: ``value``, ``low``, ``high``.
        key: Which score.
        scale: Axis of its bar; None for no bar.
        dots: Values of single seeds.
    """
    if score is None or score.get("value") is None:
        return ScoreCell(value=MISSING, interval="")
    is_percent = key not in NO_PERCENT
    bar = draw_score(score, scale, dots) if scale is not None and is_percent else None
    has_interval = score.get("low") is not None and score.get("high") is not None
    plain = f"{score['low']:.3f}\u2013{score['high']:.3f}" if has_interval else ""
    return ScoreCell(
        value=format_percent(score["value"]) if is_percent else f"{score['value']:.3f}",
        interval=format_interval(score) if is_percent else plain,
        bar=bar,
        number=score["value"],
    )


def list_ends(scores: Iterable[Mapping[str, Any] | None]) -> list[float]:
    """Return all values and ends of intervals, for an axis that shows them all."""
    found = [score for score in scores if score is not None and score.get("value") is not None]
    return [score[key] for score in found for key in ("value", "low", "high") if score.get(key) is not None]


def _build_contestant(one: Mapping[str, Any], scale: Scale) -> ContestantRow:
    members = one["members"]
    seeds = [member["top1"] for member in members] if len(members) > 1 else []
    kind = KINDS.get(one["kind"], one["kind"])
    spread = one["all"]["top1"].get("sd")
    return ContestantRow(
        label=one["label"],
        kind=f"{len(members)} {kind}" if seeds else kind,
        headline=tuple(
            build_cell(one["all"].get(key), key, scale, dots=seeds if key == "top1" else ())
            for key in HEADLINE
        ),
        clean=build_cell((one.get("clean") or {}).get("top1"), "top1", scale),
        seeds=f"standard deviation over seeds {100 * spread:.1f} points" if spread is not None else "",
    )


def _build_scores(
    contestants: Sequence[Mapping[str, Any]], part: str
) -> tuple[tuple[str, tuple[ScoreCell, ...]], ...]:
    rows = []
    for key in FIGURES:
        cells = tuple(build_cell((one.get(part) or {}).get(key), key, None) for one in contestants)
        if any(cell.value != MISSING for cell in cells):
            better = " (lower is better)" if key in LOWER_IS_BETTER else ""
            rows.append((SCORE_LABELS[key] + better, cells))
    return tuple(rows)


def _build_seed(one: Mapping[str, Any], scale: Scale) -> SeedRow:
    score, members = one["all"]["top1"], one["members"]
    spread = "" if score.get("sd") is None else f"standard deviation {100 * score['sd']:.2f} points"
    agreement = one.get("seed_agreement")
    return SeedRow(
        label=one["label"],
        bar=draw_score(score, scale, [member["top1"] for member in members]),
        spread=spread,
        agreement=""
        if agreement is None
        else f"two seeds agree on {format_percent(agreement)} of the samples",
        members=tuple(
            (
                f"seed {member['seed']}" if member.get("seed") is not None else f"run {place}",
                format_percent(member["top1"]),
            )
            for place, member in enumerate(members, start=1)
        ),
    )
