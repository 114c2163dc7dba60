"""Class activation maps beside pytorch-grad-cam's, on networks with random weights."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from saliency_subjects import draw_images, open_network

from praxiscope.explaining.saliency.compute import compute_maps, scale_maps
from praxiscope.explaining.saliency.target import choose_target_layer

NETWORKS = {
    "resnet18": 128,
    "tf_efficientnet_lite0": 128,
    "efficientnet_b0": 128,
    "vit_tiny_patch16_224": 96,
}
LAYERS = {
    "resnet18": "layer4",
    "tf_efficientnet_lite0": "bn2.act",
    "efficientnet_b0": "bn2.act",
    "vit_tiny_patch16_224": "blocks.11.norm1",
}
TARGETS = np.array([3, 0])


@functools.cache
def open_once(network: str):
    return open_network(network, img_size=NETWORKS[network])


def reshape_tokens(tokens: torch.Tensor) -> torch.Tensor:
    return tokens[:, 1:].reshape(len(tokens), 6, 6, -1).permute(0, 3, 1, 2)


def run_peer(method, subject, images):
    """Return the peer's scaled maps, and the activations and gradients that it used."""
    layer = subject.module.get_submodule(choose_target_layer(subject))
    reshape = reshape_tokens if subject.family == "vit" else None
    with method(model=subject.module, target_layers=[layer], reshape_transform=reshape) as cam:
        scaled = cam(subject.prepare(images), [ClassifierOutputTarget(int(each)) for each in TARGETS])
        recorded = cam.activations_and_grads
        activations = recorded.activations[0].numpy()
        gradients = recorded.gradients[0].numpy() if recorded.gradients else None
        if gradients is None:
            return scaled, activations, None
        weights = cam.get_cam_weights(None, None, None, activations, gradients)
    return scaled, activations, np.maximum((weights[:, :, None, None] * activations).sum(axis=1), 0)


@pytest.mark.parametrize("network", NETWORKS)
def test_maps_equal_those_of_pytorch_grad_cam(network):
    subject = open_once(network)
    images = draw_images(2, NETWORKS[network])
    for method, peer in (("gradcam", GradCAM), ("gradcam++", GradCAMPlusPlus)):
        ours = compute_maps(subject, method, images, TARGETS)
        scaled, _, coarse = run_peer(peer, subject, images)
        assert ours.layer == LAYERS[network]
        assert coarse.max() > 0
        np.testing.assert_allclose(ours.coarse, coarse, rtol=0, atol=1e-4 * coarse.max())
        # Theirs stretches each map before and after it is enlarged, ours once: linear, so the same.
        np.testing.assert_allclose(scale_maps(ours.maps), scaled, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", ["resnet18", "vit_tiny_patch16_224"])
def test_eigencam_is_theirs_but_for_the_sign_of_the_component(network):
    subject = open_once(network)
    images = draw_images(2, NETWORKS[network])
    ours = compute_maps(subject, "eigencam", images, TARGETS)
    scaled, activations, _ = run_peer(EigenCAM, subject, images)
    for row, projection in enumerate(get_2d_projection(activations)):
        same = np.allclose(ours.coarse[row], projection.clip(0), atol=1e-4 * abs(projection).max())
        flipped = np.allclose(ours.coarse[row], (-projection).clip(0), atol=1e-4 * abs(projection).max())
        assert same != flipped
        if same:
            np.testing.assert_allclose(scale_maps(ours.maps)[row], scaled[row], rtol=0, atol=1e-4)


def test_a_named_layer_of_many_positions_is_the_same_too():
    subject, images = open_once("resnet18"), draw_images(2, 64)
    ours = compute_maps(subject, "eigencam", images, TARGETS, layer="layer1.0.act2")
    with EigenCAM(model=subject.module, target_layers=[subject.module.layer1[0].act2]) as cam:
        cam(subject.prepare(images), [ClassifierOutputTarget(0)] * 2)
        projections = get_2d_projection(cam.activations_and_grads.activations[0].numpy())
    assert ours.coarse.shape == (2, 16, 16)
    for map_, projection in zip(ours.coarse, projections, strict=True):
        error = min(np.abs(map_ - (sign * projection).clip(0)).max() for sign in (1, -1))
        assert error < 1e-4 * np.abs(projection).max()
