"""What stands beside the accuracies of runs: a target, the gap to training, time, parameters, each head."""

from __future__ import annotations

import csv
import json

import pytest
from compared_models import Model

from praxiscope.cli.main import main
from praxiscope.comparison.phases import judge_target
from praxiscope.errors import UsageError
from praxiscope.workflows.compare import compare

WEAK = Model(skill=1.6, noise_seed=1, recipe="weak")
STRONG = Model(skill=2.6, noise_seed=2, recipe="strong")


def write_trained(root, model, *, seed=0, gap=0.1, train_s=90.0, more=""):
    run = model.write_run(root, seed=seed)
    run.update_run_json(
        {
            "learning": {"gap_at_best": gap, "num_epochs": 3},
            "time": {"train_s": train_s, "sessions": []},
            "model": {"name": "resnet18", "parameters": 11_227_812},
        }
    )
    run.recipe.write_text(run.recipe.read_text(encoding="utf-8") + more, encoding="utf-8")
    return run.path


@pytest.mark.parametrize(
    ("top1", "state", "words"),
    [
        ((0.40, 0.36, 0.44), "reached", "x reaches the target of 35.0 %: 40.0 % (36.0 to 44.0)."),
        ((0.36, 0.35, 0.37), "reached", "x reaches"),
        ((0.30, 0.26, 0.34), "missed", "x misses the target of 35.0 %: 30.0 % (26.0 to 34.0)."),
        ((0.36, 0.34, 0.38), "open", "x is above the target of 35.0 % with 36.0 %, but its interval"),
        ((0.34, 0.30, 0.35), "open", "x is below the target"),
        ((0.35, None, None), "open", "x is at the target of 35.0 % with 35.0 %; there is no interval"),
        ((0.5, float("nan"), float("nan")), "open", "there is no interval to judge by"),
    ],
)
def test_a_target_is_judged_by_the_interval(top1, state, words):
    told = judge_target("x", dict(zip(("value", "low", "high"), top1, strict=True)), 0.35)
    assert told["state"] == state
    assert words in told["sentence"]


def test_gap_time_size_and_target_are_printed_and_stored(tmp_path, capsys):
    runs = [
        write_trained(tmp_path / "runs", WEAK),
        write_trained(
            tmp_path / "runs", STRONG, gap=0.025, train_s=7320.0, more="model:\n  drop_rate: 0.1\n"
        ),
    ]
    arguments = [*map(str, runs), "--target", "0.7", "--resamples", "200", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *arguments])
    assert not ended.value.code
    told = capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert content["target"] == 0.7
    weak, strong = content["contestants"]
    assert weak["training"] == {"gap": 0.1, "train_s": 90.0, "parameters": 11_227_812, "epochs": 3}
    for one in (weak, strong):
        top1 = one["all"]["top1"]
        expected = "reached" if top1["low"] >= 0.7 else "missed" if top1["high"] < 0.7 else "open"
        assert one["target"]["state"] == expected
        assert one["target"]["sentence"] in told
    assert weak["target"]["state"] != strong["target"]["state"]
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    for shown in ("+10.0", "+2.5", "2\u202fh 02\u202fmin", "11.23\u202fM", "target 70.0\u202f%"):
        assert shown in page
        assert shown.replace("\u202f", " ") in told
    with (tmp_path / "out" / "headline.csv").open(encoding="utf-8", newline="") as stream:
        rows = {(row["what"], row["figure"]): row["value"] for row in csv.DictReader(stream)}
    assert rows["strong", "gap"] == "0.025"
    assert rows["weak", "parameters"] == "11227812"


def test_seeds_have_means_and_mixed_images_no_gap(tmp_path):
    runs = [write_trained(tmp_path, WEAK, seed=seed, gap=gap) for seed, gap in ((0, 0.1), (1, 0.3))]
    mixed = write_trained(tmp_path, STRONG, more="augment:\n  mixup: 0.2\n")
    told = compare([*runs, mixed], output=tmp_path / "out", resamples=50, page=False).to_dict()
    assert told["contestants"][0]["training"]["gap"] == pytest.approx(0.2)
    assert told["contestants"][1]["training"]["gap"] is None
    assert "target" not in told["contestants"][0]
    assert "none where images were mixed" in told["rules"]["training"]


def test_what_is_no_run_has_no_training(tmp_path):
    files = [model.write(tmp_path / f"{model.recipe}.parquet") for model in (WEAK, STRONG)]
    told = compare(files, output=tmp_path / "out", resamples=50, target=0.5).to_dict()
    assert [one["training"] for one in told["contestants"]] == [None, None]
    assert "training" not in told["rules"]
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "parameters" not in page


@pytest.mark.parametrize(
    ("target", "hint"), [(35.0, r"for 35 %: --target 0.35"), (0.0, "above 0 and up to 1")]
)
def test_a_target_that_is_no_share_is_refused(tmp_path, target, hint):
    with pytest.raises(UsageError, match=hint):
        compare(["a", "b"], output=tmp_path, target=target)
