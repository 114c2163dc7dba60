"""Fuse: several runs' predictions averaged into one table, in a folder that reads like a run's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from praxiscope import __version__
from praxiscope.data.manifest import read_manifest, write_manifest
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.fusion import Member, check_weights, fit_weights, fuse_predictions
from praxiscope.evaluation.predictions import Predictions, read_predictions, write_predictions
from praxiscope.evaluation.scores import compute_metrics
from praxiscope.evaluation.text import format_test_report, write_per_class_csvs, write_test_report
from praxiscope.recipe.load import compute_recipe_fingerprint, dump_recipe, load_recipe
from praxiscope.reporting.figures import write_evaluation_figures
from praxiscope.runs import atomic
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir

FITTED = "fitted on validation"
_SPLITS = ("test", "val", "train")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class FusionResult:
    """What a fusion left behind.

    Attributes:
        run: a folder like a run's: predictions, evaluations, ``run.json`` with ``fusion``.
        labels: of the members, in order.
        weights: of the members, of sum 1.
        chosen_by: how the weights were chosen.
        metrics: the content of ``metrics.json``.
    """

    run: RunDir
    labels: tuple[str, ...]
    weights: tuple[float, ...]
    chosen_by: str
    metrics: dict[str, Any]


def fuse(
    runs: Sequence[RunDir | Path | str],
    *,
    weights: Sequence[float] | None = None,
    fit: bool = False,
    split: str = "test",
    name: str = "fused",
    output: Path | str = "runs",
) -> FusionResult:
    """Average several runs' predictions on a split, head by head, and evaluate the mean.

    Args:
        runs: at least two, evaluated on the split (and on ``val``, to fit).
        weights: one a run, in order; equal ones by default.
        fit: choose the weights with the least loss on the validation split; not together with ``weights``.
        split: ``test``, ``val`` or ``train``. With ``fit``, not ``val``: figures would be on the samples that
            chose the weights.
        name: of the fusion; its folder is ``output/name/<time>``.
        output: folder of all runs.

    Raises:
        UsageError: no such run, split or name, or weights that don't fit.
        DataError: a run has no predictions of a split, or the runs don't answer the same samples and labels.
    """
    _check(fit=fit, weights=weights, split=split, name=name)
    found = [run if isinstance(run, RunDir) else find_run(str(run), root=Path(output)) for run in runs]
    labels = tuple(f"{run.path.parent.name}/{run.run_id}" for run in found)
    members = _read(found, labels, split)
    shares, chosen_by = (
        (fit_weights(_read(found, labels, "val")), FITTED)
        if fit
        else (weights or [1.0] * len(found), "given" if weights else "equal")
    )
    shares = tuple(check_weights(shares, len(found)).tolist())
    predictions = fuse_predictions(members, shares, name=name)
    run = _write_run(found, name=name, output=Path(output), labels=labels, shares=shares, chosen_by=chosen_by)
    model = run.read_run_json()["model"]
    run.update_run_json({"model": {**model, "weights_sha256": predictions.info.weights_sha256}})
    return FusionResult(
        run=run,
        labels=labels,
        weights=shares,
        chosen_by=chosen_by,
        metrics=_evaluate(run, predictions, split),
    )


def _check(*, fit: bool, weights: Sequence[float] | None, split: str, name: str) -> None:
    if split not in _SPLITS:
        raise UsageError(f"--split '{split}': choose one of {', '.join(_SPLITS)}.")
    if fit and weights is not None:
        raise UsageError("--fit and --weights exclude each other: the weights are chosen, or given.")
    if fit and split == "val":
        raise UsageError(
            "--fit chooses the weights on val, so figures on val would flatter them; evaluate --split test."
        )
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name '{name}' can't name a folder of runs: use a-z, 0-9, '.', '-' and '_', a letter or digit "
            "first."
        )


def _read(runs: Sequence[RunDir], labels: Sequence[str], split: str) -> list[Member]:
    members = []
    for run, label in zip(runs, labels, strict=True):
        path = run.predictions(split)
        if not path.is_file():
            raise DataError(
                f"{run.path} has no predictions on {split}. Make them: praxiscope evaluate {run.path} "
                f"--split {split}"
            )
        members.append(Member(label=label, predictions=read_predictions(path)))
    return members


def _write_run(
    members: Sequence[RunDir],
    *,
    name: str,
    output: Path,
    labels: Sequence[str],
    shares: Sequence[float],
    chosen_by: str,
) -> RunDir:
    """Make the folder, with the first member's recipe and data and what was fused."""
    told = " + ".join(f"{share:.3f} x {label}" for share, label in zip(shares, labels, strict=True))
    sentence = f"Late fusion, weights {chosen_by}: {told}"
    first, stored = load_recipe(members[0].recipe), members[0].read_run_json()
    run = RunDir.create(output, name)
    recipe = first.model_copy(update={"name": name, "description": f"{sentence}. Keys are the first one's."})
    atomic.write_text(run.recipe, dump_recipe(recipe))
    write_manifest(read_manifest(members[0].manifest), run.manifest)
    models = [member.read_run_json().get("model") or {} for member in members]
    run.update_run_json(
        {
            "praxiscope_version": __version__,
            "recipe_fingerprint": compute_recipe_fingerprint(recipe),
            "data": stored.get("data"),
            "environment": stored.get("environment"),
            "model": {
                "name": " + ".join(str(model.get("name")) for model in models),
                "parameters": sum(int(model.get("parameters", 0)) for model in models),
                "gmacs": sum(float(model.get("gmacs", 0.0)) for model in models),
                "pretrained": None,
                "frozen": [],
            },
            "fusion": {
                "members": [
                    {"run": str(member.path), "weight": share}
                    for member, share in zip(members, shares, strict=True)
                ],
                "chosen_by": chosen_by,
                "rule": "mean of softmax probabilities, head by head; its logarithm is stored as logits",
            },
            "notes": [sentence],
        }
    )
    run.write_status("done", step=0, epoch=0)
    return run


def _evaluate(run: RunDir, predictions: Predictions, split: str) -> dict[str, Any]:
    recipe = load_recipe(run.recipe)
    write_predictions(predictions, run.predictions(split))
    metrics = compute_metrics(predictions, seed=recipe.seed, resamples=recipe.evaluate.resamples)
    folder = run.new_evaluation_dir(split)
    atomic.write_json(folder / "metrics.json", metrics)
    title = f"{recipe.name} ({run.run_id}) on {split}"
    write_test_report(metrics, folder / "test_report.txt", title=title)
    write_per_class_csvs(metrics, folder)
    write_evaluation_figures(metrics, folder)
    run.write_latest_results(format_test_report(metrics, title=title))
    return metrics
