"""One batch of pictures explained: their maps, figures, neighbours as files, then their entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from praxiscope.errors import UsageError
from praxiscope.explaining.activations import collect_activations
from praxiscope.explaining.index import (
    Entry,
    FigureFile,
    MapFile,
    Role,
    add_to_index,
    clean_name,
    name_folder,
)
from praxiscope.explaining.layers import choose_layers, list_layers
from praxiscope.explaining.saliency.catalog import Method, find_methods
from praxiscope.explaining.saliency.compute import compute_maps
from praxiscope.explaining.saliency.target import choose_target_use, describe_coarse, find_target_use
from praxiscope.reporting.explanations.activations import plot_activations
from praxiscope.reporting.explanations.flow import plot_flow
from praxiscope.reporting.explanations.saliency import choose_scale, draw_saliency
from praxiscope.reporting.figures import save_figure
from praxiscope.runs import atomic
from praxiscope.stats.calibration import compute_softmax
from praxiscope.training.watch import Watcher
from praxiscope.workflows.explain_features import Library, write_nearest
from praxiscope.workflows.explain_subjects import Explained, Seen

_LAYERS = 3
_TOP = 5
_ENCODINGS: dict[str, dict[str, int]] = {"JPEG": {"quality": 88}, "PNG": {"compress_level": 3}}
"""A map's PNG takes 26 ms at level 3 and 74 ms at Pillow's usual 6, for 7 % more bytes."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One way to look at a sample: a method, at a layer where it needs one."""

    method: Method
    layer: str | None

    @property
    def stem(self) -> str:
        """Of file names, without the epoch."""
        layer = f"{clean_name(self.layer)}-" if self.layer else ""
        return f"{layer}{self.method.name.replace('+', 'p')}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done with each picture.

    Attributes:
        folder: gets everything.
        looks: methods and layers.
        draw: draw activations and flow of so many pictures of a batch at most.
        layers: whose activations; well-chosen ones where None.
        library: training images to find the nearest among; None to find none.
    """

    folder: Path
    looks: tuple[Look, ...]
    draw: int
    layers: tuple[str, ...] | None
    library: Library | None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the network says about the pictures of a batch.

    Attributes:
        probs: float (N, K).
        preds: int64 (N,), the most probable class.
        targets: the label's index of each, or None.
    """

    probs: npt.NDArray[np.floating]
    preds: npt.NDArray[np.int64]
    targets: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class RoleMaps:
    """Maps of a batch: for each picture's predicted class, and for the true one where that is another.

    Attributes:
        rows: which picture each map is of.
        classes: whose evidence.
        roles: predicted or true.
        maps: float32 (M, H, W).
    """

    rows: list[int]
    classes: list[int]
    roles: list[Role]
    maps: npt.NDArray[np.float32]


def choose_looks(
    explained: Explained, methods: Sequence[str] | None, layers: Sequence[str] | None, watch: Watcher
) -> tuple[Look, ...]:
    """Return every pair of a method and a layer; methods that need no layer once.

    A layer whose map is too coarse to point is used, and noted.

    Raises:
        UsageError: Unknown method or layer; layers named where no method needs one.
    """
    found = find_methods(methods, explained.subject.family)
    needing = [method for method in found if method.needs_layer]
    if layers and not needing:
        raise UsageError(
            f"--layer {', '.join(layers)}: none of the methods {', '.join(each.name for each in found)} "
            "looks at a single layer; leave it out."
        )
    named = _choose_layer_names(explained, layers, watch) if needing else []
    return tuple(
        Look(method=method, layer=layer)
        for method in found
        for layer in (named if method.needs_layer else [None])
    )


def explain_batch(explained: Explained, batch: Sequence[Seen], plan: Plan) -> list[Entry]:
    """Explain some pictures: write their files, and then their entries into the index.

    Raises:
        EnvironmentProblem: The disk is full; what the index names is whole.
        Diverged: The network's weights or answers aren't finite.
    """
    images = np.stack([seen.image for seen in batch])
    probs = compute_softmax(explained.subject.compute_logits(images))
    answers = Answers(
        probs=probs, preds=probs.argmax(axis=1), targets=tuple(seen.chosen.target for seen in batch)
    )
    entries = [_start_entry(explained, seen, answers, row, plan) for row, seen in enumerate(batch)]
    for look in plan.looks:
        found = _compute_roles(explained, images, answers, look)
        files = _write_maps(explained, batch, look, found, entries, plan.folder)
        entries = [
            replace(entry, maps=(*entry.maps, *own)) for entry, own in zip(entries, files, strict=True)
        ]
    if plan.draw:
        drawn = _draw_figures(explained, images[: plan.draw], entries, answers, plan)
        entries = [*drawn, *entries[len(drawn) :]]
    if plan.library is not None:
        entries = _find_neighbours(explained, images, entries, plan.library, plan.folder)
    add_to_index(plan.folder, entries=entries, about=describe(explained))
    return entries


def describe(explained: Explained) -> dict[str, str | int]:
    """Return what the pages say about the network."""
    return {
        "run": explained.subject.label,
        "folder": str(explained.run.path),
        "model": explained.recipe.model.name,
        "family": explained.subject.family,
        "split": explained.split,
        "data": str(explained.manifest.root),
        "epoch": explained.epoch,
        "flip": int(explained.recipe.evaluate.flip),
    }


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure, wholly or not at all."""
    with atomic.replacing(path) as aside:
        save_figure(figure, aside)


def _choose_layer_names(explained: Explained, layers: Sequence[str] | None, watch: Watcher) -> list[str]:
    subject = explained.subject
    uses = list_layers(subject.module, subject.make_example())
    usual = choose_target_use(subject, uses)
    named = [find_target_use(subject, uses, name) for name in dict.fromkeys(layers or ())]
    for use in named or [usual]:
        if (warning := describe_coarse(uses, use)) is not None:
            watch.note(warning)
    if named:
        return [use.name for use in named]
    order = {use.name: place for place, use in enumerate(uses)}
    before = [use.name for use in choose_layers(uses, subject.family) if order[use.name] < order[usual.name]]
    return [usual.name, *reversed(before[-(_LAYERS - 1) :])]


def _start_entry(explained: Explained, seen: Seen, answers: Answers, row: int, plan: Plan) -> Entry:
    chosen, names = seen.chosen, explained.subject.names
    probs = answers.probs[row]
    slug = name_folder(chosen.sample_id)
    (plan.folder / slug).mkdir(exist_ok=True)
    crop_file, original_file = f"evaluated-{seen.crop.img_size}px.png", "original.jpg"
    _save(Image.fromarray(seen.image), plan.folder / slug / crop_file, "PNG")
    _save(Image.fromarray(seen.original), plan.folder / slug / original_file, "JPEG")
    top = np.argsort(-probs, kind="stable")[:_TOP].tolist()
    return Entry(
        sample_id=chosen.sample_id,
        slug=slug,
        reason=chosen.reason,
        split=chosen.split,
        epoch=explained.epoch,
        weights_sha256=explained.weights_sha256,
        true=None if chosen.target is None else names[chosen.target],
        predicted=names[answers.preds[row]],
        guesses=tuple((names[place], float(probs[place])) for place in top),
        true_prob=None if chosen.target is None else float(probs[chosen.target]),
        crop=seen.crop,
        crop_file=crop_file,
        original_file=original_file,
    )


def _compute_roles(
    explained: Explained, images: npt.NDArray[np.uint8], answers: Answers, look: Look
) -> RoleMaps:
    """Compute maps for the predicted classes and, of failures, for the true ones, in the same batches."""
    rows, classes = list(range(len(images))), answers.preds.tolist()
    roles: list[Role] = ["predicted"] * len(rows)
    for row, target in enumerate(answers.targets):
        if target is not None and target != answers.preds[row] and not look.method.class_blind:
            rows.append(row)
            classes.append(target)
            roles.append("true")
    found = compute_maps(
        explained.subject, look.method.name, images[rows], np.array(classes), layer=look.layer
    )
    return RoleMaps(rows=rows, classes=classes, roles=roles, maps=found.maps)


def _write_maps(
    explained: Explained,
    batch: Sequence[Seen],
    look: Look,
    found: RoleMaps,
    entries: Sequence[Entry],
    folder: Path,
) -> list[list[MapFile]]:
    """Write a look's maps; those of one picture share their scale."""
    ends: dict[int, tuple[float, float]] = {}
    for row, values in zip(found.rows, found.maps, strict=True):
        low, high = ends.get(row, (np.inf, -np.inf))
        ends[row] = (min(low, float(values.min())), max(high, float(values.max())))
    files: list[list[MapFile]] = [[] for _ in batch]
    for row, target, role, values in zip(found.rows, found.classes, found.roles, found.maps, strict=True):
        stem = f"epoch{explained.epoch:02d}-{look.stem}{'-true' if role == 'true' else ''}"
        file = MapFile(
            method=look.method.name,
            title=look.method.title,
            signed=look.method.signed,
            layer=look.layer,
            role=role,
            target=None if look.method.class_blind else explained.subject.names[target],
            low=float(values.min()),
            high=float(values.max()),
            values=f"{stem}.npy",
            picture=f"{stem}.png",
        )
        _write_map(folder / entries[row].slug, batch[row], file, values, ends[row])
        files[row].append(file)
    return files


def _write_map(
    folder: Path,
    seen: Seen,
    file: MapFile,
    values: npt.NDArray[np.float32],
    ends: tuple[float, float],
) -> None:
    with atomic.replacing(folder / file.values) as aside, aside.open("xb") as stream:
        np.save(stream, values.astype(np.float32), allow_pickle=False)
    where = f" at {file.layer}" if file.layer else ""
    what = "whatever the class" if file.target is None else f"evidence for {file.target} ({file.role} class)"
    picture = draw_saliency(
        seen.image,
        values,
        choose_scale(*ends, signed=file.signed),
        title=f"{file.title}{where}: {what}",
        note=seen.chosen.sample_id,
    )
    _save(picture, folder / file.picture, "PNG")


def _draw_figures(
    explained: Explained,
    images: npt.NDArray[np.uint8],
    entries: Sequence[Entry],
    answers: Answers,
    plan: Plan,
) -> list[Entry]:
    drawn = []
    collected = collect_activations(explained.subject, images, plan.layers)
    for entry, activations, target in zip(entries, collected, answers.targets, strict=False):
        folder, epoch = plan.folder / entry.slug, f"epoch{entry.epoch:02d}"
        own = "-".join(clean_name(each.layer.name) for each in activations.layers) if plan.layers else ""
        ending = f"-{clean_name(own)}" if own else ""
        figures = (
            FigureFile(
                kind="flow", title="From the picture to the classes", file=f"{epoch}{ending}-flow.png"
            ),
            FigureFile(
                kind="activations", title="Activations", file=f"{epoch}{ending}-activations.png"
            ),
        )  # fmt: skip
        write_figure(plot_flow(activations, explained.subject.names, target=target), folder / figures[0].file)
        write_figure(plot_activations(activations), folder / figures[1].file)
        drawn.append(replace(entry, figures=figures))
    return drawn


def _find_neighbours(
    explained: Explained,
    images: npt.NDArray[np.uint8],
    entries: Sequence[Entry],
    library: Library,
    folder: Path,
) -> list[Entry]:
    found = library.find_nearest(explained, images, [entry.sample_id for entry in entries])
    return [
        replace(
            entry,
            neighbours=write_nearest(nearest, folder / entry.slug, entry.epoch),
            num_compared=library.size,
        )
        for entry, nearest in zip(entries, found, strict=True)
    ]


def _save(picture: Image.Image, path: Path, kind: str) -> None:
    with atomic.replacing(path) as aside:
        picture.save(aside, format=kind, **_ENCODINGS[kind])
