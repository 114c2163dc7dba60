"""Plan a cascade on validation predictions, and confirm it on test predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from praxiscope.comparison.align import merge_names
from praxiscope.comparison.result import without_nan
from praxiscope.data.manifest import quantify
from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.predictions import Predictions
from praxiscope.stats.bootstrap import bootstrap_means
from praxiscope.stats.calibration import compute_calibration
from praxiscope.stats.cascade import (
    Flags,
    ThresholdCurve,
    ask_large,
    choose_thresholds,
    compute_confidence,
    compute_costs,
    compute_curve,
    find_indistinct,
    fit_temperature,
)
from praxiscope.stats.intervals import Interval, subtract_intervals
from praxiscope.stats.labels import FloatArray, IntArray

MOST_LOST = 0.01
"""Validation accuracy that the default choice may give away for cost, even where a test can't tell it."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a threshold is chosen by; by default the cheapest that can't be told from the best.

    Attributes:
        max_latency_ms: the most accurate one whose mean cost on validation is at most this.
        min_accuracy: the cheapest one whose validation accuracy is at least this, in [0, 1].
        threshold: this one, in [0, 1].
    """

    max_latency_ms: float | None = None
    min_accuracy: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        given = [self.max_latency_ms, self.min_accuracy, self.threshold]
        if sum(value is not None for value in given) > 1:
            raise UsageError(
                "--max-latency-ms, --min-accuracy and --threshold exclude each other: choose one."
            )
        for flag, value in (("--min-accuracy", self.min_accuracy), ("--threshold", self.threshold)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{flag} {value:g}: must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Mean milliseconds of a sample.

    Attributes:
        small_ms: in the small network.
        large_ms: in the large one.
        source: where the figures come from, in words.
    """

    small_ms: float
    large_ms: float
    source: str

    def __post_init__(self) -> None:
        for label, value in (("small", self.small_ms), ("large", self.large_ms)):
            if not 0 < value < float("inf"):
                raise UsageError(f"The cost of the {label} model is {value:g} ms; it must be above 0.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Both networks' answers to N samples of one split.

    Attributes:
        small: the small one's table.
        large: the large one's, of the same samples.
        targets: (N,) indices into the small one's names.
        right_small: (N,) where the small one is right.
        right_large: (N,) where the large one is right.
    """

    small: Predictions
    large: Predictions
    targets: IntArray
    right_small: Flags
    right_large: Flags


@dataclass(frozen=True, kw_only=True, eq=False)
class CascadePlan:
    """A threshold, how it was found, and how it did.

    Attributes:
        temperature: of the small network.
        threshold: chosen on validation.
        val: curve on validation.
        test: the same thresholds on test.
        figures: what ``cascade.json`` keeps, plain values.
    """

    temperature: float
    threshold: float
    val: ThresholdCurve
    test: ThresholdCurve
    figures: dict[str, Any]


def pair_predictions(small: Predictions, large: Predictions, *, labels: tuple[str, str]) -> Pair:
    """Bring two tables of one split together, by sample id and label name.

    Args:
        small: the small network's.
        large: the large network's.
        labels: what messages call them.

    Raises:
        DataError: Other label names, other samples, or another target for a sample; says which.
    """
    names = merge_names([(labels[0], small.names(), True), (labels[1], large.names(), True)])
    _refuse_other_samples(small, large, labels)
    order = np.array([names.index(name) for name in large.names()])
    targets, others = small.targets(), order[large.targets()]
    differing = np.flatnonzero(targets != others)
    if differing.size:
        first = int(differing[0])
        raise DataError(
            f"{labels[0]} and {labels[1]} disagree about the true label of "
            f"{quantify(differing.size, 'sample')}, first of {small.sample_ids[first]!r}: "
            f"{names[targets[first]]!r} and {names[others[first]]!r}. Evaluate both on the same data."
        )
    return Pair(
        small=small,
        large=large,
        targets=targets,
        right_small=small.preds() == targets,
        right_large=order[large.preds()] == targets,
    )


def plan_cascade(
    val: Pair, test: Pair, costs: Costs, wish: Wish, *, resamples: int = 2000, seed: int = 0
) -> CascadePlan:
    """Choose temperature and threshold on validation alone, then look at test.

    Args:
        val: answers on the validation split.
        test: answers on the test split; nothing is chosen by them.
        costs: of each network.
        wish: what to choose by.
        resamples: of the bootstrap by group behind the intervals.
        seed: of the bootstrap.

    Raises:
        UsageError: No threshold does what is wished for; says what the nearest is.
    """
    temperature = fit_temperature(val.small.logits(), val.targets)
    confidence = compute_confidence(val.small.logits(), temperature)
    grid = choose_thresholds(confidence)
    if wish.threshold is not None:
        grid = np.unique(np.append(grid, wish.threshold))
    curve = _trace(grid, val, confidence, costs)
    place, reason = choose_point(curve, wish, lambda: _find_indistinct(curve, val, confidence))
    threshold = float(curve.thresholds[place])
    unseen = compute_confidence(test.small.logits(), temperature)
    planned = _measure(val, confidence, threshold, costs, resamples=resamples, seed=seed)
    confirmed = _measure(test, unseen, threshold, costs, resamples=resamples, seed=seed)
    figures = {
        "costs": {"small_ms": costs.small_ms, "large_ms": costs.large_ms, "source": costs.source},
        "chosen_by": reason,
        "calibration": _describe_calibration(val, test, temperature),
        "plan": planned,
        "confirmed": {
            **confirmed,
            "planned_accuracy_inside": _is_inside(planned["accuracy"], confirmed["accuracy"]),
            "planned_cost_inside": _is_inside(planned["cost_ms"], confirmed["cost_ms"]),
            "differences": {
                name: _subtract(planned[name], confirmed[name]) for name in ("accuracy", "cost_ms")
            },
        },
        "alone": {
            "small": _measure(test, unseen, 0.0, costs, resamples=resamples, seed=seed),
            "large": _measure(test, unseen, 1.0, costs, resamples=resamples, seed=seed),
        },
        "interval": {"level": 0.95, "method": "percentile bootstrap by group", "resamples": resamples},
    }
    return CascadePlan(
        temperature=temperature,
        threshold=threshold,
        val=curve,
        test=_trace(grid, test, unseen, costs),
        figures=without_nan(figures),
    )


def choose_point(
    curve: ThresholdCurve, wish: Wish, find_indistinct_points: Callable[[], Flags]
) -> tuple[int, str]:
    """Choose a point of a curve.

    Args:
        curve: On validation.
        wish: What to choose by.
        find_indistinct_points: Gives (P,) true where the accuracy can't be told from the best; asked only
            when nothing is wished for.

    Returns:
        Its place, and the reason in a sentence.

    Raises:
        UsageError: No point does what is wished for.
    """
    if wish.threshold is not None:
        return int(np.flatnonzero(curve.thresholds == wish.threshold)[0]), "the threshold that was given"
    if wish.max_latency_ms is not None:
        return _choose_accurate(curve, wish.max_latency_ms)
    if wish.min_accuracy is not None:
        return _choose_cheap(curve, wish.min_accuracy)
    best = float(curve.accuracy.max())
    # Few samples or groups can tell nothing apart: the test alone would then give accuracy away.
    near = curve.accuracy >= best - MOST_LOST
    return _cheapest(curve, find_indistinct_points() & near), (
        f"the cheapest threshold whose validation accuracy can't be told from the best ({100 * best:.2f} %) "
        f"by a paired exact test at 5 %, and is at most {100 * MOST_LOST:g} point below it"
    )


def _choose_accurate(curve: ThresholdCurve, max_latency_ms: float) -> tuple[int, str]:
    affordable = curve.cost <= max_latency_ms
    if not affordable.any():
        raise UsageError(
            f"--max-latency-ms {max_latency_ms:g}: the cheapest threshold already costs "
            f"{curve.cost.min():.3g} ms a sample on average. Allow more, or take a smaller model."
        )
    best = curve.accuracy[affordable].max()
    place = _cheapest(curve, affordable & (curve.accuracy == best))
    return place, f"the most accurate threshold on validation at a mean cost of at most {max_latency_ms:g} ms"


def _choose_cheap(curve: ThresholdCurve, min_accuracy: float) -> tuple[int, str]:
    enough = curve.accuracy >= min_accuracy
    if not enough.any():
        raise UsageError(
            f"--min-accuracy {min_accuracy:g}: the best that any threshold reaches on validation is "
            f"{curve.accuracy.max():.4f}. Ask for less, or take a better large model."
        )
    return _cheapest(curve, enough), f"the cheapest threshold with a validation accuracy of {min_accuracy:g}"


def _cheapest(curve: ThresholdCurve, allowed: Flags) -> int:
    """Return the place of the lowest cost, of the higher accuracy among equals."""
    places = np.flatnonzero(allowed)
    order = np.lexsort((-curve.accuracy[places], curve.cost[places]))
    return int(places[order[0]])


def _find_indistinct(curve: ThresholdCurve, pair: Pair, confidence: FloatArray) -> Flags:
    return find_indistinct(curve, confidence, pair.right_small, pair.right_large, groups=pair.small.groups)


def _trace(thresholds: FloatArray, pair: Pair, confidence: FloatArray, costs: Costs) -> ThresholdCurve:
    return compute_curve(
        thresholds,
        confidence,
        pair.right_small,
        pair.right_large,
        cost_small=costs.small_ms,
        cost_large=costs.large_ms,
    )


def _measure(
    pair: Pair, confidence: FloatArray, threshold: float, costs: Costs, *, resamples: int, seed: int
) -> dict[str, Any]:
    """Return accuracy, share asked and mean cost of one threshold, with 95 % intervals by group."""
    asked = ask_large(confidence, threshold)
    found = bootstrap_means(
        {
            "accuracy": np.where(asked, pair.right_large, pair.right_small),
            "asked": asked,
            "cost_ms": compute_costs(asked, threshold, costs.small_ms, costs.large_ms),
        },
        groups=pair.small.groups,
        resamples=resamples,
        seed=seed,
    )
    figures: dict[str, Any] = {"split": pair.small.split, "n": len(pair.small)}
    for name, interval in found.items():
        figures[name] = {"value": interval.value, "low": interval.low, "high": interval.high}
    return figures


def _describe_calibration(val: Pair, test: Pair, temperature: float) -> dict[str, Any]:
    """Return what the temperature did to log loss and calibration error of the small network."""
    figures: dict[str, Any] = {"temperature": temperature}
    for pair in (val, test):
        before = compute_calibration(pair.small.logits(), pair.targets)
        after = compute_calibration(pair.small.logits().astype(np.float64) / temperature, pair.targets)
        figures[pair.small.split] = {
            "nll_before": before.nll,
            "nll_after": after.nll,
            "ece_before": before.ece,
            "ece_after": after.ece,
        }
    return figures


def _is_inside(planned: dict[str, float], found: dict[str, float]) -> bool | None:
    """Whether a planned value lies in the interval that was found; None where there is no interval."""
    if not np.isfinite([found["low"], found["high"]]).all():
        return None
    # Where nothing varies (t = 0, t = 1) both are the same number, up to rounding.
    slack = 1e-9 * max(1.0, abs(found["value"]))
    return bool(found["low"] - slack <= planned["value"] <= found["high"] + slack)


def _subtract(planned: dict[str, float], found: dict[str, float]) -> dict[str, Any]:
    """Return found - planned with its 95 % interval, and whether the two agree: whether 0 is in it.

    The plan was measured on few samples, too. Where nothing is wrong, it lies in the interval of test alone
    clearly less often than in 95 % of cases: in 70 %, with 2.5 times as many test as validation samples.
    """
    gap = subtract_intervals(Interval(**planned), Interval(**found))
    zero = {"value": 0.0, "low": gap.low, "high": gap.high}
    return {"value": gap.value, "low": gap.low, "high": gap.high, "agree": _is_inside(zero, zero)}


def _refuse_other_samples(small: Predictions, large: Predictions, labels: tuple[str, str]) -> None:
    mine, theirs = set(small.sample_ids), set(large.sample_ids)
    if mine == theirs:
        return
    told = [
        f"{quantify(len(only), 'sample')} only in {label}, for example {min(only)!r}"
        for label, only in zip(labels, (mine - theirs, theirs - mine), strict=True)
        if only
    ]
    hint = "Evaluate both on the same data."
    if small.split == "val":
        # Evaluating again can't help: what one run validates on, the other may have trained on.
        hint = (
            "Where validation is cut from train, both runs must cut the same: train one again with the "
            "other's data.val_fraction and data.seed (or seed)."
        )
    raise DataError(
        f"{labels[0]} and {labels[1]} were evaluated on other samples of {small.split}: {'; '.join(told)}. "
        f"{hint}"
    )
