"""Predicting clips: as evaluation does, in windows, from an ONNX file, with two heads."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from praxiscope.comparison.cascade import Wish
from praxiscope.data.video import Sampling
from praxiscope.errors import UsageError
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.prediction import camera
from praxiscope.recipe.load import load_recipe
from praxiscope.stats.cascade import compute_confidence, fit_temperature
from praxiscope.training.watch import Silent
from praxiscope.workflows.cascade import CascadeCosts, cascade, measure_latencies
from praxiscope.workflows.evaluate import evaluate
from praxiscope.workflows.export import export
from praxiscope.workflows.networks import open_run
from praxiscope.workflows.predict import predict
from praxiscope.workflows.predict_clips import WindowChoice
from praxiscope.workflows.predict_record import PredictSettings
from praxiscope.workflows.train import train

ALL = PredictSettings(formats=("csv", "json", "parquet"), device="cpu")


def read_column(rows, name):
    return np.array([float(row[name]) for row in rows])


def read_rows(folder, name="predictions.csv"):
    with (folder / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_folders_of_frames_are_predicted_as_evaluation_did(clips, tmp_path):
    predict(clips.one.path, str(clips.root / "test"), output=tmp_path, settings=ALL)
    stored = read_predictions(clips.one.predictions("test"))
    expected = dict(zip(stored.sample_ids, stored.logits(), strict=True))
    table = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert len(table) == 6
    for row in table:
        name = next(each for each in expected if row["source"].endswith(each.split("/", 1)[1]))
        assert row["logits"] == pytest.approx(expected[name].tolist(), abs=1e-5)
        assert (row["first_frame"], row["num_frames"], row["start_s"]) == (0, 8, None)
    assert len(list((tmp_path / "annotated").rglob("*.jpg"))) == 6


def test_videos_of_two_heads_are_predicted_as_evaluation_did_with_all_views(clips, tmp_path):
    root = clips.root.parent / "films"
    predict(clips.two.path, str(root / "test"), output=tmp_path, settings=ALL)
    stored = read_predictions(clips.two.predictions("test"))
    expected = dict(zip(stored.sample_ids, stored.logits("verb"), strict=True))
    for row in pq.read_table(tmp_path / "predictions.parquet").to_pylist():
        name = next(each for each in expected if row["source"].endswith(each))
        assert row["logits_verb"] == pytest.approx(expected[name].tolist(), abs=1e-5)
    first = read_rows(tmp_path)[0]
    assert {"verb", "noun_probability", "joint", "joint_2"} <= first.keys()
    assert first["joint"] == f"{first['verb']} + {first['noun']}"
    assert float(first["joint_probability"]) == pytest.approx(
        float(first["verb_probability"]) * float(first["noun_probability"]), abs=1e-5
    )
    top = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))[0]["top"]
    assert list(top) == ["verb", "noun", "joint"]


def test_a_long_video_is_cut_into_windows_of_typical_length(clips, tmp_path):
    predict(clips.two.path, str(clips.video), output=tmp_path, settings=PredictSettings(images=False))
    rows = read_rows(tmp_path)
    typical = float(json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["clip"]["typical_s"])
    assert typical == pytest.approx(0.8, abs=0.06)  # 8 frames a clip; the last one's length is the muxer's
    starts, ends = read_column(rows, "start_s"), read_column(rows, "end_s")
    np.testing.assert_allclose(ends - starts, typical, atol=2e-6)
    np.testing.assert_allclose(np.diff(starts)[:-1], typical / 2, atol=2e-6)
    assert ends[-1] == pytest.approx(4.8)
    segments = read_rows(tmp_path, "segments.csv")
    assert float(segments[0]["start_s"]) == 0.0
    assert float(segments[-1]["end_s"]) == 4.8
    assert sum(int(segment["windows"]) for segment in segments) == len(rows)
    notes = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["notes"]
    assert f"windows of {typical:g} s (the median length of the training clips" in " ".join(notes)


def test_the_annotated_video_keeps_frames_and_shows_the_answer(clips, tmp_path):
    settings = PredictSettings(video=True, windows=WindowChoice(window_s=1.0))
    predict(clips.two.path, str(clips.video), output=tmp_path, settings=settings)
    (path,) = (tmp_path / "annotated").glob("*.mp4")
    with av.open(str(path)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 48
    assert frames[0].shape[0] > 32  # a strip for the text below the small picture
    below = frames[20][32:, :, 0]
    assert below.max() > 200
    assert below.min() < 60


def test_window_0_takes_the_video_as_one_clip(clips, tmp_path):
    settings = PredictSettings(images=False, windows=WindowChoice(window_s=0.0))
    predict(clips.two.path, str(clips.video), output=tmp_path, settings=settings)
    (row,) = read_rows(tmp_path)
    assert (row["start_s"], row["num_frames"]) == ("0.0", "48")
    assert float(row["end_s"]) == pytest.approx(4.8, abs=0.06)
    assert not (tmp_path / "segments.csv").exists()


def test_a_truncated_video_is_predicted_as_one_clip_and_named(clips, tmp_path):
    cut = tmp_path / "cut.mkv"
    with av.open(str(clips.video)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    settings = PredictSettings(images=False, windows=WindowChoice(window_s=0.0))
    result = predict(clips.one.path, str(cut), output=tmp_path / "out", settings=settings)
    (row,) = read_rows(tmp_path / "out")
    (failure,) = result.failures
    assert failure.frames == int(row["num_frames"]) < 40
    assert "rest is missing" in failure.reason
    told = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["failures"]
    assert [each["frames_before"] for each in told] == [failure.frames]


def test_a_camera_is_predicted_and_filmed_in_windows(clips, tmp_path, monkeypatch):
    fake = camera.CameraAddress(format="mp4", file=str(clips.video), options={})
    monkeypatch.setattr(camera, "find_addresses", lambda number: [fake])
    settings = PredictSettings(video=True, windows=WindowChoice(window_s=0.8), sampling=Sampling(limit=20))
    predict(clips.two.path, "0", output=tmp_path, settings=settings)
    rows = read_rows(tmp_path)
    assert [float(row["start_s"]) for row in rows] == pytest.approx([0.0, 0.4, 0.8, 1.2])
    (path,) = (tmp_path / "annotated").glob("*.mp4")
    with av.open(str(path)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 20
    assert frames[4][32:].max() < 60  # no window is over yet, so nothing is said
    assert frames[15][32:].max() > 200


def test_a_pattern_of_folders_names_clips(clips, tmp_path):
    pattern = str(clips.root / "test" / "sit_down" / "*")
    result = predict(clips.one.path, pattern, output=tmp_path, settings=PredictSettings(images=False))
    assert result.pictures == 3


def test_what_goes_with_images_is_refused_by_name(clips, small_run, tmp_path):
    image = next(clips.root.rglob("*.jpg"))
    with pytest.raises(UsageError, match=r"is an image, and this model looks at clips\. Give videos"):
        predict(clips.one.path, str(image), output=tmp_path / "a")
    for model, settings, words in (
        (clips.one, PredictSettings(sampling=Sampling(every=2)), "--every and --fps choose single frames"),
        (clips.one, PredictSettings(sampling=Sampling(limit=2)), "--limit goes with windows"),
        (small_run, PredictSettings(windows=WindowChoice(window_s=1.0)), "--stride cut videos into clips; "),
    ):
        with pytest.raises(UsageError, match=words):
            predict(model.path, str(clips.video), output=tmp_path / "a", settings=settings)


@pytest.fixture(scope="module")
def planned(clips, tmp_path_factory):
    """A cascade of two runs that look at other frames, in other numbers and views; folder and plan."""
    folder = tmp_path_factory.mktemp("cascade")
    other = {"model.num_frames": 2, "clip.sampling": "segment", "clip.num_clips": 2, "model.img_size": 48}
    recipe = load_recipe(load_recipe(clips.one.recipe).model_dump(mode="json"), {"name": "other", **other})
    large = train(recipe, data=clips.root, output=folder / "runs")
    for run in (clips.one, large):
        for split in ("val", "test"):
            evaluate(run, split=split)
    small = read_predictions(clips.one.predictions("test"))
    temperature = fit_temperature(
        read_predictions(clips.one.predictions("val")).logits(),
        read_predictions(clips.one.predictions("val")).targets(),
    )
    threshold = float(np.median(compute_confidence(small.logits(), temperature)))
    costs = CascadeCosts(small_ms=1.0, large_ms=4.0)
    result = cascade(clips.one, large, output=folder / "c", costs=costs, wish=Wish(threshold=threshold))
    return result.folder, large


@pytest.mark.parametrize("windows", [False, True])
def test_a_cascade_of_clips_answers_as_the_run_that_was_asked(clips, planned, tmp_path, windows):
    folder, large = planned
    source = str(clips.video if windows else clips.root / "test")
    settings = replace(ALL, images=False, windows=WindowChoice(window_s=0.8) if windows else WindowChoice())
    tables = {}
    for name, model in (("cascade", folder), ("small", clips.one.path), ("large", large.path)):
        predict(model, source, output=tmp_path / name, settings=settings)
        tables[name] = pq.read_table(tmp_path / name / "predictions.parquet").to_pylist()
    asked = ["other" in row["answered_by"] for row in tables["cascade"]]
    assert 0 < sum(asked) < len(asked)
    for place, row in enumerate(tables["cascade"]):
        alone = tables["large" if asked[place] else "small"][place]
        assert row["logits"] == pytest.approx(alone["logits"], abs=1e-5)
        assert (row["first_frame"], row["num_frames"]) == (alone["first_frame"], alone["num_frames"])


def test_a_cascade_of_clips_needs_a_recording(planned, tmp_path):
    with pytest.raises(UsageError, match=r"looks at a clip once more .* which a camera can't give"):
        predict(planned[0], "0", output=tmp_path, settings=PredictSettings(windows=WindowChoice(window_s=1)))


def test_the_cost_of_a_clip_is_that_of_all_its_views(clips, planned):
    networks = [
        open_run(run, device="cpu", batch_size=None, watch=Silent()) for run in (clips.one, planned[1])
    ]
    shapes = []
    for network in networks:
        compute = network.compute
        object.__setattr__(
            network, "compute", lambda clips, compute=compute: shapes.append(clips.shape) or compute(clips)
        )
    measure_latencies(*networks)
    assert set(shapes) == {(1, 4, 32, 32, 3), (2, 2, 48, 48, 3)}


def test_a_cascade_of_several_heads_is_refused(clips, tmp_path):
    evaluate(clips.two, split="val")
    copy = tmp_path / "two" / clips.two.run_id
    shutil.copytree(clips.two.path, copy)
    with pytest.raises(UsageError, match="heads verb and noun"):
        cascade(clips.two.path, copy, output=tmp_path / "c")


@pytest.mark.parametrize("name", [pytest.param("one", marks=pytest.mark.soak), "two"])
def test_an_exported_file_predicts_what_the_run_does(clips, tmp_path, name):
    run = getattr(clips, name)
    result = export(run, tmp_path / "m.onnx", split="test")
    assert result.parity.max_abs_diff < 1e-4
    source = str(clips.root / "test" if name == "one" else clips.video)
    for model, folder in ((run.path, "run"), (tmp_path / "m.onnx", "onnx")):
        predict(model, source, output=tmp_path / folder, settings=PredictSettings(images=False))
    of_run, of_file = (read_rows(tmp_path / folder) for folder in ("run", "onnx"))
    assert len(of_run) == len(of_file) > 1
    key = "probability" if name == "one" else "joint_probability"
    np.testing.assert_allclose(read_column(of_file, key), read_column(of_run, key), atol=1e-5)
    for one, other in zip(of_run, of_file, strict=True):
        assert [one["first_frame"], one["num_frames"]] == [other["first_frame"], other["num_frames"]]
