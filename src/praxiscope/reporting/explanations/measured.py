"""``measured.json`` for the pages: which method to trust for this network and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from praxiscope.reporting.wording import MISSING, format_milliseconds, format_percent
from praxiscope.runs.atomic import read_json

MEASURED = "measured.json"


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One method in the ranking."""

    rank: str
    name: str
    layer: str
    score: str
    """Insertion minus deletion, with its interval."""
    deletion: str
    insertion: str
    pointing: str
    energy: str
    sanity: str
    cost: str


@dataclass(frozen=True, kw_only=True)
class ConditionRow:
    """Accuracy under one way of changing the images."""

    title: str
    accuracy: str
    kept: str


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class's reliance on the background."""

    name: str
    support: int
    score: str
    reason: str
    """Why there is no score; empty where there is one."""


@dataclass(frozen=True, kw_only=True)
class MeasuredView:
    """What was measured, in words and cells."""

    sentences: tuple[str, ...]
    note: str
    rows: tuple[MethodRow, ...]
    has_masks: bool
    mask_note: str
    rules: tuple[str, ...]
    reliance: str
    """What reliance on the background is, in a sentence; empty where it wasn't measured."""
    conditions: tuple[ConditionRow, ...]
    classes: tuple[ClassRow, ...]


def view_measured(folder: Path) -> MeasuredView | None:
    """Read what was measured; None where nothing was.

    Args:
        folder: ``explain/`` of a run.

    Raises:
        IntegrityError: The file is damaged.
    """
    path = folder / MEASURED
    return build_measured(read_json(path)) if path.is_file() else None


def build_measured(content: Mapping[str, Any]) -> MeasuredView:
    """Return the content of ``measured.json`` as the pages show it."""
    methods = content.get("methods") or ()
    listed = [*methods, content["random"]] if methods else []
    reliance = content.get("reliance") or {}
    reference = content.get("mask_reference")
    return MeasuredView(
        sentences=tuple(content.get("ranking") or ()),
        note=f"Measured on {content['n']} samples of {content['split']}, with weights of epoch "
        f"{content.get('epoch', MISSING)}; intervals of 95 %."
        if methods
        else "",
        rows=tuple(_view_method(one) for one in listed),
        has_masks=reference is not None,
        mask_note="" if reference is None else _describe_masks(reference),
        rules=tuple((content.get("rules") or {}).values()),
        reliance=str(reliance.get("sentence", "")),
        conditions=tuple(
            ConditionRow(
                title=one["title"],
                accuracy=format_share(one["accuracy"]),
                kept=format_share(one["kept"]),
            )
            for one in reliance.get("conditions", ())
        ),
        classes=tuple(
            ClassRow(
                name=one["name"],
                support=one["support"],
                score=format_score(one["background"]["score"]),
                reason="" if format_score(one["background"]["score"]) else str(one["background"]["reason"]),
            )
            for one in reliance.get("per_class", ())
        ),
    )


def format_score(interval: Mapping[str, Any] | None) -> str:
    """Return ``0.42 (0.38 to 0.46)``; empty where there is none.

    >>> format_score({"value": 0.42, "low": 0.38, "high": 0.46})
    '0.42 (0.38 to 0.46)'
    """
    if interval is None or interval.get("value") is None:
        return ""
    value, low, high = (interval.get(key) for key in ("value", "low", "high"))
    ends = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{value:.2f}{ends}".replace("-", "\u2212")


def format_share(interval: Mapping[str, Any] | None) -> str:
    """Return a share with its interval in percent; empty where there is none."""
    if interval is None or interval.get("value") is None:
        return ""
    low, high = interval.get("low"), interval.get("high")
    ends = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"{format_percent(interval['value'])}{ends}"


def _view_method(one: Mapping[str, Any]) -> MethodRow:
    is_random = one["method"] == "random"
    sanity = one.get("sanity") or {}
    return MethodRow(
        rank=MISSING if is_random else str(one["rank"]),
        name="random map" if is_random else one["method"],
        layer=one.get("layer") or "",
        score=format_score(one["score"]),
        deletion=format_score(one["deletion"]),
        insertion=format_score(one["insertion"]),
        pointing=format_share(one.get("pointing")),
        energy=format_share(one.get("energy")),
        sanity=str(sanity.get("verdict", "")),
        cost="" if is_random else format_milliseconds(one["ms_per_image"]),
    )


def _describe_masks(reference: Mapping[str, Any]) -> str:
    area, chance, centre = (
        format_share(reference[name]) for name in ("mask_area", "pointing_chance", "centre")
    )
    return (
        f"{reference['n']} samples have a mask; the actor covers {area} of the picture, so that a random "
        f"point hits near it with {chance} and the picture's centre with {centre}."
    )
