"""Contestants in, a `ComparisonResult` out: the paired comparison."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from praxiscope.comparison.align import Aligned
from praxiscope.comparison.ensembles import build_ensembles, compare_ensembles
from praxiscope.comparison.evidence import estimate_share
from praxiscope.comparison.headline import Plan, code_samples, resample, tell_differences, tell_figures
from praxiscope.comparison.pairs import compare_pair, view_pair
from praxiscope.comparison.repairs import compute_seed_agreement
from praxiscope.comparison.result import ComparisonResult
from praxiscope.comparison.rules import note_limits, state_rules
from praxiscope.comparison.tables import SampleTable
from praxiscope.comparison.verdict import decide_pair, tell_all, tell_pair
from praxiscope.data.manifest import quantify
from praxiscope.stats.confusion import compute_class_scores, compute_confusion
from praxiscope.stats.intervals import wilson_interval
from praxiscope.stats.labels import IntArray
from praxiscope.stats.paired_bootstrap import Resampled
from praxiscope.stats.significance import adjust_holm


def compare_aligned(aligned: Aligned, plan: Plan | None = None) -> ComparisonResult:
    """Compare contestants on the same samples.

    Args:
        aligned: At least two contestants, from `align_contestants`.
        plan: How intervals are made.
    """
    plan = plan or Plan()
    codes = code_samples(aligned)
    ensembles = build_ensembles(aligned)
    found = resample(aligned, [one.answers for one in ensembles], plan)
    count = len(aligned.contestants)
    told = [_tell_contestant(aligned, index, found[index], codes, plan) for index in range(count)]
    pairs = []
    for first, second in itertools.combinations(range(count), 2):
        entry = compare_pair(view_pair(aligned, first, second, codes), level=plan.level)
        entry["differences"] = {
            "all": tell_differences(found[first], found[second], codes, plan),
            "clean": None,
        }
        pairs.append(entry)
    _add_clean(aligned, told, pairs, plan)
    samples = _tell_samples(codes)
    finish_pairs(pairs, samples)
    tables = [table for each in aligned.contestants for table in each.members]
    return ComparisonResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        praxiscope_version=version("praxiscope"),
        split=next((one.split for one in tables if isinstance(one, SampleTable) and one.split), None),
        head=next((one.head for one in tables if isinstance(one, SampleTable) and one.head), None),
        names=aligned.names,
        paired=True,
        verdict=tell_all(pairs, told, samples),
        notes=(*aligned.notes, *note_limits(aligned, codes)),
        interval={**vars(plan), "method": "paired percentile bootstrap"},
        samples=_count_samples(aligned, codes),
        contestants=told,
        pairs=pairs,
        ensembles=compare_ensembles(aligned, ensembles, found, codes, plan),
        oracle=_tell_oracle(aligned, codes, plan),
        rules=state_rules(aligned, codes),
    )


def finish_pairs(pairs: Sequence[dict[str, Any]], samples: str) -> None:
    """Correct the deciding tests after Holm over the pairs, and add the verdicts."""
    corrected = adjust_holm([pair["test"]["p_value"] for pair in pairs])
    for pair, p_holm in zip(pairs, corrected, strict=True):
        pair["test"]["p_holm"] = float(p_holm)
        pair["told_apart"], pair["better"] = decide_pair(pair)
        pair["verdict"] = tell_pair(pair, samples)


def _add_clean(
    aligned: Aligned, told: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]], plan: Plan
) -> None:
    """Add the figures on the samples that duplicate none of an earlier split, where that is known."""
    if aligned.clean is None or not aligned.clean.any():
        return
    clean = aligned.select(aligned.clean)
    codes, found = code_samples(clean), resample(clean, (), plan)
    for entry, one in zip(told, found, strict=True):
        entry["clean"] = tell_figures(one, codes, plan, len(clean.names))
    for entry, (first, second) in zip(pairs, itertools.combinations(found, 2), strict=True):
        entry["differences"]["clean"] = tell_differences(first, second, codes, plan)


def _tell_contestant(
    aligned: Aligned, index: int, found: Resampled, codes: IntArray, plan: Plan
) -> dict[str, Any]:
    contestant, answers = aligned.contestants[index], aligned.answers[index]
    confusions = np.stack(
        [compute_confusion(aligned.targets, one.preds, len(aligned.names)) for one in answers]
    )
    return {
        "label": contestant.label,
        "kind": contestant.kind,
        "has_probabilities": all(one.logits is not None for one in answers),
        "members": [
            tell_member(table, float(top1))
            for table, top1 in zip(contestant.members, found.by_seed["top1"], strict=True)
        ],
        "all": tell_figures(found, codes, plan, len(aligned.names)),
        "clean": None,
        "per_class": tell_classes(confusions, aligned.names, plan.level),
        "confusion": (confusions[0] if len(confusions) == 1 else confusions.mean(axis=0)).tolist(),
        "seed_agreement": compute_seed_agreement(np.stack([one.preds for one in answers])),
    }


def tell_member(table: Any, top1: float) -> dict[str, Any]:
    """Return where one seed's answers come from."""
    return {
        "source": str(table.source),
        "run": None if table.run is None else str(table.run),
        "seed": getattr(table, "seed", None),
        "recipe_name": getattr(table, "recipe_name", None),
        "weights_sha256": getattr(table, "weights_sha256", None),
        "top1": top1,
    }


def tell_classes(confusions: IntArray, names: Sequence[str], level: float) -> list[dict[str, Any]]:
    """Return recall (with Wilson's interval), precision and F1 of each class, the mean over seeds.

    Args:
        confusions: (M, K, K) of each seed.
        names: K label names.
        level: Confidence level; the interval is that of the mean counts.
    """
    scores = [compute_class_scores(confusion) for confusion in confusions]
    support = scores[0].support
    correct = np.mean([one.correct for one in scores], axis=0)
    low, high = wilson_interval(correct, support, level=level)
    return [
        {
            "name": name,
            "support": int(support[index]),
            "recall": float(np.mean([one.recall[index] for one in scores])),
            "recall_low": float(low[index]),
            "recall_high": float(high[index]),
            "precision": float(np.mean([one.precision[index] for one in scores])),
            "f1": float(np.mean([one.f1[index] for one in scores])),
        }
        for index, name in enumerate(names)
    ]


def _tell_samples(codes: IntArray) -> str:
    groups = np.unique(codes).size
    return f"n = {codes.size:,}" + (f" in {quantify(groups, 'group')}" if groups < codes.size else "")


def _count_samples(aligned: Aligned, codes: IntArray) -> Mapping[str, Any]:
    groups = int(np.unique(codes).size)
    return {
        "n": codes.size,
        "num_clean": None if aligned.clean is None else int(aligned.clean.sum()),
        "num_groups": groups,
        "grouped": groups < codes.size,
        "common_only": bool(aligned.left_out),
        "left_out": aligned.left_out,
    }


def _tell_oracle(aligned: Aligned, codes: IntArray, plan: Plan) -> Mapping[str, Any]:
    """Return the accuracy of always choosing a contestant that is right, if one is; first seeds only."""
    hits = np.stack([seeds[0].preds == aligned.targets for seeds in aligned.answers])
    right = np.asarray(hits.any(axis=0), dtype=np.bool_)
    return {
        "members": [contestant.label for contestant in aligned.contestants],
        "top1": vars(estimate_share(right, codes, level=plan.level)),
    }
