"""What a source says, in one form whatever its format: a row a sample, or counts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from praxiscope.stats.labels import IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTable:
    """The answers of one trained model to N samples."""

    source: Path
    """Where they come from: a run's folder or a file."""
    split: str | None
    """None where the source doesn't say."""
    head: str | None
    names: tuple[str, ...]
    """K label names."""
    names_complete: bool
    """False when the source gives labels only where they occur, so that some may be missing."""
    sample_ids: tuple[str, ...]
    """N unique ids."""
    targets: IntArray
    """(N,) indices into ``names``."""
    preds: IntArray
    """(N,) indices into ``names``."""
    logits: npt.NDArray[np.floating] | None = None
    """(N, K) logits or log-probabilities; None where only answers are known."""
    head_hits: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    """Of joint answers: head to (N,) whether it is right."""
    groups: tuple[str | None, ...] | None = None
    """N group names, None for a sample that is a group of its own; None where the source has no groups."""
    clean: npt.NDArray[np.bool_] | None = None
    """(N,) false for a sample that duplicates one of an earlier split; None where the source doesn't say."""
    run: Path | None = None
    seed: int | None = None
    recipe_name: str | None = None
    weights_sha256: str | None = None
    manifest_fingerprint: str | None = None
    recipe_key: str | None = None
    """Equal for runs whose recipes differ in their seed alone; None for what is no run."""

    @property
    def short_name(self) -> str:
        """The recipe's name, or the file's."""
        return self.recipe_name or self.source.stem


@dataclass(frozen=True, kw_only=True, eq=False)
class CountTable:
    """How often a model was right, without saying on which samples."""

    source: Path
    names: tuple[str, ...]
    """K label names."""
    support: IntArray
    """(K,) samples of each class."""
    correct: IntArray
    """(K,) of them answered right."""
    predicted: IntArray
    """(K,) samples that were given the class."""
    confusion: IntArray | None
    """(K, K) rows true; None where the source gives recall and precision alone."""
    run: Path | None = None

    @property
    def short_name(self) -> str:
        """The file's name without what every such file is called."""
        stem = self.source.stem
        for ending in ("_confusion_matrix", "_classification_report", "_metrics", "_test"):
            stem = stem.removesuffix(ending)
        return stem
