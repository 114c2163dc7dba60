"""The answers to EPIC-KITCHENS-100's action recognition challenge as the zip that its server takes.

One file ``test.json``: ``{"version": "0.2", "challenge": "action_recognition", "sls_pt": .., "sls_tl": ..,
"sls_td": .., "results": {narration_id: {"verb": {"0": score, ..}, "noun": {"0": score, ..}}}}``. The server
ranks by the scores and takes their softmax for actions, so logits are what it is given.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from praxiscope.data.epic_sets import SIZES
from praxiscope.errors import DataError, UsageError
from praxiscope.runs.atomic import replacing

VERSION = "0.2"
CHALLENGE = "action_recognition"
MEMBER = "test.json"
_SHOWN = 5
_FAR_BELOW = 30.0
"""A class that the network doesn't know scores this much below its lowest logit: e^-30 is 1e-13."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip's time stamp: the same answers make the same bytes


@dataclass(frozen=True, kw_only=True)
class SupervisionLevels:
    """What the server asks about supervision, each from 0 to 5, as the challenge's page defines them.

    Attributes:
        pretraining: ``sls_pt``.
        labels: ``sls_tl``, of training.
        data: ``sls_td``, of training.

    Raises:
        UsageError: A level isn't from 0 to 5.
    """

    pretraining: int = 2
    labels: int = 3
    data: int = 3

    def __post_init__(self) -> None:
        """Check the range."""
        for name, level in vars(self).items():
            if not 0 <= level <= 5:
                raise UsageError(f"The supervision level '{name}' is {level}; it must be from 0 to 5.")


class Scored(Protocol):
    """Samples with logits: a predictions table, or :class:`Answers`."""

    @property
    def heads(self) -> Mapping[str, Sequence[str]]:
        """Head to its label names."""

    @property
    def sample_ids(self) -> Sequence[str]:
        """Of N samples."""

    def logits(self, head: str, /) -> npt.NDArray[np.float32]:
        """Return (N, K) logits of a head."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a network says about samples whose labels nobody here knows.

    Attributes:
        sample_ids: of N samples.
        heads: head to its K label names.
        values: head to float32 (N, K) logits.
    """

    sample_ids: Sequence[str]
    heads: Mapping[str, Sequence[str]]
    values: Mapping[str, npt.NDArray[np.float32]]

    def logits(self, head: str, /) -> npt.NDArray[np.float32]:
        """Return (N, K) logits of a head."""
        return self.values[head]


def require_zip(path: Path) -> None:
    """Refuse a file name that the server wouldn't take, before anything slow.

    Raises:
        UsageError: It doesn't end in ``.zip``, or is a folder.
    """
    if path.suffix.lower() != ".zip" or path.is_dir():
        raise UsageError(f"--submission {path}: the server takes a zip; give a name that ends in .zip.")


def write_submission(
    predictions: Scored,
    path: Path,
    *,
    class_ids: Mapping[str, Sequence[int]],
    expected: Iterable[str] | None = None,
    levels: SupervisionLevels | None = None,
) -> Path:
    """Write a submission, wholly or not at all, and return its path; one segment is in memory at a time.

    Args:
        predictions: Of the heads ``verb`` and ``noun``; sample ids are narration ids.
        path: Ends in ``.zip``.
        class_ids: Head to the benchmark's id of each of its label names, in their order. An id that no label
            has gets a score far below the others.
        expected: The ids that must be there, no more and no fewer; any where None.
        levels: Of supervision.

    Raises:
        UsageError: Another file name.
        DataError: A head is missing, ids are missing or unknown, class ids that occur twice, or a score isn't
            finite.
        EnvironmentProblem: The disk is full.
    """
    require_zip(path)
    columns = {head: _place_scores(predictions, head, class_ids) for head in SIZES}
    if expected is not None:
        _compare_ids(predictions.sample_ids, expected)
    levels = levels or SupervisionLevels()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(_describe_member(), "w", force_zip64=True) as member,
        io.TextIOWrapper(member, encoding="utf-8") as text,
    ):
        for part in _write_parts(predictions.sample_ids, columns, levels):
            text.write(part)
    return path


def _describe_member() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(MEMBER, date_time=_EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _write_parts(
    sample_ids: Sequence[str], columns: Mapping[str, npt.NDArray[np.float32]], levels: SupervisionLevels
) -> Iterator[str]:
    header = {
        "version": VERSION,
        "challenge": CHALLENGE,
        "sls_pt": levels.pretraining,
        "sls_tl": levels.labels,
        "sls_td": levels.data,
    }
    yield json.dumps(header)[:-1] + ', "results": {'
    keys = {head: [str(number) for number in range(own.shape[1])] for head, own in columns.items()}
    for row, sample_id in enumerate(sample_ids):
        scores = {
            head: dict(zip(keys[head], own[row].astype(np.float64).round(6).tolist(), strict=True))
            for head, own in columns.items()
        }
        yield f"{', ' if row else ''}{json.dumps(sample_id)}: {json.dumps(scores, allow_nan=False)}"
    yield "}}"


def _place_scores(
    predictions: Scored, head: str, class_ids: Mapping[str, Sequence[int]]
) -> npt.NDArray[np.float32]:
    """Return (N, 97) or (N, 300) logits in the order of the benchmark's ids."""
    if head not in predictions.heads:
        raise DataError(
            f"A submission holds verbs and nouns; the predictions have {', '.join(predictions.heads)}."
        )
    logits, ids = predictions.logits(head), list(class_ids[head])
    repeated = sorted({number for number in ids if ids.count(number) > 1})
    if repeated or len(ids) != logits.shape[1]:
        raise DataError(
            f"The {logits.shape[1]} {head} labels have {len(ids)} class ids"
            + (f", of which {repeated[:_SHOWN]} occur more than once." if repeated else ".")
        )
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
        named = predictions.sample_ids[row]
        raise DataError(f"The {head} scores of {named!r} aren't finite; evaluate again.")
    placed = np.repeat(logits.min(axis=1, keepdims=True) - _FAR_BELOW, SIZES[head], axis=1)
    placed[:, ids] = logits
    return placed


def _compare_ids(given: Sequence[str], expected: Iterable[str]) -> None:
    wanted, held = set(expected), set(given)
    told = [
        f"{len(names):,} {what} ({', '.join(sorted(names)[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for names, what in ((wanted - held, "are missing"), (held - wanted, "are not asked for"))
        if names
    ]
    if told:
        raise DataError(f"Of the {len(wanted):,} segments of the submission {' and '.join(told)}.")
