"""Verify: is a run still what it says? Every fingerprint is computed again from the bytes on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from praxiscope.data.audit import verify_files
from praxiscope.data.clips.audit import verify_clips
from praxiscope.data.manifest import Manifest, read_manifest
from praxiscope.errors import DataError, IntegrityError, UsageError
from praxiscope.evaluation.baseline import read_training_targets
from praxiscope.evaluation.epic import restore_epic_labels, score_epic
from praxiscope.evaluation.groups import ClassGroups, restore_class_groups
from praxiscope.evaluation.predictions import Predictions, read_predictions
from praxiscope.evaluation.scores import compute_metrics, without_nan
from praxiscope.models.state import compute_weights_sha256
from praxiscope.recipe.load import compute_saved_fingerprint, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs import atomic
from praxiscope.runs.checkpoint import read_checkpoint
from praxiscope.runs.checkpoint_files import BEST, read_manifests
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir

Progress = Callable[[str, int, int], None]
_WORDS = frozenset({"sentences", "rules", "rule"})
"""Parts of a figure's entry that explain it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was verified.

    Attributes:
        name: what.
        problems: what is wrong, a line each; empty when all is well.
        detail: what was compared, for a reader.
    """

    name: str
    problems: tuple[str, ...]
    detail: str

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    run: RunDir | Path | str,
    *,
    output: Path | str = "runs",
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> tuple[Check, ...]:
    """Recompute every fingerprint of a run.

    Args:
        run: a run, its folder, or ``recipe@latest``.
        output: folder of all runs, for names.
        data: where the data folder is now, if it has moved.
        progress: called with phase, done, total.

    Returns:
        One check each for the recipe, the data, each checkpoint, each predictions table and each evaluation.

    Raises:
        UsageError: no such run.
    """
    found = run if isinstance(run, RunDir) else find_run(str(run), root=Path(output))
    root = Path(data).expanduser().resolve() if data is not None else None
    stored = found.read_run_json()
    return (
        _check_recipe(found, stored),
        *_check_data(found, stored, root, progress),
        *_check_checkpoints(found),
        *_check_predictions(found, stored),
        *_check_evaluations(found),
    )


def _check_recipe(run: RunDir, stored: dict[str, Any]) -> Check:
    fingerprint = compute_saved_fingerprint(run.recipe)
    same = fingerprint == stored["recipe_fingerprint"]
    problem = (
        f"recipe.yaml has fingerprint {fingerprint[:12]}, run.json says {stored['recipe_fingerprint'][:12]}"
    )
    return Check(name="recipe", problems=() if same else (problem,), detail=fingerprint[:12])


def _check_data(
    run: RunDir, stored: dict[str, Any], root: Path | None, progress: Progress | None
) -> Iterator[Check]:
    try:
        manifest = read_manifest(run.manifest)
    except (IntegrityError, DataError) as problem:
        yield Check(name="manifest", problems=(str(problem),), detail="")
        return
    expected = stored["data"]["manifest_fingerprint"]
    same = manifest.fingerprint == expected
    other = f"the manifest has fingerprint {manifest.fingerprint[:12]}, run.json says {expected[:12]}"
    yield Check(name="manifest", problems=() if same else (other,), detail=manifest.fingerprint[:12])
    try:
        manifest = manifest.with_root(root or manifest.root)
    except UsageError as gone:
        yield Check(name="data files", problems=(str(gone),), detail="")
        return
    look = verify_clips if manifest.holds_clips else verify_files
    changed = look(manifest, progress=progress)
    count = manifest.usable(None).num_rows
    yield Check(name="data files", problems=tuple(changed), detail=f"{count} samples by sha256")


def _check_checkpoints(run: RunDir) -> Iterator[Check]:
    manifests, rejected = read_manifests(run.checkpoints)
    for each in rejected:
        yield Check(name=f"checkpoint {each.name}", problems=(each.reason,), detail="")
    for manifest in manifests:
        problems: tuple[str, ...] = ()
        try:
            read_checkpoint(manifest.path, only=())
        except IntegrityError as problem:
            problems = (str(problem),)
        yield Check(
            name=f"checkpoint {manifest.path.name}",
            problems=problems,
            detail=f"epoch {manifest.epoch}{', best' if BEST in manifest.tags else ''}",
        )


def _check_predictions(run: RunDir, stored: dict[str, Any]) -> Iterator[Check]:
    known = _read_weights(run)
    if "fusion" in stored:  # it has no weights; the fingerprint is that of its members' and their shares
        known.add(stored["model"]["weights_sha256"])
    for split in ("train", "val", "test"):
        if not run.predictions(split).is_file():
            continue
        try:
            table = read_predictions(run.predictions(split))
        except (IntegrityError, DataError) as problem:
            yield Check(name=f"predictions {split}", problems=(str(problem),), detail="")
            continue
        yield Check(
            name=f"predictions {split}",
            problems=tuple(_compare_origin(table, known, stored)),
            detail=f"{len(table)} samples, {table.fingerprint[:12]}",
        )


def _compare_origin(table: Predictions, known: set[str], stored: dict[str, Any]) -> Iterator[str]:
    if table.info.weights_sha256 not in known:
        yield f"made by weights {table.info.weights_sha256[:12]}, of no checkpoint here; evaluate again"
    if table.info.manifest_fingerprint != stored["data"]["manifest_fingerprint"]:
        yield f"made on data {table.info.manifest_fingerprint[:12]}, not on the run's; evaluate again"


def _read_weights(run: RunDir) -> set[str]:
    fingerprints = set()
    for manifest in read_manifests(run.checkpoints)[0]:
        try:
            checkpoint = read_checkpoint(manifest.path)
        except IntegrityError:
            continue  # reported by its own check
        fingerprints |= {
            compute_weights_sha256(tensors)
            for group, tensors in checkpoint.groups.items()
            if group != "optimizer"
        }
    return fingerprints


def _compute_again(
    written: dict[str, Any], table: Predictions, recipe: Recipe, manifest: Manifest
) -> dict[str, Any]:
    again = compute_metrics(
        table,
        seed=recipe.seed,
        resamples=written["interval"]["resamples"],
        grouping=_restore_grouping(written, table),
        training=read_training_targets(manifest) if "baseline" in written else None,
    )
    if "epic" in written:
        interval = written["interval"]
        plan = {"seed": recipe.seed, "resamples": interval["resamples"], "level": interval["level"]}
        again["epic"] = without_nan(score_epic(table, restore_epic_labels(written["epic"]), plan))
    # Rules are sentences that later versions add to; those that are there must still hold.
    return again | {"rules": {key: again["rules"].get(key) for key in written["rules"]}}


def _restore_grouping(written: dict[str, Any], table: Predictions) -> ClassGroups | None:
    """Return the grouping that some metrics were made with, of the head that has one."""
    several = written.get("heads")
    for head, own in (several or {table.resolve_head(): written}).items():
        if own.get("groups") is not None:
            return replace(restore_class_groups(own["groups"], table.names(head)), head=head)
    return None


def _check_evaluations(run: RunDir) -> Iterator[Check]:
    """Compute each split's newest metrics again from its table; older ones were of older tables."""
    recipe: Recipe = load_recipe(run.recipe)
    for split in ("train", "val", "test"):
        folders = run.evaluations(split)
        if not folders or not run.predictions(split).is_file():
            continue
        name = f"evaluation {folders[-1].name}"
        try:
            written = atomic.read_json(folders[-1] / "metrics.json")
            table = read_predictions(run.predictions(split))
            again = _compute_again(written, table, recipe, read_manifest(run.manifest))
        except (IntegrityError, DataError) as problem:
            yield Check(name=name, problems=(str(problem),), detail="")
            continue
        # What other orders of frames give follows from the network, not from the table.
        differing = [
            key
            for key in written
            if key != "temporal_reliance" and _figures(written[key]) != _figures(again.get(key))
        ]
        problems = (f"does not follow from the predictions: {', '.join(differing)}",) if differing else ()
        yield Check(name=name, problems=problems, detail="computed again from the predictions")


def _figures(entry: Any) -> Any:
    """Return a part of the metrics without its sentences, which later versions may word otherwise."""
    if not isinstance(entry, dict):
        return entry
    return {key: _figures(value) for key, value in entry.items() if key not in _WORDS}
