"""The table of methods: who is told apart, who ties, what is said, and what stands in measured.json."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hand_built import SIDE, build_net, draw_pictures

from praxiscope.errors import UsageError
from praxiscope.explaining.measure.methods import (
    Explainer,
    MeasurePlan,
    build_explainers,
    measure_methods,
)
from praxiscope.explaining.measure.ranking import rank_methods
from praxiscope.explaining.measure.result import Sanity
from praxiscope.explaining.saliency.compute import compute_maps

QUICK = MeasurePlan(steps=4, sanity_samples=4, sanity_depths=2, resamples=50, batch_size=8)
NO_GROUPS = [None] * 40


def judged(verdict):
    return Sanity(
        layers=("stem",),
        correlation=(0.9,),
        low=(0.8,),
        high=(1.0,),
        verdict=verdict,
        sentence="shows edges.",
    )


def rank(scores, groups=NO_GROUPS, sanity=None):
    rng = np.random.default_rng(0)
    drawn = {name: mean + rng.normal(0, 0.1, len(groups)) for name, mean in scores.items()}
    return rank_methods(drawn, groups, sanity=sanity or {}, cost_ms=dict.fromkeys(scores, 2.0) | {"b": 1.0})


def test_clear_differences_are_ranked_and_the_best_is_named():
    found = rank({"a": 0.6, "b": 0.3, "c": -0.5, "random": 0.0})
    assert found.ranks == {"a": 1, "b": 2, "random": 3, "c": 4}
    assert found.best == ("a",)
    assert found.sentences[0].startswith("Trust a for this model and these data")
    assert found.sentences[1] == "c is worse than a random map here: its maps mislead."


def test_methods_that_cannot_be_told_apart_tie():
    found = rank({"a": 0.601, "b": 0.6, "c": 0.0, "random": 0.0})
    assert found.ranks == {"a": 1, "b": 1, "c": 3, "random": 3}
    assert found.best == ("a", "b")
    assert found.sentences[0].startswith("a and b can't be told apart and are better than a random map")
    assert "the cheapest of them is b at 1 ms an image" in found.sentences[0]
    assert found.sentences[1] == "c can't be told apart from a random map here."
    pair = next(each for each in found.pairs if (each.first, each.second) == ("a", "b"))
    assert pair.difference.low < 0 < pair.difference.high
    assert pair.p_holm > 0.05


def test_none_better_than_random_is_said_so():
    found = rank({"a": 0.0, "b": 0.0, "random": 0.0})
    assert found.best == ()
    assert len(found.sentences) == 1
    assert found.sentences[0] == (
        "None of the methods is told apart as better than a random map "
        "(by insertion minus deletion on 40 samples): trust none of these maps here."
    )


def test_a_method_that_fails_the_sanity_check_is_never_the_best():
    found = rank({"a": 0.6, "b": 0.3, "random": 0.0}, sanity={"a": judged("fails"), "b": judged("passes")})
    assert found.ranks["a"] == 1
    assert found.best == ("b",)
    assert "a: shows edges." in found.sentences
    unsure = rank({"a": 0.6, "random": 0.0}, sanity={"a": judged("undecided")})
    assert unsure.best == ("a",)
    assert unsure.sentences[0] == (
        "Trust a for this model and these data: better than a random map, and best by insertion minus "
        "deletion on 40 samples; but the sanity check of a is undecided."
    )
    assert unsure.sentences[1] == "a: shows edges."
    both = rank(
        {"a": 0.601, "b": 0.6, "random": 0.0}, sanity={"a": judged("passes"), "b": judged("undecided")}
    )
    assert both.sentences[0].endswith("at 1 ms an image; but the sanity check of b is undecided.")
    unchecked = rank({"a": 0.6, "random": 0.0})
    assert unchecked.sentences[0].endswith("on 40 samples; the sanity check was left out.")
    sure = rank({"a": 0.6, "random": 0.0}, sanity={"a": judged("passes")})
    assert sure.sentences[0].endswith("and best by insertion minus deletion on 40 samples.")
    alone = rank({"a": 0.6, "random": 0.0}, sanity={"a": judged("fails")})
    assert alone.best == ()
    assert alone.sentences[0].startswith("What beats a random map here (a) fails the sanity check")


def test_the_best_is_not_called_better_than_what_it_is_not_told_apart_from():
    rng = np.random.default_rng(0)
    scores = {"a": 0.3 + rng.normal(0, 0.1, 40), "b": 0.3 + rng.normal(0, 3, 40), "random": np.zeros(40)}
    found = rank_methods(
        scores, NO_GROUPS, sanity={"a": judged("passes"), "b": judged("passes")},
        cost_ms=dict.fromkeys(scores, 1.0),
    )  # fmt: skip
    assert found.best == ("a",)
    assert found.sentences[0] == (
        "Trust a for this model and these data: better than a random map by insertion minus deletion on "
        "40 samples, though not told apart as better than b."
    )


def test_the_sanity_check_takes_samples_from_the_whole_draw():
    """Samples come in order of their ids: the first ones would be of one class."""
    samples, taken = draw_pictures(20, tied=False), []

    def spy(_subject, images, _targets):
        taken.append(images)
        return np.ones(images.shape[:3], dtype=np.float32)

    plan = MeasurePlan(steps=1, sanity_samples=4, sanity_depths=1, resamples=5)
    measure_methods(build_net(), samples, [Explainer(name="spy", explain=spy)], plan=plan)
    np.testing.assert_array_equal(taken[-1], samples.images[[0, 6, 13, 19]])


def test_groups_count_once():
    """The same advantage in 40 samples of 2 groups is no evidence; in 40 groups it is."""
    values = {"a": np.repeat([0.1, 0.9], 20), "random": np.zeros(40)}
    few = rank_methods(values, ["x"] * 20 + ["y"] * 20, sanity={}, cost_ms={"a": 1.0, "random": 1.0})
    many = rank_methods(values, NO_GROUPS, sanity={}, cost_ms={"a": 1.0, "random": 1.0})
    assert (few.best, many.best) == ((), ("a",))


@pytest.fixture(scope="module")
def measured():
    samples = draw_pictures(20, tied=False)
    constant = Explainer(
        name="constant", explain=lambda _s, images, _t: np.ones(images.shape[:3], dtype=np.float32)
    )
    return measure_methods(build_net(), samples, ["gradcam", constant, "random"], plan=QUICK)


def test_a_constant_map_gains_nothing_over_random(measured):
    constant = next(each for each in measured.methods if each.method == "constant")
    for gain in (constant.deletion_gain, constant.insertion_gain, constant.score_gain):
        assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert constant.p_random == 1
    assert "constant" not in measured.best
    assert constant.masks.pointing_gain.value == pytest.approx(0)
    assert constant.masks.energy_gain.value == pytest.approx(0)
    assert measured.random.p_random == 1


def test_the_result_is_plain_json_with_the_agreed_keys(measured):
    content = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert {"schema", "run", "split", "n", "methods", "ranking", "reliance", "baseline", "rules"} <= set(
        content
    )
    assert (content["schema"], content["run"], content["split"], content["n"]) == (
        1,
        "hand-built",
        "test",
        20,
    )
    assert [each["method"] for each in content["methods"]] != []
    entry = content["methods"][0]
    assert set(entry["deletion"]) == {"value", "low", "high"}
    for key in ("layer", "insertion", "random_deletion", "pointing", "energy", "mask_area", "sanity", "rank"):
        assert key in entry
    assert entry["ms_per_image"] > 0
    assert len(entry["shares"]) == len(entry["deletion_curve"]) == QUICK.steps + 1
    assert set(entry["sanity"]) == {"layers", "correlation", "low", "high", "verdict", "sentence"}
    assert content["mask_reference"]["n"] == 20


def test_areas_are_those_of_the_curves(measured):
    for each in (*measured.methods, measured.random):
        assert np.trapezoid(each.deletion_curve, each.shares) == pytest.approx(each.deletion.value, abs=1e-4)
        assert each.score.value == pytest.approx(each.insertion.value - each.deletion.value)


def test_the_methods_maps_are_those_of_compute_maps():
    subject, samples = build_net(), draw_pictures(10, tied=False)
    (gradcam,) = build_explainers(subject, ["gradcam", "random"])
    whole = compute_maps(subject, "gradcam", samples.images, samples.targets)
    np.testing.assert_allclose(
        gradcam.explain(subject, samples.images, samples.targets), whole.maps, atol=1e-6
    )
    assert gradcam.layer == whole.layer


def test_without_masks_those_figures_are_null_and_sanity_can_be_left_out():
    samples = draw_pictures(8, tied=False)
    bare = type(samples)(
        images=samples.images, targets=samples.targets, sample_ids=samples.sample_ids, groups=samples.groups
    )
    plan = MeasurePlan(steps=2, sanity_samples=0, resamples=20)
    found = measure_methods(build_net(), bare, ["gradcam"], plan=plan).to_dict()
    assert found["mask_reference"] is None
    assert {found["methods"][0][key] for key in ("pointing", "energy", "mask_area", "sanity")} == {None}


def test_wrong_requests_are_refused():
    subject, samples = build_net(), draw_pictures(4, tied=False)
    with pytest.raises(UsageError, match="Did you mean 'gradcam'"):
        measure_methods(subject, samples, ["gradcan"], plan=QUICK)
    flat = Explainer(name="flat", explain=lambda _s, images, _t: np.ones((len(images), 7, 7), np.float32))
    with pytest.raises(UsageError, match=rf"'flat' gives maps of shape \(4, 7, 7\).*\(4, {SIDE}, {SIDE}\)"):
        measure_methods(subject, samples, [flat], plan=QUICK)
    twice = Explainer(name="gradcam", explain=flat.explain)
    with pytest.raises(UsageError, match="called 'gradcam' twice; 'random' is always there by itself"):
        measure_methods(subject, samples, ["gradcam", twice], plan=QUICK)
    with pytest.raises(UsageError, match=r"MeasurePlan.steps is 0; it must be at least 1"):
        MeasurePlan(steps=0)
