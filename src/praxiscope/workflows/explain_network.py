"""What is said about a network as a whole: kernels, embedding map, histograms, measured methods."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from praxiscope.data.manifest import quantify
from praxiscope.errors import DataError, UsageError
from praxiscope.explaining.feature_file import FeatureTable
from praxiscope.explaining.findings import describe_findings
from praxiscope.explaining.histograms import collect_histograms
from praxiscope.explaining.index import FigureFile, add_to_index, clean_name
from praxiscope.explaining.kernels import collect_kernels, list_convolutions
from praxiscope.explaining.measure.draw import add_masks, draw_samples
from praxiscope.explaining.measure.methods import MeasurePlan, measure_methods
from praxiscope.explaining.measure.reliance import measure_reliance
from praxiscope.explaining.measure.samples import MeasuredSamples
from praxiscope.explaining.saliency.catalog import Method
from praxiscope.reporting.explanations.embedding import Embedding, list_columns, plot_embedding
from praxiscope.reporting.explanations.histograms import plot_histograms
from praxiscope.reporting.explanations.kernels import plot_kernels
from praxiscope.reporting.explanations.measured import MEASURED
from praxiscope.runs import atomic
from praxiscope.stats.projection import project_pca
from praxiscope.training.watch import Watcher
from praxiscope.workflows.explain_features import MAX_MAPPED, draw_evaluated, load_features
from praxiscope.workflows.explain_samples import describe, write_figure
from praxiscope.workflows.explain_subjects import Explained, read_own_predictions

HISTOGRAM_SAMPLES, RELIANCE_SAMPLES = 64, 200
"""Samples that distributions are taken over; that reliance is measured on where no number is given."""

_TITLES = {"pca": "PCA", "umap": "UMAP"}
_NO_MASKS = (
    "--reliance needs to know where the actor is, and the data has no masks: name a folder of them "
    "with --masks."
)


class Keep(Protocol):
    """Adds to the index of a folder what was drawn there."""

    def __call__(
        self, *, figures: Sequence[FigureFile] = (), sentences: Sequence[str] | None = None
    ) -> object:
        """Add figures; sentences replace the findings."""
        ...


def keep_in_index(explained: Explained, folder: Path) -> Keep:
    """Return what adds to the index of explained images."""
    return partial(add_to_index, folder, about=describe(explained))


def draw_kernels(explained: Explained, folder: Path, layers: Sequence[str] = ()) -> None:
    """Draw kernels once for each epoch: of the convolutions among `layers`, well-chosen ones without any."""
    module = explained.subject.module
    convolutions = list_convolutions(module)
    named = [name for name in layers if name in convolutions]
    kernels = collect_kernels(module, named or None)
    if not kernels:
        return
    title, stem = "Kernels", f"epoch{explained.epoch:02d}-kernels"
    if named:
        title, stem = f"Kernels of {', '.join(named)}", f"{stem}-{clean_name('-'.join(named))}"
    figure = FigureFile(kind="kernels", title=title, file=f"{stem}.png")
    if not (folder / figure.file).is_file():
        write_figure(plot_kernels(kernels), folder / figure.file)
    add_to_index(folder, figures=[figure], about=describe(explained))


def draw_embedding(explained: Explained, folder: Path, keep: Keep, watch: Watcher) -> None:
    """Map the split's features in two dimensions: PCA, and UMAP where it is installed.

    With several heads there is a map in the colours of each.

    Raises:
        DataError: No image or clip could be read.
    """
    limit = MAX_MAPPED // (explained.subject.num_frames or 1)
    table = load_features(
        explained, explained.samples, explained.split, limit=limit, folder=folder, watch=watch
    )
    preds = _find_preds(explained, table, watch)
    points, shares = project_pca(table.features)
    first, second = (f"{100 * share:.0f} % of the variance" for share in shares)
    figures = _write_embeddings(explained, folder, table, preds, "pca", points, (first, second))
    if importlib.util.find_spec("umap") is not None:
        watch.phase("UMAP", 0, 1)
        umap = importlib.import_module("umap")
        placed = np.asarray(umap.UMAP(n_components=2, random_state=0, n_jobs=1).fit_transform(table.features))
        figures += _write_embeddings(explained, folder, table, preds, "umap", placed, ("", ""))
    keep(figures=figures)


def _find_preds(
    explained: Explained, table: FeatureTable, watch: Watcher
) -> dict[str, npt.NDArray[np.int64]]:
    """Return each head's predictions that evaluation counted, or the network's own where there are none."""
    logits = explained.samples.heads.split_logits(table.logits)
    preds: dict[str, npt.NDArray[np.int64]] = {head: own.argmax(axis=1) for head, own in logits.items()}
    try:
        stored = read_own_predictions(explained)
    except DataError:
        watch.note("Errors on the embedding map are of this pass: there is no evaluation of these weights.")
        return preds
    for head, own in preds.items():
        known = dict(zip(stored.sample_ids, stored.preds(head).tolist(), strict=True))
        pairs = zip(table.sample_ids, own.tolist(), strict=True)
        preds[head] = np.array([known.get(sample_id, pred) for sample_id, pred in pairs], dtype=np.int64)
    return preds


def _write_embeddings(
    explained: Explained,
    folder: Path,
    table: FeatureTable,
    preds: Mapping[str, npt.NDArray[np.int64]],
    method: str,
    points: npt.NDArray[np.floating],
    axes: tuple[str, str],
) -> list[FigureFile]:
    """Write a map, of several heads one for each, and return what the index says of them."""
    count = quantify(len(table.sample_ids), "clip" if explained.manifest.holds_clips else "sample")
    title = f"Features of {count} of {explained.split}, {_TITLES[method]}"
    stem = f"epoch{explained.epoch:02d}-embedding-{explained.split}-{method}"
    heads = explained.samples.heads
    several = len(heads.names) > 1
    return [
        _write_embedding(
            folder,
            f"{stem}-{clean_name(head)}" if several else stem,
            table.sample_ids,
            Embedding(
                points=points,
                targets=targets,
                preds=preds[head],
                names=heads.names[head],
                title=f"{title}, by {head}" if several else title,
                axes=axes,
            ),
        )
        for head, targets in heads.split_targets(table.targets).items()
    ]


def _write_embedding(folder: Path, stem: str, sample_ids: Sequence[str], embedding: Embedding) -> FigureFile:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("sample_id", "true", "predicted", "x", "y"))
    writer.writerows(list_columns(embedding, sample_ids))
    atomic.write_text(folder / f"{stem}.csv", out.getvalue())
    write_figure(plot_embedding(embedding), folder / f"{stem}.png")
    return FigureFile(kind="embedding", title=embedding.title, file=f"{stem}.png")


def draw_histograms(
    explained: Explained, folder: Path, keep: Keep, *, seed: int, watch: Watcher
) -> tuple[str, ...]:
    """Draw distributions of activations and gradients over a sample of the split; return what they say.

    Raises:
        DataError: No image or clip could be read.
    """
    pixels, targets = draw_evaluated(explained, HISTOGRAM_SAMPLES, seed=seed, watch=watch)
    watch.phase("histograms", 0, 1)
    report = collect_histograms(explained.subject, pixels, targets, heads=explained.samples.heads)
    findings = describe_findings(report)
    stem = f"epoch{explained.epoch:02d}-histograms-{explained.split}"
    count = quantify(len(pixels), "clip" if explained.manifest.holds_clips else "sample")
    write_figure(plot_histograms(report, findings), folder / f"{stem}.png")
    atomic.write_json(folder / f"{stem}.json", {"schema": 1, **report.to_dict()})
    figure = FigureFile(
        kind="histograms",
        title=f"Activations and gradients, layer by layer, {count} of {explained.split}",
        file=f"{stem}.png",
    )
    said = findings or (f"Nothing is out of the ordinary in the layers, over {count} of {explained.split}.",)
    keep(figures=[figure], sentences=said)
    return said


def require_masks(explained: Explained, masks: Path | str | None) -> None:
    """Refuse to measure reliance without masks, before an hour's work rather than after it.

    Raises:
        UsageError: There is no such folder of masks; none is named, and no sample of the split has one.
    """
    if masks is not None:
        if not Path(masks).expanduser().is_dir():
            raise UsageError(f"There is no folder of masks at {masks}.")
    elif not any(explained.manifest.usable(explained.split)["mask"].to_pylist()):
        raise UsageError(_NO_MASKS)


def measure_network(  # noqa: PLR0913 - one parameter a flag
    explained: Explained,
    methods: Sequence[Method],
    folder: Path,
    *,
    count: int,
    layer: str | None,
    masks: Path | str | None,
    reliance: bool,
    seed: int,
    watch: Watcher,
) -> tuple[str, ...]:
    """Measure the methods on samples of the split, and the network's reliance on the background.

    Writes ``measured.json``. What is not measured this time stays as it was measured before on these weights.

    Args:
        explained: The run.
        methods: Which are measured.
        folder: Gets the file.
        count: Samples; 0 leaves the methods out and measures reliance on 200.
        layer: For methods that look at one.
        masks: Folder of masks; the manifest's own by default.
        reliance: Measure reliance too.
        seed: Draws the samples.
        watch: Follows progress.

    Returns:
        What was found, in sentences.

    Raises:
        UsageError: Reliance is asked for and there are no masks, or no such folder.
        DataError: No image could be read, or a mask is damaged.
    """
    drawn = _draw_samples(explained, count or RELIANCE_SAMPLES, seed=seed, watch=watch)
    place = None if masks is None else Path(masks).expanduser()
    samples, found_masks = add_masks(drawn, explained.manifest, explained.transform, place)
    if found_masks is not None:
        watch.note(found_masks.describe())
    if reliance and samples.masks is None:
        raise UsageError(_NO_MASKS)
    path = folder / MEASURED
    content = _read_measured(path, explained.weights_sha256, watch)
    sentences: list[str] = []
    if count:
        found = measure_methods(
            explained.subject,
            samples,
            [method.name for method in methods if method.name != "random"],
            layer=layer,
            plan=MeasurePlan(seed=seed),
            watch=watch.phase,
        )
        content = {**found.to_dict(), "reliance": content.get("reliance")}
        sentences += content["ranking"]
    if reliance:
        watch.phase("reliance on the background", 0, 1)
        relied = measure_reliance(explained.subject, samples, seed=seed)
        content = {"schema": 1, **content, "reliance": relied.to_dict()}
        sentences.append(content["reliance"]["sentence"])
    content.update(epoch=explained.epoch, weights_sha256=explained.weights_sha256)
    atomic.write_json(path, content)
    add_to_index(folder, about=describe(explained))
    return tuple(sentences)


def _read_measured(path: Path, weights_sha256: str, watch: Watcher) -> dict[str, Any]:
    """Return what was measured before; nothing where it was of other weights."""
    if not path.is_file():
        return {}
    content = atomic.read_json(path)
    if content.get("weights_sha256") == weights_sha256:
        return content
    watch.note(f"{path.name} was measured on other weights (the run was trained on): it is replaced.")
    return {}


def _draw_samples(explained: Explained, count: int, *, seed: int, watch: Watcher) -> MeasuredSamples:
    """Draw samples of the split as the network sees them, and say what couldn't be read.

    Raises:
        DataError: None could be read.
    """
    drawn = draw_samples(
        explained.manifest,
        explained.samples,
        explained.transform,
        split=explained.split,
        count=count,
        seed=seed,
        max_pixels=explained.recipe.loader.max_pixels,
        watch=watch.phase,
    )
    for sample_id, reason in drawn.skipped:
        watch.note(f"Skipped: {sample_id}: {reason}")
    return drawn.samples
