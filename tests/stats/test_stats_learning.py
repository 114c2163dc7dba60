import csv
import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from praxiscope.stats.learning import describe_learning, find_first_epoch
from praxiscope.stats.learning_findings import Conditions

SHARED = Path(os.environ.get("PRAXISCOPE_SHARED", Path(__file__).parents[3] / "shared"))
LOGS = SHARED / "data" / "peer-results" / "resnet_vit_har"


def make_rows(val_top1, *, train_loss=None, val_loss=None, train_top1=None):
    count = len(val_top1)
    columns = {
        "epoch": range(1, count + 1),
        "val/top1": val_top1,
        "train/top1": val_top1 if train_top1 is None else train_top1,
        "train/loss": np.linspace(2, 1, count) if train_loss is None else train_loss,
        "val/loss": np.linspace(2, 1, count) if val_loss is None else val_loss,
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def make_losses(kind, *, epochs, turn=0, rise=0.0, noise=0.0, rng, memory=0.0):
    """Draw training and validation loss of a kind of run whose truth is known.

    ``overfits``: validation loss falls until `turn`, then climbs by `rise` of its floor. ``improves``: it falls
    throughout. ``flat``: it falls early, then nothing but noise. ``dead``: nothing was learnt.
    """
    epoch = np.arange(1, epochs + 1)
    train, floor = 0.1 + 2 * np.exp(-epoch / (epochs / 4)), 0.7
    val = {
        "overfits": floor + 1.3 * np.exp(-epoch / max(1.0, turn / 4))
        + rise * floor * np.maximum(0, epoch - turn) / max(1, epochs - turn),
        "improves": floor + 1.3 * np.exp(-epoch / (epochs / 3)),
        "flat": floor + 1.3 * np.exp(-epoch / (epochs / 12)),
        "dead": np.full(epochs, 2.3),
    }[kind]  # fmt: skip
    shocks = rng.normal(size=epochs)
    for at in range(1, epochs):
        shocks[at] = memory * shocks[at - 1] + math.sqrt(1 - memory**2) * shocks[at]
    train = np.full(epochs, 2.3) if kind == "dead" else train
    return train * (1 + noise * rng.normal(size=epochs)), val * (1 + noise * shocks)


def find_onsets(kind, trials=200, **curve):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(trials):
        train, val = make_losses(kind, rng=rng, **curve)
        rows = make_rows([0.5] * len(val), train_loss=train, val_loss=val)
        found.append(describe_learning(rows).overfitting_since)
    return [since for since in found if since is not None]


def test_best_epoch_is_the_first_of_the_best_and_gaps_are_train_minus_val():
    findings = describe_learning(make_rows([0.4, 0.7, 0.6, 0.7], train_top1=[0.5, 0.8, 0.9, 0.95]))
    assert (findings.best_epoch, findings.best_value, findings.last_value) == (2, 0.7, 0.7)
    assert findings.gap_at_best == pytest.approx(0.1)
    assert findings.gap_at_end == pytest.approx(0.25)
    text = " ".join(findings.sentences)
    assert "best at epoch 2 (4 epochs logged): 70.0 %" in text
    assert "+10.0 points at the best epoch and +25.0 points at the last epoch" in text
    assert "averages over the epoch while the weights change, under augmentation and with dropout" in text


def test_a_loss_is_better_when_lower():
    findings = describe_learning(make_rows([0.5] * 4, val_loss=[2.0, 1.0, 1.5, 1.2]), monitor="val/loss")
    assert (findings.best_epoch, findings.best_value) == (2, 1.0)
    assert "val/loss was best at epoch 2 (4 epochs logged): 1.0000." in findings.sentences


@pytest.mark.parametrize(
    ("epochs", "turn", "rise", "noise", "at_least", "delay"),
    [(30, 12, 0.5, 0.03, 198, 3), (30, 12, 0.2, 0.01, 198, 4), (50, 20, 0.1, 0.01, 196, 9), (50, 20, 0.5, 0.06, 198, 5)],
)  # fmt: skip
def test_planted_overfitting_is_found_with_its_epoch(epochs, turn, rise, noise, at_least, delay):
    since = find_onsets("overfits", epochs=epochs, turn=turn, rise=rise, noise=noise)
    assert len(since) >= at_least
    assert -2 <= np.median(since) - (turn + 1) <= delay


@pytest.mark.parametrize("kind", ["improves", "flat", "dead"])
@pytest.mark.parametrize("epochs", [5, 10, 30, 100])
def test_noise_alone_is_not_called_overfitting(kind, epochs):
    assert len(find_onsets(kind, epochs=epochs, noise=0.03)) <= 4
    # Noise that lasts for several epochs looks more like a rise.
    assert len(find_onsets(kind, epochs=epochs, noise=0.03, memory=0.5)) <= 16


def test_overfitting_is_named_soon_after_it_set_in():
    waits = []
    for seed in range(40):
        train, val = make_losses(
            "overfits", epochs=60, turn=20, rise=1.0, noise=0.03, rng=np.random.default_rng(seed)
        )
        rows = make_rows([0.5] * 60, train_loss=train, val_loss=val)
        named = (n for n in range(21, 61) if describe_learning(rows[:n]).overfitting_since is not None)
        waits.append(next(named) - 20)
    assert np.median(waits) <= 12


def test_overfitting_is_told_with_its_numbers():
    train, val = np.linspace(2, 0.2, 12), np.array([2, 1.5, 1.2, 1, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.5, 1.5])
    findings = describe_learning(make_rows(np.linspace(0.3, 0.6, 12), train_loss=train, val_loss=val))
    assert findings.overfitting_since == 6
    assert findings.loss_rise == pytest.approx(0.5)
    text = " ".join(findings.sentences)
    assert (
        "Overfitting set in at epoch 6: smoothed validation loss was lowest (1.0000 at epoch 4) and " in text
    )
    assert "rose by 50 % until the end, while training loss fell by 81 %" in text
    assert "val/top1 was best at epoch 12 all the same" in text


def test_a_rise_while_training_gets_worse_too_is_not_overfitting():
    val = [2, 1.5, 1.2, 1, 1, 1.1, 1.2, 1.3, 1.4, 1.5]
    findings = describe_learning(make_rows([0.5] * 10, train_loss=val, val_loss=val))
    assert findings.overfitting_since is None
    told = next(sentence for sentence in findings.sentences if "no overfitting is shown" in sentence)
    assert "No rise of validation loss" not in told  # it did rise
    assert "training loss rose by 45 % from there to the end" in told


def test_a_rise_of_two_epochs_is_too_short():
    val = [2, 1.5, 1.2, 1, 1, 1, 1, 1.4, 1.5]
    assert describe_learning(make_rows([0.5] * 9, val_loss=val)).overfitting_since is None


def test_a_plateau_starts_where_the_best_is_nearly_reached():
    findings = describe_learning(make_rows([0.3, 0.5, 0.7, 0.701, 0.70, 0.702, 0.699, 0.703, 0.70]))
    assert findings.plateau_since == 3
    assert not findings.unfinished
    assert "val/top1 did not improve beyond its noise (0.5 points) in epochs 3 to 9 (+0.3 points)." in (
        findings.sentences
    )


def test_a_curve_that_still_climbs_is_unfinished():
    findings = describe_learning(make_rows(np.linspace(0.3, 0.7, 10)))
    assert findings.unfinished
    assert findings.plateau_since is None
    assert any(
        "still improving at epoch 10, the last one measured (+8.9 points over all but the last fifth)" in told
        for told in findings.sentences
    )


@pytest.mark.parametrize(
    "values", [[0.3, 0.5, 0.7, 0.71, 0.70, 0.702, 0.699, 0.703, 0.70], [0.3, 0.5, 0.7, 0.6]]
)
def test_a_curve_that_no_longer_climbs_is_finished(values):
    assert not describe_learning(make_rows(values)).unfinished


def test_one_epoch_shows_no_trend():
    findings = describe_learning(make_rows([0.4]))
    assert (findings.best_epoch, findings.overfitting_since, findings.plateau_since) == (1, None, None)
    assert not findings.unfinished
    assert "One epoch alone shows no trend." in findings.sentences


def test_no_epoch_is_said():
    findings = describe_learning([])
    assert findings.best_epoch is None
    assert findings.sentences == ("No epoch was finished, so there is nothing to say about learning.",)


@pytest.mark.parametrize("broken", [None, math.nan, math.inf])
def test_epochs_without_a_finite_figure_are_left_out_and_named(broken):
    findings = describe_learning(make_rows([0.4, broken, 0.6, broken], val_loss=[1.0, broken, 0.9, broken]))
    assert findings.skipped_epochs == (2, 4)
    assert (findings.best_epoch, findings.last_value, findings.last_epoch) == (3, 0.6, 3)
    assert "left out: 2, 4." in findings.sentences[1]
    assert "nan" not in " ".join(findings.sentences)


def test_no_finite_figure_at_all_is_said():
    findings = describe_learning(make_rows([math.nan] * 5))
    assert findings.best_epoch is None
    assert findings.sentences[0] == "No epoch has a finite val/top1."


def test_of_an_epoch_logged_twice_the_last_row_counts_and_order_does_not():
    rows = make_rows([0.4, 0.9, 0.5])
    assert describe_learning([*rows, {**rows[1], "val/top1": 0.45}]).best_epoch == 3
    assert describe_learning(rows[::-1]) == describe_learning(rows)


@pytest.mark.parametrize("epoch", [None, 0, 1.5, -1])
def test_a_row_without_a_proper_epoch_is_refused(epoch):
    with pytest.raises(ValueError, match="row 0 of the log has epoch"):
        describe_learning([{"epoch": epoch, "val/top1": 0.5}])


def test_first_epoch_that_reached_a_level():
    rows = make_rows([0.2, 0.5, 0.4, 0.6], val_loss=[2.0, 1.0, 1.1, 0.9])
    assert find_first_epoch(rows, level=0.4) == 2
    assert find_first_epoch(rows, level=1.0, key="val/loss") == 2
    assert find_first_epoch(rows, level=0.7) is None


@pytest.mark.shared
@pytest.mark.skipif(not LOGS.is_dir(), reason=f"no published logs at {LOGS}")
@pytest.mark.parametrize(
    ("run", "best", "unfinished"),
    [("resnet18_20250823_231603", 15, True), ("vit_b16_20250823_232537", 13, False)],
)
def test_published_logs_are_read_as_a_person_would(run, best, unfinished):
    with (LOGS / run / "training_log.csv").open(encoding="utf-8", newline="") as stream:
        lines = [{key: float(value) for key, value in line.items()} for line in csv.DictReader(stream)]
    rows = [
        {
            "epoch": line["epoch"],
            "train/loss": line["train_loss"],
            "val/loss": line["val_loss"],
            "train/top1": line["train_acc"] / 100,
            "val/top1": line["val_acc"] / 100,
        }
        for line in lines
    ]
    findings = describe_learning(rows)
    assert (findings.best_epoch, findings.unfinished) == (best, unfinished)
    # Both fit their training images far better than the others, yet neither validation loss rises for good.
    # The ViT's stops falling while its training loss goes from 0.71 to 0.04.
    assert findings.gap_at_end > 0.15
    assert findings.gap_grew_from is not None
    assert findings.overfitting_since is None
    assert findings.stalled_since == (None if unfinished else 2)


def told(rows, **options):
    return " ".join(describe_learning(rows, **options).sentences)


def test_the_noise_is_the_standard_error_on_the_validation_samples():
    rows = make_rows([0.3, 0.5, 0.58, 0.59, 0.6, 0.6, 0.59, 0.6, 0.595, 0.59])
    findings = describe_learning(rows, conditions=Conditions(num_val=400))
    assert findings.noise == pytest.approx(math.sqrt(0.6 * 0.4 / 400))
    assert [(each.first, each.last) for each in findings.plateaus] == [(3, 10)]
    text = " ".join(findings.sentences)
    assert "its standard error on 400 validation samples is 2.4 points" in text
    assert "The last epoch (10) was at 59.0 %, 1.0 points from the best: not distinguishable from it." in text
    # With a hundred times the samples a point is a difference.
    many = told(rows, conditions=Conditions(num_val=40_000))
    assert "1.0 points from the best: more than the noise." in many


def test_all_samples_right_still_have_noise():
    assert describe_learning(make_rows([1.0, 1.0]), conditions=Conditions(num_val=50)).noise > 0


def test_several_plateaus_are_named():
    values = [0.2, *[0.4] * 8, 0.5, *[0.6] * 7]
    findings = describe_learning(make_rows(values), conditions=Conditions(num_val=2000))
    assert [(each.first, each.last) for each in findings.plateaus] == [(2, 9), (11, 17)]
    assert findings.plateau_since == 11
    assert "epochs 2 to 9 (+0.0 points), epochs 11 to 17 (+0.0 points)" in " ".join(findings.sentences)


def test_levels_of_the_best_and_levels_that_are_asked_for():
    rows = make_rows([0.1, 0.3, 0.5, 0.55, 0.6])
    findings = describe_learning(rows, levels=[0.5, 0.9])
    assert [(each.share_of_best, each.epoch) for each in findings.levels] == [
        (0.5, 2), (0.75, 3), (0.9, 4), (None, 3), (None, None),
    ]  # fmt: skip
    text = " ".join(findings.sentences)
    assert "Of its best, val/top1 reached 50 % (30.0 %) at epoch 2, 75 % (45.0 %) at epoch 3" in text
    assert "50.0 % val/top1 was first reached at epoch 3." in text
    assert "90.0 % val/top1 was never reached." in text


def test_a_loss_has_no_level_of_its_best_but_those_that_are_asked_for():
    text = told(make_rows([0.5] * 4, val_loss=[2.0, 1.0, 1.5, 1.2]), monitor="val/loss", levels=[1.1])
    assert "Of its best" not in text
    assert "1.1000 val/loss was first reached at epoch 2." in text


def test_a_fast_start_is_told_with_its_numbers_and_a_steady_climb_is_not():
    fast = [0.065, 0.3, 0.42, 0.45, *np.linspace(0.46, 0.55, 26)]
    assert (
        "Fast at first: from 6.5 % at epoch 1, three quarters of the gain to the best were made by epoch 4, "
        "after 10 % of the epochs to it."
    ) in told(make_rows(fast))
    assert "Fast at first" not in told(make_rows(np.linspace(0.05, 0.55, 30)))


def test_figures_of_mixed_images_are_not_compared():
    rows = make_rows(np.linspace(0.5, 0.6, 10), train_top1=np.linspace(0.2, 0.4, 10))
    text = told(rows, conditions=Conditions(mixed=True))
    assert "Training accuracy is that of mixed images (MixUp, CutMix)" in text
    assert "isn't comparable" in text
    assert "Train minus validation" not in text
    assert "gap between validation and training loss" not in text


def test_losses_of_different_functions_are_not_subtracted():
    train, val = np.linspace(2, 0.2, 20), np.linspace(2, 1, 20)
    rows = make_rows(np.linspace(0.3, 0.6, 20), train_loss=train, val_loss=val)
    assert "The gap between validation and training loss grew from epoch" in told(rows)
    other = told(rows, conditions=Conditions(same_loss=False))
    assert "Training loss isn't the function that validation loss is" in other
    assert "grew from epoch" not in other


def test_a_gap_within_its_noise_is_not_distinguishable():
    rows = make_rows([0.4, 0.5], train_top1=[0.42, 0.55])
    conditions = Conditions(num_train=900, num_val=100)
    findings = describe_learning(rows, conditions=conditions)
    expected = 1.96 * math.sqrt(0.55 * 0.45 / 900 + 0.5 * 0.5 / 100)
    assert findings.gap_noise == pytest.approx(expected)
    assert "not distinguishable from none (noise 10.3 points)" in " ".join(findings.sentences)
    assert "more than its noise" in told(make_rows([0.4, 0.5], train_top1=[0.5, 0.8]), conditions=conditions)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (Conditions(dropout=False), "weights change, under augmentation; validation figures are measured after it, w"),
        (Conditions(augmented=False), "weights change, with dropout; validation"),
        (Conditions(augmented=False, dropout=False), "weights change; validation figures are measured after it. So"),
    ],
)  # fmt: skip
def test_the_gap_is_explained_by_what_the_recipe_did(conditions, words):
    assert words in told(make_rows([0.4, 0.5]), conditions=conditions)


def test_a_stall_is_told_apart_from_overfitting():
    rng = np.random.default_rng(0)
    train = np.linspace(1.2, 0.05, 20)
    val = np.concatenate([[1.0, 0.85, 0.75], 0.7 + 0.01 * rng.normal(size=17)])
    findings = describe_learning(make_rows([0.5] * 20, train_loss=train, val_loss=val))
    assert findings.overfitting_since is None
    assert findings.stalled_since in range(4, 8)
    text = " ".join(findings.sentences)
    assert f"has not improved beyond its noise since epoch {findings.stalled_since}" in text
    assert "no overfitting in the strict sense" in text


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (0.7, "(10.0 points better, beyond the noise)"),
        (0.601, "(0.1 points better, within the noise: no change"),
    ],
)
def test_an_extended_run_says_what_the_extension_brought(after, words):
    rows = make_rows([0.4, 0.5, 0.6, 0.59, after, after - 0.01])
    text = told(rows, conditions=Conditions(num_val=1000, extensions=(4,)))
    assert (
        f"continued after epoch 4: best val/top1 60.0 % until then, {100 * after:.1f} % since {words}" in text
    )


def test_an_extension_without_an_epoch_since_says_nothing_yet():
    assert "continued" not in told(make_rows([0.4, 0.5]), conditions=Conditions(extensions=(2,)))


def test_every_finding_survives_json():
    findings = describe_learning(make_rows(np.linspace(0.3, 0.7, 10)), conditions=Conditions(num_val=10))
    assert json.loads(json.dumps(dataclasses.asdict(findings), allow_nan=False))["best_epoch"] == 10
