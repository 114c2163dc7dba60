"""A run's answers to segments without labels: complete or not at all, and those of evaluation."""

from __future__ import annotations

import csv
import json
import shutil
import time
import zipfile

import numpy as np
import pytest
from kitchens import HEADER, row, write_csv, write_kitchen
from numbered_frames import write_frames, write_video

import praxiscope as px
from praxiscope.cli.main import main
from praxiscope.data.sources.epic import list_unlabelled
from praxiscope.errors import DataError, UsageError
from praxiscope.workflows.challenge import answer_challenge

TIMES = HEADER[:8]  # what the published table without labels has
TABLE = "EPIC_100_test_timestamps.csv"
ASKED = [
    row("P03_01_0", 3, 8, 0, 0), row("P04_01_0", 1, 7, 0, 0), row("P04_01_1", 8, 30, 0, 0),
    row("P04_102_0", 2, 12, 0, 0),
]  # fmt: skip


def write_table(root, rows):
    write_csv(root / "annotations" / TABLE, TIMES, [each[:8] for each in rows])
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny network of verbs and nouns, trained on three segments and validated on one."""
    root = write_kitchen(tmp_path_factory.mktemp("kitchen"))
    write_video(root / "P01_01.mp4", 60, rate=60)
    write_video(root / "P02_101.mp4", 20, rate=50)
    write_video(root / "P03_01.mp4", 9, rate=60)
    recipe = px.load_recipe(
        {
            "name": "tiny",
            "model": {"name": "test_resnet", "img_size": 32, "num_frames": 3, "temporal": "gru"},
            "train": {"epochs": 1, "batch_size": 3, "precision": "fp32"},
            "loader": {"workers": 0},
            "evaluate": {"resamples": 100},
        }
    )
    return px.train(recipe, data=root, output=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def tests(run, tmp_path):
    """A data folder with the videos and frames of four segments without labels."""
    root = write_table(write_kitchen(tmp_path / "tests"), ASKED)
    write_video(root / "videos" / "P03" / "P03_01.mp4", 9, rate=60)
    write_frames(root / "P04" / "rgb_frames" / "P04_01", list(range(1, 40)))
    write_video(root / "P04" / "videos" / "P04_102.MP4", 20, rate=50)
    return root


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    return ended.value.code


def read_answers(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("test.json"))


def test_each_segment_is_answered_as_evaluation_answers_it(run, tests, tmp_path, capsys):
    path = tmp_path / "answers.zip"
    arguments = ["--submission", path, "--segments", TABLE, "--data", tests, "--sls", "1", "2", "3"]
    before = sorted(run.path.rglob("*"))
    assert call(run.path, *arguments) == 0
    assert sorted(run.path.rglob("*")) == before  # nothing is scored
    assert "4 segments of 3 videos" in capsys.readouterr().out
    content = read_answers(path)
    assert [content[key] for key in ("sls_pt", "sls_tl", "sls_td")] == [1, 2, 3]
    assert sorted(content["results"]) == [each[0] for each in ASKED]
    # P03_01_0 is the validation segment too: what evaluation says of it, is said here.
    predictions = px.evaluate(run, split="val").predictions
    for head, size, known in (("verb", 97, 4), ("noun", 300, 5)):
        scores = list(content["results"]["P03_01_0"][head].values())
        assert len(scores) == size
        np.testing.assert_allclose(scores[:known], predictions.logits(head)[0], atol=2e-6)
        others = [list(content["results"][each[0]][head].values())[:known] for each in ASKED]
        assert len({tuple(each) for each in others}) == 4


def test_labels_of_a_labelled_table_are_not_read(run, tests, tmp_path):
    write_csv(tests / "own.csv", HEADER, [row("P03_01_0", 3, 8, 999, "x", noun_class="what")])
    result = answer_challenge(run, segments="own.csv", submission=tmp_path / "a.zip", data=tests)
    assert (result.num_segments, result.num_sources) == (1, 1)


def refuse(run, tests, tmp_path, words, error=DataError, **changes):
    settings = {"segments": TABLE, "submission": tmp_path / "answers.zip", "data": tests, **changes}
    with pytest.raises(error, match=words):
        answer_challenge(run, **settings)
    assert not list(tmp_path.glob("*.zip*"))


def test_a_missing_video_is_named_and_nothing_is_written(run, tests, tmp_path):
    shutil.rmtree(tests / "P04" / "rgb_frames")
    words = (
        r"1 video with 2 segments missing: P04_01\. P04_01 was looked for as .*P04/videos/P04_01\.MP4.* "
        r"A submission must answer all 4 segments of EPIC_100_test_timestamps\.csv"
    )
    refuse(run, tests, tmp_path, words)


def test_a_broken_video_is_named_once_and_nothing_is_written(run, tests, tmp_path):
    rows = [*ASKED, row("P04_102_1", 4, 9, 0, 0)]
    write_table(tests, rows)
    (tests / "P04" / "videos" / "P04_102.MP4").write_bytes(b"no video")
    words = (
        r"1 video can't be read as .* asks: P04/videos/P04_102\.MP4 \(2 segments; P04_102_0 damaged or no "
    )
    refuse(run, tests, tmp_path, words)
    write_video(tests / "P04" / "videos" / "P04_102.MP4", 5, rate=50)
    refuse(run, tests, tmp_path, r"\(2 segments; P04_102_0 has 5 frames, but its label asks")


def test_damaged_rows_are_named(run, tests, tmp_path):
    write_table(tests, [*ASKED, row("P04_01_7", 9, 9, 0, 0)])
    refuse(run, tests, tmp_path, "rows that can't be answered: P04_01_7: stops at frame 9 and starts at fr")
    write_table(tests, [*ASKED, ASKED[0]])
    refuse(run, tests, tmp_path, r"rows that can't be answered: P03_01_0 stands in several rows\.")
    write_table(tests, [])
    refuse(run, tests, tmp_path, "has no rows")


def test_what_does_not_go_together_is_refused_before_anything_is_read(
    run, small_run, tests, tmp_path, capsys
):
    refuse(run, tests, tmp_path, "--segments gone.csv: no such file", UsageError, segments="gone.csv")
    refuse(run, tests, tmp_path, r"name that ends in \.zip", UsageError, submission=tmp_path / "a.json")
    refuse(small_run, tests, tmp_path, "was trained on images", UsageError)
    base = [run.path, "--segments", TABLE, "--data", tests]
    assert call(*base) == 2
    assert "where to? Name the zip with --submission" in capsys.readouterr().err
    for flags in (["--temporal"], ["--split", "val"], ["--out", "m.json"], ["--head", "verb"]):
        assert call(*base, "--submission", tmp_path / "a.zip", *flags) == 2
        assert f"{flags[0]} goes with labels" in capsys.readouterr().err


def test_a_wrong_file_name_costs_no_evaluation(run, tmp_path):
    before = sorted(run.path.rglob("*"))
    with pytest.raises(UsageError, match=r"name that ends in \.zip"):
        px.evaluate(run, split="val", submission=tmp_path / "answers.json")
    assert sorted(run.path.rglob("*")) == before


def test_training_on_the_table_without_labels_says_what_to_type(tests):
    recipe = px.load_recipe({"name": "x", "data": {"csv": TABLE}, "model": {"name": "test_resnet"}})
    with pytest.raises(DataError, match=r"--submission FILE.zip --segments EPIC_100_test_timestamps.csv"):
        px.train(recipe, data=tests)


@pytest.mark.shared
def test_the_published_table_is_listed_in_seconds(shared_data, tmp_path):
    table = shared_data / "epic100" / "annotations" / TABLE
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    videos = sorted({each["video_id"] for each in rows})
    for video in videos:
        (tmp_path / f"{video}.MP4").touch()
    begin = time.perf_counter()
    samples = list_unlabelled(tmp_path, table)
    assert time.perf_counter() - begin < 5
    assert [each.sample_id for each in samples] == sorted(each["narration_id"] for each in rows)
    assert len(samples) == 13_092
    cues = {each.sample_id: (each.path, each.cue.start, each.cue.stop) for each in samples}
    assert all(
        cues[each["narration_id"]]
        == (f"{each['video_id']}.MP4", int(each["start_frame"]), int(each["stop_frame"]))
        for each in rows
    )
    (tmp_path / f"{videos[0]}.MP4").unlink()
    with pytest.raises(DataError, match=rf"1 video with [\d,]+ segments missing: {videos[0]}\."):
        list_unlabelled(tmp_path, table)
