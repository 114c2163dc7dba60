"""Joint answers of several heads against a plain loop over the benchmark's definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from praxiscope.stats.joint import index_joint, rank_joint, score_joint


def score_by_loop(verbs, nouns, best):
    """Return the best pairs of one sample and their scores, straight from the definition."""
    verb_probs, noun_probs = (np.exp(row) / np.exp(row).sum() for row in (verbs, nouns))
    top_verbs, top_nouns = (np.argsort(-probs, kind="stable")[:best] for probs in (verb_probs, noun_probs))
    pairs = [(verb_probs[v] * noun_probs[n], v, n) for v, n in itertools.product(top_verbs, top_nouns)]
    return sorted(pairs, key=lambda pair: -pair[0])[:best]


@pytest.mark.parametrize(("verbs", "nouns", "best"), [(97, 300, 100), (8, 10, 100), (97, 300, 5)])
def test_pairs_are_those_of_the_definition(verbs, nouns, best):
    rng = np.random.default_rng(verbs + best)
    logits = [rng.normal(size=(12, size)) * 3 for size in (verbs, nouns)]
    found = score_joint(logits, best=best)
    for row in range(12):
        expected = score_by_loop(logits[0][row], logits[1][row], best)
        assert found.labels[row].tolist() == [[v, n] for _, v, n in expected]
        assert found.scores[row] == pytest.approx([score for score, _, _ in expected], rel=1e-12)


def test_the_first_pair_is_both_heads_first_answer_and_absent_pairs_rank_last():
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(600, size)) for size in (97, 300)]
    found = score_joint(logits)
    first = np.stack([each.argmax(axis=1) for each in logits], axis=1)
    assert (found.labels[:, 0] == first).all()
    assert (rank_joint(found, first) == 0).all()
    last = np.stack([each.argmin(axis=1) for each in logits], axis=1)
    assert (rank_joint(found, last) == 100).all()


def test_three_heads_are_joined_in_order():
    logits = [np.log([[0.7, 0.3]]), np.log([[0.2, 0.8]]), np.log([[0.6, 0.4]])]
    found = score_joint(logits, best=8)
    assert found.labels[0, :2].tolist() == [[0, 1, 0], [0, 1, 1]]
    assert found.scores[0, :2] == pytest.approx([0.7 * 0.8 * 0.6, 0.7 * 0.8 * 0.4])
    assert found.scores[0].sum() == pytest.approx(1.0)


def test_combinations_that_occur_are_numbered():
    assert index_joint(np.array([[1, 2], [0, 5], [1, 2], [0, 4]])).tolist() == [2, 1, 2, 0]


def test_heads_of_different_length_and_no_answer_are_refused():
    with pytest.raises(ValueError, match=r"\[2, 3\] rows"):
        score_joint([np.zeros((2, 3)), np.zeros((3, 3))])
    with pytest.raises(ValueError, match="best is 0"):
        score_joint([np.zeros((2, 3))], best=0)
