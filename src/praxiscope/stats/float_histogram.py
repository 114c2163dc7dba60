"""A histogram of float32 numbers with fixed bins: sign, exponent and the first four bits of the mantissa.

Bins that follow from the number format need no first look at the data, so a histogram can be filled batch
by batch and two can be added. There are 16 to each power of two: no number is farther than 1/16 of itself
from an edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUM_BINS = 1 << 13
SHIFT = 19
"""A number's bin is its 32 bits shifted right by this: 13 bits remain."""
_MAGNITUDES = NUM_BINS // 2
_FINITE = 255 << 4  # from here on the exponent says infinite or NaN
INFINITE = np.r_[_FINITE:_MAGNITUDES, _MAGNITUDES + _FINITE : NUM_BINS]
"""The bins of what is infinite or NaN."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FloatHistogram:
    """How numbers are distributed."""

    counts: npt.NDArray[np.int64]
    """(8192,), by the upper 13 bits of each number: 4096 bins of positive ones by size, then the negative.
    The first holds the zeros of both signs, and what is below 2^-130."""
    total: float
    """Sum of the finite ones."""
    square_total: float
    """Sum of the finite ones' squares."""
    minimum: float
    """Smallest finite one; NaN where there is none."""
    maximum: float
    """Largest finite one; NaN where there is none."""

    @property
    def count(self) -> int:
        """How many finite numbers there are."""
        return int(self.counts.sum()) - self.nonfinite

    @property
    def nonfinite(self) -> int:
        """How many are infinite or NaN."""
        return int(self.counts[INFINITE].sum())

    @property
    def zeros(self) -> int:
        """How many are zero (below 2^-130)."""
        return int(self.counts[0])

    @property
    def mean(self) -> float:
        """Mean of the finite numbers; NaN where there is none."""
        return self.total / self.count if self.count else float("nan")

    @property
    def rms(self) -> float:
        """Root of their mean square; NaN where there is none."""
        return float(np.sqrt(self.square_total / self.count)) if self.count else float("nan")

    @property
    def std(self) -> float:
        """Their standard deviation; NaN where there is none."""
        return float(np.sqrt(max(self.rms**2 - self.mean**2, 0.0)))

    @property
    def zero_share(self) -> float:
        """Share of zeros; NaN where there is no number."""
        return self.zeros / self.count if self.count else float("nan")

    def bins(self) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
        """Return lower edge, upper edge and count of every finite bin that isn't empty, by value."""
        low, high = _EDGES[:-1], _EDGES[1:]
        positive, negative = self.counts[:_FINITE], self.counts[_MAGNITUDES : _MAGNITUDES + _FINITE]
        lower = np.concatenate([-high[::-1], low])
        upper = np.concatenate([-low[::-1], high])
        counts = np.concatenate([negative[::-1], positive])
        kept = counts > 0
        return lower[kept], upper[kept], counts[kept]

    def quantile(self, share: float) -> float:
        """Return the number that a share in [0, 1] lies below, to 1/16 of itself; NaN where there is none."""
        lower, upper, counts = self.bins()
        if not counts.size:
            return float("nan")
        below = np.cumsum(counts)
        place = int(np.searchsorted(below, share * below[-1], side="left"))
        if max(-lower[place], upper[place]) <= _EDGES[1]:
            return 0.0
        inside = (share * below[-1] - (below[place] - counts[place])) / counts[place]
        value = lower[place] + inside * (upper[place] - lower[place])
        return float(np.clip(value, self.minimum, self.maximum))

    def rebin(self, edges: FloatArray) -> FloatArray:
        """Return counts between rising edges, float64; a bin that an edge divides is shared out by width."""
        lower, upper, counts = self.bins()
        known = np.concatenate([[0.0], np.cumsum(counts)]).astype(np.float64)
        found: FloatArray = np.diff(_accumulate(edges, lower, upper, known))
        return found

    def sizes(self, edges: FloatArray) -> FloatArray:
        """Return counts of absolute values between rising, non-negative edges; zeros are left out."""
        counts = self.counts[:_FINITE] + self.counts[_MAGNITUDES : _MAGNITUDES + _FINITE]
        counts[0] = 0
        known = np.concatenate([[0.0], np.cumsum(counts)]).astype(np.float64)
        found: FloatArray = np.diff(_accumulate(edges, _EDGES[:-1], _EDGES[1:], known))
        return found

    def to_dict(self) -> dict[str, float | int | None]:
        """Return its figures for JSON; None where one is undefined."""
        figures: dict[str, float] = {
            "mean": self.mean, "std": self.std, "min": self.minimum, "max": self.maximum,
            "zero_share": self.zero_share, "p01": self.quantile(0.01), "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
        }  # fmt: skip
        known = {key: value if np.isfinite(value) else None for key, value in figures.items()}
        return {"count": self.count, "nonfinite": self.nonfinite, **known}


def fold_zeros(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return counts by the upper 13 bits as ``FloatHistogram`` wants them: -0 is 0."""
    folded = counts.astype(np.int64)
    folded[0] += folded[_MAGNITUDES]
    folded[_MAGNITUDES] = 0
    return folded


def _make_edges() -> FloatArray:
    bits = np.arange(_FINITE + 1, dtype=np.uint32) << SHIFT
    edges: FloatArray = bits.view(np.float32).astype(np.float64)
    edges[-1] = 2.0**128
    return edges


def _accumulate(edges: FloatArray, lower: FloatArray, upper: FloatArray, known: FloatArray) -> FloatArray:
    """Return how many numbers lie below each edge, as if bins were evenly filled."""
    if not lower.size:
        return np.zeros(len(edges))
    place = np.clip(np.searchsorted(lower, edges, side="right") - 1, 0, len(lower) - 1)
    share = np.clip((edges - lower[place]) / (upper[place] - lower[place]), 0.0, 1.0)
    below: FloatArray = known[place] + share * (known[place + 1] - known[place])
    return below


_EDGES = _make_edges()
