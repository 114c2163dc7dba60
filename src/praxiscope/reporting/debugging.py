"""What the checklist leaves for people: ``debug.json``, a picture a piece of evidence, ``index.html``."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from praxiscope.debugging.result import Check, Curves, Dots, Montage, Picture
from praxiscope.reporting.figures import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    drawable,
    dress_axes,
    save_figure,
)
from praxiscope.reporting.page import render_page
from praxiscope.reporting.wording import format_duration, shorten
from praxiscope.runs import atomic

_COLORS = (BLUE, ORANGE, "#009e73", "#cc79a7")
_MAX_DOTS = 80
"""Layers that one picture names; of more, the smallest and largest would hide in the crowd: every n-th."""


def write_checks(checks: Sequence[Check], folder: Path, *, facts: Mapping[str, Any]) -> Path:
    """Write everything and return the page.

    Args:
        checks: in their order.
        folder: made where absent.
        facts: what was checked, for ``debug.json`` and the head of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"schema": 1, "created": created, **facts, "checks": [check.to_dict() for check in checks]}
    atomic.write_json(folder / "debug.json", content)
    encoded: dict[str, str] = {}
    for check in checks:
        for picture in check.pictures:
            path = save_figure(draw(picture), folder / f"{picture.name}.png")
            encoded[picture.name] = base64.b64encode(path.read_bytes()).decode("ascii")
    page = folder / "index.html"
    atomic.write_text(page, render_checks(checks, content, encoded))
    return page


def draw(picture: Picture) -> Figure:
    """Return a piece of evidence as a figure."""
    if isinstance(picture, Montage):
        return _draw_montage(picture)
    return _draw_curves(picture) if isinstance(picture, Curves) else _draw_dots(picture)


def _draw_montage(montage: Montage) -> Figure:
    columns = max(len(tiles) for _, tiles in montage.rows)
    side = 1.25 if columns > 4 else 1.6
    figure = Figure(figsize=(2.3 + side * columns, 0.6 + side * len(montage.rows)), layout="constrained")
    grid = figure.subplots(len(montage.rows), columns, squeeze=False)
    for axes_row, (label, tiles) in zip(grid, montage.rows, strict=True):
        for place, axes in enumerate(axes_row):
            axes.set_axis_off()
            if place < len(tiles):
                axes.imshow(tiles[place], interpolation="nearest")
        axes_row[0].text(
            -0.06, 0.5, _wrap(drawable(label)), transform=axes_row[0].transAxes, ha="right", va="center",
            fontsize=8.5, color=INK, parse_math=False,
        )  # fmt: skip
    title = figure.suptitle(drawable(montage.title), x=0.01, ha="left", fontsize=11, fontweight="bold")
    title.set_color(INK)
    title.set_parse_math(False)
    return figure


def _wrap(label: str, width: int = 24) -> str:
    """Cut a label into lines; a sample's path keeps its end, which tells it from its neighbours."""
    lines = [label[place : place + width] for place in range(0, len(label), width)]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:1], "\u2026", label[-width:]])


def _draw_curves(curves: Curves) -> Figure:
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    axes = figure.subplots()
    for place, (label, values) in enumerate(curves.series):
        axes.plot(
            range(curves.start, curves.start + len(values)), values, color=_COLORS[place % len(_COLORS)],
            linewidth=1.8, label=label, marker="o" if len(values) == 1 else None,
        )  # fmt: skip
    for label, height in curves.marks:
        axes.axhline(height, color=MUTED, linewidth=1.0, linestyle=(0, (5, 3)))
        axes.annotate(
            label, (1.0, height), xycoords=("axes fraction", "data"), xytext=(-3, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=8.5, color=MUTED,
        )  # fmt: skip
    if curves.log_y:
        axes.set_yscale("log")
    dress_axes(axes, curves.title)
    axes.set_xlabel(curves.x_label, color=MUTED)
    axes.set_ylabel(curves.y_label, color=MUTED)
    if len(curves.series) > 1:
        axes.legend(frameon=False)
    return figure


def _draw_dots(dots: Dots) -> Figure:
    every = math.ceil(len(dots.rows) / _MAX_DOTS)
    # Findings are always shown: they are what the picture is for.
    rows = [row for place, row in enumerate(dots.rows) if place % every == 0 or row[2]]
    positive = [value for _, value, _ in rows if value > 0 and math.isfinite(value)]
    floor = min(positive) / 10 if positive else 1e-8
    figure = Figure(figsize=(7.6, 1.1 + 0.19 * max(4, len(rows))), layout="constrained")
    axes = figure.subplots()
    if dots.band is not None:
        axes.axvspan(*dots.band, color=BLUE, alpha=0.1, linewidth=0)
    for place, (_, value, is_finding) in enumerate(rows):
        shown = value if value > 0 and math.isfinite(value) else floor
        axes.plot(
            shown, place, marker="X" if is_finding else "o", color=ORANGE if is_finding else BLUE,
            markersize=7 if is_finding else 5, linestyle="none",
        )  # fmt: skip
        if is_finding:
            axes.annotate(
                "0", (shown, place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8
            )
    axes.set_xscale("log")
    labels = [shorten(drawable(name), 34) for name, _, _ in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7.5, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    note = "" if every == 1 else f" (every {every}th layer)"
    dress_axes(axes, dots.title + note)
    axes.set_xlabel(dots.x_label, color=MUTED)
    return figure


def render_checks(checks: Sequence[Check], content: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Return the page: one file that loads nothing.

    Args:
        checks: in their order.
        content: of ``debug.json``.
        pictures: PNG by name, in base64.
    """
    context = {
        "title": f"Checklist of {content['recipe']['name']}",
        "kind": "checklist",
        "sections": [("result", "Result"), *_list_sections(checks)],
        "footer": "From debug.json beside this page.",
        "embedded": {},
        "facts": [
            content["model"],
            content["data"],
            f"{content['num_train']:,} training samples",
            f"batches of {content['batch']}",
            f"{content['device']}, {content['precision']}",
            format_duration(content["seconds"]),
            content["created"],
        ],
        "verdict": describe_checks(checks),
        "checks": checks,
        "pictures": pictures,
    }
    return render_page(context, template="debug.html.j2", styles=("report.css", "debug.css"))


def _list_sections(checks: Sequence[Check]) -> list[tuple[str, str]]:
    """Return where the page's parts begin: thirteen names would not fit into its head."""
    names = [check.name for check in checks]
    starts = {"data": "Data", "shapes": "Network", "schedule": "Training", "against": "Other run"}
    return [(f"check-{name}", word) for name, word in starts.items() if name in names]


def describe_checks(checks: Sequence[Check]) -> str:
    """Return the outcome as a sentence."""
    faults = [check.name for check in checks if check.status == "fault"]
    warnings = [check.name for check in checks if check.status == "warning"]
    sound = len(checks) - len(faults) - len(warnings)
    parts = [f"{sound} of {len(checks)} checks are fine"]
    if warnings:
        parts.append(f"look at {', '.join(warnings)}")
    if faults:
        parts.append(f"don't train before you have seen to {', '.join(faults)}")
    return "; ".join(parts) + "."
