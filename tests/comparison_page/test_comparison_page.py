"""``comparison.html`` says what ``comparison.json`` carries, and stays text whatever that is."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented_comparison import make_comparison, make_unpaired
from PIL import Image

from html_reader import read_page
from invented_profile import make_profile
from page_safety import assert_only_known_elements, assert_policy_fits
from payloads import PAYLOADS
from praxiscope.comparison.unpaired import UNPAIRED_NOTE
from praxiscope.data.manifest import Manifest, build_table, write_manifest
from praxiscope.reporting.comparison.build import build_comparison_page
from praxiscope.reporting.comparison.charts import format_change, scale_differences, scale_scores
from praxiscope.reporting.comparison.repairs import share_pictures
from praxiscope.reporting.wording import describe_p_value, format_p_value, format_points


def read(result: dict[str, Any], folder: Path, **more: Any) -> Any:
    return read_page(build_comparison_page(result, folder, **more))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return read(make_comparison(), tmp_path_factory.mktemp("comparison"))


def test_the_verdict_comes_before_any_table(page: Any) -> None:
    result = make_comparison()
    text = page.section("result")
    assert text.startswith("resnet18 against vit_b16")
    assert text.index(result["verdict"]) < text.index("Contestant")
    assert result["notes"][0] in text


def test_every_section_is_there_and_the_unpaired_banner_is_not(page: Any) -> None:
    for section in ("differences", "classes", "confusions", "repairs", "together", "method"):
        assert section in page.inside
    assert not {"seeds", "cost", "pairs"} & set(page.inside)
    assert "Unpaired" not in page.text


def test_differences_have_test_interval_and_smallest_difference(page: Any) -> None:
    text = page.section("differences")
    pair = make_comparison()["pairs"][0]
    counts = pair["mcnemar"]
    assert (
        f"{counts['only_first']} samples are right with resnet18 alone, {counts['only_second']} with vit_b16 alone"
        in text
    )
    assert "exact McNemar test: p < 0.001" in text
    assert "that 1,890 samples can tell (80 % of the time): 2.4 points" in text
    assert "\u22120.120 \u22120.170 to \u22120.070" in text, "the log-likelihood is no share"


def test_classes_come_best_first_with_the_marked_ones(page: Any) -> None:
    deltas = [row["difference"] for row in make_comparison()["pairs"][0]["per_class"]]
    shown = [float(one["data-value"]) for tag, one in page.elements if tag == "td" and "data-value" in one][
        3::5
    ]
    assert shown == sorted(deltas, reverse=True)
    told = sum(abs(delta) > 0.12 for delta in deltas)
    assert f"{told} of 15 classes differ beyond chance" in page.section("classes")
    assert page.section("classes").count(" told apart 126 ") == told


def test_confusions_are_told_as_before_and_after(page: Any) -> None:
    rows = make_comparison()["pairs"][0]["confusion_differences"]
    largest = max(
        (row for row in rows if row["told_apart"]), key=lambda row: abs(row["first"] - row["second"])
    )
    expected = f"{largest['target']} \u2192 {largest['preds']} told apart {largest['first']} \u2192 {largest['second']}"
    assert expected in page.section("confusions")


def test_repairs_are_counted_by_class_and_shown_in_turn(page: Any) -> None:
    groups = make_comparison()["pairs"][0]["repairs"]["by_second"]
    total = sum(len(group["sample_ids"]) for group in groups)
    text = page.section("repairs")
    assert (
        f"{total} samples; 24 are shown, from all classes in turn. By class: calling\xa0"
        in text.replace(" \xa0", "\xa0")
        or f"{total} samples; 24 are shown" in text
    )
    for group in groups:
        assert group["sample_ids"][0] in text
    assert "There are no pictures: runs" in text.replace("\\", "/")


def test_agreement_oracle_and_ensembles_stand_together(page: Any) -> None:
    text = page.section("together")
    assert "Cohen's kappa 0.72" in text
    assert "91.0 % of the samples are right with either" in text
    assert "mean probability of both resnet18, vit_b16 86.0 %" in text
    assert "+1.3 +0.2 to +2.4, to vit_b16 0.06" in text


def test_unpaired_is_loud_and_shows_no_samples(tmp_path: Path) -> None:
    page = read(make_unpaired() | {"split": None, "head": None}, tmp_path)
    assert "1,890 samples 15 classes 2026-01-05" in page.text, "counts have neither a split nor a head"
    text = page.section("result")
    assert text.index("Unpaired comparison") < text.index("vit_b16 is better")
    noted = make_unpaired() | {"notes": [UNPAIRED_NOTE, "Another note."]}
    assert "Another note." in read(noted, tmp_path).text
    assert UNPAIRED_NOTE not in read(noted, tmp_path).text, "the banner says it"
    assert not {"repairs", "together"} & set(page.inside)
    assert "The test that decides: two proportions, p < 0.001." in page.text
    assert_only_known_elements(page)


def test_seeds_and_further_pairs_and_costs_have_sections(tmp_path: Path) -> None:
    result = make_comparison(labels=("a", "b", "c"), seeds=3)
    page = read(result, tmp_path, costs=make_profile())
    assert "seed 0: " in page.section("seeds")
    assert "two seeds agree on 91.0 %" in page.section("seeds")
    assert result["pairs"][0]["verdict"] in page.section("pairs")
    assert "openvino-int8" in page.section("cost")
    assert result["pairs"][2]["verdict"] in page.section("differences"), "the two best are shown in full"
    assert_only_known_elements(page)


def test_foreign_text_stays_text(tmp_path: Path) -> None:
    everything = " ".join(PAYLOADS)
    result = make_comparison(labels=PAYLOADS[:3], names=("", "\u202ertl", "x" * 300, *PAYLOADS[:12]), seeds=2)
    result |= {"verdict": everything, "notes": list(PAYLOADS), "head": everything, "split": everything}
    result["rules"] = {text: text for text in PAYLOADS}
    result["ensembles"][0] |= {"name": everything, "against": everything, "members": list(PAYLOADS)}
    result["interval"]["method"] = everything
    for pair in result["pairs"]:
        pair["verdict"] = pair["test"]["reason"] = pair["test"]["name"] = everything
    page = read(result, tmp_path)
    assert_only_known_elements(page)
    assert_policy_fits(page)
    assert PAYLOADS[0] in page.text


def store_run(folder: Path, ids: list[str]) -> Path:
    """Write pictures with a manifest of them; the last one is missing, the one before has changed."""
    rows = []
    (folder / "data").mkdir(parents=True)
    for index, sample_id in enumerate(ids):
        buffer = io.BytesIO()
        Image.fromarray(np.full((40, 60, 3), 20 * index + 20, dtype=np.uint8)).save(buffer, format="JPEG")
        path = folder / "data" / sample_id
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < len(ids) - 1:
            path.write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue() + (b"x" if index == len(ids) - 2 else b"")).hexdigest()
        rows.append(
            {"sample_id": sample_id, "path": sample_id, "split": "test", "action": "wave", "sha256": digest}
        )
    manifest = Manifest(
        table=build_table(rows, ["action"]),
        root=folder / "data",
        heads={"action": ("clap", "wave")},
        source="folder",
        findings=(),
    )
    (folder / "run").mkdir()
    write_manifest(manifest, folder / "run" / "manifest.parquet")
    return folder / "run"


@pytest.fixture
def pictured(tmp_path: Path) -> dict[str, Any]:
    """Five repairs of one class, and the run that knows their pictures."""
    result = make_comparison(names=("clap", "wave"), per_class=10)
    ids = [f"test/wave/{index}.jpg" for index in range(5)]
    result["pairs"][0]["repairs"] = {"by_second": [{"name": "wave", "sample_ids": ids}], "by_first": []}
    result["contestants"][0]["members"][0]["run"] = str(store_run(tmp_path, ids))
    with (tmp_path / "disagreements.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "target", "resnet18", "vit_b16"])
        writer.writerows([sample_id, "wave", "clap", "wave"] for sample_id in ids)
    return result


def test_pictures_and_answers_are_shown_and_what_is_absent_is_named(
    tmp_path: Path, pictured: dict[str, Any]
) -> None:
    page = read(pictured, tmp_path)
    assert len(page.all("img")) == 3
    text = page.section("repairs")
    assert "5 samples. By class" in text
    assert text.count("said clap") == 5
    assert "file has changed since the manifest was made" in text
    assert "no such file" in text or "file not found" in text
    assert "wherever vit_b16 is wrong, resnet18 is wrong too" in text
    assert_only_known_elements(page)


def test_moved_data_is_found_by_its_new_root(tmp_path: Path, pictured: dict[str, Any]) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    assert len(read(pictured, tmp_path).all("img")) == 0
    assert len(read(pictured, tmp_path, data_root=tmp_path / "moved").all("img")) == 3


def test_over_seeds_the_most_frequent_answer_is_shown(tmp_path: Path, pictured: dict[str, Any]) -> None:
    pictured["contestants"][0]["members"] *= 3
    with (tmp_path / "disagreements.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "resnet18 #1", "resnet18 #2", "resnet18 #3"])
        writer.writerow(["test/wave/0.jpg", "clap", "other", "other"])
    text = read(pictured, tmp_path).section("repairs")
    assert text.count("said other") == 1
    assert text.count("said clap") == 0


def test_a_damaged_manifest_costs_the_pictures_and_not_the_page(
    tmp_path: Path, pictured: dict[str, Any]
) -> None:
    (tmp_path / "run" / "manifest.parquet").write_bytes(b"no parquet")
    page = read(pictured, tmp_path)
    assert page.all("img") == []
    assert "There are no pictures:" in page.section("repairs")
    assert "manifest.parquet" in page.section("repairs")


@pytest.mark.parametrize(("pairs", "shown"), [(1, 24), (3, 24), (4, 24), (15, 6), (200, 0)])
def test_many_pairs_share_the_pictures(pairs: int, shown: int) -> None:
    assert share_pictures(pairs) == shown


def test_axes_hold_their_values_and_end_at_round_numbers() -> None:
    scale = scale_scores([0.671, 0.804])
    assert scale.labels == ("65", "85\u202f%") or scale.low <= 0.671 < 0.804 <= scale.high
    assert scale.place(scale.low) == 0
    assert scale.place(scale.high) == 100
    both = scale_differences([-0.112, 0.03])
    assert both.labels == ("\u221215", "0", "+15")
    assert both.place(0.0) == 50
    assert scale_differences([]).labels[1] == "0"
    assert scale_scores([]).high == 1.0


@pytest.mark.parametrize(("value", "shown"), [(11, "+11"), (-3, "\u22123"), (1.333, "+1.3"), (2.99, "+3")])
def test_changes_have_a_sign(value: float, shown: str) -> None:
    assert format_change(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0206, "+2.1"), (-0.1, "\u221210.0"), (-0.0001, "0.0"), (None, "\u2013")]
)
def test_differences_are_in_points(value: float | None, shown: str) -> None:
    assert format_points(value) == shown


def test_p_values_are_never_zero() -> None:
    assert format_p_value(5e-20) == "<\u202f0.001"
    assert format_p_value(0.0123) == "0.012"
    assert format_p_value(None) == "\u2013"
    assert describe_p_value(5e-20) == "p\u202f<\u202f0.001"
    assert describe_p_value(0.5) == "p\u202f=\u202f0.5"
