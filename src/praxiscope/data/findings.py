"""What there is to say about a data set once every file was looked at. Nothing here touches a file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from praxiscope.data.duplicates import MAX_NEAR_IMAGES, Duplicates, Twin
from praxiscope.data.fingerprint import Fingerprint
from praxiscope.data.manifest import SPLITS, Finding, Severity
from praxiscope.data.sources.listing import Sample

TINY_SIDE = 32
"""Images with a shorter side are named: there is little in them to learn from."""
EXTREME_ASPECT = 5.0
"""Ratio of long to short side from which a centre crop loses most of an image."""
IMBALANCE = 10.0
"""Ratio of the largest to the smallest class of a split from which it is named."""

_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}
_TRAIT_MESSAGES = {
    "alpha": "images have transparency; they are composited on white.",
    "deep": "images have more than 8 bits a channel or are floats; they are scaled to 8 bits.",
    "cmyk": "images are CMYK; they are converted to RGB without a colour profile.",
    "animated": "images have several frames; the first one is used.",
    "rotated": "images are stored rotated or mirrored (EXIF orientation); they are read upright.",
}


@dataclass(frozen=True, kw_only=True)
class AuditedSamples:
    """Samples after the look at their files; all sequences are per sample."""

    samples: Sequence[Sample]
    splits: Sequence[str]
    fingerprints: Sequence[Fingerprint | None]
    quarantine: Sequence[str | None]
    duplicates: Duplicates
    twins: dict[int, Twin]

    @cached_property
    def usable(self) -> list[int]:
        """Indices of the samples without a quarantine reason."""
        return [index for index, reason in enumerate(self.quarantine) if reason is None]

    def count_classes(self) -> dict[str, Counter[str]]:
        """Return the usable samples per class for each split that has any, in the splits' order."""
        counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        for index in self.usable:
            counts[self.splits[index]][self.samples[index].label] += 1
        return {split: count for split, count in counts.items() if count}

    def name(self, indices: Iterable[int]) -> list[str]:
        """Return sample ids."""
        return [self.samples[index].sample_id for index in indices]


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings worst first; equal ones in their order."""
    return tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))


def describe_samples(audited: AuditedSamples, *, refuse_duplicates: bool) -> tuple[Finding, ...]:
    """Say everything about samples that their labels, splits and contents show.

    Args:
        audited: The samples.
        refuse_duplicates: Duplicates across splits are an error instead of a warning.
    """
    return (
        *_describe_quarantine(audited),
        *_describe_labels(audited),
        *_describe_twins(audited, "error" if refuse_duplicates else "warning"),
        *_describe_repeats(audited),
        *_describe_groups(audited),
        *_describe_images(audited),
    )


def _describe_quarantine(audited: AuditedSamples) -> list[Finding]:
    findings = []
    entries = [
        (audited.samples[i], reason) for i, reason in enumerate(audited.quarantine) if reason is not None
    ]
    dropped = [sample.sample_id for sample, reason in entries if reason.startswith(DROPPED)]
    broken = [f"{sample.sample_id}: {reason}" for sample, reason in entries if not reason.startswith(DROPPED)]
    if broken:
        message = (
            f"{len(broken)} samples can't be used and are left out of everything; repair or remove them."
        )
        findings.append(Finding.of("D2.unreadable", "warning", message, broken))
    if dropped:
        message = (
            f"{len(dropped)} training samples are left out because validation or test shows the same image."
        )
        findings.append(Finding.of("D1.dropped", "note", message, dropped))
    if not audited.usable:
        message = (
            "No usable image was found. Give a folder with <class>/<image> or train/<class>/<image> in it."
        )
        findings.append(Finding(code="D2.nothing-usable", severity="error", message=message, count=0))
    return findings


DROPPED = "duplicate of "
"""How the quarantine reason of a training sample begins that was left out for its twin."""


def _describe_labels(audited: AuditedSamples) -> list[Finding]:
    findings = [
        Finding.of(
            "C3.case-only",
            "error",
            f"Class names differ only in case: {' and '.join(map(repr, names))}. Give them one name.",
            names,
        )
        for names in _find_case_variants({sample.label for sample in audited.samples})
    ]
    counts = audited.count_classes()
    if not counts:
        return findings
    labels = sorted(set().union(*counts.values()))
    if len(labels) == 1:
        message = f"There is only one class, {labels[0]!r}; telling classes apart needs two."
        findings.append(Finding.of("C3.single-class", "error", message, labels))
    if "train" not in counts:
        message = f"There is no usable training sample, only {' and '.join(counts)}."
        findings.append(Finding(code="C3.no-train", severity="error", message=message, count=0))
        return findings
    for split in (split for split in counts if split != "train"):
        findings += _compare_classes(split, set(counts["train"]), set(counts[split]))
    largest, smallest = (
        counts["train"].most_common(1)[0],
        min(counts["train"].items(), key=lambda item: item[1]),
    )
    if largest[1] >= IMBALANCE * smallest[1]:
        message = (
            f"Training classes are unequal: {largest[0]!r} has {largest[1]} samples, {smallest[0]!r} {smallest[1]}. "
            "Look at macro scores, which weigh classes equally."
        )
        findings.append(Finding.of("C3.imbalance", "note", message, [largest[0], smallest[0]]))
    return findings


def _find_case_variants(labels: Iterable[str]) -> list[list[str]]:
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        spellings[label.casefold()].append(label)
    return [names for names in spellings.values() if len(names) > 1]


def _compare_classes(split: str, train: set[str], other: set[str]) -> list[Finding]:
    findings = []
    if unknown := sorted(other - train):
        message = (
            f"{len(unknown)} classes of {split} have no training sample ({_join(unknown)}): a model can't learn them. "
            f"Add training samples, correct the name, or remove them from {split}."
        )
        findings.append(Finding.of("C3.unknown-class", "error", message, unknown))
    if missing := sorted(train - other):
        message = f"{len(missing)} classes have no sample in {split} ({_join(missing)}): nothing is measured for them."
        findings.append(Finding.of("C3.missing-class", "warning", message, missing))
    return findings


def _join(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _describe_twins(audited: AuditedSamples, severity: Severity) -> list[Finding]:
    findings = []
    kinds = {
        "exact": "the same file as",
        "near": "nearly the same image as (recompressed, resized or mirrored)",
    }
    for kind, words in kinds.items():
        pairs = [(index, twin.index) for index, twin in sorted(audited.twins.items()) if twin.kind == kind]
        if pairs:
            shares = Counter(audited.splits[index] for index, _ in pairs)
            places = ", ".join(f"{shares[split]} in {split}" for split in SPLITS if shares[split])
            message = (
                f"{len(pairs)} samples ({places}) show {words} one of an earlier split, so a score on them rewards "
                "memory. Scores are given with and without them; data.duplicates=drop-train leaves the training copy out."
            )
            names = ["{} = {}".format(*audited.name(pair)) for pair in pairs]
            findings.append(Finding.of(f"D1.{kind}-across", severity, message, names))
    return findings


def _describe_repeats(audited: AuditedSamples) -> list[Finding]:
    findings = []
    groups = audited.duplicates.exact_groups()
    conflicts = [
        members for members in groups if len({audited.samples[index].label for index in members}) > 1
    ]
    if conflicts:
        message = f"{len(conflicts)} images occur with more than one label; at most one can be right."
        findings.append(
            Finding.of("D1.label-conflict", "warning", message, [_show(audited, m) for m in conflicts])
        )
    within = [members for members in groups if _share_split(audited, members)]
    if within:
        message = f"{len(within)} images occur more than once in one split; they weigh more than others."
        names = [" = ".join(audited.name(members)) for members in within]
        findings.append(Finding.of("D1.exact-within", "note", message, names))
    near = [pair for pair in audited.duplicates.near_pairs() if _share_split(audited, pair)]
    if near:
        message = f"{len(near)} pairs of nearly the same image stand in one split."
        findings.append(
            Finding.of("D1.near-within", "note", message, [" = ".join(audited.name(p)) for p in near])
        )
    if len(audited.duplicates.contents) > MAX_NEAR_IMAGES:
        message = (
            f"Near duplicates were not searched: {len(audited.duplicates.contents):,} images are more than "
            f"{MAX_NEAR_IMAGES:,}. Exact ones were."
        )
        findings.append(Finding(code="D1.near-skipped", severity="warning", message=message, count=0))
    return findings


def _share_split(audited: AuditedSamples, members: Sequence[int]) -> bool:
    return len({audited.splits[index] for index in members}) < len(members)


def _show(audited: AuditedSamples, members: Sequence[int]) -> str:
    return " = ".join(f"{audited.samples[i].sample_id} ({audited.samples[i].label})" for i in members)


def _describe_groups(audited: AuditedSamples) -> list[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for index in audited.usable:
        group = audited.samples[index].group
        if group is not None:
            splits[group].add(audited.splits[index])
    across = sorted(group for group, found in splits.items() if len(found) > 1)
    if not across:
        return []
    message = f"{len(across)} of {len(splits)} groups have samples in more than one split, as the data divides them."
    return [Finding.of("D1.group-across", "warning", message, across)]


def _describe_images(audited: AuditedSamples) -> list[Finding]:
    images = [
        (index, entry) for index in audited.usable if (entry := audited.fingerprints[index]) is not None
    ]
    rules: list[tuple[str, Severity, str, Callable[[Fingerprint], bool]]] = [
        ("D2.constant", "warning", "images have one colour all over; look whether they are placeholders.", _is_constant),
        ("D2.tiny", "note", f"images have a side below {TINY_SIDE} pixels.", _is_tiny),
        ("D2.aspect", "note", f"images are more than {EXTREME_ASPECT:g} times as long as wide; a centre crop shows "
         "little of them.", _is_elongated),
    ]  # fmt: skip
    findings = []
    for code, severity, words, rule in rules:
        if names := audited.name(index for index, entry in images if rule(entry)):
            findings.append(Finding.of(code, severity, f"{len(names)} {words}", names))
    for trait, words in _TRAIT_MESSAGES.items():
        if names := audited.name(index for index, entry in images if trait in entry.traits):
            findings.append(Finding.of(f"D4.{trait}", "note", f"{len(names)} {words}", names))
    return findings


def _is_constant(entry: Fingerprint) -> bool:
    return int(np.ptp(np.frombuffer(entry.thumb, dtype=np.uint8))) == 0


def _is_tiny(entry: Fingerprint) -> bool:
    return min(entry.width, entry.height) < TINY_SIDE


def _is_elongated(entry: Fingerprint) -> bool:
    return max(entry.width, entry.height) > EXTREME_ASPECT * min(entry.width, entry.height)
