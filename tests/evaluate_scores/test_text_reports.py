import csv
import io
import json

import numpy as np
import pytest

from praxiscope.evaluation.scores import compute_metrics
from praxiscope.evaluation.text import (
    PER_CLASS_COLUMNS,
    format_per_class_csv,
    format_test_report,
    write_per_class_csv,
    write_test_report,
)
from praxiscope.evaluation.typeset import escape_controls, measure_width


@pytest.fixture
def metrics(make_predictions):
    return compute_metrics(make_predictions(size=200, clean=np.arange(200) % 10 > 0), resamples=100)


def section(report, title):
    """Return the lines between a title and the next empty line."""
    lines = report.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(title))
    return lines[start + 1 : lines.index("", start)] if "" in lines[start:] else lines[start + 1 :]


def test_the_report_shows_every_headline_figure_with_its_interval(metrics):
    report = format_test_report(metrics, title="har-resnet18")
    assert report.startswith("Evaluation on test: har-resnet18\n================================\n")
    assert "200, of which 180 clean" in report
    for name, label in (("top1", "top-1 accuracy"), ("macro_f1", "macro F1"), ("ece", "calibration error")):
        line = next(line for line in report.splitlines() if line.startswith(label))
        for part in ("all", "clean"):
            figure = metrics[part][name]
            ends = f"[{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"
            assert f"{100 * figure['value']:.1f} % {ends}" in line
    assert f"{metrics['all']['nll']['value']:.4f} [" in report
    assert "95 % interval, percentile bootstrap by group, 100 resamples of 200 groups." in report


def test_classes_are_listed_best_first(metrics):
    lines = section(format_test_report(metrics), "Per class")[1:]
    by_f1 = sorted(metrics["per_class"], key=lambda row: -row["f1"])
    assert [line[:7] for line in lines] == [row["name"] for row in by_f1]
    best = by_f1[0]
    assert f"{100 * best['f1']:.1f} %" in lines[0]
    assert f"[{100 * best['recall_low']:.1f}, {100 * best['recall_high']:.1f}]" in lines[0]


def test_confusions_and_rules_are_listed(metrics):
    report = format_test_report(metrics, num_confusions=3)
    confusions = section(report, "Most frequent confusions")
    first = metrics["top_confusions"][0]
    assert len(confusions) == 3
    assert confusions[0].split("  ")[0] == f"{first['target']} -> {first['preds']}"
    flat = " ".join(report.split())
    assert all(" ".join(rule.split()) in flat for rule in metrics["rules"].values())


def test_lines_keep_to_100_columns_and_carry_no_trailing_space(metrics):
    lines = format_test_report(metrics).splitlines()
    assert max(map(measure_width, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)


def test_undefined_figures_are_dashes(make_predictions):
    metrics = compute_metrics(make_predictions(logits=[[9.0, 0.0, 0.0]], targets=[0]), resamples=10)
    report = format_test_report(metrics)
    assert "100.0 % [-]" in report
    lines = section(report, "Per class")
    assert lines[-1].split() == ["class", "2", "0", "-", "-", "[-]", "-", "[-]"]
    assert "none: every sample is right" in report
    assert "None" not in report
    assert "nan" not in report


def test_no_clean_samples_are_said(make_predictions):
    metrics = compute_metrics(make_predictions(clean=np.zeros(60, bool)), resamples=10)
    line = next(line for line in format_test_report(metrics).splitlines() if line.startswith("macro F1"))
    assert line.endswith("none")


def test_perfect_and_hopeless_classes_are_named_with_how_sure_that_is(make_predictions):
    targets = [0] * 5 + [1] * 5
    metrics = compute_metrics(
        make_predictions(logits=np.eye(2)[[0] * 10], targets=targets, names=("archery", "bmx")), resamples=10
    )
    report = format_test_report(metrics)
    assert "Every sample right: archery (5 samples, recall [56.6, 100.0])." in report
    assert "No sample right: bmx (5 samples, recall [0.0, 43.4])." in report


def test_classes_of_one_size_share_their_interval_and_sentences_come_first(make_predictions):
    targets = np.repeat(np.arange(4), 5)
    preds = np.where(targets < 2, targets, 3 - targets % 2)
    metrics = compute_metrics(make_predictions(logits=np.eye(4)[preds], targets=targets), resamples=10)
    lines = section(format_test_report(metrics), "Classes at the extremes")
    text = " ".join(" ".join(lines).split())
    assert text.startswith(
        "- 2 classes at 100 %; with 5 samples each and 50.0 % right overall, chance alone gives"
    )
    assert "Every sample right (5 samples each, recall [56.6, 100.0]): class 0, class 1." in text
    assert "No sample right (5 samples each, recall [0.0, 43.4]): class 2, class 3." in text


def test_classes_that_differ_beyond_chance_are_named(make_predictions):
    targets = np.repeat(np.arange(6), 60)
    wrong = np.arange(360) % 60 >= np.array([30, 30, 30, 30, 60, 5])[targets]
    logits = np.eye(6)[np.where(wrong, (targets + 1) % 6, targets)]
    metrics = compute_metrics(make_predictions(logits=logits, targets=targets), resamples=10)
    differences = metrics["extremes"]["differences"]
    assert [row["name"] for row in differences["better"]] == ["class 4"]
    assert [row["name"] for row in differences["worse"]] == ["class 5"]
    text = " ".join(format_test_report(metrics).split())
    assert (
        f"Above overall beyond chance: class 4 (100.0 %, p {differences['better'][0]['p_holm']:.2g})." in text
    )
    assert "Below overall beyond chance: class 5 (8.3 %, p" in text


@pytest.mark.parametrize(("right", "words"), [(True, "Every sample is right"), (False, "No sample is right")])
def test_where_all_classes_are_alike_none_stands_out(make_predictions, right, words):
    targets = np.arange(12) % 3
    metrics = compute_metrics(
        make_predictions(logits=np.eye(3)[targets if right else (targets + 1) % 3], targets=targets),
        resamples=10,
    )
    assert metrics["extremes"]["differences"] is None
    assert f"{words}, so all 3 classes are at" in " ".join(format_test_report(metrics).split())


def test_samples_that_share_groups_are_a_caveat(make_predictions):
    grouped = compute_metrics(make_predictions(groups=[f"v{i // 3}" for i in range(60)]), resamples=10)
    assert "samples share groups, so both give more" in grouped["rules"]["extremes"]
    assert "share groups" not in compute_metrics(make_predictions(), resamples=10)["rules"]["extremes"]


def test_wide_and_long_and_hostile_names_keep_the_columns(make_predictions):
    names = ("走る", "a" * 80, "two\nlines", "\x1b[31mred", "<b>", "e\u0301")
    metrics = compute_metrics(make_predictions(names=names, size=200), resamples=10)
    report = format_test_report(metrics)
    lines = section(report, "Per class")
    assert len(lines) == 1 + len(names)
    assert len({measure_width(line) for line in lines}) == 1
    assert "\x1b" not in report
    assert "two\\nlines" in report
    assert "a" * 33 + "..." in report


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("plain text", 10, "plain text"),
        ("走る", 4, "走る"),
        ("e\u0301", 1, "e\u0301"),
        ("\u202eabc", 4, "\\u202eabc"),
        ("a\tb", 3, "a\\tb"),
    ],
)
def test_widths_and_escapes(text, width, shown):
    assert escape_controls(text) == shown
    assert measure_width(text) == width


def test_csv_holds_the_figures_in_full_and_unescaped(make_predictions):
    names = ("=1+1", 'say "hi", twice', "line\nbreak", "走る", "-x", "plain")
    metrics = compute_metrics(make_predictions(names=names), resamples=10)
    rows = list(csv.DictReader(io.StringIO(format_per_class_csv(metrics), newline="")))
    assert tuple(rows[0]) == PER_CLASS_COLUMNS
    assert [row["name"] for row in rows] == list(names)
    for row, told in zip(rows, metrics["per_class"], strict=True):
        assert {key: float(row[key]) for key in PER_CLASS_COLUMNS[1:]} == {
            key: told[key] for key in PER_CLASS_COLUMNS[1:]
        }


def test_csv_leaves_undefined_figures_empty(make_predictions):
    metrics = compute_metrics(make_predictions(logits=[[9.0, 0.0]], targets=[0]), resamples=10)
    assert format_per_class_csv(metrics).splitlines()[2] == "class 1,0,0,,,,,,,"


def test_files_are_utf8_with_plain_line_ends_and_follow_from_the_json(tmp_path, make_predictions):
    names = ("走る", "é", "c", "d", "e", "f")
    metrics = compute_metrics(make_predictions(names=names), resamples=10)
    stored = json.loads(json.dumps(metrics))
    write_test_report(stored, tmp_path / "test_report.txt", title="run")
    write_per_class_csv(stored, tmp_path / "per_class.csv")
    assert (tmp_path / "test_report.txt").read_bytes() == format_test_report(metrics, title="run").encode(
        "utf-8"
    )
    assert (tmp_path / "per_class.csv").read_bytes() == format_per_class_csv(metrics).encode("utf-8")
    assert b"\r" not in (tmp_path / "per_class.csv").read_bytes()
