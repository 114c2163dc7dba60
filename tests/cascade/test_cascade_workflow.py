from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from praxiscope.cli.main import main
from praxiscope.comparison.cascade import Wish
from praxiscope.comparison.cascade_costs import read_costs
from praxiscope.errors import DataError, IntegrityError, UsageError
from praxiscope.evaluation.cascade_file import check_weights, read_cascade
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.prediction.predictors import CascadePredictor
from praxiscope.runs.rundir import RunDir
from praxiscope.stats.cascade import ask_large, compute_confidence
from praxiscope.training.watch import Silent
from praxiscope.workflows.cascade import CascadeCosts, cascade, measure_latencies
from praxiscope.workflows.networks import open_run
from praxiscope.workflows.predict import open_predictor, predict
from praxiscope.workflows.predict_record import PredictSettings
from trained_pair import TrainedPair

COSTS = CascadeCosts(small_ms=1.0, large_ms=4.0)
QUICK = PredictSettings(images=False, formats=("parquet", "csv"), device="cpu")


def plan(pair: TrainedPair, folder, **options):
    return cascade(pair.small, pair.large, output=folder, device="cpu", **{"costs": COSTS, **options})


def middle(pair: TrainedPair) -> float:
    """Return a threshold that asks about half of the test images."""
    logits = read_predictions(pair.small.predictions("test")).logits()
    return float(np.median(compute_confidence(logits, plan_temperature(pair))))


def plan_temperature(pair: TrainedPair) -> float:
    from praxiscope.stats.cascade import fit_temperature

    val = read_predictions(pair.small.predictions("val"))
    return fit_temperature(val.logits(), val.targets())


def read_logits(folder):
    table = pq.read_table(folder / "predictions.parquet")
    return np.array(table["logits"].to_pylist(), np.float32), table


@pytest.mark.parametrize(("threshold", "name"), [(0.0, "small"), (1.0, "large")])
def test_the_ends_predict_what_each_network_predicts(pair: TrainedPair, tmp_path, threshold, name):
    plan(pair, tmp_path / "cascade", wish=Wish(threshold=threshold))
    predict(tmp_path / "cascade", pair.data / "test", output=tmp_path / "out", settings=QUICK)
    logits, table = read_logits(tmp_path / "out")
    reference = read_predictions(getattr(pair, name).predictions("test"))
    assert np.array_equal(logits, reference.logits())
    assert table["label"].to_pylist() == [reference.names()[index] for index in reference.preds()]


def test_the_large_network_sees_only_what_it_is_asked(pair: TrainedPair, tmp_path, monkeypatch):
    threshold = middle(pair)
    result = plan(pair, tmp_path / "cascade", wish=Wish(threshold=threshold))
    seen = []
    predictor, _ = open_predictor(str(tmp_path / "cascade"), QUICK, runs=tmp_path, watch=Silent())
    assert isinstance(predictor, CascadePredictor)
    large = predictor.networks[1]
    original = large.compute

    def count(images):
        seen.append(len(images))
        return original(images)

    object.__setattr__(large, "compute", count)
    monkeypatch.setattr("praxiscope.workflows.predict.open_predictor", lambda *_a, **_k: (predictor, []))
    answered = predict(tmp_path / "cascade", pair.data / "test", output=tmp_path / "out", settings=QUICK)
    small, big = (read_predictions(run.predictions("test")) for run in (pair.small, pair.large))
    asked = ask_large(compute_confidence(small.logits(), result.plan.temperature), threshold)
    assert 0 < asked.sum() < len(asked)
    assert sum(seen) == asked.sum()
    logits, table = read_logits(tmp_path / "out")
    assert np.array_equal(logits[~asked], small.logits()[~asked])
    assert np.allclose(logits[asked], big.logits()[asked], atol=1e-5)
    names = [network.label for network in predictor.networks]
    assert table["answered_by"].to_pylist() == [names[int(one)] for one in asked]
    assert answered.answered_by == {names[0]: int((~asked).sum()), names[1]: int(asked.sum())}
    share = result.plan.figures["confirmed"]["asked"]["value"]
    assert share == pytest.approx(asked.mean())


def test_what_is_kept(pair: TrainedPair, tmp_path):
    result = plan(pair, tmp_path / "cascade")
    kept = sorted(path.name for path in (tmp_path / "cascade").iterdir())
    assert kept == ["cascade.json", "curve.csv", "curve.png"]
    content = json.loads((tmp_path / "cascade" / "cascade.json").read_text(encoding="utf-8"))
    assert content["threshold"] == result.plan.threshold
    assert set(content["confirmed"]) >= {
        "accuracy",
        "cost_ms",
        "planned_accuracy_inside",
        "planned_cost_inside",
    }
    assert content["costs"] == {"small_ms": 1.0, "large_ms": 4.0, "source": "given by the user"}
    with (tmp_path / "cascade" / "curve.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (float(rows[0]["threshold"]), float(rows[-1]["threshold"])) == (0, 1)
    small = read_predictions(pair.small.predictions("test"))
    assert float(rows[0]["test_accuracy"]) == (small.preds() == small.targets()).mean()
    assert (float(rows[0]["val_cost_ms"]), float(rows[-1]["val_cost_ms"])) == (1.0, 4.0)


def test_folder_and_runs_move_together(pair: TrainedPair, tmp_path):
    home = tmp_path / "home"
    for run in (pair.small, pair.large):
        shutil.copytree(run.path, home / "runs" / run.path.parent.name / run.path.name)
    runs = [RunDir.open(path) for path in sorted((home / "runs").glob("*/*"), reverse=True)]
    cascade(runs[0], runs[1], output=home / "cascade", costs=COSTS, device="cpu")
    content = json.loads((home / "cascade" / "cascade.json").read_text(encoding="utf-8"))
    assert content["small"]["run"].startswith("../runs/small/")
    home.rename(tmp_path / "moved")
    picture = pair.data / "test" / "run" / "000.jpg"
    assert (
        predict(tmp_path / "moved" / "cascade", picture, output=tmp_path / "out", settings=QUICK).pictures
        == 1
    )


def test_other_weights_are_refused(pair: TrainedPair, tmp_path):
    plan(pair, tmp_path / "cascade")
    path = tmp_path / "cascade" / "cascade.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["threshold"] = 0.5
    content["large"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(IntegrityError, match="not those that the cascade was planned with"):
        predict(tmp_path / "cascade", pair.data / "test", output=tmp_path / "out", settings=QUICK)
    check_weights(read_cascade(tmp_path / "cascade").small, content["small"]["weights_sha256"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 9}, "has layout 9; this version reads 1"),
        ({"threshold": 1.5}, "is damaged: threshold 1.5"),
        ({"temperature": 0}, "is damaged: threshold .* temperature 0"),
        ({"temperature": "hot"}, "lacks or garbles"),
        ({"small": {}}, "lacks or garbles 'run'"),
    ],
)
def test_a_damaged_file_is_named(pair: TrainedPair, tmp_path, change, words):
    plan(pair, tmp_path / "cascade")
    path = tmp_path / "cascade" / "cascade.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **change}), encoding="utf-8")
    with pytest.raises(IntegrityError, match=words):
        read_cascade(tmp_path / "cascade")


def test_refusals(pair: TrainedPair, tmp_path):
    with pytest.raises(UsageError, match=r"holds no cascade\.json"):
        read_cascade(tmp_path)
    with pytest.raises(UsageError, match="are the same run"):
        cascade(pair.small, pair.small, output=tmp_path / "c", costs=COSTS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="holds other things than a cascade"):
        plan(pair, tmp_path / "full")
    with pytest.raises(UsageError, match="is a file"):
        plan(pair, tmp_path / "full" / "mine.txt")
    for given, words in (
        ({"small_ms": 1.0}, "--cost-small and --cost-large go together"),
        ({"small_ms": 1.0, "large_ms": 2.0, "profile": tmp_path}, "exclude each other"),
    ):
        with pytest.raises(UsageError, match=words):
            CascadeCosts(**given)
    plan(pair, tmp_path / "cascade")
    settings = PredictSettings(names=tmp_path / "x.txt")
    with pytest.raises(UsageError, match="--names goes with"):
        predict(tmp_path / "cascade", pair.data / "test", output=tmp_path / "out", settings=settings)


@pytest.mark.parametrize("split", ["val", "test"])
def test_missing_predictions_say_how_to_make_them(pair: TrainedPair, tmp_path, split):
    shutil.copytree(pair.large.path, tmp_path / "large" / "run")
    run = RunDir.open(tmp_path / "large" / "run")
    run.predictions(split).unlink()
    with pytest.raises(DataError, match=f"praxiscope evaluate .*run --split {split}"):
        cascade(pair.small, run, output=tmp_path / "cascade", costs=COSTS)


def test_predictions_of_other_weights_are_refused(pair: TrainedPair, tmp_path):
    shutil.copytree(pair.large.path, tmp_path / "large" / "run")
    run = RunDir.open(tmp_path / "large" / "run")
    shutil.copy(pair.small.predictions("val"), run.predictions("val"))
    with pytest.raises(IntegrityError, match="on val are of other weights"):
        cascade(pair.small, run, output=tmp_path / "cascade", costs=COSTS, device="cpu")


def write_profile(path, entries):
    path.write_text(json.dumps({"schema": 1, "entries": entries}), encoding="utf-8")
    return path


def entry(run, ms, runtime="eager-fp32"):
    latency = {"p50": {"value": ms, "low": ms, "high": ms}}
    return {
        "model": "m", "run": str(run), "runtimes": [{"runtime": runtime, "status": "ok", "latency_ms": latency}],
    }  # fmt: skip


def test_costs_come_from_a_profile(tmp_path):
    path = write_profile(
        tmp_path / "profile.json", [entry("b", 9.0), entry("a", 2.0), entry("c", 1.0, "onnxruntime")]
    )
    costs = read_costs(path, tmp_path.cwd() / "a", tmp_path.cwd() / "b")
    assert (costs.small_ms, costs.large_ms) == (2.0, 9.0)
    assert "eager-fp32" in costs.source
    mirrored = read_costs(path, tmp_path.cwd() / "a", tmp_path.cwd() / "b", passes=(1, 2))
    assert (mirrored.small_ms, mirrored.large_ms) == (2.0, 18.0)
    assert "small 1, large 2" in mirrored.source
    for small, kind, words in (
        ("absent", UsageError, "doesn't know .*absent; it has b, a, c"),
        ("c", UsageError, "wasn't timed with eager-fp32; it was with onnxruntime"),
    ):
        with pytest.raises(kind, match=words):
            read_costs(path, tmp_path.cwd() / small, tmp_path.cwd() / "b")
    with pytest.raises(UsageError, match="no such file"):
        read_costs(tmp_path / "none.json", path, path)
    with pytest.raises(DataError, match="has no entries"):
        read_costs(write_profile(tmp_path / "x.json", None), path, path)
    with pytest.raises(DataError, match="that this version reads"):
        read_costs(write_profile(tmp_path / "y.json", [{"model": 1}]), path, path)


def test_costs_are_measured_when_nobody_gives_them(pair: TrainedPair):
    networks = [
        open_run(run, device="cpu", batch_size=None, watch=Silent()) for run in (pair.small, pair.large)
    ]
    small_ms, large_ms = measure_latencies(*networks)
    assert 0 < small_ms < large_ms  # the large one sees more pixels, twice


def test_a_large_network_that_is_cheaper_is_noted(pair: TrainedPair, tmp_path):
    notes: list[str] = []
    watch = Silent()
    watch.note = notes.append
    plan(pair, tmp_path / "cascade", costs=CascadeCosts(small_ms=5.0, large_ms=5.0), watch=watch)
    assert any("no cheaper than the large one" in note for note in notes)


def test_the_command_line_shows_plan_and_test_side_by_side(pair: TrainedPair, tmp_path, capsys):
    words = [
        "cascade",
        pair.small.path,
        pair.large.path,
        "-o",
        tmp_path / "c",
        "--cost-small",
        1,
        "--cost-large",
        4,
    ]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in (*words, "--threshold", 0.5, "--device", "cpu")])
    assert not ended.value.code
    told = capsys.readouterr().out
    for line in (
        "planned on val",
        "found on test",
        "planned is inside",
        "found - planned",
        "small alone, test",
        "large alone, test",
    ):
        assert line in told
    assert "Threshold 0.5000" in told
    assert f"praxiscope predict {tmp_path / 'c'} SOURCE" in told
