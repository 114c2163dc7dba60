"""Explain: what a run's network looks at, sample by sample, kept under ``explain/`` of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from praxiscope.data.images import ImageUnreadable
from praxiscope.data.manifest import quantify
from praxiscope.errors import DataError, EnvironmentProblem, UsageError
from praxiscope.explaining.clip_index import ClipEntry
from praxiscope.explaining.index import Entry
from praxiscope.reporting.explanations.page import build_explain_pages
from praxiscope.runs.find import find_run
from praxiscope.runs.rundir import RunDir
from praxiscope.training.watch import Silent, Watcher
from praxiscope.workflows.explain_clip_choice import ClipWish
from praxiscope.workflows.explain_clips import explain_clips
from praxiscope.workflows.explain_features import open_library
from praxiscope.workflows.explain_network import (
    draw_embedding,
    draw_histograms,
    draw_kernels,
    keep_in_index,
    measure_network,
    require_masks,
)
from praxiscope.workflows.explain_samples import Plan, choose_looks, explain_batch
from praxiscope.workflows.explain_subjects import (
    Chosen,
    Explained,
    Seen,
    choose_failures,
    choose_named,
    choose_random,
    open_explained,
    read_picture,
)

DEFAULT_RANDOM = DEFAULT_FAILURES = 4
MAX_DRAWN = 12
"""Of more pictures, only these many get figures of their activations: they take seconds each."""
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class ExplainOutcome:
    """What was explained.

    Attributes:
        run: the run.
        folder: of everything that was written.
        page: ``index.html`` there.
        entries: the samples explained this time.
        skipped: (picture, reason) of what couldn't be read.
        findings: what ``histograms``, ``measure`` and ``reliance`` found, in sentences.
    """

    run: RunDir
    folder: Path
    page: Path
    entries: tuple[Entry, ...] | tuple[ClipEntry, ...]
    skipped: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]


def explain(  # noqa: C901, PLR0913 - one parameter a flag, and a step for most of them
    run: RunDir | Path | str,
    samples: Sequence[str | Path] = (),
    *,
    random: int = 0,
    failures: int = 0,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    split: str = "test",
    activations: bool = True,
    nearest: int = 5,
    embedding: bool = False,
    histograms: bool = False,
    measure: int = 0,
    masks: Path | str | None = None,
    reliance: bool = False,
    data: Path | str | None = None,
    output: Path | str | None = None,
    runs: Path | str = "runs",
    seed: int = 0,
    device: str | None = None,
    watch: Watcher | None = None,
) -> ExplainOutcome:
    """Explain samples of a run: saliency maps and a page to flip through them.

    Where nothing is named or asked for, 4 random samples and the 4 most confident failures are explained.
    What was explained before stays; files of the same name are replaced.

    Args:
        run: A run, its folder, or ``recipe@latest``.
        samples: Sample ids of the manifest, or picture files from anywhere.
        random: So many samples of the split, drawn by `seed`.
        failures: So many of the most confident failures of the split.
        methods: Names of saliency methods; the network family's usual ones by default.
        layers: Layers to look at, for maps and activations; the usual one and two before it by default.
        split: ``test``, ``val`` or ``train``.
        activations: Draw activations and kernels; of the first 12 pictures.
        nearest: So many of the nearest training images by feature, among 2,000 drawn at random; 0 for none.
        embedding: Map the features of the whole split in two dimensions.
        histograms: Draw distributions of activations and gradients over a sample of the split.
        measure: Measure the methods on so many samples of the split; 0 for not at all.
        masks: Folder of masks of the actors, named like the samples; the manifest's own by default.
        reliance: Measure how far the network relies on the background; needs masks.
        data: Where the data folder is now, if it has moved.
        output: Folder for everything; ``explain/`` of the run by default.
        runs: Folder of all runs, for names.
        seed: Of every draw of samples.
        device: As for ``train``.
        watch: Follows progress.

    Raises:
        UsageError: No such run, sample, picture, method or layer; a video.
        DataError: No picture could be read, or failures are asked for where none are known.
        IntegrityError: No sound checkpoint, or a damaged index.
        EnvironmentProblem: No such device, a folder that can't be written, or a full disk.
    """
    watch = watch or Silent()
    counts = {"random": random, "failures": failures, "nearest": nearest, "measure": measure}
    for name, value in counts.items():
        if value < 0:
            raise UsageError(f"--{name} {value}: must be 0 or more.")
    if masks is not None and not (measure or reliance):
        raise UsageError("--masks is for --measure and --reliance, and neither is asked for: add one.")
    found = run if isinstance(run, RunDir) else find_run(str(run), root=Path(runs))
    explained = open_explained(found, device=device, data=data, split=split, watch=watch)
    if explained.manifest.holds_clips:
        _refuse_on_clips({"measure": measure, "reliance": reliance}, layers)
        wish = _wish_clips(samples, (random, failures), methods, layers, seed, embedding or histograms)
        wish = replace(
            wish, nearest=nearest, activations=activations, embedding=embedding, histograms=histograms
        )
        return _explain_clips(explained, wish, output, watch)
    looks = choose_looks(explained, methods, layers, watch)
    if reliance or masks is not None:
        require_masks(explained, masks)
    if measure and layers and len(layers) > 1:
        watch.note(f"Methods are measured at {layers[0]} only, the first one named; run --measure for each.")
    only_network = bool(embedding or histograms or measure or reliance)
    chosen = _choose(explained, samples, (random, failures), seed, watch, default=not only_network)
    folder = _make_folder(found.explain if output is None else Path(output).expanduser())
    library = open_library(explained, folder, nearest, watch) if nearest and chosen else None
    plan = Plan(
        folder=folder,
        looks=looks,
        draw=MAX_DRAWN if activations else 0,
        layers=tuple(layers) if layers else None,
        library=library,
    )
    entries, skipped = _explain_all(explained, chosen, plan, watch)
    keep = keep_in_index(explained, folder)
    if activations:
        draw_kernels(explained, folder, layers or ())
    if embedding:
        draw_embedding(explained, folder, keep, watch)
    findings: tuple[str, ...] = ()
    if histograms:
        findings = draw_histograms(explained, folder, keep, seed=seed, watch=watch)
    if measure or reliance:
        findings += measure_network(
            explained,
            list(dict.fromkeys(look.method for look in looks)),
            folder,
            count=measure,
            layer=layers[0] if layers else None,
            masks=masks,
            reliance=reliance,
            seed=seed,
            watch=watch,
        )
    page = build_explain_pages(folder)
    return ExplainOutcome(
        run=found, folder=folder, page=page, entries=entries, skipped=skipped, findings=findings
    )


def _wish_clips(
    samples: Sequence[str | Path],
    counts: tuple[int, int],
    methods: Sequence[str] | None,
    layers: Sequence[str] | None,
    seed: int,
    only_network: bool,
) -> ClipWish:
    plain = not (samples or any(counts) or only_network)
    return ClipWish(
        names=tuple(map(str, samples)),
        random=DEFAULT_RANDOM if plain else counts[0],
        failures=DEFAULT_FAILURES if plain else counts[1],
        methods=tuple(methods) if methods else None,
        layer=layers[0] if layers else None,
        seed=seed,
        default=plain,
    )


def _explain_clips(
    explained: Explained, wish: ClipWish, output: Path | str | None, watch: Watcher
) -> ExplainOutcome:
    folder = _make_folder(explained.run.explain if output is None else Path(output).expanduser())
    page, entries, skipped, findings = explain_clips(explained, wish, folder, watch)
    return ExplainOutcome(
        run=explained.run, folder=folder, page=page, entries=entries, skipped=skipped, findings=findings
    )


def _refuse_on_clips(asked: Mapping[str, object], layers: Sequence[str] | None) -> None:
    for name, value in asked.items():
        if value:
            raise UsageError(
                f"--{name} looks at single images, and this run's samples are clips. Leave it out: what the "
                "answer loses without each frame is measured anyway."
            )
    if layers and len(layers) > 1:
        raise UsageError(f"--layer {', '.join(layers)}: clips are explained at one layer; name one.")


def _make_folder(folder: Path) -> Path:
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file; name a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EnvironmentProblem(
            f"Can't make the folder {folder}: {problem.strerror}. Choose another with --output."
        ) from problem
    if not os.access(folder, os.W_OK):
        raise EnvironmentProblem(f"The folder {folder} can't be written. Choose another with --output.")
    return folder


def _choose(
    explained: Explained,
    names: Sequence[str | Path],
    counts: tuple[int, int],
    seed: int,
    watch: Watcher,
    *,
    default: bool,
) -> list[Chosen]:
    """Return the pictures to explain: those named, failures, then random ones; each once."""
    random, failures = counts
    asked = bool(names or random or failures)
    if not asked and default:
        random, failures = DEFAULT_RANDOM, DEFAULT_FAILURES
    chosen = choose_named(explained, names)
    if failures:
        chosen += _choose_failures(explained, failures, chosen, watch, required=asked)
    drawn = choose_random(explained, random, seed=seed, without={one.sample_id for one in chosen})
    if len(drawn) < random:
        watch.note(f"Only {quantify(len(drawn), 'random sample')} of {random} asked for: there are no more.")
    return chosen + drawn


def _choose_failures(
    explained: Explained, count: int, chosen: Sequence[Chosen], watch: Watcher, *, required: bool
) -> list[Chosen]:
    try:
        wrong = choose_failures(explained, count, without={one.sample_id for one in chosen})
    except DataError as problem:
        if required:
            raise
        watch.note(f"No failures shown: {problem}")
        return []
    if len(wrong) < count:
        watch.note(f"Only {quantify(len(wrong), 'failure')} of {count} asked for: there are no more.")
    return wrong


def _explain_all(
    explained: Explained, chosen: Sequence[Chosen], plan: Plan, watch: Watcher
) -> tuple[tuple[Entry, ...], tuple[tuple[str, str], ...]]:
    """Explain what can be read, batch by batch; return the entries, and what couldn't be read."""
    skipped: list[tuple[str, str]] = []
    entries: list[Entry] = []
    for batch in _read_batches(explained, chosen, skipped, watch):
        left = max(plan.draw - len(entries), 0)
        entries += explain_batch(explained, batch, replace(plan, draw=left))
        watch.phase("explaining", len(entries), len(chosen) - len(skipped))
    if chosen and not entries:
        name, reason = skipped[0]
        raise DataError(
            f"None of {quantify(len(skipped), 'picture')} could be read, for example {name}: {reason}."
            + (" If the data folder has moved, pass --data." if any(one.split for one in chosen) else "")
        )
    if plan.draw and len(entries) > plan.draw:
        watch.note(
            f"Activations are drawn of the first {plan.draw} of {len(entries)} samples; name others to see "
            "theirs."
        )
    return tuple(entries), tuple(skipped)


def _read_batches(
    explained: Explained, chosen: Sequence[Chosen], skipped: list[tuple[str, str]], watch: Watcher
) -> Iterator[list[Seen]]:
    """Yield what could be read in batches; name what couldn't."""
    for start in range(0, len(chosen), _BATCH):
        batch = []
        for one in chosen[start : start + _BATCH]:
            try:
                batch.append(read_picture(explained, one))
            except ImageUnreadable as problem:
                skipped.append((one.sample_id, problem.reason))
                watch.note(f"Skipped: {one.sample_id}: {problem.reason}")
        if batch:
            yield batch
