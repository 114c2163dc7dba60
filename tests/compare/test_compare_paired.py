"""Comparison of models on the same samples: alignment, verdict, figures, seeds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from compared_models import NAMES, Model, write_answers
from sklearn.metrics import cohen_kappa_score, f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from praxiscope.comparison.align import align_contestants
from praxiscope.comparison.build import compare_aligned
from praxiscope.comparison.contestants import read_contestants
from praxiscope.comparison.evidence import weigh
from praxiscope.comparison.headline import Plan
from praxiscope.errors import DataError, UsageError
from praxiscope.recipe.load import dump_recipe, load_recipe
from praxiscope.stats.paired import mcnemar_p_values
from praxiscope.workflows.compare import compare

A = Model(skill=1.6, noise_seed=1, recipe="model-a")
B = Model(skill=2.6, noise_seed=2, recipe="model-b")
QUICK = {"resamples": 400, "page": False}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return two predictions files and the comparison of them."""
    folder = tmp_path_factory.mktemp("pair")
    files = [A.write(folder / "a.parquet"), B.write(folder / "b.parquet")]
    result = compare(files, output=folder / "out", **QUICK)
    return files, result, json.loads((folder / "out" / "comparison.json").read_text(encoding="utf-8"))


def right(model):
    return model.logits().argmax(axis=1) == model.targets()


# ------------------------------------------------------------------------------ figures


def test_figures_are_those_of_the_models(pair):
    content = pair[2]
    first, second = content["contestants"]
    assert first["all"]["top1"]["value"] == pytest.approx(right(A).mean(), abs=1e-12)
    answers = B.logits().argmax(axis=1)
    assert second["all"]["macro_f1"]["value"] == pytest.approx(
        f1_score(B.targets(), answers, average="macro"), abs=1e-12
    )
    assert second["clean"]["n"] == content["samples"]["num_clean"] == 220
    assert content["pairs"][0]["differences"]["clean"]["top1"]["value"] == pytest.approx(
        (right(B).astype(float) - right(A))[np.arange(240) % 12 != 5].mean(), abs=1e-12
    )


def test_the_deciding_test_is_mcnemars(pair):
    told = pair[2]["pairs"][0]
    b, c = int((right(A) & ~right(B)).sum()), int((~right(A) & right(B)).sum())
    assert told["mcnemar"] == {
        "only_first": b,
        "only_second": c,
        "p_value": pytest.approx(mcnemar([[0, b], [c, 0]], exact=True).pvalue, rel=1e-9),
        "decides": True,
    }
    assert told["test"]["name"] == "exact McNemar test"
    assert told["better"] == "model-b"
    assert told["verdict"].startswith("model-b is better than model-a by ")
    assert f"n = {A.n}" in told["verdict"]
    low, high = (told["differences"]["all"]["top1"][end] for end in ("low", "high"))
    assert 0 < low < (c - b) / A.n < high


def test_classes_are_tested_within_and_corrected_over_all(pair):
    rows = pair[2]["pairs"][0]["per_class"]
    raw = []
    for index, row in enumerate(rows):
        inside = A.targets() == index
        b, c = (right(A) & ~right(B) & inside).sum(), (~right(A) & right(B) & inside).sum()
        raw.append(mcnemar([[0, b], [c, 0]], exact=True).pvalue)
        assert row["name"] == NAMES[index]
        assert row["difference"] == pytest.approx((c - b) / inside.sum())
        assert row["low"] <= row["difference"] <= row["high"]
    assert [row["p_value"] for row in rows] == pytest.approx(raw)
    assert [row["p_holm"] for row in rows] == pytest.approx(multipletests(raw, method="holm")[1])


def test_confusions_are_counted_and_tested(pair):
    rows = pair[2]["pairs"][0]["confusion_differences"]
    answers = [model.logits().argmax(axis=1) for model in (A, B)]
    targets = A.targets()
    cells = {(row["target"], row["preds"]): row for row in rows}
    for target, wrong in cells:
        counts = [
            int(((targets == NAMES.index(target)) & (one == NAMES.index(wrong))).sum()) for one in answers
        ]
        assert [cells[target, wrong]["first"], cells[target, wrong]["second"]] == counts
    assert sum(row["first"] for row in rows) == (~right(A)).sum()
    assert [row["p_value"] for row in rows] == sorted(row["p_value"] for row in rows)


def test_repairs_list_what_the_other_has_right(pair):
    repairs = pair[2]["pairs"][0]["repairs"]
    expected = {A.sample_ids()[i] for i in np.flatnonzero(~right(A) & right(B))}
    assert {one for entry in repairs["by_second"] for one in entry["sample_ids"]} == expected
    assert all(f"/{entry['name']}/" in one for entry in repairs["by_second"] for one in entry["sample_ids"])
    assert sum(len(e["sample_ids"]) for e in repairs["by_first"]) == (right(A) & ~right(B)).sum()


def test_agreement_kappa_and_oracle(pair):
    told, content = pair[2]["pairs"][0]["agreement"], pair[2]
    first, second = (model.logits().argmax(axis=1) for model in (A, B))
    assert told["same_answer"] == pytest.approx((first == second).mean())
    assert told["kappa"] == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert told["oracle_top1"]["value"] == pytest.approx((right(A) | right(B)).mean())
    assert content["oracle"]["top1"]["value"] == told["oracle_top1"]["value"]


def test_ensembles_are_means_and_held_against_the_best(pair):
    by_rule = {one["rule"]: one for one in pair[2]["ensembles"]}
    probs = [np.exp(m.logits()) / np.exp(m.logits()).sum(axis=1, keepdims=True) for m in (A, B)]
    mean = (probs[0] + probs[1]).argmax(axis=1)
    assert by_rule["mean probability"]["top1"]["value"] == pytest.approx((mean == A.targets()).mean())
    mean = (A.logits() + B.logits()).argmax(axis=1)
    assert by_rule["mean logit"]["top1"]["value"] == pytest.approx((mean == A.targets()).mean())
    assert by_rule["mean logit"]["against"] == "model-b"
    assert "majority" not in by_rule


def test_three_contestants_vote_and_are_corrected_over_pairs(tmp_path):
    c = Model(skill=2.5, noise_seed=3, recipe="model-c")
    files = [m.write(tmp_path / f"{m.recipe}.parquet") for m in (A, B, c)]
    content = compare(files, output=tmp_path / "out", **QUICK).to_dict()
    raw = [pair["test"]["p_value"] for pair in content["pairs"]]
    assert [pair["test"]["p_holm"] for pair in content["pairs"]] == pytest.approx(
        multipletests(raw, method="holm")[1]
    )
    assert "has the highest top-1 accuracy" in content["verdict"]
    assert "p-values after Holm over 3 pairs" in content["verdict"]
    voted = next(one for one in content["ensembles"] if one["rule"] == "majority")
    answers = np.stack([m.logits().argmax(axis=1) for m in (A, B, c)])
    # Two of three win; three different answers: the first contestant's.
    expected = np.where(answers[1] == answers[2], answers[1], answers[0])
    assert voted["top1"]["value"] == pytest.approx((expected == A.targets()).mean())
    assert voted["nll"] is None


def test_equal_models_cannot_be_told_apart(tmp_path):
    twin = Model(skill=1.6, noise_seed=9, recipe="model-t")
    files = [A.write(tmp_path / "a.parquet"), twin.write(tmp_path / "t.parquet")]
    content = compare(files, output=tmp_path / "out", **QUICK).to_dict()
    assert content["pairs"][0]["better"] is None
    assert "can't be told apart with n = 240" in content["verdict"]
    smallest = content["pairs"][0]["smallest_difference"]
    assert (
        f"the smallest difference that could be told is {100 * smallest['value']:.1f} points"
        in (content["verdict"])
    )


# ------------------------------------------------------------------------------ alignment


def test_labels_are_matched_by_name_and_samples_by_id(tmp_path, pair):
    turned = Model(skill=2.6, noise_seed=2, recipe="model-b", names=("walk", "clap", "texting", "run"))
    files = [A.write(tmp_path / "a.parquet"), turned.write(tmp_path / "b.parquet")]
    content = compare(files, output=tmp_path / "out", **QUICK).to_dict()
    assert content["contestants"][1] | {"members": 0} == pair[2]["contestants"][1] | {"members": 0}
    assert content["pairs"] == pair[2]["pairs"]


def test_other_labels_are_refused_with_a_diff(tmp_path):
    other = Model(noise_seed=2, recipe="model-b")
    predictions = other.predictions()
    renamed = {"action": ("clap", "jog", "texting", "walk")}
    object.__setattr__(predictions.info, "heads", renamed)
    from praxiscope.evaluation.predictions import write_predictions

    write_predictions(predictions, tmp_path / "b.parquet")
    with pytest.raises(
        DataError, match=r"different labels: 1 only in model-a \('run'\); 1 only in model-b \('jog'\)"
    ):
        compare([A.write(tmp_path / "a.parquet"), tmp_path / "b.parquet"], output=tmp_path / "out")


def test_other_samples_are_refused_with_a_diff_unless_common_is_asked_for(tmp_path):
    later = Model(skill=2.6, noise_seed=2, recipe="model-b", start=40)
    files = [A.write(tmp_path / "a.parquet"), later.write(tmp_path / "b.parquet")]
    with pytest.raises(
        DataError, match=r"200 are common; 40 only in model-a \('test/clap/00000.jpg', .*--common"
    ):
        compare(files, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    content = compare(files, output=tmp_path / "out", common=True, **QUICK).to_dict()
    assert content["samples"]["n"] == 200
    assert content["samples"]["left_out"] == {"model-a": 40, "model-b": 40}
    assert content["notes"][0].startswith("ON COMMON SAMPLES ONLY (--common): compared on the 200 samples")


def test_no_common_sample_is_refused_even_so(tmp_path):
    far = Model(noise_seed=2, recipe="model-b", start=1000)
    with pytest.raises(DataError, match="have no sample in common, for example"):
        compare(
            [A.write(tmp_path / "a.parquet"), far.write(tmp_path / "b.parquet")],
            output=tmp_path / "out",
            common=True,
        )


def test_other_targets_are_refused_by_name(tmp_path):
    table = write_answers(tmp_path / "b.csv", B)
    text = table.read_text(encoding="utf-8").replace("00001.jpg,run,", "00001.jpg,walk,")
    table.write_text(text, encoding="utf-8")
    with pytest.raises(
        DataError, match=r"give 1 sample of 240 different targets: 'test/run/00001.jpg' \(run / walk\)"
    ):
        compare([A.write(tmp_path / "a.parquet"), table], output=tmp_path / "out")


# ------------------------------------------------------------------------------ groups


def test_in_groups_the_sign_flip_test_decides_and_says_why(tmp_path):
    models = [
        Model(skill=1.6, noise_seed=1, group_size=6, recipe="model-a"),
        Model(skill=2.6, noise_seed=2, group_size=6, recipe="model-b"),
    ]
    files = [m.write(tmp_path / f"{m.recipe}.parquet") for m in models]
    content = compare(files, output=tmp_path / "out", **QUICK).to_dict()
    told = content["pairs"][0]
    assert content["samples"] | {"left_out": 0} == {
        "n": 240, "num_clean": 220, "num_groups": 40, "grouped": True, "common_only": False, "left_out": 0,
    }  # fmt: skip
    assert told["test"]["name"] == "exact sign-flip test over groups"
    assert "40 groups, and samples of one group aren't independent" in told["test"]["reason"]
    assert told["mcnemar"]["decides"] is False
    assert "sign-flip test over groups" in told["verdict"]
    assert "n = 240 in 40 groups" in told["verdict"]


def test_so_few_groups_that_nothing_could_be_told_say_so(tmp_path):
    models = [Model(skill=s, noise_seed=i, group_size=60, recipe=f"m{i}") for i, s in enumerate((0.2, 4.0))]
    files = [m.write(tmp_path / f"{m.recipe}.parquet") for m in models]
    content = compare(files, output=tmp_path / "out", **QUICK).to_dict()
    told = content["pairs"][0]
    assert not told["told_apart"]
    assert (
        "So few groups could not show any difference: the smallest p-value possible is 0.12"
        in (told["test"]["reason"])
    )
    assert told["smallest_difference"]["value"] is None
    assert "no difference could be told with so few samples" in told["verdict"]


def count_false_verdicts(experiments, *, group_size, folder):
    false = 0
    for number in range(experiments):
        models = [
            Model(skill=1.5, noise_seed=1000 + 2 * number + side, group_size=group_size, n=120, recipe=f"m{side}",
                  start=120 * number)
            for side in (0, 1)
        ]  # fmt: skip
        files = [m.write(folder / f"{m.recipe}.parquet") for m in models]
        aligned = align_contestants(read_contestants(files))
        false += compare_aligned(aligned, Plan(resamples=2)).pairs[0]["told_apart"]
    return false


def draw_equal_models(rng, *, seeds, n, group_size):
    """Draw right and wrong answers of two recipes of one quality; samples of a group are alike."""
    groups = n // group_size
    ease = np.repeat(rng.normal(0, 1, groups), group_size)
    sides = []
    for _ in range(2):
        quirk = np.repeat(rng.normal(0, 1, (seeds, groups)), group_size, axis=1)
        shift = rng.normal(0, 0.2, (seeds, 1)) if seeds > 1 else 0
        sides.append(1.0 + ease + quirk + shift + rng.normal(0, 0.5, (seeds, n)) > 0)
    return sides, np.repeat(np.arange(groups), group_size)


@pytest.mark.parametrize(("seeds", "group_size"), [(1, 1), (1, 8), (3, 1), (3, 8)])
def test_models_that_are_equal_are_rarely_told_apart(seeds, group_size):
    rng, experiments, false = np.random.default_rng(seeds * 10 + group_size), 1200, 0
    for _ in range(experiments):
        (first, second), codes = draw_equal_models(rng, seeds=seeds, n=240, group_size=group_size)
        false += weigh(first, second, codes, level=0.95).p_value < 0.05
    # Three standard deviations of a binomial (1200, 0.05) above its mean: 6.9 %.
    assert false <= experiments * 0.05 + 3 * math.sqrt(experiments * 0.0475)


def test_mcnemar_on_grouped_samples_would_claim_too_much():
    rng, false = np.random.default_rng(5), 0
    for _ in range(300):
        (first, second), _ = draw_equal_models(rng, seeds=1, n=240, group_size=8)
        b, c = (first & ~second).sum(), (~first & second).sum()
        false += float(mcnemar_p_values(b, c)) < 0.05
    assert false > 0.15 * 300


@pytest.mark.soak
@pytest.mark.parametrize("group_size", [1, 6])
def test_false_verdicts_of_whole_comparisons_in_1000_experiments(tmp_path, group_size):
    false = count_false_verdicts(1000, group_size=group_size, folder=tmp_path)
    assert false <= 50 + 3 * math.sqrt(1000 * 0.0475)


# ------------------------------------------------------------------------------ seeds


def test_runs_that_differ_in_their_seed_alone_are_one_contestant(tmp_path):
    runs = [
        Model(skill=1.6, noise_seed=10 + s, recipe="model-a").write_run(tmp_path, seed=s) for s in range(3)
    ]
    runs += [
        Model(skill=2.6, noise_seed=20 + s, recipe="model-b").write_run(tmp_path, seed=s, epochs=5)
        for s in range(2)
    ]
    content = compare([run.path for run in runs], output=tmp_path / "out", **QUICK).to_dict()
    first, second = content["contestants"]
    assert (first["kind"], len(first["members"]), len(second["members"])) == ("seeds", 3, 2)
    by_seed = [member["top1"] for member in first["members"]]
    top1 = first["all"]["top1"]
    assert top1["value"] == pytest.approx(np.mean(by_seed))
    assert top1["sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert (top1["min"], top1["max"]) == (min(by_seed), max(by_seed))
    assert [member["seed"] for member in first["members"]] == [0, 1, 2]
    told = content["pairs"][0]
    assert told["mcnemar"] is None
    assert told["test"]["name"] == "t test over samples and seeds"
    assert "t test over samples and seeds" in told["verdict"]
    assert 0 < first["seed_agreement"] < 1
    assert (
        (tmp_path / "out" / "disagreements.csv")
        .read_text(encoding="utf-8")
        .startswith("sample_id,group,clean,target,model-a #1,model-a #1 probability,model-a #2")
    )


def test_the_interval_over_seeds_is_wider_than_over_samples(tmp_path):
    skills = (1.0, 1.6, 2.2)
    runs = [
        Model(skill=s, noise_seed=i, recipe="model-a").write_run(tmp_path, seed=i)
        for i, s in enumerate(skills)
    ]
    other = B.write_run(tmp_path, epochs=5)
    paths = [run.path for run in runs] + [other.path]
    seeds = compare(paths, output=tmp_path / "1", **QUICK).to_dict()["pairs"][0]["differences"]["all"]["top1"]
    alone = compare(paths[1:2] + paths[3:], output=tmp_path / "2", **QUICK).to_dict()
    one = alone["pairs"][0]["differences"]["all"]["top1"]
    assert seeds["high"] - seeds["low"] > 2 * (one["high"] - one["low"])


def test_separate_keeps_seeds_apart(tmp_path):
    runs = [Model(noise_seed=s, recipe="model-a").write_run(tmp_path, seed=s) for s in range(2)]
    paths = [run.path for run in runs]
    with pytest.raises(UsageError, match="2 runs differ in their seed alone, so they are one contestant"):
        compare(paths, output=tmp_path / "out")
    content = compare(paths, output=tmp_path / "out", separate=True, **QUICK).to_dict()
    assert [one["label"] for one in content["contestants"]] == [f"model-a ({run.run_id})" for run in runs]


def test_another_recipe_or_other_data_is_another_contestant(tmp_path):
    runs = [
        Model(noise_seed=1, recipe="model-a").write_run(tmp_path, seed=1),
        Model(noise_seed=2, recipe="model-a").write_run(tmp_path, seed=2, epochs=9),
    ]
    content = compare([run.path for run in runs], output=tmp_path / "out", **QUICK).to_dict()
    assert [one["kind"] for one in content["contestants"]] == ["run", "run"]
    assert any("their recipes differ in train.epochs (3 / 9)." in note for note in content["notes"])
    longer = Model(noise_seed=2, recipe="model-a", n=250).write_run(tmp_path, seed=3)
    paths = [runs[0].path, longer.path]
    notes = compare(paths, output=tmp_path / "2", common=True, **QUICK).notes
    assert any(note.endswith("aren't seeds of one recipe: they have other data.") for note in notes)
    assert any("Each contestant is one trained model" in note for note in content["notes"])


def test_a_run_from_before_a_recipe_key_is_a_seed_of_the_same_recipe(tmp_path):
    runs = [Model(noise_seed=s, recipe="model-a").write_run(tmp_path, seed=s) for s in range(2)]
    runs.append(B.write_run(tmp_path, epochs=5))
    runs[1].recipe.write_text(dump_recipe(load_recipe(runs[1].recipe)), encoding="utf-8")
    assert "seed: null" in runs[1].recipe.read_text(encoding="utf-8"), "data.seed, at its default"
    contestants = read_contestants([run.path for run in runs])
    assert [len(one.members) for one in contestants] == [2, 1]


# ------------------------------------------------------------------------------ sources


def test_a_run_without_predictions_says_what_to_type(tmp_path):
    run = A.write_run(tmp_path, split="val")
    with pytest.raises(
        UsageError, match=r"no predictions of split 'test'. .*praxiscope evaluate .* --split test"
    ):
        compare([run.path, B.write(tmp_path / "b.parquet")], output=tmp_path / "out")


def test_a_recipes_latest_run_is_found(tmp_path):
    A.write_run(tmp_path)
    content = compare(
        ["model-a@latest", B.write(tmp_path / "b.parquet")], output=tmp_path / "out", runs=tmp_path, **QUICK
    ).to_dict()
    assert content["contestants"][0]["label"] == "model-a"


def test_too_few_repeated_and_unknown_sources_are_refused(tmp_path):
    path = A.write(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="nothing to compare with"):
        compare([path], output=tmp_path / "out")
    with pytest.raises(UsageError, match="is given twice"):
        compare([path, tmp_path / "." / "a.parquet"], output=tmp_path / "out")
    (tmp_path / "x.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="what is compared are run folders"):
        compare([path, tmp_path / "x.txt"], output=tmp_path / "out")
    with pytest.raises(UsageError, match="--resamples 0"):
        compare([path, path], resamples=0)


def test_labels_name_contestants(tmp_path, pair):
    files = pair[0]
    content = compare(files, output=tmp_path / "out", labels=["old", "new"], **QUICK).to_dict()
    assert content["verdict"].startswith("new is better than old")
    with pytest.raises(UsageError, match="1 labels were given for 2 contestants"):
        compare(files, output=tmp_path / "out", labels=["old"])
    with pytest.raises(UsageError, match="labels must differ"):
        compare(files, output=tmp_path / "out", labels=["old", "old"])


def test_a_missing_head_is_named(pair, tmp_path):
    with pytest.raises(UsageError, match="There is no head 'verb'"):
        compare(pair[0], output=tmp_path / "out", head="verb")


def test_costs_must_be_a_profile(pair, tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        compare(pair[0], output=tmp_path / "out", costs=tmp_path / "profile.json")
    (tmp_path / "profile.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="lacks its entries"):
        compare(pair[0], output=tmp_path / "out", costs=tmp_path / "profile.json")
    (tmp_path / "profile.json").write_text('{"schema": 1, "entries": []}', encoding="utf-8")
    result = compare(pair[0], output=tmp_path / "out", costs=tmp_path / "profile.json", **QUICK)
    assert result.to_dict()["costs"] == {"schema": 1, "entries": []}


def test_the_same_seed_gives_the_same_file(pair, tmp_path):
    again = compare(pair[0], output=tmp_path / "out", **QUICK).to_dict()
    assert again | {"created": 0} == pair[2] | {"created": 0}


def test_default_folders_never_overwrite(pair, tmp_path):
    folders = {compare(pair[0], runs=tmp_path, resamples=2, page=False).folder for _ in range(2)}
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "compare"}
