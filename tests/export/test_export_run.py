"""``praxiscope export``: a file that computes the same, or no file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from praxiscope.cli.main import main
from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.models.onnx_file import read_onnx_card
from praxiscope.profiling.result import Difference
from praxiscope.profiling.runtimes.onnxruntime import OnnxRuntimeSession
from praxiscope.runs.rundir import RunDir
from praxiscope.workflows import export as export_workflow
from praxiscope.workflows import profile_subjects
from praxiscope.workflows.export import export


def test_an_exported_run_is_one_file_with_its_card(small_run, tmp_path, capsys):
    path = tmp_path / "out" / "model.onnx"
    with pytest.raises(SystemExit) as ended:
        main(["export", str(small_run.path), "-o", str(path)])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "same top-1 on 100.0 %" in said
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    card = read_onnx_card(path)
    assert card.names == ("clap", "run", "wave")
    assert (card.img_size, card.recipe_name, card.head) == (32, "tiny", "action")
    onnx.checker.check_model(str(path))


def test_a_file_that_computes_something_else_is_not_kept(small_run, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there before")
    session = export_workflow.OnnxRuntimeSession

    class Wrong(session):
        def __call__(self, images):
            return super().__call__(images) * np.float32(1.01)

    monkeypatch.setattr(export_workflow, "OnnxRuntimeSession", Wrong)
    with pytest.raises(IntegrityError, match=r"was not written: on 12 samples its logits differ .* by 1 %"):
        export(small_run, path)
    assert path.read_bytes() == b"what was there before"
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_eight_bits_are_calibrated_and_their_accuracy_is_told(small_run, tmp_path):
    result = export(small_run, tmp_path / "int8.onnx", int8=True, force=True)
    assert result.difference is not None
    assert result.difference.n == 12
    assert result.difference.low <= result.difference.value <= result.difference.high
    assert read_onnx_card(result.path).names == ("clap", "run", "wave")
    operations = {node.op_type for node in onnx.load(str(result.path)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operations


def test_eight_bits_that_lose_more_than_a_point_are_refused_unless_forced(small_run, tmp_path, monkeypatch):
    lost = Difference(value=-0.02, low=-0.03, high=-0.01, p_value=0.01, n=900)
    monkeypatch.setattr(export_workflow, "_compare_accuracy", lambda *_arguments: lost)
    with pytest.raises(IntegrityError, match=r"loses 2.0 points of top-1 on 900 val samples .* --force"):
        export(small_run, tmp_path / "int8.onnx", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_averages_mirror_images_is_exported_so(small_run, tmp_path):
    run = RunDir.open(Path(shutil.copytree(small_run.path, tmp_path / "tiny" / small_run.path.name)))
    recipe = run.recipe.read_text(encoding="utf-8")
    assert "flip: false" in recipe
    run.recipe.write_text(recipe.replace(" flip: false", " flip: true"), encoding="utf-8")
    path = export(run, tmp_path / "model.onnx").path
    plain = export(small_run, tmp_path / "plain.onnx").path
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    once, mirrored = OnnxRuntimeSession(plain, threads=1), np.ascontiguousarray(images[..., ::-1])
    given = OnnxRuntimeSession(path, threads=1)(images)
    np.testing.assert_allclose(given, (once(images) + once(mirrored)) / 2, atol=1e-5)
    assert np.abs(given - once(images)).max() > 1e-4


def test_without_training_images_only_eight_bits_are_refused(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(profile_subjects, "_find_training", lambda *_arguments: ())
    with pytest.raises(DataError, match=r"this run has none\. Export without --int8"):
        export(small_run, tmp_path / "int8.onnx", int8=True)
    assert export(small_run, tmp_path / "model.onnx").path.is_file()


def test_a_folder_that_cannot_be_made_is_named(small_run, tmp_path):
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match=r"Can't make the folder .*taken"):
        export(small_run, tmp_path / "taken" / "model.onnx")


def test_other_names_and_splits_are_refused(small_run, tmp_path):
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        export(small_run, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="choose one of train, val, test"):
        export(small_run, tmp_path / "model.onnx", split="dev")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        export(small_run, tmp_path / "folder.onnx")
