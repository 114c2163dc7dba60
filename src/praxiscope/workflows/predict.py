"""Predict: pictures, videos or a camera through a run, an ONNX file or a cascade.

torch is imported only where a run computes: predicting with an ONNX file starts in a fraction of the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from praxiscope import __version__
from praxiscope.data.clips.views import ClipRule
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.manifest import quantify
from praxiscope.data.video import Sampling, count_frames, estimate_seconds
from praxiscope.errors import DataError, Interrupted, UsageError
from praxiscope.evaluation.cascade_file import check_weights, is_cascade, read_cascade
from praxiscope.prediction.clip_sources import expand_folders, find_clips
from praxiscope.prediction.clips import Clip
from praxiscope.prediction.drawings import Drawings
from praxiscope.prediction.folder import (
    ANNOTATED,
    SEGMENTS,
    SUMMARY,
    check_folder,
    clear_folder,
    is_earlier_output,
)
from praxiscope.prediction.predictors import CascadePredictor, Predictor
from praxiscope.prediction.ranking import find_best
from praxiscope.prediction.segments import SegmentTable, Spoken
from praxiscope.prediction.sources import Found, Item, describe_counts, find_items
from praxiscope.prediction.stream import Failure, Prediction, StreamSettings, predict_items
from praxiscope.prediction.tables import Table, check_formats, open_tables
from praxiscope.runs import atomic
from praxiscope.runs.environment import count_cores
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.training.signals import StopFlag
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.predict_clips import WindowChoice, plan_windows

SCHEMA = 1
_NAMES_ARE_KNOWN = "--names goes with an ONNX file of another program; this model knows its labels."


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


def predict(
    model: str | Path,
    sources: Sequence[str | Path] | str | Path,
    *,
    output: Path | str,
    settings: PredictSettings | None = None,
    runs: Path | str = "runs",
    watch: Watcher | None = None,
) -> PredictResult:
    """Predict what is on pictures.

    Args:
        model: A run's folder or name, an ONNX file, or a cascade's folder.
        sources: Files, folders, patterns, lists, or a camera's number.
        output: Folder that gets tables and annotated pictures; an earlier prediction there is replaced.
        settings: What is written, and how.
        runs: Folder of all runs, for names.
        watch: Follows progress.

    Raises:
        UsageError: No such model or source, or an output folder among the sources.
        DataError: Nothing could be read.
        IntegrityError: The model's weights are not what they should be.
        EnvironmentProblem: No such device or camera, or a full disk.
        Interrupted: Stopped by Ctrl-C; what was predicted is written.
    """
    watch, settings, folder = watch or Silent(), settings or PredictSettings(), Path(output).expanduser()
    named = [str(sources)] if isinstance(sources, str | Path) else [str(source) for source in sources]
    if not named:
        raise UsageError("No SOURCE: name an image, a video, a folder, a pattern or a camera's number.")
    check_formats(settings.formats)
    exclude = folder if is_earlier_output(folder) else None
    # A slip in a source is told before the model is loaded, which then says how sources are read.
    seen = find_items([each for source in named for each in expand_folders(source)], exclude=exclude)
    check_folder(folder, [item.path for item in seen.items if item.kind != "camera"])
    predictor, notes = open_predictor(str(model), settings, runs=Path(runs), watch=watch)
    found = (find_items if predictor.clip is None else find_clips)(named, exclude=exclude)
    stream, told = _plan_stream(predictor, found.items, settings)
    watch.note(f"Predicting {describe_counts(found.items)} with {_name_networks(predictor)}.")
    for note in (*found.notes, *told):
        watch.note(note)
    clear_folder(folder)
    record = _Record(folder, predictor, found, named, settings, [*notes, *told])
    with StopFlag() as stop:
        _work(predictor, found.items, record, replace(stream, stop=lambda: stop.requested), watch)
    result = record.finish(interrupted=stop.requested)
    if stop.requested:
        raise Interrupted(
            f"Stopped after {quantify(result.pictures, result.unit)}; what was predicted is in {folder}. "
            "The same command starts anew."
        )
    if not result.pictures:
        first = result.failures[0]
        raise DataError(
            f"None of {quantify(len(found.items), 'file')} could be read, for example "
            f"{first.item.shown}: {first.reason}"
        )
    return result


def open_predictor(
    model: str, settings: PredictSettings, *, runs: Path, watch: Watcher
) -> tuple[Predictor, list[str]]:
    """Open what predicts, and say what had to be assumed about it.

    Raises:
        UsageError, IntegrityError, EnvironmentProblem, DataError: It can't be used; says why.
    """
    path = Path(model).expanduser()
    if path.suffix.lower() == ".onnx":
        return _open_onnx(path, settings, watch)
    if is_cascade(path):
        return _open_cascade(path, settings, watch)
    if settings.names is not None:
        raise UsageError(_NAMES_ARE_KNOWN)
    from praxiscope.workflows.networks import open_run

    network = open_run(
        find_run(model, root=runs), device=settings.device, batch_size=settings.batch_size, watch=watch
    )
    return Predictor(network), []


def _open_cascade(folder: Path, settings: PredictSettings, watch: Watcher) -> tuple[Predictor, list[str]]:
    """Open the networks that a cascade's threshold leaves something to do for, their weights compared."""
    from praxiscope.workflows.networks import open_run

    if settings.names is not None:
        raise UsageError(_NAMES_ARE_KNOWN)
    cascade = read_cascade(folder)
    used = [
        member
        for member, needed in ((cascade.small, cascade.threshold < 1), (cascade.large, cascade.threshold > 0))
        if needed
    ]
    networks = []
    for member in used:
        network = open_run(
            RunDir.open(member.run), device=settings.device, batch_size=settings.batch_size, watch=watch
        )
        check_weights(member, network.weights_sha256)
        networks.append(network)
    if len(networks) == 1:
        return Predictor(networks[0]), []
    small, large = networks
    return CascadePredictor(small, large, temperature=cascade.temperature, threshold=cascade.threshold), []


def _open_onnx(path: Path, settings: PredictSettings, watch: Watcher) -> tuple[Predictor, list[str]]:
    from praxiscope.prediction.onnx_network import open_onnx, read_names

    if settings.device not in {None, "auto", "cpu"}:
        raise UsageError(f"--device {settings.device}: an ONNX file is run on the CPU.")
    names = None if settings.names is None else read_names(settings.names)
    network, warning = open_onnx(path, names=names, threads=count_cores())
    if settings.batch_size is not None:
        network = replace(network, batch_size=settings.batch_size)
    if warning is not None:
        watch.note(f"WARNING: {warning}")
    return Predictor(network), [] if warning is None else [warning]


def _plan_stream(
    predictor: Predictor, items: Sequence[Item], settings: PredictSettings
) -> tuple[StreamSettings, list[str]]:
    """Return how items are worked through, and what to say about it.

    Raises:
        UsageError: An option goes with images, or with clips, only.
    """
    stream = StreamSettings(
        sampling=settings.sampling,
        max_pixels=settings.max_pixels,
        workers=min(count_cores(), 4),
        keep_frames=settings.video,
    )
    network = _name_networks(predictor)
    if predictor.clip is None:
        if settings.windows.asked:
            raise UsageError(f"--window and --stride cut videos into clips; {network} takes single images.")
        return stream, []
    if settings.sampling.every != 1 or settings.sampling.fps is not None:
        raise UsageError(
            f"--every and --fps choose single frames; {network} takes clips, whose frames are chosen as in "
            "its evaluation. --window and --stride cut a video into clips."
        )
    windowing, told = plan_windows(items, settings.windows, predictor.clip.typical_s)
    if settings.sampling.limit is not None and any(windowing(item) is None for item in items):
        raise UsageError("--limit goes with windows; a video that is one clip is looked at as a whole.")
    return replace(stream, windowing=windowing), told


def _work(
    predictor: Predictor,
    items: Sequence[Item],
    record: _Record,
    stream: StreamSettings,
    watch: Watcher,
) -> None:
    total = _estimate(items, stream)
    with record:
        for entry in predict_items(predictor, items, stream):
            if isinstance(entry, Failure):
                watch.note(describe_failure(entry))
            record.add(entry)
            done = record.pictures + len(record.failures)
            watch.phase("predicting", done, max(done, total) if total else 0)


def _estimate(items: Sequence[Item], stream: StreamSettings) -> int:
    """Return how many pictures are to come, as far as headers tell; 0 where a camera has no end."""
    if any(item.kind == "camera" for item in items) and stream.sampling.limit is None:
        return 0
    return sum(_estimate_item(item, stream) for item in items)


def _estimate_item(item: Item, stream: StreamSettings) -> int:
    if item.kind != "video":
        return 1
    windowing = stream.windowing(item)
    if windowing is not None:
        seconds = estimate_seconds(item.path) or 0.0
        return 1 + max(0, round((seconds - windowing.window_s) / windowing.stride_s))
    return count_frames(item.path, stream.sampling)


def describe_failure(failure: Failure) -> str:
    """Return one line: the file and why it was left out, or where it broke off."""
    if failure.frames:
        return f"Broke off: {failure.item.shown} after {failure.frames} frames: {failure.reason}"
    return f"Skipped: {failure.item.shown}: {failure.reason}"


class _Record:
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


def _name_networks(predictor: Predictor) -> str:
    return ", then ".join(network.label for network in predictor.networks)
