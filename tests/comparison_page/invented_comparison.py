"""Comparisons with invented figures, in the form of ``comparison.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ACTIONS = (
    "calling", "clapping", "cycling", "dancing", "drinking", "eating", "fighting", "hugging", "laughing",
    "listening_to_music", "running", "sitting", "sleeping", "texting", "using_laptop",
)  # fmt: skip


def estimate(value: float, spread: float = 0.02, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, **more}


def score(value: float, **more: Any) -> dict[str, Any]:
    return estimate(value, sd=None, min=None, max=None, **more)


def make_contestant(
    label: str, answers: Any, targets: Any, names: Sequence[str], *, seeds: int = 1
) -> dict[str, Any]:
    """Return one contestant, its figures computed from its answers."""
    classes = len(names)
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (targets, answers), 1)
    top1 = float((answers == targets).mean())
    scores = {
        "n": len(targets),
        "top5": None,
        "balanced_acc": score(top1),
        "weighted_f1": score(top1 - 0.002),
    }
    scores |= {
        "top1": score(top1),
        "macro_f1": score(top1 - 0.004),
        "nll": score(0.71),
        "brier": score(0.31),
        "ece": score(0.04),
    }
    if seeds > 1:
        scores["top1"] |= {"sd": 0.006, "min": top1 - 0.008, "max": top1 + 0.008}
    return {
        "label": label,
        "kind": "seeds" if seeds > 1 else "run",
        "has_probabilities": True,
        "members": [
            {"source": f"runs/{label}/{seed}", "run": f"runs/{label}/{seed}", "seed": seed, "recipe_name": label,
             "weights_sha256": "5b" * 32, "top1": top1 + 0.008 * (seed - (seeds - 1) / 2)}
            for seed in range(seeds)
        ],
        "all": scores,
        "clean": scores | {"n": len(targets) - 7},
        "per_class": [],
        "confusion": confusion.tolist(),
        "seed_agreement": 0.91 if seeds > 1 else None,
    }  # fmt: skip


def make_pair(
    first: dict[str, Any], second: dict[str, Any], answers: Sequence[Any], targets: Any, names: Sequence[str]
) -> dict[str, Any]:
    """Return one paired comparison of two contestants."""
    hits = [one == targets for one in answers]
    per_class, repairs = [], {"by_second": [], "by_first": []}
    for index, name in enumerate(names):
        here = targets == index
        count = int(here.sum())
        recalls = [float(hit[here].mean()) if count else None for hit in hits]
        gap = recalls[1] - recalls[0] if count else None
        per_class.append(
            {"name": name, "support": count, "first": recalls[0], "second": recalls[1], "difference": gap,
             "low": None if gap is None else gap - 0.09, "high": None if gap is None else gap + 0.09,
             "only_first": 3, "only_second": 5, "p_value": 0.02, "p_holm": 0.01 if gap and abs(gap) > 0.12 else 0.7,
             "told_apart": bool(gap and abs(gap) > 0.12)}
        )  # fmt: skip
        for side, fixed in (("by_second", ~hits[0] & hits[1]), ("by_first", hits[0] & ~hits[1])):
            ids = [f"test/{name}/{row:04d}.jpg" for row in np.flatnonzero(here & fixed)]
            if ids:
                repairs[side].append({"name": name, "sample_ids": ids})
    cells = []
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            pair = [one["confusion"][row][column] for one in (first, second)]
            if row != column and pair[0] != pair[1]:
                told = abs(pair[0] - pair[1]) > 8
                cells.append({"target": name, "preds": other, "first": pair[0], "second": pair[1], "only_first": pair[0],
                              "only_second": pair[1], "p_value": 0.03, "p_holm": 0.04 if told else 1.0, "told_apart": told})  # fmt: skip
    gap = second["all"]["top1"]["value"] - first["all"]["top1"]["value"]
    counts = [int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())]
    both, neither = int((hits[0] & hits[1]).sum()), int((~hits[0] & ~hits[1]).sum())
    differences = {
        "top1": estimate(gap, 0.021),
        "macro_f1": estimate(gap, 0.022),
        "nll": estimate(-0.12, 0.05),
        "top5": None,
    }
    return {
        "first": first["label"],
        "second": second["label"],
        "verdict": f"{second['label']} is better than {first['label']} by {100 * gap:.1f} points of top-1 accuracy.",
        "better": second["label"] if gap > 0.03 else None,
        "told_apart": gap > 0.03,
        "test": {"name": "exact McNemar", "p_value": 1.2e-5, "p_holm": 3.6e-5, "reason": "each sample stands for itself"},
        "mcnemar": {"only_first": counts[0], "only_second": counts[1], "p_value": 1.2e-5, "decides": True},
        "smallest_difference": {"value": 0.024, "power": 0.8, "alpha": 0.05, "n": len(targets), "discordance": 0.21},
        "differences": {"all": differences, "clean": differences},
        "per_class": per_class,
        "confusion_differences": cells,
        "agreement": {"same_answer": 0.74, "kappa": 0.72, "both_right": both, "only_first": counts[0],
                      "only_second": counts[1], "both_wrong": neither, "oracle_top1": estimate(0.9)},
        "repairs": repairs,
    }  # fmt: skip


def make_comparison(
    *,
    labels: Sequence[str] = ("resnet18", "vit_b16"),
    names: Sequence[str] = ACTIONS,
    per_class: int = 126,
    seeds: int = 1,
) -> dict[str, Any]:
    """Return a comparison of contestants, each better than the one before."""
    rng = np.random.default_rng(5)
    targets = np.repeat(np.arange(len(names)), per_class)
    answers = []
    for place in range(len(labels)):
        skill = 0.74 + 0.07 * place + rng.normal(0, 0.06, len(names))
        near = (targets + rng.integers(1, 3, len(targets))) % len(names)
        anywhere = rng.integers(0, len(names), len(targets))
        miss = np.where(rng.random(len(targets)) < 0.6, near, anywhere)
        answers.append(np.where(rng.random(len(targets)) < skill[targets], targets, miss))
    contestants = [
        make_contestant(label, one, targets, names, seeds=seeds)
        for label, one in zip(labels, answers, strict=True)
    ]
    pairs = [
        make_pair(contestants[a], contestants[b], (answers[a], answers[b]), targets, names)
        for a in range(len(labels))
        for b in range(a + 1, len(labels))
    ]
    total = len(targets)
    return {
        "schema": 1, "created": "2026-01-05T10:00:00+00:00", "praxiscope_version": "0.1.0", "split": "test",
        "head": "action", "names": list(names), "paired": True,
        "verdict": f"{labels[-1]} is better: right on 84.5 % of {total:,} test samples against 77.4 % (difference 7.1 points, 95 % interval 5.0 to 9.2; exact McNemar p < 0.001).",
        "notes": ["3 samples of resnet18 are left out: vit_b16 has no answer for them."],
        "interval": {"level": 0.95, "resamples": 10000, "seed": 0, "method": "paired percentile bootstrap by group"},
        "samples": {"n": total, "num_clean": total - 7, "num_groups": total, "grouped": False, "common_only": False, "left_out": {}},
        "contestants": contestants,
        "pairs": pairs,
        "ensembles": [
            {"name": "mean probability of both", "rule": "mean probability", "members": list(labels), "top1": estimate(0.86),
             "macro_f1": estimate(0.858), "against": labels[-1], "difference": estimate(0.013, 0.011), "p_value": 0.02, "p_holm": 0.06}
        ],
        "oracle": {"members": list(labels), "top1": estimate(0.91)},
        "rules": {"intervals": "Intervals are 95 % percentile bootstrap intervals.", "test": "The exact McNemar test decides."},
    }  # fmt: skip


def make_unpaired(**more: Any) -> dict[str, Any]:
    """Return the same without anything that needs samples to be paired."""
    result = make_comparison(**more)
    result["paired"] = False
    result["notes"].append("The samples can't be paired: no sample ids.")
    for pair in result["pairs"]:
        pair |= {"mcnemar": None, "agreement": None, "repairs": None}
        pair["test"] = {"name": "two proportions", "p_value": 1e-7, "p_holm": 1e-7, "reason": "unpaired"}
        for row in pair["per_class"] + pair["confusion_differences"]:
            row |= {"only_first": None, "only_second": None}
    return result | {"oracle": None, "ensembles": []}
