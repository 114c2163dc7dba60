"""Studies end to end on generated images, and the journal under several hands."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import praxiscope as px
from praxiscope.errors import DataError, Interrupted, Preempted, UsageError
from praxiscope.recipe.load import load_recipe
from praxiscope.training.signals import StopFlag
from praxiscope.training.watch import Silent
from praxiscope.tuning.plan import StudyPlan
from praxiscope.tuning.result import build_result, describe_selection
from praxiscope.tuning.space import parse_space
from praxiscope.tuning.study import Study
from praxiscope.workflows.tune import _tell_broken as tell_broken
from praxiscope.workflows.tune import _wait_for as wait_for_workers
from praxiscope.workflows.tune import prepare_study, resume_study, show_study, tune

SMALL = {
    "name": "tiny", "model.name": "test_resnet", "model.img_size": 16, "train.epochs": 2, "train.batch_size": 12,
    "train.precision": "fp32", "loader.workers": 0, "train.warmup_epochs": 0,
}  # fmt: skip


@pytest.fixture
def recipe():
    return load_recipe({"name": "tiny"}, {k: v for k, v in SMALL.items() if k != "name"})


def make_plan(recipe, words, **changes):
    asked = {
        "name": "s", "recipe": recipe, "space": parse_space(words, recipe), "data": "", "metric": "val/top1",
        "mode": "max", "trials": 20, "sampler": "tpe", "pruner": "none", "seed": 0,
    }  # fmt: skip
    return StudyPlan(**{**asked, **changes})


def propose(study, count, figure=lambda proposal: proposal["train.lr"]):
    """Begin and end so many trials at once."""
    made = []
    for _ in range(count):
        with study.claiming():
            number = study.begin()
        proposal = study.read_proposal(number)
        study.finish(number, "complete", value=figure(proposal), facts={"curve": [figure(proposal)]})
        made.append(proposal)
    return made


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_follow_from_the_seed_also_across_a_resume(recipe, tmp_path, sampler):
    words = ["lr=loguniform(1e-5,1e-2)", "opt=adamw,sgd"]
    folders = [tmp_path / name for name in ("whole", "parts", "other")]
    for folder in folders:
        folder.mkdir()
    plan = make_plan(recipe, words, sampler=sampler)
    whole = propose(Study(folders[0], plan), 14)
    parts = [each for _ in range(7) for each in propose(Study(folders[1], plan), 2)]
    assert whole == parts
    assert len({each["train.lr"] for each in whole}) == 14
    assert propose(Study(folders[2], make_plan(recipe, words, sampler=sampler, seed=1)), 1) != whole[:1]


def test_tpe_searches_where_it_is_good(recipe, tmp_path):
    (tmp_path / "s").mkdir()
    study = Study(tmp_path / "s", make_plan(recipe, ["lr=loguniform(1e-5,1e-1)"], trials=40))
    made = propose(study, 40, lambda p: -abs(p["train.lr"] - 1e-2))
    late = [abs(each["train.lr"] - 1e-2) for each in made[20:]]
    assert sorted(late)[len(late) // 2] < 9e-3  # uniform draws of the logarithm have a median beyond


def test_a_grid_gives_each_combination_once(recipe, tmp_path):
    plan = make_plan(recipe, ["lr=1e-3,1e-4", "opt=adamw,sgd"], sampler="grid", trials=4)
    study = Study(tmp_path, plan)
    with study.claiming():
        study.enqueue_grid()
        study.enqueue_grid()  # another worker at the start
    made = propose(study, 4, lambda _: 0.5)
    assert len({tuple(each.values()) for each in made}) == 4
    assert len(study.trials) == 4


def test_the_median_rule_ends_a_hopeless_trial(recipe, tmp_path):
    plan = make_plan(recipe, ["lr=1e-3,1e-4"], pruner="median", trials=8)
    study = Study(tmp_path, plan)
    for figure in (0.9, 0.8, 0.7, 0.9):
        number = study.begin()
        told = [study.report(number, epoch=epoch, value=figure) for epoch in (1, 2, 3)]
        assert not told[0]
        study.finish(number, "complete", value=figure, facts={})
    number = study.begin()
    assert study.report(number, epoch=1, value=0.1) is False  # too early to tell
    assert study.report(number, epoch=2, value=0.1) is True
    assert study.report(number, epoch=2, value=0.1) is True  # told again after a resume, without a warning


def test_importance_finds_what_matters(recipe, tmp_path):
    plan = make_plan(recipe, ["lr=loguniform(1e-5,1e-1)", "smoothing=uniform(0,0.5)"], sampler="random")
    study = Study(tmp_path, plan)
    propose(study, 4)
    assert "4 finished trials tell nothing" in study.compute_importance()
    propose(study, 40)
    shares = study.compute_importance()
    assert shares["train.lr"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_a_study_ends_with_a_recipe_that_trains(recipe, noise_folder, tmp_path, monkeypatch):
    from praxiscope.data import loader
    from praxiscope.training import session

    seen = []

    def record(manifest, split, **more):
        seen.append(split)
        return loader.build_sample_set(manifest, split, **more)

    monkeypatch.setattr(session, "build_sample_set", record)
    result = tune(
        recipe, data=noise_folder, space=["lr=loguniform(1e-4,1e-2)", "opt=adamw,sgd"], trials=3, name="one",
        output=tmp_path, pruner="none",
    )  # fmt: skip
    assert set(seen) == {"train", "val"}  # the test split is never read
    content = json.loads((result.folder / "tune.json").read_text(encoding="utf-8"))
    assert [trial["state"] for trial in content["trials"]] == ["complete"] * 3
    assert not list(tmp_path.rglob("evaluations/*"))
    for trial in content["trials"]:
        run = px.RunDir.open(result.folder / trial["run"])
        assert run.path.parent.name == f"tiny-t{trial['number']:04d}"
        assert trial["value"] == max(row["val/top1"] for row in run.read_metrics())
        assert px.load_recipe(run.recipe).train.lr == trial["params"]["train.lr"]
    best = content["trials"][content["best"]]
    assert best["value"] == max(trial["value"] for trial in content["trials"])
    final = px.load_recipe(result.best)
    assert (final.name, final.train.lr, final.train.opt) == (
        "tiny-tuned", best["params"]["train.lr"], best["params"]["train.opt"],
    )  # fmt: skip
    again = px.train(final, data=noise_folder, output=tmp_path)
    assert max(row["val/top1"] for row in again.read_metrics()) == best["value"]
    for name in ("history.png", "slices.png", "parallel.png", "trials.csv", "index.html"):
        assert (result.folder / name).stat().st_size > 100
    page = result.page.read_text(encoding="utf-8")
    assert 'src="http' not in page
    assert "flatters it" in page
    with pytest.raises(UsageError, match=r"There is a study 'one' .*--resume one"):
        tune(recipe, data=noise_folder, space=["lr=1,2"], name="one", output=tmp_path)
    (result.folder / "index.html").unlink()
    assert show_study("one", output=tmp_path).page.is_file()
    with pytest.raises(UsageError, match=r"No study 'onr' .* Did you mean 'one'\? Studies there: one."):
        show_study("onr", output=tmp_path)


class StopAfter(Silent):
    """Presses Ctrl-C in the second trial."""

    def __init__(self):
        self.trials = 0

    def note(self, text):
        self.trials += text.startswith("Trial ") and "=" in text

    def step(self, progress):
        if self.trials == 2:
            signal.raise_signal(signal.SIGINT)
            self.trials += 1


def test_a_stopped_study_goes_on_where_it_was(recipe, noise_folder, tmp_path):
    asked = {"data": noise_folder, "space": ["lr=loguniform(1e-4,1e-2)"], "trials": 3, "pruner": "none"}
    whole = tune(recipe, name="whole", output=tmp_path, **asked)
    with pytest.raises(Interrupted, match=r"Stopped and saved. To go on: praxiscope tune --resume .*parts"):
        tune(recipe, name="parts", output=tmp_path, watch=StopAfter(), **asked)
    stopped = json.loads((tmp_path / "tune/parts/tune.json").read_text(encoding="utf-8"))
    assert [trial["state"] for trial in stopped["trials"]] == ["complete", "unfinished"]
    rest = resume_study("parts", output=tmp_path)
    facts = [
        [(t["number"], t["state"], t["params"], t["curve"]) for t in each.content["trials"]] for each in (whole, rest)
    ]  # fmt: skip
    assert facts[0] == facts[1]
    assert len(list((tmp_path / "tune/parts/trials").glob("*/*/run.json"))) == 3  # one run a trial


class StopBetween(Silent):
    """The cluster takes the node back when one trial has ended and none has begun."""

    def note(self, text):
        if text.startswith("Trial 0 complete"):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_between_two_trials_stops_the_study(recipe, noise_folder, tmp_path):
    short = load_recipe(recipe.model_dump(mode="json"), {"train.epochs": 1})
    with pytest.raises(Preempted, match=r"Stopped and saved. To go on: praxiscope tune --resume"):
        tune(
            short, data=noise_folder, space=["lr=1e-3,1e-4"], name="taken", output=tmp_path, watch=StopBetween(),
        )  # fmt: skip
    told = json.loads((tmp_path / "tune/taken/tune.json").read_text(encoding="utf-8"))
    assert [trial["state"] for trial in told["trials"]] == ["complete"]


@pytest.mark.skipif(sys.platform == "win32", reason="a console tells all its processes of Ctrl-C by itself")
def test_a_signal_is_passed_on_to_workers():
    """Each gets it once, and none is left behind."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == b"ready\n"
    stop = StopFlag()
    stop.request()
    assert wait_for_workers(workers, stop) == [75, 75]
    for worker in workers:
        worker.stdout.close()


def test_workers_that_broke_are_told(recipe, noise_folder, tmp_path, monkeypatch):
    """An error only where trials are left for want of them."""
    notes = []
    watch = Silent()
    monkeypatch.setattr(watch, "note", notes.append, raising=False)
    asked = {
        "data": noise_folder,
        "space": ["lr=1e-3,1e-4"],
        "trials": 1,
        "sampler": "random",
        "watch": watch,
    }
    result = tune(recipe, name="b", output=tmp_path, **asked)
    tell_broken(["0.log"], result, jobs=2, watch=watch)
    assert notes[-1] == "1 of 2 workers ended with an error; see 0.log. The others did their trials."
    left = replace(result, content=result.content | {"asked_trials": 2})
    with pytest.raises(
        UsageError, match=r"1 of 2 workers ended .* see 0.log. To go on: praxiscope tune --resume"
    ):
        tell_broken(["0.log"], left, jobs=2, watch=watch)


def test_time_that_is_up_leaves_a_trial_to_go_on_with(recipe, noise_folder, tmp_path):
    result = tune(
        recipe,
        data=noise_folder,
        space=["lr=1e-3,1e-4"],
        trials=2,
        timeout="0.001s",
        name="short",
        output=tmp_path,
    )
    assert result.content["trials"] == []
    assert not result.best.exists()
    rest = resume_study("short", output=tmp_path)
    assert len(rest.content["trials"]) == 2
    with pytest.raises(UsageError, match="--timeout 'long': write hours"):
        resume_study("short", output=tmp_path, timeout="long")
    with pytest.raises(UsageError, match="--jobs is 0"):
        resume_study("short", output=tmp_path, jobs=0)


def test_a_trial_that_diverges_is_told_and_the_others_go_on(recipe, noise_folder, tmp_path):
    result = tune(
        recipe,
        data=noise_folder,
        space=["lr=1e-3,1e25"],
        sampler="grid",
        name="wild",
        output=tmp_path,
        pruner="none",
    )
    states = {trial["params"]["train.lr"]: trial for trial in result.content["trials"]}
    assert states[1e-3]["state"] == "complete"
    assert states[1e25]["state"] == "failed"
    assert "the loss is" in states[1e25]["reason"]
    assert "Stopped before step" in result.page.read_text(encoding="utf-8")


def test_a_study_whose_first_trials_all_fail_ends(recipe, noise_folder, tmp_path):
    with pytest.raises(
        UsageError,
        match=r"The first 2 trials all failed, the last one because: .*no part '(nothing|nowhere)'",
    ):
        tune(
            recipe, data=noise_folder, space=["freeze=[nothing],[nowhere]"], name="bad", output=tmp_path,
            trials=9, sampler="random",
        )  # fmt: skip


def test_data_that_changes_ends_a_study(recipe, noise_folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(noise_folder, data)
    tune(recipe, data=data, space=["lr=1e-3,1e-4"], trials=1, name="moved", output=tmp_path)
    plan_file = tmp_path / "tune/moved/study.json"
    content = json.loads(plan_file.read_text(encoding="utf-8"))
    plan_file.write_text(json.dumps(content | {"trials": 2}), encoding="utf-8")
    next((data / "train" / "run").iterdir()).unlink()
    with pytest.raises(DataError, match="has changed since trial 0"):
        resume_study("moved", output=tmp_path)


def test_two_workers_share_a_journal(recipe, tmp_path):
    """Each number once, never more trials than asked for."""
    plan = make_plan(recipe, ["lr=loguniform(1e-5,1e-2)"], trials=24, sampler="random")
    Study(tmp_path, plan)
    begun = []

    def work():
        study = Study(tmp_path, plan)
        while True:
            with study.claiming():
                if study.count_begun() >= plan.trials:
                    return
                number = study.begin()
            begun.append(number)
            proposal = study.read_proposal(number)
            study.finish(number, "complete", value=proposal["train.lr"], facts={})

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(begun) == list(range(24))
    assert len({trial.params["train.lr"] for trial in Study(tmp_path, plan).trials}) == 24


def test_a_killed_workers_trial_is_finished_by_another(recipe, noise_folder, tmp_path):
    """A worker that is killed outright leaves its trial to the next one, under its number."""
    long = load_recipe(recipe.model_dump(mode="json"), {"train.epochs": 500})
    folder = tmp_path / "tune" / "killed"
    folder.mkdir(parents=True)
    plan = make_plan(long, ["lr=1e-3,1e-4"], name="killed", data=str(noise_folder), trials=2)
    (folder / "study.json").write_text(json.dumps(plan.to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "praxiscope", "tune", "--resume", "killed", "-o", str(tmp_path)]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not [m for m in folder.glob("trials/*/*/metrics.jsonl") if m.stat().st_size > 300]:
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        worker.kill()
        worker.wait()
    shorter = plan.to_dict() | {"trials": 1}
    (folder / "study.json").write_text(json.dumps(shorter), encoding="utf-8")
    # The rest of 500 epochs would take minutes; --timeout ends it after the epoch that it goes on with.
    result = resume_study("killed", output=tmp_path, timeout="1s")
    (trial,) = result.content["trials"]
    assert (trial["number"], trial["state"]) == (0, "unfinished")
    assert trial["curve"]
    assert len(list(folder.glob("trials/*/*/run.json"))) == 1


def test_the_warning_names_the_optimism(recipe):
    plan = make_plan(recipe, ["lr=1e-3,1e-4"])
    told = describe_selection(plan, {"value": 0.8}, 20, 400)
    error = math.sqrt((322 / 404) * (82 / 404) / 404)  # two right and two wrong answers added
    assert told["standard_error"] == pytest.approx(error)
    assert told["optimism"] == pytest.approx(error * 1.86748, abs=1e-5)
    assert "about 3.7 points better than it is" in told["sentence"]
    perfect = describe_selection(plan, {"value": 1.0}, 20, 20)
    assert perfect["optimism"] > 0.05  # all right on 20 samples is luck as well
    loss = describe_selection(make_plan(recipe, ["lr=1e-3,1e-4"], metric="val/loss"), {"value": 0.8}, 20, 400)
    assert loss["optimism"] is None
    assert "flatters it" in loss["sentence"]
    assert "No trial has finished" in describe_selection(plan, None, 0, None)["sentence"]
    assert "nothing was chosen yet" in describe_selection(plan, {"value": 0.8}, 1, 400)["sentence"]


def test_the_optimism_is_what_a_simulation_shows(recipe):
    """Twenty networks of the same accuracy, each judged on samples of its own."""
    rights = np.random.default_rng(0).binomial(400, 0.8, size=(4000, 20)).max(axis=1) / 400
    told = describe_selection(make_plan(recipe, ["lr=1e-3,1e-4"]), {"value": rights.mean()}, 20, 400)
    assert told["optimism"] == pytest.approx(rights.mean() - 0.8, rel=0.1)


def test_pruned_trials_count_as_tried(recipe, tmp_path):
    plan = make_plan(recipe, ["lr=loguniform(1e-5,1e-2)"])
    study = Study(tmp_path, plan)
    for place, outcome in enumerate(("complete", "pruned", "complete", "failed")):
        number = study.begin()
        study.report(number, epoch=1, value=0.5 + place / 10)
        study.finish(number, outcome, value=0.5 + place / 10, facts={"curve": [0.5 + place / 10]})
    assert "The best of 3 trials" in build_result(plan, study, num_val=100)["selection"]["sentence"]


def test_a_list_that_is_used_up_is_tried_once(recipe, noise_folder, tmp_path):
    folder, plan = prepare_study(
        recipe, data=noise_folder, space=["lr=1e-3,1e-4"], trials=None, metric=None, sampler="tpe", pruner="none",
        seed=0, name="few", output=tmp_path, device=None, watch=Silent(),
    )  # fmt: skip
    assert (plan.sampler, plan.trials) == ("grid", 2)
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"jobs": 0}, "--jobs is 0"),
        ({"timeout": "long"}, "--timeout 'long'"),
        ({"metric": "val/verb_top1"}, "train.monitor is val/verb_top1; of the heads action there are"),
    ],
)
def test_what_is_refused_leaves_no_study(recipe, noise_folder, tmp_path, asked, message):
    with pytest.raises(UsageError, match=message):
        tune(recipe, data=noise_folder, space=["lr=1e-3,1e-4"], name="no", output=tmp_path, **asked)
    assert not (tmp_path / "tune").exists()
