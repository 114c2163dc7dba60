"""Sentences say what the numbers carry, and formats say it in a reader's units."""

from __future__ import annotations

from typing import Any

import pytest

from praxiscope.reporting import wording
from praxiscope.reporting.wording import Block, show_text


def metrics(**changes: Any) -> dict[str, Any]:
    score = {"value": 0.75, "low": 0.5, "high": 0.875}
    per_class = [
        {"name": "calling", "support": 30, "f1": 0.9},
        {"name": "texting", "support": 10, "f1": 0.4},
        {"name": "absent", "support": 0, "f1": None},
    ]
    bins = [
        {"count": 10, "confidence": 0.9, "accuracy": 0.7},
        {"count": 30, "confidence": 0.6, "accuracy": 0.6},
    ]
    return {
        "split": "test",
        "num_samples": 40,
        "num_clean": 38,
        "all": {"top1": score, "ece": {"value": 0.05}},
        "clean": {"top1": {"value": 0.7, "low": 0.4, "high": 0.8}},
        "interval": {"level": 0.95},
        "per_class": per_class,
        "reliability": bins,
        **changes,
    }


def plain(text: str) -> str:
    return text.replace(wording.NARROW, " ")


def test_the_verdict_is_one_sentence_of_the_numbers() -> None:
    assert plain(wording.describe_result(metrics())) == (
        "Right on 75.0 % of 40 test samples (95 % interval 50.0\u201387.5 %), where always naming the most"
        " frequent class would be right on 75.0 %; best at “calling” (F1 90 %), worst at “texting” (F1 40 %)."
    )


def test_the_verdict_says_nothing_that_is_not_there() -> None:
    lone = metrics(
        all={"top1": {"value": 1.0, "low": None, "high": None}},
        num_samples=3,
        per_class=[{"name": "only", "support": 3, "f1": 1.0}],
    )
    assert plain(wording.describe_result(lone)) == "Right on 100.0 % of 3 test samples."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "2 of 40 samples also occur in an earlier split, exactly or nearly; leaving them out moves"),
        ({}, "leaving them out moves top-1 by -5.0 points."),
        (
            {"num_clean": 39},
            "1 of 40 samples also occurs in an earlier split, exactly or nearly; leaving them out moves",
        ),
        ({"num_clean": 40}, "Every sample is clean: none duplicates"),
        ({"num_clean": 0, "clean": None}, "No sample of this split is clean"),
        ({"clean": {"top1": {"value": 0.7501}}}, "doesn't change top-1."),
    ],
)
def test_the_clean_samples_are_put_into_words(changes: dict[str, Any], said: str) -> None:
    assert said in plain(wording.describe_clean(metrics(**changes)))


def test_calibration_names_the_distance_and_its_direction() -> None:
    # (10 x (0.9 - 0.7) + 30 x 0) / 40 = 0.05
    assert wording.describe_calibration(metrics()) == (
        "Confidence and accuracy lie 5.0 points apart on average (ECE);"
        " overall it is right less often than it claims, by 5.0 points."
    )
    timid = metrics(reliability=[{"count": 4, "confidence": 0.5, "accuracy": 0.75}])
    assert "right more often than it claims, by 25.0 points" in wording.describe_calibration(timid)
    assert wording.describe_calibration(metrics(reliability=[])) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("calling", "calling"),
        ("a\nb\tc", "a␊b␉c"),
        ("x\u202egnp.exe", "x⟨U+202E⟩gnp.exe"),
        ("\x00\x7f", "␀⟨U+007F⟩"),
        ("\udcff", "⟨U+DCFF⟩"),
        ("\u2028\ufeff", "⟨U+2028⟩⟨U+FEFF⟩"),
        ("שלום عالم 日本 café", "שלום عالم 日本 café"),
        ("🏃\u200d♀️", "🏃\u200d♀️"),
        (Block("a:\n\tb\u202e"), "a:\n\tb⟨U+202E⟩"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert show_text(text) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (wording.format_percent(0.7834), "78.3 %"),
        (wording.format_percent(None), "\u2013"),
        (wording.format_interval({"low": 0.7, "high": 0.8}), "70.0\u201380.0 %"),
        (wording.format_interval({"low": None, "high": None}), ""),
        (wording.format_count(10710), "10,710"),
        (wording.format_count(None), "\u2013"),
        (wording.format_duration(4.2), "4.2 s"),
        (wording.format_duration(59.96), "60.0 s"),
        (wording.format_duration(200), "3 min 20 s"),
        (wording.format_duration(3599.7), "1 h 00 min"),
        (wording.format_duration(7500), "2 h 05 min"),
        (wording.format_duration(None), "\u2013"),
        (wording.format_size(812.4), "812 MiB"),
        (wording.format_size(3482), "3.4 GiB"),
    ],
)
def test_numbers_are_written_for_a_reader(given: str, shown: str) -> None:
    assert plain(given) == shown
