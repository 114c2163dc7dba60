"""The output folder of a prediction: ours to fill and to fill again, never a place of the user's pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.prediction.tables import FORMATS
from praxiscope.runs import atomic

SUMMARY = "summary.json"
ANNOTATED = "annotated"


def is_earlier_output(folder: Path) -> bool:
    """Whether a folder holds what an earlier prediction wrote."""
    return (folder / SUMMARY).is_file()


def check_folder(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output folder that is, or lies around, a place of the inputs' files, or that others fill.

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
        if parent == place or (place.is_relative_to(parent) and parent.is_relative_to(place)):
            raise UsageError(f"-o {folder} is a folder of the pictures themselves; nothing is written there.")
        if parent.is_relative_to(place / ANNOTATED):
            raise UsageError(f"-o {folder}: its {ANNOTATED}/ holds pictures to predict; choose another -o.")
    if (folder / ANNOTATED).exists() and not is_earlier_output(folder):
        raise UsageError(
            f"-o {folder} has a folder {ANNOTATED}/ that no prediction wrote (there is no {SUMMARY}); choose "
            "another -o."
        )


def clear_folder(folder: Path) -> None:
    """Make the folder, and remove what an earlier prediction left there: nothing else.

    Raises:
        EnvironmentProblem: It can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_earlier_output(folder):
            for name in FORMATS:
                (folder / f"predictions.{name}").unlink(missing_ok=True)
            atomic.remove_tree(folder / ANNOTATED)
            atomic.sweep_stale(folder, older_than_s=0.0)
    except OSError as problem:
        raise EnvironmentProblem(
            f"Can't write to {folder}: {problem.strerror}. Choose another -o."
        ) from problem
