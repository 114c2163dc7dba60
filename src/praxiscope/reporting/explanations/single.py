"""A sample's own page: picture, answer, maps, activations, nearest training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from praxiscope.explaining.index import Entry, Index
from praxiscope.reporting.explanations.saliency import OPACITY, encode_picture, encode_ramp
from praxiscope.reporting.explanations.views import (
    FigureView,
    read_stored_picture,
    view_figures,
    view_sample,
)
from praxiscope.reporting.wording import format_count

_NEAR_SIDE = 176


@dataclass(frozen=True, kw_only=True)
class NeighbourView:
    """A training image near the sample."""

    sample_id: str
    name: str
    similarity: str
    picture: str | None
    same: bool
    """Whether its class is the sample's true one."""


def compose_sample_page(
    entry: Entry, index: Index, folder: Path, *, kernels: Sequence[FigureView]
) -> dict[str, Any]:
    """Return the arguments of ``render_page`` for one sample.

    Args:
        entry: The sample.
        index: All that was explained of the run.
        folder: ``explain/``.
        kernels: Figures of the network's kernels, the same for every sample.

    Raises:
        IntegrityError: A file is damaged or missing.
    """
    own, about = folder / entry.slug, index.about
    view = view_sample(entry, folder, 1)
    figures = view_figures(entry.figures, own)
    context = {
        "kind": "explanation",
        "title": view.heading,
        "facts": [
            str(about.get("model", "")), str(about.get("run", "")), f"weights of epoch {entry.epoch}",
        ],
        "sections": list_sections(entry, has_kernels=bool(kernels)),
        "footer": "Every figure on this page lies beside it as PNG, every map also as numbers (.npy).",
        "view": view,
        "entry": entry,
        "flip": bool(about.get("flip")),
        "ramps": {signed: encode_ramp(signed=signed) for signed in (False, True)},
        "figures": figures,
        "kernels": kernels,
        "neighbours": [view_neighbour(one, entry, own) for one in entry.neighbours],
        "neighbours_note": describe_neighbours(entry),
        "embedded": {"opacity": OPACITY},
    }  # fmt: skip
    return {
        "context": context,
        "template": "explain_single.html.j2",
        "styles": ("report.css", "explain.css"),
        "scripts": ("report.js",),
    }


def list_sections(entry: Entry, *, has_kernels: bool) -> list[tuple[str, str]]:
    """Return the anchors and names of the page's sections."""
    sections = [("maps", "Maps")]
    if entry.neighbours:
        sections.append(("nearest", "Nearest"))
    if entry.figures:
        sections.append(("inside", "Inside"))
    return [*sections, ("kernels", "Kernels")] if has_kernels else sections


def view_neighbour(neighbour: Any, entry: Entry, own: Path) -> NeighbourView:
    """Read a neighbour's picture."""
    picture = neighbour.picture
    return NeighbourView(
        sample_id=neighbour.sample_id,
        name=neighbour.name,
        similarity=f"{neighbour.similarity:.2f}",
        picture=None
        if picture is None
        else encode_picture(read_stored_picture(own / picture), side=_NEAR_SIDE),
        same=neighbour.name == entry.true,
    )


def describe_neighbours(entry: Entry) -> str:
    """Return what the neighbours were found among, and of what classes they are."""
    if not entry.neighbours:
        return ""
    said = sum(one.name == entry.predicted for one in entry.neighbours)
    sentence = f"{said} of the {len(entry.neighbours)} nearest are of the class that was said"
    if entry.is_failure:
        true = sum(one.name == entry.true for one in entry.neighbours)
        sentence += f", {true} of the true one"
    return (
        f"{sentence}. Compared by the cosine of the features in front of the head, with "
        f"{format_count(entry.num_compared)} training images."
    )
