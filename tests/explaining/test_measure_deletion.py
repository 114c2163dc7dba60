"""Deletion and insertion against a plain loop, and what ties, constants and perfect maps must give."""

from __future__ import annotations

import numpy as np
import pytest
from hand_built import SIDE, draw_pictures, read_actor
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from praxiscope.explaining.measure.cells import (
    correlate_ranks,
    count_cells,
    order_cells,
    pool_cells,
    spread_cells,
)
from praxiscope.explaining.measure.deletion import prepare_canvas, trace_curves
from praxiscope.stats.calibration import compute_softmax


def noise_like(images, seed=0):
    return np.random.default_rng(seed).random(images.shape[:3]).astype(np.float32)


def trace(maps, samples, **options):
    reader = read_actor()
    canvas = prepare_canvas(reader, samples.images, samples.targets, noise_like(samples.images), **options)
    return canvas, trace_curves(reader, canvas, maps)


@pytest.mark.parametrize(("side", "cells"), [(28, 28), (32, 28), (50, 28), (7, 7)])
def test_cells_are_means_of_their_pixels_and_cover_everything(side, cells):
    assert count_cells(side) == cells
    maps = np.random.default_rng(0).random((2, side, side)).astype(np.float32)
    pooled = pool_cells(maps, cells)
    for cell in range(cells * cells):
        flags = np.arange(cells * cells) == cell
        inside = spread_cells(flags, side)
        assert inside.any()
        np.testing.assert_allclose(maps[:, inside].mean(axis=1), pooled[:, cell], rtol=1e-6)
    assert spread_cells(np.ones((3, cells * cells), bool), side).all()


def test_equal_cells_come_in_the_order_of_the_noise():
    noise = np.array([[0.3, 0.9, 0.1, 0.5]])
    assert order_cells(np.zeros((1, 4)), noise).tolist() == [[1, 3, 0, 2]]
    assert order_cells(np.array([[0.0, 0.0, 2.0, 1.0]]), noise).tolist() == [[2, 3, 1, 0]]


def test_a_constant_map_stays_tied_where_cells_differ_in_size():
    pooled = pool_cells(np.full((1, 50, 50), 0.1, dtype=np.float32), 28)
    assert len(np.unique(pooled)) == 1


def test_rank_correlation_equals_scipy_and_is_zero_for_a_constant():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 5, (4, 30)).astype(float), rng.random((4, 30))
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(correlate_ranks(first, second), expected, atol=1e-12)
    assert correlate_ranks(np.ones((1, 9)), rng.random((1, 9))).tolist() == [0.0]


def test_curves_equal_a_plain_loop():
    samples = draw_pictures(3, tied=False)
    maps = noise_like(samples.images, seed=5)
    canvas, curves = trace(maps, samples, steps=4, batch_size=5)
    order = order_cells(pool_cells(maps, 28), canvas.noise)
    for row, image in enumerate(samples.images):
        for step, share in enumerate(curves.shares):
            gone = np.zeros(order.shape[1], dtype=bool)
            gone[order[row, : round(share * order.shape[1])]] = True
            pixels = spread_cells(gone, SIDE)[..., None]
            target = samples.targets[row]
            for curve, variant in (
                (curves.deletion, np.where(pixels, canvas.colour, image)),
                (curves.insertion, np.where(pixels, image, canvas.blurred[row])),
            ):
                chance = compute_softmax(read_actor().compute_logits(variant[None]))[0, target]
                assert curve[row, step] == pytest.approx(chance, abs=1e-9)
    assert curves.deletion_auc[0] == pytest.approx(np.trapezoid(curves.deletion[0], curves.shares))


def test_the_number_of_images_in_a_pass_changes_nothing_and_is_kept():
    samples = draw_pictures(7, tied=False)
    maps = noise_like(samples.images, seed=5)
    seen = []

    class Counting:
        names = read_actor().names

        def compute_logits(self, images):
            seen.append(len(images))
            return read_actor().compute_logits(images)

    results = []
    for size in (1, 6, 64):
        seen.clear()
        canvas = prepare_canvas(
            Counting(), samples.images, samples.targets, noise_like(samples.images), steps=5, batch_size=size
        )
        results.append(trace_curves(Counting(), canvas, maps))
        assert max(seen) <= size
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].deletion, other.deletion)
        np.testing.assert_array_equal(results[0].insertion, other.insertion)


def test_a_constant_map_is_the_random_map():
    samples = draw_pictures(6, tied=False)
    noise = noise_like(samples.images)
    _, constant = trace(np.full(noise.shape, 0.3, dtype=np.float32), samples)
    _, random = trace(noise, samples)
    np.testing.assert_array_equal(constant.deletion, random.deletion)
    np.testing.assert_array_equal(constant.insertion, random.insertion)


def test_the_true_map_beats_random_and_its_opposite_is_worse():
    samples = draw_pictures(12, tied=False)
    samples.images[:, ::2] = 0  # blurring mixes the colours away, which insertion begins with
    window = np.broadcast_to(read_actor().weights, samples.images.shape[:3]).astype(np.float32)
    _, true = trace(window, samples)
    _, random = trace(noise_like(samples.images), samples)
    _, opposite = trace(-window, samples)
    for better, worse in ((true, random), (random, opposite)):
        assert (better.deletion_auc < worse.deletion_auc).all()
        assert (better.insertion_auc > worse.insertion_auc).all()


def test_curves_begin_and_end_where_they_must():
    samples = draw_pictures(4, tied=False)
    canvas, curves = trace(noise_like(samples.images, seed=3), samples, steps=1)
    assert curves.shares.tolist() == [0, 1]
    np.testing.assert_array_equal(curves.deletion[:, 0], curves.insertion[:, 1])
    np.testing.assert_array_equal(curves.deletion[:, 1], canvas.ends[1])


def test_blurring_keeps_the_brightness():
    """Filtering uint8 axis by axis cuts off the fractions: a grey level darker on average."""
    samples = draw_pictures(2, tied=False)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, samples.images.shape, dtype=np.uint8)
    canvas = prepare_canvas(read_actor(), images, samples.targets, noise_like(images))
    exact = np.stack([gaussian_filter(each.astype(float), (SIDE / 20, SIDE / 20, 0)) for each in images])
    assert np.abs(canvas.blurred - exact).max() <= 0.51
