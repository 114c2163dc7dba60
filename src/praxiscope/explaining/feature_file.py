"""Features of many samples in one file, kept until weights, data or preprocessing change."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from praxiscope.runs import atomic


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Features of N samples.

    Attributes:
        key: what they follow from; another key means other features.
        sample_ids: N ids.
        targets: int64 (N,), indices into the label names.
        features: float32 (N, D), from in front of the head.
        logits: float32 (N, K).
    """

    key: str
    sample_ids: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]


def write_features(table: FeatureTable, path: Path) -> None:
    """Write a table as ``.npz``, wholly or not at all.

    Raises:
        EnvironmentProblem: The disk is full.
    """
    with atomic.replacing(path) as aside, aside.open("xb") as stream:
        np.savez(
            stream,
            key=np.array(table.key),
            sample_ids=np.array(table.sample_ids, dtype=np.str_),
            targets=table.targets,
            features=table.features,
            logits=table.logits,
        )


def read_features(path: Path, key: str) -> FeatureTable | None:
    """Read a table; None where there is none of this key, or the file is damaged: it is computed anew."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            if str(content["key"]) != key:
                return None
            return FeatureTable(
                key=key,
                sample_ids=tuple(content["sample_ids"].tolist()),
                targets=content["targets"],
                features=content["features"],
                logits=content["logits"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
