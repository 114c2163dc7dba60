"""Batches of clips: T frames of each, all augmented by one draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from praxiscope.data.clips.crops import Frame, crop_views
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.pack_reader import PackedClips
from praxiscope.data.clips.sampling import draw_indices, list_views
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.loader import BatchReader, SampleFailed, SampleSet
from praxiscope.data.plan import AUGMENT_STREAM, FRAME_STREAM, BatchPlan
from praxiscope.data.transforms import EvalTransform, TrainTransform
from praxiscope.recipe.schema import ClipSection
from praxiscope.tensors import Batch

_IDLE = -1


@dataclass(frozen=True, kw_only=True)
class ClipReader:
    """Makes the batch of a plan; picklable, without state.

    Attributes:
        samples: the split; each sample has a span.
        transform: applied to each frame, with the same draw for all frames of a clip.
        section: which frames.
        num_frames: T.
        seed: of the recipe.
        max_pixels: cap on width x height of a frame.
    """

    samples: SampleSet
    transform: TrainTransform | EvalTransform
    section: ClipSection
    num_frames: int
    seed: int
    max_pixels: int

    def __call__(self, plan: BatchPlan, report: list[int] | Any, slot: int) -> Batch:
        """Read, transform and collate; uint8 (B, T, C, H, W), of several views (B, V, T, C, H, W).

        Raises:
            SampleFailed: a frame can't be read.
        """
        clips = []
        for row, draw in plan.places:
            report[slot] = row
            clips.append(self._read(row, plan.epoch, draw))
        report[slot] = _IDLE
        return Batch(
            images=torch.from_numpy(np.stack(clips)).movedim(-1, -3),
            targets=torch.from_numpy(self.samples.targets[list(plan.rows)]),
            rows=plan.rows,
        )

    def _read(self, row: int, epoch: int, draw: int) -> npt.NDArray[np.uint8]:
        """Return (T, H, W, C), or (V, T, H, W, C) of several views."""
        count = self.samples.spans[row].count
        again = [draw] if draw else []
        if isinstance(self.transform, EvalTransform):
            views = list_views(count, self.num_frames, self.section)
            frames = self._decode(row, np.unique(np.concatenate(views)))
            clips = crop_views(views, frames, self.transform, self.section.num_crops)
            return clips if len(clips) > 1 else clips[0]
        rng = np.random.default_rng([self.seed, epoch, FRAME_STREAM, row, *again])
        indices = draw_indices(count, self.num_frames, self.section, rng)
        frames = self._decode(row, np.unique(indices))
        # Each frame meets a generator in the same state: one crop, one flip, one colour for the whole clip.
        seed = [self.seed, epoch, AUGMENT_STREAM, row, *again]
        crops = {index: self.transform(frame, np.random.default_rng(seed)) for index, frame in frames.items()}
        return np.stack([crops[index] for index in indices.tolist()])

    def _decode(self, row: int, indices: npt.NDArray[np.int64]) -> dict[int, Frame]:
        samples, span = self.samples, self.samples.spans[row]
        if isinstance(samples.packed, PackedClips):
            packed = samples.packed.read(row, indices.tolist())
            return dict(zip(indices.tolist(), packed, strict=True))
        try:
            frames = read_frames(
                samples.root / samples.paths[row],
                (indices + span.first).tolist(),
                target_size=self.transform.decode_size,
                max_pixels=self.max_pixels,
                decoder=self.section.decoder,
            )
        except ImageUnreadable as error:
            raise SampleFailed(
                f"'{samples.sample_ids[row]}' in {samples.root} was sound when the data was checked and "
                f"can't be read now: {error}",
                [samples.sample_ids[row]],
            ) from error
        return dict(zip(indices.tolist(), frames, strict=True))


SampleReader = BatchReader | ClipReader
"""Reads images, or clips."""
