"""``explain/index.html``: one page in which a person flips between samples, methods and layers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from praxiscope.explaining.clip_index import ClipEntry
from praxiscope.explaining.index import Entry, Index, read_index
from praxiscope.reporting.explanations.measured import view_measured
from praxiscope.reporting.explanations.saliency import OPACITY, encode_ramp
from praxiscope.reporting.explanations.single import compose_sample_page
from praxiscope.reporting.explanations.views import SampleView, name_page, view_figures, view_sample
from praxiscope.reporting.page import render_page
from praxiscope.runs import atomic

AnyEntry = TypeVar("AnyEntry", Entry, ClipEntry)

PAGE = "index.html"
MAX_SAMPLES = 60
"""More of them would make a page that browsers open slowly; each still has a page of its own."""


def build_explain_pages(folder: Path) -> Path:
    """Write the page of all samples, and one for each, from the files of a folder.

    Args:
        folder: ``explain/`` of a run.

    Returns:
        ``index.html``.

    Raises:
        IntegrityError: The index or a file that it names is damaged or missing.
        EnvironmentProblem: The disk is full.
    """
    index = read_index(folder)
    kernels = view_figures([one for one in index.figures if one.kind == "kernels"], folder)
    for entry in index.entries:
        page = render_page(**compose_sample_page(entry, index, folder, kernels=kernels))
        atomic.write_text(folder / entry.slug / name_page(entry), page)
    atomic.write_text(folder / PAGE, render_page(**compose_explain_page(index, folder)))
    return folder / PAGE


def compose_explain_page(index: Index, folder: Path) -> dict[str, Any]:
    """Return the arguments of `render_page`."""
    ordered = sort_entries(index.entries)
    views = [view_sample(entry, folder, place) for place, entry in enumerate(ordered[:MAX_SAMPLES], start=1)]
    about = index.about
    command = f"praxiscope explain {shlex.quote(str(about.get('folder', folder.parent)))}"
    context = {
        "kind": "explanations",
        "title": f"What {about.get('model', 'the network')} looks at",
        "facts": list_facts(about, len(ordered)),
        "sections": [
            ("samples", "Samples"),
            ("methods", "Methods"),
            ("network", "Network"),
            ("reading", "Reading"),
        ],
        "footer": "Every map on this page lies beside it as PNG and as numbers (.npy).",
        "samples": views,
        "left_out": ordered[MAX_SAMPLES:],
        "looks": list_looks(views),
        "opacity": round(100 * OPACITY),
        "ramps": {signed: encode_ramp(signed=signed) for signed in (False, True)},
        "flip": bool(about.get("flip")),
        "commands": {
            "again": command,
            "measure": f"{command} --measure 200",
            "embedding": f"{command} --embedding",
            "histograms": f"{command} --histograms",
        },
        "sentences": index.sentences,
        "figures": view_figures(index.figures, folder),
        "kinds": {figure.kind for figure in index.figures},
        "measured": view_measured(folder),
        "embedded": {"opacity": OPACITY},
    }
    return {
        "context": context,
        "template": "explain.html.j2",
        "styles": ("report.css", "explain.css"),
        "scripts": ("report.js", "explain.js"),
    }


def sort_entries(entries: Sequence[AnyEntry]) -> list[AnyEntry]:
    """Return entries with the newest epoch first; within it named ones, failures, then random ones."""
    order = {"named": 0, "failure": 1, "random": 2}
    return sorted(entries, key=lambda entry: (-entry.epoch, order[entry.reason]))


def list_facts(about: Mapping[str, Any], count: int) -> list[str]:
    """Return what stands below the title."""
    facts = [str(about[key]) for key in ("model", "run") if about.get(key)]
    facts.append(f"weights of epoch {about.get('epoch')}")
    if about.get("data"):
        facts.append(f"data {about['data']}")
    return [*facts, f"{count} sample{'' if count == 1 else 's'}"]


def list_looks(views: Sequence[SampleView]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (method, [(key, layer)]) of all samples, each once, in the order in which they come."""
    methods: dict[str, dict[str, str]] = {}
    for view in views:
        for look in view.looks:
            methods.setdefault(look.method, {})[look.key] = look.layer
    return [(method, list(layers.items())) for method, layers in methods.items()]
