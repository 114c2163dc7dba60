"""EPIC-KITCHENS-100: the published tables, the three real clips, and a generated twin of both."""

from __future__ import annotations

import csv
import io
import tarfile
import time

import numpy as np
import pytest
from kitchens import HEADER, NOUNS, TRAIN, VERBS, row, write_csv, write_kitchen
from numbered_frames import draw_number, read_number, write_frames, write_video

from praxiscope.data.build import build_manifest
from praxiscope.data.clips.frames import read_frames
from praxiscope.data.clips.sampling import list_views
from praxiscope.data.sources.catalog import detect_source
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import ClipSection, DataSection
from praxiscope.workflows.check import check_data


@pytest.fixture
def kitchen(tmp_path):
    """Annotations of four segments, without any video."""
    return write_kitchen(tmp_path)


def build(root, **options):
    return build_manifest(root, DataSection(**options), seed=0, use_cache=False)


def find(manifest, code):
    return [finding for finding in manifest.findings if finding.code == code]


def read_pictures(manifest, sample_id):
    (found,) = [r for r in manifest.usable(None).to_pylist() if r["sample_id"] == sample_id]
    places = list(range(found["first_frame"], found["first_frame"] + found["num_frames"]))
    return [read_number(each) for each in read_frames(manifest.root / found["path"], places)]


def test_segments_are_found_in_every_layout(kitchen):
    write_frames(kitchen / "P01" / "rgb_frames" / "P01_01", list(range(1, 61)))
    write_video(kitchen / "P02" / "videos" / "P02_101.mp4", 20, rate=50)
    (kitchen / "P03" / "rgb_frames").mkdir(parents=True)
    with tarfile.open(kitchen / "P03" / "rgb_frames" / "P03_01.tar", "w") as tar:
        for number in range(1, 12):
            stream = io.BytesIO()
            draw_number(number).save(stream, "PNG")
            member = tarfile.TarInfo(f"./frame_{number:010d}.png")
            member.size = stream.tell()
            stream.seek(0)
            tar.addfile(member, stream)
    assert detect_source(kitchen, DataSection()) == "epic"
    manifest = build(kitchen)
    rows = {r["sample_id"]: r for r in manifest.usable(None).to_pylist()}
    assert {name: (r["split"], r["verb"], r["noun"], r["group"]) for name, r in rows.items()} == {
        "P01_01_0": ("train", "take", "spoon", "P01"), "P01_01_1": ("train", "put", "plate", "P01"),
        "P02_101_0": ("train", "take", "plate", "P02"), "P03_01_0": ("val", "put", "spoon", "P03"),
    }  # fmt: skip
    assert read_pictures(manifest, "P01_01_0") == list(range(1, 11))
    assert read_pictures(manifest, "P01_01_1") == list(range(20, 41))
    assert read_pictures(manifest, "P02_101_0") == [4, 5, 6, 7]  # frame 5 from 1 is picture 4 from 0
    assert read_pictures(manifest, "P03_01_0") == [3, 4, 5, 6, 7]
    assert not find(manifest, "D2.missing-video")


def test_all_published_classes_are_there_in_their_order(kitchen):
    write_video(kitchen / "P01_01.MP4", 60, rate=60)
    write_video(kitchen / "videos" / "P03" / "P03_01.MP4", 9, rate=60)
    manifest = build(kitchen)
    assert manifest.heads == {"verb": VERBS, "noun": NOUNS}
    assert len(manifest.usable("train")) == 2
    assert len(manifest.usable("val")) == 1
    # P03_01_0 is "spoon", which two of the training segments of P01 know: nothing is refused.
    assert not manifest.errors


def test_missing_videos_are_named_with_where_they_were_looked_for(kitchen):
    write_video(kitchen / "P03_01.mp4", 9, rate=60)
    write_video(kitchen / "videos" / "P01" / "P01_01.mp4", 60, rate=60)
    manifest = build(kitchen)
    (finding,) = find(manifest, "D2.missing-video")
    assert finding.severity == "warning"
    assert "1 video with 1 segment missing" in finding.message
    assert "P02/videos/P02_101.MP4" in finding.message
    assert finding.examples == ("P02_101: 1 segment",)
    assert dict(manifest.rejected()) == {"P02_101_0": "its video or frames are missing"}
    assert find(build(kitchen, missing="refuse"), "D2.missing-video")[0].severity == "error"


def test_a_broken_video_is_named_once_however_many_segments_lie_in_it(kitchen):
    write_video(kitchen / "P03_01.mp4", 9, rate=60)
    write_video(kitchen / "P02_101.mp4", 20, rate=50)
    (kitchen / "P01_01.mp4").write_bytes(b"no video")
    (finding,) = find(build(kitchen), "D2.unreadable")
    assert finding.message.startswith("2 samples in 1 file unusable")
    assert finding.count == 1
    (line,) = finding.examples
    assert line.startswith("P01_01.mp4: 2 clips, damaged or no video")
    write_video(kitchen / "P01_01.mp4", 5, rate=60)  # too short for both, each in its own way
    (finding,) = find(build(kitchen), "D2.unreadable")
    (line,) = finding.examples
    assert line.startswith("P01_01.mp4: 2 clips; P01_01_0 has 5 frames, but its label asks for")


def test_a_table_is_found_in_annotations_by_its_name(kitchen):
    write_video(kitchen / "P01_01.mp4", 60, rate=60)
    manifest = build(kitchen, csv="EPIC_100_train.csv", val_fraction=0, test_fraction=0)
    assert (manifest.source, len(manifest.usable("train"))) == ("epic", 2)


def test_a_split_without_any_video_is_refused(kitchen):
    write_video(kitchen / "P01_01.mp4", 60, rate=60)
    (finding,) = find(build(kitchen), "D2.bare-split")
    assert finding.severity == "error"
    assert "All files of val are missing" in finding.message


def test_cut_clips_begin_with_their_segment(kitchen):
    write_video(kitchen / "clips" / "P01_01_0_take_spoon.mp4", 11, rate=60)
    write_video(kitchen / "clips" / "P01_01_1.mp4", 30, rate=60)
    write_video(kitchen / "clips" / "P01_01_10.mp4", 5, rate=60)
    write_video(kitchen / "P02_101_0.mp4", 4, rate=50)
    write_video(kitchen / "P03_01_0.mp4", 5, rate=60)
    manifest = build(kitchen)
    assert read_pictures(manifest, "P01_01_0") == list(range(10))  # 11 frames there, 10 in the segment
    assert read_pictures(manifest, "P01_01_1") == list(range(30))  # of 21: cut otherwise, so used whole
    (finding,) = find(manifest, "D10.cut-length")
    assert finding.examples == ("P01_01_1: 30 frames",)
    starts = {r["sample_id"]: r["start_frame"] for r in manifest.table.to_pylist()}
    assert starts == {"P01_01_0": 1, "P01_01_1": None, "P02_101_0": 5, "P03_01_0": 3}
    write_video(kitchen / "clips" / "P01_01_0_again.mp4", 10, rate=60)
    assert dict(build(kitchen).rejected())["P01_01_0"].startswith("2 files fit: clips/P01_01_0_")


def test_rows_that_cannot_be_right_are_named(kitchen):
    rows = [
        *TRAIN,
        row("P01_01_2", 30, 20, 0, 1),
        row("P01_01_3", 1, 9, 0, 1, verb_class="4"),
        row("P01_01_4", 1, 9, 0, 1, noun_class="-1"),
        row("P01_01_5", 1, 9, 0, 1, start_frame="one"),
        row("P01_01_6", 1, 9, 0, 1, video_id=" "),
        row("P01_01_7", 1, 900, 0, 1),
        row("P01_01_8", 100, 200, 0, 1, rate=59),
        row("P09_01_0", 1, 9, 0, 1),
    ]
    write_csv(kitchen / "annotations" / "EPIC_100_train.csv", HEADER, rows)
    manifest = build(kitchen)
    reasons = dict(manifest.rejected())
    assert reasons["P01_01_2"] == "stops at frame 20 and starts at frame 30"
    assert reasons["P01_01_3"] == "verb_class '4' is none of 0 to 3"
    assert reasons["P01_01_4"] == "noun_class '-1' is none of 0 to 4"
    assert reasons["P01_01_5"] == "start_frame or stop_frame is no whole number"
    assert reasons["P01_01_6"] == "a column is empty"
    assert find(manifest, "EPIC.timestamps")[0].examples == ("P01_01_8: 3 frames apart",)
    assert [f.examples for f in find(manifest, "EPIC.bounds")] == [
        ("P01_01_7: up to 15.00 s of 10.00 s",),
    ]  # fmt: skip
    assert find(manifest, "EPIC.unknown-video")[0].examples == ("P09_01_0",)


def test_a_narration_id_stands_once(kitchen):
    write_csv(kitchen / "annotations" / "EPIC_100_train.csv", HEADER, [*TRAIN, TRAIN[0]])
    (finding,) = find(build(kitchen), "EPIC.repeated-id")
    assert (finding.severity, finding.examples) == ("error", ("P01_01_0",))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "EPIC_100_verb_classes.csv").unlink(), "it names the verbs"),
        (lambda folder: (folder / "EPIC_100_noun_classes.csv").write_text("id,key\n0,a\n2,b\n"), "from 0, each once"),
        (lambda folder: (folder / "EPIC_100_train.csv").write_text("narration_id,video_id\na,b\n"), "lacks the col"),
        (lambda folder: (folder / "EPIC_100_video_info.csv").write_text("video_id,duration,fps\na,x,1\n"), "no number"),
    ],
)  # fmt: skip
def test_damaged_annotations_are_refused(kitchen, spoil, words):
    spoil(kitchen / "annotations")
    with pytest.raises(DataError, match=words):
        build(kitchen)


def test_what_does_not_fit_the_source_is_refused(kitchen, tmp_path_factory):
    with pytest.raises(UsageError, match=r"data\.columns and data\.heads"):
        build(kitchen, source="epic", heads={"verb": "verb_class"})
    with pytest.raises(UsageError, match="is no file"):
        build(kitchen, source="epic", csv="EPIC_100_tarin.csv")
    (kitchen / "annotations" / "EPIC_100_test_timestamps.csv").write_text(
        "narration_id\nP01\n", encoding="utf-8"
    )
    with pytest.raises(DataError, match="has no labels"):
        build(kitchen, source="epic", csv="EPIC_100_test_timestamps.csv")
    with pytest.raises(DataError, match=r"has no EPIC_100_train\.csv or EPIC_100_validation\.csv"):
        build(tmp_path_factory.mktemp("empty"), source="epic")


def test_one_named_table_is_undivided_and_cut_by_participant(kitchen):
    rows = [
        row(f"P{p:02d}_01_{n}", 1 + 2 * n, 4 + 2 * n, n % 2, n % 3) for p in range(1, 7) for n in range(4)
    ]
    write_csv(kitchen / "annotations" / "EPIC_100_own.csv", HEADER, rows)
    for person in range(1, 7):
        write_video(kitchen / f"P{person:02d}_01.mp4", 12, rate=60, start=100 * person)
    options = {"csv": "annotations/EPIC_100_own.csv", "val_fraction": 0.2, "test_fraction": 0.2}
    manifest = build_manifest(kitchen, DataSection(**options, near_distance=0), seed=0, use_cache=False)
    assert manifest.source == "epic"
    split_of = {}
    for each in manifest.usable(None).to_pylist():
        assert split_of.setdefault(each["group"], each["split"]) == each["split"]
    assert set(split_of.values()) == {"train", "val", "test"}


def test_the_recipe_has_the_published_settings():
    recipe = load_recipe("epic-resnet18")
    assert (recipe.data.source, recipe.model.num_frames, recipe.model.temporal) == ("epic", 8, "mean")
    assert (recipe.clip.sampling, recipe.clip.frame_base, recipe.clip.stop) == ("uniform", 1, "exclusive")
    assert (recipe.model.drop_rate, recipe.model.freeze) == (0.3, ())
    train = recipe.train
    assert (train.opt, train.lr, train.weight_decay, train.batch_size, train.epochs) == (
        "adamw",
        1e-4,
        1e-4,
        32,
        30,
    )
    assert (train.schedule, train.decay_rate, train.patience_epochs, train.monitor) == (
        "plateau",
        0.5,
        3,
        "val/top1",
    )
    assert (recipe.augment.random_erasing, recipe.augment.erasing_area) == (0.1, (0.02, 0.1))


@pytest.mark.shared
def test_the_real_clips_are_sampled_where_their_rows_say(shared_data, tmp_path):
    for name in ("annotations", "clips"):
        (tmp_path / name).symlink_to(shared_data / "epic100" / name)
    manifest = build(tmp_path, csv="annotations/EPIC_100_uda_source_train.csv")
    rows = {each["sample_id"]: each for each in manifest.usable(None).to_pylist()}
    expected = {
        "P01_01_10": ("open", "drawer", 1498, 1572, [0, 10, 20, 31, 41, 52, 62, 73]),
        "P01_06_90": ("put", "fork", 20484, 20533, [0, 6, 13, 20, 27, 34, 41, 48]),
        "P01_06_92": ("take", "sponge", 20643, 20700, [0, 8, 16, 24, 32, 40, 48, 56]),
    }
    assert rows.keys() == expected.keys()
    for name, (verb, noun, start, stop, indices) in expected.items():
        found = rows[name]
        assert (found["verb"], found["noun"], found["group"]) == (verb, noun, "P01")
        assert (found["first_frame"], found["num_frames"], found["start_frame"]) == (0, stop - start, start)
        assert list_views(found["num_frames"], 8, ClipSection())[0].tolist() == indices
        # The last frame that is read is stop_frame - 1.
        assert start + indices[-1] == stop - 1


@pytest.mark.shared
@pytest.mark.parametrize(
    ("table", "count"), [("EPIC_100_validation.csv", 9_668), ("EPIC_100_uda_source_train.csv", 16_115)]
)
def test_the_published_tables_are_audited_in_seconds(shared_data, tmp_path, table, count):
    (tmp_path / "annotations").symlink_to(shared_data / "epic100" / "annotations")
    begin = time.perf_counter()
    result = check_data(tmp_path, DataSection(csv=f"annotations/{table}"), use_cache=False)
    assert time.perf_counter() - begin < 10
    assert result.manifest.table.num_rows == count
    assert {reason for _, reason in result.manifest.rejected()} == {"its video or frames are missing"}
    # Counted at 60 and 50 frames a second, every row agrees with its timestamps and lies in its video.
    assert not [f for f in result.manifest.findings if f.code.startswith("EPIC.") and f.severity != "note"]
    assert len(result.manifest.heads["verb"]) == 97
    assert len(result.manifest.heads["noun"]) == 300
    assert result.manifest.heads["noun"][:3] == ("tap", "spoon", "plate")


@pytest.mark.shared
def test_one_spoiled_row_in_the_published_table_is_found(shared_data, tmp_path):
    source = shared_data / "epic100" / "annotations"
    for name in ("verb_classes", "noun_classes", "video_info"):
        (tmp_path / f"EPIC_100_{name}.csv").write_bytes((source / f"EPIC_100_{name}.csv").read_bytes())
    with (source / "EPIC_100_validation.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    rng = np.random.default_rng(0)
    place = int(rng.integers(len(rows)))
    rows[place][header.index("stop_frame")] = str(int(rows[place][header.index("stop_frame")]) + 40)
    write_csv(tmp_path / "EPIC_100_validation.csv", header, rows)
    (finding,) = find(build(tmp_path), "EPIC.timestamps")
    assert finding.examples == (f"{rows[place][0]}: 39 frames apart",)  # it was one short before
