"""Written data sets: layout, labels, determinism, disjoint performers, the planted shortcut, atomicity."""

import csv
import hashlib
import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from praxiscope.data.stage.backgrounds import BACKGROUND_NAMES
from praxiscope.data.stage.dataset import (
    COLUMNS,
    StageSpec,
    plan_samples,
    write_stage_clips,
    write_stage_images,
)
from praxiscope.errors import DataError, UsageError

SPEC = StageSpec(
    size=32,
    actions=("wave", "sit_down", "kick"),
    train_per_action=4,
    val_per_action=1,
    test_per_action=2,
    num_frames=3,
)


def rows_of(root):
    with (root / "stage.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hash_of(root):
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_stage_images(tmp_path_factory.mktemp("stage") / "images", SPEC)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    spec = replace(SPEC, actions=("sit_down", "stand_up"))
    return write_stage_clips(tmp_path_factory.mktemp("stage") / "clips", spec)


def test_layout_table_and_files_agree(images):
    rows = rows_of(images)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 3 * (4 + 1 + 2)
    assert len({row["path"] for row in rows}) == len(rows)
    for row in rows:
        assert row["path"].startswith(f"{row['split']}/{row['action']}/{row['performer']}_")
        assert row["mask"] == "masks/" + row["path"].removesuffix(".jpg") + ".png"
        with Image.open(images / row["path"]) as image, Image.open(images / row["mask"]) as mask:
            assert image.size == mask.size == (32, 32)
            assert (image.format, image.mode, mask.mode) == ("JPEG", "RGB", "L")
            assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert row["background"] in BACKGROUND_NAMES
    found = {p.relative_to(images).as_posix() for p in images.rglob("*") if p.is_file()}
    assert found == {r["path"] for r in rows} | {r["mask"] for r in rows} | {"stage.csv", "stage.json"}


def test_labels_have_verb_and_noun(images):
    labels = {(row["action"], row["verb"], row["noun"]) for row in rows_of(images)}
    assert labels == {
        ("wave", "wave", "nothing"),
        ("sit_down", "sit_down", "chair"),
        ("kick", "kick", "ball"),
    }
    summary = json.loads((images / "stage.json").read_text(encoding="utf-8"))
    assert summary["heads"]["noun"] == ["ball", "chair", "nothing"]
    assert summary["num_samples"] == 21
    assert summary["spec"]["size"] == 32


def test_clips_are_folders_of_numbered_frames(clips):
    for row in rows_of(clips):
        frames = sorted(p.name for p in (clips / row["path"]).iterdir())
        masks = sorted(p.name for p in (clips / row["mask"]).iterdir())
        assert frames == ["frame_000001.jpg", "frame_000002.jpg", "frame_000003.jpg"]
        assert masks == ["frame_000001.png", "frame_000002.png", "frame_000003.png"]
        assert (row["num_frames"], row["fps"]) == ("3", "3/2")
        ends = (float(row["first_phase"]), float(row["last_phase"]))
        assert ends == ((0, 1) if row["action"] == "sit_down" else (1, 0))


def test_equal_specs_give_equal_bytes(images, tmp_path):
    again = write_stage_images(tmp_path / "again", SPEC)
    assert hash_of(again) == hash_of(images)
    other = write_stage_images(tmp_path / "other", replace(SPEC, seed=1))
    assert hash_of(other) != hash_of(images)


def test_a_class_subset_leaves_the_other_classes_bytes_alone(images, tmp_path):
    subset = write_stage_images(tmp_path / "subset", replace(SPEC, actions=("wave",)))
    files = [p.relative_to(subset) for p in subset.rglob("*.*") if p.parent != subset]
    assert len(files) == 14
    assert all((subset / file).read_bytes() == (images / file).read_bytes() for file in files)


@pytest.mark.parametrize("kind", ["images", "clips"])
def test_performers_are_disjoint_between_splits_and_balanced(kind):
    spec = StageSpec()
    people = {"train": set(), "val": set(), "test": set()}
    for sample in plan_samples(spec, kind):
        people[sample.split].add(sample.performer)
    assert {split: len(names) for split, names in people.items()} == {"train": 24, "val": 6, "test": 8}
    assert len(people["train"] | people["val"] | people["test"]) == 38
    counts = np.bincount([s.performer for s in plan_samples(spec, kind) if s.split == "train"])
    assert counts.min() > 0.6 * counts.mean()


def test_images_leave_out_the_reversed_twins_and_clips_have_them():
    names = {kind: {a.name for a in StageSpec().classes(kind)} for kind in ("images", "clips")}
    assert names["clips"] - names["images"] == {"stand_up", "put_down"}
    assert {"sit_down", "pick_up"} <= names["images"]


def backgrounds_by_class(spec, split):
    table = {}
    for sample in plan_samples(spec, "images"):
        if sample.split == split:
            table.setdefault(sample.action.name, set()).add(sample.scene(spec).background.name)
    return table


def test_shortcut_ties_the_background_to_the_class_in_train_only():
    honest = StageSpec(train_per_action=12, val_per_action=12, test_per_action=12)
    planted = replace(honest, shortcut=True)
    tied = backgrounds_by_class(planted, "train")
    assert len(tied) == 16
    assert all(len(names) == 1 for names in tied.values())
    assert len(set.union(*tied.values())) == 16
    for split in ("val", "test"):
        assert backgrounds_by_class(planted, split) == backgrounds_by_class(honest, split)
    for split in ("train", "val", "test"):
        assert min(len(names) for names in backgrounds_by_class(honest, split).values()) > 4


def test_shortcut_changes_nothing_but_the_place():
    honest, planted = StageSpec(), StageSpec(shortcut=True)
    for one, other in list(zip(plan_samples(honest, "images"), plan_samples(planted, "images"), strict=True))[
        ::90
    ]:
        a, b = one.scene(honest), other.scene(planted)
        assert (a.camera, a.style, a.phases, a.outfit, a.extras) == (
            b.camera,
            b.style,
            b.phases,
            b.outfit,
            b.extras,
        )


def test_finished_data_is_left_alone(images):
    before = {p: p.stat().st_mtime_ns for p in images.rglob("*")}
    told = []
    assert write_stage_images(images, SPEC, progress=lambda *event: told.append(event)) == images
    assert told == []
    assert {p: p.stat().st_mtime_ns for p in images.rglob("*")} == before


def test_progress_counts_every_sample(tmp_path):
    told = []
    spec = replace(SPEC, actions=("wave",), train_per_action=1, val_per_action=0, test_per_action=1)
    write_stage_images(tmp_path / "set", spec, progress=lambda *event: told.append(event))
    assert told == [("stage", 1, 2), ("stage", 2, 2)]
    assert not (tmp_path / "set" / "val").exists()


def test_another_specs_folder_and_foreign_folders_are_refused_and_untouched(images, tmp_path):
    before = hash_of(images)
    with pytest.raises(DataError, match="another spec or version"):
        write_stage_images(images, replace(SPEC, seed=9))
    with pytest.raises(DataError, match="another spec or version"):
        write_stage_clips(images, SPEC)
    assert hash_of(images) == before
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="something else than a stage data set"):
        write_stage_images(tmp_path, SPEC)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"no": 1}', "\x00\xff"])
def test_a_damaged_summary_counts_as_foreign(tmp_path, content):
    (tmp_path / "stage.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="something else"):
        write_stage_images(tmp_path, SPEC)


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def interrupt(_what, done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_stage_images(tmp_path / "set", SPEC, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_runs_are_swept_and_fresh_ones_kept(tmp_path):
    old, fresh = tmp_path / ".set.partial-old", tmp_path / ".set.partial-fresh"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "half.jpg").write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    (tmp_path / "set").mkdir()  # an empty folder may be filled
    spec = replace(SPEC, actions=("wave",), train_per_action=1, val_per_action=0, test_per_action=0)
    write_stage_images(tmp_path / "set", spec)
    assert {p.name for p in tmp_path.iterdir()} == {"set", ".set.partial-fresh"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 8}, "size is 8; it must be from 16 to 1024"),
        ({"seed": -1}, "seed is -1"),
        ({"train_per_action": 0}, "train_per_action is 0; it must be from 1 to 9999"),
        ({"test_performers": 0}, "test_performers is 0"),
        ({"num_frames": 1}, "num_frames is 1"),
        ({"actions": ()}, "at least one"),
        ({"actions": ("wave", "wave")}, "name each action once"),
        ({"actions": ("wawe",)}, "Did you mean 'wave'"),
        ({"image_format": "gif"}, "choose 'jpg' or 'png'"),
    ],
)
def test_bad_specs_say_what_is_allowed(change, message):
    with pytest.raises(UsageError, match=message):
        StageSpec(**change)


def test_png_keeps_the_exact_pixels(tmp_path):
    from praxiscope.data.stage.scene import render_image

    spec = replace(
        SPEC, actions=("kick",), train_per_action=1, val_per_action=0, test_per_action=0, image_format="png"
    )
    root = write_stage_images(tmp_path / "set", spec)
    (sample,) = plan_samples(spec, "images")
    with Image.open(root / f"{sample.stem}.png") as image:
        assert (np.asarray(image) == render_image(sample.scene(spec), size=32).image).all()


@pytest.mark.soak
def test_a_thousand_images_take_well_under_a_minute(tmp_path):
    start = time.process_time()
    write_stage_images(tmp_path / "set", StageSpec(train_per_action=50, val_per_action=5, test_per_action=8))
    assert time.process_time() - start < 60
