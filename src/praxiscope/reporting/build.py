"""One offline HTML file that says what a run's artefacts carry, and nothing more."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from praxiscope.reporting.artefacts import Artefacts, Evaluation, read_artefacts
from praxiscope.reporting.explanations.brief import Brief, build_brief
from praxiscope.reporting.gallery import (
    Gallery,
    Shown,
    collect_failures,
    collect_joint_failures,
    find_pictures,
)
from praxiscope.reporting.joint import JointView, build_joint_view, build_temporal
from praxiscope.reporting.page import render_page
from praxiscope.reporting.sections import (
    build_cost,
    build_data,
    build_extremes,
    build_groups,
    build_learning,
    build_provenance,
    read_stored_recipe,
)
from praxiscope.reporting.views import EvaluationView, build_view
from praxiscope.reporting.wording import format_count, show_text
from praxiscope.runs import atomic
from praxiscope.runs.rundir import RunDir


def build_report(run: RunDir, *, data_root: Path | None = None, max_failures: int = 200) -> Path:
    """Write ``report.html`` of a run and return its path.

    The page needs nothing but a browser: pictures, style and script are inside it, and it sends no
    request. What the run doesn't hold (an evaluation, predictions, pictures of the failures) is said to be
    absent, with the command that makes it. The test split is the headline; validation is the headline only
    while test hasn't been evaluated.

    Args:
        run: The run folder; only ``report.html`` is written in it.
        data_root: Folder that the manifest's paths are relative to, when the data has moved; None takes the
            manifest's own.
        max_failures: Pictures in the gallery at most, the most confident mistakes first; >= 0.

    Raises:
        ValueError: ``max_failures`` is negative.
        IntegrityError: A file of the run is damaged.
        EnvironmentProblem: The disk is full.
    """
    if max_failures < 0:
        raise ValueError(f"max_failures is {max_failures}; it must be 0 (no pictures) or more")
    artefacts = read_artefacts(run)
    context = compose_page(artefacts, data_root=data_root, max_failures=max_failures, brief=build_brief(run))
    page = render_page(context, styles=("report.css", "explain.css"))
    atomic.write_text(run.report, page)
    return run.report


def compose_page(
    artefacts: Artefacts, *, data_root: Path | None, max_failures: int, brief: Brief | None = None
) -> dict[str, Any]:
    """Return what ``report.html.j2`` prints."""
    evaluations = artefacts.evaluations
    first = evaluations.get("test") or evaluations.get("val") or evaluations.get("train")
    second = evaluations.get("val") if first is not evaluations.get("val") else None
    folder = shlex.quote(str(artefacts.folder))
    headline = _view(first, folder)
    gallery = _build_gallery(artefacts, first, data_root, max_failures)
    run = artefacts.run
    command = run.get("command")
    return {
        "kind": "report",
        "title": run.get("recipe_name") or artefacts.folder.name,
        "facts": _list_facts(artefacts),
        "sections": _list_sections(headline, first, second is not None, brief is not None),
        "warnings": _list_warnings(artefacts),
        "commands": {
            "evaluate": f"praxiscope evaluate {folder} --split test",
            "train": shlex.join(map(str, command)) if command else "praxiscope train RECIPE --data DIR",
        },
        "headline": headline,
        "temporal": build_temporal(first.metrics if first else None),
        "second": _view(second, folder),
        "gallery": gallery,
        "gallery_sentence": _describe_gallery(gallery),
        "brief": brief,
        "learning": build_learning(artefacts),
        "extremes": build_extremes(first.metrics if first else None),
        "groups": build_groups(first.metrics if first else None),
        "data": build_data(artefacts),
        "cost": build_cost(artefacts),
        "provenance": build_provenance(artefacts, first),
        "footer": _describe_origin(artefacts),
        "embedded": _embed(first, gallery),
    }


def _view(evaluation: Evaluation | None, folder: str) -> EvaluationView | JointView | None:
    if evaluation is None:
        return None
    metrics = evaluation.metrics
    command = f"praxiscope evaluate {folder} --split {metrics['split']}"
    build = build_joint_view if "heads" in metrics else build_view
    return build(metrics, command=command)


def _build_gallery(
    artefacts: Artefacts, evaluation: Evaluation | None, data_root: Path | None, max_failures: int
) -> Gallery | None:
    if evaluation is None or evaluation.predictions is None:
        return None
    predictions = evaluation.predictions
    pictures = find_pictures(artefacts.manifest, data_root, _find_shown(artefacts))
    if len(predictions.heads) > 1:
        return collect_joint_failures(predictions, pictures, max_failures=max_failures)
    return collect_failures(predictions, evaluation.metrics["head"], pictures, max_failures=max_failures)


def _find_shown(artefacts: Artefacts) -> Shown | None:
    """Return which frames of clips the network saw, None where the recipe can't be read or sees images."""
    recipe, _ = read_stored_recipe(artefacts)
    if recipe is None or recipe.model.num_frames is None:
        return None
    return Shown(num_frames=recipe.model.num_frames, section=recipe.clip)


def _list_facts(artefacts: Artefacts) -> list[str]:
    run = artefacts.run
    model, data = run.get("model") or {}, run.get("data") or {}
    facts = [str(model[key]) for key in ("name",) if model.get(key)]
    if "pretrained" in model:
        facts.append(
            f"weights: {model['pretrained']}" if model["pretrained"] else "weights: random at the start"
        )
    if data.get("root"):
        facts.append(f"data {data['root']}")
    created = datetime.fromisoformat(run["created"]).astimezone(UTC)
    return [*facts, f"{created:%Y-%m-%d %H:%M} UTC", f"run {run['run_id']}"]


def _list_sections(
    headline: EvaluationView | JointView | None,
    first: Evaluation | None,
    has_second: bool,
    has_brief: bool,
) -> list[tuple[str, str]]:
    sections = [("result", "Result"), ("learning", "Learning")]
    if first is not None and first.metrics.get("temporal_reliance"):
        sections.insert(1, ("order", "Order"))
    if isinstance(headline, JointView):
        sections.append(("confusions", "Confusions"))
        sections += [
            (f"head-{place}", one.name.capitalize()) for place, one in enumerate(headline.heads, start=1)
        ]
        sections.append(("failures", "Failures"))
    elif headline is not None:
        sections += [
            ("confusions", "Confusions"),
            ("calibration", "Calibration"),
            ("classes", "Classes"),
        ]
        found = first.metrics if first else {}
        sections += [(key, key.capitalize()) for key in ("extremes", "groups") if found.get(key)]
        sections.append(("failures", "Failures"))
    if has_brief:
        sections.append(("explanations", "Explanations"))
    if has_second:
        sections.append(("validation", "Validation"))
    return [*sections, ("data", "Data"), ("cost", "Cost"), ("reproduce", "Repeat")]


def _list_warnings(artefacts: Artefacts) -> list[str]:
    """Return contradictions between artefacts: figures below may then not belong together."""
    warnings = []
    trained_on = (artefacts.run.get("data") or {}).get("manifest_fingerprint")
    for split, evaluation in artefacts.evaluations.items():
        metrics, predictions = evaluation.metrics, evaluation.predictions
        if trained_on and metrics.get("manifest_fingerprint") not in (None, trained_on):
            warnings.append(
                f"The {split} evaluation used other data than the training: the manifest fingerprints differ."
            )
        if predictions is not None and predictions.info.weights_sha256 != metrics["weights_sha256"]:
            warnings.append(
                f"The stored {split} predictions come from other weights than the {split} figures:"
                " the failures below may not be those that were counted."
            )
    return warnings


def _describe_gallery(gallery: Gallery | None) -> str:
    if gallery is None:
        return ""
    shown = len(gallery.failures)
    wrong = f"{format_count(gallery.total)} of {format_count(gallery.num_samples)} samples are wrong"
    if shown == gallery.total:
        return f"{wrong}; all are shown, the most confident mistake first."
    return f"{wrong}; the {format_count(shown)} most confident mistakes are shown."


def _describe_origin(artefacts: Artefacts) -> str:
    version = artefacts.run.get("praxiscope_version")
    name = f"Praxiscope {version}" if version else "Praxiscope"
    return (
        f"{name}. Every figure on this page is computed from the files of this run folder;"
        " the page loads nothing from elsewhere."
    )


def _embed(evaluation: Evaluation | None, gallery: Gallery | None) -> Mapping[str, Any]:
    if evaluation is None or gallery is None:
        return {"names": [], "failures": []}
    return {
        "names": [show_text(name) for name in gallery.names],
        "failures": [{"target": one.target, "preds": one.preds} for one in gallery.failures],
    }
