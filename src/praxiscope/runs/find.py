"""Find a run by what a person types: a folder, ``har-resnet18@latest``, a recipe's name, or a run's id."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from praxiscope.errors import IntegrityError, UsageError, did_you_mean
from praxiscope.runs.rundir import RunDir

_LOGGER = logging.getLogger(__name__)
_LATEST = "latest"


def list_runs(root: Path, recipe_name: str | None = None) -> list[RunDir]:
    """List the runs below `root`, newest first by the ``created`` in each one's ``run.json``.

    A folder whose ``run.json`` is damaged is left out, with a logged warning that names it.

    Args:
        root: The folder of all runs; may be absent.
        recipe_name: Only this recipe's runs; all when None.
    """
    found = []
    for path in root.absolute().glob(f"{recipe_name or '*'}/*/run.json"):
        try:
            run_dir = RunDir.open(path.parent)
            created = datetime.fromisoformat(run_dir.read_run_json()["created"])
        except (IntegrityError, ValueError) as problem:
            _LOGGER.warning("Passed over the run %s: %s", path.parent, problem)
            continue
        found.append((created, run_dir.run_id, run_dir))
    return [run_dir for _, _, run_dir in sorted(found, key=lambda entry: entry[:2], reverse=True)]


def find_run(text: str, *, root: Path) -> RunDir:
    """Open the run that `text` means.

    Args:
        text: A run folder's path; ``<recipe>@latest``, the recipe's newest run; ``<recipe>@<start of a run
            id>``; a bare recipe name that has one run; or a bare run id.
        root: The folder of all runs.

    Raises:
        UsageError: There is no such run, or several; lists what is there.
        IntegrityError: The run's ``run.json`` is damaged.
    """
    if Path(text).exists():
        return RunDir.open(Path(text))
    name, at, which = text.partition("@")
    runs = list_runs(root)
    if not at and name not in {run_dir.path.parent.name for run_dir in runs}:
        matching = [run_dir for run_dir in runs if run_dir.run_id == name]
    else:
        matching = [run_dir for run_dir in runs if run_dir.path.parent.name == name]
        if which == _LATEST:
            matching = matching[:1]
        matching = [run_dir for run_dir in matching if which == _LATEST or run_dir.run_id.startswith(which)]
    if len(matching) == 1:
        return matching[0]
    raise UsageError(_describe_choice(text, matching, runs, root))


def newest_run(root: Path, recipe_name: str, *, manifest_fingerprint: str | None = None) -> RunDir | None:
    """Return the newest run of a recipe, for a bare ``--resume``; None when there is none.

    Args:
        root: The folder of all runs; may be absent.
        recipe_name: The recipe.
        manifest_fingerprint: Only runs on the data with this fingerprint; any data when None.
    """
    for run_dir in list_runs(root, recipe_name):
        data = run_dir.read_run_json().get("data") or {}
        if manifest_fingerprint in {None, data.get("manifest_fingerprint")}:
            return run_dir
    return None


def _describe_choice(text: str, matching: list[RunDir], runs: list[RunDir], root: Path) -> str:
    if not runs:
        return f"No run '{text}': there are no runs below {root.absolute()}. 'praxiscope train' makes one."
    names = [f"{run_dir.path.parent.name}@{run_dir.run_id}" for run_dir in (matching or runs)]
    shown = "\n".join(f"  {name}" for name in names[:10]) + ("\n  ..." if len(names) > 10 else "")
    if matching:
        recipe_name = matching[0].path.parent.name
        return f"'{text}' means {len(matching)} runs; type '{recipe_name}@latest' or one of these:\n{shown}"
    recipes = sorted({run_dir.path.parent.name for run_dir in runs})
    allowed = [*recipes, *(f"{name}@latest" for name in recipes), *names]
    return f"No run '{text}' below {root.absolute()}.{did_you_mean(text, allowed)} The newest are:\n{shown}"
