"""Tables of other tools: read, refused with a reason, compared; unpaired where there are counts alone."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from compared_models import NAMES, Model, write_answers, write_csv
from scipy.stats import fisher_exact
from sklearn.metrics import classification_report, confusion_matrix, f1_score
from statsmodels.stats.multitest import multipletests

from praxiscope.comparison.foreign import read_foreign
from praxiscope.errors import DataError
from praxiscope.stats.paired import paired_interval
from praxiscope.workflows.compare import compare

A = Model(skill=1.6, noise_seed=1, recipe="model-a")
B = Model(skill=2.6, noise_seed=2, recipe="model-b")
QUICK = {"resamples": 400, "page": False}


# ------------------------------------------------------------------------------ answers by sample


def test_a_table_of_answers_gives_what_the_predictions_give(tmp_path):
    paths = [A.write(tmp_path / "a.parquet"), B.write(tmp_path / "b.parquet")]
    own = compare(paths, output=tmp_path / "1", **QUICK).to_dict()["pairs"][0]
    table = write_answers(tmp_path / "theirs.csv", B)
    content = compare([paths[0], table], output=tmp_path / "2", **QUICK).to_dict()
    told = content["pairs"][0]
    assert told["mcnemar"] == own["mcnemar"]
    assert told["per_class"] == own["per_class"]
    assert told["differences"]["all"]["nll"] is None
    assert content["contestants"][1]["kind"] == "table"
    assert any("theirs gives answers without probabilities" in note for note in content["notes"])


def test_a_table_of_probabilities_has_every_figure(tmp_path):
    paths = [A.write(tmp_path / "a.parquet"), B.write(tmp_path / "b.parquet")]
    own = compare(paths, output=tmp_path / "1", **QUICK).to_dict()["contestants"][1]["all"]
    table = write_answers(tmp_path / "theirs.csv", B, probabilities=True)
    told = compare([paths[0], table], output=tmp_path / "2", **QUICK).to_dict()["contestants"][1]["all"]
    for name in ("top1", "top5", "macro_f1", "nll", "brier", "ece"):
        assert told[name]["value"] == pytest.approx(own[name]["value"], abs=1e-6), name


def test_columns_named_like_the_labels_are_probabilities(tmp_path):
    path = write_csv(
        tmp_path / "t.csv",
        "id;truth note;true;run;walk;rest",
        ["1;x;run;0.7;0.2;0.1", "2;y;walk;0.1;0.8;0.1"],
    )
    table = read_foreign(path)
    assert table.names == ("run", "walk", "rest")
    assert table.names_complete
    assert np.exp(table.logits[0]) == pytest.approx([0.7, 0.2, 0.1])


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("name,target,pred", ["1,a,a"], "no column for an id"),
        ("id,truth,pred", ["1,a,a"], "no column for a target"),
        ("id,target,guess", ["1,a,a"], "no column for a prediction"),
        ("id,target,pred", [], "a header and no rows"),
        ("id,target,pred", ["1,a,a", "2,a"], "row 2 has 2 cells, the header 3"),
        ("id,target,pred", ["1,a,a", "2,,a"], "row 2 has no 'target' (1 rows have none)"),
        ("id,target,pred", ["1,a,a", "1,b,a"], "1 ids occur more than once: '1'"),
        ("id,target,prob_a,prob_b", ["1,a,x,0.5"], "a probability is no number"),
        ("id,target,prob_a,prob_b", ["1,a,3.2,-1.0"], "the probabilities of '1' don't lie in [0, 1]"),
        ("id,target,prob_a,prob_b", ["1,a,0.5,0.2"], "the probabilities of '1' add up to 0.7, not to 1"),
        ("id,target,prob_a,prob_b", ["1,c,0.5,0.5"], "there is no probability column for 'c'"),
        ("id,target,a", ["1,a,1.0", "2,b,1.0"], "has a column for 1 of 2 labels; there is none for 'b'"),
        (
            "id,target,pred,prob_a,prob_b",
            ["1,a,b,0.9,0.1"],
            "1 of 1 predictions aren't the most probable label, first of '1': b was predicted, a is more",
        ),
    ],
)
def test_malformed_tables_are_refused_with_the_reason(tmp_path, header, rows, message):
    path = write_csv(tmp_path / "t.csv", header, rows)
    with pytest.raises(DataError, match=re.escape(message)):
        read_foreign(path)


def test_labels_that_differ_in_capitals_alone_are_told(tmp_path):
    rows = [["1,run,run", "2,walk,walk"], ["1,run,Run", "2,walk,walk"]]
    paths = [write_csv(tmp_path / f"{i}.csv", "id,target,pred", part) for i, part in enumerate(rows)]
    notes = compare(paths, output=tmp_path / "out", **QUICK).notes
    told = [note for note in notes if "capitals" in note]
    assert len(told) == 1
    assert told[0].startswith("1 answers 'Run' ('run'): no sample has such a label")


def test_models_that_never_differ_have_an_interval_and_equal_accuracies(tmp_path):
    rows = [f"{index},{'run' if index % 2 else 'walk'},run" for index in range(40)]
    paths = [write_csv(tmp_path / f"{name}.csv", "id,target,pred", rows) for name in "ab"]
    content = compare(paths, output=tmp_path / "out", **QUICK).to_dict()
    assert "with n = 40: their top-1 accuracy is the same (b minus a: 95 % " in content["verdict"]
    told = content["pairs"][0]["differences"]["all"]["top1"]
    low, high = paired_interval(0, 0, 40)
    assert (told["low"], told["value"], told["high"]) == (pytest.approx(low), 0, pytest.approx(high))


def test_a_certain_wrong_answer_has_a_finite_loss(tmp_path):
    path = write_csv(tmp_path / "t.csv", "id,target,prob_a,prob_b", ["1,a,0,1", "2,b,0,1"])
    assert np.isfinite(read_foreign(path).logits).all()


# ------------------------------------------------------------------------------ counts alone


def write_matrix(path, confusion, names=NAMES):
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(names, confusion, strict=True)]
    return write_csv(path, f",{','.join(names)}", rows)


def counts_of(model):
    return confusion_matrix(model.targets(), model.logits().argmax(axis=1), labels=range(4))


def test_confusion_matrices_are_compared_unpaired_and_say_so(tmp_path):
    paths = [
        write_matrix(tmp_path / f"{m.recipe}_test_metrics_confusion_matrix.csv", counts_of(m)) for m in (A, B)
    ]
    content = compare(paths, output=tmp_path / "out", **QUICK).to_dict()
    told = content["pairs"][0]
    assert content["paired"] is False
    assert content["verdict"].startswith("Unpaired comparison: model-b is better than model-a")
    assert content["notes"][0].startswith("UNPAIRED")
    assert content["verdict"].count("npaired") == 1
    assert "pairing would be stronger" in content["notes"][0]
    assert "unpaired" in told["test"]["name"]
    assert told["mcnemar"] is told["agreement"] is told["repairs"] is content["oracle"] is None
    assert not (tmp_path / "out" / "disagreements.csv").exists()
    assert content["contestants"][0]["all"]["macro_f1"]["value"] == pytest.approx(
        f1_score(A.targets(), A.logits().argmax(axis=1), average="macro"), abs=1e-12
    )
    hits = [int(np.trace(counts_of(m))) for m in (A, B)]
    assert told["test"]["p_value"] == pytest.approx(
        fisher_exact([[hits[0], 240 - hits[0]], [hits[1], 240 - hits[1]]])[1], rel=1e-6
    )


def test_one_matrix_makes_the_whole_comparison_unpaired(tmp_path):
    paths = [A.write(tmp_path / "a.parquet"), write_matrix(tmp_path / "b.csv", counts_of(B))]
    content = compare(paths, output=tmp_path / "out", **QUICK).to_dict()
    assert content["paired"] is False
    assert content["contestants"][0]["all"]["top1"]["value"] == pytest.approx(
        (A.logits().argmax(axis=1) == A.targets()).mean()
    )


def test_rows_in_another_order_are_matched_by_name(tmp_path):
    confusion = counts_of(A)
    order = [2, 0, 3, 1]
    rows = [f"{NAMES[i]},{','.join(map(str, confusion[i]))}" for i in order]
    turned = write_csv(tmp_path / "t.csv", f",{','.join(NAMES)}", rows)
    plain = read_foreign(write_matrix(tmp_path / "p.csv", confusion))
    assert (read_foreign(turned).confusion == plain.confusion).all()


def test_recall_and_precision_give_back_the_counts(tmp_path):
    report = classification_report(
        A.targets(), A.logits().argmax(axis=1), target_names=NAMES, output_dict=True
    )
    confusion = counts_of(A)
    for name, content in (("bare", report), ("held", {"top1_acc": 0.5, "per_class": report})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        table = read_foreign(path)
        assert table.names == NAMES
        assert (table.correct == np.diag(confusion)).all()
        assert (table.predicted == confusion.sum(axis=0)).all()
    content = compare(
        [tmp_path / "bare.json", write_matrix(tmp_path / "b.csv", counts_of(B))],
        output=tmp_path / "o",
        **QUICK,
    ).to_dict()
    assert content["contestants"][0]["all"]["macro_f1"] | {"min": 0, "max": 0} == {
        "value": pytest.approx(report["macro avg"]["f1-score"]), "low": None, "high": None, "sd": None,
        "min": 0, "max": 0,
    }  # fmt: skip
    assert any("no confusion matrix" in note for note in content["notes"])
    assert content["pairs"][0]["confusion_differences"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",a,b\na,1,2\nc,3,4\n", "rows and columns of a confusion matrix must name the same labels"),
        (",a,b\na,1,x\nb,3,4\n", "a cell of the confusion matrix is no number"),
        (",a,b\na,0.5,0.5\nb,0.1,0.9\n", "must hold counts, whole numbers from 0"),
        (",a,b\na,0,0\nb,0,0\n", "holds no sample"),
    ],
)
def test_malformed_matrices_are_refused(tmp_path, text, message):
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_foreign(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": 1}, "holds neither a confusion matrix"),
        ({"a": {"recall": 0.5, "support": 10}}, "label 'a' lacks a number for recall, precision or support"),
        ({"a": {"recall": 0.333, "precision": 0.5, "support": 10}}, "give no whole number of right answers"),
        ({"names": ["a", "b"], "confusion": [[1, 2]]}, "'confusion' must be a square table of counts"),
        ({"names": ["a", "b"], "confusion": [[1, 2], [3]]}, "'confusion' must be a square table of counts"),
        ({"names": None, "confusion": [[1]]}, "'confusion' must be a square table of counts"),
        ({"names": ["a", "a "], "confusion": [[1, 0], [0, 1]]}, "'names' must be different .* 'a'"),
        ({"a": {"recall": 0.5, "precision": 0, "support": 10}}, "recall 0.5 and precision 0, which can't"),
        ({"a": {"recall": 1, "precision": 1, "support": float("inf")}}, "give no whole number"),
        ({"a": {"recall": 0, "precision": 0, "support": 0}}, "the support of every label is 0"),
    ],
)
def test_malformed_json_is_refused(tmp_path, content, message):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_foreign(path)


def test_other_labels_are_refused_unpaired_too(tmp_path):
    paths = [
        write_matrix(tmp_path / "a.csv", counts_of(A)),
        write_matrix(tmp_path / "b.csv", counts_of(B), ("clap", "jog", "texting", "walk")),
    ]
    with pytest.raises(DataError, match=r"1 only in a \('run'\); 1 only in b \('jog'\)"):
        compare(paths, output=tmp_path / "out")


# ------------------------------------------------------------------------------ the first project's models


@pytest.mark.shared
def test_the_published_per_class_differences_are_reproduced(shared_data, tmp_path):
    folder = shared_data / "peer-results" / "resnet_vit_har"
    paths = [folder / f"{name}_test_metrics_confusion_matrix.csv" for name in ("resnet18", "vit_b16")]
    content = compare(paths, output=tmp_path / "out", **QUICK).to_dict()
    stored = [
        json.loads((folder / f"{name}_test_metrics.json").read_text(encoding="utf-8"))
        for name in ("resnet18", "vit_b16")
    ]
    for entry, published in zip(content["contestants"], stored, strict=True):
        assert entry["all"]["top1"]["value"] == pytest.approx(published["top1_acc"], abs=1e-12)
        assert entry["all"]["macro_f1"]["value"] == pytest.approx(published["macro_f1"], abs=1e-12)
        assert entry["all"]["weighted_f1"]["value"] == pytest.approx(published["weighted_f1"], abs=1e-12)
    rows, raw = content["pairs"][0]["per_class"], []
    for row in rows:
        before, after = (published["per_class"][row["name"]] for published in stored)
        assert row["difference"] == pytest.approx(after["recall"] - before["recall"], abs=1e-12)
        hits = [round(one["recall"] * 126) for one in (before, after)]
        raw.append(fisher_exact([[hits[0], 126 - hits[0]], [hits[1], 126 - hits[1]]])[1])
    assert [row["p_value"] for row in rows] == pytest.approx(raw, rel=1e-6)
    assert [row["p_holm"] for row in rows] == pytest.approx(multipletests(raw, method="holm")[1], rel=1e-6)
    assert [row["name"] for row in rows if row["told_apart"]] == ["drinking"]
    again = compare(
        [folder / f"{name}_test_metrics.json" for name in ("resnet18", "vit_b16")],
        output=tmp_path / "json",
        **QUICK,
    ).to_dict()
    assert again["pairs"][0]["per_class"] == rows
