"""Activation maps and kernels as numbers, and that their figures show them whole and the right way up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from praxiscope.errors import UsageError
from praxiscope.explaining.activations import collect_activations
from praxiscope.explaining.histograms import collect_histograms
from praxiscope.explaining.kernels import choose_kernels, collect_kernels
from praxiscope.explaining.subject import build_subject
from praxiscope.models.build import build_model
from praxiscope.models.runtime import Runtime
from praxiscope.recipe.schema import ModelSection
from praxiscope.reporting.explanations.activations import plot_activations
from praxiscope.reporting.explanations.flow import plot_flow
from praxiscope.reporting.explanations.histograms import plot_histograms
from praxiscope.reporting.explanations.kernels import plot_kernels
from praxiscope.reporting.explanations.maps import break_name, choose_scale

NAMES = ("clap", "run $x$", "a_class_with_a_very_long_name_indeed")
FP32 = Runtime(device=torch.device("cpu"), precision="fp32", reason="test", channels_last=False)


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def subject(request):
    section = ModelSection(name=request.param, img_size=None if request.param == "test_vit" else 64)
    return build_subject(build_model(section, num_classes=3, seed=0), FP32, NAMES, "tiny")


@pytest.fixture(scope="module")
def images(subject):
    side = subject.img_size
    picture = np.zeros((2, side, side, 3), dtype=np.uint8)
    picture[:, : side // 2, side // 2 :] = 250  # bright above right
    return picture


@pytest.fixture(scope="module")
def activations(subject, images):
    return collect_activations(subject, images, channels=4)


def test_the_most_active_channels_are_those_of_the_largest_mean(activations):
    for layer in activations[0].layers:
        order = np.argsort(-layer.activity, kind="stable")[: len(layer.channels)]
        assert layer.channels == tuple(order)
        assert np.allclose(np.abs(layer.maps).mean((1, 2)), layer.activity[list(layer.channels)], rtol=1e-4)
        assert layer.maps.shape[1:] == layer.layer.grid


def test_maps_lie_as_the_image_does(activations):
    """The first layer tells the bright quarter above right from the other three."""
    first = activations[0].layers[0].maps[0]
    height, width = first.shape
    quarters = [first[: height // 2, : width // 2], first[height // 2 :, : width // 2]]
    quarters += [first[height // 2 :, width // 2 :], first[: height // 2, width // 2 :]]
    middles = [float(np.median(each)) for each in quarters]
    assert abs(middles[3] - middles[0]) > 5 * max(abs(middles[1] - middles[0]), abs(middles[2] - middles[0]))


def test_probabilities_and_logits_are_the_networks(subject, images, activations):
    logits = subject.compute_logits(images)
    for row, each in zip(logits, activations, strict=True):
        assert np.allclose(row, each.logits, atol=1e-5)
        assert each.probabilities.sum() == pytest.approx(1)


def test_layers_without_a_map_are_refused(subject, images):
    last = "fc" if subject.family == "cnn" else "head"
    with pytest.raises(UsageError, match="which is no map"):
        collect_activations(subject, images, [last])
    with pytest.raises(UsageError, match="No layer is named"):
        collect_activations(subject, images, [])
    with pytest.raises(UsageError, match="no layer 'nonsense'"):
        collect_activations(subject, images, ["nonsense"])


def test_nothing_is_cut_off_or_overlaps(subject, images, activations):
    report = collect_histograms(subject, images, np.array([0, 1]))
    figures = [
        plot_activations(activations[0]),
        plot_flow(activations[0], NAMES, target=2),
        plot_histograms(report, ["A finding."]),
        plot_kernels(collect_kernels(subject.module)),
    ]
    for figure in figures:
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        width, height = figure.bbox.width, figure.bbox.height
        boxes = [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
        for box in boxes:
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0
        for place, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_the_flow_wants_a_name_for_each_class(activations):
    with pytest.raises(ValueError, match="2 names for 3 logits"):
        plot_flow(activations[0], NAMES[:2])


def test_histograms_want_as_many_targets_as_images(subject, images):
    with pytest.raises(UsageError, match="got 2 images and 1 targets"):
        collect_histograms(subject, images, np.array([0]))


def test_first_kernels_are_the_weights_in_colour(subject):
    first = collect_kernels(subject.module)[0]
    assert first.is_rgb
    weights = subject.module.get_submodule(first.layer).weight.detach().numpy()
    assert np.array_equal(first.weights, weights[list(first.filters)])


def test_chosen_input_channels_of_a_deeper_layer():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 6, 3, groups=6))
    _, deep, alone = collect_kernels(module, inputs=[5, 2], max_filters=12)
    assert deep.weights.shape == (3, 2, 3, 3)
    assert deep.inputs == (5, 2)
    assert np.array_equal(deep.weights[1, 0], module[1].weight.detach().numpy()[deep.filters[1], 5])
    assert alone.weights.shape == (6, 1, 3, 3)
    assert choose_kernels(module, count=1) == ("0",)


def test_kernels_that_are_not_there_are_refused():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3))
    with pytest.raises(UsageError, match=r"no 2D convolution '2'.*It has 2: 0, 1\."):
        collect_kernels(module, ["2"])
    with pytest.raises(UsageError, match=r"'1' has no input channel 9; choose from 0 to 7"):
        collect_kernels(module, ["1"], inputs=[9])
    with pytest.raises(UsageError, match="Linear has no 2D convolution"):
        collect_kernels(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no kernels to draw"):
        plot_kernels([])


def test_one_scale_starts_at_zero_or_lies_even_about_it():
    scale = choose_scale(np.array([0.0, 1.0, 4.0]))
    assert (scale.low, scale.high, scale.signed, scale.extend) == (0.0, 4.0, False, "neither")
    scale = choose_scale(np.array([-1.0, 4.0]))
    assert (scale.low, scale.high, scale.signed) == (-4.0, 4.0, True)
    outlier = np.append(np.linspace(0, 1, 999), 100.0)
    assert (choose_scale(outlier).high < 2, choose_scale(outlier).extend) == (True, "max")
    assert choose_scale(np.zeros(4)).high == 1.0


def test_long_names_break_behind_dots():
    assert break_name("blocks.5.2.conv_pwl", 12) == "blocks.5.2.\nconv_pwl"
    assert max(map(len, break_name("encoder.layers.encoder_layer_11.mlp", 19).splitlines())) <= 19
