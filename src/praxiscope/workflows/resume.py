"""Which run to go on with, and whether it is still the same run (A9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from praxiscope.data.manifest import Manifest, read_manifest
from praxiscope.errors import UsageError
from praxiscope.recipe.load import compute_recipe_differences, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.find import find_run, newest_run
from praxiscope.runs.rundir import RunDir

# What may change under a resume: how fast samples arrive, how often is saved, how the result is described.
# Not what validation sees: that chooses the best epoch.
_FREE = ("loader.", "evaluate.batch_size", "evaluate.resamples", "train.checkpoint_every_", "description")
# What may not even with --allow-changes: the weights and the optimiser's state would not fit.
_FIXED = (
    "model.name", "model.img_size", "model.kwargs", "model.freeze", "train.opt:", "train.layer_decay",
    "data: labels",
)  # fmt: skip


def find_run_to_resume(
    resume: str | Path | bool, recipe_name: str, manifest: Manifest, output: Path
) -> RunDir:
    """Return the run that ``--resume`` means.

    Args:
        resume: a run's folder or ``recipe@latest``; True means the newest run of this recipe and data.
        recipe_name: of the recipe that was given.
        manifest: of the data that was given.
        output: folder of all runs.

    Raises:
        UsageError: there is no such run.
    """
    if resume is not True:
        return find_run(str(resume), root=output)
    run = newest_run(output, recipe_name, manifest_fingerprint=manifest.fingerprint)
    if run is not None:
        return run
    other = newest_run(output, recipe_name)
    if other is None or not other.manifest.is_file():
        raise UsageError(
            f"--resume: there is no run of '{recipe_name}' in {output}; start one without --resume."
        )
    changes = "\n".join(
        f"  - {line}" for line in compute_data_differences(read_manifest(other.manifest), manifest)
    )
    raise UsageError(
        f"--resume: no run of '{recipe_name}' in {output} was trained on this data. The newest, "
        f"{other.path}, differs:\n{changes}\nBring the data back, or start a new run without --resume."
    )


def refuse_changes(run: RunDir, recipe: Recipe, manifest: Manifest, *, allow: bool) -> list[str]:
    """Compare recipe and data with those that the run began with.

    Args:
        run: to be resumed.
        recipe: as asked for now.
        manifest: as built now.
        allow: go on all the same.

    Returns:
        The differences that were allowed, for the run's notes.

    Raises:
        UsageError: something that changes the result differs and ``allow`` is false, or the weights don't fit
            what differs; each is named.
    """
    changes = compute_recipe_differences(load_recipe(run.recipe), recipe)
    differences = [line for line in changes if not line.startswith(_FREE)]
    stored = read_manifest(run.manifest)
    if stored.fingerprint != manifest.fingerprint:
        differences += [f"data: {line}" for line in compute_data_differences(stored, manifest)]
    if differences and not allow:
        listed = "\n".join(f"  - {line}" for line in differences)
        raise UsageError(
            f"{run.path} would not be the same run any more:\n{listed}\n"
            "Bring these back, start a new run without --resume, or pass --allow-changes to go on and have "
            "it noted."
        )
    if fixed := [line for line in differences if line.startswith(_FIXED)]:
        listed = "\n".join(f"  - {line}" for line in fixed)
        raise UsageError(
            f"--allow-changes: what {run.path} has learned can't go on with\n{listed}\n"
            "Bring these back, or start a new run without --resume."
        )
    return differences


def compute_data_differences(old: Manifest, new: Manifest) -> list[str]:
    """Return one line for each kind of change between two manifests, with counts and examples."""
    before, after = _by_id(old), _by_id(new)
    both = before.keys() & after.keys()
    kinds = {
        "added": sorted(after.keys() - before.keys()),
        "gone": sorted(before.keys() - after.keys()),
        "another split": sorted(i for i in both if before[i]["split"] != after[i]["split"]),
        "another label": sorted(
            i for i in both if any(before[i].get(head) != after[i].get(head) for head in old.heads)
        ),
        "another content": sorted(i for i in both if before[i]["sha256"] != after[i]["sha256"]),
        "another duplicate": sorted(i for i in both if before[i]["twin_of"] != after[i]["twin_of"]),
    }
    lines = [f"{len(ids)} samples: {kind} ({_some(ids)})" for kind, ids in kinds.items() if ids]
    if old.heads != new.heads:
        lines.append(f"labels: {old.heads} -> {new.heads}")
    return lines


def _by_id(manifest: Manifest) -> dict[str, dict[str, object]]:
    return {str(row["sample_id"]): row for row in manifest.usable(None).to_pylist()}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", and {len(names) - 3} more" if len(names) > 3 else "")
