"""The four stages of a prediction, timed apart on real images: decode, preprocess, model, postprocess."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from praxiscope.data.media import decode_sample
from praxiscope.data.transforms import EvalTransform
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.profiling.material import Images, Logits
from praxiscope.profiling.runtimes.session import Session
from praxiscope.stats.intervals import Interval
from praxiscope.stats.latency import quantile_interval

STAGES = ("decode", "preprocess", "model", "postprocess")
TOP_K = 5
_QUANTILES = MappingProxyType({"p50": 0.5, "p90": 0.9})
_CPU = Runtime(device=torch.device("cpu"), precision="fp32", reason="profile", channels_last=False)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """From a file to named predictions.

    Attributes:
        root: data folder.
        transform: from a decoded image to the model's uint8 square.
        mean: subtracted from RGB in [0, 1].
        std: divides it after that.
        max_pixels: cap on an image's declared size.
    """

    root: Path
    transform: EvalTransform
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_pixels: int

    def decode(self, path: str) -> Image.Image:
        """Read and decode one image: file to RGB, a JPEG at the smallest scale that serves."""
        return decode_sample(
            self.root, path, target_size=self.transform.decode_size, max_pixels=self.max_pixels
        )

    def preprocess(self, image: Image.Image) -> Images:
        """Resize, crop, normalise: RGB to float32 (1, 3, S, S)."""
        pixels = np.ascontiguousarray(self.transform(image).transpose(2, 0, 1))[None]
        normalized: Images = self._normalize(torch.from_numpy(pixels)).numpy()
        return normalized

    @functools.cached_property
    def _normalize(self) -> Normalizer:
        return Normalizer(self.mean, self.std, _CPU)

    def read(self, paths: Sequence[str]) -> Images:
        """Return images ready for the model, float32 (N, 3, S, S)."""
        return np.concatenate([self.preprocess(self.decode(path)) for path in paths])


def postprocess(logits: Logits) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the probabilities and places of the ``TOP_K`` most probable classes, largest first."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP_K]
    return np.take_along_axis(probabilities, best, axis=1), best


def time_stages(
    pipeline: Pipeline,
    paths: Sequence[str],
    session: Session,
    *,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Mapping[str, Mapping[str, Interval]]:
    """Time each stage, image by image, in the order of a prediction.

    Args:
        pipeline: decoding and preprocessing.
        paths: of real images; they take turns. Their files mostly come from the system's cache.
        session: the model.
        seconds: how long; each image is used at least once.
        clock: seconds that only grow.

    Returns:
        Stage -> ``p50`` and ``p90`` in milliseconds, with intervals.
    """
    for path in paths[:2]:
        _run(pipeline, path, session, clock)
    taken: list[tuple[float, ...]] = []
    start = clock()
    while len(taken) < len(paths) or clock() - start < seconds:
        taken.append(_run(pipeline, paths[len(taken) % len(paths)], session, clock))
    return {
        stage: {name: quantile_interval(column, share) for name, share in _QUANTILES.items()}
        for stage, column in zip(STAGES, 1000 * np.array(taken).T, strict=True)
    }


def _run(
    pipeline: Pipeline, path: str, session: Session, clock: Callable[[], float]
) -> tuple[float, float, float, float]:
    """Return the seconds of each stage for one image."""
    start = clock()
    image = pipeline.decode(path)
    decoded = clock()
    images = pipeline.preprocess(image)
    prepared = clock()
    logits = session(images)
    computed = clock()
    postprocess(logits)
    return decoded - start, prepared - decoded, computed - prepared, clock() - computed
