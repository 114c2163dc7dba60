"""ONNX files: one file, a free batch size, a card that says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from torch import nn

from praxiscope.errors import DataError, EnvironmentProblem, IntegrityError, UsageError
from praxiscope.models import onnx_file
from praxiscope.models.onnx_file import CARD_KEY, OnnxCard, read_onnx_card, write_onnx
from praxiscope.profiling.runtimes.onnxruntime import OnnxRuntimeSession

CARD = OnnxCard(
    head="action", names=("clap", "jümp"), img_size=16, crop_pct=0.9, interpolation="bicubic",
    mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), weights_sha256="ab" * 32, recipe_name="tiny", praxiscope_version="1",
)  # fmt: skip


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.norm(self.conv(images)).mean((2, 3)))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, nn.Module]:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    module = Tiny().train()
    write_onnx(module, path, img_size=16, card=CARD)
    assert module.training
    return path, module


def change_card(source: Path, target: Path, text: str | None) -> Path:
    model = onnx.load(str(source))
    model.metadata_props.clear()
    onnx.helper.set_model_props(model, {"other": "x"} if text is None else {CARD_KEY: text})
    target.write_bytes(model.SerializeToString())
    return target


def test_one_file_computes_the_same_for_any_batch(written):
    path, module = written
    assert [each.name for each in path.parent.iterdir()] == ["tiny.onnx"]
    session = OnnxRuntimeSession(path, threads=1)
    for size in (1, 3, 8):
        images = np.random.default_rng(size).normal(size=(size, 3, 16, 16)).astype(np.float32)
        with torch.no_grad():
            expected = module.eval()(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(session(images), expected, atol=1e-5)


def test_the_card_comes_back_as_it_was(written):
    assert read_onnx_card(written[0]) == CARD


def test_a_transformer_is_written_too(tmp_path):
    module = timm.create_model("test_vit", num_classes=3, img_size=32).eval()
    write_onnx(module, tmp_path / "vit.onnx", img_size=32)
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    given = OnnxRuntimeSession(tmp_path / "vit.onnx", threads=1)(images)
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_what_is_no_onnx_file_is_named(tmp_path, written):
    with pytest.raises(UsageError, match="There is no ONNX file"):
        read_onnx_card(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_bytes(b"<html>not a model</html>")
    with pytest.raises(DataError, match="no ONNX file, or a damaged one"):
        read_onnx_card(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(DataError, match="no ONNX file, or a damaged one"):
        read_onnx_card(tmp_path / "empty.onnx")
    (tmp_path / "cut.onnx").write_bytes(written[0].read_bytes()[:-100])
    with pytest.raises(DataError, match="no ONNX file, or a damaged one"):
        read_onnx_card(tmp_path / "cut.onnx")


def test_a_file_of_another_program_has_no_card(tmp_path, written):
    with pytest.raises(DataError, match="doesn't say what its outputs mean"):
        read_onnx_card(change_card(written[0], tmp_path / "other.onnx", None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({"schema": 9}), "has schema 9; this version reads 1"),
        (json.dumps({"schema": 1, "head": "action"}), "lacks crop_pct, img_size"),
        (CARD.to_json().replace("[0.5, 0.4, 0.3]", "[0.5, 0.4]"), "is damaged"),
    ],
)
def test_a_damaged_card_is_named(tmp_path, written, text, message):
    with pytest.raises(IntegrityError, match=message):
        read_onnx_card(change_card(written[0], tmp_path / "damaged.onnx", text))


def test_absent_packages_are_named_with_what_to_install(tmp_path, written, monkeypatch):
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(
        EnvironmentProblem, match=r"needs the package onnx: pip install 'praxiscope\[runtimes\]'"
    ):
        write_onnx(Tiny(), tmp_path / "x.onnx", img_size=16)
    with pytest.raises(EnvironmentProblem, match=r"Reading ONNX needs the package onnx: pip install"):
        read_onnx_card(written[0])


class Branching(nn.Module):
    def forward(self, images):
        return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))


def test_what_onnx_cannot_express_is_said(tmp_path):
    with pytest.raises(UsageError, match="Branching can't be written as ONNX"):
        write_onnx(Branching(), tmp_path / "x.onnx", img_size=8)
    assert list(tmp_path.iterdir()) == []
