"""What the explanation pages show of a sample, read from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from praxiscope.errors import IntegrityError
from praxiscope.explaining.index import Crop, Entry, FigureFile, MapFile, Role
from praxiscope.reporting.explanations.saliency import (
    Scale,
    choose_scale,
    encode_map,
    encode_picture,
    format_value,
    overlap,
)
from praxiscope.reporting.wording import format_percent, shorten

_CROP_SIDE, _ORIGINAL_SIDE, _FIGURE_SIDE = 256, 320, 2000
_REASONS = {"named": "named", "random": "random", "failure": "confident failure"}


@dataclass(frozen=True, kw_only=True)
class MapView:
    """One map of a sample for one class."""

    uri: str
    """PNG, to be laid over the evaluated crop, on the scale that both maps share."""
    own_uri: str
    """The same from its own smallest to its own largest value; empty where that is the shared scale."""
    target: str
    """Empty of a method whose map doesn't depend on the class."""
    largest: str
    role: Role
    file: str
    """The PNG in the folder, relative to the page."""


@dataclass(frozen=True, kw_only=True)
class LookView:
    """One method at one layer, for the predicted class and, of a failure, for the true one."""

    key: str
    """Method and layer, the same on every sample."""
    method: str
    layer: str
    """Empty of a method that looks at no single layer."""
    signed: bool
    low: str
    """Of the scale that both maps share."""
    high: str
    flat: bool
    overlap: str
    """How far both maps show the same places; empty where there is one."""
    maps: tuple[MapView, ...]


@dataclass(frozen=True, kw_only=True)
class SampleView:
    """One sample at one epoch."""

    anchor: str
    entry: Entry
    heading: str
    reason: str
    crop: str
    """JPEG of what the network saw."""
    original: str
    frame: Mapping[str, float]
    """The crop's place in the picture: x, y, width, height of a view box of the picture's size."""
    crop_note: str
    true_prob: str
    looks: tuple[LookView, ...]
    link: str
    """The sample's own page."""


def view_sample(entry: Entry, folder: Path, place: int) -> SampleView:
    """Read what a sample's files hold.

    Raises:
        IntegrityError: A file is damaged or missing.
    """
    own = folder / entry.slug
    return SampleView(
        anchor=f"sample{place}",
        entry=entry,
        heading=shorten(entry.sample_id.rsplit("/", 1)[-1], 48),
        reason=_REASONS[entry.reason],
        crop=encode_picture(read_stored_picture(own / entry.crop_file), side=_CROP_SIDE),
        original=encode_picture(read_stored_picture(own / entry.original_file), side=_ORIGINAL_SIDE),
        frame={
            "x": entry.crop.left, "y": entry.crop.top, "side": entry.crop.side,
            "width": entry.crop.width, "height": entry.crop.height,
        },
        crop_note=describe_crop(entry.crop),
        true_prob=format_percent(entry.true_prob),
        looks=tuple(_view_look(files, entry.slug, own) for files in group_maps(entry.maps)),
        link=f"{entry.slug}/{name_page(entry)}",
    )  # fmt: skip


def group_maps(maps: Sequence[MapFile]) -> list[list[MapFile]]:
    """Return the maps of each method and layer together, the predicted class's first."""
    groups: dict[tuple[str, str | None], list[MapFile]] = {}
    for one in maps:
        groups.setdefault((one.method, one.layer), []).append(one)
    return [sorted(group, key=lambda one: one.role != "predicted") for group in groups.values()]


def describe_crop(crop: Crop) -> str:
    """Return in one sentence what part of the picture was evaluated."""
    share = crop.side * crop.side / (crop.width * crop.height)
    return (
        f"The frame marks the {format_percent(share, 0)} of the picture that evaluation feeds to the "
        f"network, as {crop.img_size} x {crop.img_size} pixels."
    )


def read_stored_picture(path: Path) -> Image.Image:
    """Read a picture that ``explain`` wrote.

    Raises:
        IntegrityError: It is damaged or missing.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as problem:
        raise IntegrityError(
            f"{path} is damaged or missing ({problem}). Move its folder away and explain the sample again."
        ) from problem


def read_stored_map(path: Path) -> npt.NDArray[np.float32]:
    """Read a map that ``explain`` wrote, float32 (H, W).

    Raises:
        IntegrityError: It is damaged or missing.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise IntegrityError(
            f"{path} is damaged or missing ({problem}). Move its folder away and explain the sample again."
        ) from problem
    if values.ndim != 2 or values.dtype != np.float32:
        raise IntegrityError(
            f"{path} holds {values.dtype} {values.shape}, no map (float32, two axes). "
            "Explain the sample again."
        )
    found: npt.NDArray[np.float32] = values
    return found


def find_scale(files: Sequence[MapFile]) -> Scale:
    """Return the scale that the maps of one method and layer share."""
    return choose_scale(
        min(file.low for file in files), max(file.high for file in files), signed=files[0].signed
    )


def _view_look(files: Sequence[MapFile], slug: str, own: Path) -> LookView:
    scale = find_scale(files)
    values = [read_stored_map(own / file.values) for file in files]
    shared = overlap(values[0], values[1]) if len(values) == 2 else None
    first = files[0]
    return LookView(
        key=f"{first.method} {first.layer or ''}",
        method=first.title,
        layer=first.layer or "",
        signed=scale.signed,
        low=format_value(scale.low),
        high=format_value(scale.high),
        flat=scale.is_flat,
        overlap="" if shared is None else format_percent(shared, 0),
        maps=tuple(
            MapView(
                uri=encode_map(each, scale),
                own_uri=encode_map(each, find_scale([file])) if find_scale([file]) != scale else "",
                target=file.target or "",
                largest=format_value(file.high),
                role=file.role,
                file=f"{slug}/{file.picture}",
            )
            for file, each in zip(files, values, strict=True)
        ),
    )


@dataclass(frozen=True, kw_only=True)
class FigureView:
    """A figure inside a page."""

    kind: str
    title: str
    uri: str
    file: str


def name_page(entry: Entry) -> str:
    """Return the file name of a sample's own page."""
    return f"epoch{entry.epoch:02d}.html"


def view_figures(figures: Sequence[FigureFile], folder: Path) -> list[FigureView]:
    """Read figures, each as a JPEG of a tenth of its size.

    Raises:
        IntegrityError: One is damaged or missing.
    """
    return [
        FigureView(
            kind=figure.kind,
            title=figure.title,
            uri=encode_picture(read_stored_picture(folder / figure.file), side=_FIGURE_SIDE, quality=86),
            file=figure.file,
        )
        for figure in figures
    ]
