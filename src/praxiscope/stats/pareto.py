"""Which of several choices no other choice beats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def find_pareto(costs: npt.ArrayLike, scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark the choices that are on the Pareto front: nothing costs no more and scores no less.

    Of two equal choices neither beats the other; both are marked when nothing else beats them.

    Args:
        costs: (N,) or (N, D), smaller is better: latency, memory ...
        scores: (N,), larger is better.

    Returns:
        (N,) booleans. A choice with a NaN or infinity is never marked.

    Raises:
        ValueError: Different lengths.

    >>> find_pareto([1.0, 2.0, 3.0], [0.7, 0.9, 0.8]).tolist()
    [True, True, False]
    """
    score = np.asarray(scores, dtype=np.float64).reshape(-1, 1)
    cost = np.asarray(costs, dtype=np.float64)
    cost = cost.reshape(-1, 1) if cost.ndim == 1 else cost
    if len(cost) != len(score):
        raise ValueError(f"{len(cost)} costs and {len(score)} scores don't pair up")
    points = np.hstack([cost, -score])
    marked = np.asarray(np.isfinite(points).all(axis=1), dtype=np.bool_)
    for index in np.flatnonzero(marked):
        no_worse = (points <= points[index]).all(axis=1)
        better = (points < points[index]).any(axis=1)
        marked[index] = not (no_worse & better).any()
    return marked
