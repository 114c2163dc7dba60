"""What every network of the catalogue must do, at a size that a test can afford."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from praxiscope.models.build import BuiltModel, build_model, rebuild_model
from praxiscope.models.catalog import CARDS
from praxiscope.models.freeze import assert_frozen_unchanged, fingerprint_frozen
from praxiscope.models.state import is_under, unwrap_state_dict
from praxiscope.recipe.schema import ModelSection

NUM_CLASSES = 5
# All kinds of layers of the large networks, fewer of each; test_catalog builds them whole.
SHALLOW: dict[str, dict[str, Any]] = {
    "vit_base_patch16_224": {"depth": 1},
    "vit_small_patch16_224": {"depth": 2},
    "resnet50": {"layers": (1, 1, 1, 1)},
}


def _section(name: str, *, freeze: tuple[str, ...] = ()) -> ModelSection:
    kwargs = SHALLOW.get(name, {})
    return ModelSection(name=name, img_size=32, kwargs=kwargs, freeze=freeze)


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([0, 1, 2, 4])


@pytest.fixture(scope="module", params=[card.name for card in CARDS])
def built(request: pytest.FixtureRequest) -> BuiltModel:
    return build_model(_section(request.param), num_classes=NUM_CLASSES, seed=3)


def test_forward_gives_one_logit_a_class(built: BuiltModel) -> None:
    images, _ = _batch()
    logits = built.module(images)
    assert logits.shape == (4, NUM_CLASSES)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_backward_reaches_every_parameter(built: BuiltModel) -> None:
    images, targets = _batch()
    built.module.zero_grad()
    cross_entropy(built.module(images), targets).backward()
    without = [
        name for name, p in built.module.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert without == []


def test_saved_and_rebuilt_gives_equal_logits(built: BuiltModel, tmp_path: Path) -> None:
    images, _ = _batch()
    save_file(unwrap_state_dict(built.module), tmp_path / "weights.safetensors")
    again = rebuild_model(
        _section(built.card.name), num_classes=NUM_CLASSES, weights=tmp_path / "weights.safetensors"
    )
    with torch.no_grad():
        assert torch.equal(built.module.eval()(images), again.module.eval()(images))
    assert again.loaded is not None
    assert again.loaded.num_loaded == again.loaded.num_tensors
    assert again.loaded.head_ignored == ()


def test_head_is_where_timm_says(built: BuiltModel) -> None:
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in built.module.state_dict().items()
        if is_under(name, built.classifier_prefixes)
    }
    assert len(shapes) == 2
    assert all(shape[0] == NUM_CLASSES for shape in shapes.values())


@pytest.mark.parametrize("name", [card.name for card in CARDS])
def test_frozen_backbone_stays_and_head_trains(name: str) -> None:
    built = build_model(_section(name, freeze=("backbone",)), num_classes=NUM_CLASSES, seed=3)
    images, targets = _batch()
    before, start = (
        fingerprint_frozen(built.module),
        {k: v.clone() for k, v in built.module.state_dict().items()},
    )
    trainable = [p for p in built.module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    for _ in range(2):
        built.module.train()
        cross_entropy(built.module(images), targets).backward()
        optimizer.step()
    assert_frozen_unchanged(built.module, before)
    changed = {key for key, value in built.module.state_dict().items() if not torch.equal(value, start[key])}
    assert changed == {key for key in start if is_under(key, built.classifier_prefixes)}
    assert built.frozen is not None
    assert built.frozen.num_trainable == sum(p.numel() for p in trainable)
