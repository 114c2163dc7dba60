"""What the network is shown: frames, augmented samples, numbers, labels, the audit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import torch

from praxiscope.data.clips.sampling import count_distinct, draw_indices, list_views
from praxiscope.data.plan import FRAME_STREAM, BatchPlan
from praxiscope.debugging.result import Check, Montage, Pixels, Status, Table, name_some
from praxiscope.debugging.subject import Subject
from praxiscope.stats.joint import index_joint

_SHOWN = 6
_SHOWN_CLIPS = 4
_MEAN_RANGE, _STD_RANGE = 3.0, (0.05, 5.0)


def check_frames(subject: Subject) -> Check:
    """Print which frames of some clips the network sees, in training and in evaluation."""
    recipe, samples = subject.recipe, subject.train.samples
    frames = recipe.model.num_frames
    assert frames is not None  # clips have it
    rows, short, coinciding = [], 0, 0
    for place, span in enumerate(samples.spans):
        views = list_views(span.count, frames, recipe.clip)
        short += span.count < frames
        coinciding += count_distinct(views) < len(views)
        if place < _SHOWN:
            rng = np.random.default_rng([recipe.seed, 0, FRAME_STREAM, place])
            drawn = draw_indices(span.count, frames, recipe.clip, rng)
            rows.append(
                (
                    samples.sample_ids[place],
                    span.count,
                    _join(drawn + span.first),
                    _join(views[0] + span.first),
                )
            )
    count = len(samples)
    problems = (
        [f"{short:,} of {count:,} have fewer than {frames} frames, so some are seen twice"] if short else []
    )
    if coinciding:
        problems.append(f"{coinciding:,} show the same frames in several of {recipe.clip.num_clips} views")
    first = rows[0]
    line = f"T = {frames}, {recipe.clip.sampling}: {first[0]} of {first[1]} frames -> {first[2]}"
    return Check(
        name="frames",
        status="warning" if problems else "ok",
        line="; ".join([line, *problems]),
        rule="Indices count the video's frames from 0, a clip's first frame included. A clip shorter than T "
        "repeats frames; nothing is padded with black.",
        figures={"num_frames": frames, "short_clips": short, "coinciding_views": coinciding},
        tables=(
            Table(
                title="Sampled frames",
                columns=("clip", "frames", "in training (epoch 1)", "in evaluation (first view)"),
                rows=tuple(rows),
            ),
        ),
    )  # fmt: skip


def check_samples(subject: Subject) -> Check:
    """Show augmented samples beside what evaluation sees of them."""
    shown = min(_SHOWN_CLIPS if subject.holds_clips else _SHOWN, len(subject.clean.rows))
    plans = [BatchPlan(epoch=epoch, rows=subject.plans[0].rows[:shown]) for epoch in range(3)]
    draws = [subject.read_augmented(plan).images for plan in plans]
    names = _name_targets(subject)
    rows: list[tuple[str, tuple[Pixels, ...]]] = []
    for place in range(shown):
        name = names[place]
        if subject.holds_clips:
            rows.append((f"{name}: evaluation", _to_frames(subject.clean.images[place])))
            rows += [(f"epoch {n}", _to_frames(draw[place])) for n, draw in enumerate(draws[:2], 1)]
        else:
            rows.append((name, tuple(_to_pixels(each[place]) for each in (subject.clean.images, *draws))))
    changed = [bool((draw[place] != draws[0][place]).any()) for draw in draws[1:] for place in range(shown)]
    still = not any(changed)
    what = (
        "a row a clip, its frames from left to right"
        if subject.holds_clips
        else "evaluation | epochs 1, 2, 3"
    )
    line = f"{shown} samples drawn {len(draws)} times, {sum(changed)} of {len(changed)} redraws differ"
    if still and len(subject.train.samples) > 1:
        line = f"augmentation changes nothing: {shown} samples look the same in epochs 1, 2 and 3"
    return Check(
        name="samples",
        status="warning" if still and _augments(subject) else "ok",
        line=line,
        rule="What a person can't recognise here a network can't learn. All frames of a clip have one draw.",
        figures={"redraws": len(changed), "redraws_that_differ": sum(changed)},
        pictures=(Montage(name="samples", title=f"Training samples ({what})", rows=tuple(rows)),),
    )


def _augments(subject: Subject) -> bool:
    augment = subject.recipe.augment
    return bool(augment.hflip or augment.policy != "none" or augment.crop_scale != (1.0, 1.0))


def check_input(subject: Subject) -> Check:
    """Look at the numbers that go in: range, mean and standard deviation of each channel."""
    images, _ = subject.feed(subject.clean)
    values = images.float()
    axis = values.ndim - 3
    dims = [d for d in range(values.ndim) if d != axis]
    means, stds = values.mean(dim=dims).tolist(), values.std(dim=dims).tolist()
    low, high = float(values.min()), float(values.max())
    raw = subject.clean.images
    problems = []
    if not bool(torch.isfinite(values).all()):
        problems.append("there are numbers that are not finite")
    if max(abs(low), abs(high)) > 20:
        problems.append("that is the scale of 0..255: pixels were not divided by 255, or not normalised")
    elif max(map(abs, means)) > _MEAN_RANGE:
        problems.append(f"a channel's mean is beyond {_MEAN_RANGE:g} standard deviations")
    elif not all(_STD_RANGE[0] <= std <= _STD_RANGE[1] for std in stds):
        problems.append(f"a channel's spread is outside {_STD_RANGE[0]:g} to {_STD_RANGE[1]:g}")
    if raw.dtype == torch.uint8 and int(raw.max()) <= 1:
        problems.append("all pixels are 0 or 1: they were divided by 255 twice, or are a mask")
    shown = ", ".join(f"{mean:+.2f} +- {std:.2f}" for mean, std in zip(means, stds, strict=True))
    line = f"input {tuple(images.shape[1:])} in [{low:.2f}, {high:.2f}], channels {shown}"
    return Check(
        name="input",
        status="fault" if problems else "ok",
        line="; ".join([line, *problems]),
        rule="Normalised pixels lie within a few units of 0 with a spread near 1. Whether red and blue are "
        "swapped, numbers can't tell: look at the samples.",
        figures={"shape": list(images.shape), "minimum": low, "maximum": high, "means": means, "stds": stds},
    )


def check_data(subject: Subject) -> Check:
    """Sum up the audit; of clips, show first and last frame."""
    manifest = subject.manifest
    counts = Counter(finding.severity for finding in manifest.findings)
    splits = {split: manifest.usable(split).num_rows for split in ("train", "val", "test")}
    sizes = ", ".join(f"{count:,} {split}" for split, count in splits.items())
    rejected = manifest.rejected()
    status: Status = "fault" if counts["error"] else "warning" if counts["warning"] or rejected else "ok"
    line = f"{sizes}; {counts['error']} errors, {counts['warning']} warnings, {len(rejected)} left out"
    worst = next((f for f in manifest.findings if f.severity in {"error", "warning"}), None)
    pictures = (_show_ends(subject),) if subject.holds_clips else ()
    return Check(
        name="data",
        status=status,
        line=line if worst is None else f"{line}. {worst.message}",
        rule="Every file was opened, hashed and compared. 'praxiscope data check' says more.",
        figures={"samples": splits, "findings": dict(counts), "left_out": len(rejected)},
        tables=(
            Table(
                title="Findings",
                columns=("severity", "code", "what", "examples"),
                rows=tuple((f.severity, f.code, f.message, name_some(f.examples)) for f in manifest.findings),
            ),
        ),
        pictures=pictures,
    )


def _show_ends(subject: Subject) -> Montage:
    """Return the first and the last of the frames that evaluation sees of some clips."""
    rows = []
    names = _name_targets(subject)
    for place in range(min(_SHOWN, len(names))):
        frames = _to_frames(subject.clean.images[place])
        sample = subject.train.samples.sample_ids[subject.clean.rows[place]]
        rows.append((f"{names[place]}: {sample}", (frames[0], frames[-1])))
    return Montage(name="ends", title="First and last sampled frame", rows=tuple(rows))


def check_labels(subject: Subject) -> Check:
    """See that a sample keeps its label in any batch, that labels vary, and that batches are mixed."""
    samples = subject.train.samples
    problems: list[str] = []
    rows = subject.plans[0].rows
    backwards = subject.read_plain(BatchPlan(epoch=0, rows=tuple(reversed(rows))))
    first = dict(zip(subject.clean.rows, subject.clean.targets.tolist(), strict=True))
    again = dict(zip(backwards.rows, backwards.targets.tolist(), strict=True))
    moved = [samples.sample_ids[row] for row in rows if first[row] != again[row]]
    if moved:
        problems.append(f"{len(moved)} samples have another label in another batch ({name_some(moved)})")
    if not torch.equal(subject.clean.images, backwards.images.flip(0)):
        problems.append("samples look otherwise in another batch, without augmentation")
    labels = samples.targets if samples.targets.ndim == 1 else index_joint(samples.targets)
    counts = np.bincount(labels)
    most = float(counts.max() / counts.sum())
    if most == 1.0:
        problems.append("all training samples have the same label: there is nothing to learn")
    astray = _find_astray(subject)
    if astray:
        problems.append(f"{len(astray)} samples lie in a folder of another class ({name_some(astray)})")
    mixed, expected = _measure_mixing(labels, subject)
    if mixed > expected + 0.3:
        problems.append(
            f"{100 * mixed:.0f} % of neighbours in the epoch's order share a label: it isn't shuffled"
        )
    line = (
        f"{len(counts)} labels, the most frequent on {100 * most:.0f} % of training; neighbours share one in "
        f"{100 * mixed:.0f} % ({100 * expected:.0f} % by chance)"
    )
    return Check(
        name="labels",
        status="fault" if problems else "ok",
        line="; ".join([line, *problems]),
        rule="A label is an index by name, the same for every split; it must not depend on the batch.",
        figures={"largest_share": most, "neighbours_alike": mixed, "by_chance": expected},
    )  # fmt: skip


def _find_astray(subject: Subject) -> list[str]:
    """Return samples of a source of class folders whose folder isn't called as their label."""
    if subject.manifest.source != "folder" or len(subject.heads.names) != 1:
        return []
    table = subject.manifest.usable(None)
    head = next(iter(subject.heads.names))
    pairs = zip(table["sample_id"].to_pylist(), table[head].to_pylist(), strict=True)
    return [name for name, label in pairs if label not in name.split("/")[:-1]]


def _measure_mixing(labels: npt.NDArray[np.int64], subject: Subject) -> tuple[float, float]:
    """Return how many neighbours in the first epoch's order share a label, and how many would by chance."""
    order = [row for plan in subject.plans for row in plan.rows]
    shown = labels[order]
    if len(shown) < 2:
        return 0.0, 0.0
    shares = np.bincount(labels) / len(labels)
    return float((shown[1:] == shown[:-1]).mean()), float((shares**2).sum())


def _name_targets(subject: Subject) -> list[str]:
    """Return the label of each sample of the first batch, of several heads joined."""
    targets = subject.heads.split_targets(subject.clean.targets)
    names = []
    for place in range(len(subject.clean.rows)):
        labels = [subject.heads.names[head][int(own[place])] for head, own in targets.items()]
        names.append(" ".join(labels))
    return names


def _to_pixels(image: torch.Tensor) -> Pixels:
    pixels: Pixels = image.permute(1, 2, 0).contiguous().numpy()
    return pixels


def _to_frames(clip: torch.Tensor) -> tuple[Pixels, ...]:
    return tuple(_to_pixels(frame) for frame in clip)


def _join(indices: npt.NDArray[np.int64]) -> str:
    return " ".join(map(str, indices.tolist()))
