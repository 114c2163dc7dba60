"""The output folder of a prediction: ours to fill and to fill again, never a place of the user's pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.prediction.tables import FORMATS
from praxiscope.runs import atomic

SUMMARY = "summary.json"
SEGMENTS = "segments.csv"
ANNOTATED = "annotated"


def is_earlier_output(folder: Path) -> bool:
    """Whether a folder holds what an earlier prediction wrote; other programs write a summary.json too."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"praxiscope_version", "networks", "num_pictures"} <= found.keys()


def check_folder(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output folder that holds inputs where it would write, or others' files of the same names.

    Args:
        folder: where the output goes; may be absent.
        inputs: the files to predict.

    Raises:
        UsageError: It is such a folder.
    """
    place = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; name a folder.")
    for parent in {path.resolve().parent for path in inputs}:
        if parent == place:
            raise UsageError(f"-o {folder} is a folder of the pictures themselves; nothing is written there.")
        if parent.is_relative_to(place / ANNOTATED):
            raise UsageError(f"-o {folder}: its {ANNOTATED}/ holds pictures to predict; choose another -o.")
    ours = (ANNOTATED, SUMMARY, SEGMENTS, *(_name_table(name) for name in FORMATS))
    taken = [name for name in ours if (folder / name).exists()]
    if taken and not is_earlier_output(folder):
        raise UsageError(f"-o {folder} has {', '.join(taken)} that no prediction wrote; choose another -o.")


def _name_table(extension: str) -> str:
    return f"predictions.{extension}"


def clear_folder(folder: Path) -> None:
    """Make the folder, and remove what an earlier prediction left there: nothing else.

    Raises:
        EnvironmentProblem: It can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_earlier_output(folder):
            for name in (SEGMENTS, *map(_name_table, FORMATS)):
                (folder / name).unlink(missing_ok=True)
            atomic.remove_tree(folder / ANNOTATED)
            atomic.sweep_stale(folder, older_than_s=0.0)
    except OSError as problem:
        raise EnvironmentProblem(
            f"Can't write to {folder}: {problem.strerror}. Choose another -o."
        ) from problem
