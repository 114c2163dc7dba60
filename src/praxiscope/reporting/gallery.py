"""The gallery of failures: which samples, with what confidence, and a small picture of each."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.sampling import list_views
from praxiscope.data.clips.spans import Span
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample, hash_sample
from praxiscope.evaluation.joint import name_pair, stack_heads
from praxiscope.evaluation.predictions import Predictions
from praxiscope.recipe.schema import ClipSection
from praxiscope.stats.calibration import compute_softmax
from praxiscope.stats.joint import score_joint

THUMBNAIL_SIDE = 176
"""Longest side in pixels: 88 CSS pixels on a dense screen, twice that on an ordinary one."""
THUMBNAIL_BYTES = 11_000
"""200 of these in base64 are 2.9 MB, so that a report stays under 4 MB."""
QUALITIES = (78, 62, 45, 28, 12)
STRIP_FRAMES = 4
"""Frames of a clip that its strip shows, of those that the network saw."""
STRIP_HEIGHT = 96


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One class with its softmax probability in [0, 1]."""

    name: str
    prob: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one of several heads said."""

    head: str
    true_name: str
    predicted_name: str

    @property
    def right(self) -> bool:
        """Whether it was right."""
        return self.true_name == self.predicted_name


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
    parts: tuple[Part, ...] = ()
    """Of several heads what each said."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The most confident failures of a split, in falling order of confidence."""

    failures: tuple[Failure, ...]
    total: int
    """All failures of the split; ``len(failures)`` of them are shown."""
    num_samples: int
    names: tuple[str, ...] = ()
    """What ``target`` and ``preds`` are indices into."""
    clips: bool = False
    """Whether the pictures are strips of frames."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Which frames of its clips a network saw."""

    num_frames: int
    section: ClipSection


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Where pictures are read from, and what their content must be."""

    root: Path | None
    """Folder that the paths are relative to; None when it isn't known."""
    files: Mapping[str, tuple[str, str]]
    """``sample_id`` -> (relative path, sha256 of the file's bytes)."""
    spans: Mapping[str, Span] = field(default_factory=dict)
    """``sample_id`` of a clip -> where it lies in its video."""
    shown: Shown = field(default_factory=lambda: Shown(num_frames=STRIP_FRAMES, section=ClipSection()))
    """Of clips."""


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
    return Gallery(
        failures=tuple(failures),
        total=len(wrong),
        num_samples=len(preds),
        names=names,
        clips=bool(pictures.spans),
    )


def collect_joint_failures(predictions: Predictions, pictures: Pictures, *, max_failures: int) -> Gallery:
    """Return the failures of several heads together: samples of which any head is wrong.

    Args:
        predictions: One row per sample, of several heads.
        pictures: Where the pictures are.
        max_failures: As for `collect_failures`; confidence is that of the joint answer.
    """
    heads = list(predictions.heads)
    targets, preds = stack_heads(predictions)
    best = score_joint([predictions.logits(head) for head in heads], best=3)
    wrong = np.flatnonzero((targets != preds).any(axis=1))
    chosen = wrong[np.argsort(-best.scores[wrong, 0], kind="stable")][:max_failures].tolist()
    labels = list(predictions.heads.values())

    def tell(indices: npt.NDArray[np.int64]) -> str:
        return name_pair([own[index] for own, index in zip(labels, indices, strict=True)])

    names = tuple(sorted({tell(one[row]) for row in chosen for one in (targets, preds)}))
    places = {name: index for index, name in enumerate(names)}
    ids, clean = predictions.sample_ids, predictions.clean
    failures = []
    for row in chosen:
        true, said = tell(targets[row]), tell(preds[row])
        picture, absence = read_thumbnail(ids[row], pictures)
        guesses = zip(best.labels[row], best.scores[row], strict=True)
        parts = zip(heads, labels, targets[row], preds[row], strict=True)
        failures.append(
            Failure(
                sample_id=ids[row],
                target=places[true],
                preds=places[said],
                true_name=true,
                predicted_name=said,
                confidence=float(best.scores[row, 0]),
                guesses=tuple(Guess(name=tell(label), prob=float(score)) for label, score in guesses),
                clean=bool(clean[row]),
                picture=picture,
                absence=absence,
                parts=tuple(
                    Part(head=head, true_name=own[target], predicted_name=own[given])
                    for head, own, target, given in parts
                ),
            )
        )
    return Gallery(
        failures=tuple(failures),
        total=len(wrong),
        num_samples=len(preds),
        names=names,
        clips=bool(pictures.spans),
    )


def find_pictures(
    manifest: Manifest | None, root: Path | None = None, shown: Shown | None = None
) -> Pictures:
    """Return where the pictures of a manifest's samples are.

    Args:
        manifest: None knows no sample.
        root: Folder that the paths are relative to, when the data has moved; None takes the manifest's own.
        shown: Which frames the network saw, of clips; evenly spread ones where None.
    """
    if manifest is None:
        return Pictures(root=root, files={})
    columns = (manifest.table[name].to_pylist() for name in ("sample_id", "path", "sha256"))
    files = {sample_id: (path, sha256) for sample_id, path, sha256 in zip(*columns, strict=True)}
    if not manifest.holds_clips:
        return Pictures(root=root or manifest.root, files=files)
    rows = manifest.usable(None).select(["sample_id", "first_frame", "num_frames"]).to_pylist()
    spans = {row["sample_id"]: Span(first=row["first_frame"], count=row["num_frames"]) for row in rows}
    found = Pictures(root=root or manifest.root, files=files, spans=spans)
    return found if shown is None else replace(found, shown=shown)


def read_thumbnail(sample_id: str, pictures: Pictures) -> tuple[str | None, str | None]:
    """Return (``data:`` URI, None), or (None, why there is no picture)."""
    if sample_id not in pictures.files:
        return None, "not in the manifest"
    if pictures.root is None:
        return None, "data folder not known"
    path, sha256 = pictures.files[sample_id]
    if sample_id in pictures.spans:
        return _read_strip(pictures.root / path, pictures.spans[sample_id], pictures.shown)
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
    return _encode(small)


def _read_strip(source: Path, span: Span, shown: Shown) -> tuple[str | None, str | None]:
    """Return some of the frames that the network saw, in their order from left to right.

    Whether the video is still the same isn't asked: hashing it takes longer than the page; ``verify`` asks.
    """
    views = list_views(span.count, shown.num_frames, shown.section)
    seen = np.unique(views[len(views) // 2])
    places = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), STRIP_FRAMES)).round().astype(int))
    try:
        frames = read_frames(source, (seen[places] + span.first).tolist(), target_size=STRIP_HEIGHT)
    except ImageUnreadable as error:
        return None, f"unreadable: {error.reason}"
    except (OSError, ValueError):  # ValueError: a null character in the name
        return None, "file not found"
    small = [
        frame.resize((max(1, round(frame.width * STRIP_HEIGHT / frame.height)), STRIP_HEIGHT))
        for frame in frames
    ]
    width = sum(frame.width for frame in small) + 2 * (len(small) - 1)
    strip = Image.new("RGB", (width, STRIP_HEIGHT), "white")
    left = 0
    for frame in small:
        strip.paste(frame, (left, 0))
        left += frame.width + 2
    return _encode(strip), None


def _encode(small: Image.Image) -> str:
    content = b""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, format="JPEG", quality=quality, optimize=True)
        content = buffer.getvalue()
        if len(content) <= THUMBNAIL_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
