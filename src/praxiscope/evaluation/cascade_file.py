"""The artefact of a cascade: two runs, a temperature, a threshold, and what was planned and confirmed.

``cascade.json`` lies in a folder of its own. The runs are named by paths relative to that folder, so that
folder and runs can be moved together, and by the fingerprints of their weights, which are compared whenever
the cascade is used: a run that was trained further is another network, for which nothing was planned.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from praxiscope.errors import IntegrityError, UsageError
from praxiscope.runs import atomic

FILE_NAME = "cascade.json"
SCHEMA_VERSION = 1
_AGAIN = "Plan it again with 'praxiscope cascade SMALL LARGE -o DIR'."


@dataclass(frozen=True, kw_only=True)
class CascadeMember:
    """One of the two networks.

    Attributes:
        run: the run's folder, absolute.
        weights_sha256: fingerprint of the weights that were planned with.
    """

    run: Path
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class CascadeFile:
    """What is needed to run a cascade, and what was found out about it.

    Attributes:
        small: asked first.
        large: asked where the small one's confidence is below the threshold.
        names: label names that both know.
        temperature: divides the small one's logits; above 0.
        threshold: in [0, 1]; 0 never asks the large one, 1 always does.
        figures: costs, plan and confirmation, as ``comparison/cascade.py`` makes them.
    """

    small: CascadeMember
    large: CascadeMember
    names: tuple[str, ...]
    temperature: float
    threshold: float
    figures: Mapping[str, Any]


def is_cascade(folder: Path) -> bool:
    """Whether a folder holds a cascade."""
    return (folder / FILE_NAME).is_file()


def write_cascade(cascade: CascadeFile, folder: Path) -> Path:
    """Write ``cascade.json`` into an existing folder, wholly or not at all, and return its path.

    Raises:
        EnvironmentProblem: The disk is full.
        ValueError: A figure is NaN or infinite.
    """
    content = {
        "schema": SCHEMA_VERSION,
        "rule": "the large network answers where the small one's confidence is below the threshold",
        "small": _describe_member(cascade.small, folder),
        "large": _describe_member(cascade.large, folder),
        "names": list(cascade.names),
        "temperature": cascade.temperature,
        "threshold": cascade.threshold,
        **cascade.figures,
    }
    atomic.write_json(folder / FILE_NAME, content)
    return folder / FILE_NAME


def read_cascade(folder: Path) -> CascadeFile:
    """Read a cascade's folder; its runs are not looked at yet.

    Raises:
        UsageError: There is none.
        IntegrityError: ``cascade.json`` is damaged, or of another layout.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise UsageError(f"{folder} holds no {FILE_NAME}. {_AGAIN}")
    content = atomic.read_json(path)
    if content.get("schema") != SCHEMA_VERSION:
        raise IntegrityError(
            f"{path} has layout {content.get('schema')!r}; this version reads {SCHEMA_VERSION}. {_AGAIN}"
        )
    try:
        cascade = CascadeFile(
            small=_read_member(content.pop("small"), folder),
            large=_read_member(content.pop("large"), folder),
            names=tuple(str(name) for name in content.pop("names")),
            temperature=float(content.pop("temperature")),
            threshold=float(content.pop("threshold")),
            figures={key: value for key, value in content.items() if key not in {"schema", "rule"}},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise IntegrityError(f"{path} is damaged: it lacks or garbles {problem}. {_AGAIN}") from problem
    if not (0 <= cascade.threshold <= 1 and 0 < cascade.temperature < math.inf):
        raise IntegrityError(
            f"{path} is damaged: threshold {cascade.threshold}, temperature {cascade.temperature}. {_AGAIN}"
        )
    return cascade


def check_weights(member: CascadeMember, found: str | None) -> None:
    """Compare a run's weights with those that the cascade was planned with.

    Raises:
        IntegrityError: They are others.
    """
    if found != member.weights_sha256:
        raise IntegrityError(
            f"The best weights of {member.run} are not those that the cascade was planned with (trained "
            "further, or replaced), so its threshold means nothing for them. Evaluate the run on val and "
            f"test. {_AGAIN}"
        )


def _describe_member(member: CascadeMember, folder: Path) -> dict[str, str]:
    try:
        path = Path(os.path.relpath(member.run.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows: there is no way from here to there
        path = member.run.resolve().as_posix()
    return {"run": path, "weights_sha256": member.weights_sha256}


def _read_member(values: Mapping[str, Any], folder: Path) -> CascadeMember:
    return CascadeMember(
        run=(folder.resolve() / str(values["run"])).resolve(), weights_sha256=str(values["weights_sha256"])
    )
