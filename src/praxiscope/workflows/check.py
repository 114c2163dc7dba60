"""``data check``: everything that can be said about a data set before a model is trained on it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from praxiscope.data.audit import Progress
from praxiscope.data.build import build_manifest
from praxiscope.data.images import DEFAULT_MAX_PIXELS
from praxiscope.data.manifest import SPLITS, Finding, Manifest, quantify
from praxiscope.recipe.schema import ClipSection, DataSection
from praxiscope.workflows.clip_summary import render_clips, summarise_clips

_SHOWN_EXAMPLES = 3
_SHOWN_CLASSES = 30
_MARKS = {"error": "ERROR", "warning": "warning", "note": "note"}


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What ``data check`` found."""

    manifest: Manifest
    """The samples that were looked at."""
    usable: bool
    """False when there are error findings; the command then ends with exit code 4."""
    lines: tuple[str, ...]
    """The same for a person; names from the data are shown without control characters."""
    summary: dict[str, Any]
    """The same for a program: JSON types only, names as they are."""


def check_data(  # noqa: PLR0913 - one parameter a flag
    root: Path | str,
    section: DataSection | None = None,
    *,
    seed: int = 0,
    clip: ClipSection | None = None,
    num_frames: int = 8,
    progress: Progress | None = None,
    use_cache: bool = True,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> CheckResult:
    """Look at every file of a data set and say what was found; nothing is written to it.

    Args:
        root: The data folder.
        section: How to read and split it; by default as it looks.
        seed: Draws the splits that the data doesn't have.
        clip: How annotated frames of clips are counted.
        num_frames: T; clips with fewer frames are counted.
        progress: Called with (phase, done, total).
        use_cache: Take fingerprints of unchanged files from the audit cache.
        max_pixels: Images that declare more are quarantined undecoded.

    Raises:
        UsageError: The folder doesn't exist, or a field of `section` doesn't fit it.
        DataError: The folder can't be read as the source that `section` names.
    """
    manifest = build_manifest(
        root,
        section or DataSection(),
        seed=seed,
        clip=clip,
        progress=progress,
        use_cache=use_cache,
        max_pixels=max_pixels,
    )
    summary = summarise_manifest(manifest, num_frames=num_frames)
    return CheckResult(
        manifest=manifest, usable=not manifest.errors, lines=render_summary(summary), summary=summary
    )


def summarise_manifest(manifest: Manifest, *, num_frames: int = 8) -> dict[str, Any]:
    """Return counts, sizes, leaks and findings of a manifest as JSON types.

    Keys: ``schema``, ``root``, ``source``, ``fingerprint``, ``usable``, ``num_samples``, ``num_usable``,
    ``splits`` {split: {class: count}} of the first head, ``heads`` {head: {num_classes, num_present}},
    ``sizes`` {"short_side": {min, median, max}, "long_side": ...} in px (None without images), ``clips`` (see
    :func:`summarise_clips`; None for images), ``leaks`` (see :func:`count_leaks`), ``findings``,
    ``quarantined`` [{sample_id, reason}].
    """
    table = manifest.table
    rows = manifest.usable(None).select(["split", "width", "height", *manifest.heads]).to_pydict()
    head = next(iter(manifest.heads))
    counts = Counter(zip(rows["split"], rows[head], strict=True))
    # A published label set has names without a sample here: they are counted, and not listed.
    names = [name for name in manifest.heads[head] if any(counts[split, name] for split in SPLITS)]
    splits = {
        split: {label: counts[split, label] for label in names} for split in SPLITS if split in rows["split"]
    }
    return {
        "schema": 1,
        "root": str(manifest.root),
        "source": manifest.source,
        "fingerprint": manifest.fingerprint,
        "usable": not manifest.errors,
        "num_samples": table.num_rows,
        "num_usable": len(rows["split"]),
        "splits": splits,
        "heads": {
            head: {"num_classes": len(names), "num_present": len(set(rows[head]) - {None})}
            for head, names in manifest.heads.items()
        },
        "sizes": _summarise_sizes(rows["width"], rows["height"]),
        "clips": summarise_clips(manifest, num_frames),
        "leaks": count_leaks(manifest),
        "findings": [
            {**asdict(finding), "examples": list(finding.examples)} for finding in manifest.findings
        ],
        "quarantined": [{"sample_id": name, "reason": reason} for name, reason in manifest.rejected()],
    }


def _summarise_sizes(widths: Sequence[int], heights: Sequence[int]) -> dict[str, dict[str, int]] | None:
    if not widths:
        return None
    sides = np.sort(np.array([widths, heights]), axis=0)
    return {
        name: {"min": int(side.min()), "median": int(np.median(side)), "max": int(side.max())}
        for name, side in zip(("short_side", "long_side"), sides, strict=True)
    }


def count_leaks(manifest: Manifest) -> list[dict[str, Any]]:
    """Count the samples of one split that show an image of an earlier one.

    Returns:
        ``{"split", "seen_in", "exact", "near", "num_samples"}`` per pair of splits with any;
        ``num_samples`` is the size of ``split``.
    """
    rows = manifest.usable(None).select(["sample_id", "split", "twin_of", "twin_kind"]).to_pylist()
    split_of = {row["sample_id"]: row["split"] for row in rows}
    sizes = Counter(split_of.values())
    counts = Counter(
        (row["split"], split_of[row["twin_of"]], row["twin_kind"])
        for row in rows
        if row["twin_of"] is not None
    )
    return [
        {
            "split": split,
            "seen_in": earlier,
            "exact": counts[split, earlier, "exact"],
            "near": counts[split, earlier, "near"],
            "num_samples": sizes[split],
        }
        for split in SPLITS
        for earlier in SPLITS
        if counts[split, earlier, "exact"] + counts[split, earlier, "near"]
    ]


def render_summary(summary: dict[str, Any]) -> tuple[str, ...]:
    """Return a summary as lines of plain text for a person, the worst findings first."""
    findings = [Finding(**{**entry, "examples": tuple(entry["examples"])}) for entry in summary["findings"]]
    total = quantify(summary["num_samples"], "sample")
    lines = [f"{summary['root']} ({summary['source']}): {summary['num_usable']:,} of {total} usable"]
    if summary["sizes"]:
        lines.append("sizes: " + "; ".join(_render_size(*entry) for entry in summary["sizes"].items()))
    if summary["clips"]:
        lines += render_clips(summary["clips"])
    lines += [
        f"{head}: {counts['num_classes']:,} classes, {counts['num_present']:,} of them with samples"
        for head, counts in summary["heads"].items()
        if len(summary["heads"]) > 1
    ]
    lines += ["", *_render_splits(summary["splits"])] if summary["splits"] else []
    lines += ["", *_render_leaks(summary["leaks"])] if summary["leaks"] else []
    if findings:
        lines += ["", *(line for finding in findings for line in _render_finding(finding))]
    lines += ["", "usable" if summary["usable"] else "NOT usable as it is: see ERROR above"]
    return tuple(make_printable(line) for line in lines)


def _render_size(name: str, size: dict[str, int]) -> str:
    return f"{name.replace('_', ' ')} {size['min']}-{size['max']} px, median {size['median']}"


def _render_splits(splits: dict[str, dict[str, int]]) -> list[str]:
    labels = list(next(iter(splits.values())))
    # The smallest training classes are what a reader needs to see of a hundred.
    shown = sorted(labels, key=lambda name: min(counts[name] for counts in splits.values()))[:_SHOWN_CLASSES]
    width = max(len(make_printable(name)) for name in [*shown, "all classes"])
    lines = ["  ".join([f"{'class':<{width}}", *(f"{split:>7}" for split in splits)])]
    for name in sorted(shown):
        cells = (f"{counts[name]:>7,}" for counts in splits.values())
        lines.append("  ".join([f"{make_printable(name):<{width}}", *cells]))
    if len(labels) > len(shown):
        lines.append(f"... and {len(labels) - len(shown)} larger classes")
    totals = (f"{sum(counts.values()):>7,}" for counts in splits.values())
    return [*lines, "  ".join([f"{'all classes':<{width}}", *totals])]


def _render_leaks(leaks: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["the same image in two splits   exact   near    share"]
    for leak in leaks:
        share = (leak["exact"] + leak["near"]) / leak["num_samples"]
        pair = f"{leak['split']} seen in {leak['seen_in']}"
        lines.append(f"{pair:<30} {leak['exact']:>5,}  {leak['near']:>5,}  {share:>6.1%} of {leak['split']}")
    return lines


def _render_finding(finding: Finding) -> list[str]:
    lines = [f"{_MARKS[finding.severity]}: {finding.message} [{finding.code}]"]
    if all(repr(example) in finding.message for example in finding.examples[:_SHOWN_EXAMPLES]):
        return lines
    lines += [f"    {example}" for example in finding.examples[:_SHOWN_EXAMPLES]]
    if (hidden := finding.count - _SHOWN_EXAMPLES) > 0:
        lines.append(f"    ... and {hidden:,} more")
    return lines


def make_printable(text: str) -> str:
    r"""Return text with control and direction characters escaped, so that a name can't play tricks.

    >>> make_printable("a\nb\u202ec")
    'a\\nb\\u202ec'
    """
    return "".join(
        char if unicodedata.category(char)[0] != "C" else char.encode("unicode_escape").decode()
        for char in text
    )
