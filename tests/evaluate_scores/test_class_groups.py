import json
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from praxiscope.errors import DataError, UsageError
from praxiscope.evaluation.groups import read_class_groups, restore_class_groups
from praxiscope.evaluation.scores import compute_metrics
from praxiscope.evaluation.text import format_test_report
from praxiscope.stats.bootstrap import bootstrap_means

NAMES = ("archery", "boxing", "cricket", "football", "golf", "judo")
TABLE = (
    "class,kind,place\narchery,individual,outdoor\nboxing,individual,indoor\ncricket,team,outdoor\n"
    "football,team,outdoor\ngolf,individual,outdoor\njudo,individual,indoor\n"
)


def write(tmp_path, content):
    path = tmp_path / "groups.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def read(tmp_path, content, names=NAMES):
    return read_class_groups(write(tmp_path, content), names)


def compute(predictions, grouping, **options):
    return compute_metrics(predictions, **{"resamples": 200, "grouping": grouping, **options})


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        "\ufeff" + TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t").replace("\n", "\r\n"),
        TABLE.replace("class", "Class").replace("golf,", " golf ,") + "\n,,\n",
        TABLE + "archery,individual,outdoor\n",
    ],
)
def test_a_table_is_read_in_any_usual_form(tmp_path, content):
    found = read(tmp_path, content)
    assert found.columns == {
        "kind": {"individual": (0, 1, 4, 5), "team": (2, 3)},
        "place": {"indoor": (1, 5), "outdoor": (0, 2, 3, 4)},
    }
    assert found.ungrouped == {"kind": (), "place": ()}
    assert found.source == "groups.csv"


def test_names_are_compared_in_composed_form(tmp_path):
    found = read(tmp_path, "class,group\ne\u0301scrime,a\n", names=("\u00e9scrime", "judo"))
    assert found.columns == {"group": {"a": (0,)}}
    assert found.ungrouped == {"group": ("judo",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; its first line must be a header such as class,group"),
        ("  \n", "is empty"),
        ("sport,group\njudo,a\n", "has no column 'class'; its columns are sport, group. .*class,group"),
        ("clas,group\njudo,a\n", "has no column 'class'; its columns are clas, group"),
        ("class\njudo\n", "has only the column 'class'; add one that names a group"),
        ("class,a,a\njudo,x,y\n", "has the column 'a' twice"),
        ("class,\njudo,x\n", "has a column without a name of its own"),
        ("class,Class\njudo,x\n", "has a column without a name of its own"),
        ("class,group\njud,a\nGolf,b\n", ": 'jud' [(]Did you mean 'judo'[?][)], 'Golf' [(]Did you mean 'golf'[?][)][.] Names"),
        ("class,group\n" + "".join(f"x{i},a\n" for i in range(12)), "12 classes that .*: 'x0', 'x1', .*'x9' and 2 more[.] Names"),
        ("class,group\njudo,a\njudo,b\n", "lists the class 'judo' twice with different groups; keep one row"),
        ("class,group\njudo,a,b\n", "row 1 has 3 cells, the header 2; a name that holds the separator"),
        ("class,group\njudo,\n", "puts no class into any group"),
        ("class,group\n", "puts no class into any group"),
        (TABLE.encode("utf-16"), "is not UTF-8 text .* save it as UTF-8"),
        ("class,group\nj\u00fcdo,a\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_too_many_groups_are_no_grouping(tmp_path):
    names = tuple(f"c{index}" for index in range(51))
    content = "class,group\n" + "".join(f"{name},g{name}\n" for name in names)
    with pytest.raises(DataError, match="column 'group' has 51 different groups; at most 50"):
        read(tmp_path, content, names)


def test_a_table_that_is_not_there_is_a_slip_of_the_flag(tmp_path):
    with pytest.raises(UsageError, match=r"--groups .*gone\.csv: there is no such file"):
        read_class_groups(tmp_path / "gone.csv", NAMES)


def test_each_group_has_its_figures(tmp_path, make_predictions):
    predictions = make_predictions(names=NAMES, size=240)
    metrics = compute(predictions, read(tmp_path, TABLE))
    kind = metrics["groups"]["columns"][0]
    inside = np.isin(predictions.targets(), (2, 3))
    right = (predictions.preds() == predictions.targets())[inside]
    low, high = proportion_confint(right.sum(), right.size, method="wilson")
    team = kind["groups"][1]
    recalls = [metrics["per_class"][index]["recall"] for index in (2, 3)]
    assert team == {
        "name": "team",
        "classes": ["cricket", "football"],
        "num_classes": 2,
        "num_absent": 0,
        "n": right.size,
        "accuracy": {
            "value": pytest.approx(right.mean()), "low": pytest.approx(low), "high": pytest.approx(high),
        },
        "macro_recall": pytest.approx(np.mean(recalls)),
    }  # fmt: skip
    assert metrics["groups"]["interval_method"] == "Wilson"
    assert [one["column"] for one in metrics["groups"]["differences"]] == ["kind", "place"]


def test_samples_of_one_video_widen_a_groups_interval(tmp_path, make_predictions):
    videos = [f"v{index // 12}" for index in range(240)]
    rng = np.random.default_rng(0)
    targets = np.repeat(rng.integers(6, size=20), 12)
    logits = np.repeat(rng.normal(size=(20, 6)), 12, axis=0) + 1.5 * np.eye(6)[targets]
    predictions = make_predictions(names=NAMES, targets=targets, logits=logits, groups=videos)
    metrics = compute(predictions, read(tmp_path, TABLE))
    found = metrics["groups"]["columns"][0]["groups"][0]
    inside = np.isin(predictions.targets(), (0, 1, 4, 5))
    right = (predictions.preds() == predictions.targets())[inside]
    held = [video for video, chosen in zip(predictions.groups, inside, strict=True) if chosen]
    expected = bootstrap_means({"a": right}, groups=held, resamples=200, seed=0)["a"]
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == (expected.low, expected.high)
    assert metrics["groups"]["interval_method"] == "percentile bootstrap by group"
    low, high = proportion_confint(right.sum(), right.size, method="wilson")
    assert expected.high - expected.low > 1.5 * (high - low)


def test_too_few_classes_are_said_to_be_too_few(tmp_path, make_predictions):
    metrics = compute(make_predictions(names=NAMES, size=240), read(tmp_path, TABLE))
    sentences = [one["sentence"] for one in metrics["groups"]["differences"]]
    assert all("can't be told apart" in sentence for sentence in sentences)
    assert all("So few classes could not show any difference" in sentence for sentence in sentences)
    # 4 classes against 2 can be dealt in 15 ways.
    assert "the smallest p possible is 0.067." in sentences[0]


def test_a_real_difference_is_told_with_its_numbers(tmp_path, make_predictions):
    names = tuple(f"c{index:02}" for index in range(20))
    targets = np.repeat(np.arange(20), 10)
    good = (targets < 10) | (np.arange(200) % 10 < 2)
    logits = np.eye(20)[np.where(good, targets, (targets + 1) % 20)]
    predictions = make_predictions(names=names, targets=targets, logits=logits)
    content = "class,kind\n" + "".join(f"{name},{'easy' if name < 'c10' else 'hard'}\n" for name in names)
    metrics = compute(predictions, read(tmp_path, content, names))
    (found,) = metrics["groups"]["differences"]
    assert found["told_apart"]
    assert (found["first"], found["second"]) == ("easy", "hard")
    assert found["difference"] == pytest.approx(0.8)
    report = " ".join(format_test_report(metrics).split())
    assert (
        f"easy is better than hard by 80.0 points of mean class recall (p = {found['p_holm']:.2g}; 10 classes"
        in report
    )
    assert "Groups of classes (groups.csv)" in report
    assert "made before the results were seen" in report


def test_classes_without_a_group_and_absent_ones_are_named(tmp_path, make_predictions):
    targets = np.tile([0, 1, 2], 20)
    predictions = make_predictions(names=NAMES, targets=targets, logits=np.eye(6)[targets])
    content = "class,kind\narchery,a\nboxing,a\njudo,b\ngolf,a\n"
    metrics = compute(predictions, read(tmp_path, content))
    (column,) = metrics["groups"]["columns"]
    assert column["ungrouped"] == ["cricket", "football"]
    a, b = column["groups"]
    assert (a["num_classes"], a["num_absent"], a["n"]) == (2, 1, 40)
    assert (b["num_classes"], b["accuracy"]["value"], b["macro_recall"]) == (0, None, None)
    assert metrics["groups"]["sentences"] == [
        "2 classes have no group in kind and are left out: cricket, football.",
        "kind: only one group has classes with samples, so there is nothing to compare.",
    ]
    assert a["accuracy"]["low"] == pytest.approx(proportion_confint(40, 40, method="wilson")[0])
    report = format_test_report(metrics)
    assert "None" not in report
    assert "cricket, football" in report


def test_hostile_group_names_keep_the_text_report_whole(tmp_path, make_predictions):
    content = 'class,"ki\nnd"\narchery,"\x1b[31mred"\nboxing,\u202eevil\n'
    metrics = compute(make_predictions(names=NAMES, size=200), read(tmp_path, content))
    report = format_test_report(metrics)
    assert "\x1b" not in report
    assert "\u202e" not in report
    assert "ki\\nnd" in report


def test_a_grouping_is_restored_from_what_was_stored(tmp_path, make_predictions):
    predictions = make_predictions(names=NAMES, size=60)
    stored = json.loads(json.dumps(compute(predictions, read(tmp_path, TABLE + "\n"))))
    again = compute(predictions, restore_class_groups(stored["groups"], NAMES))
    assert again == stored
    with pytest.raises(DataError, match="hold the class 'archery', which the predictions don't know"):
        restore_class_groups(stored["groups"], NAMES[1:])


def test_without_a_table_there_are_no_groups(make_predictions):
    metrics = compute_metrics(make_predictions(), resamples=10)
    assert metrics["groups"] is None
    assert "Groups of classes" not in format_test_report(metrics)


def test_the_example_in_the_docs_is_a_grouping():
    path = Path(__file__).parents[2] / "docs" / "sports-groups.csv"
    names = [line.split(",")[0] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    found = read_class_groups(path, [*names, "sumo wrestling"])
    assert {key: sorted(groups) for key, groups in found.columns.items()} == {
        "kind": ["individual", "team"],
        "place": ["indoor", "outdoor"],
    }
    assert found.ungrouped == {"kind": ("sumo wrestling",), "place": ("sumo wrestling",)}
