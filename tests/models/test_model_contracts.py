"""What every network of the catalogue must do under every head, at a size that a test can afford."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models import vgg
from torch import Tensor
from torch.nn.functional import cross_entropy

from praxiscope.models.build import BuiltModel, build_model, rebuild_model
from praxiscope.models.catalog import CARDS, find_card
from praxiscope.models.freeze import assert_frozen_unchanged, fingerprint_frozen, freeze
from praxiscope.models.split import split_frozen
from praxiscope.models.state import is_under, unwrap_state_dict
from praxiscope.recipe.schema import ModelSection

NUM_CLASSES = 5
# All kinds of layers of the large networks, fewer or narrower; test_catalog builds them whole.
SHALLOW: dict[str, dict[str, Any]] = {
    "vit_base_patch16_224": {"depth": 1, "embed_dim": 192, "num_heads": 3},
    "vit_small_patch16_224": {"depth": 2},
    "vit_tiny_patch16_224": {"depth": 3},
    "resnet18": {"channels": (16, 32, 64, 128)},
    "resnet18-small": {"channels": (16, 32, 64, 128)},
    "resnet18-small-half": {"channels": (16, 32, 64, 128)},
    "resnet50": {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)},
    "resnet50-small": {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)},
    "vgg16": {"mlp_ratio": 0.01},
    "vgg16_bn": {"mlp_ratio": 0.01},
}
ENTRIES = [
    (card.name, head)
    for card in CARDS
    for head in ("linear", "mlp", "conv")
    if head != "conv" or card.family == "cnn"
]


def _section(name: str, head: str) -> ModelSection:
    return ModelSection.model_validate(
        {"name": name, "img_size": 32, "kwargs": SHALLOW.get(name, {}), "head": head, "head_hidden": 8}
    )


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([0, 1, 2, 4])


@pytest.fixture(scope="module", autouse=True)
def _narrow_vgg() -> Iterator[None]:
    """An eighth of the channels; timm takes them from a table and not from an argument."""
    with pytest.MonkeyPatch.context() as patch:
        narrow = [size if isinstance(size, str) else size // 8 for size in vgg.cfgs["vgg16"]]
        patch.setitem(vgg.cfgs, "vgg16", narrow)
        yield


@pytest.fixture(scope="module", params=ENTRIES, ids=lambda entry: f"{entry[0]}-{entry[1]}")
def built(request: pytest.FixtureRequest) -> BuiltModel:
    return build_model(_section(*request.param), num_classes=NUM_CLASSES, seed=3)


def _head_of(built: BuiltModel) -> str:
    part = built.module.get_submodule(built.classifier_prefixes[-1])
    return {"Linear": "linear", "MlpHead": "mlp", "ConvHead": "conv"}[type(part).__name__]


def test_forward_gives_one_logit_a_class_and_backward_reaches_every_parameter(built: BuiltModel) -> None:
    images, targets = _batch()
    built.module.zero_grad()
    logits = built.module.train()(images)
    assert logits.shape == (4, NUM_CLASSES)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    cross_entropy(logits, targets).backward()
    without = [
        name for name, p in built.module.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert without == []
    built.module.zero_grad()


def test_saved_and_rebuilt_gives_equal_logits(built: BuiltModel, tmp_path: Path) -> None:
    images, _ = _batch()
    save_file(unwrap_state_dict(built.module), tmp_path / "weights.safetensors")
    again = rebuild_model(
        _section(built.card.name, _head_of(built)),
        num_classes=NUM_CLASSES,
        weights=tmp_path / "weights.safetensors",
    )
    with torch.no_grad():
        assert torch.equal(built.module.eval()(images), again.module.eval()(images))
    assert again.loaded is not None
    assert again.loaded.num_loaded == again.loaded.num_tensors
    assert again.loaded.head_ignored == ()


def test_last_layer_of_the_head_has_a_row_a_class(built: BuiltModel) -> None:
    shapes = [
        tuple(tensor.shape)
        for name, tensor in built.module.state_dict().items()
        if is_under(name, built.classifier_prefixes)
    ]
    assert [shape[0] for shape in shapes[-2:]] == [NUM_CLASSES, NUM_CLASSES]
    assert len(shapes) == {"linear": 2, "mlp": 4, "conv": 11}[_head_of(built)]


def test_frozen_backbone_stays_and_head_trains_with_it_or_cut_off(built: BuiltModel) -> None:
    module = deepcopy(built.module)
    report = freeze(module, ("backbone",))
    images, targets = _batch()
    before, start = fingerprint_frozen(module), {k: v.clone() for k, v in module.state_dict().items()}
    trainable = [p for p in module.parameters() if p.requires_grad]
    split = split_frozen(module)
    split.check(images)
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    for run in (module, lambda batch: split.head.train()(split.features(batch))):
        module.train()
        cross_entropy(run(images), targets).backward()
        optimizer.step()
    assert_frozen_unchanged(module, before)
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, start[key])}
    assert changed == {key for key in start if is_under(key, built.classifier_prefixes)}
    assert report.num_trainable == sum(p.numel() for p in trainable)


@pytest.mark.soak
def test_vit_b16_at_full_size() -> None:
    card = find_card("vit-b16")
    built = build_model(ModelSection(name=card.name, freeze=("backbone",)), num_classes=15, seed=0)
    images = torch.randn(1, 3, 224, 224)
    split = split_frozen(built.module)
    assert split.features(images).shape == (1, 768)
    split.check(images)
