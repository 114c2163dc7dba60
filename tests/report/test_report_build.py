"""A report says what the run's files carry, and names what is absent."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_runs import Plan, make_run

from html_reader import Page, read_page
from praxiscope.errors import IntegrityError
from praxiscope.reporting.build import build_report
from praxiscope.reporting.wording import NARROW
from praxiscope.runs.atomic import write_json
from praxiscope.runs.rundir import RunDir

ODD_NAMES = (
    *("line\nbreak", "rtl \u202eevil\u202c", "שלום", "日本語", "🏃\u200d♀️"),
    *("a" * 300, "<b>&amp;", "  spaced  ", "%s {x}", "ü\u0308"),
)


def text_of(page: Page) -> str:
    return page.text.replace(NARROW, " ")


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def metrics_of(run: RunDir, split: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (run.evaluations(split)[-1] / "metrics.json").read_text(encoding="utf-8")
    )
    return content


@pytest.fixture(scope="module")
def read(page: Path) -> Page:
    return read_page(page)


@pytest.fixture
def copied(run: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the run that a test may change."""
    shutil.copytree(run.path, tmp_path / "run")
    return RunDir.open(tmp_path / "run")


def test_the_headline_gives_each_score_with_interval_on_all_and_clean(run: RunDir, read: Page) -> None:
    metrics, text = metrics_of(run, "test"), read.section("result").replace(NARROW, " ")
    for kind in ("all", "clean"):
        for key in ("top1", "macro_f1", "top5"):
            score = metrics[kind][key]
            assert f"{percent(score['value'])} {100 * score['low']:.1f}\u2013{percent(score['high'])}" in text
    assert f"all {metrics['num_samples']}" in text
    assert f"clean {metrics['num_clean']}" in text
    assert metrics["num_clean"] < metrics["num_samples"]


def test_every_class_and_every_score_is_in_a_table(run: RunDir, read: Page) -> None:
    metrics, text = metrics_of(run, "test"), read.section("classes").replace(NARROW, " ")
    for row in metrics["per_class"]:
        told = f"{row['name']} {row['support']} {row['predicted']}"
        for key in ("precision", "recall"):
            interval = f"{100 * row[key + '_low']:.1f}\u2013{percent(row[key + '_high'])}"
            told += f" {percent(row[key])} 95 % interval {interval}"
        assert f"{told} {percent(row['f1'])}" in text
    assert f"Brier score {metrics['all']['brier']['value']:.3f}" in text_of(read)


def test_the_matrix_holds_every_count_with_its_share(run: RunDir, read: Page) -> None:
    metrics, text = metrics_of(run, "test"), read.section("confusions").replace(NARROW, " ")
    names = metrics["names"]
    for row, counts in enumerate(metrics["confusion"]):
        for column, count in enumerate(counts):
            note = f"true {names[row]}, predicted {names[column]}: {count} of {sum(counts)}"
            assert (f"{note} ({percent(count / sum(counts))})" in text) == bool(count)


def test_the_failures_are_those_of_the_predictions(run: RunDir, read: Page) -> None:
    metrics = metrics_of(run, "test")
    wrong = metrics["num_samples"] - sum(metrics["confusion"][index][index] for index in range(15))
    embedded = json.loads(read.inside["script"][0])
    assert len(embedded["failures"]) == wrong == len(read.all("img"))
    assert f"{wrong} of {metrics['num_samples']} samples are wrong; all are shown" in text_of(read)
    assert all(image["alt"].startswith("Sample test/") for image in read.all("img"))
    assert all(one["target"] != one["preds"] for one in embedded["failures"])
    assert embedded["names"] == metrics["names"]


def test_data_cost_and_provenance_are_told(run: RunDir, read: Page) -> None:
    text = text_of(read)
    for said in (
        "D1.exact-across",
        "3 test samples are byte for byte in train too.",
        "2 quarantined files, with reasons",
        "train/broken.jpg: truncated",
        "train/late.jpg: failed while training read it",
        "35 min 30 s",
        "62 images/s",
        "1.4 GiB",
        "11.18 M",
        "in 2 sessions",
        "0f3c" * 10,
        "9e" * 32,
        "5b" * 32,
        metrics_of(run, "test")["manifest_fingerprint"],
        "praxiscope train har-resnet18 --data",
        "epochs: 12",
        "python 3.11.9",
        "Batch size 64 was reached as 2 x 32.",
    ):
        assert said in text
    assert "name: synthetic\nseed: 0" in "".join(read.texts), "the recipe keeps its line breaks"


def test_validation_comes_second_and_says_what_it_is_for(read: Page) -> None:
    assert "The kept epoch was chosen on this split" in read.section("validation")
    assert "test samples" in read.section("result")


def test_headings_descend_and_charts_have_words(read: Page) -> None:
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for attributes in read.all("svg"):
        assert attributes.get("aria-hidden") == "true" or (
            attributes["role"],
            bool(attributes["aria-label"]),
        ) == ("img", True)
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in read.all("a"):
        assert attributes["href"][1:] in ids


def test_only_validation_evaluated_is_said_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, Plan(per_class=2, splits=("val",), twins=0))
    page = read_page(build_report(run))
    result = page.section("result")
    assert "Only the validation split has been evaluated" in result
    assert "not evaluated yet" in result
    assert f"praxiscope evaluate {run.path} --split test" in result
    assert "validation samples" in result
    assert not page.section("validation")


def test_a_run_without_anything_says_so_everywhere(tmp_path: Path) -> None:
    page = read_page(build_report(RunDir.create(tmp_path, "fresh")))
    text = text_of(page)
    for said in ("Not evaluated yet", "metrics.jsonl has no rows", "training hasn't begun", "not measured",
                 "not stored", "recipe.yaml is not in this run folder"):  # fmt: skip
        assert said in text
    assert "%" not in text, "no figure without numbers"
    assert page.all("svg")[1:] == []


def test_absent_predictions_are_named_with_the_command(copied: RunDir) -> None:
    copied.predictions("test").unlink()
    failures = read_page(build_report(copied)).section("failures")
    assert "No predictions table is stored" in failures
    assert f"praxiscope evaluate {copied.path} --split test" in failures


def test_absent_pictures_are_named_and_moved_data_is_found(
    copied: RunDir, run: RunDir, tmp_path: Path
) -> None:
    data = Path(run.read_run_json()["data"]["root"])
    elsewhere = read_page(build_report(copied, data_root=tmp_path / "nowhere"))
    assert elsewhere.all("img") == []
    assert "No picture: file not found" in text_of(elsewhere)
    assert read_page(build_report(copied, data_root=data)).all("img")
    copied.manifest.unlink()
    assert "No picture: not in the manifest" in text_of(read_page(build_report(copied)))


def test_the_cap_on_failures_is_told(copied: RunDir) -> None:
    page = read_page(build_report(copied, max_failures=3))
    assert len(page.all("img")) == 3
    assert "the 3 most confident mistakes are shown" in text_of(page)
    with pytest.raises(ValueError, match="max_failures is -1"):
        build_report(copied, max_failures=-1)


def test_artefacts_that_contradict_each_other_are_named(copied: RunDir) -> None:
    folder = copied.evaluations("test")[-1]
    changed = metrics_of(copied, "test") | {"weights_sha256": "77" * 32, "manifest_fingerprint": "66" * 32}
    write_json(folder / "metrics.json", changed)
    result = read_page(build_report(copied)).section("result")
    assert "The test evaluation used other data than the training" in result
    assert "predictions come from other weights" in result


def test_an_unfinished_evaluation_gives_way_to_the_one_before(copied: RunDir) -> None:
    before = build_report(copied).read_text(encoding="utf-8")
    copied.new_evaluation_dir("test")
    assert build_report(copied).read_text(encoding="utf-8") == before


def test_a_damaged_file_is_an_error_and_the_old_report_stays(copied: RunDir) -> None:
    before = build_report(copied).read_bytes()
    (copied.evaluations("test")[-1] / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"metrics\.json"):
        build_report(copied)
    assert copied.report.read_bytes() == before


def test_odd_names_are_shown_whole_and_visible(tmp_path: Path) -> None:
    plan = Plan(names=ODD_NAMES, per_class=3, skill=0.5, file_name="{split}/{index}-{number}.jpg")
    page = read_page(build_report(make_run(tmp_path, plan)))
    text = "".join(page.texts)
    for shown in (
        "line␊break",
        "rtl ⟨U+202E⟩evil⟨U+202C⟩",
        "שלום",
        "日本語",
        "🏃\u200d♀️",
        "a" * 300,
        "<b>&amp;",
        "%s {x}",
    ):
        assert shown in text
    assert not {"\u202e", "\u202c"} & set(text)
    assert page.unclosed == []


def test_no_failure_is_a_sentence_not_an_empty_gallery(tmp_path: Path) -> None:
    page = read_page(build_report(make_run(tmp_path, Plan(per_class=2, skill=60.0))))
    assert "None: all 30 samples are right." in page.section("failures")
    assert "No sample of one class was taken for another." in page.section("confusions")


def test_two_hundred_noisy_failures_of_a_hundred_classes_stay_under_4_mb(tmp_path: Path) -> None:
    names = tuple(f"activity number {index:03d}" for index in range(100))
    plan = Plan(names=names, per_class=3, splits=("test",), skill=0.5, noise=True, picture_size=(200, 180))
    path = build_report(make_run(tmp_path, plan))
    page = read_page(path)
    assert len(page.all("img")) == 200
    assert path.stat().st_size < 4_000_000
    assert page.section("classes").count("activity number") == 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(theme: str, read: Page) -> None:
    css = read.inside["style"][0]
    pattern = r":root \{(.*?)\}" if theme == "light" else r":root\[data-theme=\"dark\"\] \{(.*?)\}"
    found = re.search(pattern, css, re.DOTALL)
    assert found is not None
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", found[1]))

    def luminance(color: str) -> float:
        channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ink in ("ink", "muted", "blue", "orange"):
        for ground in ("page", "card", "soft"):
            high, low = sorted((luminance(colors[ink]), luminance(colors[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_both_ways_into_the_dark_theme_have_the_same_colours(read: Page) -> None:
    blocks = re.findall(
        r":root(?::not\(\[data-theme=\"light\"\]\)|\[data-theme=\"dark\"\]) \{(.*?)\}",
        read.inside["style"][0],
        re.DOTALL,
    )
    chosen, system = ("".join(block.split()) for block in blocks[:2])
    assert chosen == system
