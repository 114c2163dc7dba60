"""What there is to say about a data set once every file was looked at. Nothing here touches a file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from praxiscope.data.duplicates import MAX_NEAR_IMAGES, Duplicates, Twin
from praxiscope.data.fingerprint import Fingerprint
from praxiscope.data.manifest import NOT_DRAWN, SPLITS, Finding, Severity, quantify
from praxiscope.data.sources.listing import MISSING_VIDEO, Sample
from praxiscope.data.sources.table import MISSING
from praxiscope.recipe.schema import DataSection

TINY_SIDE = 32
"""Images with a shorter side are named: there is little in them to learn from."""
EXTREME_ASPECT = 5.0
"""Ratio of long to short side from which a centre crop loses most of an image."""
IMBALANCE = 10.0
"""Ratio of the largest to the smallest class of a split from which it is named."""

DROPPED = "duplicate of "
"""How the quarantine reason of a training sample begins that was left out for its twin."""

_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}
_TRAIT_MESSAGES = {
    "alpha": "with transparency, composited on white.",
    "deep": "of more than 8 bits a channel, scaled to 8 bits.",
    "cmyk": "in CMYK, converted to RGB without a colour profile.",
    "animated": "of several frames; the first one is used.",
    "rotated": "stored rotated or mirrored (EXIF orientation), read upright.",
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
    clips: bool = False
    """Whether samples are clips, which are compared by their middle frames."""

    @property
    def picture(self) -> str:
        """What of a sample is compared, for a person."""
        return "middle frame" if self.clips else "image"

    @property
    def thing(self) -> str:
        """What a sample is, for a person."""
        return "clip" if self.clips else "image"

    @cached_property
    def usable(self) -> list[int]:
        """Indices of the samples without a quarantine reason."""
        return [index for index, reason in enumerate(self.quarantine) if reason is None]

    @property
    def heads(self) -> tuple[str | None, ...]:
        """Names of the heads, or None alone where there is one that has no name of its own."""
        found = {head: None for sample in self.samples for head in sample.labels}
        return tuple(found) or (None,)

    def find_label(self, index: int, head: str | None) -> str:
        """Return a sample's label, of one of several heads or of the only one."""
        sample = self.samples[index]
        return sample.label if head is None else sample.labels[head]

    def count_classes(self, head: str | None) -> dict[str, Counter[str]]:
        """Return the usable samples per class for each split that has any, in the splits' order."""
        counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        for index in self.usable:
            counts[self.splits[index]][self.find_label(index, head)] += 1
        return {split: count for split, count in counts.items() if count}

    def name(self, indices: Iterable[int]) -> list[str]:
        """Return sample ids."""
        return [self.samples[index].sample_id for index in indices]


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings worst first; equal ones in their order."""
    return tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))


def describe_samples(
    audited: AuditedSamples, section: DataSection, *, published: bool
) -> tuple[Finding, ...]:
    """Say everything about samples that their labels, splits and contents show.

    Args:
        audited: The samples.
        section: ``duplicates`` and ``missing`` say what is an error instead of a warning.
        published: Whether the source gives the whole label set: a class without samples is then no mistake.
    """
    labels = [
        finding for head in audited.heads for finding in _describe_labels(audited, head, published=published)
    ]
    return (
        *_describe_quarantine(audited, refuse_missing=section.missing == "refuse"),
        *labels,
        *_describe_twins(audited, "error" if section.duplicates == "refuse" else "warning"),
        *_describe_repeats(audited),
        *_describe_groups(audited),
        *_describe_images(audited),
    )


def _describe_quarantine(audited: AuditedSamples, *, refuse_missing: bool) -> list[Finding]:
    findings = [*_find_nothing(audited), *_find_rejected(audited, refuse_missing=refuse_missing)]
    return findings + (_find_bare_splits(audited) if audited.usable else [])


def _find_nothing(audited: AuditedSamples) -> list[Finding]:
    if audited.usable:
        return []
    message = (
        "No usable image was found. Give a folder with <class>/<image> or train/<class>/<image>, a CSV "
        "of file names and labels, or CIFAR, idx, Parquet or WebDataset files of images with labels; of "
        "clips <class>/<video>, or a table."
    )
    if MISSING_VIDEO in audited.quarantine:
        message = "No clip is usable: see which videos are missing, and where they were looked for."
    return [Finding(code="D2.nothing-usable", severity="error", message=message, count=0)]


def _find_rejected(audited: AuditedSamples, *, refuse_missing: bool) -> list[Finding]:
    missing, dropped = [], []
    broken: dict[str, list[tuple[str, str]]] = {}
    for sample, reason in zip(audited.samples, audited.quarantine, strict=True):
        if reason == MISSING:
            missing.append(sample.sample_id)
        elif reason is not None and reason.startswith(DROPPED):
            dropped.append(f"{sample.sample_id}: {reason}")
        elif reason is not None and reason != MISSING_VIDEO and not reason.startswith(NOT_DRAWN):
            broken.setdefault(sample.place, []).append((sample.sample_id, reason))
    findings = [_describe_broken(broken)] if broken else []
    if missing:
        message = (
            f"{quantify(len(missing), 'file')} named by the table but missing; restore them or drop the rows."
        )
        severity: Severity = "error" if refuse_missing else "warning"
        findings.append(Finding.of("D2.missing-file", severity, message, missing))
    if dropped:
        left_out = quantify(len(dropped), "training sample")
        message = f"{left_out} left out: validation or test shows the same {audited.picture}."
        findings.append(Finding.of("D1.dropped", "note", message, dropped))
    return findings


def _describe_broken(broken: Mapping[str, Sequence[tuple[str, str]]]) -> Finding:
    """Name each file once, however many clips lie in it.

    Args:
        broken: By file (sample id, reason) of each of its samples that can't be used.
    """
    count = sum(map(len, broken.values()))
    several = count > len(broken)
    where = f" in {quantify(len(broken), 'file')}" if several else ""
    names = []
    for place, samples in broken.items():
        sample_id, reason = samples[0]
        if len(samples) == 1:
            names.append(f"{sample_id}: {reason}")
        elif len({reason for _, reason in samples}) == 1:
            names.append(f"{place}: {quantify(len(samples), 'clip')}, {reason}")
        else:
            names.append(f"{place}: {quantify(len(samples), 'clip')}; {sample_id} {reason}")
    message = (
        f"{quantify(count, 'sample')}{where} unusable and left out of everything; repair or remove them."
    )
    return Finding.of("D2.unreadable", "warning", message, names)


def _find_bare_splits(audited: AuditedSamples) -> list[Finding]:
    """Refuse a split whose files are all missing: a score on what is left would be of something else."""
    reasons: dict[str, set[str | None]] = defaultdict(set)
    for split, reason in zip(audited.splits, audited.quarantine, strict=True):
        reasons[split].add(reason)
    bare = [split for split in SPLITS if reasons[split] and reasons[split] <= {MISSING, MISSING_VIDEO}]
    if not bare:
        return []
    message = (
        f"All files of {' and '.join(bare)} are missing. Restore them, or leave that table out: data.csv "
        "names the one to read."
    )
    return [Finding(code="D2.bare-split", severity="error", message=message, count=len(bare))]


def _describe_labels(audited: AuditedSamples, head: str | None, *, published: bool) -> list[Finding]:
    labels_of = {audited.find_label(index, head) for index in range(len(audited.samples))}
    findings = [
        Finding.of(
            "C3.case-only",
            "error",
            f"Class names differ only in case: {' and '.join(map(repr, names))}. Give them one name.",
            names,
        )
        for names in _find_case_variants(labels_of)
    ]
    counts = audited.count_classes(head)
    if not counts:
        return findings
    labels = sorted(set().union(*counts.values()))
    if len(labels) == 1 and not published:
        noun = "class" if head is None else f"{head} class"
        message = f"There is only one {noun}, {labels[0]!r}; telling classes apart needs two."
        findings.append(Finding.of("C3.single-class", "error", message, labels))
    if "train" not in counts:
        if head == audited.heads[0]:
            message = f"There is no usable training sample, only {' and '.join(counts)}."
            findings.append(Finding(code="C3.no-train", severity="error", message=message, count=0))
        return findings
    for split in (split for split in counts if split != "train"):
        compared = _compare_classes(split, set(counts["train"]), set(counts[split]), head)
        if published:
            compared = [replace(f, severity="warning" if f.severity == "error" else "note") for f in compared]
        findings += compared
    return findings + _find_imbalance(counts["train"], head)


def _find_case_variants(labels: Iterable[str]) -> list[list[str]]:
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        spellings[label.casefold()].append(label)
    return [names for names in spellings.values() if len(names) > 1]


def _compare_classes(split: str, train: set[str], other: set[str], head: str | None) -> list[Finding]:
    findings = []
    nouns = ("class", "classes") if head is None else (f"{head} class", f"{head} classes")
    if unknown := sorted(other - train):
        message = (
            f"{quantify(len(unknown), *nouns)} of {split} without a training sample "
            f"({_join(unknown)}): no model can learn them. Add training samples, "
            f"correct the name, or remove them from {split}."
        )
        findings.append(Finding.of("C3.unknown-class", "error", message, unknown))
    if missing := sorted(train - other):
        message = (
            f"{quantify(len(missing), *nouns)} without a sample in {split} ({_join(missing)}): "
            "nothing is measured for them."
        )
        findings.append(Finding.of("C3.missing-class", "warning", message, missing))
    return findings


def _join(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _find_imbalance(train: Counter[str], head: str | None) -> list[Finding]:
    largest, smallest = max(train, key=lambda name: train[name]), min(train, key=lambda name: train[name])
    if train[largest] < IMBALANCE * train[smallest]:
        return []
    message = (
        f"Training classes {'' if head is None else f'of {head} '}are unequal: {largest!r} has "
        f"{train[largest]:,} samples, {smallest!r} "
        f"{train[smallest]:,}. Look at macro scores, which weigh classes equally."
    )
    return [Finding.of("C3.imbalance", "note", message, [largest, smallest])]


def _describe_twins(audited: AuditedSamples, severity: Severity) -> list[Finding]:
    findings = []
    kinds = {
        "exact": "the same file as",
        "near": f"nearly the same {audited.picture} (recompressed, resized or mirrored) as",
    }
    for kind, words in kinds.items():
        pairs = [(index, twin.index) for index, twin in sorted(audited.twins.items()) if twin.kind == kind]
        if not pairs:
            continue
        shares = Counter(audited.splits[index] for index, _ in pairs)
        places = " and ".join(quantify(shares[split], f"{split} sample") for split in SPLITS if shares[split])
        message = (
            f"{places}: {words} one of an earlier split. A score on them rewards memory, so scores "
            "are given with and without them."
        )
        if any(audited.splits[other] == "train" for _, other in pairs):
            message += " data.duplicates=drop-train leaves the training copies out."
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
        contested = quantify(len(conflicts), audited.thing)
        message = f"{contested} with more than one label; at most one can be right."
        names = [_show(audited, members) for members in conflicts]
        findings.append(Finding.of("D1.label-conflict", "warning", message, names))
    within = [members for members in groups if _share_split(audited, members)]
    if within:
        repeated = quantify(len(within), audited.thing)
        message = f"{repeated} more than once in one split; they weigh more than others."
        names = [" = ".join(audited.name(members)) for members in within]
        findings.append(Finding.of("D1.exact-within", "note", message, names))
    near = [pair for pair in audited.duplicates.near_pairs() if _share_split(audited, pair)]
    if near:
        message = f"{quantify(len(near), 'pair')} of nearly the same {audited.picture} in one split."
        names = [" = ".join(audited.name(pair)) for pair in near]
        findings.append(Finding.of("D1.near-within", "note", message, names))
    if (distinct := len(audited.duplicates.contents)) > MAX_NEAR_IMAGES:
        many = f"{distinct:,} {audited.thing}s (above {MAX_NEAR_IMAGES:,})"
        message = f"Near duplicates were not searched among {many}."
        findings.append(Finding(code="D1.near-skipped", severity="warning", message=message, count=distinct))
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
    message = (
        f"{len(across):,} of {quantify(len(splits), 'group')} with samples in more than one split, as the "
        "data divides them: a score says little about new groups."
    )
    return [Finding.of("D1.group-across", "warning", message, across)]


def _describe_images(audited: AuditedSamples) -> list[Finding]:
    images = [
        (index, entry) for index in audited.usable if (entry := audited.fingerprints[index]) is not None
    ]
    rules: list[tuple[str, Severity, Callable[[Fingerprint], bool], str]] = [
        ("D2.constant", "warning", _is_constant, "of one colour all over; are they placeholders?"),
        ("D2.tiny", "note", _is_tiny, f"with a side below {TINY_SIDE} pixels."),
        ("D2.aspect", "note", _is_elongated, f"of an aspect above {EXTREME_ASPECT:g}; a crop shows little."),
    ]  # fmt: skip
    rules += [
        (f"D4.{trait}", "note", partial(_has_trait, trait), words) for trait, words in _TRAIT_MESSAGES.items()
    ]
    findings = []
    for code, severity, rule, words in rules:
        if names := audited.name(index for index, entry in images if rule(entry)):
            message = f"{quantify(len(names), audited.picture)} {words}"
            findings.append(Finding.of(code, severity, message, names))
    return findings


def _has_trait(trait: str, entry: Fingerprint) -> bool:
    return trait in entry.traits


def _is_constant(entry: Fingerprint) -> bool:
    return int(np.ptp(np.frombuffer(entry.thumb, dtype=np.uint8))) == 0


def _is_tiny(entry: Fingerprint) -> bool:
    return min(entry.width, entry.height) < TINY_SIDE


def _is_elongated(entry: Fingerprint) -> bool:
    return max(entry.width, entry.height) > EXTREME_ASPECT * min(entry.width, entry.height)
