from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from video_files import write_video

from praxiscope.cli.main import main
from praxiscope.data.images import read_image
from praxiscope.data.video import Sampling, read_frames
from praxiscope.errors import DataError, IntegrityError, Interrupted, UsageError
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.prediction.predictors import Network
from praxiscope.prediction.sources import Item
from praxiscope.prediction.stream import Failure, StreamSettings, predict_items
from praxiscope.tensors import Heads
from praxiscope.training.watch import Silent
from praxiscope.workflows.predict import open_predictor, predict
from praxiscope.workflows.predict_record import PredictSettings
from trained_pair import NAMES, TrainedPair

QUICK = PredictSettings(images=False, device="cpu")


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.notes: list[str] = []
        self.phases: list[tuple[int, int]] = []
        self._stop_after = stop_after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def phase(self, text: str, done: int, total: int) -> None:
        self.phases.append((done, total))
        if done == self._stop_after:
            os.kill(os.getpid(), signal.SIGINT)


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def read_summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def hash_tree(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", ["small", "large"])
def test_predict_gives_the_logits_of_evaluate(pair: TrainedPair, tmp_path, name):
    """Same decoding, crop, normalisation, precision, batches: no bit differs."""
    run = getattr(pair, name)
    table = read_predictions(run.predictions("test"))
    settings = replace(QUICK, formats=("parquet",))
    predict(run.path, pair.data / "test", output=tmp_path / "out", settings=settings)
    found = pq.read_table(tmp_path / "out" / "predictions.parquet")
    ids = [Path(source).relative_to(pair.data).as_posix() for source in found["source"].to_pylist()]
    assert ids == table.sample_ids
    assert np.array_equal(np.array(found["logits"].to_pylist(), np.float32), table.logits())
    assert json.loads(found.schema.metadata[b"praxiscope"])["names"] == list(NAMES)
    best = table.logits().argmax(axis=1)
    assert found["label"].to_pylist() == [NAMES[index] for index in best]
    probabilities = np.array(found["probabilities"].to_pylist())
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.allclose(found["probability"].to_numpy(), probabilities.max(axis=1))


def test_tables_summary_and_pictures(pair: TrainedPair, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(np.zeros((90, 120, 3), np.uint8)).save(source / "wide.png")
    turned = Image.new("RGB", (200, 150), "white")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(source / "turned.jpg", exif=exif)
    (source / "broken.jpg").write_bytes(b"<html>no</html>")
    write_video(source / "clip.mp4", count=4, size=(160, 128))
    before, heard = hash_tree(source), Listener()
    settings = PredictSettings(
        formats=("csv", "json", "parquet"), top_k=2, sampling=Sampling(every=2), device="cpu"
    )
    result = predict(pair.small.path, source, output=tmp_path / "out", settings=settings, watch=heard)
    assert hash_tree(source) == before
    assert (result.pictures, result.drawn, len(result.failures)) == (4, 4, 1)
    rows = read_csv(tmp_path / "out")
    assert [Path(row["source"]).name for row in rows] == ["clip.mp4", "clip.mp4", "turned.jpg", "wide.png"]
    assert [(row["frame"], row["time_s"]) for row in rows] == [
        ("0", "0.0"),
        ("2", "0.08"),
        ("", ""),
        ("", ""),
    ]
    assert [(row["width"], row["height"]) for row in rows[2:]] == [("150", "200"), ("120", "90")]
    assert set(rows[0]) == {
        "source", "frame", "time_s", "width", "height", "label", "probability", "label_2", "probability_2", "ms",
    }  # fmt: skip
    objects = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [one["top"][0]["label"] for one in objects] == [row["label"] for row in rows]
    assert [str(one["top"][1]["probability"]) for one in objects] == [row["probability_2"] for row in rows]
    assert pq.read_table(tmp_path / "out" / "predictions.parquet")["frame"].to_pylist() == [0, 2, None, None]
    summary = read_summary(tmp_path / "out")
    assert summary["state"] == "done"
    assert summary["failures"] == [
        {
            "source": str(source / "broken.jpg"),
            "reason": "no image but an HTML page, such as a failed download",
            "frames_before": None,
        }
    ]
    assert (
        summary["networks"][0]["weights_sha256"]
        == read_predictions(pair.small.predictions("test")).info.weights_sha256
    )
    assert any("broken.jpg" in note and "HTML" in note for note in heard.notes)
    assert heard.phases[-1] == (5, 5)
    drawn = sorted(
        path.relative_to(tmp_path / "out" / "annotated").as_posix()
        for path in (tmp_path / "out" / "annotated").rglob("*.*")
        if path.is_file()
    )
    assert drawn == ["clip.mp4/frame-000000.jpg", "clip.mp4/frame-000002.jpg", "turned.jpg", "wide.png.jpg"]
    assert read_image(tmp_path / "out" / "annotated" / "turned.jpg").shape == (200, 150, 3)


def test_a_video_becomes_a_video(pair: TrainedPair, tmp_path):
    clip = write_video(tmp_path / "clip.avi", codec="mpeg4", count=5, size=(320, 240))
    settings = PredictSettings(video=True, images=False, device="cpu")
    predict(pair.small.path, clip, output=tmp_path / "out", settings=settings)
    frames = list(read_frames(tmp_path / "out" / "annotated" / "clip.avi.mp4", Sampling()))
    assert len(frames) == 5
    assert frames[0].image.size == (320, 240)
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(5)], abs=1e-3)


def test_a_rerun_replaces_what_was_there(pair: TrainedPair, tmp_path):
    first = pair.data / "test" / "run"
    predict(pair.small.path, first, output=tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("keep", encoding="utf-8")
    predict(
        pair.small.path,
        first / "001.jpg",
        output=tmp_path / "out",
        settings=replace(QUICK, formats=("json",)),
    )
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["mine.txt", "predictions.json", "summary.json"]


def test_a_slip_leaves_an_earlier_prediction_alone(pair: TrainedPair, tmp_path):
    picture, out = pair.data / "test" / "run" / "001.jpg", tmp_path / "out"
    predict(pair.small.path, picture, output=out, settings=QUICK)
    before = hash_tree(out)
    with pytest.raises(UsageError, match="--format 'cvs'"):
        predict(pair.small.path, picture, output=out, settings=replace(QUICK, formats=("cvs",)))
    assert hash_tree(out) == before


def test_a_summary_of_another_program_is_no_earlier_prediction(pair: TrainedPair, tmp_path):
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated" / "mine.txt").write_text("keep", encoding="utf-8")
    (tmp_path / "summary.json").write_text('{"labels": 3}', encoding="utf-8")
    before = hash_tree(tmp_path)
    with pytest.raises(UsageError, match=r"annotated, summary\.json that no prediction wrote"):
        predict(pair.small.path, pair.data / "test" / "run", output=tmp_path, settings=QUICK)
    assert hash_tree(tmp_path) == before


def test_output_inside_the_source_is_not_read_again(pair: TrainedPair, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    Image.new("RGB", (64, 64)).save(source / "a.png")
    for _ in range(3):
        assert predict(pair.small.path, source, output=source / "out").pictures == 1
    assert sorted(path.name for path in source.iterdir()) == ["a.png", "out"]


def test_nothing_is_written_among_the_pictures(pair: TrainedPair, tmp_path):
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(source / "sub" / "a.png")
    Image.new("RGB", (64, 64)).save(source / "b.png")
    before = hash_tree(source)
    for output, words in ((source, "folder of the pictures"), (source / "sub", "folder of the pictures")):
        with pytest.raises(UsageError, match=words):
            predict(pair.small.path, source, output=output, settings=QUICK)
    with pytest.raises(UsageError, match="is a file"):
        predict(pair.small.path, source, output=source / "b.png", settings=QUICK)
    (tmp_path / "taken" / "annotated").mkdir(parents=True)
    with pytest.raises(UsageError, match="that no prediction wrote"):
        predict(pair.small.path, source, output=tmp_path / "taken", settings=QUICK)
    (source / "annotated").mkdir()
    Image.new("RGB", (64, 64)).save(source / "annotated" / "c.png")
    with pytest.raises(UsageError, match="choose another -o"):
        predict(pair.small.path, source / "annotated", output=source, settings=QUICK)
    (source / "annotated" / "c.png").unlink()
    (source / "annotated").rmdir()
    assert hash_tree(source) == before


def test_ctrl_c_keeps_what_was_predicted(pair: TrainedPair, tmp_path):
    heard = Listener(stop_after=3)
    settings = replace(QUICK, formats=("csv", "json", "parquet"), batch_size=2)
    with pytest.raises(Interrupted, match=r"Stopped after \d+ pictures") as caught:
        predict(pair.small.path, pair.data / "test", output=tmp_path / "out", settings=settings, watch=heard)
    assert caught.value.exit_code == 130
    rows = read_csv(tmp_path / "out")
    assert 3 <= len(rows) < 36
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))) == len(rows)
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows == len(rows)
    assert read_summary(tmp_path / "out")["state"] == "interrupted"
    assert (
        predict(pair.small.path, pair.data / "test", output=tmp_path / "out", settings=QUICK).pictures == 36
    )


@pytest.mark.soak
def test_a_killed_prediction_leaves_no_half_table(pair: TrainedPair, tmp_path):
    out = tmp_path / "out"
    code = (
        "import os\n"
        "from praxiscope.training.watch import Silent\n"
        "from praxiscope.workflows.predict import predict\n"
        "class W(Silent):\n"
        "    def phase(self, text, done, total):\n"
        "        if done == 20: os._exit(9)\n"
        f"predict({str(pair.small.path)!r}, {str(pair.data / 'test')!r}, output={str(out)!r}, watch=W())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert read_summary(out)["state"] == "running"
    assert not (out / "predictions.csv").exists()
    predict(pair.small.path, pair.data / "test", output=out, settings=QUICK)
    assert sorted(path.name for path in out.iterdir()) == ["predictions.csv", "summary.json"]


def test_nothing_readable_is_an_error(pair: TrainedPair, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"None of 1 file could be read, for example .*a\.jpg: no image but an empty"
    ):
        predict(pair.small.path, tmp_path / "a.jpg", output=tmp_path / "out", settings=QUICK)


def test_refusals_name_what_is_wrong(pair: TrainedPair, tmp_path):
    picture = pair.data / "test" / "run" / "000.jpg"
    for model, settings, words in (
        (pair.small.path, replace(QUICK, names=picture), "--names goes with an ONNX file"),
        (
            pair.small.path,
            replace(QUICK, formats=("cvs",)),
            "--format 'cvs': choose of csv, json, parquet.*mean 'csv'",
        ),
        (tmp_path / "absent", QUICK, "No run"),
        (tmp_path / "absent.onnx", QUICK, "There is no ONNX file"),
        (
            tmp_path / "absent.onnx",
            replace(QUICK, device="cuda"),
            "--device cuda: an ONNX file is run on the CPU",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            predict(model, picture, output=tmp_path / "out", settings=settings)
    with pytest.raises(UsageError, match="No SOURCE"):
        predict(pair.small.path, [], output=tmp_path / "out")
    for given, words in (({"top_k": 0}, "--top-k 0"), ({"batch_size": 0}, "--batch-size 0")):
        with pytest.raises(UsageError, match=words):
            PredictSettings(**given)


def test_a_camera_ends_at_the_limit(pair: TrainedPair, tmp_path, monkeypatch):
    from praxiscope.prediction import camera

    live = write_video(tmp_path / "live.mkv")
    fake = camera.CameraAddress(format="matroska", file=str(live), options={})
    monkeypatch.setattr(camera, "find_addresses", lambda number: [fake])
    settings = replace(QUICK, sampling=Sampling(limit=4))
    assert predict(pair.small.path, "0", output=tmp_path / "out", settings=settings).pictures == 4
    assert read_csv(tmp_path / "out")[0]["source"] == "camera 0"


def test_order_and_failures_stay_in_place_across_batches(pair: TrainedPair, tmp_path):
    predictor, _ = open_predictor(str(pair.small.path), QUICK, runs=tmp_path, watch=Silent())
    paths = sorted((pair.data / "test").rglob("*.jpg"))[:9]
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"x")
    mixed = [*paths[:3], bad, *paths[3:8], bad, paths[8]]
    items = [Item(kind="image", path=path, name=path.name) for path in mixed]
    found = list(predict_items(predictor, items, StreamSettings(sampling=Sampling())))
    where = [entry.item.path if isinstance(entry, Failure) else entry.picture.item.path for entry in found]
    assert where == mixed


def make_network(names, logits):
    return Network(
        label="net", source=Path("net"), heads=Heads(names={"action": names}), transform=None,
        compute=lambda images: logits, batch_size=2, weights_sha256=None,
    )  # fmt: skip


def test_a_network_that_breaks_its_promise_is_refused():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(IntegrityError, match=r"shape \(2, 3\) for 2 samples and 2 label names"):
        make_network(("a", "b"), np.zeros((2, 3), np.float32)).predict(images)
    with pytest.raises(IntegrityError, match="not finite"):
        make_network(("a", "b"), np.full((2, 2), np.nan, np.float32)).predict(images)


def test_the_command_line_counts_and_is_strict_when_asked(pair: TrainedPair, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"")
    good = pair.data / "test" / "run" / "000.jpg"
    words = [
        "predict",
        pair.small.path,
        good,
        tmp_path / "bad.jpg",
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    for strict, code in (([], 0), (["--strict"], 4)):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in (*words, *strict)])
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code
        assert "Predicted 1 picture; 1 file could not be read whole" in told.out
        assert "Skipped: " in told.err
    assert "--strict: 1 file could not be read whole" in told.err
    assert "bad.jpg (no image but an empty file (zero bytes))" in told.err
    assert (tmp_path / "out" / "annotated" / "000.jpg").is_file()
