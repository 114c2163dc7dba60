"""``profile.html``: what models cost, with the recommendation first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.reporting.costs.chart import list_shapes
from praxiscope.reporting.costs.views import CostView, build_cost_view
from praxiscope.reporting.page import render_page
from praxiscope.runs import atomic

STYLES = ("report.css", "costs.css")


def build_profile_page(profile: Mapping[str, Any], folder: Path) -> Path:
    """Write ``profile.html`` and return its path.

    The page needs nothing but a browser and sends no request.

    Args:
        profile: The content of ``profile.json``.
        folder: Existing folder.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    view = build_cost_view(profile)
    page = render_page(_compose(profile, view), template="profile.html.j2", styles=STYLES)
    path = folder / "profile.html"
    atomic.write_text(path, page)
    return path


def _compose(profile: Mapping[str, Any], view: CostView) -> dict[str, Any]:
    names = [model.name for model in view.models]
    created = datetime.fromisoformat(profile["created"]).astimezone(UTC)
    sections = [("result", "Result"), ("picture", "Accuracy and cost"), ("runtimes", "Runtimes")]
    if view.stages:
        sections.append(("stages", "Stages"))
    return {
        "kind": "profile",
        "title": f"What {names[0]} costs" if len(names) == 1 else f"What {len(names)} models cost",
        "facts": [*(names if len(names) > 1 else ()), f"{created:%Y-%m-%d %H:%M} UTC"],
        "sections": [*sections, ("machine", "Machine")],
        "view": view,
        "shapes": list_shapes(),
        "footer": (
            "Praxiscope. Every figure on this page is in profile.json; the page loads nothing from elsewhere."
        ),
        "embedded": {},
    }
