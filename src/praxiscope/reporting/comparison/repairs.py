"""Galleries of the samples that only one of two contestants has right."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from praxiscope.data.manifest import read_manifest
from praxiscope.errors import IntegrityError
from praxiscope.reporting.gallery import Pictures, find_pictures, read_thumbnail
from praxiscope.runs.rundir import RunDir

Answers = Mapping[str, Mapping[str, str]]
"""Contestant's label -> sample id -> what it answered."""

MAX_SHOWN = 24
MAX_PICTURES = 192
"""Of the whole page, whatever the number of pairs: 2.8 MB."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """One sample that one contestant has right and the other wrong."""

    sample_id: str
    true_name: str
    wrong_answer: str | None
    """What the one that is wrong said; None where the answers aren't stored."""
    picture: str | None
    absence: str | None
    """Why there is no picture; None too where there is none at all."""


@dataclass(frozen=True, kw_only=True)
class RepairGallery:
    """What one contestant repairs of another's errors."""

    right: str
    wrong: str
    """Labels."""
    repairs: tuple[Repair, ...]
    total: int
    classes: tuple[tuple[str, int], ...]
    """(class, how many), most first."""


@dataclass(frozen=True, kw_only=True)
class Album:
    """Where pictures and answers are found."""

    pictures: tuple[Pictures, ...]
    """Of each run among the contestants, without repetition."""
    answers: Answers
    problem: str
    """Why there is no picture at all, or an empty string."""


def open_album(result: Mapping[str, Any], folder: Path, data_root: Path | None) -> Album:
    """Return where the pictures and answers of a comparison are.

    Args:
        result: The content of ``comparison.json``.
        folder: Its folder; the answers are read from ``disagreements.csv`` in it.
        data_root: Folder of the pictures, when the data has moved; None takes the runs' own.
    """
    runs = dict.fromkeys(
        member["run"] for one in result["contestants"] for member in one["members"] if member.get("run")
    )
    pictures, problems = [], []
    for run in runs:
        path = RunDir(path=Path(run)).manifest
        try:
            pictures.append(find_pictures(read_manifest(path), data_root))
        except (IntegrityError, OSError) as error:
            # The figures stand without pictures, and all runs have the same samples: one manifest is enough.
            problems.append(str(error) if path.is_file() else f"{path} is not there")
    reason = "; ".join(problems) or "none of the contestants is a run, so no manifest says where they are"
    return Album(
        pictures=tuple(pictures),
        answers=read_answers(result, folder / "disagreements.csv"),
        problem="" if pictures else f"There are no pictures: {reason}.",
    )


def read_answers(result: Mapping[str, Any], path: Path) -> Answers:
    """Return each contestant's answers, over several seeds the most frequent one.

    Args:
        result: The content of ``comparison.json``.
        path: ``disagreements.csv``; without it no answer is known.
    """
    if not path.is_file():
        return {}
    columns = {one["label"]: _name_columns(one) for one in result["contestants"]}
    answers: dict[str, dict[str, str]] = {label: {} for label in columns}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for label, titles in columns.items():
                said = [row[title] for title in titles if title in row]
                if said:
                    answers[label][row["sample_id"]] = Counter(said).most_common(1)[0][0]
    return answers


def build_galleries(pair: Mapping[str, Any], album: Album, *, max_shown: int) -> tuple[RepairGallery, ...]:
    """Return what the second repairs of the first's errors, and the reverse; nothing for unpaired samples.

    Args:
        pair: One of ``pairs`` in ``comparison.json``.
        album: From `open_album`.
        max_shown: At most so many samples a gallery, taken from all classes in turn.
    """
    repairs = pair.get("repairs")
    if repairs is None:
        return ()
    sides = (
        ("by_second", pair["second"], pair["first"]),
        ("by_first", pair["first"], pair["second"]),
    )
    return tuple(
        RepairGallery(
            right=right,
            wrong=wrong,
            repairs=tuple(_build_repair(*one, wrong, album) for one in _choose(repairs[key], max_shown)),
            total=sum(len(group["sample_ids"]) for group in repairs[key]),
            classes=tuple((group["name"], len(group["sample_ids"])) for group in repairs[key]),
        )
        for key, right, wrong in sides
    )


def share_pictures(num_pairs: int) -> int:
    """Return how many samples each gallery of a page shows, so that the page stays small."""
    return min(MAX_SHOWN, MAX_PICTURES // (2 * max(num_pairs, 1)))


def _name_columns(contestant: Mapping[str, Any]) -> list[str]:
    label, seeds = contestant["label"], len(contestant["members"])
    return [label] if seeds == 1 else [f"{label} #{index + 1}" for index in range(seeds)]


def _choose(groups: Sequence[Mapping[str, Any]], limit: int) -> list[tuple[str, str]]:
    """Return (class, sample id): the first of each class, then the second, up to the limit."""
    rounds = itertools.zip_longest(*(group["sample_ids"] for group in groups))
    names = [group["name"] for group in groups]
    turns = [
        (place, sample_id) for each in rounds for place, sample_id in enumerate(each) if sample_id is not None
    ]
    # Neighbours of one class are easier to look at.
    return [(names[place], sample_id) for place, sample_id in sorted(turns[:limit], key=lambda turn: turn[0])]


def _build_repair(name: str, sample_id: str, wrong: str, album: Album) -> Repair:
    picture, absence = _find_picture(sample_id, album.pictures)
    return Repair(
        sample_id=sample_id,
        true_name=name,
        wrong_answer=album.answers.get(wrong, {}).get(sample_id),
        picture=picture,
        absence=absence,
    )


def _find_picture(sample_id: str, places: Sequence[Pictures]) -> tuple[str | None, str | None]:
    if not places:
        return None, None  # said once for all, by `Album.problem`
    knowing = next((one for one in places if sample_id in one.files), places[0])
    return read_thumbnail(sample_id, knowing)
