import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

from praxiscope.stats.learning import MEASURED_APART, describe_learning, find_first_epoch

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


def make_losses(epochs, *, turn, rise, noise, rng):
    """Let training loss fall throughout, and validation loss rise from `turn` on by `rise` of its floor."""
    epoch = np.arange(1, epochs + 1)
    train = 0.1 + 2 * np.exp(-epoch / (epochs / 4))
    climb = np.maximum(0, epoch - turn) / max(1, epochs - turn)
    val = 0.7 + 1.3 * np.exp(-epoch / (epochs / 8)) + rise * 0.7 * climb
    return train * (1 + noise * rng.normal(size=epochs)), val * (1 + noise * rng.normal(size=epochs))


def count_alarms(trials, **curve):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(trials):
        train, val = make_losses(rng=rng, **curve)
        found.append(
            describe_learning(make_rows([0.5] * len(val), train_loss=train, val_loss=val)).overfitting_since
        )
    return [since for since in found if since is not None]


def test_best_epoch_is_the_first_of_the_best_and_gaps_are_train_minus_val():
    findings = describe_learning(make_rows([0.4, 0.7, 0.6, 0.7], train_top1=[0.5, 0.8, 0.9, 0.95]))
    assert (findings.best_epoch, findings.best_value, findings.last_value) == (2, 0.7, 0.7)
    assert findings.gap_at_best == pytest.approx(0.1)
    assert findings.gap_at_end == pytest.approx(0.25)
    text = " ".join(findings.sentences)
    assert "best at epoch 2 (4 epochs logged): 70.0 %" in text
    assert "+10.0 points at the best epoch and +25.0 points at the last epoch" in text
    assert MEASURED_APART in text


def test_a_loss_is_better_when_lower():
    findings = describe_learning(make_rows([0.5] * 4, val_loss=[2.0, 1.0, 1.5, 1.2]), monitor="val/loss")
    assert (findings.best_epoch, findings.best_value) == (2, 1.0)
    assert "val/loss was best at epoch 2 (4 epochs logged): 1.0000." in findings.sentences


def test_planted_overfitting_is_found_with_the_epoch_from_which_it_grew():
    since = count_alarms(200, epochs=30, turn=15, rise=0.3, noise=0.02)
    assert len(since) >= 196
    assert abs(np.median(since) - 16) <= 2


@pytest.mark.parametrize("epochs", [5, 10, 30, 100])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_noise_alone_is_not_called_overfitting(epochs, noise):
    assert len(count_alarms(200, epochs=epochs, turn=epochs, rise=0.0, noise=noise)) <= 2


def test_overfitting_is_told_with_its_numbers():
    train, val = np.linspace(2, 0.2, 12), np.array([2, 1.5, 1.2, 1, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.5, 1.5])
    findings = describe_learning(make_rows(np.linspace(0.3, 0.6, 12), train_loss=train, val_loss=val))
    assert findings.overfitting_since == 6
    assert findings.loss_rise == pytest.approx(0.5)
    text = " ".join(findings.sentences)
    assert "Overfitting grew from epoch 6: smoothed validation loss rose by 50 % until the end" in text
    assert "val/top1 was best at epoch 12 all the same" in text


def test_a_rise_while_training_gets_worse_too_is_not_overfitting():
    val = [2, 1.5, 1.2, 1, 1, 1.1, 1.2, 1.3, 1.4, 1.5]
    findings = describe_learning(make_rows([0.5] * 10, train_loss=val, val_loss=val))
    assert findings.overfitting_since is None
    assert any("no overfitting by that rule" in sentence for sentence in findings.sentences)


def test_a_rise_of_two_epochs_is_too_short():
    val = [2, 1.5, 1.2, 1, 1, 1, 1, 1.4, 1.5]
    assert describe_learning(make_rows([0.5] * 9, val_loss=val)).overfitting_since is None


def test_a_plateau_starts_where_the_best_is_nearly_reached():
    findings = describe_learning(make_rows([0.3, 0.5, 0.7, 0.701, 0.70, 0.702, 0.699, 0.703, 0.70]))
    assert findings.plateau_since == 3
    assert not findings.unfinished
    assert "val/top1 hardly improved after epoch 3." in findings.sentences


def test_a_curve_that_still_climbs_is_unfinished():
    findings = describe_learning(make_rows(np.linspace(0.3, 0.7, 10)))
    assert findings.unfinished
    assert findings.plateau_since is None
    assert "still improving at epoch 10" in findings.sentences[-1]


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
    assert findings.gap_at_end > 0.15
    assert findings.overfitting_since is None
