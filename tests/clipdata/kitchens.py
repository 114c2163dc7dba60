"""Annotation tables like EPIC-KITCHENS-100's, of a few segments."""

from __future__ import annotations

import csv

HEADER = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp",
    "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns",
    "all_noun_classes",
)  # fmt: skip
VERBS, NOUNS = ("take", "put", "wash", "open"), ("tap", "spoon", "plate", "cup", "knife")


def stamp(seconds):
    return f"{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}:{seconds % 60:05.2f}"


def row(narration_id, start, stop, verb, noun, *, rate=None, **changes):
    video = narration_id.rpartition("_")[0]
    rate = rate or (50 if len(video.partition("_")[2]) == 3 else 60)
    cells = {
        "narration_id": narration_id, "participant_id": video[:3], "video_id": video,
        "narration_timestamp": stamp(0), "start_timestamp": stamp(start / rate),
        "stop_timestamp": stamp(stop / rate), "start_frame": start, "stop_frame": stop, "narration": "do it",
        "verb": "do", "verb_class": verb, "noun": "it", "noun_class": noun, "all_nouns": "['it']",
        "all_noun_classes": f"[{noun}]",
    } | changes  # fmt: skip
    return [cells[name] for name in HEADER]


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


TRAIN = [row("P01_01_0", 1, 11, 0, 1), row("P01_01_1", 20, 41, 1, 2), row("P02_101_0", 5, 9, 0, 2)]
VAL = [row("P03_01_0", 3, 8, 1, 1)]


def write_kitchen(root, train=tuple(TRAIN), val=tuple(VAL)):
    """Write the tables of four segments into `root`, without any video, and return it."""
    folder = root / "annotations"
    write_csv(folder / "EPIC_100_train.csv", HEADER, train)
    write_csv(folder / "EPIC_100_validation.csv", HEADER, val)
    for name, keys in (("verb", VERBS), ("noun", NOUNS)):
        rows = [[number, key, "[]", "x"] for number, key in enumerate(keys)]
        write_csv(folder / f"EPIC_100_{name}_classes.csv", ("id", "key", "instances", "category"), rows)
    info = [["P01_01", 10.0, 59.94, "x"], ["P02_101", 10.0, 50.0, "x"], ["P03_01", 0.1, 59.94, "x"]]
    write_csv(folder / "EPIC_100_video_info.csv", ("video_id", "duration", "fps", "resolution"), info)
    return root
