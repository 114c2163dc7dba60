"""Pointing game and energy: hits, tolerance, ties, and what chance gives."""

from __future__ import annotations

import numpy as np
import pytest

from praxiscope.explaining.measure.pointing import prepare_targets, score_energy, score_pointing
from praxiscope.explaining.measure.regions import grow_masks


def mask_of(side, rows, columns):
    mask = np.zeros((1, side, side), dtype=bool)
    mask[0, rows, columns] = True
    return mask


def point_at(side, row, column):
    values = np.zeros((1, side, side), dtype=np.float32)
    values[0, row, column] = 1
    return values


def test_growing_adds_what_is_within_the_radius():
    grown = grow_masks(mask_of(11, 5, 5), 2)[0]
    down, right = np.indices((11, 11)) - 5
    np.testing.assert_array_equal(grown, np.hypot(down, right) <= 2)
    assert not grow_masks(np.zeros((1, 5, 5), bool), 3).any()


@pytest.mark.parametrize(("distance", "hit"), [(0, 1), (15, 1), (16, 0)])
def test_the_tolerance_is_15_px_of_224(distance, hit):
    places = prepare_targets(mask_of(224, slice(100, 120), slice(100, 120)))
    assert score_pointing(point_at(224, 119 + distance, 110), places.near).tolist() == [hit]


def test_the_tolerance_grows_with_the_image():
    places = prepare_targets(mask_of(448, slice(200, 240), slice(200, 240)))
    assert score_pointing(point_at(448, 239 + 30, 220), places.near).tolist() == [1]
    assert score_pointing(point_at(448, 239 + 31, 220), places.near).tolist() == [0]


def test_equal_largest_values_are_averaged_so_a_constant_map_has_the_chance_level():
    places = prepare_targets(mask_of(32, slice(0, 8), slice(0, 16)))
    constant = np.full((1, 32, 32), 0.7, dtype=np.float32)
    assert score_pointing(constant, places.near) == pytest.approx(places.chance)
    assert score_energy(constant, places.masks) == pytest.approx(places.area)
    assert places.area == pytest.approx(1 / 8)
    assert places.chance > places.area
    two = point_at(32, 2, 2) + point_at(32, 30, 30)
    assert score_pointing(two, places.near).tolist() == [0.5]


def test_energy_is_the_positive_mass_inside_the_mask():
    mask = mask_of(4, slice(0, 2), slice(0, 4))
    values = np.zeros((1, 4, 4), dtype=np.float32)
    values[0, 0, 0], values[0, 3, 3], values[0, 0, 1] = 3, 1, -8
    assert score_energy(values, mask).tolist() == [0.75]
    assert score_energy(-np.abs(values), mask).tolist() == [0.5], "no mass: the mask's area"
    offset = np.abs(values) + 100
    offset[0, 0, 1] = 100
    assert score_energy(offset, mask).tolist() == [0.75]


def test_the_centre_is_held_beside_the_methods():
    middle = prepare_targets(mask_of(32, slice(12, 20), slice(12, 20)))
    corner = prepare_targets(mask_of(32, slice(0, 4), slice(0, 4)))
    assert (middle.centre.tolist(), corner.centre.tolist()) == ([1.0], [0.0])
