"""Integrated gradients and occlusion: known answers and completeness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from saliency_subjects import NAMES, Pooled, draw_images, open_network, open_timm_vit, wrap
from torch import nn

from praxiscope.explaining.saliency.attribution import (
    TOLERANCE,
    compute_integrated_gradients,
    compute_occlusion,
)
from praxiscope.explaining.saliency.compute import compute_maps
from praxiscope.explaining.subject import hold_still


def integrate(subject, images, targets, **how):
    with hold_still(subject.module):
        return compute_integrated_gradients(
            subject, subject.prepare(images), torch.from_numpy(targets), **how
        )


def test_of_a_linear_network_the_attribution_is_weight_times_pixel():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, len(NAMES)))
    subject, images, targets = wrap(module, img_size=4), draw_images(2, 4), np.array([2, 0])
    found = integrate(subject, images, targets)
    weights = module[1].weight.detach()[targets].reshape(2, 3, 4, 4)
    expected = weights * subject.prepare(images)
    torch.testing.assert_close(found.attributions, expected, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(found.gap, 0, atol=1e-5)
    maps = compute_maps(subject, "integrated-gradients", images, targets)
    np.testing.assert_allclose(maps.maps, expected.sum(dim=1), atol=1e-5)


@pytest.mark.parametrize("network", ["test_resnet", "test_vit"])
def test_attributions_add_up_to_the_difference_from_the_baseline(network):
    subject = open_timm_vit(img_size=48) if network == "test_vit" else open_network(network, img_size=32)
    nn.init.normal_(  # the random head's differences are too small to tell
        subject.module.get_classifier().weight, std=1.0, generator=torch.Generator().manual_seed(0)
    )
    images, targets = draw_images(2, subject.img_size), np.array([0, 3])
    found = compute_maps(subject, "integrated-gradients", images, targets)
    grey = torch.zeros(1, 3, subject.img_size, subject.img_size)
    with torch.no_grad():
        baseline = subject.module(grey).numpy()[0, targets]
    difference = subject.compute_logits(images)[[0, 1], targets] - baseline
    assert np.abs(difference).max() > 0.2
    np.testing.assert_allclose(found.maps.sum(axis=(1, 2)) - difference, found.gap, atol=1e-4)
    assert (np.abs(found.gap) <= TOLERANCE * np.maximum(np.abs(difference), 1)).all()


class _Step(nn.Module):
    """A sigmoid so steep that few points of the path see it."""

    def forward(self, images):
        steep = torch.sigmoid(400 * (images.mean(dim=(1, 2, 3)) - 0.3017))
        return torch.stack([10 * steep, steep, images.mean(dim=(1, 2, 3)), steep], dim=1)


def test_more_points_are_taken_where_the_integral_is_not_complete():
    subject, images = wrap(_Step()), np.full((2, 8, 8, 3), 255, np.uint8)
    targets = np.array([0, 2])  # steep, straight
    few = integrate(subject, images, targets, steps=(8,))
    assert abs(few.gap[0]) > 1
    more = integrate(subject, images, targets, steps=(8, 512))
    assert abs(more.gap[0]) <= TOLERANCE * float(more.difference[0])
    assert torch.equal(few.attributions[1], more.attributions[1])  # was complete and wasn't done again
    # What remains after the last step isn't hidden.
    assert compute_maps(subject, "integrated-gradients", images, targets).gap.shape == (2,)


def test_occlusion_is_what_the_score_loses_without_a_place():
    class Corner(nn.Module):
        def forward(self, images):
            corner = images[:, 0, :4, :4].mean(dim=(1, 2))
            return torch.stack([corner, -corner, corner, corner], dim=1)

    subject, images = wrap(Corner(), img_size=20), np.full((2, 20, 20, 3), 255, np.uint8)
    with hold_still(subject.module):
        found = compute_occlusion(subject, subject.prepare(images), torch.tensor([0, 1])).numpy()
    # Squares of 4 px move by 2: the corner's own 2 x 2 px are covered by the square that hides all of it.
    np.testing.assert_allclose(found[0, :2, :2], 1.0, atol=1e-6)
    np.testing.assert_allclose(found[1], -found[0], atol=1e-6)
    np.testing.assert_allclose(found[:, 6:, 6:], 0.0, atol=1e-6)
    assert (found[0, 2:4, 2:4] > 0.5).all()


def test_occlusion_does_not_depend_on_how_many_places_share_a_pass():
    subject, images = wrap(Pooled()), draw_images(2, 20)
    batch, targets = subject.prepare(images), torch.tensor([0, 1])
    with hold_still(subject.module):
        one = compute_occlusion(subject, batch, targets, batch_size=1)
        many = compute_occlusion(subject, batch, targets, batch_size=32)
    torch.testing.assert_close(one, many, atol=1e-6, rtol=1e-5)
