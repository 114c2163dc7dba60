"""Maps of one method for many images: batch by batch, one forward and one backward pass each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from praxiscope.errors import Diverged, UsageError
from praxiscope.explaining.saliency.attention import compute_attention_gradient, compute_rollout
from praxiscope.explaining.saliency.attribution import compute_integrated_gradients, compute_occlusion
from praxiscope.explaining.saliency.cam import (
    compute_eigencam,
    compute_gradcam,
    compute_gradcam_plus_plus,
    read_layer,
)
from praxiscope.explaining.saliency.catalog import Method, find_methods
from praxiscope.explaining.saliency.noise import draw_noise
from praxiscope.explaining.saliency.target import find_target_use
from praxiscope.explaining.subject import Subject, check_images, hold_still
from praxiscope.models.layer_uses import LayerUse, list_layers

OnBatch = Callable[[int, int], None]

# By how many times fewer images are taken at once: the first keeps the graph of all layers (a ViT-B/16 about
# 150 MB an image), the others fill a pass with variants of one image.
_FEWER = {"attention-gradient": 4, "integrated-gradients": 8, "occlusion": 32}


@dataclass(frozen=True, kw_only=True)
class SaliencyMaps:
    """Where the evidence for a class lies, image by image."""

    maps: npt.NDArray[np.float32]
    """(N, H, W) at the images' resolution, larger is more evidence; in the method's own unit, unscaled."""
    coarse: npt.NDArray[np.float32]
    """(N, h, w): the same as the method computed it, before it was brought to the images' resolution."""
    method: str
    """Name of the method in the catalogue."""
    layer: str | None
    """The layer that was looked at, of methods that look at one."""
    gap: npt.NDArray[np.float32] | None = None
    """(N,), of integrated gradients: sum of the map minus (score of the image - score of the baseline), in
    logits; 0 where the integral is exact."""


def compute_maps(  # noqa: PLR0913 - subject, method and images are what, the rest how
    subject: Subject,
    method: str,
    images: npt.NDArray[np.uint8],
    targets: npt.NDArray[np.int64],
    *,
    layer: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    watch: OnBatch | None = None,
) -> SaliencyMaps:
    """Explain one class for each image.

    The network is left as it was: parameters, hooks, modes and fused attention, also after an exception.

    Args:
        subject: The network.
        method: Name in ``saliency.catalog.METHODS``.
        images: uint8 (N, H, W, 3), the evaluated crops.
        targets: int (N,), the class to explain for each image: the true one or the predicted one.
        layer: The use of a layer to look at; None for the usual one (``choose_target_layer``). Methods that
            look at no layer take none.
        batch_size: Images in one pass, of integrated gradients and occlusion variants of images;
            attention-gradient, whose graph is large, takes a quarter.
        seed: Of method ``random``.
        watch: Called with images done and N, as often as some are done.

    Returns:
        The maps.

    Raises:
        UsageError: Unknown method or layer, a method that can't explain such a network, targets missing or
            out of range, or no images.
        Diverged: A map holds NaN or infinity.
    """
    (chosen,) = find_methods([method], subject.family)
    check_images(images)
    classes = _check_targets(subject, images, targets)
    use = _find_use(subject, chosen, images, layer)
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; it must be at least 1.")
    parts, gaps = [], []
    stride = max(batch_size // _FEWER.get(chosen.name, 1), 1)
    with hold_still(subject.module):
        for start in range(0, len(images), stride):
            taken = slice(start, start + stride)
            coarse, gap = _explain(subject, chosen, images[taken], classes[taken], use, batch_size, seed)
            parts.append(coarse)
            gaps.append(gap)
            if watch is not None:
                watch(min(start + stride, len(images)), len(images))
    coarse = torch.cat(parts)
    _check_finite(subject, chosen, use, coarse)
    known = [gap for gap in gaps if gap is not None]
    return SaliencyMaps(
        maps=_enlarge(coarse, (images.shape[1], images.shape[2])).numpy(),
        coarse=coarse.numpy(),
        method=chosen.name,
        layer=use.name if use else None,
        gap=torch.cat(known).numpy() if known else None,
    )


def scale_maps(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Stretch each map to [0, 1] by its own least and largest value; a constant map becomes all zero.

    Args:
        maps: (N, H, W).
    """
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    scaled: npt.NDArray[np.float32] = np.divide(maps - low, spread, out=np.zeros_like(maps), where=spread > 0)
    return scaled


def _explain(
    subject: Subject,
    method: Method,
    images: npt.NDArray[np.uint8],
    classes: Tensor,
    use: LayerUse | None,
    batch_size: int,
    seed: int,
) -> tuple[Tensor, Tensor | None]:
    """Return coarse maps of one batch, and the gap of integrated gradients, on the CPU."""
    if method.name == "random":
        return torch.from_numpy(draw_noise(images, seed)), None
    batch, classes = subject.prepare(images), classes.to(subject.runtime.device)
    if use is not None:
        return _explain_layer(subject, method, batch, classes, use).cpu(), None
    if method.name == "integrated-gradients":
        attributed = compute_integrated_gradients(subject, batch, classes, batch_size=batch_size)
        return attributed.attributions.sum(dim=1).cpu(), attributed.gap.cpu()
    if method.name == "occlusion":
        return compute_occlusion(subject, batch, classes, batch_size=batch_size).cpu(), None
    if method.name == "rollout":
        return compute_rollout(subject, batch).cpu(), None
    assert method.name == "attention-gradient", method.name
    return compute_attention_gradient(subject, batch, classes).cpu(), None


def _explain_layer(subject: Subject, method: Method, batch: Tensor, classes: Tensor, use: LayerUse) -> Tensor:
    if method.name == "eigencam":
        activations, _ = read_layer(subject, batch, None, use)
        return compute_eigencam(activations)
    activations, gradients = read_layer(subject, batch, classes, use)
    assert gradients is not None
    draw = compute_gradcam if method.name == "gradcam" else compute_gradcam_plus_plus
    return draw(activations, gradients)


def _check_targets(
    subject: Subject, images: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64] | None
) -> Tensor:
    if targets is None:
        raise UsageError(
            "A map explains one class for each image, but targets is None. For the predicted classes give "
            "targets=subject.compute_logits(images).argmax(axis=1)."
        )
    classes = np.asarray(targets)
    if classes.shape != (len(images),) or not np.issubdtype(classes.dtype, np.integer):
        raise UsageError(
            f"targets are one whole number for each of the {len(images)} images; "
            f"got {classes.dtype} {classes.shape}."
        )
    count = len(subject.names)
    wrong = classes[(classes < 0) | (classes >= count)]
    if len(wrong):
        raise UsageError(f"{subject.label} has the classes 0 to {count - 1}; targets hold {int(wrong[0])}.")
    return torch.from_numpy(classes.astype(np.int64))


def _find_use(
    subject: Subject, method: Method, images: npt.NDArray[np.uint8], layer: str | None
) -> LayerUse | None:
    if not method.needs_layer:
        if layer is not None:
            raise UsageError(f"The method '{method.name}' looks at no single layer; leave out '{layer}'.")
        return None
    uses = list_layers(subject.module, subject.prepare(images[:1]))
    return find_target_use(subject, uses, layer)


def _check_finite(subject: Subject, method: Method, use: LayerUse | None, coarse: Tensor) -> None:
    broken = int((~torch.isfinite(coarse)).flatten(1).any(dim=1).sum())
    if broken:
        where = f" at '{use.name}'" if use else ""
        raise Diverged(
            f"{method.name}{where} of {subject.label} gives NaN or infinity for {broken} of {len(coarse)} "
            f"images: its weights hold NaN, or its precision ({subject.runtime.precision}) overflows; "
            "try float32."
        )


def _enlarge(coarse: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate (N, h, w) to (N, H, W) linearly, cells standing for the areas that they cover."""
    if coarse.shape[1:] == size:
        return coarse
    return torch.nn.functional.interpolate(
        coarse[:, None], size=size, mode="bilinear", align_corners=False
    ).squeeze(1)
