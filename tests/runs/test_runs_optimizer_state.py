import copy
import json
import math

import pytest
import timm.optim
import torch
from torch import nn

from praxiscope.errors import UsageError
from praxiscope.runs.checkpoint import (
    flatten_optimizer,
    read_checkpoint,
    unflatten_optimizer,
    write_checkpoint,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads may split a sum differently from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_model(memory_format=torch.channels_last):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )
    # LBFGS views its parameters flat, which channels-last ones can't be.
    return model.to(memory_format=memory_format)


def torch_options(model):
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0, "lr": 0.02}]


def timm_optimizer(name):
    return lambda model: timm.optim.create_optimizer_v2(model, opt=name, lr=1e-3, weight_decay=0.05)


OPTIMIZERS = {
    "AdamW": lambda model: torch.optim.AdamW(torch_options(model), lr=1e-3),
    "AdamW-tensor-lr": lambda model: torch.optim.AdamW(
        torch_options(model), lr=torch.tensor(1e-3), foreach=False
    ),
    "SGD": lambda model: torch.optim.SGD(torch_options(model), lr=0.1, momentum=0.9, nesterov=True),
    "SGD-no-state": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "NAdam": lambda model: torch.optim.NAdam(torch_options(model), lr=1e-3),
    "RMSprop": lambda model: torch.optim.RMSprop(torch_options(model), lr=1e-3, momentum=0.9, centered=True),
    "Adagrad": lambda model: torch.optim.Adagrad(torch_options(model), lr=1e-2),
    "LBFGS": lambda model: torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3),
}
COMMON = ("sgd", "adamw", "lamb", "adamp", "adafactor", "adafactorbv", "lion", "rmsproptf", "lookahead_adamw")
# bitsandbytes and apex (fused) are other packages; kron compiles, adahessian wants a graph of gradients.
LEFT_OUT = ("bnb", "fused", "kron", "adahessian")
OTHERS = [
    each for each in timm.optim.list_optimizers() if not each.startswith(LEFT_OUT) and each not in COMMON
]
OPTIMIZERS |= {f"timm-{name}": timm_optimizer(name) for name in (*COMMON, *OTHERS)}
CASES = [
    pytest.param(name, marks=pytest.mark.soak if name.removeprefix("timm-") in OTHERS else ())
    for name in OPTIMIZERS
]


def train(model, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        images = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)

        def closure(images=images):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 3]))
            loss.backward()
            return loss

        optimizer.step(closure)


def names_in_order(model, optimizer):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def assert_same(one, two, place="state"):
    assert type(one) is type(two), place
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.stride()) == (two.dtype, two.stride()), place
        assert torch.equal(one, two), place
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one:
            assert_same(one[key], two[key], f"{place}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), place
        for number, (left, right) in enumerate(zip(one, two, strict=True)):
            assert_same(left, right, f"{place}[{number}]")
    else:
        assert one == two, place


def test_same_can_fail():
    for other in ({"a": [1.0]}, {"a": (1,)}, {"b": (1.0,)}, {"a": (2.0,)}, {"a": (1.0, 1.0)}):
        with pytest.raises(AssertionError):
            assert_same({"a": (1.0,)}, other)


@pytest.mark.parametrize("name", CASES)
def test_through_a_checkpoint_and_on_as_if_never_stopped(tmp_path, name):
    memory_format = torch.contiguous_format if name == "LBFGS" else torch.channels_last
    model = build_model(memory_format)
    optimizer = OPTIMIZERS[name](model)
    train(model, optimizer, range(3))
    names = names_in_order(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    tensors, plain = flatten_optimizer(optimizer.state_dict(), names)
    groups = {"model": model.state_dict(), "optimizer": tensors}
    path = write_checkpoint(tmp_path, groups=groups, state={"optimizer": plain}, step=3, epoch=0)
    train(model, optimizer, range(3, 6))

    found = read_checkpoint(path)
    restored = unflatten_optimizer(found.groups["optimizer"], found.state["optimizer"], names)
    assert_same(restored, saved)

    torch.manual_seed(99)
    resumed = build_model(memory_format)
    resumed_optimizer = OPTIMIZERS[name](resumed)
    resumed.load_state_dict(found.groups["model"])
    resumed_optimizer.load_state_dict(restored)
    train(resumed, resumed_optimizer, range(3, 6))
    assert_same(resumed_optimizer.state_dict(), optimizer.state_dict())
    assert_same(dict(resumed.state_dict()), dict(model.state_dict()))


def test_parameters_in_another_order_get_their_own_state():
    model = build_model()
    forward = torch.optim.AdamW(list(model.parameters()))
    train(model, forward, range(2))
    names = [name for name, _ in model.named_parameters()]
    tensors, plain = flatten_optimizer(forward.state_dict(), names)
    backward = unflatten_optimizer(tensors, plain, names[::-1])
    for index, name in enumerate(names):
        expected = forward.state_dict()["state"][index]["exp_avg"]
        assert torch.equal(backward["state"][len(names) - 1 - index]["exp_avg"], expected), name


def test_kinds_of_values_that_json_lacks():
    state_dict = {
        "state": {
            0: {
                "history": [torch.ones(1), (torch.zeros(2), None)],
                "limit": math.inf,
                "kind": torch.bfloat16,
            },
            "common": {"k": -math.inf},
        },
        "param_groups": [
            {"lr": 0.1, "betas": (0.9, 0.999), "name": "a", "flags": [True, 1, 1.0], "params": [0]}
        ],
        "wrapper": {"$tensor": "not a tag", "nested": {"deep": (1, [2])}},
    }
    tensors, plain = flatten_optimizer(state_dict, ["weight"])
    json.dumps(plain, allow_nan=False)
    assert_same(unflatten_optimizer(tensors, json.loads(json.dumps(plain)), ["weight"]), state_dict)


def test_a_value_that_cannot_be_stored_is_named():
    state_dict = {"state": {0: {"rule": {1, 2}}}, "param_groups": [{"params": [0]}]}
    with pytest.raises(TypeError, match="holds a set at state/weight/rule"):
        flatten_optimizer(state_dict, ["weight"])


def test_names_must_fit_the_optimizer():
    state_dict = {"state": {}, "param_groups": [{"params": [0, 1]}]}
    for names in (["a"], ["a", "a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="has 2 parameters, but"):
            flatten_optimizer(state_dict, names)
    tensors, plain = flatten_optimizer(state_dict, ["a", "b"])
    with pytest.raises(UsageError, match=r"differ in 2 trained parameters \(b, c\).*recipe"):
        unflatten_optimizer(tensors, plain, ["a", "c"])
