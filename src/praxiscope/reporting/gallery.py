"""The gallery of failures: which samples, with what confidence, and a small picture of each."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.images import ImageUnreadable
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample, hash_sample
from praxiscope.evaluation.predictions import Predictions
from praxiscope.stats.calibration import compute_softmax

THUMBNAIL_SIDE = 176
"""Longest side in pixels: 88 CSS pixels on a dense screen, twice that on an ordinary one."""
THUMBNAIL_BYTES = 11_000
"""200 of these in base64 are 2.9 MB, so that a report stays under 4 MB."""
QUALITIES = (78, 62, 45, 28, 12)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One class with its softmax probability in [0, 1]."""

    name: str
    prob: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One sample that the model got wrong."""

    sample_id: str
    target: int
    preds: int
    true_name: str
    predicted_name: str
    confidence: float
    """Softmax probability of the predicted class."""
    guesses: tuple[Guess, ...]
    """The three most probable classes, or all when there are fewer."""
    clean: bool
    """False when the sample duplicates one of an earlier split."""
    picture: str | None
    """``data:image/jpeg`` URI, or None."""
    absence: str | None
    """Why there is no picture."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The most confident failures of a split, in falling order of confidence."""

    failures: tuple[Failure, ...]
    total: int
    """All failures of the split; ``len(failures)`` of them are shown."""
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Where pictures are read from, and what their content must be."""

    root: Path | None
    """Folder that the paths are relative to; None when it isn't known."""
    files: Mapping[str, tuple[str, str]]
    """``sample_id`` -> (relative path, sha256 of the file's bytes)."""


def collect_failures(
    predictions: Predictions, head: str, pictures: Pictures, *, max_failures: int
) -> Gallery:
    """Return the failures with the highest confidence, each with its thumbnail.

    Args:
        predictions: One row per sample.
        head: Which of its heads.
        pictures: Where the pictures are.
        max_failures: At most so many are shown, >= 0; `Gallery.total` tells how many there are.
    """
    probs = compute_softmax(predictions.logits(head))
    preds, targets = predictions.preds(head), predictions.targets(head)
    ids, names, clean = predictions.sample_ids, predictions.names(head), predictions.clean
    confidence = probs[np.arange(len(preds)), preds]
    wrong = np.flatnonzero(preds != targets)
    # Rows are in the order of sample ids, and the sort is stable: ties come out by sample id.
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:max_failures].tolist()
    failures = []
    for row in chosen:
        ranked = np.argsort(-probs[row], kind="stable")[:3].tolist()
        picture, absence = read_thumbnail(ids[row], pictures)
        failures.append(
            Failure(
                sample_id=ids[row],
                target=int(targets[row]),
                preds=int(preds[row]),
                true_name=names[targets[row]],
                predicted_name=names[preds[row]],
                confidence=float(confidence[row]),
                guesses=tuple(Guess(name=names[index], prob=float(probs[row, index])) for index in ranked),
                clean=bool(clean[row]),
                picture=picture,
                absence=absence,
            )
        )
    return Gallery(failures=tuple(failures), total=len(wrong), num_samples=len(preds))


def find_pictures(manifest: Manifest | None, root: Path | None = None) -> Pictures:
    """Return where the pictures of a manifest's samples are.

    Args:
        manifest: None knows no sample.
        root: Folder that the paths are relative to, when the data has moved; None takes the manifest's own.
    """
    if manifest is None:
        return Pictures(root=root, files={})
    columns = (manifest.table[name].to_pylist() for name in ("sample_id", "path", "sha256"))
    files = {sample_id: (path, sha256) for sample_id, path, sha256 in zip(*columns, strict=True)}
    return Pictures(root=root or manifest.root, files=files)


def read_thumbnail(sample_id: str, pictures: Pictures) -> tuple[str | None, str | None]:
    """Return (``data:`` URI, None), or (None, why there is no picture)."""
    if sample_id not in pictures.files:
        return None, "not in the manifest"
    if pictures.root is None:
        return None, "data folder not known"
    path, sha256 = pictures.files[sample_id]
    try:
        actual = hash_sample(pictures.root, path)
    except ImageUnreadable as error:
        return None, error.reason
    except (OSError, ValueError):  # ValueError: a null character in the name
        return None, "file not found"
    if actual != sha256:
        return None, "file has changed since the manifest was made"
    try:
        image = np.asarray(decode_sample(pictures.root, path, target_size=THUMBNAIL_SIDE))
    except ImageUnreadable as error:
        return None, f"unreadable: {error.reason}"
    return encode_thumbnail(image), None


def encode_thumbnail(image: npt.NDArray[np.uint8]) -> str:
    """Return a small JPEG of an image as a ``data:`` URI.

    Args:
        image: (H, W, 3) uint8 RGB.

    The quality falls until the file is at most `THUMBNAIL_BYTES`; the lowest quality is kept if none is.
    """
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    content = b""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=quality, optimize=True)
        content = buffer.getvalue()
        if len(content) <= THUMBNAIL_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
