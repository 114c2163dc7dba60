"""Which run to go on with, for how many epochs, and whether it is still the same run (A9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from praxiscope.data.manifest import Manifest, read_manifest
from praxiscope.errors import UsageError
from praxiscope.recipe.load import compute_recipe_differences, load_recipe
from praxiscope.recipe.schema import Recipe
from praxiscope.runs.checkpoint import latest_checkpoint
from praxiscope.runs.checkpoint_files import read_manifests
from praxiscope.runs.find import find_run, newest_run
from praxiscope.runs.rundir import RunDir

# What may change under a resume: how fast samples arrive, how often is saved, how the result is described,
# how a run is extended. Not what validation sees: that chooses the best epoch.
_FREE = (
    "loader.", "evaluate.batch_size", "evaluate.resamples", "train.checkpoint_every_", "description",
    "train.histogram_every_epochs", "train.epochs:", "train.extend", "track.", "features.max_gib",
    "train.parallel", "train.distributed_timeout_s",
)  # fmt: skip
_NOTED = "train.epochs:"
# What may not even with --allow-changes: the weights and the optimiser's state would not fit.
_FIXED = (
    "model.name", "model.img_size", "model.kwargs", "model.freeze", "model.head", "train.opt:",
    "train.layer_decay", "data: labels",
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


def settle_epochs(run: RunDir, recipe: Recipe, *, asked: int | None, allow: bool) -> Recipe:
    """Settle for how many epochs a resumed run is planned.

    More than before extends the run. A recipe that still says what an extended run had been planned for, as a
    built-in one does, doesn't take the extension back.

    Args:
        run: to be resumed.
        recipe: as asked for now.
        asked: epochs that were asked for besides the recipe; they win.
        allow: end before the epoch that the run is planned for.

    Returns:
        ``recipe`` with the epochs that hold.

    Raises:
        UsageError: fewer epochs than have been trained, or than planned without ``allow``; or the checkpoint
            is from a version that didn't keep the plan, or of no training at all.
    """
    _refuse_untrained(run)
    planned = load_recipe(run.recipe).train.epochs
    wanted = recipe.train.epochs if asked is None else asked
    if wanted == planned:
        return _with_epochs(recipe, planned)
    checkpoint, _ = latest_checkpoint(run.checkpoints, only=())
    state = {} if checkpoint is None else checkpoint.state["train"]
    earlier = {state.get("planned_epochs"), *(joint["from_epochs"] for joint in state.get("joints", ()))}
    if asked is None and wanted in earlier:
        return _with_epochs(recipe, planned)
    trained = state.get("epoch", 0) + (1 if state.get("batch") else 0)
    if wanted < trained:
        begun = " and begun the next" if state["batch"] else ""
        raise UsageError(
            f"{run.path} has trained {state['epoch']} of {planned} epochs{begun}; "
            f"it can't end after {wanted}. Ask for --epochs {planned} to go on as planned, or for more."
        )
    if wanted < planned and not allow:
        raise UsageError(
            f"{run.path} is planned for {planned} epochs, {trained} of them begun; {wanted} were asked for. "
            f"Add --epochs {planned} to go on as planned, or --allow-changes to end after epoch {wanted}."
        )
    if state and not state.get("planned_epochs"):
        raise UsageError(
            f"{run.path} was written by a version that didn't keep what its learning rate is laid out for: "
            f"it can be finished (--epochs {planned}), but not continued to {wanted} epochs. Start a new run "
            "without --resume for that."
        )
    return _with_epochs(recipe, wanted)


def _refuse_untrained(run: RunDir) -> None:
    """Refuse a zero-shot classifier: it holds weights, and nothing that training could go on from."""
    manifests, _ = read_manifests(run.checkpoints)
    if manifests and not any("optimizer.safetensors" in manifest.files for manifest in manifests):
        raise UsageError(
            f"{run.path} was made without training (praxiscope zeroshot): there is nothing to go on with. "
            f"Evaluate it: praxiscope evaluate {run.path}; or start a new run without --resume."
        )


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    return load_recipe(recipe.model_dump(mode="json"), {"train.epochs": epochs})


def refuse_changes(
    run: RunDir, recipe: Recipe, manifest: Manifest, *, allow: bool, ranks: int = 1
) -> list[str]:
    """Compare recipe and data with those that the run began with.

    Args:
        run: to be resumed.
        recipe: as asked for now.
        manifest: as built now.
        allow: go on all the same.
        ranks: processes that train together now. Another number is as good where all ranks' batches hold as
            many samples together as before.

    Returns:
        The differences that were allowed, another number of epochs or of ranks, for the run's notes.

    Raises:
        UsageError: something that changes the result differs and ``allow`` is false, or the weights don't fit
            what differs; each is named.
    """
    before = load_recipe(run.recipe)
    changes = compute_recipe_differences(before, recipe)
    differences = [line for line in changes if not line.startswith(_FREE)]
    noted = [line for line in changes if line.startswith(_NOTED)]
    batches = [
        (before.train.batch_size, int(run.read_run_json().get("ranks", 1))),
        (recipe.train.batch_size, ranks),
    ]
    if batches[0][1] != ranks:
        old, new = (f"{size} samples on {count} ranks" for size, count in batches)
        differences = [line for line in differences if not line.startswith("train.batch_size:")]
        same = math.prod(batches[0]) == math.prod(batches[1])
        (noted if same else differences).append(f"batches: {old} -> {new}")
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
    return noted + differences


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
