"""What stands beside the accuracies of trained runs, as rows of a table: a contestant is a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from praxiscope.reporting.wording import (
    MISSING,
    format_duration,
    format_interval,
    format_parameters,
    format_percent,
    format_points,
)

_STATES = {"reached": "reached", "missed": "missed", "open": "can't be told"}


def tabulate_phases(result: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (title, one cell a contestant) of heads, gap, training time, parameters and target.

    Args:
        result: The content of ``comparison.json``. Rows that no contestant has a value for are left out.
    """
    contestants: Sequence[Mapping[str, Any]] = result["contestants"]
    heads = dict.fromkeys(head for one in contestants for head in one.get("heads") or ())
    rows = [
        (f"{head} top-1", [_tell_score((one.get("heads") or {}).get(head)) for one in contestants])
        for head in heads
    ]
    training = [one.get("training") or {} for one in contestants]
    rows += [
        ("train \u2212 val top-1 (points)", [format_points(one.get("gap")) for one in training]),
        ("epochs", [_tell_epochs(one.get("epochs")) for one in training]),
        ("training time", [format_duration(one.get("train_s")) for one in training]),
        ("parameters", [_tell_parameters(one.get("parameters")) for one in training]),
    ]
    if (target := result.get("target")) is not None:
        states = [one.get("target") for one in contestants]
        told = [MISSING if one is None else _STATES[one["state"]] for one in states]
        rows.append((f"target {format_percent(target)}", told))
    return tuple((title, tuple(cells)) for title, cells in rows if any(cell != MISSING for cell in cells))


def _tell_score(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return MISSING
    interval = format_interval(score)
    return format_percent(score["value"]) + (f" ({interval})" if interval else "")


def _tell_epochs(epochs: float | None) -> str:
    return MISSING if epochs is None else f"{epochs:g}"


def _tell_parameters(count: float | None) -> str:
    return MISSING if count is None else format_parameters(round(count))
