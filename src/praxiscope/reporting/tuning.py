"""What a study leaves for people: ``tune.json``, ``trials.csv``, four pictures, ``index.html``."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from praxiscope.reporting.figures import BLUE, INK, MUTED, ORANGE, drawable, dress_axes, save_figure
from praxiscope.reporting.page import render_page
from praxiscope.reporting.wording import MISSING, format_duration, shorten
from praxiscope.runs import atomic

Trial = Mapping[str, Any]
# Marks say the same as colours: hollow for pruned, crosses for failed.
_LOOKS: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "facecolors": BLUE, "edgecolors": BLUE},
    "pruned": {"marker": "o", "facecolors": "white", "edgecolors": ORANGE},
    "unfinished": {"marker": "^", "facecolors": "white", "edgecolors": MUTED},
}
_MAX_AXES = 8
"""Keys that the parallel picture shows at most; more can't be told apart."""


def write_study(content: Mapping[str, Any], folder: Path) -> Path:
    """Write everything and return the page.

    Args:
        content: of ``tune.json``.
        folder: of the study.
    """
    atomic.write_json(folder / "tune.json", content)
    atomic.write_text(folder / "trials.csv", render_trials(content))
    pictures = {}
    for name, figure in plot_study(content).items():
        with atomic.replacing(folder / f"{name}.png") as aside:
            save_figure(figure, aside)
        pictures[name] = base64.b64encode((folder / f"{name}.png").read_bytes()).decode("ascii")
    page = folder / "index.html"
    atomic.write_text(page, render_study(content, pictures))
    return page


def render_trials(content: Mapping[str, Any]) -> str:
    """Return ``trials.csv``: a row a trial in the order in which they began; what is absent is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = [each["key"] for each in content["space"]]
    writer.writerow(
        ["trial", "state", content["metric"], "best_epoch", "epochs", "seconds", *keys, "run", "reason"]
    )
    for trial in content["trials"]:
        cells = [trial[key] for key in ("number", "state", "value", "best_epoch", "epochs", "seconds")]
        cells += [trial["params"].get(key) for key in keys]
        writer.writerow("" if cell is None else cell for cell in [*cells, trial["run"], trial["reason"]])
    return out.getvalue()  # fmt: skip


def plot_study(content: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the pictures that there are figures for: history, slices, importance, parallel."""
    known = [trial for trial in content["trials"] if trial["value"] is not None]
    if not known:
        return {}
    figures = {"history": plot_history(content, known), "slices": plot_slices(content, known)}
    if content["importance"]:
        figures["importance"] = plot_importance(content["importance"])
    done = [trial for trial in known if trial["state"] == "complete"]
    if len(done) > 1 and len(content["space"]) > 1:
        figures["parallel"] = plot_parallel(content, done)
    return figures


def plot_history(content: Mapping[str, Any], trials: Sequence[Trial]) -> Figure:
    """Draw each trial's figure in the order in which they began, and the best so far of finished ones."""
    figure = Figure(figsize=(8.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for state, look in _LOOKS.items():
        own = [trial for trial in trials if trial["state"] == state]
        if own:
            axes.scatter(
                [trial["number"] for trial in own], [trial["value"] for trial in own],
                s=34, linewidths=1.3, label=state, zorder=3, **look,
            )  # fmt: skip
    done = [trial for trial in trials if trial["state"] == "complete"]
    if done:
        accumulate = np.maximum.accumulate if content["mode"] == "max" else np.minimum.accumulate
        best = accumulate([trial["value"] for trial in done])
        axes.step(
            [trial["number"] for trial in done],
            best,
            where="post",
            color=INK,
            linewidth=1.4,
            label="best so far",
        )
    dress_axes(axes, "Trials in their order")
    axes.set_xlabel("trial", color=MUTED)
    axes.set_ylabel(content["metric"], color=MUTED, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(frameon=False, loc="outside lower center", ncols=4)
    return figure


def plot_importance(importance: Mapping[str, float]) -> Figure:
    """Draw each key's share as a bar, the largest on top."""
    rows = sorted(importance.items(), key=lambda pair: pair[1])
    figure = Figure(figsize=(7.0, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(rows)), [100 * share for _, share in rows], color=BLUE, height=0.6)
    axes.set_yticks(range(len(rows)), [shorten(drawable(key)) for key, _ in rows], parse_math=False)
    for place, (_, share) in enumerate(rows):
        axes.text(100 * share + 1, place, f"{100 * share:.0f} %", va="center", fontsize=9, color=INK)
    axes.set_xlim(0, max(10.0, 115 * max(importance.values())))
    axes.set_xlabel("share, %", color=MUTED)
    dress_axes(axes, "What mattered (PED-ANOVA)")
    return figure


def plot_slices(content: Mapping[str, Any], trials: Sequence[Trial]) -> Figure:
    """Draw the figure against each key's values, a panel a key."""
    space = content["space"]
    columns = min(3, len(space))
    rows = math.ceil(len(space) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, dimension in zip(panels, space, strict=False):
        _draw_slice(axes, dimension, trials)
    for axes in panels[len(space) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel(content["metric"], color=MUTED, parse_math=False)
    return figure


def _draw_slice(axes: Axes, dimension: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    key = dimension["key"]
    for state, look in _LOOKS.items():
        own = [t for t in trials if t["state"] == state and t["proposal"].get(key) is not None]
        places = [_place(dimension, trial) for trial in own]
        if dimension["kind"] == "choice":  # a little apart, so that equal figures stay visible
            places = [place + 0.12 * math.sin(7 * t["number"]) for place, t in zip(places, own, strict=True)]
        axes.scatter(places, [trial["value"] for trial in own], s=30, linewidths=1.2, zorder=3, **look)
    if dimension["kind"] == "choice":
        _mark_choices(axes, dimension)
    elif dimension["log"]:
        axes.set_xscale("log")
    dress_axes(axes, shorten(drawable(key)))


def _mark_choices(axes: Axes, dimension: Mapping[str, Any]) -> None:
    labels = [shorten(drawable(choice), 14) for choice in dimension["choices"]]
    turned = sum(map(len, labels)) > 28
    axes.set_xticks(
        range(len(labels)), labels, parse_math=False,
        rotation=35 if turned else 0, ha="right" if turned else "center",
    )  # fmt: skip
    axes.set_xlim(-0.6, len(labels) - 0.4)


def _place(dimension: Mapping[str, Any], trial: Trial) -> float:
    value = trial["proposal"][dimension["key"]]
    return float(dimension["choices"].index(value) if dimension["kind"] == "choice" else value)


def plot_parallel(content: Mapping[str, Any], trials: Sequence[Trial]) -> Figure:
    """Draw a line a finished trial through its values; the better quarter in colour, the best thick."""
    space = content["space"][:_MAX_AXES]
    sign = 1 if content["mode"] == "max" else -1
    ranked = sorted(trials, key=lambda trial: (sign * trial["value"], -trial["number"]))
    good = max(1, len(ranked) // 4)
    figure = Figure(figsize=(max(6.4, 2.1 * (len(space) + 1)), 4.2), layout="constrained")
    axes = figure.subplots()
    values = [trial["value"] for trial in ranked]
    low, high = min(values), max(values)
    for place, trial in enumerate(ranked):
        heights = [_height(dimension, trial) for dimension in space]
        heights.append((trial["value"] - low) / (high - low) if high > low else 0.5)
        is_best, is_good = place == len(ranked) - 1, place >= len(ranked) - good
        axes.plot(
            range(len(heights)), heights, color=BLUE if is_good else "#c9c6bf",
            linewidth=2.6 if is_best else 1.3, alpha=1.0 if is_good else 0.8, zorder=3 + place,
        )  # fmt: skip
    for place, dimension in enumerate(space):
        _mark_axis(axes, place, dimension)
    _write_ends(axes, len(space), f"{low:.4g}", f"{high:.4g}")
    names = [shorten(drawable(each["key"]), 22) for each in space]
    axes.set_xticks(range(len(space) + 1), [*names, content["metric"]], parse_math=False, fontsize=9)
    axes.set_yticks([])
    axes.set(ylim=(-0.1, 1.1), xlim=(-0.35, len(space) + 0.45))
    dress_axes(axes, "Finished trials: the better quarter in blue, the best thick")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=True, axis="x", color=MUTED, linewidth=0.9)
    return figure


def _height(dimension: Mapping[str, Any], trial: Trial) -> float:
    place = _place(dimension, trial)
    if dimension["kind"] == "choice":
        return place / max(1, len(dimension["choices"]) - 1)
    low, high = dimension["low"], dimension["high"]
    if dimension["log"]:
        place, low, high = (math.log(each) for each in (place, low, high))
    return float((place - low) / (high - low))


def _mark_axis(axes: Axes, place: int, dimension: Mapping[str, Any]) -> None:
    if dimension["kind"] != "choice":
        _write_ends(axes, place, f"{dimension['low']:.3g}", f"{dimension['high']:.3g}")
        return
    choices = dimension["choices"]
    for number, choice in enumerate(choices):
        _write(axes, place, number / max(1, len(choices) - 1), shorten(drawable(choice), 12))


def _write_ends(axes: Axes, place: int, low: str, high: str) -> None:
    _write(axes, place, 0.0, low)
    _write(axes, place, 1.0, high)


def _write(axes: Axes, place: float, height: float, text: str) -> None:
    axes.text(
        place + 0.04, height, text, fontsize=8, color=INK, va="center", zorder=1000, parse_math=False,
        bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


_ALTS = {
    "history": "Each trial's figure in their order, with the best so far",
    "importance": "Share of each key in what makes trials good",
    "slices": "The figure against each key's values",
    "parallel": "Finished trials as lines through their values",
}


def render_study(content: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Return the page: one file that loads nothing.

    Args:
        content: of ``tune.json``.
        pictures: PNG by name, in base64.
    """
    keys = [each["key"] for each in content["space"]]
    facts = [
        f"{len(content['trials'])} of {content['asked_trials']} trials",
        f"sampler {content['sampler']}", f"pruner {content['pruner']}", f"seed {content['seed']}",
        *([] if content["num_val"] is None else [f"{content['num_val']:,} validation samples"]),
        content["created"],
    ]  # fmt: skip
    context = {
        "title": content["name"],
        "kind": "study",
        "sections": [
            ("result", "Result"),
            ("pictures", "Pictures"),
            ("trials", "Trials"),
            ("rules", "Rules"),
        ],
        "footer": "From journal.log; every trial's run lies below trials/.",
        "embedded": {},
        "facts": facts,
        "verdict": describe_best(content),
        "warning": content["selection"]["sentence"],
        "space": [(each["key"], each["text"]) for each in content["space"]],
        "pictures": [(pictures[name], _ALTS[name]) for name in _ALTS if name in pictures],
        "keys": keys,
        "metric": content["metric"],
        "rows": [_describe_row(trial, keys) for trial in rank_trials(content)],
        "importance_note": content["importance_note"],
        "pruner": content["pruner"],
    }
    return render_page(context, template="tune.html.j2", styles=("report.css", "bakeoff.css"))


def rank_trials(content: Mapping[str, Any]) -> list[Trial]:
    """Return the trials, best finished one first; pruned, unfinished and failed ones behind."""
    order = ["complete", "pruned", "unfinished", "failed"]
    sign = -1 if content["mode"] == "max" else 1
    return sorted(
        content["trials"],
        key=lambda t: (
            order.index(t["state"]), math.inf if t["value"] is None else sign * t["value"], t["number"],
        ),
    )  # fmt: skip


def describe_best(content: Mapping[str, Any]) -> str:
    """Return the outcome as a sentence."""
    if content["best"] is None:
        return "No trial has finished yet."
    best = next(trial for trial in content["trials"] if trial["number"] == content["best"])
    values = ", ".join(f"{key} {_show(value)}" for key, value in best["params"].items())
    figure = f"{content['metric']} {best['value']:.4f}"
    return f"Best of the finished trials: trial {best['number']} with {values}: {figure}."


def _describe_row(trial: Trial, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "number": trial["number"],
        "state": trial["state"],
        "value": MISSING if trial["value"] is None else f"{trial['value']:.4f}",
        "epochs": trial["epochs"],
        "time": format_duration(trial["seconds"]),
        "params": [_show(trial["params"].get(key)) for key in keys],
        "run": trial["run"],
        "reason": trial["reason"],
    }


def _show(value: Any) -> str:
    if value is None:
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else str(value)
