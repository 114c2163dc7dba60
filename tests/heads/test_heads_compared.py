"""Two models of several heads compared: by their joint answers, or head by head."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from two_heads import answer_again, make_predictions

import praxiscope as px
from praxiscope.errors import UsageError
from praxiscope.evaluation.predictions import write_predictions


def write_pair(folder, groups=None):
    """Write two models' answers to the same clips."""
    first = make_predictions(size=120, seed=1, groups=groups)
    second = answer_again(first, seed=2, skill=1.2)
    for name, table in (("a", first), ("b", second)):
        write_predictions(table, folder / f"{name}.parquet")
    return first, second


def find_right(table):
    return np.stack([table.preds(head) == table.targets(head) for head in table.heads]).all(axis=0)


def compare(folder, **how):
    sources = [folder / "a.parquet", folder / "b.parquet"]
    return px.compare(sources, output=folder / "out", resamples=50, page=False, **how).to_dict()


def test_joint_answers_are_paired_by_default(tmp_path):
    first, second = (find_right(table) for table in write_pair(tmp_path))
    found = compare(tmp_path)
    assert found["head"] == "action"
    told = " ".join(found["notes"])
    assert "Joint answers are compared as right or wrong" in told
    assert "gives answers without probabilities" not in told
    pair = found["pairs"][0]
    only = (int((first & ~second).sum()), int((second & ~first).sum()))
    assert (pair["mcnemar"]["only_first"], pair["mcnemar"]["only_second"]) == only
    assert pair["test"]["p_value"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    tops = [one["all"]["top1"]["value"] for one in found["contestants"]]
    assert tops == pytest.approx([first.mean(), second.mean()])
    heads = found["contestants"][0]["heads"]
    table = make_predictions(size=120, seed=1)
    for head in ("verb", "noun"):
        assert heads[head]["value"] == (table.preds(head) == table.targets(head)).mean()
        assert heads[head]["low"] < heads[head]["value"] < heads[head]["high"]


def test_one_head_is_compared_by_name(tmp_path):
    first, second = write_pair(tmp_path)
    found = compare(tmp_path, head="noun")
    assert found["head"] == "noun"
    right = [(table.preds("noun") == table.targets("noun")).mean() for table in (first, second)]
    assert [one["all"]["top1"]["value"] for one in found["contestants"]] == pytest.approx(right)
    assert compare(tmp_path, head="action")["head"] == "action"
    with pytest.raises(UsageError, match="There is no head 'nouns'; the predictions have verb, noun"):
        compare(tmp_path, head="nouns")


def test_groups_decide_by_sign_flips(tmp_path):
    write_pair(tmp_path, groups=[f"P{index % 6}" for index in range(120)])
    assert compare(tmp_path)["pairs"][0]["test"]["name"] == "exact sign-flip test over groups"


def test_thousands_of_combinations_are_merged_without_touching_who_is_right(tmp_path):
    first = make_predictions((40, 60), size=900, seed=1, skill=3.0)
    second = answer_again(first, seed=2, skill=2.0)
    for name, table in (("a", first), ("b", second)):
        write_predictions(table, tmp_path / f"{name}.parquet")
    found = compare(tmp_path)
    assert len(found["names"]) == 102
    assert found["names"][-2:] == ["(any other)", "(another answer)"]
    assert "labels occur; the 100 with the most samples are listed" in " ".join(found["notes"])
    tops = [one["all"]["top1"]["value"] for one in found["contestants"]]
    assert tops == pytest.approx([find_right(table).mean() for table in (first, second)])
