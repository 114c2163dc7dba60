"""Weights load strictly, say what they did, and a file never runs code."""

import hashlib
import importlib
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from praxiscope.errors import IntegrityError, UsageError
from praxiscope.models.build import build_model
from praxiscope.models.sources import WeightsFile
from praxiscope.models.weights import WeightsMismatch, WeightsUnreadable, load_weights, read_state
from praxiscope.recipe.schema import ModelSection

State = dict[str, Tensor]


def _network(seed: int = 0, **kwargs: Any) -> torch.nn.Module:
    section = ModelSection(name="demo-cnn", kwargs={"channels": (8, 8, 8, 8), "stem_width": 8})
    return build_model(section, num_classes=kwargs.pop("num_classes", 4), seed=seed).module


def _vit(img_size: int, name: str = "vit_tiny_patch16_224", **kwargs: Any) -> torch.nn.Module:
    torch.manual_seed(img_size)
    kwargs = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": img_size, **kwargs}
    return timm.create_model(name, num_classes=4, **kwargs)


def _body(module: torch.nn.Module) -> State:
    return {
        name: tensor for name, tensor in module.state_dict().items() if not name.startswith(("fc.", "head."))
    }


def _equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def published() -> State:
    return _network(seed=1).state_dict()


WRAPS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "args": {"lr": 0.1}},
    "model_ema": lambda s: {"model_ema": s, "model": {n: torch.zeros_like(t) for n, t in s.items()}},
    "module.": lambda s: {f"module.{n}": t for n, t in s.items()},
    "_orig_mod.": lambda s: {f"_orig_mod.{n}": t for n, t in s.items()},
    "module._orig_mod.": lambda s: {f"module._orig_mod.{n}": t for n, t in s.items()},
    "model.": lambda s: {f"model.{n}": t for n, t in s.items()},
    "Lightning": lambda s: {"state_dict": {f"net.backbone.{n}": t for n, t in s.items()}, "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": s, "epoch": 3},
    "averaged": lambda s: {"n_averaged": torch.tensor(3), **{f"module.{n}": t for n, t in s.items()}},
    "nested and prefixed": lambda s: {"state_dict": {f"module.{n}": t for n, t in s.items()}},
    "without batch counters": lambda s: {n: t for n, t in s.items() if not n.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
def test_usual_ways_to_store_weights_all_load(
    wrap: Callable[[State], Any], published: State, tmp_path: Path
) -> None:
    torch.save(wrap(published), tmp_path / "weights.pth")
    network = _network()
    report = load_weights(network, tmp_path / "weights.pth")
    assert _equal(_body(network), {n: t for n, t in published.items() if not n.startswith("fc.")})
    assert set(report.head_ignored) == {"fc.weight", "fc.bias"}


def test_safetensors_loads_and_the_report_fits_one_line(published: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(published, path)
    report = load_weights(_network(), path)
    assert (report.num_loaded, report.num_tensors) == (len(published) - 2, len(published))
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    line = str(report)
    assert "\n" not in line
    assert f"{len(published) - 2} of {len(published)} tensors from {path}" in line
    assert "new head" in line


def test_half_precision_file_loads_into_full_precision(published: State, tmp_path: Path) -> None:
    save_file(
        {n: t.half() if t.is_floating_point() else t for n, t in published.items()},
        tmp_path / "w.safetensors",
    )
    network = _network()
    load_weights(network, tmp_path / "w.safetensors")
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert torch.allclose(network.state_dict()["conv1.0.weight"], published["conv1.0.weight"], atol=1e-3)


def test_head_of_the_same_shape_is_not_taken_unless_asked(published: State, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(published, path)
    network = _network()
    fresh = network.state_dict()["fc.weight"].clone()
    load_weights(network, path)
    assert torch.equal(network.state_dict()["fc.weight"], fresh)
    report = load_weights(network, path, keep_head=True)
    assert torch.equal(network.state_dict()["fc.weight"], published["fc.weight"])
    assert report.num_loaded == report.num_tensors
    assert "new head" not in str(report)


def test_head_of_other_classes_is_refused_when_asked_for(published: State, tmp_path: Path) -> None:
    save_file(published, tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match=r"2 have another shape \(fc\.bias \(4,\) for \(7,\)"):
        load_weights(_network(num_classes=7), tmp_path / "w.safetensors", keep_head=True)


BREAKS: dict[str, tuple[Callable[[State], State], str]] = {
    "missing": (
        lambda s: {n: t for n, t in s.items() if n != "conv1.0.weight"},
        r"1 of the network's \d+ tensors are missing \(conv1\.0\.weight\)",
    ),
    "unexpected": (
        lambda s: {**s, "extra.weight": torch.zeros(2)},
        r"1 of the file's \d+ are unknown \(extra\.weight\)",
    ),
    "shape": (
        lambda s: {**s, "bn1.bias": torch.zeros(9)},
        r"1 have another shape \(bn1\.bias \(9,\) for \(16,\)\)",
    ),
    "every key misses": (
        lambda s: {f"trunk.{n}": t for n, t in s.items()},
        r"are missing \(.*, and \d+ more\); .* are unknown",
    ),
}


@pytest.mark.parametrize(("break_", "told"), BREAKS.values(), ids=BREAKS.keys())
def test_weights_of_another_network_are_refused_and_nothing_changes(
    break_: Callable[[State], State], told: str, published: State, tmp_path: Path
) -> None:
    save_file(break_(published), tmp_path / "w.safetensors")
    network = _network()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    with pytest.raises(WeightsMismatch, match=told):
        load_weights(network, tmp_path / "w.safetensors")
    assert _equal(network.state_dict(), before)
    assert WeightsMismatch.exit_code == 3


def test_vit_file_in_foreign_names_is_an_error_and_no_training_from_scratch(tmp_path: Path) -> None:
    """150 names that all missed under strict=False once made a published model train from scratch."""
    state = {f"vit.encoder.layer.{n}": t for n, t in _vit(32).state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    network = _vit(32)
    body = len(_body(network))
    with pytest.raises(WeightsMismatch, match=f"{body} of the network's {body + 2} tensors are missing"):
        load_weights(network, tmp_path / "w.pth")


@pytest.mark.parametrize("side", [64, 96, 384])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_position_embeddings_are_resampled_as_interpolate_does(side: int, name: str, tmp_path: Path) -> None:
    """224 px to ``side``: bicubic with antialiasing over the grid of patches, tokens of their own untouched."""
    given, network = _vit(224, name), _vit(side, name)
    with torch.no_grad():
        given.pos_embed.copy_(torch.randn(given.pos_embed.shape))
    save_file(given.state_dict(), tmp_path / "w.safetensors")
    report = load_weights(network, tmp_path / "w.safetensors")
    assert report.resampled == ("pos_embed",)
    assert "resampled pos_embed" in str(report)
    tokens = network.num_prefix_tokens
    grid = given.pos_embed[:, tokens:].detach().reshape(1, 14, 14, 24).permute(0, 3, 1, 2)
    expected = interpolate(grid, size=side // 16, mode="bicubic", antialias=True, align_corners=False)
    assert torch.allclose(
        network.pos_embed[:, tokens:], expected.permute(0, 2, 3, 1).reshape(1, -1, 24), atol=1e-6
    )
    assert torch.equal(network.pos_embed[:, :tokens], given.pos_embed[:, :tokens])
    assert torch.equal(network.blocks[1].mlp.fc1.weight, given.blocks[1].mlp.fc1.weight)


def test_other_patches_are_refused_though_timm_would_resample_them(tmp_path: Path) -> None:
    save_file(_vit(64).state_dict(), tmp_path / "w.safetensors")
    other = _vit(32, patch_size=8)
    before = {n: t.clone() for n, t in other.state_dict().items()}
    with pytest.raises(
        WeightsMismatch, match=r"patch_embed\.proj\.weight \(24, 3, 16, 16\) for \(24, 3, 8, 8\)"
    ):
        load_weights(other, tmp_path / "w.safetensors")
    assert _equal(other.state_dict(), before)


def test_own_checkpoint_of_another_size_is_not_resampled_quietly(tmp_path: Path) -> None:
    save_file(_vit(64).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match=r"pos_embed \(1, 17, 24\) for \(1, 5, 24\)"):
        load_weights(_vit(32), tmp_path / "w.safetensors", keep_head=True)


def test_damaged_download_is_recognised_by_its_published_hash(published: State, tmp_path: Path) -> None:
    path = tmp_path / "resnet-0123abcd.pth"
    torch.save(published, path)
    with pytest.raises(IntegrityError, match=r"is damaged: its sha256 .* publisher says 0123abcd"):
        load_weights(_network(), WeightsFile(path=path, source="torch cache", sha256_prefix="0123abcd"))


def test_a_users_own_file_name_is_no_hash(published: State, tmp_path: Path) -> None:
    path = tmp_path / "run-00000012.pth"
    torch.save(published, path)
    assert load_weights(_network(), path).source == "file"


def test_absent_and_unknown_files_name_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"PK")
    for path in (tmp_path / "none.pth", tmp_path / "w.onnx", tmp_path):
        with pytest.raises(UsageError, match=r"\.safetensors, \.bin, \.pt, \.pth, \.npz"):
            read_state(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "random"])
def test_damaged_files_are_named(suffix: str, damage: str, published: State, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in published.items()})
    else:
        torch.save(published, path) if suffix == ".pth" else save_file(published, path)
    whole = path.read_bytes()
    contents = {
        "empty": b"",
        "text": b"<html>404</html>",
        "truncated": whole[: len(whole) // 2],
        "random": whole[::-1],
    }
    path.write_bytes(contents[damage])
    with pytest.raises(WeightsUnreadable, match=f"w{suffix}' can't be read as weights"):
        read_state(path)


@pytest.mark.parametrize("array", [np.array([{}], dtype=object), np.array(["a"])], ids=["pickled", "text"])
def test_arrays_of_other_things_than_numbers_are_refused(array: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", weight=array)
    with pytest.raises(WeightsUnreadable, match=r"w\.npz' can't be read as weights"):
        read_state(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([torch.zeros(1)], "holds no state_dict"),
        (torch.zeros(1), "holds no state_dict"),
        ({}, "holds no state_dict"),
        (
            {"weight": torch.zeros(1), "lr": 0.1, "names": ["a"]},
            r"2 entries that are no tensors \(lr, names\)",
        ),
    ],
)
def test_files_without_a_state_dict_say_what_they_hold(content: Any, told: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsUnreadable, match=told):
        read_state(tmp_path / "w.pt")


class _Payload:
    """An object that calls a function of its author's choice when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def _touch_code(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


FUNCTIONS: dict[str, Callable[[Path], _Payload]] = {
    "eval": lambda m: _Payload(eval, _touch_code(m)),
    "exec": lambda m: _Payload(exec, _touch_code(m)),
    "open": lambda m: _Payload(open, str(m), "w"),
    "os.mkdir": lambda m: _Payload(os.mkdir, str(m)),
    "os.system": lambda m: _Payload(os.system, f'"{sys.executable}" -c "{_touch_code(m)}"'),
    "subprocess": lambda m: _Payload(subprocess.check_call, [sys.executable, "-c", _touch_code(m)]),
    "copy": lambda m: _Payload(shutil.copy, __file__, str(m)),
    "path method": lambda m: _Payload(pathlib.Path.touch, m),
    "import": lambda m: _Payload(importlib.import_module, m.stem),
}
SHELLS: dict[str, Callable[[_Payload, State], Any]] = {
    "as the file": lambda p, s: p,
    "as a tensor": lambda p, s: {**s, "fc.bias": p},
    "beside the weights": lambda p, s: {"state_dict": s, "args": p},
}
HOSTILE = [(name, shell) for name in FUNCTIONS for shell in ("as a tensor", "beside the weights")] + [
    ("exec", "as the file"),
    ("os.mkdir", "as the file"),
]


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize(("name", "shell"), HOSTILE)
def test_code_in_a_weights_file_never_runs(
    name: str, shell: str, container: str, published: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker.txt"
    (tmp_path / "marker.py").write_text(_touch_code(marker), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    payload = FUNCTIONS[name](marker)
    torch.save(
        SHELLS[shell](payload, published),
        tmp_path / "w.pth",
        _use_new_zipfile_serialization=container == "zip",
    )
    with pytest.raises(WeightsUnreadable, match="never executed"):
        load_weights(_network(), tmp_path / "w.pth")
    assert not marker.exists()


def test_the_hostile_payloads_are_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, the test above could pass on payloads that do nothing anywhere."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("eval", "exec", "os.mkdir", "copy", "path method"):
        marker = tmp_path / name
        pickle.loads(pickle.dumps(FUNCTIONS[name](marker)))
        assert marker.exists(), name
