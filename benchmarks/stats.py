"""The pure statistics beside the plain way with scikit-learn, in one process, taking turns.

    python benchmarks/stats.py [--turns 7] [--samples 1000000] [--classes 100]

Figures of a million predictions over 100 classes, by ``bincount``, beside scikit-learn. 10,000 bootstrap
resamples of accuracy and macro F1: drawn counts beside a loop that draws rows and calls scikit-learn, which
is run for a few resamples and scaled, as all of them would take minutes to hours. Grouped resamples and a
whole paired bootstrap of two models have no library to be held against; their seconds and peak memory stand
alone. Each quick way is first shown to give the slow way's figures.
"""

from __future__ import annotations

import argparse
import math
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from measuring import format_summary, summarize, write_result
from praxiscope.stats.bootstrap import bootstrap_cells, bootstrap_scores
from praxiscope.stats.calibration import compute_sample_losses
from praxiscope.stats.confusion import compute_confusion, compute_scores
from praxiscope.stats.paired import sign_flip_p_value, smallest_difference
from praxiscope.stats.paired_bootstrap import Answers, bootstrap_contestants

RESAMPLES = 10_000
LOOP_RESAMPLES = 20
ACCURACY = 0.8

Timed = Callable[[], Any]


def main() -> None:
    """Measure, print, write the results file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    options = parser.parse_args()
    entries = [
        *measure_metrics(options.samples, options.classes, options.turns),
        *(
            measure_bootstrap(samples, classes, options.turns)
            for samples, classes in ((1890, 15), (10_000, 100), (options.samples, 15))
        ),
        *measure_alone(options.turns),
    ]
    write_result("stats", {"resamples": RESAMPLES, "turns": options.turns, "entries": entries})


def measure_metrics(samples: int, classes: int, turns: int) -> list[dict[str, Any]]:
    """Time the confusion matrix and macro F1 of many predictions."""
    targets, preds = draw_answers(samples, classes)
    assert (compute_confusion(targets, preds, classes) == confusion_matrix(targets, preds)).all()
    slow_f1 = f1_score(targets, preds, average="macro")
    assert math.isclose(compute_scores(compute_confusion(targets, preds, classes)).macro_f1, slow_f1)
    setting = {"samples": samples, "classes": classes}
    return [
        compare(
            "confusion matrix",
            setting,
            lambda: compute_confusion(targets, preds, classes),
            lambda: confusion_matrix(targets, preds),
            turns,
        ),
        compare(
            "macro F1 and seven other scores beside macro F1 alone",
            setting,
            lambda: compute_scores(compute_confusion(targets, preds, classes)),
            lambda: f1_score(targets, preds, average="macro"),
            turns,
        ),
    ]


def measure_bootstrap(samples: int, classes: int, turns: int) -> dict[str, Any]:
    """Time 10,000 resamples of accuracy and macro F1."""
    targets, preds = draw_answers(samples, classes)
    confusion = compute_confusion(targets, preds, classes)
    rng = np.random.default_rng(1)

    def loop() -> list[tuple[float, float]]:
        found = []
        for _ in range(LOOP_RESAMPLES if samples < 100_000 else 2):
            rows = rng.integers(samples, size=samples)
            true, given = targets[rows], preds[rows]
            found.append((accuracy_score(true, given), f1_score(true, given, average="macro")))
        return found

    scale = RESAMPLES / (LOOP_RESAMPLES if samples < 100_000 else 2)
    drawn = bootstrap_cells(confusion, resamples=RESAMPLES, seed=0)["macro_f1"]
    looped = [f1 for _, f1 in loop()]
    assert abs(np.mean(looped) - drawn.mean()) < 6 * drawn.std()
    return compare(
        f"{RESAMPLES:,} resamples of accuracy and macro F1",
        {"samples": samples, "classes": classes, "loop_scaled_by": scale},
        lambda: bootstrap_cells(confusion, resamples=RESAMPLES, seed=0),
        loop,
        turns,
        scale=scale,
    )


def measure_alone(turns: int) -> list[dict[str, Any]]:
    """Time what no library offers: grouped resamples, a whole paired bootstrap, the exact grouped test."""
    targets, preds = draw_answers(10_000, 100)
    rng = np.random.default_rng(2)
    equal = np.arange(10_000) // 10
    # One group holds half of the samples, as one long video does.
    unequal = np.where(np.arange(10_000) < 5000, 0, np.arange(10_000))
    flips = rng.choice([-9, -4, -2, -1, 1, 2, 4, 9], 20_000)
    models = [score_model(targets, 100, skill) for skill in (2.5, 3.0)]
    measured = {
        "10,000 grouped resamples, 1,000 groups of 10": lambda: bootstrap_scores(
            targets, preds, 100, groups=equal, resamples=RESAMPLES
        ),
        "10,000 grouped resamples, one group of 5,000 and 5,000 of 1": lambda: bootstrap_scores(
            targets, preds, 100, groups=unequal, resamples=RESAMPLES
        ),
        "2 models, 8 scores, 10,000 paired resamples": lambda: bootstrap_contestants(
            targets, models, 100, resamples=RESAMPLES
        ),
        "exact sign-flip test, 20,000 groups": lambda: sign_flip_p_value(flips),
        "smallest difference, 10,000 samples": lambda: smallest_difference(10_000, 0.2),
    }
    return [time_alone(name, work, turns) for name, work in measured.items()]


def score_model(targets: np.ndarray, classes: int, skill: float) -> list[Answers]:
    """Return a model's answers to targets, drawn with logits of a certain skill."""
    logits = np.random.default_rng(3).normal(0, 1, (targets.size, classes))
    logits[np.arange(targets.size), targets] += skill
    own = logits[np.arange(targets.size), targets][:, None]
    return [
        Answers(
            preds=logits.argmax(axis=1).astype(np.int64),
            in_top5=(logits > own).sum(axis=1) < 5,
            losses=compute_sample_losses(logits, targets),
        )
    ]


def draw_answers(samples: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and answers, 80 % and a little more of them right."""
    rng = np.random.default_rng(0)
    targets = rng.integers(classes, size=samples)
    return targets, np.where(rng.random(samples) < ACCURACY, targets, rng.integers(classes, size=samples))


def compare(
    name: str, setting: dict[str, Any], quick: Timed, slow: Timed, turns: int, *, scale: float = 1.0
) -> dict[str, Any]:
    """Time two ways in turns; the ratio is of the medians."""
    quick(), slow()
    times: dict[str, list[float]] = {"praxiscope_ms": [], "scikit_learn_ms": []}
    for _ in range(turns):
        times["praxiscope_ms"].append(1e3 * seconds(quick))
        times["scikit_learn_ms"].append(1e3 * scale * seconds(slow))
    summaries = {key: summarize(values) for key, values in times.items()}
    for key, summary in summaries.items():
        print(format_summary(f"{name[:28]} {setting['samples']:,} {key[:10]}", summary, "ms"))
    ratio = summaries["scikit_learn_ms"]["median"] / summaries["praxiscope_ms"]["median"]
    return {"what": name, **setting, **summaries, "times_as_fast": float(f"{ratio:.3g}")}


def time_alone(name: str, work: Timed, turns: int) -> dict[str, Any]:
    """Time one way, and measure the peak of the memory that numpy allocates, apart from timing."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    summary = summarize([1e3 * seconds(work) for _ in range(turns)])
    print(format_summary(name[:44], summary, "ms"))
    return {"what": name, "praxiscope_ms": summary, "peak_mib": round(peak / 2**20, 1)}


def seconds(work: Timed) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
