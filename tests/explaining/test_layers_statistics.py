"""Histograms and dead units against numpy; planted faults are found, healthy networks are not blamed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from praxiscope.explaining.findings import describe_findings
from praxiscope.models.freeze import freeze
from praxiscope.models.layer_statistics import measure_layers
from praxiscope.stats.float_histogram import NUM_BINS, SHIFT, FloatHistogram, fold_zeros


def fill(values):
    values = np.asarray(values, dtype=np.float32)
    counts = np.bincount(values.view(np.uint32) >> SHIFT, minlength=NUM_BINS)
    finite = values[np.isfinite(values)].astype(np.float64)
    return FloatHistogram(
        counts=fold_zeros(counts), total=finite.sum(), square_total=(finite**2).sum(),
        minimum=finite.min(initial=np.inf), maximum=finite.max(initial=-np.inf),
    )  # fmt: skip


def stack(*middle, width=16, depth=4, act=nn.ReLU):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, width, 3, padding=1), act()]
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, padding=1), act()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    return network


def batches(count=48, size=16, side=12):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, side, side, generator=generator)
    targets = torch.randint(0, 4, (count,), generator=generator)
    return [(images[at : at + size], targets[at : at + size]) for at in range(0, count, size)]


def row_of(report, name):
    return next(row for row in report.layers if row.name == name)


def test_a_histogram_knows_what_numpy_knows():
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32) * 3 + 1
    values[:500] = 0
    found = fill(values)
    assert found.count == 20_000
    assert found.zeros == 500
    assert found.mean == pytest.approx(values.mean(), rel=1e-5)
    assert found.std == pytest.approx(values.std(), rel=1e-5)
    for share in (0.01, 0.3, 0.5, 0.9, 0.999):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share), rel=1 / 16, abs=0.01)
    edges = np.linspace(-10, 12, 23)
    expected = np.histogram(values, edges)[0]
    assert found.rebin(edges).sum() == pytest.approx(expected.sum(), abs=5)
    assert np.abs(found.rebin(edges) - expected).max() < 0.02 * len(values)
    decades = 10.0 ** np.arange(-6, 3)
    by_size = np.histogram(np.abs(values[values != 0]), decades)[0]
    assert np.abs(found.sizes(decades) - by_size).max() < 0.01 * len(values)


def test_a_histogram_counts_what_is_not_finite_apart():
    found = fill([1.0, -0.0, 0.0, np.inf, -np.inf, np.nan])
    assert (found.count, found.nonfinite, found.zeros) == (3, 3, 2)
    assert found.mean == pytest.approx(1 / 3)
    assert found.to_dict()["max"] == 1.0


def test_an_empty_histogram_has_no_figures():
    found = fill([])
    assert np.isnan([found.mean, found.std, found.quantile(0.5), found.zero_share]).all()
    assert found.to_dict()["mean"] is None
    assert found.rebin(np.array([0.0, 1.0])).tolist() == [0.0]


def test_figures_equal_those_of_all_outputs_at_once():
    network = stack().eval()
    report = measure_layers(network, batches(size=7))
    images = torch.cat([images for images, _ in batches()])
    targets = torch.cat([targets for _, targets in batches()])
    outputs = []
    for layer in network:
        images = layer(images)
        if isinstance(layer, nn.ReLU):
            images.retain_grad()
            outputs.append(images)
    loss = nn.functional.cross_entropy(images, targets, reduction="sum")
    loss.backward()
    assert report.loss == pytest.approx(loss.item() / 48, rel=1e-5)
    acts = [row for row in report.layers if row.function == "ReLU"]
    for row, output in zip(acts, outputs, strict=True):
        values = output.detach().numpy()
        assert row.activations.count == values.size
        assert row.activations.zeros == (values == 0).sum()
        assert row.activations.maximum == values.max()
        assert row.activations.mean == pytest.approx(values.mean(), rel=1e-4)
        norm = np.sqrt((output.grad.numpy().astype(np.float64) ** 2).sum() / 48)
        assert row.gradient_norm == pytest.approx(norm, rel=1e-4)
        assert row.dead == (values.max(axis=(0, 2, 3)) <= 0).sum()
    for row, layer in zip(report.weights, [x for x in network if hasattr(x, "weight")], strict=True):
        assert row.gradient_norm == pytest.approx(float(layer.weight.grad.norm()) / 48, rel=1e-4)
        assert row.ratio == pytest.approx(row.gradient_norm / layer.weight.norm().item(), rel=1e-5)


def test_measuring_leaves_no_trace():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4))
    freeze(network, ("0",))
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = [(id(p), p.requires_grad) for p in network.parameters()]
    random = torch.random.get_rng_state()
    measure_layers(network, batches())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [(id(p), p.requires_grad) for p in network.parameters()] == parameters
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert [part.training for part in network] == [False, True, True, True, True]
    assert not any(part._forward_hooks for part in network.modules())


def test_a_frozen_backbone_is_measured_too():
    network = stack()
    expected = [row.to_dict() for row in measure_layers(network, batches()).weights]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    assert [row.to_dict() for row in measure_layers(network, batches()).weights] == expected


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish])
def test_a_planted_dead_layer_is_found(act):
    network = stack(act=act)
    nn.init.constant_(network[4].bias, -100.0)
    report = measure_layers(network, batches())
    assert row_of(report, "5").dead == 16
    assert "100 % of units in 5 never fire (16 of 16, over 48 images)." in describe_findings(report)


def test_a_third_of_dead_units_is_found_and_counted():
    network = stack()
    with torch.no_grad():
        network[4].bias[:6] = -100.0
    report = measure_layers(network, batches())
    assert row_of(report, "5").dead == 6
    assert describe_findings(report)[0].startswith("38 % of units in 5 never fire (6 of 16")


def test_a_planted_vanishing_gradient_is_found_by_small_weights():
    network = stack(depth=6)
    with torch.no_grad():
        for place in (6, 8, 10):
            network[place].weight.mul_(1e-3)
    sentences = describe_findings(measure_layers(network, batches()))
    assert any("The gradient at 1 is" in line and "it vanishes" in line for line in sentences)


def test_saturated_sigmoids_and_the_gradient_that_vanishes_behind_them_are_found():
    network = stack(act=nn.Sigmoid)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                layer.bias.fill_(30.0)
    sentences = describe_findings(measure_layers(network, batches()))
    assert any("it vanishes; so it does at" in line for line in sentences)
    assert any("(Sigmoid) are saturated" in line for line in sentences)


def test_an_exploding_gradient_is_found():
    network = stack(depth=6)
    with torch.no_grad():
        for place in (4, 6, 8, 10):
            network[place].weight.mul_(30.0)
    assert any("it explodes" in line for line in describe_findings(measure_layers(network, batches())))


def test_outputs_that_are_not_finite_are_found_where_they_begin():
    network = stack()
    with torch.no_grad():
        network[4].weight[0] = float("inf")
    sentences = describe_findings(measure_layers(network, batches()))
    assert sentences[0].startswith("5 is the first of")


def test_a_perfect_fit_has_no_gradient_to_compare():
    network = stack()
    with torch.no_grad():
        network[-1].weight.zero_()
        network[-1].bias.copy_(torch.tensor([1e4, 0.0, 0.0, 0.0]))
    sentences = describe_findings(measure_layers(network, [(x, torch.zeros_like(y)) for x, y in batches()]))
    assert any("The gradient at 12 is 0: the loss of this sample says nothing" in line for line in sentences)


def test_a_healthy_network_is_not_blamed():
    for act in (nn.ReLU, nn.GELU, nn.SiLU, nn.ReLU6):
        assert describe_findings(measure_layers(stack(act=act), batches())) == ()


def test_few_images_are_said_to_be_few():
    network = stack()
    nn.init.constant_(network[4].bias, -100.0)
    assert any(
        line.startswith("Over 8 images, units that fire rarely look dead")
        for line in describe_findings(measure_layers(network, batches(count=8)))
    )


def test_relu_without_a_module_is_known_by_its_outputs():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, images):
            return torch.relu(self.two(torch.relu(self.one(images))))

    block = Block()
    nn.init.constant_(block.two.bias[:1].detach(), -50.0)
    network = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    assert row_of(measure_layers(network, batches()), "0").dead >= 1


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="give at least one batch"):
        measure_layers(stack(), [])


def test_the_report_is_plain_data():
    content = measure_layers(stack(), batches()).to_dict()
    assert content["num_images"] == 48
    assert set(content["rules"]) == {"dead", "saturated", "norms"}
    assert content["layers"][0]["dead_share"] is not None
    assert content["layers"][-1]["dead_share"] is None
