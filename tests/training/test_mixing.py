"""MixUp and CutMix: the target's share is the image's share, always."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from praxiscope.recipe.schema import AugmentSection
from praxiscope.training.mixing import draw_box, mix_batch


def make_batch(size: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose every pixel says which sample they are."""
    images = torch.arange(size, dtype=torch.float32).view(size, 1, 1, 1).expand(size, 3, 20, 30).clone()
    return images, torch.arange(size) % classes


def test_without_alphas_nothing_changes():
    images, targets = make_batch()
    mixed, goals = mix_batch(
        images.clone(), targets, AugmentSection(), sizes=(4,), rng=np.random.default_rng(0)
    )
    assert torch.equal(mixed, images)
    assert torch.equal(goals, targets)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("section", [AugmentSection(mixup=0.8), AugmentSection(cutmix=1.0)])
def test_the_share_of_the_target_is_the_share_of_the_image(section, seed):
    images, targets = make_batch()
    mixed, goals = mix_batch(images.clone(), targets, section, sizes=(4,), rng=np.random.default_rng(seed))
    torch.testing.assert_close(goals.sum(dim=1), torch.ones(6))
    for index in range(6):
        own, other = index, 5 - index
        # Every pixel is own, other, or a blend of both: its mean tells the share, whatever the box was cut to.
        share = (float(mixed[index].mean()) - other) / (own - other)
        expected = torch.zeros(4)
        expected[targets[own]] += share
        expected[targets[other]] += 1 - share
        torch.testing.assert_close(goals[index], expected, atol=1e-5, rtol=0)


def test_boxes_at_the_border_are_cut_and_their_share_counted():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        top, bottom, left, right = draw_box(40, 60, 0.5, rng)
        assert 0 <= top <= bottom <= 40
        assert 0 <= left <= right <= 60
        shares.append((bottom - top) * (right - left) / 2400)
    assert min(shares) < 0.3 < 0.45 < max(shares) < 0.52  # drawn for one half; the border takes some


def test_equal_draws_mix_equally_and_probability_zero_never_mixes():
    section = AugmentSection(mixup=0.2, cutmix=1.0)
    images, targets = make_batch()
    results = [
        mix_batch(images.clone(), targets, section, sizes=(4,), rng=np.random.default_rng(3)) for _ in "ab"
    ]
    assert torch.equal(results[0][0], results[1][0])
    never = AugmentSection(mixup=0.2, mix_prob=0.0)
    mixed, goals = mix_batch(images.clone(), targets, never, sizes=(4,), rng=np.random.default_rng(3))
    assert torch.equal(mixed, images)
    assert torch.equal(goals, targets)


@pytest.mark.parametrize(("height", "width"), [(20, 30), (32, 32), (7, 5)])
def test_the_weight_is_that_of_the_clipped_box_in_a_thousand_draws(height, width):
    """Silent mistake 8: the target's share against a count of the pixels that were really pasted."""
    clipped = 0
    for seed in range(1000):
        images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, height, width).clone()
        rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
        mixed, goals = mix_batch(
            images, torch.tensor([0, 1]), AugmentSection(cutmix=1.0), sizes=(2,), rng=rng
        )
        pasted = int((mixed[0] == 1).sum()) / (height * width)
        assert goals[0].tolist() == pytest.approx([1 - pasted, pasted], abs=1e-6)
        assert goals[1].tolist() == pytest.approx([pasted, 1 - pasted], abs=1e-6)
        again.random(), again.integers(1)
        clipped += abs(pasted - (1 - again.beta(1.0, 1.0))) > 0.02
    assert clipped > 300  # what was drawn would have been wrong as often as this
