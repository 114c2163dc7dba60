"""Explained clips: a strip of frames with maps over them, what each frame carries, and one page of all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from praxiscope.data.manifest import quantify
from praxiscope.explaining.clip_index import ClipEntry, ClipIndex
from praxiscope.reporting.explanations.maps import clear_axes
from praxiscope.reporting.explanations.page import PAGE, sort_entries
from praxiscope.reporting.explanations.saliency import blend, choose_scale, encode_picture
from praxiscope.reporting.explanations.views import read_stored_picture, view_figures
from praxiscope.reporting.figures import BLUE, GRID, INK, MUTED, ORANGE
from praxiscope.reporting.page import render_page
from praxiscope.reporting.wording import shorten
from praxiscope.runs import atomic

MAX_FRAMES = 8
"""Frames of a strip; of more, these are evenly spread, while the curves show all."""
MAX_EMBEDDED = 40
"""Clips whose pictures are inside the page; of more, the page shows the files beside it."""
_PAGE_SIDE = 1500


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipPicture:
    """What is drawn of one clip.

    Attributes:
        frames: uint8 (T, S, S, 3), what the network saw.
        numbers: (T,) numbers of these frames in their video, from 0.
        maps: title of a method -> float32 (T, S, S).
        evidence: title of a method -> (T,) share of each frame in the clip's evidence.
        effects: (T,) logit that is lost without each frame.
        attention: (T,) weight of each frame in the pooling over time; None where there is none.
        title: one line.
    """

    frames: npt.NDArray[np.uint8]
    numbers: Sequence[int]
    maps: dict[str, npt.NDArray[np.float32]]
    evidence: dict[str, npt.NDArray[np.float32]]
    effects: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32] | None
    title: str


def plot_clip(picture: ClipPicture) -> Figure:
    """Draw a clip: its frames, each method's maps over them, and below what each frame carries."""
    count = len(picture.frames)
    shown = np.unique(np.linspace(0, count - 1, min(MAX_FRAMES, count)).round().astype(int))
    rows = 1 + len(picture.maps)
    figure = Figure(figsize=(1.55 * len(shown) + 1.1, 1.6 * rows + 2.5), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.15)  # inches: labels of both axes stand in it
    figure.suptitle(shorten(picture.title, 110), fontsize=11, color=INK)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.6 * rows, 2.5])
    top, below = parts
    grid = top.subplots(rows, len(shown), squeeze=False)
    for column, place in enumerate(shown.tolist()):
        _show(grid[0, column], picture.frames[place])
        grid[0, column].set_title(f"frame {picture.numbers[place]}", fontsize=8, color=MUTED)
    for row, (title, maps) in enumerate(picture.maps.items(), start=1):
        # One scale for all frames: a frame without evidence looks as empty as it is.
        scale = choose_scale(0.0, float(maps.max()), signed=False)
        for column, place in enumerate(shown.tolist()):
            _show(grid[row, column], blend(picture.frames[place], maps[place], scale))
        grid[row, 0].set_ylabel(title, fontsize=8, color=MUTED)
    _plot_frames(below.subplots(), picture)
    return figure


def _show(axes: Axes, pixels: npt.NDArray[np.uint8]) -> None:
    axes.imshow(pixels, interpolation="bilinear")
    clear_axes(axes)


def _plot_frames(axes: Axes, picture: ClipPicture) -> None:
    """Draw the logit lost without each frame as bars, shares of evidence and attention as lines."""
    places = np.arange(len(picture.frames))
    axes.bar(places, picture.effects, width=0.6, color=ORANGE, label="logit lost without the frame")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_ylabel("logit lost", fontsize=8, color=ORANGE)
    axes.set_xlabel("frame", fontsize=8, color=MUTED)
    every = max(1, -(-len(places) // 16))
    axes.set_xticks(places[::every], [str(number) for number in picture.numbers[::every]])
    shares = axes.twinx()
    styles = ["-", "--", ":"]
    for style, (title, evidence) in zip(styles, picture.evidence.items(), strict=False):
        shares.plot(
            places, 100 * evidence, style, color=BLUE, marker="o", markersize=3, label=f"{title}, share"
        )
    if picture.attention is not None:
        shares.plot(places, 100 * picture.attention, "-.", color=INK, marker="s", markersize=3,
                    label="attention over time")  # fmt: skip
    # From 0 with room above: margins follow the range of a line, and even shares have none.
    highest = max((float(np.max(line.get_ydata())) for line in shares.lines), default=0.0)
    shares.set_ylim(0, 1.15 * highest or 1.0)
    shares.set_ylabel("share of a frame (%)", fontsize=8, color=BLUE)
    shares.set_visible(bool(shares.lines))
    for each in (axes, shares):
        each.tick_params(labelsize=8, colors=MUTED)
        each.spines[:].set_color(GRID)
    handles = [part for each in (axes, shares) for part in each.get_legend_handles_labels()[0]]
    labels = [text for each in (axes, shares) for text in each.get_legend_handles_labels()[1]]
    axes.legend(handles, labels, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=4,
                frameon=False, handlelength=3.4)  # fmt: skip


def build_clip_page(folder: Path, index: ClipIndex) -> Path:
    """Write the page of all explained clips.

    Args:
        folder: Holds the figures; gets ``index.html``.
        index: What was explained.

    Returns:
        The page.
    """
    about, entries = index.about, sort_entries(index.entries)
    command = f"praxiscope explain {shlex.quote(str(about.get('folder', folder.parent)))}"
    context = {
        "kind": "explanations",
        "title": f"What {about['model']} looks at",
        "facts": [f"{about['num_frames']} frames a clip", quantify(len(entries), "clip")],
        "sections": [("clips", "Clips"), ("network", "Network"), ("reading", "Reading")],
        "commands": {name: f"{command} --{name}" for name in ("embedding", "histograms")},
        "kinds": {figure.kind for figure in index.figures},
        "footer": "Every figure on this page lies beside it as PNG; its numbers are in clips.json.",
        "views": [_view(folder, entry, embed=place < MAX_EMBEDDED) for place, entry in enumerate(entries)],
        "figures": view_figures(index.figures, folder),
        "sentences": index.sentences,
        "views_averaged": about["views"],
        "embedded": {},
    }
    page = render_page(
        context,
        template="explain_clips.html.j2",
        styles=("report.css", "explain.css"),
        scripts=("report.js",),
    )
    atomic.write_text(folder / PAGE, page)
    return folder / PAGE


def _view(folder: Path, entry: ClipEntry, *, embed: bool) -> dict[str, Any]:
    def place(file: str) -> str:
        return _place(folder, f"{entry.slug}/{file}", embed=embed)

    near = [(each, None if each.picture is None else place(each.picture)) for each in entry.neighbours]
    return {
        "entry": entry,
        "pictures": [(head, place(file)) for head, file in entry.files.items()],
        "activations": None if entry.activations is None else place(entry.activations),
        "neighbours": near,
    }


def _place(folder: Path, file: str, *, embed: bool) -> str:
    """Return what an ``img`` shows: the picture itself, or the address of its file beside the page."""
    if not embed:
        return quote(file)
    return encode_picture(read_stored_picture(folder / file), side=_PAGE_SIDE)
