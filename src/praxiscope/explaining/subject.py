"""What is explained: a network with all that turns an evaluated image into its logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from praxiscope.errors import Diverged, UsageError
from praxiscope.models.build import BuiltModel
from praxiscope.models.catalog import Family
from praxiscope.models.runtime import Normalizer, Runtime
from praxiscope.models.split import evaluating
from praxiscope.models.state import unwrap_module
from praxiscope.models.temporal import find_num_frames


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network in evaluation mode, and how images reach it.

    Attributes:
        module: the unwrapped network, in evaluation mode, on the runtime's device; takes (N, 3, H, W).
        family: what kind of network.
        names: K class names, in the order of the logits.
        img_size: side in pixels of the square that is evaluated, which may be larger than in training.
        normalize: uint8 (N, 3, H, W) -> normalised float32 on the device.
        runtime: device, precision, memory format.
        label: what it is called in figures and messages.
    """

    module: nn.Module
    family: Family
    names: tuple[str, ...]
    img_size: int
    normalize: Normalizer
    runtime: Runtime
    label: str

    @property
    def num_frames(self) -> int | None:
        """T of a network that takes clips, None of one that takes images."""
        return find_num_frames(self.module)

    def prepare(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """Normalise images or clips as training and evaluation did.

        Args:
            images: uint8 (N, H, W, 3), as ``data.transforms.EvalTransform`` gives them; for a network of
                clips (N, T, H, W, 3).

        Returns:
            float32 (N, 3, H, W) or (N, T, 3, H, W) on the device, in the runtime's memory format.

        Raises:
            UsageError: not such an array, or no image at all.
        """
        if self.num_frames is None:
            check_images(images)
        else:
            _check_clips(images, self.num_frames)
        return self.normalize(torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, -3))

    def compute_logits(
        self, images: npt.NDArray[np.uint8], *, batch_size: int = 32
    ) -> npt.NDArray[np.float32]:
        """Return the logits, float32 (N, K), of uint8 images (N, H, W, 3) or clips (N, T, H, W, 3).

        Raises:
            UsageError: no such images.
            Diverged: a logit isn't finite.
        """
        batches = []
        with hold_still(self.module), torch.no_grad():
            for start in range(0, max(len(images), 1), batch_size):
                with self.runtime.autocast():
                    logits = self.module(self.prepare(images[start : start + batch_size]))
                batches.append(logits.float().cpu().numpy())
        found: npt.NDArray[np.float32] = np.concatenate(batches)
        broken = int((~np.isfinite(found)).any(axis=1).sum())
        if broken:
            raise Diverged(
                f"{self.label} gives logits that aren't finite for {broken} of {len(found)} images: "
                "there is nothing to explain. Its weights hold NaN, or its precision "
                f"({self.runtime.precision}) overflows."
            )
        return found

    def make_example(self) -> Tensor:
        """Return one grey image or clip, prepared, to follow the layers with."""
        frames = () if self.num_frames is None else (self.num_frames,)
        return self.prepare(np.full((1, *frames, self.img_size, self.img_size, 3), 127, dtype=np.uint8))


def check_images(images: npt.NDArray[np.uint8]) -> None:
    """Refuse what isn't uint8 (N, H, W, 3) with at least one image.

    Raises:
        UsageError: It is something else.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise UsageError(
            f"Images to explain are uint8 (N, H, W, 3) with N > 0; got {images.dtype} {images.shape}."
        )


def _check_clips(clips: npt.NDArray[np.uint8], num_frames: int) -> None:
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[1] != num_frames or clips.shape[-1] != 3:
        raise UsageError(
            f"Clips to explain are uint8 (N, {num_frames}, H, W, 3) for this network; got {clips.dtype} "
            f"{clips.shape}."
        )


def build_subject(
    built: BuiltModel, runtime: Runtime, names: tuple[str, ...], label: str, *, img_size: int | None = None
) -> Subject:
    """Place a network on its device, in evaluation mode, with its own normalisation.

    Args:
        built: the network; its module is moved and put into evaluation mode.
        runtime: where and how it computes.
        names: K class names, in the order of the logits.
        label: what it is called in figures and messages.
        img_size: side in pixels of the evaluated square; None for the size of training.
    """
    module = unwrap_module(runtime.place(built.module))
    module.eval()
    return Subject(
        module=module,
        family=built.card.family,
        names=names,
        img_size=img_size or built.img_size,
        normalize=Normalizer(built.mean, built.std, runtime),
        runtime=runtime,
        label=label,
    )


@contextlib.contextmanager
def hold_still(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradient for parameters; every part as it was at the end, whatever happens."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with evaluating(module):
        try:
            for parameter in learning:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)
