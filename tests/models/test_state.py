"""State dicts survive every wrapper, and their fingerprint depends on nothing but the weights."""

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from praxiscope.models.build import build_model
from praxiscope.models.freeze import assert_frozen_unchanged, fingerprint_frozen, freeze
from praxiscope.models.state import (
    compute_weights_sha256,
    count_parameters,
    find_classifier_prefixes,
    unwrap_module,
    unwrap_state_dict,
)
from praxiscope.models.weights import load_weights
from praxiscope.recipe.schema import ModelSection

SMALL = ModelSection(name="demo-cnn", kwargs={"channels": (8, 8, 8, 8), "stem_width": 8})


def _network(seed: int = 0) -> nn.Module:
    return build_model(SMALL, num_classes=4, seed=seed).module


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One process that calls itself a group, so that the real DDP wrapper can be made."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch was built without gloo")
    store = dist.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _wrap(network: nn.Module, *, compiled: bool, distributed: bool, averaged: bool) -> nn.Module:
    if averaged:
        network = ModelEmaV3(network)
    if compiled:
        network = torch.compile(network)  # compiles at the first forward pass, which never comes
    return DistributedDataParallel(network) if distributed else network


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    ("compiled", "distributed", "averaged"), list(itertools.product([False, True], repeat=3))
)
def test_any_wrapping_saves_what_the_bare_network_loads(
    compiled: bool, distributed: bool, averaged: bool, tmp_path: Path
) -> None:
    network = _network(seed=1).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    wrapped = _wrap(network, compiled=compiled, distributed=distributed, averaged=averaged)
    save_file(unwrap_state_dict(wrapped), tmp_path / "clean.safetensors")
    torch.save(wrapped.state_dict(), tmp_path / "prefixed.pth")
    for name in ("clean.safetensors", "prefixed.pth"):
        bare = _network(seed=2)
        report = load_weights(bare, tmp_path / name, keep_head=True)
        assert report.num_loaded == report.num_tensors
        with torch.no_grad():
            assert torch.equal(bare.eval()(images), network(images))


@pytest.mark.usefixtures("process_group")
def test_loading_into_a_wrapped_network_reaches_the_network(tmp_path: Path) -> None:
    source, target = _network(seed=1), _network(seed=2)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(DistributedDataParallel(torch.compile(target)), tmp_path / "w.safetensors", keep_head=True)
    assert compute_weights_sha256(target.state_dict()) == compute_weights_sha256(source.state_dict())


def test_other_orders_of_wrapping_and_compiled_blocks_unwrap_too() -> None:
    network = _network()
    expected = set(network.state_dict())
    assert unwrap_module(AveragedModel(network)) is not network  # a copy, as averaging needs
    for wrapped in (AveragedModel(torch.compile(network)), ModelEmaV3(torch.compile(network))):
        assert set(unwrap_state_dict(wrapped)) == expected
    network.layer1[0] = torch.compile(network.layer1[0])
    assert set(network.state_dict()) != expected
    assert set(unwrap_state_dict(network)) == expected


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("compiled", [False, True])
def test_frozen_parts_stay_frozen_through_wrappers(compiled: bool) -> None:
    network = _network()
    freeze(network, ("conv1", "bn1", "layer1"))
    before = fingerprint_frozen(network)
    wrapped = _wrap(network, compiled=compiled, distributed=True, averaged=False)
    wrapped.train()
    assert not network.bn1.training
    assert network.layer2.training
    assert fingerprint_frozen(wrapped) == before
    unwrap_module(wrapped)(torch.randn(4, 3, 32, 32))
    assert_frozen_unchanged(wrapped, before)


def _state() -> dict[str, Tensor]:
    return {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(3), "c": torch.zeros(0, 2)}


def test_fingerprint_ignores_order_strides_and_format(tmp_path: Path) -> None:
    state = _state()
    expected = compute_weights_sha256(state)
    assert len(expected) == 64
    assert compute_weights_sha256(dict(reversed(state.items()))) == expected
    assert compute_weights_sha256({**state, "b": state["b"].T.contiguous().T}) == expected
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    assert compute_weights_sha256(load_file(tmp_path / "w.safetensors")) == expected
    assert compute_weights_sha256(torch.load(tmp_path / "w.pt", weights_only=True)) == expected


def test_fingerprint_sees_every_change() -> None:
    state = _state()
    nudged = copy.deepcopy(state)
    nudged["b"].view(torch.int32)[0, 1] += 1  # the last bit of one number
    variants = [
        state,
        nudged,
        {**state, "b": state["b"].reshape(3, 2)},
        {**state, "b": state["b"].double()},
        {**state, "b": state["b"].bfloat16()},
        {**state, "b": state["b"].half()},
        {**{k: v for k, v in state.items() if k != "b"}, "d": state["b"]},
        {**state, "c": torch.zeros(2, 0)},
        {**state, "b": state["a"], "a": state["b"]},
    ]
    assert len({compute_weights_sha256(variant) for variant in variants}) == len(variants)


def test_counts_and_head_of_a_network() -> None:
    network = _network()
    assert find_classifier_prefixes(network) == ("fc",)
    assert count_parameters(network) == sum(p.numel() for p in network.parameters())
    for parameter in network.fc.parameters():
        parameter.requires_grad_(False)
    assert count_parameters(network) - count_parameters(network, trainable=True) == 4 * 8 + 4


def test_distilled_networks_have_two_heads() -> None:
    section = ModelSection(name="deit_tiny_distilled_patch16_224", img_size=32, kwargs={"depth": 1})
    built = build_model(section, num_classes=4, seed=0)
    assert built.classifier_prefixes == ("head", "head_dist")
