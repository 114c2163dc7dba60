"""From a folder to a manifest: list, look at every file, find duplicates, cut splits, say what was found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from praxiscope.data.audit import Progress, audit_files
from praxiscope.data.cache import AuditCache
from praxiscope.data.clips.audit import ClipLook, audit_clips
from praxiscope.data.clips.findings import describe_clips
from praxiscope.data.duplicates import Duplicates, find_duplicates, join_groups
from praxiscope.data.findings import DROPPED, AuditedSamples, describe_samples, sort_findings
from praxiscope.data.fingerprint import Fingerprint, Unreadable
from praxiscope.data.groups import assign_groups
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.manifest import NOT_DRAWN, Finding, Manifest, build_table, quantify
from praxiscope.data.sources.catalog import list_samples
from praxiscope.data.sources.listing import Listing, Sample
from praxiscope.data.split import cut_split
from praxiscope.errors import UsageError
from praxiscope.recipe.schema import ClipSection, DataSection, Recipe

HEAD = "action"
"""Name of the one label column that image folders and tables give."""


def build_manifest(
    root: Path | str,
    section: DataSection,
    *,
    seed: int,
    clip: ClipSection | None = None,
    progress: Progress | None = None,
    use_cache: bool = True,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Manifest:
    """Turn a folder into a manifest; every file is hashed and decoded whole, and nothing is written to it.

    Args:
        root: The user's data folder.
        section: How to read and split it.
        seed: Draws the splits that the data doesn't have, unless `section` has a seed of its own.
        clip: How annotated frames are counted; as EPIC-KITCHENS does where not given.
        progress: Called with (phase, done, total).
        use_cache: Take fingerprints of unchanged files from the audit cache.
        max_pixels: Images that declare more are quarantined undecoded.

    Returns:
        The manifest, with a finding for everything noteworthy. Error findings don't raise here, so that all
        of them are seen at once: see :meth:`Manifest.require_usable`.

    Raises:
        UsageError: The folder doesn't exist, or a field of `section` doesn't fit it.
        DataError: The folder can't be read as the source that `section` names.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UsageError(_explain_no_folder(folder))
    folder = folder.resolve()
    listing = assign_groups(_rename_splits(list_samples(folder, section), section), section)
    cache = AuditCache(folder) if use_cache else None
    clips: dict[str, ClipLook | Unreadable] = {}
    looked: dict[str, Fingerprint | Unreadable]
    if listing.clips:
        clips = audit_clips(
            folder, listing.samples, section=clip or ClipSection(), cache=cache, max_pixels=max_pixels,
            progress=progress,
        )  # fmt: skip
        looked = {
            name: look.fingerprint if isinstance(look, ClipLook) else look for name, look in clips.items()
        }
    else:
        paths = [sample.place for sample in listing.samples if sample.problem is None]
        looked = audit_files(folder, paths, cache=cache, max_pixels=max_pixels, progress=progress)
    audited, notes = _arrange(listing, looked, section, seed if section.seed is None else section.seed)
    findings = describe_samples(audited, section, published=bool(listing.heads))
    if listing.clips:
        findings += describe_clips(clips, clip or ClipSection())
    heads = dict(listing.heads) or _collect_heads(audited)
    return Manifest(
        table=build_table(_tabulate(audited, tuple(heads), clips if listing.clips else None), tuple(heads)),
        root=folder,
        heads=heads,
        source=listing.source,
        findings=sort_findings((*listing.findings, *notes, *findings)),
    )


def build_recipe_manifest(root: Path | str, recipe: Recipe, *, progress: Progress | None = None) -> Manifest:
    """Turn a folder into the manifest that a recipe asks for: the same in every command that takes a recipe.

    Raises:
        UsageError: As :func:`build_manifest`.
        DataError: As :func:`build_manifest`.
    """
    return build_manifest(
        root,
        recipe.data,
        seed=recipe.seed,
        clip=recipe.clip,
        progress=progress,
        max_pixels=recipe.loader.max_pixels,
    )


def _explain_no_folder(folder: Path) -> str:
    if not folder.exists():
        return f"The data folder {folder} does not exist."
    hint = "Name the folder that it lies in"
    if folder.suffix.lower() == ".csv":
        hint += f", and the table with --set data.source=csv --set data.csv={folder.name}"
    return f"The data folder {folder} is a file. {hint}."


def _rename_splits(listing: Listing, section: DataSection) -> Listing:
    """Make the data's own validation split the test split, where the recipe says that it is one."""
    if not section.val_as_test:
        return listing
    given = {sample.split for sample in listing.samples}
    if "test" in given:
        raise UsageError(
            "data.val_as_test is set, but the data has a test split of its own; leave data.val_as_test out."
        )
    if listing.samples and "val" not in given:
        raise UsageError(
            "data.val_as_test is set, but the data has no validation split of its own; leave "
            "data.val_as_test out."
        )
    samples = tuple(
        replace(sample, split="test") if sample.split == "val" else sample for sample in listing.samples
    )
    return replace(listing, samples=samples)


def _arrange(
    listing: Listing, looked: Mapping[str, Fingerprint | Unreadable], section: DataSection, seed: int
) -> tuple[AuditedSamples, list[Finding]]:
    """Quarantine, find duplicates and give every sample a split."""
    samples = listing.samples
    prints: list[Fingerprint | None] = []
    quarantine: list[str | None] = []
    for sample in samples:
        entry = looked.get(sample.sample_id if listing.clips else sample.place)
        prints.append(entry if isinstance(entry, Fingerprint) and sample.problem is None else None)
        quarantine.append(sample.problem or (entry.reason if isinstance(entry, Unreadable) else None))
    duplicates = find_duplicates(prints, near_distance=section.near_distance)
    if section.duplicates == "drop-train":
        _drop_train(samples, duplicates, quarantine)
    splits, notes = _assign_splits(samples, quarantine, duplicates, section, seed)
    if section.train_per_class is not None:
        notes += _draw_train(samples, splits, quarantine, section.train_per_class, seed)
    present = [split if reason is None else None for split, reason in zip(splits, quarantine, strict=True)]
    audited = AuditedSamples(
        samples=samples,
        splits=splits,
        fingerprints=prints,
        quarantine=quarantine,
        duplicates=duplicates,
        twins=duplicates.find_twins(present),
        clips=listing.clips,
    )
    return audited, notes


def _drop_train(samples: Sequence[Sample], duplicates: Duplicates, quarantine: list[str | None]) -> None:
    """Quarantine training samples that show the same image as a validation or test sample."""
    # With the order turned round, a training sample's twin is the one in a later split.
    mirrored = [
        {"test": "train", "val": "val", "train": "test"}.get(sample.split or "") for sample in samples
    ]
    for index, twin in duplicates.find_twins(mirrored).items():
        if samples[index].split == "train":
            quarantine[index] = (
                f"{DROPPED}{samples[twin.index].sample_id} ({samples[twin.index].split}, {twin.kind})"
            )


def _assign_splits(
    samples: Sequence[Sample],
    quarantine: Sequence[str | None],
    duplicates: Duplicates,
    section: DataSection,
    seed: int,
) -> tuple[list[str], list[Finding]]:
    """Keep the splits that the data has and cut those that it lacks."""
    given = {sample.split for sample in samples if sample.split is not None}
    splits = [sample.split or "train" for sample in samples]
    named = {split for split, names in (("val", section.val_groups), ("test", section.test_groups)) if names}
    divided = bool(given - named)
    fractions = (
        {"val": section.val_fraction}
        if divided
        else {"val": section.val_fraction, "test": section.test_fraction}
    )
    fractions = {split: share for split, share in fractions.items() if split not in given and share > 0}
    if (rest := 1.0 - sum(fractions.values())) <= 0:
        raise UsageError(
            f"data.val_fraction {section.val_fraction:g} and data.test_fraction {section.test_fraction:g} "
            "leave nothing to train on; make their sum smaller than 1."
        )
    pool = [i for i, split in enumerate(splits) if split == "train" and quarantine[i] is None]
    notes: list[Finding] = []
    if fractions and pool:
        groups = _join_samples(samples, duplicates)
        parts = cut_split(
            [samples[i].label for i in pool],
            [groups.get(i, i) for i in pool],
            {"train": rest, **fractions},
            seed=seed,
        )
        for index, part in zip(pool, parts, strict=True):
            splits[index] = part
        notes.append(_describe_cut(parts, fractions, seed, undivided=not divided))
    return splits, notes + _describe_absent(splits)


def _draw_train(
    samples: Sequence[Sample], splits: Sequence[str], quarantine: list[str | None], per_class: int, seed: int
) -> list[Finding]:
    """Quarantine all but `per_class` sound training samples a class; a smaller draw is part of a larger."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        if splits[index] == "train" and quarantine[index] is None:
            members[sample.label].append(index)
    left_out = 0
    for label, indices in sorted(members.items()):
        # Drawn by the class's name: a class that comes or goes doesn't change what is drawn of the others.
        order = np.random.default_rng([seed, *label.encode()]).permutation(len(indices))
        for place in order[per_class:].tolist():
            quarantine[indices[place]] = f"{NOT_DRAWN}data.train_per_class is {per_class}"
            left_out += 1
    few = sorted(label for label, indices in members.items() if len(indices) < per_class)
    message = (
        f"{quantify(left_out, 'training sample')} not drawn: data.train_per_class keeps {per_class:,} of "
        f"each class, by seed {seed}."
    )
    notes = [Finding(code="split.train-per-class", severity="note", message=message, count=left_out)]
    if few:
        message = f"{quantify(len(few), 'class', 'classes')} with fewer than {per_class:,} training samples."
        notes.append(Finding.of("split.few", "note", message, few))
    return notes


def _join_samples(samples: Sequence[Sample], duplicates: Duplicates) -> dict[int, int]:
    """Return {index: component} over the user's groups and the duplicate clusters together."""
    first: dict[str, int] = {}
    links = [(first.setdefault(s.group, i), i) for i, s in enumerate(samples) if s.group is not None]
    return join_groups([*links, *((low, index) for index, low in duplicates.find_clusters().items())])


def _describe_cut(
    parts: Sequence[str], fractions: Mapping[str, float], seed: int, *, undivided: bool
) -> Finding:
    counts = ", ".join(f"{parts.count(split):,} {split}" for split in fractions)
    message = (
        f"{counts} cut from {'the undivided data' if undivided else 'train'} by seed {seed}, class by class; "
        "duplicates and groups stay together."
    )
    return Finding(
        code="split.cut", severity="note", message=message, count=len(parts) - parts.count("train")
    )


def _describe_absent(splits: Sequence[str]) -> list[Finding]:
    messages = {
        "val": "No validation split, so no epoch can be chosen by it; set data.val_fraction above 0.",
        "test": "No test split: a final score needs data that no choice was made on.",
    }
    return [
        Finding(code=f"split.no-{split}", severity="note", message=message, count=0)
        for split, message in messages.items()
        if splits and split not in splits
    ]


def _collect_heads(audited: AuditedSamples) -> dict[str, tuple[str, ...]]:
    """Return the labels of each head that usable samples have, sorted by code point."""
    found: dict[str, set[str]] = {head: set() for sample in audited.samples for head in sample.labels}
    for index in audited.usable:
        sample = audited.samples[index]
        for head, label in (sample.labels or {HEAD: sample.label}).items():
            found.setdefault(head, set()).add(label)
    return {head: tuple(sorted(labels)) for head, labels in (found or {HEAD: set()}).items()}


def _tabulate(
    audited: AuditedSamples, heads: Sequence[str], clips: Mapping[str, ClipLook | Unreadable] | None
) -> list[dict[str, object]]:
    clusters = audited.duplicates.find_clusters()
    rows: list[dict[str, object]] = []
    for index, (sample, entry) in enumerate(zip(audited.samples, audited.fingerprints, strict=True)):
        row: dict[str, object] = {
            "sample_id": sample.sample_id,
            "path": sample.place,
            "split": audited.splits[index],
            **(dict(sample.labels) if sample.labels else {heads[0]: sample.label}),
            "group": sample.group,
            "mask": sample.mask,
            "quarantine": audited.quarantine[index],
        }
        if entry is not None:
            row |= {
                "sha256": entry.sha256,
                "phash": entry.phash,
                "width": entry.width,
                "height": entry.height,
            }
        if clips is not None:
            row |= _describe_clip(clips.get(sample.sample_id))
        if index in clusters:
            row["cluster"] = audited.samples[clusters[index]].sample_id
        if (twin := audited.twins.get(index)) is not None:
            row |= {"twin_of": audited.samples[twin.index].sample_id, "twin_kind": twin.kind}
        rows.append(row)
    return rows


def _describe_clip(look: ClipLook | Unreadable | None) -> dict[str, object]:
    if not isinstance(look, ClipLook):
        return dict.fromkeys(("first_frame", "num_frames", "fps", "start_frame"))
    return {
        "first_frame": look.span.first,
        "num_frames": look.span.count,
        "fps": look.fps,
        "start_frame": look.placing.start_frame,
    }
