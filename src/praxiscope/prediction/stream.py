"""Items in, predictions out, in order: batches of bounded memory, decoded by threads one batch ahead."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.data.images import DEFAULT_MAX_PIXELS, ImageUnreadable
from praxiscope.data.video import Sampling, VideoUnreadable
from praxiscope.prediction.clips import Clip, iterate_windows
from praxiscope.prediction.pictures import iterate_pictures
from praxiscope.prediction.predictors import Predictor, Sample
from praxiscope.prediction.sources import Item
from praxiscope.prediction.windows import Windowing
from praxiscope.stats.calibration import compute_softmax
from praxiscope.tensors import Heads

HELD_BYTES = 2**28
"""Pixels of decoded frames that a batch may hold, 256 MiB: a batch of 4K frames is cut short."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was said about one picture or clip.

    Attributes:
        picture: the picture or clip.
        size: (width, height) in pixels, upright.
        logits: (K,) float32, of the network that answered, the heads side by side.
        probabilities: (K,) float64, their softmax, of each head its own.
        answered_by: 0 for the first network, 1 for the second.
        confidence: what a cascade compared with its threshold; None elsewhere.
        ms: milliseconds for reading and cropping it, and its share of its batch in the network.
    """

    picture: Sample
    size: tuple[int, int]
    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    answered_by: int
    confidence: float | None
    ms: float

    def top(self, count: int, columns: slice = slice(None)) -> list[int]:
        """Return the indices of the largest probabilities, the lowest index first among equals.

        Args:
            count: how many.
            columns: a head's columns; indices count from their start.
        """
        return [int(index) for index in np.argsort(-self.logits[columns], kind="stable")[:count]]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A file, or the rest of a video, that could not be read."""

    item: Item
    reason: str
    frames: int | None = None
    """Frames of the video that were read before."""


@dataclass(frozen=True, kw_only=True)
class _Crop:
    sample: Sample
    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]
    seconds: float


_Waiting = tuple[Sample, "Future[_Crop]"]


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """How items are worked through.

    Attributes:
        sampling: which frames of videos.
        max_pixels: cap on width x height.
        workers: threads that decode files.
        stop: asked before each batch; true ends the stream early.
        windowing: of a video or camera, whether and how it is cut into windows, where clips are predicted.
        keep_frames: hand a camera's frames over with the windows, for a film.
    """

    sampling: Sampling
    max_pixels: int = DEFAULT_MAX_PIXELS
    workers: int = 2
    stop: Callable[[], bool] = lambda: False
    windowing: Callable[[Item], Windowing | None] = lambda _item: None
    keep_frames: bool = False


def predict_items(
    predictor: Predictor, items: Sequence[Item], settings: StreamSettings
) -> Iterator[Prediction | Failure]:
    """Yield what is said about each picture of each item, in order, and a failure for what can't be read.

    At most two batches are in memory: one with the network, the next with the threads that decode.

    Raises:
        EnvironmentProblem: There is no such camera.
        IntegrityError: The network doesn't give what it promises.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, settings.workers), thread_name_prefix="decode")
    ahead: deque[list[_Waiting | Failure]] = deque()
    try:
        for batch in _gather(predictor, items, settings, pool):
            ahead.append(batch)
            if len(ahead) > 1:
                yield from _finish(predictor, ahead.popleft())
            if settings.stop():
                break
        while ahead:
            yield from _finish(predictor, ahead.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _gather(
    predictor: Predictor, items: Sequence[Item], settings: StreamSettings, pool: ThreadPoolExecutor
) -> Iterator[list[_Waiting | Failure]]:
    """Collect batches whose files are being decoded; of a camera, batches of one frame, to be seen soon."""
    batch: list[_Waiting | Failure] = []
    held = 0
    for item in items:
        limit = 1 if item.kind == "camera" else predictor.batch_size
        for entry in _open(predictor, item, settings):
            if isinstance(entry, Failure):
                batch.append(entry)
                continue
            batch.append((entry, pool.submit(_prepare, predictor, entry)))
            held += entry.held_bytes
            if len(batch) >= limit or held >= HELD_BYTES:
                yield batch
                batch, held = [], 0
            if settings.stop():
                break
        if settings.stop():
            break
    if batch:
        yield batch


def _open(predictor: Predictor, item: Item, settings: StreamSettings) -> Iterator[Sample | Failure]:
    try:
        if predictor.clip is None:
            yield from iterate_pictures(item, settings.sampling, max_pixels=settings.max_pixels)
        else:
            yield from _open_clips(predictor, item, settings)
    except VideoUnreadable as problem:
        yield Failure(item=item, reason=problem.reason, frames=problem.decoded)


def _open_clips(predictor: Predictor, item: Item, settings: StreamSettings) -> Iterator[Clip]:
    windowing = settings.windowing(item)
    if windowing is None:
        yield Clip(item=item, max_pixels=settings.max_pixels)
        return
    assert predictor.clip is not None
    yield from iterate_windows(
        item,
        windowing,
        settings.sampling,
        predictor.clip,
        predictor.transform,
        keep_frames=settings.keep_frames and item.kind == "camera",
        max_pixels=settings.max_pixels,
    )


def _prepare(predictor: Predictor, sample: Sample) -> _Crop:
    start = time.perf_counter()
    if isinstance(sample, Clip):
        assert predictor.clip is not None
        sample = sample.read(predictor.clip, predictor.transform)
        assert sample.views is not None
        pixels, size = sample.views, sample.size
    else:
        pixels, size = predictor.crop(sample), sample.read_size()
    return _Crop(sample=sample, pixels=pixels, size=size, seconds=time.perf_counter() - start)


def _finish(predictor: Predictor, batch: list[_Waiting | Failure]) -> Iterator[Prediction | Failure]:
    """Let the network see the pictures of a batch that could be read, and yield everything in order."""
    ready: list[_Crop | Failure] = []
    for entry in batch:
        if isinstance(entry, Failure):
            ready.append(entry)
            continue
        picture, future = entry
        try:
            crop = future.result()
        except ImageUnreadable as problem:
            ready.append(Failure(item=picture.item, reason=problem.reason))
            continue
        ready.append(crop)
        if isinstance(crop.sample, Clip) and crop.sample.broken and crop.sample.span:
            broken, frames = crop.sample.broken, crop.sample.span.count
            ready.append(Failure(item=picture.item, reason=broken, frames=frames))
    readable = [result for result in ready if not isinstance(result, Failure)]
    answered = iter(_ask(predictor, readable) if readable else ())
    for result in ready:
        yield result if isinstance(result, Failure) else next(answered)


def _ask(predictor: Predictor, readable: Sequence[_Crop]) -> list[Prediction]:
    start = time.perf_counter()
    pictures = [crop.sample for crop in readable]
    answers = predictor.answer(pictures, np.stack([crop.pixels for crop in readable]))
    share = (time.perf_counter() - start) / len(pictures)
    probabilities = compute_probabilities(answers.logits, predictor.heads)
    confidence: Any = [None] * len(pictures) if answers.confidence is None else answers.confidence.tolist()
    return [
        Prediction(
            picture=crop.sample,
            size=crop.size,
            logits=answers.logits[row],
            probabilities=probabilities[row],
            answered_by=int(answers.answered_by[row]),
            confidence=confidence[row],
            ms=1000 * (crop.seconds + share),
        )
        for row, crop in enumerate(readable)
    ]


def compute_probabilities(logits: npt.NDArray[np.float32], heads: Heads) -> npt.NDArray[np.float64]:
    """Return (B, K): the softmax of each head's logits, side by side."""
    return np.concatenate([compute_softmax(part) for part in heads.split_logits(logits).values()], axis=1)
