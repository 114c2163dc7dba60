"""Explain, on clips: maps of every frame, what each frame carries, attention over time; one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from praxiscope.data.clips.crops import count_views
from praxiscope.data.clips.probe import survey_video
from praxiscope.data.clips.spans import Span
from praxiscope.data.clips.views import ClipRule, read_views
from praxiscope.data.images import ImageUnreadable
from praxiscope.data.manifest import quantify
from praxiscope.errors import DataError, UsageError
from praxiscope.explaining.clip_index import ClipEntry, add_to_clip_index, read_clip_index
from praxiscope.explaining.clips import (
    collect_frame_activations,
    compute_clip_maps,
    describe_empty,
    describe_steps,
    find_clip_layer,
    find_clip_methods,
    measure_frames,
    read_attention,
    takes_frames,
)
from praxiscope.explaining.index import FigureFile, Neighbour, clean_name, name_folder
from praxiscope.explaining.kernels import collect_kernels, list_convolutions
from praxiscope.reporting.explanations.activations import plot_activations
from praxiscope.reporting.explanations.clips import ClipPicture, build_clip_page, plot_clip
from praxiscope.reporting.explanations.kernels import plot_kernels
from praxiscope.stats.calibration import compute_log_softmax
from praxiscope.tensors import Heads
from praxiscope.training.watch import Watcher
from praxiscope.workflows.explain_clip_choice import ChosenClip, ClipWish, choose_clips
from praxiscope.workflows.explain_features import Library, open_library, write_nearest
from praxiscope.workflows.explain_network import Keep, draw_embedding, draw_histograms
from praxiscope.workflows.explain_samples import write_figure
from praxiscope.workflows.explain_subjects import Explained

NO_MAPS = "none"
"""Name of the method that draws no maps: which frames matter is measured all the same."""
MAX_DRAWN = 12
"""Of more clips, only these many get figures of their activations: they take seconds each."""


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is done with each clip."""

    rule: ClipRule
    methods: tuple[str, ...]
    layer: str | None
    library: Library | None
    folder: Path
    watch: Watcher


def explain_clips(
    explained: Explained, wish: ClipWish, folder: Path, watch: Watcher
) -> tuple[Path, tuple[ClipEntry, ...], tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Explain clips of a run, write figures, ``clips.json`` and a page; what was explained before stays.

    Returns:
        The page, the entries, (clip, reason) of what couldn't be read, and findings in sentences.

    Raises:
        UsageError: No such sample, method or layer.
        DataError: No clip could be read, or failures are asked for where none are known.
        IntegrityError: The ``clips.json`` that is there is damaged.
    """
    rule = explained.clip_rule
    assert rule is not None
    methods = _choose_methods(explained, wish, watch)
    chosen = choose_clips(explained, wish, watch)
    library = open_library(explained, folder, wish.nearest, watch) if wish.nearest and chosen else None
    plan = _Plan(rule=rule, methods=methods, layer=wish.layer, library=library, folder=folder, watch=watch)
    about: dict[str, Any] = {
        "model": explained.subject.label,
        "folder": str(explained.run.path),
        "epoch": explained.epoch,
        "num_frames": rule.num_frames,
        "views": count_views(rule.section),
    }
    figures = _draw_kernels(explained, folder, watch) if wish.activations else []
    add_to_clip_index(folder, figures=figures, about=about)
    entries: list[ClipEntry] = []
    skipped: list[tuple[str, str]] = []
    for done, one in enumerate(chosen):
        try:
            entry = _explain_clip(explained, one, plan, draw=wish.activations and len(entries) < MAX_DRAWN)
        except ImageUnreadable as problem:
            skipped.append((one.sample_id, problem.reason))
            watch.note(f"Skipped: {one.sample_id}: {problem.reason}")
        else:
            entries.append(entry)
            add_to_clip_index(folder, entries=[entry], about=about)
        watch.phase("explaining", done + 1, len(chosen))
    if chosen and not entries:
        name, reason = skipped[0]
        raise DataError(
            f"None of {quantify(len(skipped), 'clip')} could be read, for example {name}: {reason}."
            + (" If the data folder has moved, pass --data." if any(one.split for one in chosen) else "")
        )
    if wish.activations and len(entries) > MAX_DRAWN:
        watch.note(f"Activations are drawn of the first {MAX_DRAWN} of {len(entries)} clips.")
    keep: Keep = partial(add_to_clip_index, folder, about=about)
    findings: tuple[str, ...] = ()
    if wish.embedding:
        draw_embedding(explained, folder, keep, watch)
    if wish.histograms:
        findings = draw_histograms(explained, folder, keep, seed=wish.seed, watch=watch)
    page = build_clip_page(folder, read_clip_index(folder))
    return page, tuple(entries), tuple(skipped), findings


def _choose_methods(explained: Explained, wish: ClipWish, watch: Watcher) -> tuple[str, ...]:
    if wish.methods == (NO_MAPS,):
        if wish.layer is not None:
            raise UsageError(
                f"--layer {wish.layer}: --method {NO_MAPS} draws no maps; leave one of them out."
            )
        return ()
    subject = explained.subject
    methods = find_clip_methods(list(wish.methods or ()) or None, subject)
    told = describe_steps(subject, find_clip_layer(subject, wish.layer))
    if told is not None:
        watch.note(told)
    return tuple(method.name for method in methods)


def _draw_kernels(explained: Explained, folder: Path, watch: Watcher) -> list[FigureFile]:
    """Draw kernels of the backbone, and say what isn't drawn of this network."""
    subject = explained.subject
    if not takes_frames(subject):
        watch.note(
            f"No activations and kernels: the layers of {type(subject.module).__name__} join frames, and "
            "what they hold isn't drawn yet."
        )
        return []
    if not list_convolutions(subject.module):
        watch.note(f"No kernels: {type(subject.module).__name__} has no 2D convolution.")
        return []
    figure = FigureFile(kind="kernels", title="Kernels", file=f"epoch{explained.epoch:02d}-kernels.png")
    write_figure(plot_kernels(collect_kernels(subject.module)), folder / figure.file)
    return [figure]


def _explain_clip(explained: Explained, one: ChosenClip, plan: _Plan, *, draw: bool) -> ClipEntry:
    """Explain one clip: its files, then what the index says of it."""
    rule, span = plan.rule, one.span or _measure_span(one.source, plan.watch)
    views, _ = read_views(
        one.source, span, rule, explained.transform, max_pixels=explained.recipe.loader.max_pixels
    )
    clip = views[0]
    numbers = (rule.list_views(span.count)[0] + span.first).tolist()
    slug = name_folder(one.sample_id)
    (plan.folder / slug).mkdir(parents=True, exist_ok=True)
    heads = Heads(names=explained.manifest.heads)
    answers = heads.split_logits(explained.subject.compute_logits(views[:1]))
    places = {head: int(logits[0].argmax()) for head, logits in answers.items()}
    labels = {head: heads.names[head][place] for head, place in places.items()}
    attention = read_attention(explained.subject, views[:1])
    pictures, files = {}, {}
    for head, place in places.items():
        wrong = one.true.get(head, labels[head]) != labels[head]
        title = f"{one.sample_id}: {head} {labels[head]}" + (f", true {one.true[head]}" if wrong else "")
        goal = np.array([heads.columns[head].start + place])
        pictures[head] = _picture(explained, views[:1], goal, numbers, plan, attention, title)
        files[head] = f"epoch{explained.epoch:02d}-{clean_name(head)}.png"
        write_figure(plot_clip(pictures[head]), plan.folder / slug / files[head])
    return ClipEntry(
        sample_id=one.sample_id,
        reason=one.reason,
        split=one.split,
        epoch=explained.epoch,
        weights_sha256=explained.weights_sha256,
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
        attention=None if attention is None else attention[0].tolist(),
        slug=slug,
        files=files,
        activations=_draw_activations(explained, clip, plan.folder / slug) if draw else None,
        neighbours=_find_neighbours(explained, clip, one.sample_id, plan.library, plan.folder / slug),
        num_compared=0 if plan.library is None else plan.library.size,
    )


def _measure_span(source: Path, watch: Watcher) -> Span:
    try:
        count, _, broken = survey_video(source)
    except OSError as problem:
        raise ImageUnreadable(str(problem.strerror), source) from problem
    if not count:
        raise ImageUnreadable("holds no frames", source)
    if broken is not None:
        watch.note(f"Broke off: {source} after {count} frames: {broken}; explained up to there.")
    return Span(first=0, count=count)


def _picture(
    explained: Explained,
    clips: npt.NDArray[np.uint8],
    goal: npt.NDArray[np.int64],
    numbers: Sequence[int],
    plan: _Plan,
    attention: npt.NDArray[np.float32] | None,
    title: str,
) -> ClipPicture:
    subject = explained.subject
    found = {name: compute_clip_maps(subject, name, clips, goal, layer=plan.layer) for name in plan.methods}
    for maps in found.values():
        if (empty := describe_empty(maps)) is not None:
            plan.watch.note(f"{title}: {empty}")
    return ClipPicture(
        frames=clips[0],
        numbers=numbers,
        maps={name: maps.maps[0] for name, maps in found.items()},
        evidence={name: maps.evidence[0] for name, maps in found.items()},
        effects=measure_frames(subject, clips, goal)[0],
        attention=None if attention is None else attention[0],
        title=title,
    )


def _draw_activations(explained: Explained, clip: npt.NDArray[np.uint8], folder: Path) -> str | None:
    found = collect_frame_activations(explained.subject, clip, len(clip) // 2)
    if found is None:
        return None
    file = f"epoch{explained.epoch:02d}-activations.png"
    write_figure(plot_activations(found), folder / file)
    return file


def _find_neighbours(
    explained: Explained,
    clip: npt.NDArray[np.uint8],
    sample_id: str,
    library: Library | None,
    folder: Path,
) -> tuple[Neighbour, ...]:
    if library is None:
        return ()
    (nearest,) = library.find_nearest(explained, clip[None], [sample_id])
    return write_nearest(nearest, folder, explained.epoch)
