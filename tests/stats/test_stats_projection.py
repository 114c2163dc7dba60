"""Principal components against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from praxiscope.stats.projection import project_pca


@pytest.mark.parametrize(("rows", "columns"), [(40, 7), (6, 30), (50, 2)])
def test_points_and_shares_are_those_of_scikit_learn(rows, columns):
    rng = np.random.default_rng(rows)
    features = 5 + rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns))
    points, shares = project_pca(features)
    peer = PCA(n_components=2).fit(features)
    theirs = peer.transform(features)
    signs = np.sign((theirs * points).sum(axis=0))
    np.testing.assert_allclose(points, theirs * signs, atol=1e-9)
    np.testing.assert_allclose(shares, peer.explained_variance_ratio_, atol=1e-12)


def test_signs_do_not_depend_on_the_order_of_the_rows():
    features = np.random.default_rng(0).normal(size=(20, 5))
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_allclose(project_pca(features)[0][order], project_pca(features[order])[0], atol=1e-9)


def test_the_largest_loading_of_each_axis_is_positive():
    features = np.random.default_rng(2).normal(size=(30, 4))
    points, _ = project_pca(features)
    loadings = (features - features.mean(axis=0)).T @ points
    for axis in (0, 1):
        assert loadings[np.abs(loadings[:, axis]).argmax(), axis] > 0


@pytest.mark.parametrize("row", [[0.1] * 5, [1e6 / 3, -0.7, 3.3, 0.1, 1e-3]])
def test_equal_rows_have_no_variance_not_that_of_rounding(row):
    points, shares = project_pca(np.tile(row, (7, 1)))
    assert shares == (0.0, 0.0)
    assert not points.any()


def test_one_direction_has_no_second_axis():
    points, shares = project_pca(np.outer(np.arange(6) / 7, [0.3, -1.1, 2.3]))
    assert shares == (pytest.approx(1), 0)
    assert points[:, 0].std() > 0
    assert not points[:, 1].any()
    alone, shares = project_pca(np.array([[3.0]]))
    np.testing.assert_array_equal(alone, np.zeros((1, 2)))
    assert shares == (0, 0)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (3, 0)])
def test_nothing_to_project_is_refused(shape):
    with pytest.raises(ValueError, match="two axes with something in them are needed"):
        project_pca(np.zeros(shape))
