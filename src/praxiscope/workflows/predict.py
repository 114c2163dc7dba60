"""Predict: pictures, videos or a camera through a run, an ONNX file or a cascade.

torch is imported only where a run computes: predicting with an ONNX file starts in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from praxiscope.data.manifest import quantify
from praxiscope.data.video import count_frames, estimate_seconds
from praxiscope.errors import DataError, Interrupted, UsageError
from praxiscope.evaluation.cascade_file import check_weights, is_cascade, read_cascade
from praxiscope.prediction.clip_sources import expand_folders, find_clips
from praxiscope.prediction.folder import (
    check_folder,
    clear_folder,
    is_earlier_output,
)
from praxiscope.prediction.predictors import CascadePredictor, Predictor
from praxiscope.prediction.sources import Item, describe_counts, find_items
from praxiscope.prediction.stream import Failure, StreamSettings, predict_items
from praxiscope.prediction.tables import check_formats
from praxiscope.runs.environment import count_cores
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.training.signals import StopFlag
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.predict_clips import plan_windows
from praxiscope.workflows.predict_record import PredictRecord, PredictResult, PredictSettings

_NAMES_ARE_KNOWN = "--names goes with an ONNX file of another program; this model knows its labels."


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
    record = PredictRecord(folder, predictor, found, named, settings, [*notes, *told])
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
    if len(predictor.networks) > 1 and any(item.kind == "camera" for item in items):
        raise UsageError(
            "A cascade looks at a clip once more for its large network, which a camera can't give. Predict a "
            f"recording, or name one run: {' or '.join(each.label for each in predictor.networks)}."
        )
    windowing, told = plan_windows(items, settings.windows, predictor.clip.typical_s)
    if settings.sampling.limit is not None and any(windowing(item) is None for item in items):
        raise UsageError("--limit goes with windows; a video that is one clip is looked at as a whole.")
    return replace(stream, windowing=windowing), told


def _work(
    predictor: Predictor,
    items: Sequence[Item],
    record: PredictRecord,
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


def _name_networks(predictor: Predictor) -> str:
    return ", then ".join(network.label for network in predictor.networks)
