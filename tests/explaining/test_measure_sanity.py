"""The sanity check: maps that follow the weights pass, a plain edge map is caught, the network stays as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hand_built import build_net, draw_pictures

from praxiscope.explaining.measure.sanity import check_sanity, judge_sanity
from praxiscope.explaining.saliency.compute import compute_maps


def draw_edges(_subject, images, _targets):
    down, right = np.gradient(images.mean(axis=3), axis=(1, 2))
    return np.hypot(down, right).astype(np.float32)


def draw_weights(subject, images, _targets):
    """A map that is a function of all weights and of nothing else: noise seeded by them."""
    total = sum(
        float(each.detach().double().abs().mul(torch.arange(each.numel()).view_as(each)).sum())
        for each in subject.module.parameters()
    )
    seed = int.from_bytes(np.float64(total).tobytes(), "little")
    return np.random.default_rng(seed).random(images.shape[:3]).astype(np.float32)


def draw_head(subject, images, _targets):
    """A map that is a function of the last layer alone."""
    seed = int(1e6 * abs(float(subject.module.fc.weight.detach()[0, 0])))
    return np.random.default_rng(seed).random(images.shape[:3]).astype(np.float32)


def draw_stem(subject, images, _targets):
    """A map that is a function of the first layer alone."""
    seed = int(1e6 * abs(float(subject.module.stem.weight.detach()[0, 0, 0, 0])))
    return np.random.default_rng(seed).random(images.shape[:3]).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    subject, samples = build_net(), draw_pictures(8, tied=False)
    explains = [draw_weights, draw_edges, draw_head, draw_stem]
    before = {name: value.clone() for name, value in subject.module.state_dict().items()}
    verdicts = check_sanity(subject, explains, samples.images, samples.targets, samples.groups, depths=4)
    after = subject.module.state_dict()
    return verdicts, all(torch.equal(before[name], after[name]) for name in before), subject


def test_a_map_that_follows_the_weights_passes(found):
    (weights, *_), _, _ = found
    assert weights.verdict == "passes"
    assert all(abs(value) < 0.15 for value in weights.correlation)
    assert weights.sentence.startswith("its maps go with the weights: with all weights shuffled")


def test_an_edge_map_that_knows_no_weights_is_caught(found):
    (_, edges, *_), _, _ = found
    assert edges.verdict == "fails"
    assert edges.correlation == pytest.approx((1,) * len(edges.layers))
    assert "its maps show the image, not the network" in edges.sentence
    assert "threshold is 0.5" in edges.sentence


def test_layers_are_randomised_from_the_head_to_the_stem(found):
    (_, _, head, stem), _, _ = found
    assert head.layers == ("fc", "conv", "norm", "stem")
    assert abs(head.correlation[0]) < 0.2, "the head is random at once"
    assert stem.correlation[:3] == pytest.approx((1, 1, 1)), "the stem only at the end"
    assert abs(stem.correlation[3]) < 0.2


def test_the_network_stays_as_it_was(found):
    _, unchanged, subject = found
    assert unchanged
    assert not any(module._forward_pre_hooks for module in subject.module.modules())
    assert all(parameter.requires_grad for parameter in subject.module.parameters())
    assert not subject.module.training
    assert subject.module.norm.momentum == 0.1


def test_a_random_network_is_alive_and_repeatable():
    subject, samples = build_net(), draw_pictures(8, tied=False)
    spreads = []

    def explain(given, images, targets):
        spreads.append(float(given.compute_logits(images).std(axis=0).max()))
        return compute_maps(given, "gradcam", images, targets).maps

    runs = [
        check_sanity(subject, [explain], samples.images, samples.targets, samples.groups, depths=2, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert min(spreads) > 1e-3, "a dead network gives one answer to all"
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("depths", [1, 2, 9])
def test_the_last_depth_is_always_the_whole_network(depths):
    subject, samples = build_net(), draw_pictures(4, tied=False)
    (found,) = check_sanity(
        subject, [draw_stem], samples.images, samples.targets, samples.groups, depths=depths
    )
    assert found.layers[-1] == "stem"
    assert len(found.layers) == min(depths, 4)


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [(0.1, 0.0, 0.2, "passes"), (0.8, 0.6, 0.9, "fails"), (0.5, 0.4, 0.6, "undecided"),
     (0.2, math.nan, math.nan, "undecided"), (0.9, math.nan, math.nan, "undecided")],
)  # fmt: skip
def test_the_verdict_goes_by_the_interval(value, low, high, verdict):
    """Without an interval there is no verdict either."""
    assert judge_sanity(("fc", "stem"), ((1.0, 1.0, 1.0), (value, low, high))).verdict == verdict
