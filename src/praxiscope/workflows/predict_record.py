"""What a prediction is asked to write, what it writes as it goes, and what it leaves behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from praxiscope import __version__
from praxiscope.data.clips.views import ClipRule
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.video import Sampling
from praxiscope.errors import UsageError
from praxiscope.prediction.clips import Clip
from praxiscope.prediction.drawings import Drawings
from praxiscope.prediction.folder import ANNOTATED, SEGMENTS, SUMMARY
from praxiscope.prediction.predictors import Predictor
from praxiscope.prediction.ranking import find_best
from praxiscope.prediction.segments import SegmentTable, Spoken
from praxiscope.prediction.sources import Found
from praxiscope.prediction.stream import Failure, Prediction
from praxiscope.prediction.tables import Table, open_tables
from praxiscope.runs import atomic
from praxiscope.workflows.predict_clips import WindowChoice

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """What is written, and how.

    Attributes:
        formats: tables to write, of ``csv``, ``json``, ``parquet``.
        top_k: labels of each row; at most as many as there are classes.
        images: write annotated pictures and frames.
        video: write an annotated MP4 for each video instead of its frames.
        sampling: which frames of videos.
        batch_size: pictures of a forward pass; by default evaluation's.
        device: as for ``train``.
        names: a text file with one label a line, for an ONNX file of another program.
        max_pixels: larger pictures are refused before they are decoded.
        windows: how videos are cut, by a model of clips.
    """

    formats: tuple[str, ...] = ("csv",)
    top_k: int = 5
    images: bool = True
    video: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: int | None = None
    device: str | None = None
    names: Path | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    windows: WindowChoice = field(default_factory=WindowChoice)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"--top-k {self.top_k}: must be 1 or more.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size}: must be 1 or more.")


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """What a prediction left behind.

    Attributes:
        folder: of the tables, ``summary.json`` and ``annotated/``.
        pictures: images and frames predicted.
        drawn: files in ``annotated/``.
        failures: what could not be read.
        answered_by: pictures by the network that answered.
        unit: what was predicted: ``picture`` or ``clip`` (of a video in windows each window).
    """

    folder: Path
    pictures: int
    drawn: int
    failures: tuple[Failure, ...]
    answered_by: dict[str, int]
    unit: str = "picture"


class PredictRecord:
    """What is written while predicting: tables, drawings, and the summary before and after."""

    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        found: Found,
        sources: Sequence[str],
        settings: PredictSettings,
        notes: Sequence[str],
    ) -> None:
        self._folder = folder
        self._unit = "picture" if predictor.clip is None else "clip"
        self._networks = tuple(network.label for network in predictor.networks)
        self._summary: dict[str, Any] = {
            "schema": SCHEMA,
            "praxiscope_version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "networks": [
                {
                    "label": network.label,
                    "source": str(network.source),
                    "weights_sha256": network.weights_sha256,
                    "img_size": network.transform.spec.img_size,
                }
                for network in predictor.networks
            ],
            "names": list(predictor.names),
            "heads": {head: list(names) for head, names in predictor.heads.names.items()},
            "clip": None if predictor.clip is None else _describe_rule(predictor.clip),
            "sources": list(sources),
            "num_files": len(found.items),
            "sampling": asdict(settings.sampling),
            "notes": [*found.notes, *notes],
        }
        self.failures: list[Failure] = []
        self._counts: Counter[str] = Counter()
        self._write("running")
        self._tables: list[Table] = open_tables(
            folder,
            settings.formats,
            heads=predictor.heads,
            top_k=settings.top_k,
            networks=self._networks,
            clips=predictor.clip is not None,
        )
        self._heads = predictor.heads
        self._segments = SegmentTable(folder / SEGMENTS)
        self._drawings = Drawings(
            folder / ANNOTATED,
            predictor.heads,
            images=settings.images,
            video=settings.video,
            max_pixels=settings.max_pixels,
        )

    @property
    def pictures(self) -> int:
        """Images and frames predicted so far."""
        return self._counts.total()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as closing:  # each is closed, whatever happens to another
            for table in self._tables:
                closing.callback(table.close)
            closing.callback(self._segments.close)
            closing.callback(self._drawings.close)

    def add(self, entry: Prediction | Failure) -> None:
        """Write one prediction, or remember a failure."""
        if isinstance(entry, Failure):
            self.failures.append(entry)
            return
        for table in self._tables:
            table.write(entry)
        self._drawings.write(entry)
        clip = entry.picture
        if isinstance(clip, Clip) and not clip.whole and clip.start_s is not None and clip.end_s is not None:
            guess = find_best(entry, self._heads)
            self._segments.add(clip.item.shown, Spoken(start_s=clip.start_s, end_s=clip.end_s, guess=guess))
        self._counts[self._networks[entry.answered_by]] += 1

    def finish(self, *, interrupted: bool) -> PredictResult:
        """Write the summary and return the result."""
        self._write("interrupted" if interrupted else "done")
        return PredictResult(
            folder=self._folder,
            pictures=self.pictures,
            drawn=self._drawings.written,
            failures=tuple(self.failures),
            answered_by=dict(self._counts),
            unit=self._unit,
        )

    def _write(self, state: str) -> None:
        failures = [
            {"source": failure.item.shown, "reason": failure.reason, "frames_before": failure.frames}
            for failure in self.failures
        ]
        told = {
            "state": state,
            "num_pictures": self.pictures,
            "answered_by": dict(self._counts),
            "failures": failures,
        }
        atomic.write_json(self._folder / SUMMARY, {**self._summary, **told})


def _describe_rule(rule: ClipRule) -> dict[str, Any]:
    section = rule.section.model_dump(mode="json")
    return {"num_frames": rule.num_frames, "typical_s": rule.typical_s, **section}
