"""Accuracy of each runtime on the same labelled samples, and its paired difference from eager."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from praxiscope.profiling.plan import Labelled
from praxiscope.profiling.result import Accuracy, Difference
from praxiscope.profiling.runtimes.session import Session
from praxiscope.profiling.stages import Pipeline
from praxiscope.stats.intervals import wilson_interval
from praxiscope.stats.paired import mcnemar_p_values
from praxiscope.stats.paired_bootstrap import Answers, bootstrap_contestants

_BATCH = 32
_RESAMPLES = 2000
Preds = npt.NDArray[np.int64]


def predict_all(
    sessions: Mapping[str, Session],
    pipeline: Pipeline,
    samples: Labelled,
    progress: Callable[[int, int], None],
) -> dict[str, Preds]:
    """Return the top-1 class (N,) of each sample by every runtime; each image is read once.

    Args:
        sessions: open runtimes by name.
        pipeline: from files to their input.
        samples: N of them.
        progress: called with samples done and N.
    """
    parts: dict[str, list[Preds]] = {name: [] for name in sessions}
    for start in range(0, len(samples.paths), _BATCH):
        images = pipeline.read(samples.paths[start : start + _BATCH])
        for name, session in sessions.items():
            parts[name].append(session(images).argmax(axis=1).astype(np.int64))
        progress(start + len(images), len(samples.paths))
    return {name: np.concatenate(found) for name, found in parts.items()}


def measure_accuracy(correct: npt.NDArray[np.bool_], split: str) -> Accuracy:
    """Return the share of correct samples (N,) with Wilson's interval (1927)."""
    low, high = wilson_interval(int(correct.sum()), correct.size)
    return Accuracy(
        value=float(correct.mean()), low=float(low), high=float(high), n=correct.size, split=split
    )


def measure_difference(
    targets: Preds, baseline: Preds, preds: Preds, num_classes: int, *, seed: int = 0
) -> Difference:
    """Compare a runtime's predictions with the baseline's on the same samples.

    Args:
        targets: (N,) true classes.
        baseline: (N,) predictions of eager float32.
        preds: (N,) predictions of the runtime.
        num_classes: K.
        seed: of the paired bootstrap.
    """
    before, after = bootstrap_contestants(
        targets,
        [[Answers(preds=baseline)], [Answers(preds=preds)]],
        num_classes,
        resamples=_RESAMPLES,
        seed=seed,
    )
    low, high = np.quantile(after.drawn["top1"] - before.drawn["top1"], [0.025, 0.975])
    was, now = baseline == targets, preds == targets
    p_value = float(mcnemar_p_values(int((was & ~now).sum()), int((now & ~was).sum())))
    assert math.isfinite(p_value)
    return Difference(
        value=float(now.mean() - was.mean()),
        low=float(low),
        high=float(high),
        p_value=p_value,
        n=targets.size,
    )
