"""``data show``: what a network is fed of a clip or an image, as pictures and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from praxiscope.data.audit import Progress
from praxiscope.data.build import build_recipe_manifest
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.sampling import Indices, list_views
from praxiscope.data.clips.timeline import Timeline, read_timeline
from praxiscope.data.manifest import Manifest
from praxiscope.data.media import decode_sample
from praxiscope.data.transforms import EvalTransform, InputSpec, TrainTransform
from praxiscope.errors import UsageError, did_you_mean
from praxiscope.models.catalog import find_card
from praxiscope.recipe.schema import ClipSection, Recipe
from praxiscope.reporting.figures import save_figure
from praxiscope.reporting.sheets import Cell, plot_sheet
from praxiscope.runs import atomic
from praxiscope.workflows.check import make_printable

DEFAULT_FRAMES = 8
DEFAULT_SAMPLES = 4
_DRAWS = 3
_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, kw_only=True)
class ShowResult:
    """What was shown.

    Attributes:
        folder: holds the pictures and ``show.json``.
        pictures: one a sample.
        content: of ``show.json``: ``{"schema": 1, "samples": [...]}``; of a clip its ``views``, each a list
            of frames ``{index, frame, annotated_frame, time_s}``: the place in the clip from 0, the number in
            its source from ``clip.frame_base``, the annotation's number (None where it goes by time), seconds
            since the source's first frame (None where nothing says).
        lines: the same as a table for a person.
    """

    folder: Path
    pictures: tuple[Path, ...]
    content: Mapping[str, Any]
    lines: tuple[str, ...]


def show_data(
    root: Path | str,
    recipe: Recipe,
    *,
    samples: Sequence[str] = (),
    random: int | None = None,
    out: Path | str = "show",
    progress: Progress | None = None,
) -> ShowResult:
    """Draw what a network of `recipe` is fed of some samples.

    Args:
        root: The data folder; nothing is written to it.
        recipe: Says how the data is read, which frames are taken, and how images are cropped and augmented.
        samples: Sample ids.
        random: Also so many drawn by the recipe's seed; 4 where neither is given.
        out: Folder for the pictures.
        progress: Called with (phase, done, total).

    Raises:
        UsageError: A sample isn't there or can't be used.
        DataError: The data can't be read.
    """
    manifest = build_recipe_manifest(root, recipe, progress=progress)
    rows = _choose_rows(manifest, samples, random, recipe.seed)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    pictures, entries, lines = [], [], []
    draw = _draw_clip if manifest.holds_clips else _draw_image
    for done, row in enumerate(rows, start=1):
        picture = folder / f"{done:03d}-{_NAME.sub('_', row['sample_id'])[-80:]}.png"
        entry, cells, text = draw(manifest, row, recipe)
        save_figure(plot_sheet(cells, text[0], text[1:]), picture)
        pictures.append(picture)
        entries.append({**entry, "picture": picture.name})
        lines += [*text, *_tabulate(entry), ""]
        if progress is not None:
            progress("draw", done, len(rows))
    content = {"schema": 1, "root": str(manifest.root), "recipe": recipe.name, "samples": entries}
    atomic.write_json(folder / "show.json", content)
    return ShowResult(
        folder=folder,
        pictures=tuple(pictures),
        content=content,
        lines=tuple(make_printable(line) for line in lines),
    )


def _choose_rows(
    manifest: Manifest, names: Sequence[str], random: int | None, seed: int
) -> list[dict[str, Any]]:
    usable = {row["sample_id"]: row for row in manifest.usable(None).to_pylist()}
    rejected = dict(manifest.rejected())
    for name in names:
        if name in rejected:
            raise UsageError(f"--sample {name!r} can't be used: {rejected[name]}.")
        if name not in usable:
            raise UsageError(
                f"--sample {name!r}: no such sample among the {len(usable):,} usable ones of {manifest.root}."
                f"{did_you_mean(name, usable)}"
            )
    if not usable:
        manifest.require_usable()
        raise UsageError(f"{manifest.root} has no usable sample to show.")
    if random is not None and random < 1:
        raise UsageError(f"--random {random}: must be 1 or more.")
    wanted = random if random is not None else (0 if names else DEFAULT_SAMPLES)
    order = np.random.default_rng([seed, len(usable)]).permutation(len(usable)).tolist()
    others = [name for name in map(list(usable).__getitem__, order) if name not in names]
    drawn = sorted(others[:wanted])
    return [usable[name] for name in dict.fromkeys([*names, *drawn])]


def _draw_clip(
    manifest: Manifest, row: Mapping[str, Any], recipe: Recipe
) -> tuple[dict[str, Any], list[list[Cell]], list[str]]:
    """Return the entry of ``show.json``, a row of pictures for each view, and the title's lines."""
    source = manifest.root / row["path"]
    timeline = read_timeline(source)
    num_frames = recipe.model.num_frames or find_card(recipe.model.name).num_frames or DEFAULT_FRAMES
    views = list_views(row["num_frames"], num_frames, recipe.clip)
    places = np.unique(np.concatenate(views))
    pictures = dict(
        zip(places.tolist(), read_frames(source, (places + row["first_frame"]).tolist()), strict=True)
    )
    described = [_describe_view(view, row, timeline, recipe.clip) for view in views]
    cells = [
        [Cell(pixels=np.asarray(pictures[frame["index"]]), caption=_write_caption(frame)) for frame in frames]
        for frames in described
    ]
    entry = {
        **_describe_sample(manifest, row),
        "span": {key: row[key] for key in ("first_frame", "num_frames", "start_frame")},
        "fps": row["fps"],
        "rule": {"num_frames": num_frames, **recipe.clip.model_dump(mode="json")},
        "views": described,
    }
    return entry, cells, [_write_title(entry), _describe_span(entry), _describe_rule(entry["rule"])]


def _describe_view(
    view: Indices, row: Mapping[str, Any], timeline: Timeline, section: ClipSection
) -> list[dict[str, Any]]:
    frames = []
    for index in view.tolist():
        place = row["first_frame"] + index
        number = None if timeline.numbers is None else int(timeline.numbers[place])
        start, time_s = row["start_frame"], None
        if timeline.times is not None:
            time_s = round(float(timeline.times[place]), 4)
        elif row["fps"]:
            base = place if timeline.numbers is None else int(timeline.numbers[place] - timeline.numbers[0])
            time_s = round(base / row["fps"], 4)
        frames.append(
            {
                "index": index,
                "frame": place + section.frame_base if number is None else number,
                "annotated_frame": None if start is None else (start + index if number is None else number),
                "time_s": time_s,
            }
        )
    return frames


def _write_caption(frame: Mapping[str, Any]) -> str:
    number = frame["annotated_frame"] if frame["annotated_frame"] is not None else frame["frame"]
    first = f"{frame['index']}  (frame {number})"
    return first if frame["time_s"] is None else f"{first}\n{frame['time_s']:.3f} s"


def _describe_sample(manifest: Manifest, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample_id": row["sample_id"],
        "path": row["path"],
        "split": row["split"],
        "group": row["group"],
        "labels": {head: row[head] for head in manifest.heads},
    }


def _write_title(entry: Mapping[str, Any]) -> str:
    labels = "  ".join(
        str(label) if len(entry["labels"]) == 1 else f"{head}: {label}"
        for head, label in entry["labels"].items()
    )
    return f"{entry['sample_id']}   {labels}   ({entry['split']})"


def _describe_span(entry: Mapping[str, Any]) -> str:
    span, base = entry["span"], entry["rule"]["frame_base"]
    first, count = span["first_frame"], span["num_frames"]
    text = f"{count:,} frames: {first + base:,} to {first + count - 1 + base:,} of {entry['path']}"
    text += f", counted from {base}"
    if span["start_frame"] is not None:
        text += f"; annotated as {span['start_frame']:,} on"
    return text + ("" if entry["fps"] is None else f"; {entry['fps']:.4g} a second")


def _describe_rule(rule: Mapping[str, Any]) -> str:
    """Say which frames are taken, and how the annotation is read."""
    taken = f"{rule['num_frames']} frames, {rule['sampling']}"
    if rule["sampling"] == "dense":
        taken += f" with stride {rule['frame_stride']}"
    if rule["num_clips"] > 1:
        taken += f", {rule['num_clips']} views"
    stop = "is the last one" if rule["stop"] == "inclusive" else "is not part of the clip"
    return (
        f"{taken}, as in evaluation; annotated frames count from {rule['frame_base']}, the stop frame {stop}"
    )


def _draw_image(
    manifest: Manifest, row: Mapping[str, Any], recipe: Recipe
) -> tuple[dict[str, Any], list[list[Cell]], list[str]]:
    """Return the entry of ``show.json``, the image with its crops, and the title's lines."""
    card = find_card(recipe.model.name)
    spec = InputSpec(
        img_size=recipe.model.img_size or card.img_size,
        interpolation="bilinear" if card.interpolation == "bilinear" else "bicubic",
        crop_pct=recipe.evaluate.crop_pct or card.crop_pct,
        mean=card.mean,
    )
    image = decode_sample(manifest.root, row["path"], max_pixels=recipe.loader.max_pixels)
    cells = [
        Cell(pixels=_fit_square(np.asarray(image)), caption=f"as it is\n{image.width} x {image.height}"),
        Cell(pixels=EvalTransform(spec=spec)(image), caption=f"evaluation\n{spec.img_size} px"),
    ]
    train = TrainTransform(spec=spec, augment=recipe.augment)
    for draw in range(_DRAWS):
        rng = np.random.default_rng([recipe.seed, draw])
        cells.append(Cell(pixels=train(image, rng), caption=f"training\ndraw {draw + 1}"))
    entry = {
        **_describe_sample(manifest, row),
        "size": [image.width, image.height],
        "img_size": spec.img_size,
    }
    return entry, [cells], [_write_title(entry)]


def _fit_square(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Put an image into the middle of a white square, so that it stands beside square crops."""
    height, width, _ = pixels.shape
    side = max(height, width)
    square = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def _tabulate(entry: Mapping[str, Any]) -> list[str]:
    lines = []
    for number, view in enumerate(entry.get("views", ()), start=1):
        several = f"view {number}: " if len(entry["views"]) > 1 else ""
        lines.append(f"  {several}{'in the clip':>11}  {'in its file':>11}  {'annotated':>9}  {'seconds':>9}")
        for frame in view:
            annotated = "-" if frame["annotated_frame"] is None else f"{frame['annotated_frame']}"
            seconds = "-" if frame["time_s"] is None else f"{frame['time_s']:.3f}"
            pad = " " * len(several)
            lines.append(f"  {pad}{frame['index']:>11}  {frame['frame']:>11}  {annotated:>9}  {seconds:>9}")
    return lines
