"""Everything that a report reads from a run folder, in one frozen value; what is absent is None or empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from praxiscope.data.manifest import Manifest, read_manifest
from praxiscope.evaluation.predictions import Predictions, read_predictions
from praxiscope.runs.atomic import read_json
from praxiscope.runs.rundir import RunDir


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The newest evaluation of one split."""

    metrics: Mapping[str, Any]
    """The content of ``metrics.json``."""
    folder: str
    """Name of the evaluation's folder, which begins with its UTC time."""
    predictions: Predictions | None
    """The newest predictions on the split."""


@dataclass(frozen=True, kw_only=True)
class Artefacts:
    """What a run folder holds."""

    folder: Path
    run: Mapping[str, Any]
    """The content of ``run.json``; a run that hasn't begun to train lacks most of its entries."""
    recipe: str | None
    """The text of ``recipe.yaml``."""
    rows: tuple[Mapping[str, Any], ...]
    """``metrics.jsonl``, one per epoch."""
    manifest: Manifest | None
    evaluations: Mapping[str, Evaluation]
    """By split."""


def read_artefacts(run: RunDir) -> Artefacts:
    """Read a run folder.

    Raises:
        IntegrityError: A file is there and damaged.
    """
    evaluations = {split: _read_evaluation(run, split) for split in ("test", "val", "train")}
    return Artefacts(
        folder=run.path,
        run=run.read_run_json(),
        recipe=run.recipe.read_text(encoding="utf-8") if run.recipe.is_file() else None,
        rows=tuple(run.read_metrics()),
        manifest=read_manifest(run.manifest) if run.manifest.is_file() else None,
        evaluations={split: found for split, found in evaluations.items() if found is not None},
    )


def _read_evaluation(run: RunDir, split: str) -> Evaluation | None:
    # An evaluation that was killed half-way leaves a folder without figures.
    finished = [folder for folder in run.evaluations(split) if (folder / "metrics.json").is_file()]
    if not finished:
        return None
    path = run.predictions(split)
    return Evaluation(
        metrics=read_json(finished[-1] / "metrics.json"),
        folder=finished[-1].name,
        predictions=read_predictions(path) if path.is_file() else None,
    )
