"""Explain, on clips: maps of every frame, what each frame carries, attention over time; one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.data.clips.crops import count_views
from praxiscope.data.clips.probe import probe_video
from praxiscope.data.clips.spans import Span
from praxiscope.data.clips.views import ClipRule, read_views
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.manifest import quantify
from praxiscope.errors import DataError, UsageError, did_you_mean
from praxiscope.explaining.clips import (
    compute_clip_maps,
    find_clip_layer,
    find_clip_methods,
    measure_frames,
    read_attention,
)
from praxiscope.explaining.index import Reason, clean_name, name_folder
from praxiscope.reporting.explanations.clips import ClipEntry, ClipPicture, build_clip_page, plot_clip
from praxiscope.runs import atomic
from praxiscope.stats.calibration import compute_log_softmax
from praxiscope.tensors import Heads
from praxiscope.training.watch import Watcher
from praxiscope.workflows.explain_samples import write_figure
from praxiscope.workflows.explain_subjects import Explained, read_own_predictions
from praxiscope.workflows.networks import build_clip_rule

INDEX = "clips.json"
NO_MAPS = "none"
"""Name of the method that draws no maps: which frames matter is measured all the same."""


@dataclass(frozen=True, kw_only=True)
class ChosenClip:
    """A clip to explain.

    Attributes:
        sample_id: of the manifest; of a clip from elsewhere its path.
        source: its video or folder of frames.
        span: where it lies there; None for all of it.
        true: label of each head; empty where it has none.
        split: of the manifest; None of a clip from elsewhere.
        reason: why it was chosen.
    """

    sample_id: str
    source: Path
    span: Span | None
    true: dict[str, str]
    split: str | None
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class ClipWish:
    """What is asked for.

    Attributes:
        names: sample ids, videos, folders of frames.
        random: so many samples of the split.
        failures: so many of the most confident failures.
        methods: names; Grad-CAM where None; ``none`` for no maps.
        layer: to look at; the usual one where None.
        seed: of the random draw.
        default: nothing was asked for: failures are left out where they aren't known.
    """

    names: tuple[str, ...]
    random: int
    failures: int
    methods: tuple[str, ...] | None
    layer: str | None
    seed: int
    default: bool = False


def explain_clips(
    explained: Explained, wish: ClipWish, folder: Path, watch: Watcher
) -> tuple[Path, tuple[ClipEntry, ...], tuple[tuple[str, str], ...]]:
    """Explain clips of a run, write figures, ``clips.json`` and a page.

    Returns:
        The page, the entries, and (clip, reason) of what couldn't be read.

    Raises:
        UsageError: No such sample, method or layer.
        DataError: No clip could be read, or failures are asked for where none are known.
    """
    rule = build_clip_rule(explained.recipe, explained.manifest)
    assert rule is not None
    methods = _choose_methods(explained, wish)
    chosen = choose_clips(explained, wish, watch)
    entries: list[ClipEntry] = []
    skipped: list[tuple[str, str]] = []
    for done, one in enumerate(chosen):
        try:
            entries.append(_explain_clip(explained, one, rule, methods, wish.layer, folder))
        except ImageUnreadable as problem:
            skipped.append((one.sample_id, problem.reason))
            watch.note(f"Skipped: {one.sample_id}: {problem.reason}")
        watch.phase("explaining", done + 1, len(chosen))
    if chosen and not entries:
        name, reason = skipped[0]
        raise DataError(
            f"None of {quantify(len(skipped), 'clip')} could be read, for example {name}: {reason}."
        )
    about: dict[str, Any] = {
        "model": explained.subject.label,
        "epoch": explained.epoch,
        "weights_sha256": explained.weights_sha256,
        "num_frames": rule.num_frames,
        "views": count_views(rule.section),
    }
    atomic.write_json(
        folder / INDEX, {"schema": 1, "about": about, "entries": [entry.to_dict() for entry in entries]}
    )
    return build_clip_page(folder, about, entries), tuple(entries), tuple(skipped)


def _choose_methods(explained: Explained, wish: ClipWish) -> tuple[str, ...]:
    if wish.methods == (NO_MAPS,):
        if wish.layer is not None:
            raise UsageError(
                f"--layer {wish.layer}: --method {NO_MAPS} draws no maps; leave one of them out."
            )
        return ()
    find_clip_layer(explained.subject, wish.layer)
    return tuple(
        method.name for method in find_clip_methods(list(wish.methods or ()) or None, explained.subject)
    )


def choose_clips(explained: Explained, wish: ClipWish, watch: Watcher) -> list[ChosenClip]:
    """Return the clips to explain: those named, failures, then random ones; each once."""
    rows = {row["sample_id"]: row for row in explained.manifest.table.to_pylist()}
    chosen = [_choose_named(explained, rows, name) for name in dict.fromkeys(wish.names)]
    taken = {one.sample_id for one in chosen}
    if wish.failures:
        try:
            wrong = [name for name in rank_failures(explained) if name not in taken][: wish.failures]
        except DataError as problem:
            if not wish.default:
                raise
            watch.note(f"No failures shown: {problem}")
            wrong = []
        if len(wrong) < wish.failures:
            found = quantify(len(wrong), "failure")
            watch.note(f"Only {found} of {wish.failures} asked for: there are no more.")
        chosen += [_choose_row(explained, rows[name], "failure") for name in wrong]
        taken |= set(wrong)
    ids = explained.samples.sample_ids
    order = np.random.default_rng(wish.seed).permutation(len(ids)).tolist()
    drawn = [ids[row] for row in order if ids[row] not in taken][: wish.random]
    return chosen + [_choose_row(explained, rows[name], "random") for name in drawn]


def rank_failures(explained: Explained) -> list[str]:
    """Return ids of samples of which a head's answer is wrong, the most confident answers first.

    Raises:
        DataError: There are no predictions of these weights on the split.
    """
    predictions = read_own_predictions(explained)
    confidence, wrong = np.zeros(len(predictions)), np.zeros(len(predictions), bool)
    for head in predictions.heads:
        confidence += compute_log_softmax(predictions.logits(head)).max(axis=1)
        wrong |= predictions.preds(head) != predictions.targets(head)
    ranked = np.argsort(-confidence, kind="stable")
    known = set(explained.samples.sample_ids)
    ids = predictions.sample_ids
    return [ids[row] for row in ranked.tolist() if wrong[row] and ids[row] in known]


def _choose_named(explained: Explained, rows: dict[str, dict[str, Any]], name: str) -> ChosenClip:
    if name in rows:
        return _choose_row(explained, rows[name], "named")
    path = Path(name).expanduser()
    if not path.exists():
        raise UsageError(
            f"'{name}' is neither a sample of the run ({quantify(len(rows), 'id')}, such as "
            f"'{next(iter(rows))}') nor a video or a folder of frames.{did_you_mean(name, list(rows))}"
        )
    return ChosenClip(
        sample_id=str(path.resolve()), source=path, span=None, true={}, split=None, reason="named"
    )


def _choose_row(explained: Explained, row: dict[str, Any], reason: Reason) -> ChosenClip:
    return ChosenClip(
        sample_id=row["sample_id"],
        source=explained.manifest.root / row["path"],
        span=Span(first=row["first_frame"], count=row["num_frames"]),
        true={head: row[head] for head in explained.manifest.heads},
        split=row["split"],
        reason=reason,
    )


def _explain_clip(
    explained: Explained,
    one: ChosenClip,
    rule: ClipRule,
    methods: Sequence[str],
    layer: str | None,
    folder: Path,
) -> ClipEntry:
    span = one.span or _measure_span(one.source)
    views, _ = read_views(
        one.source, span, rule, explained.transform, max_pixels=explained.recipe.loader.max_pixels
    )
    numbers = (rule.list_views(span.count)[0] + span.first).tolist()
    clips, heads = views[:1], Heads(names=explained.manifest.heads)
    answers = heads.split_logits(explained.subject.compute_logits(clips))
    places = {head: int(logits[0].argmax()) for head, logits in answers.items()}
    labels = {head: heads.names[head][place] for head, place in places.items()}
    pictures, files = {}, {}
    for head, place in places.items():
        wrong = one.true.get(head, labels[head]) != labels[head]
        title = f"{one.sample_id}: {head} {labels[head]}" + (f", true {one.true[head]}" if wrong else "")
        goal = np.array([heads.columns[head].start + place])
        pictures[head] = _draw(explained, clips, goal, numbers, methods, layer, title)
        files[head] = f"{name_folder(one.sample_id)}/epoch{explained.epoch:02d}-{clean_name(head)}.png"
        (folder / files[head]).parent.mkdir(parents=True, exist_ok=True)
        write_figure(plot_clip(pictures[head]), folder / files[head])
    attention = next(iter(pictures.values())).attention
    return ClipEntry(
        sample_id=one.sample_id,
        reason=one.reason,
        split=one.split,
        true=one.true,
        predicted=labels,
        probability={
            head: float(np.exp(compute_log_softmax(logits).max())) for head, logits in answers.items()
        },
        frames=tuple(numbers),
        evidence={
            head: {name: share.tolist() for name, share in picture.evidence.items()}
            for head, picture in pictures.items()
        },
        effects={head: picture.effects.tolist() for head, picture in pictures.items()},
        attention=None if attention is None else attention.tolist(),
        files=files,
    )


def _measure_span(source: Path) -> Span:
    try:
        count, _ = probe_video(source)
    except OSError as problem:
        raise ImageUnreadable(str(problem.strerror), source) from problem
    if not count:
        raise ImageUnreadable("holds no frames", source)
    return Span(first=0, count=count)


def _draw(
    explained: Explained,
    clips: npt.NDArray[np.uint8],
    goal: npt.NDArray[np.int64],
    numbers: Sequence[int],
    methods: Sequence[str],
    layer: str | None,
    title: str,
) -> ClipPicture:
    attention = read_attention(explained.subject, clips)
    found = {name: compute_clip_maps(explained.subject, name, clips, goal, layer=layer) for name in methods}
    return ClipPicture(
        frames=clips[0],
        numbers=numbers,
        maps={name: maps.maps[0] for name, maps in found.items()},
        evidence={name: maps.evidence[0] for name, maps in found.items()},
        effects=measure_frames(explained.subject, clips, goal)[0],
        attention=None if attention is None else attention[0],
        title=title,
    )
