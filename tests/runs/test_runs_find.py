import pytest

from praxiscope.errors import UsageError
from praxiscope.runs.find import find_run, list_runs, newest_run
from praxiscope.runs.rundir import RunDir


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def make(root, recipe, created, fingerprint=None):
    run_dir = RunDir.create(root, recipe)
    run_dir.update_run_json({"created": created, "data": {"manifest_fingerprint": fingerprint}})
    return run_dir


@pytest.fixture
def runs(root):
    # Made in another order than "created" says: neither file times nor names decide.
    return {
        "new": make(root, "har-resnet18", "2026-03-03T10:00:00+00:00", "aaa"),
        "old": make(root, "har-resnet18", "2026-03-01T10:00:00+00:00", "bbb"),
        "middle": make(root, "har-resnet18", "2026-03-03T10:30:00+02:00", "bbb"),
        "other": make(root, "stage-tiny", "2026-03-02T10:00:00+00:00"),
    }


def test_runs_are_listed_newest_first_by_their_created(root, runs):
    assert list_runs(root) == [runs[name] for name in ("new", "middle", "other", "old")]
    assert list_runs(root, "har-resnet18") == [runs[name] for name in ("new", "middle", "old")]
    assert list_runs(root / "absent") == []


def test_by_folder(root, runs, monkeypatch):
    assert find_run(str(runs["old"].path), root=root) == runs["old"]
    monkeypatch.chdir(root)
    assert find_run(f"stage-tiny/{runs['other'].run_id}", root=root) == runs["other"]


def test_by_recipe_and_latest(root, runs):
    assert find_run("har-resnet18@latest", root=root) == runs["new"]


def test_by_a_bare_recipe_with_one_run(root, runs):
    assert find_run("stage-tiny", root=root) == runs["other"]


def test_by_id_or_its_recipe_and_start(root, runs):
    assert find_run(runs["old"].run_id, root=root) == runs["old"]
    assert find_run(f"har-resnet18@{runs['old'].run_id[:-1]}", root=root) == runs["old"]


def test_a_recipe_with_several_runs_lists_them(root, runs):
    with pytest.raises(
        UsageError, match=r"(?s)means 3 runs; type 'har-resnet18@latest'.*har-resnet18@2"
    ) as caught:
        find_run("har-resnet18", root=root)
    assert all(runs[name].run_id in str(caught.value) for name in ("new", "middle", "old"))
    assert runs["other"].run_id not in str(caught.value)


def test_a_wrong_word_suggests_the_right_one(root, runs):
    for wrong, right in {"har-resnet": "har-resnet18", "stage-tny@latest": "stage-tiny@latest"}.items():
        with pytest.raises(UsageError, match=rf"No run '{wrong}' below .*Did you mean '{right}'\?") as caught:
            find_run(wrong, root=root)
        assert runs["other"].run_id in str(caught.value)


def test_a_wrong_id_of_a_right_recipe_lists_what_is_there(root, runs):
    with pytest.raises(UsageError, match="No run 'stage-tiny@1999'"):
        find_run("stage-tiny@1999", root=root)


def test_with_no_runs_it_says_what_makes_one(root):
    with pytest.raises(UsageError, match=r"there are no runs below .*'praxiscope train' makes one"):
        find_run("anything", root=root)


def test_a_damaged_run_is_passed_over_with_a_warning(root, runs, caplog):
    runs["new"].run_json.write_text("{", encoding="utf-8")
    assert find_run("har-resnet18@latest", root=root) == runs["middle"]
    assert f"Passed over the run {runs['new'].path}" in caplog.text


def test_the_newest_run_on_the_same_data(root, runs):
    assert newest_run(root, "har-resnet18") == runs["new"]
    assert newest_run(root, "har-resnet18", manifest_fingerprint="bbb") == runs["middle"]
    assert newest_run(root, "har-resnet18", manifest_fingerprint="ccc") is None
    assert newest_run(root, "absent") is None


def test_a_run_that_has_no_data_yet_is_no_match(root):
    RunDir.create(root, "fresh")
    assert newest_run(root, "fresh", manifest_fingerprint="aaa") is None
    assert newest_run(root, "fresh") is not None
