"""``explain/clips.json``: which clips were explained, and in which files their explanations lie.

As with ``samples.json``: files first, the entry last. A clip that is explained again at the same epoch gets a
new entry, as its figures replace those that were there; all other clips stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from praxiscope.explaining.index import FigureFile, Neighbour, lock_index, read_layout
from praxiscope.runs import atomic

SCHEMA = 1
CLIP_INDEX = "clips.json"


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """A clip that was explained.

    Attributes:
        sample_id: of the manifest, or a path.
        reason: why it was chosen: named, failure, random.
        split: of the manifest; None of a clip from elsewhere.
        epoch: of the weights.
        weights_sha256: of the weights.
        true: label of each head; empty where it has none.
        predicted: head -> label.
        probability: head -> of the predicted label.
        frames: numbers of the frames that the network saw, from 0 in the video.
        evidence: head -> method -> share of each frame.
        effects: head -> logit lost without each frame.
        attention: weight of each frame in the pooling over time.
        slug: its folder below ``explain/``.
        files: head -> the figure in that folder.
        activations: figure of a middle frame's activations there; None where there is none.
        neighbours: the nearest training clips, nearest first.
        num_compared: training clips that they were found among.
    """

    sample_id: str
    reason: str
    split: str | None
    epoch: int
    weights_sha256: str
    true: dict[str, str]
    predicted: dict[str, str]
    probability: dict[str, float]
    frames: tuple[int, ...]
    evidence: dict[str, dict[str, list[float]]]
    effects: dict[str, list[float]]
    attention: list[float] | None
    slug: str
    files: dict[str, str]
    activations: str | None = None
    neighbours: tuple[Neighbour, ...] = ()
    num_compared: int = 0

    @property
    def is_failure(self) -> bool:
        """Whether a head's answer is wrong."""
        return any(self.predicted[head] != label for head, label in self.true.items())


@dataclass(frozen=True, kw_only=True)
class ClipIndex:
    """All clips of a run that were explained.

    Attributes:
        about: ``model``, ``num_frames``, ``views``: what the page says about the network.
        entries: in the order in which clips were first explained.
        figures: of the network as a whole: kernels, embedding maps, histograms.
        sentences: findings in words.
    """

    about: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[ClipEntry, ...] = ()
    figures: tuple[FigureFile, ...] = ()
    sentences: tuple[str, ...] = ()


def read_clip_index(folder: Path) -> ClipIndex:
    """Read the index of a folder; an empty one where no clip was explained yet.

    Raises:
        IntegrityError: The file is damaged, or of another version.
    """

    def build(content: Mapping[str, Any]) -> ClipIndex:
        return ClipIndex(
            about=content["about"],
            entries=tuple(_to_entry(one) for one in content["entries"]),
            figures=tuple(FigureFile(**one) for one in content["figures"]),
            sentences=tuple(content.get("sentences", ())),  # not there in indexes of before
        )

    return read_layout(folder / CLIP_INDEX, SCHEMA, build) or ClipIndex()


def add_to_clip_index(
    folder: Path,
    *,
    entries: Sequence[ClipEntry] = (),
    figures: Sequence[FigureFile] = (),
    sentences: Sequence[str] | None = None,
    about: Mapping[str, Any],
) -> ClipIndex:
    """Add to the index of a folder and write it; several programs may do so at once.

    Args:
        folder: ``explain/`` of a run.
        entries: Their files must be there already.
        figures: Of the network; one of the same file is replaced.
        sentences: Replace the findings.
        about: Replaces what was said about the network.

    Raises:
        IntegrityError: The index that is there is damaged.
        EnvironmentProblem: The disk is full.
    """
    with lock_index(folder):
        found = read_clip_index(folder)
        merged = {(one.sample_id, one.epoch): one for one in (*found.entries, *entries)}
        drawn = {one.file: one for one in (*found.figures, *figures)}
        index = ClipIndex(
            about=about,
            entries=tuple(merged.values()),
            figures=tuple(drawn.values()),
            sentences=found.sentences if sentences is None else tuple(sentences),
        )
        atomic.write_json(folder / CLIP_INDEX, {"schema": SCHEMA, **asdict(index)})
    return index


def _to_entry(content: Mapping[str, Any]) -> ClipEntry:
    return ClipEntry(
        **{
            **content,
            "frames": tuple(content["frames"]),
            "neighbours": tuple(Neighbour(**one) for one in content["neighbours"]),
        }
    )
