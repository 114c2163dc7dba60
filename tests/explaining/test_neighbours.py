"""Features and the rows that lie nearest in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from saliency_subjects import Pooled, draw_images, open_network, wrap

from praxiscope.errors import Diverged, UsageError
from praxiscope.explaining.neighbours import compute_features, find_nearest


def find_one_by_one(query, features, count):
    """The same in a plain loop, in double precision."""
    cosines = []
    for row in features:
        lengths = math.sqrt(float(query @ query)) * math.sqrt(float(row @ row))
        cosines.append(float(query @ row) / lengths if lengths else 0.0)
    order = sorted(range(len(cosines)), key=lambda place: (-cosines[place], place))[:count]
    return order, [cosines[place] for place in order]


@pytest.mark.parametrize("count", [1, 5, 99])
def test_the_nearest_are_those_of_a_plain_loop(count):
    rng = np.random.default_rng(count)
    features, queries = rng.normal(size=(40, 12)) * rng.uniform(0.1, 9, (40, 1)), rng.normal(size=(6, 12))
    features[7] = 0
    rows, cosines = find_nearest(queries, features, count)
    assert rows.shape == cosines.shape == (6, min(count, 40))
    for query, own, near in zip(queries, rows.tolist(), cosines, strict=True):
        order, values = find_one_by_one(query, features, count)
        assert own == order
        np.testing.assert_allclose(near, values, atol=1e-6)


def test_equal_rows_come_in_their_order_and_nothing_exceeds_one():
    features = np.eye(4)[[2, 0, 2, 0, 1]] * 3
    rows, cosines = find_nearest(np.eye(4)[:1] * 0.5, features, 5)
    assert rows.tolist() == [[1, 3, 0, 2, 4]]
    assert cosines.tolist() == [[1, 1, 0, 0, 0]]
    rows, cosines = find_nearest(np.zeros((1, 4)), features, 3)
    assert (rows.tolist(), cosines.tolist()) == ([[0, 1, 2]], [[0, 0, 0]])


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_features_are_what_goes_into_the_head(head):
    subject = open_network("resnet18", img_size=64, head=head)
    images = draw_images(3, 64)
    features, logits = compute_features(subject, images, batch_size=2)
    with torch.no_grad():
        maps = subject.module.forward_features(subject.prepare(images))
    np.testing.assert_allclose(features, maps.mean(dim=(2, 3)).numpy(), atol=1e-5)
    np.testing.assert_allclose(logits, subject.compute_logits(images), atol=1e-5)


def test_features_that_are_not_finite_are_named():
    subject = open_network("resnet18", img_size=64)
    with torch.no_grad():
        subject.module.layer4[1].bn2.bias[0] = torch.nan
    with pytest.raises(Diverged, match=r"aren't finite for 2 of 2 images\. Its weights hold NaN"):
        compute_features(subject, draw_images(2, 64))


def test_a_network_without_a_known_head_is_refused():
    with pytest.raises(UsageError, match="no classifier that could be told apart"):
        compute_features(wrap(Pooled()), draw_images(1, 8))
