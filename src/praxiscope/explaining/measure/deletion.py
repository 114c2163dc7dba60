"""Deletion and insertion: does the answer go when the evidence goes, and come when it comes?

Petsiuk et al. 2018, RISE (https://arxiv.org/abs/1806.07421). Cells are taken from the map's most evidence
to its least, in equal steps.

* Deletion: they get the mean colour of the measured images. A good map makes the probability fall at once,
  so the
  area under the curve is small.
* Insertion: they replace a blurred copy of the image. A good map makes the probability rise at once, so the
  area
  is large.

As there, the two begin differently on purpose: blurring would leave a background's colour where deletion is
to remove it, and hard edges of grey would be evidence of their own where insertion begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from praxiscope.explaining.measure.cells import Cells, count_cells, order_cells, pool_cells, spread_cells
from praxiscope.explaining.measure.samples import Answerer, Classes, Images, Maps
from praxiscope.stats.calibration import compute_softmax

DEFAULT_STEPS = 16
BLUR_SHARE = 1 / 20
"""Standard deviation of the blur as a share of the side: 11 px at 224 px."""
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What deletion and insertion share among methods, computed once."""

    images: Images
    targets: Classes
    """The class whose probability is followed."""
    blurred: Images
    """(N, S, S, 3), where insertion begins."""
    colour: npt.NDArray[np.uint8]
    """(3,), what deletion leaves."""
    noise: Cells
    """(N, C), breaks ties."""
    ends: FloatArray
    """(3, N): probability of the target on the whole, the one-coloured and the blurred image."""
    steps: int
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Probability of the target while cells go, and while they come."""

    shares: FloatArray
    """(T,), share of cells gone or come, from 0 to 1."""
    deletion: FloatArray
    """(N, T)."""
    insertion: FloatArray
    """(N, T)."""

    @property
    def deletion_auc(self) -> FloatArray:
        """(N,) areas under the curve in [0, 1]; smaller is better."""
        return np.asarray(np.trapezoid(self.deletion, self.shares, axis=1))

    @property
    def insertion_auc(self) -> FloatArray:
        """(N,) areas under the curve in [0, 1]; larger is better."""
        return np.asarray(np.trapezoid(self.insertion, self.shares, axis=1))


def prepare_canvas(
    subject: Answerer,
    images: Images,
    targets: Classes,
    noise: Maps,
    *,
    steps: int = DEFAULT_STEPS,
    batch_size: int = 64,
) -> Canvas:
    """Blur the images and compute what every curve begins or ends with.

    Args:
        subject: The network.
        images: uint8 (N, S, S, 3).
        targets: (N,), the class whose probability is followed.
        noise: (N, S, S), the random maps, which break ties.
        steps: Equal steps in which all cells go, at least 1.
        batch_size: Images in one forward pass.
    """
    sigma = images.shape[1] * BLUR_SHARE
    # In float: on uint8 the filter cuts off after each axis, which darkens by a grey level.
    blurred = np.stack(
        [
            gaussian_filter(image, (sigma, sigma, 0), output=np.float32).round().astype(np.uint8)
            for image in images
        ]
    )
    colour = images.mean(axis=(0, 1, 2)).round().astype(np.uint8)
    plain = np.broadcast_to(colour, (1, *images.shape[1:])).copy()
    ends = [
        _follow(subject, images, targets, batch_size),
        _softmax(subject.compute_logits(plain))[0][targets],
        _follow(subject, blurred, targets, batch_size),
    ]
    return Canvas(
        images=images,
        targets=targets,
        blurred=blurred,
        colour=colour,
        noise=pool_cells(noise, count_cells(images.shape[1])),
        ends=np.stack(ends),
        steps=steps,
        batch_size=batch_size,
    )


def trace_curves(subject: Answerer, canvas: Canvas, maps: Maps) -> Curves:
    """Follow the probability of each image's target while the map's cells go, and while they come.

    All steps of several images go through the network in one pass of at most ``canvas.batch_size`` images, so
    memory doesn't grow with the number of samples.

    Args:
        subject: The network.
        canvas: From :func:`prepare_canvas`.
        maps: (N, S, S) of the same images.
    """
    side, count, steps = canvas.images.shape[1], len(canvas.images), canvas.steps
    values = pool_cells(maps, count_cells(side))
    order = order_cells(values, canvas.noise)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(order.shape[1])[None, :], axis=1)
    taken = np.round(np.arange(1, steps) / steps * order.shape[1]).astype(np.int64)
    deletion, insertion = np.empty((count, steps + 1)), np.empty((count, steps + 1))
    deletion[:, 0], deletion[:, -1] = canvas.ends[0], canvas.ends[1]
    insertion[:, 0], insertion[:, -1] = canvas.ends[2], canvas.ends[0]
    together = max(1, canvas.batch_size // max(1, 2 * (steps - 1)))
    for start in range(0, count if steps > 1 else 0, together):
        rows = slice(start, start + together)
        first = spread_cells(places[rows, None, :] < taken[None, :, None], side)[..., None]
        images, targets = canvas.images[rows, None], np.repeat(canvas.targets[rows], steps - 1)
        for into, under, over in (
            (deletion, images, canvas.colour),
            (insertion, canvas.blurred[rows, None], images),
        ):
            variants = np.where(first, over, under).reshape(-1, *canvas.images.shape[1:])
            followed = _follow(subject, variants, targets, canvas.batch_size)
            into[rows, 1:-1] = followed.reshape(-1, steps - 1)
    shares = np.concatenate([[0.0], taken / order.shape[1], [1.0]])
    return Curves(shares=shares, deletion=deletion, insertion=insertion)


def _follow(subject: Answerer, images: Images, targets: Classes, batch_size: int) -> FloatArray:
    """Return (M,) probabilities of each image's own target."""
    parts = []
    for start in range(0, len(images), batch_size):
        chances = _softmax(subject.compute_logits(images[start : start + batch_size]))
        parts.append(chances[np.arange(len(chances)), targets[start : start + batch_size]])
    return np.concatenate(parts)


def _softmax(logits: npt.NDArray[np.float32]) -> FloatArray:
    return compute_softmax(logits)
