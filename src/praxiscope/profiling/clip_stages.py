"""The stages of a prediction of a clip, timed as those of an image are: decoding is of all its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.spans import Span
from praxiscope.data.clips.views import ClipRule
from praxiscope.profiling.material import Images
from praxiscope.profiling.stages import Pipeline


@dataclass(frozen=True, kw_only=True)
class ClipPipeline(Pipeline):
    """From a clip's id to named predictions, by its first view in time, at the centre.

    Attributes:
        rule: which frames.
        places: clip's id -> its video or folder of frames below ``root``, and where it lies there.
    """

    rule: ClipRule
    places: Mapping[str, tuple[Path, Span]] = field(repr=False)

    def decode(self, path: str) -> list[Image.Image]:  # type: ignore[override]
        """Return T decoded frames of a clip."""
        source, span = self.places[path]
        indices = self.rule.list_views(span.count)[0]
        wanted, places = np.unique(indices, return_inverse=True)
        frames = read_frames(
            source,
            (wanted + span.first).tolist(),
            target_size=self.transform.decode_size,
            max_pixels=self.max_pixels,
            decoder=self.rule.section.decoder,
        )
        return [frames[place] for place in places.tolist()]

    def preprocess(self, image: list[Image.Image]) -> Images:  # type: ignore[override]
        """Resize, crop, normalise: T frames to float32 (1, T, 3, S, S)."""
        pixels = np.stack([self.transform(frame) for frame in image]).transpose(0, 3, 1, 2)[None]
        normalized: Images = self._normalize(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
        return normalized
