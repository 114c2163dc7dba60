from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx import TensorProto, helper

from praxiscope.errors import DataError, IntegrityError, UsageError
from praxiscope.evaluation.predictions import read_predictions
from praxiscope.models.onnx_file import CARD_KEY, OnnxCard
from praxiscope.prediction.onnx_network import open_onnx, read_names
from praxiscope.training.watch import Silent
from praxiscope.workflows.predict import predict
from praxiscope.workflows.predict_record import PredictSettings
from trained_pair import NAMES, TrainedPair

QUICK = PredictSettings(images=False, formats=("parquet",))
CARD = OnnxCard(
    head="action", names=NAMES, img_size=16, crop_pct=0.5, interpolation="bilinear", mean=(0.1, 0.2, 0.3),
    std=(0.5, 0.25, 2.0), weights_sha256="0" * 64, recipe_name="r", praxiscope_version="0",
)  # fmt: skip


def write_means(path: Path, *, card: OnnxCard | None = CARD, shape: tuple = ("batch", 3, 16, 16)) -> Path:
    """Write a graph whose logits are the means of the three channels of its input."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["images", "axes"], ["logits"], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (shape[0], 3))],
        [axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if card is not None:
        helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, str(path))
    return path


def test_the_card_says_how_pictures_are_normalised(tmp_path):
    network, warning = open_onnx(write_means(tmp_path / "m.onnx"), names=None, threads=1)
    assert warning is None
    assert network.transform.spec.resize_size == 32
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    expected = (images / 255 - np.array(CARD.mean)) / np.array(CARD.std)
    assert np.allclose(network.predict(images), expected.mean(axis=(1, 2)), atol=1e-5)


def test_a_file_of_one_batch_size_gets_whole_batches(tmp_path):
    network, _ = open_onnx(write_means(tmp_path / "m.onnx", shape=(4, 3, 16, 16)), names=None, threads=1)
    free, _ = open_onnx(write_means(tmp_path / "f.onnx"), names=None, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    assert network.batch_size == 4
    assert np.array_equal(network.predict(images), free.predict(images))


def test_a_foreign_file_needs_names_and_is_told_what_is_assumed(pair: TrainedPair, tmp_path):
    path = write_means(tmp_path / "foreign.onnx", card=None, shape=("n", 3, "h", "w"))
    with pytest.raises(UsageError, match=r"doesn't say what its outputs mean .* Give --names FILE"):
        predict(path, pair.data / "test", output=tmp_path / "out")
    names = tmp_path / "names.txt"
    names.write_text("\ufeffclap\nrun\n\nwave\n", encoding="utf-8")

    notes: list[str] = []
    watch = Silent()
    watch.note = notes.append
    settings = PredictSettings(images=False, names=names)
    predict(path, pair.data / "test", output=tmp_path / "out", settings=settings, watch=watch)
    assert any(note.startswith("WARNING: ") and "ASSUMED ImageNet's" in note for note in notes)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert any("ASSUMED" in note for note in summary["notes"])
    assert summary["networks"][0]["weights_sha256"] is None
    assert summary["networks"][0]["img_size"] == 224


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 1, 16, 16), "feeds float images"),
        ((1, 3, 16, 8), "feeds square ones"),
        ((1, 3), "feeds float images"),
    ],
)
def test_foreign_inputs_that_do_not_fit_are_refused(tmp_path, shape, words):
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["y"])],
        "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(UsageError, match=words):
        open_onnx(tmp_path / "m.onnx", names=("a", "b"), threads=1)


def test_files_that_are_no_onnx_are_named(tmp_path):
    for content in (b"", b"not a model", bytes(100)):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(DataError, match=r"m.onnx can't be run by ONNX Runtime"):
            open_onnx(tmp_path / "m.onnx", names=("a",), threads=1)


def test_names_where_there_is_a_card_are_refused(tmp_path):
    with pytest.raises(UsageError, match="says itself what its labels are"):
        open_onnx(write_means(tmp_path / "m.onnx"), names=("a", "b", "c"), threads=1)


def test_as_many_names_as_outputs(tmp_path):
    network, _ = open_onnx(write_means(tmp_path / "m.onnx", card=None), names=("a", "b"), threads=1)
    with pytest.raises(IntegrityError, match="2 label names"):
        network.predict(np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"\n \n", "holds no label names"),
        (b"a\nb\na", "'a' twice"),
    ],
)
def test_a_names_file_that_cannot_be_used(tmp_path, content, words):
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_names(tmp_path / "names.txt")


def test_no_torch_is_imported(pair: TrainedPair, tmp_path):
    path = write_means(tmp_path / "m.onnx")
    code = (
        "import sys\nfrom praxiscope.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules, 'heavy'\n"
    )
    words = ["predict", path, pair.data / "test" / "run", "-o", tmp_path / "out"]
    line = [sys.executable, "-c", code, *map(str, words)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "out" / "annotated").iterdir())) == 12


def test_an_exported_run_predicts_as_the_run(pair: TrainedPair, tmp_path):
    from praxiscope.data.manifest import read_manifest
    from praxiscope.models.onnx_file import write_onnx
    from praxiscope.recipe.load import load_recipe
    from praxiscope.workflows.evaluate import load_best

    recipe, manifest = load_recipe(pair.small.recipe), read_manifest(pair.small.manifest)
    built = load_best(pair.small, recipe, manifest, Silent())
    card = OnnxCard(
        head="action", names=NAMES, img_size=built.img_size, crop_pct=built.crop_pct,
        interpolation=built.interpolation, mean=built.mean, std=built.std, weights_sha256="1" * 64,
        recipe_name="small", praxiscope_version="0",
    )  # fmt: skip
    write_onnx(built.module, tmp_path / "small.onnx", img_size=built.img_size, card=card)
    predict(tmp_path / "small.onnx", pair.data / "test", output=tmp_path / "out", settings=QUICK)
    found = np.array(pq.read_table(tmp_path / "out" / "predictions.parquet")["logits"].to_pylist())
    assert np.allclose(found, read_predictions(pair.small.predictions("test")).logits(), atol=1e-4)
