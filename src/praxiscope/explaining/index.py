"""``explain/samples.json``: which samples were explained, and in which files their explanations lie.

Everything about a sample is written first and its entry last, each file wholly or not at all: whatever stops
the program, the index names only files that are there. Explaining a sample again at the same epoch adds to
its entry; a file of the same name is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import filelock

from praxiscope.errors import IntegrityError
from praxiscope.runs import atomic

SCHEMA = 1
Read = TypeVar("Read")
INDEX = "samples.json"
Role = Literal["predicted", "true"]
Reason = Literal["named", "random", "failure"]

_LOCK = ".samples.lock"
_PLAIN = re.compile(r"[^\w-]+")
_MAX_NAME = 60


@dataclass(frozen=True, kw_only=True)
class MapFile:
    """One saliency map of a sample."""

    method: str
    """As in the catalogue of methods."""
    title: str
    """What the method is called in print."""
    signed: bool
    """Whether evidence against the class is below zero."""
    layer: str | None
    """The layer that was looked at; None for a method that has none."""
    role: Role
    """Whose evidence: of the predicted class, or of the true one where that is another."""
    target: str | None
    """Name of that class; None of a method whose map doesn't depend on the class."""
    low: float
    """Smallest value of the map."""
    high: float
    """Largest value of the map."""
    values: str
    """``.npy`` file, float32 (H, W), in the sample's folder."""
    picture: str
    """PNG beside it."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Which part of the upright picture the network saw, in pixels of the picture."""

    width: int
    """Of the picture."""
    height: int
    left: float
    top: float
    side: float
    """Of the square."""
    img_size: int
    """The square was resized to so many pixels."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A training image whose features lie near."""

    sample_id: str
    name: str
    """Its class."""
    similarity: float
    """Cosine of both feature vectors, in [-1, 1]."""
    picture: str | None
    """Small JPEG in the sample's folder; None where the image can't be read."""


@dataclass(frozen=True, kw_only=True)
class FigureFile:
    """A figure of a sample, or of the whole network."""

    kind: str
    """``activations``, ``flow``, ``kernels``, ``histograms`` ..."""
    title: str
    file: str
    """PNG, relative to the folder of what it belongs to."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One sample at one epoch."""

    sample_id: str
    """Its id in the manifest; of a picture from elsewhere its path."""
    slug: str
    """Its folder below ``explain/``."""
    reason: Reason
    """Why it was chosen."""
    split: str | None
    """Its split; None for a picture that isn't in the manifest."""
    epoch: int
    """Epoch of the weights."""
    weights_sha256: str
    true: str | None
    """Its label's name, where it has one."""
    predicted: str
    """The most probable class."""
    guesses: tuple[tuple[str, float], ...]
    """The five most probable classes with their probabilities, in falling order."""
    true_prob: float | None
    """Probability of the true class."""
    crop: Crop
    crop_file: str
    """PNG of the pixels that the network saw."""
    original_file: str
    """JPEG of the whole picture, reduced."""
    maps: tuple[MapFile, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    num_compared: int = 0
    """Training images that the neighbours were found among."""
    figures: tuple[FigureFile, ...] = ()

    @property
    def is_failure(self) -> bool:
        """Whether the prediction is wrong; False where no label is known."""
        return self.true is not None and self.true != self.predicted


@dataclass(frozen=True, kw_only=True)
class Index:
    """All that was explained of a run."""

    about: Mapping[str, Any] = field(default_factory=dict)
    """``run``, ``model``, ``family``, ``data``: what the pages say about the network."""
    entries: tuple[Entry, ...] = ()
    """In the order in which samples were first explained."""
    figures: tuple[FigureFile, ...] = ()
    """Figures of the network as a whole: kernels, histograms, embedding."""
    sentences: tuple[str, ...] = ()
    """Findings in words."""


def name_folder(sample_id: str) -> str:
    """Return a folder's name that tells the sample, differs for each, and is a name on every system.

    >>> name_folder("test/clapping/Image_1.jpg")
    'test-clapping-Image_1-5fee35'
    """
    stem = sample_id.rsplit("/", 1)[-1].rpartition(".")[0]
    whole = sample_id[: len(sample_id) - len(sample_id.rsplit("/", 1)[-1]) + len(stem)] if stem else sample_id
    text = unicodedata.normalize("NFC", whole.encode("utf-8", "replace").decode("utf-8"))
    digest = hashlib.sha256(sample_id.encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"{clean_name(text, keep_end=True)}-{digest}"


def clean_name(text: str, *, keep_end: bool = False) -> str:
    """Return letters, digits, ``_`` and ``-`` of a text for a file name, at most 60 characters of it.

    Args:
        text: A layer's or a sample's name.
        keep_end: Shorten at the front, where names differ less.

    >>> clean_name("blocks.6.0"), clean_name("act1#2")
    ('blocks-6-0', 'act1-2')
    """
    plain = _PLAIN.sub("-", text).strip("-")
    short = plain[-_MAX_NAME:] if keep_end else plain[:_MAX_NAME]
    while len(short.encode("utf-8")) > 2 * _MAX_NAME:
        short = short[1:] if keep_end else short[:-1]
    return short.strip("-") or "sample"


def read_index(folder: Path) -> Index:
    """Read the index of a folder; an empty one where nothing was explained yet.

    Raises:
        IntegrityError: The file is damaged.
    """

    def build(content: Mapping[str, Any]) -> Index:
        return Index(
            about=content["about"],
            entries=tuple(_to_entry(one) for one in content["samples"]),
            figures=tuple(FigureFile(**one) for one in content["figures"]),
            sentences=tuple(content["sentences"]),
        )

    return read_layout(folder / INDEX, SCHEMA, build) or Index()


def read_layout(path: Path, schema: int, build: Callable[[Mapping[str, Any]], Read]) -> Read | None:
    """Read a JSON file of a known layout; None where there is no file.

    Args:
        path: The file.
        schema: The layout that this version reads.
        build: Makes a value of its content; what it raises on damaged content is explained.

    Raises:
        IntegrityError: The file is damaged, or of another layout.
    """
    if not path.is_file():
        return None
    content = atomic.read_json(path)
    try:
        if content["schema"] != schema:
            raise IntegrityError(
                f"{path} has layout {content['schema']!r}, this version of Praxiscope reads {schema}. "
                "Move the folder away and explain again."
            )
        return build(content)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise IntegrityError(
            f"{path} is damaged ({type(problem).__name__}: {problem}). "
            "Move the folder away and explain again."
        ) from problem


def add_to_index(
    folder: Path,
    *,
    entries: Sequence[Entry] = (),
    about: Mapping[str, Any] | None = None,
    figures: Sequence[FigureFile] = (),
    sentences: Sequence[str] | None = None,
) -> Index:
    """Add to the index of a folder and write it; several programs may do so at once.

    Args:
        folder: ``explain/`` of a run.
        entries: Their files must be there already.
        about: Replaces what was said about the network.
        figures: Of the network as a whole; one of the same file is replaced.
        sentences: Replace the findings.

    Raises:
        IntegrityError: The index that is there is damaged.
        EnvironmentProblem: The disk is full.
    """
    with lock_index(folder):
        found = read_index(folder)
        merged = {_key(one): one for one in found.entries}
        for entry in entries:
            merged[_key(entry)] = _merge(merged.get(_key(entry)), entry)
        index = Index(
            about=found.about if about is None else about,
            entries=tuple(merged.values()),
            figures=_replace(found.figures, figures),
            sentences=found.sentences if sentences is None else tuple(sentences),
        )
        content = {
            "schema": SCHEMA,
            "about": dict(index.about),
            "samples": [asdict(one) for one in index.entries],
            "figures": [asdict(one) for one in index.figures],
            "sentences": list(index.sentences),
        }
        atomic.write_json(folder / INDEX, content)
    return index


@contextlib.contextmanager
def lock_index(folder: Path) -> Iterator[None]:
    """Hold what other programs that add to the index of a folder wait for."""
    with filelock.FileLock(folder / _LOCK, thread_local=False):
        yield


def _key(entry: Entry) -> tuple[str, int]:
    return entry.sample_id, entry.epoch


def _merge(old: Entry | None, new: Entry) -> Entry:
    """Keep what was explained before of the same weights; what is new wins."""
    if old is None or old.weights_sha256 != new.weights_sha256:
        return new
    content = {name: getattr(new, name) for name in new.__dataclass_fields__}
    pictures = {one.picture: one for one in (*old.maps, *new.maps)}
    content["maps"] = tuple(pictures.values())
    content["figures"] = _replace(old.figures, new.figures)
    if not new.neighbours:
        content.update(neighbours=old.neighbours, num_compared=old.num_compared)
    return Entry(**content)


def _replace(old: Sequence[FigureFile], new: Sequence[FigureFile]) -> tuple[FigureFile, ...]:
    return tuple({one.file: one for one in (*old, *new)}.values())


def _to_entry(content: Mapping[str, Any]) -> Entry:
    return Entry(
        **{
            **content,
            "guesses": tuple((name, float(prob)) for name, prob in content["guesses"]),
            "crop": Crop(**content["crop"]),
            "maps": tuple(MapFile(**one) for one in content["maps"]),
            "neighbours": tuple(Neighbour(**one) for one in content["neighbours"]),
            "figures": tuple(FigureFile(**one) for one in content["figures"]),
        }
    )
