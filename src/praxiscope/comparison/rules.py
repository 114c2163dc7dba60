"""What a reader must know beside the numbers: limits of this comparison, and how each figure was made."""

from __future__ import annotations

import numpy as np

from praxiscope.comparison.align import Aligned
from praxiscope.comparison.tables import SampleTable
from praxiscope.data.manifest import quantify
from praxiscope.stats.labels import IntArray

FEW_GROUPS = 30
SHOWN = 5
"""Labels that a note names."""

PAIRED_RULES = {
    "difference": "Differences are second minus first, the first being the one given earlier.",
    "decision": (
        "One model each and independent samples: the exact McNemar test on top-1. Samples in groups: the "
        "exact sign-flip test over groups. Several seeds: a t test whose error holds the spread over samples "
        "and over seeds. Told apart means p < 0.05, after Holm's correction where there are several pairs."
    ),
    "intervals": (
        "Scores and their differences: groups of samples (each sample its own group where none is given) "
        "are drawn with replacement, the same for all contestants, and seeds with them; percentiles of the "
        "differences, for the ECE reflected at the value, for several seeds Student's t with the resampled "
        "standard error. Where no resample differs from another: Wilson's interval of the accuracy, Bonett "
        "and Price's of its difference."
    ),
    "per_class": (
        "Recall per class: the deciding test within the class, Holm over the classes with samples; Bonett "
        "and Price's interval of the paired difference, which isn't corrected for looking at many classes."
    ),
    "confusions": "Confusions: the deciding test for each wrong label that occurs, Holm over all of them.",
    "smallest_difference": (
        "The difference that the deciding test would find in 80 % of experiments at the 5 % level, with as "
        "many samples and as large a share of samples on which the two differ."
    ),
    "ensembles": (
        "Each ensemble is compared with its best member, which was chosen on these same samples; choose an "
        "ensemble on validation before you trust its figure."
    ),
    "seeds": (
        "A contestant of several seeds has the mean of each figure over its seeds; a sample counts as right "
        "for it, in the lists of repairs, when more than half of its seeds have it right. What at least one "
        "of all contestants has right is counted with the first seed of each."
    ),
}
"""How the figures of a paired comparison are made, for readers of a page."""


def state_rules(aligned: Aligned, codes: IntArray) -> dict[str, str]:
    """Return the rules that apply to these contestants."""
    rules = dict(PAIRED_RULES)
    if all(len(seeds) == 1 for seeds in aligned.answers):
        del rules["seeds"]
    groups = np.unique(codes).size
    if groups < FEW_GROUPS:
        rules["few_groups"] = (
            f"Bootstrap intervals tend to be too narrow below {FEW_GROUPS} groups; there are {groups}."
        )
    return rules


def note_limits(aligned: Aligned, codes: IntArray) -> list[str]:
    """Return what limits the verdict: contestants of one seed, figures that can't be had."""
    notes = []
    single = [
        each.label
        for each, seeds in zip(aligned.contestants, aligned.answers, strict=True)
        if len(seeds) == 1
    ]
    if len(single) == len(aligned.contestants):
        notes.append(
            "Each contestant is one trained model: the verdict is about these models, not about their "
            "recipes, as another seed may do better or worse. Give runs of several seeds to cover that."
        )
    elif single:
        notes.append(
            f"{', '.join(single)}: one seed alone, so the spread over its seeds isn't in the verdict."
        )
    notes += _note_spellings(aligned)
    tables = [each.members[0] for each in aligned.contestants]
    joint = [tuple(table.head_hits) for table in tables if isinstance(table, SampleTable) and table.head_hits]
    for each, seeds in zip(aligned.contestants, aligned.answers, strict=True):
        if any(one.logits is None for one in seeds) and not joint:
            notes.append(
                f"{each.label} gives answers without probabilities: no top-5, NLL, Brier score, ECE, and no "
                "ensemble but a majority."
            )
    if joint:
        heads = ", ".join(joint[0])
        notes.append(
            "Joint answers are compared as right or wrong: no top-5, NLL, Brier score, ECE, and no ensemble "
            f"but a majority. --head NAME ({heads}) compares one head with its probabilities."
        )
    if aligned.clean is not None and not aligned.clean.all():
        notes.append(
            f"{quantify(int((~aligned.clean).sum()), 'sample')} of {codes.size:,} duplicate samples of an "
            "earlier split; 'clean' leaves them out, the verdict is on all."
        )
    return notes


def _note_spellings(aligned: Aligned) -> list[str]:
    """Name answers that count as wrong although a label differs from them in capitals alone."""
    true = {aligned.names[index] for index in np.unique(aligned.targets)}
    plain = {name.casefold(): name for name in true}
    notes = []
    for each, seeds in zip(aligned.contestants, aligned.answers, strict=True):
        given = {aligned.names[index] for one in seeds for index in np.unique(one.preds)}
        alike = sorted(name for name in given - true if name.casefold() in plain)
        if alike:
            told = ", ".join(f"{name!r} ({plain[name.casefold()]!r})" for name in alike[:SHOWN])
            notes.append(
                f"{each.label} answers {told}{', ...' if len(alike) > SHOWN else ''}: no sample has such a "
                "label, so these answers count as wrong. Labels are compared by name, capitals included; if "
                "they mean the same, rename them."
            )
    return notes
