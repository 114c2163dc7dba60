"""Frozen parts don't move, whatever training does; silent mistake 2 of the earlier projects."""

import copy
import pickle

import pytest
import torch
from torch import nn

from praxiscope.errors import IntegrityError, UsageError
from praxiscope.models.build import build_model
from praxiscope.models.freeze import assert_frozen_unchanged, fingerprint_frozen, freeze
from praxiscope.recipe.schema import ModelSection


def _cnn(**kwargs: object) -> nn.Module:
    section = ModelSection(name="demo-cnn", kwargs={"channels": (8, 8, 8, 8), "stem_width": 8, **kwargs})
    return build_model(section, num_classes=4, seed=0).module


def _vit(**kwargs: object) -> nn.Module:
    section = ModelSection(
        name="demo-vit",
        img_size=32,
        drop_rate=0.5,
        drop_path_rate=0.3,
        kwargs={"depth": 12, "embed_dim": 24, "pos_drop_rate": 0.5, "proj_drop_rate": 0.5, **kwargs},
    )
    return build_model(section, num_classes=4, seed=0).module


def _train_steps(network: nn.Module, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for step in range(steps):
        network.train()
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step)) * 3 + 1
        nn.functional.cross_entropy(network(images), torch.arange(4)).backward()
        optimizer.step()


def test_batch_statistics_of_a_frozen_part_dont_move_and_others_do() -> None:
    network = _cnn()
    freeze(network, ("conv1", "bn1", "layer1"))
    before, start = fingerprint_frozen(network), copy.deepcopy(network.state_dict())
    _train_steps(network)
    assert_frozen_unchanged(network, before)
    now = network.state_dict()
    assert torch.equal(now["layer1.0.bn1.running_mean"], start["layer1.0.bn1.running_mean"])
    assert not torch.equal(now["layer2.0.bn1.running_mean"], start["layer2.0.bn1.running_mean"])
    assert not torch.equal(now["layer2.0.conv1.weight"], start["layer2.0.conv1.weight"])


def test_train_on_the_frozen_part_itself_changes_nothing() -> None:
    network = _cnn()
    freeze(network, ("layer1",))
    for module in network.layer1.modules():
        module.train()
    assert not any(module.training for module in network.layer1.modules())
    assert network.training is True
    assert network.eval().training is False


def test_features_of_a_frozen_vit_have_no_dropout_and_its_head_keeps_it() -> None:
    network = _vit()
    freeze(network, ("backbone",))
    network.train()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.forward_features(images), network.forward_features(images))
    assert not network.pos_drop.training
    assert network.head_drop.training
    assert not torch.equal(network(images), network(images))


def test_dropout_in_trained_blocks_stays_on_behind_frozen_ones() -> None:
    network = _vit()
    freeze(network, ("patch_embed", "pos_embed", "cls_token", "blocks.0"))
    network.train()
    assert network.blocks[1].training
    assert not network.blocks[0].mlp.drop1.training
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(network.forward_features(images), network.forward_features(images))


def test_a_block_number_covers_only_that_block() -> None:
    network = _vit()
    freeze(network, ("blocks.1",))
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in network.named_parameters() if name.startswith("blocks.1.")}


def test_autograd_keeps_nothing_for_frozen_first_stages() -> None:
    network = _cnn()
    freeze(network, ("conv1", "bn1", "layer1"))
    tracked: dict[str, bool] = {}
    for name in ("layer1", "layer2"):
        network.get_submodule(name).register_forward_hook(
            lambda module, given, output, name=name: tracked.update({name: output.requires_grad})
        )
    network.train()(torch.randn(2, 3, 32, 32))
    assert tracked == {"layer1": False, "layer2": True}


def test_a_single_parameter_freezes_alone() -> None:
    network = _vit()
    report = freeze(network, ("pos_embed",))
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["pos_embed"]
    assert report.num_frozen == network.pos_embed.numel()
    assert network.train().blocks.training


@pytest.mark.parametrize("tamper", ["weight", "running_mean"])
def test_a_frozen_tensor_that_moved_is_named(tamper: str) -> None:
    network = _cnn()
    freeze(network, ("bn1",))
    before = fingerprint_frozen(network)
    assert set(before) == {
        f"bn1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    with torch.no_grad():
        getattr(network.bn1, tamper)[0] += 1e-6 if tamper == "running_mean" else 1e-6 + 1e-7
    with pytest.raises(
        IntegrityError, match=rf"1 of 5 frozen tensors changed during training \(bn1\.{tamper}\)"
    ):
        assert_frozen_unchanged(network, before)


def test_thawing_behind_the_back_is_caught() -> None:
    network = _cnn()
    freeze(network, ("bn1",))
    before = fingerprint_frozen(network)
    network.bn1.weight.requires_grad_(True)
    with pytest.raises(IntegrityError, match=r"bn1\.weight"):
        assert_frozen_unchanged(network, before)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_frozen_by_itself(clone: object) -> None:
    network = _cnn()
    freeze(network, ("bn1",))
    twin = clone(network)  # type: ignore[operator]
    del network.bn1.__dict__["train"]
    network.train()
    twin.train()
    assert network.bn1.training
    assert not twin.bn1.training


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        (
            "layer9",
            r"no part 'layer9'\. Did you mean 'layer\d'\?.* Allowed: backbone, conv1, bn1, .*fc, or a name",
        ),
        ("blocks.0", "no part 'blocks.0'"),
        ("", "no part ''"),
        ("layer", "no part 'layer'"),
    ],
)
def test_unknown_part_lists_the_networks_own(pattern: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        freeze(_cnn(), (pattern,))


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves nothing to train"):
        freeze(_cnn(), ("backbone", "fc"))


def test_nothing_frozen_has_no_fingerprint() -> None:
    network = _cnn()
    assert fingerprint_frozen(network) == {}
    assert_frozen_unchanged(network, {})
