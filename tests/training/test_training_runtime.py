"""Precision is measured, never assumed; pixels are normalised as the weights expect."""

from __future__ import annotations

import pytest
import torch

from praxiscope.models import runtime as runtime_module
from praxiscope.models.runtime import Normalizer, Runtime, choose_runtime, measure_bf16_gain

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("gain", "precision"), [(0.2, "fp32"), (1.0, "fp32"), (1.19, "fp32"), (1.2, "bf16"), (3.4, "bf16")]
)
def test_auto_takes_what_measures_faster(gain, precision, monkeypatch):
    monkeypatch.setattr(runtime_module, "measure_bf16_gain", lambda _family: gain)
    runtime = choose_runtime(CPU, precision="auto", channels_last="auto", family="cnn")
    assert runtime.precision == precision
    assert f"measured {gain:.2g} x" in runtime.reason


@pytest.mark.parametrize(("gain", "precision"), [(0.3, "fp32"), (2.0, "bf16")])
def test_fp16_on_a_cpu_falls_back_and_says_so(gain, precision, monkeypatch):
    monkeypatch.setattr(runtime_module, "measure_bf16_gain", lambda _family: gain)
    runtime = choose_runtime(CPU, precision="fp16", channels_last="auto", family="vit")
    assert runtime.precision == precision
    assert runtime.reason.startswith("fp16 was asked for, which CPUs don't train in")


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_is_asked_for_and_possible_is_not_measured(asked, monkeypatch):
    monkeypatch.setattr(runtime_module, "measure_bf16_gain", None)
    runtime = choose_runtime(CPU, precision=asked, channels_last=False, family="cnn")
    assert (runtime.precision, runtime.reason) == (asked, "asked for")


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_the_measurement_is_a_ratio_and_leaves_random_numbers_alone(family):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert 0.001 < measure_bf16_gain(family, repeats=1) < 100
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("family", "asked", "expected"),
    [("cnn", "auto", True), ("vit", "auto", False), ("vit", True, True), ("cnn", False, False)],
)
def test_memory_format(family, asked, expected):
    runtime = choose_runtime(CPU, precision="fp32", channels_last=asked, family=family)
    assert runtime.channels_last is expected
    module = runtime.place(torch.nn.Conv2d(3, 8, 3))
    assert module.weight.is_contiguous(memory_format=runtime.memory_format)


@pytest.mark.parametrize("channels_last", [True, False])
def test_normalised_pixels(channels_last):
    runtime = Runtime(device=CPU, precision="fp32", reason="test", channels_last=channels_last)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = torch.arange(256, dtype=torch.uint8).repeat(2 * 3 * 4).view(2, 3, 32, 32)
    given = images.contiguous(memory_format=torch.channels_last)
    found = Normalizer(mean, std, runtime)(given)
    expected = (images.double() / 255 - torch.tensor(mean).double().view(1, 3, 1, 1)) / torch.tensor(
        std
    ).double().view(1, 3, 1, 1)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) < 1e-6
    assert found.is_contiguous(memory_format=runtime.memory_format)
    assert torch.equal(given, images), "the batch itself is left as it was"
