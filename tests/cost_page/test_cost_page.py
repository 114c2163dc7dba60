"""``profile.html`` says what ``profile.json`` carries, and stays text whatever that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from html_reader import read_page
from invented_profile import make_entry, make_profile
from page_safety import assert_only_known_elements, assert_policy_fits
from payloads import PAYLOADS
from praxiscope.reporting.costs.build import build_profile_page
from praxiscope.reporting.wording import format_millisecond_interval, format_milliseconds


def read(profile: dict[str, Any], folder: Path) -> Any:
    return read_page(build_profile_page(profile, folder))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return read(make_profile(), tmp_path_factory.mktemp("profile"))


def test_the_recommendation_comes_first_then_the_choice(page: Any) -> None:
    text = page.section("result")
    assert text.startswith("What 3 models cost")
    first = text.index("vit_base_patch16_224 in openvino-int8 answers in 18 ms")
    assert first < text.index(
        "in openvino-int8 for your limits (at most 50 ms, at most 500 MiB)".replace(" ms", " ms").replace(
            " MiB", " MiB"
        )
    )


def test_each_runtime_has_its_row_and_those_that_did_not_run_their_reason(page: Any) -> None:
    text = page.section("runtimes")
    assert "eager-fp32 14.0 ms 13.6\u201314.4 ms 16.8 ms 22.4 ms" in text
    assert "refused largest difference 0.31 is above the tolerance 0.05" in text
    assert "absent onnxruntime isn't installed" in text
    assert "74.0 % 72.3\u201375.7 %" in text
    assert "batch 32" in text


def test_stages_are_stacked_to_the_whole(page: Any) -> None:
    widths = [
        float(one["width"]) for tag, one in page.elements if tag == "rect" and "stage" in one.get("class", "")
    ]
    assert len(widths) == 12
    assert max(sum(widths[start : start + 4]) for start in (0, 4, 8)) == pytest.approx(100.0, abs=0.05)
    assert "17.6 ms" in page.section("stages")


def test_the_machine_is_named(page: Any) -> None:
    assert "cpu AMD EPYC 7B13" in page.section("machine")
    assert "openvino 2026.1.0" in page.section("machine")


def test_each_point_of_the_picture_says_what_it_is(page: Any) -> None:
    assert "vit_base_patch16_224, openvino-int8: 80.6 % right (78.9\u201382.3 %), 17.7 ms" in page.text


def test_nothing_that_fits_is_said_aloud(tmp_path: Path) -> None:
    profile = make_profile()
    profile["choice"] = {"model": None, "runtime": None, "reason": "the fastest needs 51 ms"}
    profile["recommendation"] = []
    text = read(profile, tmp_path).section("result")
    assert "Nothing fits your limits (at most 50" in text
    assert "the fastest needs 51 ms" in text
    assert "No recommendation follows from these figures." in text


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    profile = make_profile(("a",)) | {"constraints": None, "choice": None}
    entry = make_entry("a", 10.0, 100.0, None)
    for runtime in entry["runtimes"]:
        runtime |= {"peak_memory_mib": None, "latency_ms": None, "throughput": []}
    profile["entries"] = [
        entry | {"stages_ms": {}, "gmacs": None, "gflops": None, "activations_m": None, "params": 9}
    ]
    page = read(profile, tmp_path)
    assert "Accuracy not measured" in page.text
    assert "there is no picture" in page.section("picture")
    assert "stages" not in page.inside
    assert_only_known_elements(page)


def test_a_runtime_without_accuracy_is_named_beside_the_picture(tmp_path: Path) -> None:
    profile = make_profile(("a",))
    int8 = next(one for one in profile["entries"][0]["runtimes"] if one["runtime"] == "openvino-int8")
    int8["accuracy"] = None
    assert "Not drawn, as the accuracy wasn't measured: a in openvino-int8." in read(profile, tmp_path).text


def test_foreign_text_stays_text(tmp_path: Path) -> None:
    profile = make_profile(PAYLOADS[:10])
    everything = " ".join(PAYLOADS)
    profile["recommendation"] = list(PAYLOADS)
    profile["choice"] = {"model": everything, "runtime": everything, "reason": everything}
    profile["machine"] = {text: text for text in PAYLOADS} | {"nested": {"deep": everything}}
    profile["entries"][0]["notes"] = [everything]
    for runtime, text in zip(profile["entries"][0]["runtimes"], PAYLOADS, strict=False):
        runtime |= {"runtime": text, "reason": text}
    page = read(profile, tmp_path)
    assert_only_known_elements(page)
    assert_policy_fits(page)
    assert PAYLOADS[0] in page.text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.2214, "0.221"), (3.416, "3.42"), (34.16, "34.2"), (431.7, "432"), (0.0, "0"), (1234.5, "1,234")],
)
def test_times_have_three_digits(value: float, shown: str) -> None:
    assert format_milliseconds(value) == f"{shown}\u202fms"


def test_a_time_without_interval_has_none() -> None:
    assert format_milliseconds(None) == "\u2013"
    assert format_millisecond_interval(None) == ""
    assert format_millisecond_interval({"value": 1.0, "low": None, "high": 2.0}) == ""
