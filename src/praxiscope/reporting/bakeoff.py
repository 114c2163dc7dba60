"""What a bake-off leaves for people: ``ranking.csv``, ``curves.png``, a page; all from ``bakeoff.json``."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from praxiscope.reporting.figures import INK, MUTED, drawable, dress_axes, save_figure
from praxiscope.reporting.page import render_page
from praxiscope.reporting.wording import format_duration, format_percent, shorten
from praxiscope.runs import atomic

# Okabe & Ito's colour-blind-safe colours; more contestants than colours differ in their dashes.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1d2126")
_DASHES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_COLUMNS = (
    "place", "contestant", "stage", "epochs", "seeds", "value", "test_top1", "test_spread", "train_s",
    "reason",
)  # fmt: skip


def write_bakeoff(result: Mapping[str, Any], folder: Path) -> Path:
    """Write ``bakeoff.json``, ``ranking.csv``, ``curves.png`` and ``bakeoff.html``.

    Args:
        result: the content of ``bakeoff.json``.
        folder: of the bake-off.

    Returns:
        The page.
    """
    atomic.write_json(folder / "bakeoff.json", result)
    atomic.write_text(folder / "ranking.csv", render_ranking(result))
    with atomic.replacing(folder / "curves.png") as aside:
        save_figure(plot_bakeoff(result), aside)
    page = folder / "bakeoff.html"
    atomic.write_text(page, render_bakeoff(result, picture=(folder / "curves.png").read_bytes()))
    return page


def render_ranking(result: Mapping[str, Any]) -> str:
    """Return ``ranking.csv``: a row a contestant, best first; fractions in [0, 1], what is absent empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in result["ranking"]:
        test = row["test"] or {}
        cells = row | {
            "seeds": len(row["values"]),
            "test_top1": test.get("top1"),
            "test_spread": test.get("spread"),
        }
        writer.writerow("" if cells[name] is None else cells[name] for name in _COLUMNS)
    return out.getvalue()


def plot_bakeoff(result: Mapping[str, Any]) -> Figure:
    """Draw the monitored figure over the epochs: the halving at the left, the finalists' seeds at the right.

    Args:
        result: the content of ``bakeoff.json``.

    Returns:
        The figure; a contestant looks the same on both sides.
    """
    names = [row["contestant"] for row in result["ranking"]]
    figure = Figure(figsize=(12.4, 4.6), layout="constrained")
    halving, finals = figure.subplots(1, 2, sharey=True)
    handles = {}
    for run in _last_lines(result["runs"]):
        axes = halving if run["stage"] == "rungs" else finals
        handles[run["contestant"]] = _draw_run(axes, run, names.index(run["contestant"]))
    for rung in result["rungs"]:
        halving.axvline(rung["epochs"], color=MUTED, linewidth=0.9, linestyle=(0, (6, 3)))
    dress_axes(halving, "Halving: one seed, ends of the rungs dashed")
    dress_axes(finals, "Finals: one line a seed")
    halving.set_ylabel(result["monitor"], color=MUTED)
    for axes in (halving, finals):
        axes.set_xlabel("epoch", color=MUTED)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if not axes.lines:
            axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=INK)
    shown = [name for name in names if name in handles]
    if shown:
        labels = [shorten(drawable(name)) for name in shown]
        figure.legend(
            [handles[name] for name in shown], labels, loc="outside lower center", frameon=False, ncols=4
        )
    return figure


def _last_lines(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return one entry a run: one of the halving has an entry a rung, the last with the whole curve."""
    return list({run["run"]: run for run in runs}.values())


def _draw_run(axes: Axes, run: Mapping[str, Any], place: int) -> Any:
    values = [float("nan") if value is None else value for value in run["curve"]]
    return axes.plot(
        range(1, len(values) + 1), values,
        color=_COLORS[place % len(_COLORS)], linestyle=_DASHES[place // len(_COLORS) % len(_DASHES)],
        marker=_MARKS[place % len(_MARKS)], markersize=4, linewidth=1.7, alpha=0.85,
    )[0]  # fmt: skip


def render_bakeoff(result: Mapping[str, Any], *, picture: bytes) -> str:
    """Return the page of a bake-off: one file that loads nothing.

    Args:
        result: the content of ``bakeoff.json``.
        picture: ``curves.png``.
    """
    asked, data = result["asked"], result["data"]
    facts = [
        asked["mode"],
        f"{data['num_train']:,} training images",
        f"{data['num_val']:,} validation images",
        f"{data['num_test']:,} test images",
        f"{data['num_classes']} classes",
        f"time box {format_duration(asked['budget_s'])}, spent {format_duration(result['spent_s'])}",
        result["created"],
    ]
    sections = [("result", "Ranking"), ("curves", "Curves"), ("rungs", "Rungs"), ("rules", "Rules")]
    context = {
        "title": f"Bake-off of {len(result['ranking'])} models",
        "kind": "bake-off",
        "sections": sections,
        "footer": f"From {len(result['runs'])} recorded trainings; ledger.jsonl holds every decision.",
        "embedded": {},
        "facts": facts,
        "verdict": describe_outcome(result),
        "rows": [_describe_row(row) for row in result["ranking"]],
        "monitor": result["monitor"],
        "picture": base64.b64encode(picture).decode("ascii"),
        "rungs": result["rungs"],
        "final": result["final"],
        "cuts": [describe_cut(cut) for cut in result["cuts"]],
        "comparison": result["comparison"],
    }
    return render_page(context, template="bakeoff.html.j2", styles=("report.css", "bakeoff.css"))


def describe_outcome(result: Mapping[str, Any]) -> str:
    """Return the outcome in a sentence or two: who leads on validation, and what the test says about it."""
    first = result["ranking"][0]
    seeds = len(first["values"])
    spread = "1 seed" if seeds == 1 else f"the mean of {seeds} seeds"
    value = "no finite figure" if first["value"] is None else f"{first['value']:.4f}"
    sentence = f"First on validation: {first['contestant']} ({result['monitor']} {value}, {spread})."
    if first["test"] is not None:
        sentence += f" On test it is right on {format_percent(first['test']['top1'])}."
    if result["verdict"] is not None:
        sentence += f" {result['verdict']}"
    return sentence


def describe_cut(cut: Mapping[str, Any]) -> str:
    """Return what was left out for want of time, as a sentence."""
    if cut["what"] == "rungs":
        return f"The halving ended before rung {cut['number']}: {cut['reason']}."
    if cut["what"] == "epochs":
        what = (
            "The finals were left out"
            if cut["to"] is None
            else f"The finals had {cut['to']} epochs instead of {cut['was']}"
        )
        return f"{what}: trainings had taken {cut['rate']:.2f} times as long as calibrated."
    return f"{cut['to']} seeds of each finalist count: there was no time for one more ({cut['reason']})."


def _describe_row(row: Mapping[str, Any]) -> dict[str, Any]:
    test = row["test"]
    spread = None if test is None else test["spread"]
    return {
        "place": row["place"],
        "contestant": row["contestant"],
        "stage": row["stage"],
        "epochs": row["epochs"],
        "value": "\u2013" if row["value"] is None else f"{row['value']:.4f}",
        "seeds": ", ".join("\u2013" if value is None else f"{value:.4f}" for value in row["values"]),
        "test": "\u2013" if test is None else format_percent(test["top1"]),
        "spread": "" if spread is None else f"\u00b1 {100 * spread:.1f}",
        "time": format_duration(row["train_s"]),
        "reason": row["reason"] or "",
    }
