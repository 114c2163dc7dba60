"""Optical flow in place of colour: what a network sees is how the picture moves.

A flow picture is uint8 (H, W, 3): horizontal and vertical movement to the next frame, 128 for none and +-127
for ``BOUND_PX`` pixels, and the movement's length, 128 for none and 255 for ``BOUND_PX``. Three channels keep
a pretrained stem; the bound and the range are those of Wang et al. 2016 (TSN, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.data.clips.crops import Frame
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.reader import ClipReader
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.loader import SampleFailed
from praxiscope.data.transforms import ImageHWC, TrainTransform
from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.recipe.schema import Recipe

BOUND_PX = 20.0
"""Movement in pixels between two frames beyond which it is cut off."""
SHORT_SIDE = 256
"""Frames are reduced to this short side before flow is computed; the bound is in pixels of that size."""
CENTRE = 128

FlowHW2 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def require_opencv() -> Any:
    """Return OpenCV, which computes flow, limited to the calling thread.

    Raises:
        EnvironmentProblem: It isn't installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise EnvironmentProblem(
            "model.input: flow computes optical flow with OpenCV, which isn't installed. "
            "pip install 'praxiscope[flow]', or give stored flow with clip.flow_folder."
        ) from error
    cv2.setNumThreads(1)  # the loader has a worker for each core already
    return cv2


def compute_flow(before: Image.Image, after: Image.Image) -> FlowHW2:
    """Compute the movement of each pixel by Dense Inverse Search (Kroeger et al. 2016), medium preset.

    Args:
        before: RGB.
        after: RGB of the same size.

    Returns:
        float32 (H, W, 2) in pixels: to the right, down. (H, W) are those of the frames, reduced to a short
        side of ``SHORT_SIDE``.

    Raises:
        EnvironmentProblem: OpenCV isn't installed.
    """
    cv2 = require_opencv()
    grey = [np.asarray(_reduce(frame).convert("L")) for frame in (before, after)]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(grey[0], grey[1], None), dtype=np.float32)


def encode_flow(flow_HW2: FlowHW2) -> ImageHWC:
    """Return flow in pixels as a flow picture (H, W, 3).

    >>> encode_flow(np.array([[[20.0, -10.0]]], np.float32)).tolist()
    [[[255, 64, 255]]]
    """
    length = np.linalg.norm(flow_HW2, axis=2, keepdims=True)
    values = np.clip(np.concatenate([flow_HW2, length], axis=2) / BOUND_PX, -1, 1)
    return (CENTRE + np.rint(127 * values)).astype(np.uint8)


def mirror_flow(mirrored: ImageHWC) -> ImageHWC:
    """Return a flow picture that was mirrored left to right with its horizontal movement turned round."""
    turned = mirrored.copy()
    turned[..., 0] = 2 * CENTRE - np.maximum(mirrored[..., 0], 1).astype(np.int16)
    return turned


@dataclass(frozen=True, kw_only=True)
class FlowTransform(TrainTransform):
    """A training transform under which what moved to the right moves to the left in the mirror."""

    def mirror(self, square: Image.Image | ImageHWC) -> ImageHWC:
        """Return the mirror image of a flow picture."""
        return mirror_flow(np.array(super().mirror(square)))


@dataclass(frozen=True, kw_only=True)
class FlowReader(ClipReader):
    """Reads clips as flow pictures: computed from pairs of frames, or stored ones.

    Attributes:
        stored: Folder with ``<clip>/u`` and ``<clip>/v`` of grey pictures, 128 for no movement; None computes
            flow.
    """

    stored: Path | None = None

    def _decode(self, row: int, indices: Indices) -> dict[int, Frame]:
        if self.stored is not None:
            return self._read_stored(self.stored, row, indices)
        count = self.samples.spans[row].count
        starts = pair_frames(indices, count)
        ends = np.minimum(starts + 1, count - 1)
        found = super()._decode(row, np.unique(np.concatenate([starts, ends])))
        frames = {index: _to_picture(frame) for index, frame in found.items()}
        return {
            index: Image.fromarray(encode_flow(compute_flow(frames[start], frames[end])))
            for index, start, end in zip(indices.tolist(), starts.tolist(), ends.tolist(), strict=True)
        }

    def _read_stored(self, stored: Path, row: int, indices: Indices) -> dict[int, Frame]:
        samples, span = self.samples, self.samples.spans[row]
        folder = stored / Path(samples.paths[row]).with_suffix("")
        wanted = ((indices + span.first) // self.section.flow_stride).tolist()
        places = sorted(set(wanted))
        try:
            axes = [read_frames(folder / axis, places, max_pixels=self.max_pixels) for axis in "uv"]
        except (ImageUnreadable, OSError) as error:
            raise SampleFailed(
                f"The stored flow of '{samples.sample_ids[row]}' can't be read from {folder}/u and v: "
                f"{error}",
                [samples.sample_ids[row]],
            ) from error
        pictures = {place: _join_axes(u, v) for place, u, v in zip(places, *axes, strict=True)}
        return {index: pictures[place] for index, place in zip(indices.tolist(), wanted, strict=True)}


def require_flow_settings(recipe: Recipe, *, clips: bool) -> None:
    """Refuse what can't be done with flow; does nothing for colours.

    Args:
        recipe: What is asked for.
        clips: Whether the samples are clips.

    Raises:
        UsageError: The samples are images, or an operation is for colours.
        EnvironmentProblem: Flow is to be computed and OpenCV isn't installed.
    """
    if recipe.model.input == "rgb":
        return
    if not clips:
        raise UsageError(
            "model.input is flow, but the samples are images, which don't move. Set model.input: rgb."
        )
    refused = {
        "augment.policy": recipe.augment.policy != "none",
        "augment.color_jitter": recipe.augment.color_jitter > 0,
        "evaluate.flip": recipe.evaluate.flip,
        "data.pack": recipe.data.pack is not None,
    }
    if found := [key for key, given in refused.items() if given]:
        raise UsageError(
            f"model.input is flow, and {', '.join(found)} would treat movement as colour. Leave it out: "
            "crops, mirror images in training and random erasing know flow."
        )
    if recipe.clip.flow_folder is None:
        require_opencv()


def refuse_flow(recipe: Recipe, verb: str) -> None:
    """Refuse a network of optical flow in a command that would show it colours.

    Raises:
        UsageError: ``model.input`` is flow.
    """
    if recipe.model.input == "flow":
        raise UsageError(
            f"'praxiscope {verb}' shows a network the frames themselves, and {recipe.name} takes optical "
            "flow (model.input: flow). evaluate, report, compare and fuse know flow."
        )


def pair_frames(indices: Indices, count: int) -> Indices:
    """Return the first frame of each frame's pair: itself; of the last frame the one before.

    >>> pair_frames(np.array([0, 3, 4]), 5).tolist(), pair_frames(np.array([0]), 1).tolist()
    ([0, 3, 3], [0])
    """
    return np.clip(indices, 0, max(count - 2, 0))


def _join_axes(u: Image.Image, v: Image.Image) -> Image.Image:
    """Return two grey pictures of movement as a flow picture."""
    scaled = [
        (np.asarray(axis.convert("L"), dtype=np.float32) - CENTRE) * (BOUND_PX / 127) for axis in (u, v)
    ]
    return Image.fromarray(encode_flow(np.stack(scaled, axis=2)))


def _to_picture(frame: Frame) -> Image.Image:
    return Image.fromarray(frame) if isinstance(frame, np.ndarray) else frame


def _reduce(frame: Image.Image) -> Image.Image:
    scale = SHORT_SIDE / min(frame.size)
    if scale >= 1:
        return frame
    width, height = (round(side * scale) for side in frame.size)
    return frame.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
