"""Optimisers by name: in any case, resumed exactly, refused with what to do; and what some of them mean."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers
from torch import nn

from praxiscope.errors import EnvironmentProblem, UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.recipe.schema import TrainSection
from praxiscope.runs.checkpoint import flatten_optimizer, unflatten_optimizer
from praxiscope.training.optim import build_optimizer, list_parameter_names, require_optimizer

USUAL = ("sgd", "momentum", "adam", "adamw", "lamb", "muon", "adamuon", "lion", "nadamw", "rmsprop", "adan")
FOREIGN = [name for name in list_optimizers() if isinstance(get_optimizer_info(name).opt_class, str)]
# Kron compiles itself for a minute; adahessian is refused.
HERE = [n for n in list_optimizers() if n not in {*FOREIGN, "adahessian", "kron", "kronc", "kronw"}]


def build_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def make_steps(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        module(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    "name", [*USUAL, *(pytest.param(n, marks=pytest.mark.soak) for n in HERE if n not in USUAL)]
)
def test_a_checkpoint_holds_all_that_an_optimiser_knows(name):
    section = TrainSection(opt=name, lr=1e-3)
    module = build_network()
    optimizer = build_optimizer(section, module)
    make_steps(module, optimizer, range(2))
    names = list_parameter_names(optimizer, module)
    tensors, plain = flatten_optimizer(optimizer.state_dict(), names)
    tensors, weights = copy.deepcopy(tensors), copy.deepcopy(module.state_dict())
    make_steps(module, optimizer, range(2, 4))
    again = build_network()
    again.load_state_dict(weights)
    resumed = build_optimizer(section, again)
    resumed.load_state_dict(unflatten_optimizer(tensors, plain, names))
    make_steps(again, resumed, range(2, 4))
    for key, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert not torch.equal(module.state_dict()["4.weight"], weights["4.weight"])


@pytest.mark.parametrize("word", ["SGD", "AdamW", "LAMB", "Muon"])
def test_a_name_may_be_written_in_capitals(word):
    assert load_recipe({"name": "a"}, {"train.opt": word}).train.opt == word.lower()
    require_optimizer(word)


def test_sgd_is_with_nesterov_momentum_and_momentum_without():
    for name, nesterov in (("sgd", True), ("momentum", False)):
        group = build_optimizer(TrainSection(opt=name, momentum=0.8), build_network()).param_groups[0]
        assert (group["nesterov"], group["momentum"]) == (nesterov, 0.8)


def test_lamb_is_as_docs_say():
    """Bias correction, averaged gradients, their norm clipped to 1, no rescaling without weight decay."""
    groups = build_optimizer(TrainSection(opt="lamb"), build_network()).param_groups
    for group in groups:
        assert group["bias_correction"]
        assert group["grad_averaging"]
        assert group["max_grad_norm"] == 1.0
        assert not group["always_adapt"]


def test_muon_turns_matrices_and_leaves_the_rest_to_adam():
    module = build_network()
    optimizer = build_optimizer(TrainSection(opt="muon", lr=0.01), module)
    make_steps(module, optimizer, range(1))
    turned = {
        name for name, value in module.named_parameters() if "momentum_buffer" in optimizer.state[value]
    }
    assert turned == {"0.weight", "4.weight"}
    rest = {name for name, value in module.named_parameters() if "exp_avg_sq" in optimizer.state[value]}
    assert rest == {name for name, _ in module.named_parameters()} - turned


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("adamx", UsageError, "Did you mean 'adam"),
        ("adahessian", UsageError, "needs second derivatives"),
        ("fusedlamb", EnvironmentProblem, "needs an NVIDIA GPU and the package 'apex'"),
        ("bnbadamw8bit", EnvironmentProblem, "needs an NVIDIA GPU and the package 'bitsandbytes'"),
    ],
)
def test_an_optimiser_that_can_not_run_here_is_refused(name, kind, words):
    with pytest.raises(kind, match=words):
        require_optimizer(name)
