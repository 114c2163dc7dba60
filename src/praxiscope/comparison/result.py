"""What a comparison found, and the layout of ``comparison.json``.

::

    {"schema": 1, "created": UTC ISO, "praxiscope_version", "split": str|null, "head": str|null,
     "names": [K label names],
     "costs": profile.json as given, or null,
     "target": float|null,        # top-1 to reach
     "paired": true,              # false: no sample ids were to be had, so samples could not be paired
     "verdict": "...",            # the sentence that answers the question
     "notes": ["..."],            # what a reader must know: samples left out, seeds missing, unpaired ...
     "interval": {"level": 0.95, "resamples", "seed", "method": "..."},
     "samples": {"n", "num_clean": int|null, "num_groups", "grouped": bool, "common_only": bool,
                 "left_out": {label: n}},
     "contestants": [{"label", "kind": "run"|"seeds"|"predictions"|"table"|"confusion", "has_probabilities",
         "members": [{"source": path, "run": folder|null, "seed": int|null, "recipe_name": str|null,
                      "weights_sha256": str|null, "top1"}],          # one, or one a seed
         "all": {"n", FIGURE: {"value", "low", "high", "sd": float|null, "min", "max"}, ...},
         "clean": {same}|null,                                       # sd, min, max: over seeds
         "per_class": [{"name", "support", "recall", "recall_low", "recall_high", "precision", "f1"}],
         "confusion": [[...]]|null,                                  # rows true; mean counts over seeds
         "seed_agreement": float|null,                               # share of samples, mean over pairs
         "heads": {head: {"value", "low", "high"}},                  # top-1 of each, of joint answers
         "training": {"gap", "train_s", "parameters", "epochs"}|null,   # of runs; each may be null
         "target": {"state": "reached"|"missed"|"open", "sentence"}}],  # only with a target
     "pairs": [{"first": label, "second": label,
         # Everywhere in a pair: difference = second - first; first is the one given earlier.
         "verdict": "...", "better": label|null, "told_apart": bool,
         "test": {"name", "p_value", "p_holm", "reason"},            # the one that decides; Holm over pairs
         "mcnemar": {"only_first", "only_second", "p_value", "decides": bool}|null,  # right in one only
         "smallest_difference": {"value", "power": 0.8, "alpha": 0.05, "n", "discordance": float|null},
         "differences": {"all": {FIGURE: {"value", "low", "high"}}, "clean": {same}|null},
         "per_class": [{"name", "support", "first", "second", "difference", "low", "high",   # of recall
                        "only_first", "only_second", "p_value", "p_holm", "told_apart"}],
         "confusion_differences": [{"target", "preds", "first", "second",                    # counts
                        "only_first", "only_second", "p_value", "p_holm", "told_apart"}],
         "agreement": {"same_answer", "kappa", "both_right", "only_first", "only_second", "both_wrong",
                       "oracle_top1": {"value", "low", "high"}}|null,
         "repairs": {"by_second": [{"name": class, "sample_ids": [...]}],   # first wrong, second right
                     "by_first": [{same}]}|null}],
     "ensembles": [{"name", "rule": "mean probability"|"mean logit"|"majority", "members": [labels],
                    FIGURE: {"value", "low", "high"}, "against": label of the best single,
                    "difference": {"value", "low", "high"}, "p_value", "p_holm"}],
     "oracle": {"members": [labels], "top1": {"value", "low", "high"}}|null,
     "rules": {"...": "sentence"}}

FIGURE is one of ``FIGURES``; a figure that can't be had (no probabilities, unpaired) is null. Fractions in
[0, 1], intervals of 95 %; an end that can't be had is null. In unpaired comparisons ``mcnemar``,
``agreement``, ``repairs``, ``oracle`` are null and ``ensembles`` is empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1

FIGURES = ("top1", "top5", "macro_f1", "weighted_f1", "balanced_acc", "nll", "brier", "ece")
"""The scores that are compared, in the order in which they are shown."""

LOWER_IS_BETTER = frozenset({"nll", "brier", "ece"})


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """A finished comparison; the fields are those of ``comparison.json``, described above."""

    created: str
    praxiscope_version: str
    split: str | None
    head: str | None
    names: tuple[str, ...]
    paired: bool
    verdict: str
    notes: tuple[str, ...]
    interval: Mapping[str, Any]
    samples: Mapping[str, Any]
    contestants: Sequence[Mapping[str, Any]]
    pairs: Sequence[Mapping[str, Any]]
    ensembles: Sequence[Mapping[str, Any]]
    oracle: Mapping[str, Any] | None
    rules: Mapping[str, str]
    costs: Mapping[str, Any] | None = None
    target: float | None = None
    folder: Path | None = None
    """Where its files are; not part of ``comparison.json``."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``comparison.json``: plain JSON values, None for what is undefined."""
        content = {"schema": SCHEMA_VERSION, **vars(self)}
        del content["folder"]
        return dict(without_nan(content))


def without_nan(value: Any) -> Any:
    """Return plain JSON values: numpy's numbers as Python's, tuples as lists, NaN as None."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if hasattr(value, "tolist"):
        return without_nan(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
