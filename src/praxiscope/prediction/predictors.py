"""One interface to whatever predicts: a run, an ONNX file, or a small network that asks a large one.

No torch here: a :class:`Network` brings its own way to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from praxiscope.data.clips.views import ClipRule
from praxiscope.data.transforms import EvalTransform
from praxiscope.errors import IntegrityError
from praxiscope.prediction.clips import Clip
from praxiscope.prediction.pictures import Picture
from praxiscope.stats.calibration import compute_softmax
from praxiscope.tensors import NDIM_WITH_VIEWS, Heads

Images = npt.NDArray[np.uint8]
"""(B, S, S, 3), RGB in [0, 255]; of clips (B, T, S, S, 3)."""
Logits = npt.NDArray[np.float32]
"""(B, K), finite."""
Compute = Callable[[Images], Logits]
Sample = Picture | Clip


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network, and all that must be known to ask it.

    Attributes:
        label: what messages and tables call it.
        source: the run's folder, or the ONNX file.
        heads: what its logits stand for.
        transform: from a picture to its input; evaluation's.
        compute: from inputs to logits.
        batch_size: pictures of a forward pass.
        weights_sha256: fingerprint of its weights; None for a foreign file, which has none.
        clip: which frames it looks at; None of a network that takes images.
    """

    label: str
    source: Path
    heads: Heads
    transform: EvalTransform
    compute: Compute
    batch_size: int
    weights_sha256: str | None
    clip: ClipRule | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Label names of all heads, in the order of the logits: K."""
        return tuple(name for labels in self.heads.names.values() for name in labels)

    def crop(self, picture: Picture) -> npt.NDArray[np.uint8]:
        """Return a picture as the network's input, (S, S, 3), by the functions that evaluation uses.

        Raises:
            ImageUnreadable: the picture can't be decoded.
        """
        return self.transform(picture.decode(self.transform.decode_size))

    def look_again(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """Return its input of a picture or clip that another network has seen already.

        Raises:
            ImageUnreadable: It can't be decoded.
        """
        if isinstance(sample, Picture):
            return self.crop(sample)
        assert self.clip is not None
        return sample.read_again(self.clip, self.transform)

    def predict(self, images: Images) -> Logits:
        """Return the logits of a batch; of clips in several views, (B, V, T, S, S, 3), the means over views.

        Raises:
            IntegrityError: as many logits as names were promised, and others came, or they are not finite.
        """
        if images.ndim == NDIM_WITH_VIEWS:
            logits = self.predict(images.reshape(-1, *images.shape[2:]))
            return np.asarray(logits.reshape(*images.shape[:2], -1).mean(axis=1))
        logits = self.compute(images)
        if logits.shape != (len(images), len(self.names)):
            raise IntegrityError(
                f"{self.source} gives logits of shape {logits.shape} for {len(images)} samples and "
                f"{len(self.names)} label names; give it the names of its own classes."
            )
        if not np.isfinite(logits).all():
            raise IntegrityError(f"{self.source} gives logits that are not finite: its weights are damaged.")
        return logits


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a predictor says about B pictures.

    Attributes:
        logits: (B, K), of the network that answered, in the order of the predictor's names.
        answered_by: (B,) 0 for the first network, 1 for the second.
        confidence: (B,) the first network's calibrated confidence, which decides who answers; None where it
            decides nothing.
    """

    logits: Logits
    answered_by: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64] | None


class Predictor:
    """A single network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks, in the order in which they are asked."""
        return (self._network,)

    @property
    def heads(self) -> Heads:
        """What the logits stand for."""
        return self._network.heads

    @property
    def names(self) -> tuple[str, ...]:
        """K label names, in the order of the logits."""
        return self._network.names

    @property
    def clip(self) -> ClipRule | None:
        """Which frames are looked at; None where images are."""
        return self._network.clip

    @property
    def transform(self) -> EvalTransform:
        """From a picture or a frame to the input of the first network."""
        return self._network.transform

    @property
    def batch_size(self) -> int:
        """Pictures to hand over at once."""
        return self._network.batch_size

    def crop(self, picture: Picture) -> npt.NDArray[np.uint8]:
        """Return what the first network is fed, (S, S, 3).

        Raises:
            ImageUnreadable: the picture can't be decoded.
        """
        return self._network.crop(picture)

    def answer(self, pictures: Sequence[Sample], crops: Images) -> Answers:
        """Predict B pictures or clips.

        Args:
            pictures: B.
            crops: (B, S, S, 3), each of :meth:`crop`; of clips (B, V, T, S, S, 3).
        """
        logits = self._network.predict(crops)
        return Answers(logits=logits, answered_by=np.zeros(len(pictures), np.int64), confidence=None)


class CascadePredictor(Predictor):
    """A small network that answers alone where it is sure, and a large one for the other pictures or clips.

    Args:
        small: asked first.
        large: asked where the small network's confidence is below ``threshold``; only then does it see the
            picture.
        temperature: divides the small network's logits before the softmax that gives the confidence.
        threshold: in (0, 1).
    """

    def __init__(self, small: Network, large: Network, *, temperature: float, threshold: float) -> None:
        super().__init__(small)
        self._large = large
        self._temperature = temperature
        self._threshold = threshold
        place = {name: index for index, name in enumerate(large.names)}
        self._order = np.array([place[name] for name in small.names])

    @property
    def networks(self) -> tuple[Network, ...]:
        """The small network and the large one."""
        return (self._network, self._large)

    def answer(self, pictures: Sequence[Sample], crops: Images) -> Answers:
        """Predict B pictures or clips; logits come in the order of the small network's names."""
        logits = self._network.predict(crops)
        confidence = compute_softmax(logits / self._temperature).max(axis=1)
        asked = np.flatnonzero(confidence < self._threshold)
        for start in range(0, len(asked), self._large.batch_size):
            rows = asked[start : start + self._large.batch_size]
            again = np.stack([self._large.look_again(pictures[row]) for row in rows])
            logits[rows] = self._large.predict(again)[:, self._order]
        answered_by = np.zeros(len(pictures), np.int64)
        answered_by[asked] = 1
        return Answers(logits=logits, answered_by=answered_by, confidence=confidence)
