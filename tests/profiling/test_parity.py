"""Outputs that differ are refused, with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from praxiscope.profiling.measure import run_in_batches
from praxiscope.profiling.parity import compare_logits

LOGITS = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)


def test_equal_outputs_pass_with_zero_difference():
    found = compare_logits(LOGITS, LOGITS.copy(), "fp32")
    assert (found.max_abs_diff, found.relative_diff, found.agreement, found.refusal) == (0.0, 0.0, 1.0, None)


@pytest.mark.parametrize(
    ("precision", "passes", "fails"), [("fp32", 5e-4, 2e-3), ("bf16", 0.05, 0.15), ("int8", 0.2, 0.3)]
)
def test_the_tolerance_follows_the_precision(precision, passes, fails):
    largest = float(np.abs(LOGITS).max())
    shifted = LOGITS + np.float32(passes * largest)
    assert compare_logits(LOGITS, shifted, precision).refusal is None
    refusal = compare_logits(LOGITS, LOGITS + np.float32(fails * largest), precision).refusal
    assert refusal is not None
    assert f"are allowed in {precision}" in refusal


def test_another_top_1_is_refused_of_trained_weights_only():
    close = np.array([[1.0, 0.9999]] * 20, np.float32)
    swapped = close[:, ::-1].copy()
    refusal = compare_logits(close, swapped, "fp32").refusal
    assert refusal is not None
    assert "agrees with eager fp32 on 0.0 %" in refusal
    assert compare_logits(close, swapped, "fp32", trained=False).refusal is None


def test_other_shapes_and_nan_are_refused():
    assert "shape (32, 4) instead of (32, 5)" in str(compare_logits(LOGITS, LOGITS[:, :4], "fp32").refusal)
    broken = LOGITS.copy()
    broken[3, 2] = np.nan
    assert "NaN" in str(compare_logits(LOGITS, broken, "int8").refusal)


def test_batches_of_several_sizes_keep_the_order():
    sizes = []

    def session(images):
        sizes.append(len(images))
        return images.mean((2, 3))

    images = np.random.default_rng(1).normal(size=(25, 3, 4, 4)).astype(np.float32)
    assert np.array_equal(run_in_batches(session, images), images.mean((2, 3)))
    assert sizes == [1, 3, 8, 8, 5]
