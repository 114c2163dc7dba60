"""The report's section on explanations: some samples or clips, the embedding map, the way to the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from praxiscope.explaining.clip_index import CLIP_INDEX, ClipEntry, read_clip_index
from praxiscope.explaining.index import Entry, read_index
from praxiscope.reporting.explanations.page import PAGE, sort_entries
from praxiscope.reporting.explanations.saliency import blend, encode_picture
from praxiscope.reporting.explanations.views import (
    FigureView,
    find_scale,
    group_maps,
    name_page,
    read_stored_map,
    read_stored_picture,
    view_figures,
)
from praxiscope.runs.rundir import RunDir

MAX_SHOWN, MAX_CLIPS = 8, 3
_SIDE, _STRIP_SIDE = 176, 1500


@dataclass(frozen=True, kw_only=True)
class BriefSample:
    """A sample with the map of its first method over it."""

    entry: Entry
    picture: str
    caption: str
    """Method and layer."""
    link: str


@dataclass(frozen=True, kw_only=True)
class BriefClip:
    """A clip with one strip of its frames for each head."""

    entry: ClipEntry
    strips: tuple[tuple[str, str], ...]
    """(head, picture)."""


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What the report says about explanations."""

    samples: tuple[BriefSample, ...] = ()
    clips: tuple[BriefClip, ...] = ()
    total: int
    figures: tuple[FigureView, ...]
    sentences: tuple[str, ...]
    link: str


def build_brief(run: RunDir) -> Brief | None:
    """Return what was explained of a run; None where nothing was.

    Raises:
        IntegrityError: A file is damaged or missing.
    """
    folder = run.explain
    if (folder / CLIP_INDEX).is_file():
        return _build_clip_brief(folder)
    index = read_index(folder)
    if not index.entries and not index.figures:
        return None
    ordered = sort_entries(index.entries)
    shown = [entry for entry in ordered if entry.maps][:MAX_SHOWN]
    embeddings = [figure for figure in index.figures if figure.kind == "embedding"]
    return Brief(
        samples=tuple(_view_sample(entry, folder) for entry in shown),
        total=len(ordered),
        figures=tuple(view_figures(embeddings, folder)),
        sentences=index.sentences,
        link=f"{folder.name}/{PAGE}",
    )


def _build_clip_brief(folder: Path) -> Brief:
    """Return what was explained of a run on clips."""
    index = read_clip_index(folder)
    ordered = sort_entries(index.entries)
    embeddings = [figure for figure in index.figures if figure.kind == "embedding"]
    return Brief(
        clips=tuple(_view_clip(entry, folder) for entry in ordered[:MAX_CLIPS]),
        total=len(ordered),
        figures=tuple(view_figures(embeddings, folder)),
        sentences=index.sentences,
        link=f"{folder.name}/{PAGE}",
    )


def _view_clip(entry: ClipEntry, folder: Path) -> BriefClip:
    own = folder / entry.slug
    strips = [
        (head, encode_picture(read_stored_picture(own / file), side=_STRIP_SIDE))
        for head, file in entry.files.items()
    ]
    return BriefClip(entry=entry, strips=tuple(strips))


def _view_sample(entry: Entry, folder: Path) -> BriefSample:
    own = folder / entry.slug
    files = group_maps(entry.maps)[0]
    values, scale = read_stored_map(own / files[0].values), find_scale(files)
    image = read_stored_picture(own / entry.crop_file)
    layer = f" at {files[0].layer}" if files[0].layer else ""
    return BriefSample(
        entry=entry,
        picture=encode_picture(blend(np.asarray(image), values, scale), side=_SIDE),
        caption=f"{files[0].title}{layer}",
        link=f"{folder.name}/{entry.slug}/{name_page(entry)}",
    )
