"""What is kept of features on the disk: found again, checked, never too much, and what is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from feature_runs import build_recipe, opened, train_run

from praxiscope.data import cache_folders
from praxiscope.errors import EnvironmentProblem, IntegrityError, Preempted, UsageError
from praxiscope.models.build import build_model
from praxiscope.models.split import split_frozen
from praxiscope.runs.rundir import RunDir
from praxiscope.training import feature_cache
from praxiscope.training.feature_cache import FeatureCache
from praxiscope.training.feature_store import FeatureWriter, locate_entry, open_entry
from praxiscope.training.features import require_cacheable
from praxiscope.training.signals import StopFlag

ONE = {"features.views": 1, "train.epochs": 1}
DRAWN = ONE | {"augment.crop_scale": [0.5, 1.0]}


@pytest.fixture
def trained(few, cache, tmp_path):
    """Train one epoch with overrides; return the report and the notes."""

    def train(overrides=None, **more):
        done = train_run(few, build_recipe(ONE | (overrides or {})), RunDir.create(tmp_path, "run"), **more)
        return done.reports[0], done.notes

    return train


# ---------------------------------------------------------------- found again, or not


def list_keys(folder: Path, overrides) -> tuple[list[str], list[str]]:
    """Return the names of the entries that a recipe needs, of training and of validation."""
    recipe = build_recipe(ONE | overrides)
    with opened(folder, recipe, RunDir.create(cache_folders.cache_folder().parent, "keys")) as (
        job,
        _setting,
    ):
        cache = job.prepare.__closure__  # the one place that knows the keys before anything is computed
        assert cache is not None
        found = next(c.cell_contents for c in cache if isinstance(c.cell_contents, FeatureCache))
        wanted = found._list_wanted(split_frozen(job.module))
    train = [each.path.name for each in wanted if each.label.startswith("view")]
    return train, [each.path.name for each in wanted if not each.label.startswith("view")]


@pytest.mark.parametrize(
    "overrides",
    [
        {"train.opt": "adamw", "train.lr": 0.5, "train.batch_size": 5, "train.smoothing": 0.1},
        {"model.head": "mlp"},
        {"model.drop_rate": 0.5},
        {"train.epochs": 7, "features.views": 7},  # views without augmentation are one view
        {"loader.workers": 1, "evaluate.resamples": 200},
    ],
)
def test_what_changes_no_feature_keeps_the_keys(few, cache, overrides):
    assert list_keys(few, overrides) == list_keys(few, {})


@pytest.mark.parametrize(
    ("overrides", "train", "val"),
    [
        ({"seed": 9}, True, True),  # the frozen weights are drawn from it
        ({"model.img_size": 64}, True, True),
        ({"model.head": "conv"}, True, True),  # maps instead of vectors
        ({"features.precision": "fp16"}, True, True),
        ({"data.pack": 64}, True, True),
        ({"evaluate.crop_pct": 0.5}, False, True),
        ({"evaluate.img_size": 64}, False, True),
        ({"augment.hflip": 1.0}, True, False),
        ({"augment.crop_scale": [0.5, 1.0]}, True, False),
        ({"augment.color_jitter": 0.1}, True, False),
        ({"augment.crop_padding": 2}, True, False),
    ],
)
def test_what_changes_features_changes_the_keys(few, cache, overrides, train, val):
    before, after = list_keys(few, {}), list_keys(few, overrides)
    assert (before[0] != after[0], before[1] != after[1]) == (train, val)


def test_each_view_and_the_mirror_images_have_keys_of_their_own(few, cache):
    train, val = list_keys(few, DRAWN | {"train.epochs": 3, "features.views": 3, "evaluate.flip": True})
    assert len({*train, *val}) == 5
    assert list_keys(few, DRAWN)[0] == train[:1]


def test_the_second_run_computes_nothing(trained):
    first, _ = trained()
    assert first.num_computed == 30
    assert "computed in" in first.sentences[0]
    second, _ = trained({"model.head": "mlp"})
    assert second.num_computed == 0
    assert re.fullmatch(
        r"Features of 25 training images x 1 view and 5 validation images, [\d.]+ MiB, from the cache",
        second.sentences[0],
    )


def test_another_picture_in_validation_computes_validation_anew(few, cache, tmp_path):
    copy = Path(shutil.copytree(few, tmp_path / "copy"))
    train_run(few, build_recipe(ONE), RunDir.create(tmp_path, "first"))
    (copy / "val" / "walk" / "000.jpg").write_bytes((copy / "test" / "walk" / "000.jpg").read_bytes())
    report = train_run(copy, build_recipe(ONE), RunDir.create(tmp_path, "other")).reports[0]
    assert report.num_computed == 5
    assert "5 of these images' computed in" in report.sentences[0]


# ---------------------------------------------------------------- damage


def flip_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)


def cut_short(path: Path, _place: int) -> None:
    path.write_bytes(path.read_bytes()[:-4])


DAMAGE = {
    "flipped": (lambda entry: flip_byte(entry / "values.bin", 1000), "1 of 2 pieces .* rows 0 to 23"),
    "flipped-late": (lambda entry: flip_byte(entry / "values.bin", -1), "rows 24 to 24"),
    "cut": (lambda entry: cut_short(entry / "values.bin", 0), "has [0-9]+ bytes, not [0-9]+"),
    "gone": (lambda entry: (entry / "values.bin").unlink(), "has 0 bytes"),
    "header": (
        lambda entry: (entry / "header.json").write_text(
            (entry / "header.json").read_text().replace("25", "24", 1)
        ),
        "header is damaged",
    ),
    "header-cut": (lambda entry: cut_short(entry / "header.json", 0), "no valid JSON"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_named_and_computed_again(trained, cache, kind):
    report, _ = trained()
    entry = cache / report.entries[0]
    good = (entry / "values.bin").read_bytes()
    harm, message = DAMAGE[kind]
    harm(entry)
    again, notes = trained()
    assert again.num_computed == 25
    assert re.search(f"damaged, so they are computed again: .*{report.entries[0]}.*{message}", notes[0])
    assert (entry / "values.bin").read_bytes() == good


def test_other_rows_than_asked_for_are_refused(tmp_path):
    write_entry(tmp_path, np.zeros((4, 3), np.float32))
    with pytest.raises(IntegrityError, match="has 4 rows, not 5"):
        open_entry(tmp_path, num_rows=5)


def write_entry(folder: Path, values) -> None:
    with FeatureWriter(folder, values.dtype.name) as writer:
        writer.append(values)
        writer.finish(identity={}, channels_last=False, computed_as="float32")


def test_what_was_written_is_what_is_read(tmp_path):
    values = np.arange(24, dtype=np.float16).reshape(4, 3, 2)
    write_entry(tmp_path, values)
    array = open_entry(tmp_path, num_rows=4)
    assert array is not None
    assert array.values.dtype == np.float16
    assert np.array_equal(array.values, values)
    assert open_entry(tmp_path / "none", num_rows=4) is None


# ---------------------------------------------------------------- stopped in between


def test_a_stop_while_computing_keeps_whole_views(trained, cache, tmp_path, few):
    stop = StopFlag()

    def phase(text, done, _total):
        if text == "computing features, view 2 of 3" and done >= 12:
            stop.request()

    overrides = DRAWN | {"train.epochs": 3, "features.views": 3, "evaluate.batch_size": 12}
    with pytest.raises(
        Preempted, match=r"while features were computed \(view 2 of 3; parts before it are kept\)"
    ):
        trained(overrides, phase=phase, stop=stop)
    assert len(cache_folders.list_entries("features")) == 1
    assert [path for path in cache.iterdir() if path.suffix == ".tmp"] == []
    assert trained(overrides)[0].num_computed == 25 + 25 + 5


def test_what_a_killed_process_left_is_swept_and_not_read(trained, cache, monkeypatch):
    class Killed(BaseException):
        pass

    def phase(_text, done, _total):
        if done >= 12:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(cache_folders.shutil, "rmtree", lambda *_a, **_k: None)  # nobody cleans up after a kill
        with pytest.raises(Killed):
            trained({"evaluate.batch_size": 12}, phase=phase)
    (left,) = (path for path in cache.iterdir() if path.suffix == ".tmp")
    assert (left / "values.bin").stat().st_size > 0
    assert cache_folders.list_entries("features") == ()
    assert trained()[0].num_computed == 30
    assert not left.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from feature_runs import build_recipe, train_run
from praxiscope.models.split import split_frozen
from praxiscope.runs.rundir import RunDir

def phase(text, done, total):
    if text == "computing features, view 2 of 2" and done >= 12:
        os.kill(os.getpid(), signal.SIGKILL)

recipe = build_recipe({"features.views": 2, "augment.hflip": 0.5, "evaluate.batch_size": 12})
train_run(Path(sys.argv[1]), recipe, RunDir.create(Path(sys.argv[2]), "killed"), phase=phase)
"""


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_kill_leaves_nothing_that_is_read(few, cache, tmp_path):
    here = Path(__file__).parent
    script = [sys.executable, "-c", KILLED, str(few), str(tmp_path), str(here), str(here.parent)]
    done = subprocess.run(script, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(cache_folders.list_entries("features")) == 1
    assert len([p for p in cache.iterdir() if p.name.endswith(".tmp")]) == 1
    recipe = build_recipe({"features.views": 2, "augment.hflip": 0.5, "evaluate.batch_size": 12})
    report = train_run(few, recipe, RunDir.create(tmp_path, "next")).reports[0]
    assert report.num_computed == 25 + 5
    assert [p.name for p in cache.iterdir() if p.name.endswith(".tmp")] == []


# ---------------------------------------------------------------- space


def test_the_longest_unused_entries_make_room(trained, cache):
    first, _ = trained({"seed": 1})
    room = 2.5 * first.size_bytes / 2**30
    time.sleep(0.02)
    second, _ = trained({"seed": 2, "features.max_gib": room})
    third, notes = trained({"seed": 4, "features.max_gib": room})
    left = {entry.path.name for entry in cache_folders.list_entries("features")}
    assert {*second.entries, *third.entries} - left <= {second.entries[0], second.entries[1]}
    assert set(third.entries) <= left
    assert not set(first.entries) <= left
    assert "Removed" in notes[0]
    assert "unused" in notes[0]
    assert sum(e.size_bytes for e in cache_folders.list_entries("features")) < room * 2**30 * 1.2


def test_entries_in_use_are_never_removed(trained, cache):
    first, _ = trained({"seed": 1})
    with cache_folders.hold(cache / first.entries[0]), cache_folders.hold(cache / first.entries[1]):
        with pytest.raises(EnvironmentProblem, match=r"need .* there are in use and features.max_gib allows"):
            trained({"seed": 2, "features.max_gib": 1.5 * first.size_bytes / 2**30})
        assert {e.path.name for e in cache_folders.list_entries("features")} == set(first.entries)


def test_a_full_disk_is_named_before_anything_is_computed(trained, cache, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(
        EnvironmentProblem, match=r"Features need [\d.]+ KiB in .*, where 10 B are free.*PRAXISCOPE_CACHE"
    ):
        trained()


def test_a_disk_that_fills_while_writing_is_named(trained, cache, monkeypatch):
    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FeatureWriter, "append", fail)
    with pytest.raises(EnvironmentProblem, match="Free some space, name another folder"):
        trained()
    assert cache_folders.list_entries("features") == ()


def test_features_too_large_for_half_precision_are_refused(trained, monkeypatch):
    run = feature_cache.FeatureCache._run
    monkeypatch.setattr(feature_cache.FeatureCache, "_run", lambda *a, **k: run(*a, **k) * 1e7)
    with pytest.raises(UsageError, match=r"numbers up to 65504.*features.precision=fp32"):
        trained({"features.precision": "fp16"})


# ---------------------------------------------------------------- refused before a run begins


def require(folder: Path, overrides) -> None:
    recipe = build_recipe({"features.views": 2} | overrides)
    built = build_model(recipe.model, num_classes=2, seed=0)
    require_cacheable(recipe, built, num_train=1000, num_val=100)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.freeze": []}, r"model.freeze is \[\]: only the features of a frozen backbone"),
        ({"model.freeze": ["layer1"]}, r"model.freeze is \['layer1'\].*Set model.freeze=\[backbone\]"),
        ({"augment.cutmix": 1.0}, r"augment.cutmix is 1: mixing blends images.*Set augment.cutmix=0"),
        ({"augment.mixup": 0.2}, r"augment.mixup is 0.2: mixing blends images.*Set augment.mixup=0"),
        ({"augment.repeats": 3}, r"augment.repeats is 3: .*Set augment.repeats=1"),
        (
            {"features.max_gib": 1e-4},
            r"1000 images x 1 view and of 100 validation images need [\d.]+ KiB in .*allows 0.0001 GiB.*precision=fp16",
        ),
    ],
)
def test_what_cannot_be_cached_is_refused_by_its_key(few, overrides, message):
    with pytest.raises(UsageError, match=message):
        require(few, overrides)


def test_mixing_that_never_happens_and_no_views_are_no_reason(few):
    require(few, {"augment.cutmix": 1.0, "augment.mix_prob": 0.0})
    require(few, {"features.views": 0, "model.freeze": [], "augment.mixup": 1.0})


def test_no_two_requests_share_a_folder():
    assert locate_entry({"view": 1}) != locate_entry({"view": 2})
    assert locate_entry({"a": 1, "b": 2}) == locate_entry({"b": 2, "a": 1})
