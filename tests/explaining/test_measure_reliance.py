"""Person against background, on networks whose reasons are known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_built import COLOURS, NAMES, PLACES, SIDE, ColourReader, draw_pictures, read_actor, read_background

from praxiscope.errors import DataError
from praxiscope.explaining.measure.background_score import compute_skills
from praxiscope.explaining.measure.regions import fill_regions, grow_masks, move_masks
from praxiscope.explaining.measure.reliance import measure_reliance
from praxiscope.explaining.measure.reliance_images import pair_scenes, show_scenes
from praxiscope.explaining.measure.result import Interval  # the type of every figure


def accuracies(found):
    return {each.name: each.accuracy.value for each in found.conditions}


@pytest.mark.parametrize("fill", ["scene", "colour"])
def test_a_network_that_sees_only_the_background_scores_1(fill):
    found = measure_reliance(read_background(), draw_pictures(90, tied=True), fill=fill)
    assert found.background.score.value > 0.95
    assert found.background.survives.value == 1
    assert accuracies(found)["no_actor"] == 1
    assert accuracies(found)["other"] < 0.5
    assert "rest more on the background than on the actor" in found.sentence


@pytest.mark.parametrize("fill", ["scene", "colour"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_network_that_sees_only_the_actor_scores_0(fill, tied):
    found = measure_reliance(read_actor(), draw_pictures(90, tied=tied), fill=fill)
    assert found.background.score.value < 0.05
    assert accuracies(found)["other"] == accuracies(found)["alike"] == 1
    assert accuracies(found)["no_actor"] < 0.5
    assert "rest more on the actor than on the background" in found.sentence
    assert all(each.background.score.value < 0.1 for each in found.per_class)
    assert [each.name for each in found.per_class] == list(NAMES)


def test_a_network_that_takes_either_scores_about_a_half():
    class Either:
        names = NAMES

        def compute_logits(self, images):
            return read_actor().compute_logits(images) + read_background().compute_logits(images) / 2

    found = measure_reliance(Either(), draw_pictures(90, tied=True))
    assert (found.background.survives.value, found.background.lost.value) == (1, 0)
    assert found.background.score.value == pytest.approx(0.5)
    assert "can't be told" in found.sentence


def test_a_shortcut_is_found_by_its_own_answers_where_labels_are_of_no_use():
    found = measure_reliance(read_background(), draw_pictures(120, tied=False, seed=4))
    assert found.background.score is None
    assert "Answers on whole images can't be told from guessing" in found.background.reason
    assert found.answers.score.value > 0.85
    assert found.answers.score.low > 0.5
    assert "by the model's own answers" in found.sentence
    assert "By accuracy it is undefined." in found.sentence


def test_a_network_with_one_answer_has_no_score():
    constant = ColourReader(weights=read_actor().weights, palette=COLOURS * 0 + 7)
    found = measure_reliance(constant, draw_pictures(30, tied=True))
    assert found.background.score is found.answers.score is None
    assert found.sentence.startswith("Whether answers rest on the actor or the background is undefined.")
    assert found.to_dict()["background"]["score"] is None


def test_damage_that_the_control_shares_is_not_counted():
    """Anything smooth in the picture confuses it: the accuracy falls without the actor, and as much elsewhere."""
    samples = draw_pictures(90, tied=True)

    class Fragile:
        names = NAMES

        def compute_logits(self, images):
            rough = np.abs(np.diff(images.astype(int), axis=1)).min(axis=3) > 0
            steady = rough.mean(axis=(1, 2)) > np.median(rough.mean(axis=(1, 2)))
            logits = read_background().compute_logits(images)
            return np.where(steady[:, None], logits, 0)

    seen = accuracies(measure_reliance(Fragile(), samples, batch_size=90))
    assert seen["whole"] < 0.8
    found = measure_reliance(Fragile(), samples, batch_size=90)
    assert found.background.survives.value > 0.8


def test_groups_widen_the_interval_and_one_group_has_none():
    class Unsteady:
        names = NAMES

        def compute_logits(self, images):
            logits = read_background().compute_logits(images).copy()
            wrong = images[:, 0, 0, 0] % 3 == 0
            logits[wrong] = np.roll(logits[wrong], 1, axis=1)
            return logits

    widths = []
    for groups in (None, 4, 1):
        found = measure_reliance(Unsteady(), draw_pictures(96, tied=True, groups=groups))
        interval = found.conditions[0].accuracy
        assert isinstance(interval, Interval)
        widths.append(interval.high - interval.low)
        assert found.num_groups == (groups or 96)
    assert widths[0] > 0
    assert np.isnan(widths[2])
    assert "the samples are one group" in found.sentence
    assert found.to_dict()["background"]["score"]["low"] is None


def test_samples_without_a_mask_or_a_partner_are_left_out_and_counted():
    samples = draw_pictures(30, tied=True)
    masks = samples.masks.copy()
    masks[:6] = False
    masks[6] = True
    found = measure_reliance(read_background(), replace(samples, masks=masks))
    assert (found.n, found.left_out) == (23, 7)
    few = draw_pictures(4, tied=True)  # classes 0, 1, 2, 0
    assert measure_reliance(read_background(), few).n == 2
    with pytest.raises(DataError, match="No two of the 3 samples with a mask get the same answer"):
        measure_reliance(read_background(), draw_pictures(3, tied=True))
    with pytest.raises(DataError, match=r"0 of 6 samples have one. Name a folder of masks with --masks"):
        measure_reliance(read_background(), replace(draw_pictures(6, tied=True), masks=None))


def test_small_classes_get_no_score_and_say_so():
    found = measure_reliance(read_background(), draw_pictures(12, tied=True))
    assert {each.background.reason for each in found.per_class} == {
        "The class has 4 samples with a mask; a score needs 5."
    }
    assert all(
        set(each.recall) == {"whole", "no_actor", "damaged", "other", "alike"} for each in found.per_class
    )


def test_the_same_seed_gives_the_same_figures_and_the_batch_size_none():
    samples = draw_pictures(40, tied=False)
    first = measure_reliance(read_background(), samples, seed=3)
    assert measure_reliance(read_background(), samples, seed=3) == first
    assert measure_reliance(read_background(), samples, seed=4) != first


def test_skill_is_recall_less_false_alarms_whatever_the_class_sizes():
    targets = np.array([0] * 90 + [1] * 10)
    always = compute_skills(
        targets, {"whole": np.zeros(100, np.int64)}, 2, [None] * 100, resamples=20, seed=0
    )
    assert always.value["whole"].tolist() == [0, 0, 0], "the larger class is right in 90 %, and no skill"
    right = compute_skills(targets, {"whole": targets}, 2, [None] * 100, resamples=20, seed=0)
    assert right.value["whole"].tolist() == [1, 1, 1]
    balanced, preds = np.repeat([0, 1, 2, 3], 10), np.repeat([0, 1, 2, 3], 10)
    preds[::4] = 3 - preds[::4]
    accuracy = (preds == balanced).mean()
    some = compute_skills(balanced, {"whole": preds}, 4, [None] * 40, resamples=20, seed=0)
    assert some.value["whole"][0] == pytest.approx((accuracy - 1 / 4) / (1 - 1 / 4))


def test_holes_are_filled_from_around_them_and_know_nothing_of_what_was_there():
    rng = np.random.default_rng(0)
    holes = np.zeros((2, 24, 24), dtype=bool)
    holes[:, 8:16, 8:16] = True
    flat = np.full((2, 24, 24, 3), (10, 120, 240), dtype=np.uint8)
    changed = flat.copy()
    changed[holes] = rng.integers(0, 256, (holes.sum(), 3))
    np.testing.assert_array_equal(fill_regions(changed, holes), flat)
    ramp = np.broadcast_to(np.linspace(0, 230, 24).astype(np.uint8)[None, None, :, None], (2, 24, 24, 3))
    filled = fill_regions(ramp.copy(), holes).astype(int)
    np.testing.assert_array_equal(filled[~holes], ramp[~holes])
    assert np.abs(filled - ramp).max() < 40
    assert (filled[0, 11, 8] < filled[0, 11, 15]).all()
    assert (fill_regions(flat, np.ones_like(holes)) == 127).all()


def test_the_control_hole_has_the_same_size_elsewhere():
    masks = np.zeros((2, 30, 30), dtype=bool)
    masks[0, 3:12, 4:10] = True
    masks[1, 2:28, 1:29] = True  # larger than what is left
    moved = move_masks(masks, np.random.default_rng(0))
    assert not (moved & masks).any()
    assert moved[0].sum() == masks[0].sum()
    assert 0 < moved[1].sum() <= (~masks[1]).sum()


def test_what_is_shown_is_what_the_conditions_say():
    samples = draw_pictures(12, tied=True)
    scenes = pair_scenes(
        samples.images, samples.masks, samples.targets, fill="scene", rng=np.random.default_rng(0)
    )
    rows = scenes.usable
    assert (scenes.alike != rows).all()
    assert (scenes.other != rows).all()
    assert (samples.targets[scenes.alike] == samples.targets).all()
    shown = show_scenes(scenes, rows, np.random.default_rng(0))
    grown = grow_masks(samples.masks, SIDE * 0.03)
    for place in rows:
        mask, own = samples.masks[place], samples.images[place]
        outside = ~grown[place]
        np.testing.assert_array_equal(shown["no_actor"][place][outside], own[outside])
        assert np.abs(shown["no_actor"][place].astype(int) - PLACES[samples.targets[place]]).max() < 12
        np.testing.assert_array_equal(shown["damaged"][place][mask], own[mask])
        for name, partner in (("other", scenes.other[place]), ("alike", scenes.alike[place])):
            np.testing.assert_array_equal(shown[name][place][mask], own[mask])
            behind = shown[name][place][~mask].astype(int)
            assert np.abs(behind - PLACES[samples.targets[partner]]).max() < 12
